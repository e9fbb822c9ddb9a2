"""앞선 강의에서 손으로 만든 지표와 기준선입니다."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.data_utils import ImageDataset, TrainVal, iterate_batches
from utils.device import autocast


def confusion_matrix(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """정답이 i일 때 j라고 답한 횟수의 행렬 (K, K)입니다(1강 1.8절).

    Args:
        targets: 정답 번호 (N,).
        predictions: 예측한 번호 (N,).
    """
    cell = targets * num_classes + predictions
    return cell.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


@torch.inference_mode()
def evaluate(
    model: nn.Module, x: Tensor, y: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[float, float]:
    """평가 상태에서 잰 평균 교차 엔트로피와 정확도입니다(1강 1.7절).

    Args:
        model: 이미지의 점수를 내는 모델. x와 같은 장치에 있어야 합니다.
        dtype: 순전파의 자료형. bfloat16이면 `autocast`를 씁니다.
    """
    model.eval()
    loss = correct = 0.0
    for images, labels in iterate_batches(x, y, 1000):
        with autocast(x.device, dtype):
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
    return loss / len(x), correct / len(x)


def epoch_scores(model: nn.Module, data: TrainVal, dtype: torch.dtype) -> dict[str, float]:
    """한 에폭의 기록입니다. 학습 쪽은 앞의 일부(검증의 절반)를 똑같이 평가 상태로 잽니다."""
    count = len(data.x_val) // 2
    train = evaluate(model, data.x[:count], data.y[:count], dtype)
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    val = evaluate(model, data.x_val, data.y_val, dtype)
    return dict(zip(names, train + val, strict=True))


def val_accuracy(model: nn.Module, data: TrainVal, dtype: torch.dtype = torch.float32) -> float:
    """검증 데이터의 정확도입니다."""
    return evaluate(model, data.x_val, data.y_val, dtype)[1]


@torch.inference_mode()
def predict_logits(model: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """이미지 N장의 점수 (N, K)를 평가 상태에서 구해 CPU에 모읍니다(1강 1.8절)."""
    model.eval()
    device = next(model.parameters()).device
    with autocast(device, dtype):
        return torch.cat([model(part.to(device)).float().cpu() for part in x.split(1000)])


def majority_accuracy(y_train: Tensor, y_test: Tensor) -> float:
    """학습 데이터에서 가장 많은 클래스만 답할 때의 테스트 정확도입니다(1강 1.8절)."""
    return (y_test == y_train.bincount().argmax()).float().mean().item()


def softmax_regression_accuracy(x_train: Tensor, y_train: Tensor, x: Tensor, y: Tensor) -> float:
    """uint8 픽셀에 바로 맞춘 소프트맥스 회귀의 정확도입니다(1강 1.8절).

    scikit-learn의 해법을 씁니다. 픽셀이 수천 개이면 너무 오래 걸립니다.
    """

    def pixels(images: Tensor) -> Tensor:
        return images.flatten(1) / 255

    from sklearn.linear_model import LogisticRegression  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    model = LogisticRegression(max_iter=1000, tol=1e-3)
    model.fit(pixels(x_train).numpy(), y_train.numpy())
    return model.score(pixels(x).numpy(), y.numpy())


def bag_of_words(tokenize: Callable[[str], list[str]] | None) -> Any:
    """센 수만으로 글을 분류하는 기준선입니다. scikit-learn의 `fit`, `predict`, `score`가 있습니다.

    Args:
        tokenize: 낱말로 자르는 함수. 낱말과 이어진 두 낱말의 TF-IDF에 로지스틱 회귀를 씁니다.
            None이면 글자 1~3개의 수에 나이브 베이즈를 씁니다(띄어쓰기가 고르지 않은 한국어).
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    if tokenize is None:
        return make_pipeline(CountVectorizer(analyzer="char", ngram_range=(1, 3)), MultinomialNB())
    options = {"tokenizer": tokenize, "lowercase": False, "token_pattern": None, "min_df": 2}
    count = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)
    return make_pipeline(count, LogisticRegression(C=10, max_iter=200))


def log_probability(bag: Any, texts: Sequence[str]) -> Tensor:
    """`bag_of_words`가 낸 클래스의 로그 확률 (N, K)입니다."""
    return torch.from_numpy(bag.predict_log_proba(texts)).clamp(min=-50)


def separation(vectors: Tensor, groups: Sequence[str]) -> float:
    """벡터 (N, D)가 무리끼리 모인 정도(코사인 거리의 실루엣 계수)입니다."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(vectors.cpu().numpy(), groups, metric="cosine"))


@torch.inference_mode()
def nearest_neighbor_accuracy(
    x_train: Tensor, y_train: Tensor, x: Tensor, y: Tensor, neighbors: int = 5
) -> float:
    """픽셀의 거리가 가까운 학습 이미지 `neighbors`장의 다수결로 답할 때의 정확도입니다."""
    known = x_train.flatten(1).float() / 255  # (N, D)
    half = known.square().sum(dim=1) / 2
    correct = 0
    for images, labels in iterate_batches(x, y, 500):
        # 왜: 거리의 제곱 |a|^2 - 2ab + |b|^2에서 순서를 정하는 것은 뒤의 두 항뿐임
        near = (images.flatten(1).float() / 255 @ known.T - half).topk(neighbors, dim=1).indices
        correct += (y_train[near].mode(dim=1).values == labels).sum().item()
    return correct / len(x)


def pixel_floors(data: ImageDataset, x_test: Tensor, y_test: Tensor) -> dict[str, float]:
    """이미지 분류의 기준선 둘(1강 1.8절)의 테스트 정확도입니다."""
    linear = softmax_regression_accuracy(data.x_train, data.y_train, x_test, y_test)
    majority = majority_accuracy(data.y_train, y_test)
    return {"가장 많은 클래스만 답하기": majority, "소프트맥스 회귀": linear}


def class_table(names: Sequence[str], columns: Sequence[str], scores: Sequence[Tensor]) -> str:
    """클래스마다의 지표 (K,)들을 백분율 표로 적습니다. `columns`는 지표의 이름입니다."""

    def pad(text: str, width: int) -> str:  # 한글은 화면에서 두 칸
        return " " * (width - sum(2 if ord(c) > 0x1100 else 1 for c in text)) + text

    rows = [pad("", 14) + "".join(pad(column, 8) for column in columns)]
    for name, *values in zip(names, *(score.tolist() for score in scores), strict=True):
        rows.append(pad(name, 14) + "".join(f"{100 * value:8.1f}" for value in values))
    return "\n".join(rows)


def ridge_forecast(x: Tensor, y: Tensor, x_new: Tensor) -> Tensor:
    """능형 회귀의 예측 (M, H)입니다. 창 (N, T, D)의 값을 모두 늘어놓은 선형 모델입니다.

    Args:
        y: 학습 창마다의 목표 (N, H). 벌의 크기는 학습 창을 하나씩 빼며 맞혀 보아 고릅니다.
    """
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=[10.0**k for k in range(-2, 7)]).fit(
        x.flatten(1).cpu().numpy(), y.numpy()
    )
    return torch.tensor(model.predict(x_new.flatten(1).cpu().numpy())).double()


def garch_forecast(r: Tensor, num_train: int, horizon: int) -> Tensor:
    """GARCH(1,1)이 날마다 예측한 다음 `horizon`일의 분산의 합 (N,)입니다.

    Args:
        r: 로그 수익률 (N,). 매개변수 넷은 앞의 `num_train`일로 맞춥니다(Bollerslev 1986).
    """
    from arch import arch_model

    model = arch_model(100 * r.numpy(), mean="Constant", vol="GARCH", p=1, q=1)
    fitted = model.fit(last_obs=num_train, disp="off")
    variance = fitted.forecast(horizon=horizon, start=0).variance.to_numpy()  # (N, H)
    return torch.tensor(variance.sum(axis=1)) / 100**2


def neighbor_correlation(x: Tensor, y: Tensor, train: Tensor, val: Tensor) -> float:
    """가까운 학습 창 열 개의 목표를 평균한 예측과 실제의 상관계수입니다.

    Args:
        x: 창마다의 값 (N, D).
        y: 창마다의 목표 (N,).
        train: 학습 창의 번호. `val`은 검증 창의 번호입니다.
    """
    near = torch.cdist(x[val], x[train]).topk(10, largest=False).indices  # (검증, 10)
    return torch.corrcoef(torch.stack([y[train][near].mean(dim=1), y[val]]))[0, 1].item()
