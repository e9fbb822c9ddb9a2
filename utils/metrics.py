"""앞선 강의에서 손으로 만든 지표와, 강의가 비교할 기준선과 표준 채점입니다."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from utils.data_utils import ImageDataset, TrainVal, iterate_batches, read_image
from utils.datasets.detection import Detections, Photo, upright_size
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
    for images, labels in iterate_batches(x, y, 500):
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
        return torch.cat([model(part.to(device)).float().cpu() for part in x.split(500)])


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


# ---------------------------------------------------------------------------------------------
# 물체 검출 (6강)
# ---------------------------------------------------------------------------------------------
def crowd_iou(a: np.ndarray, b: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """상자의 IoU (N, M)입니다. 무리로 묶은 정답(M,)과는 교집합 / 예측의 넓이입니다(COCO의 규칙)."""
    a, b = a.astype(float), b.astype(float)
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    inside = (high - low).clip(0).prod(axis=2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b))
    union = np.where(crowd, area_a[:, None], area_a[:, None] + area_b - inside)
    return inside / np.maximum(union, 1e-12)


def white_box(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """크기가 무작위인 회색(114) 사진 (H, W, 3)에 흰 직사각형을 그리고, 그 상자 (1, 4)도 냅니다."""
    W, H = rng.integers(60, 600, 2)
    x1, y1, x2, y2 = (np.array([0.4, 0.45, 0.6, 0.6]) * [W, H, W, H]).round().astype(int)
    image = np.full((H, W, 3), 114, np.uint8)
    image[y1:y2, x1:x2] = 255
    return image, np.array([[x1, y1, x2, y2]], np.float32)


def measure_box(image: np.ndarray) -> np.ndarray:
    """회색(114) 바탕에 있는 흰 직사각형의 상자 (4,)를 밝기의 합으로 잽니다.

    픽셀의 일부만 덮은 가장자리까지 재므로 1픽셀보다 작은 어긋남이 드러납니다.
    """
    lines = [(image[..., 0] - 114.0).clip(0).sum(axis=axis) for axis in (0, 1)]
    center = [np.average(np.arange(len(line)) + 0.5, weights=line) for line in lines]
    half = [line.sum() / line.max() / 2 for line in lines]
    return np.concatenate([np.subtract(center, half), np.add(center, half)])


def random_detections(rng: np.random.Generator) -> tuple[list, list, int]:
    """채점을 시험할 무작위 (예측, 정답, 클래스의 수)입니다.

    빈 사진, 예측이 없는 사진, 무리, 한 물체에 여러 예측이 섞여 있습니다.
    """
    K, found, truths = int(rng.integers(1, 4)), [], []

    def boxes(count: int) -> np.ndarray:
        corner, sides = rng.uniform(0, 200, (count, 2)), np.exp(rng.uniform(2, 5.5, (count, 2)))
        return np.concatenate([corner, corner + sides], axis=1)

    for _ in range(rng.integers(1, 6)):
        n, extra = rng.integers(0, 7), rng.integers(0, 5)
        answers, labels = boxes(n), rng.integers(K, size=n)
        truths.append(Photo(Path(), answers, labels, rng.random(n) < 0.15))
        copies = np.repeat(np.arange(n), rng.integers(0, 3, n))
        spread = 0.1 * np.tile(answers[:, 2:] - answers[:, :2], 2)[copies]
        near = answers[copies] + rng.normal(0, 1, (len(copies), 4)) * spread
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        kinds = np.concatenate([labels[copies], rng.integers(K, size=extra)])
        guesses = np.concatenate([near, boxes(extra)])
        found.append(Detections(guesses, kinds, rng.random(len(guesses))))
    return found, truths, K


def blame(found: Any, truth: Any, least: float = 0.3) -> tuple[Counter, list[tuple[int, int]]]:
    """사진 한 장의 오류를 종류마다 셉니다(Bolya 외 2020의 TIDE를 줄인 것).

    점수가 `least`보다 큰 예측만 봅니다. 맞음(IoU 0.5 이상인 새 물체), 중복(이미 찾은 물체),
    클래스(IoU 0.5 이상인데 이름이 틀림), 위치(같은 클래스이고 IoU 0.1~0.5), 배경(그 밖의 것),
    놓침(맞음, 클래스, 위치의 어느 것도 가리키지 않은 물체)입니다.

    Returns:
        종류마다의 수와, 혼동 행렬에 넣을 (정답, 예측) 짝. 배경은 -1입니다.
    """
    counts, pairs, taken, touched = Counter(), [], set(), set(np.flatnonzero(truth.crowd))
    iou, sure = crowd_iou(found.boxes, truth.boxes, truth.crowd), found.scores > least
    for overlaps, guess in zip(iou[sure], found.labels[sure], strict=True):
        same = np.where(truth.labels == guess, overlaps, 0.0)
        hits = [g for g in np.flatnonzero(same >= 0.5) if not truth.crowd[g]]
        free = [g for g in hits if g not in taken]
        if not hits and (same[truth.crowd] >= 0.5).any():
            continue  # 무리 안의 예측은 세지 않음
        kind, target = "배경", None
        if free:
            kind, target = "맞음", max(free, key=lambda g, same=same: same[g])
            taken.add(target)
        elif hits:
            kind = "중복"
        elif overlaps.max(initial=0) >= 0.5:
            kind, target = "클래스", int(overlaps.argmax())
        elif same.max(initial=0) >= 0.1:
            kind = "위치"
            touched.add(int(same.argmax()))
        if target is not None:
            touched.add(target)
        counts[kind] += 1
        pairs.append((-1 if target is None else int(truth.labels[target]), int(guess)))
    missed = sorted(set(range(len(truth.boxes))) - touched)
    counts["놓침"] += len(missed)
    return counts, pairs + [(int(truth.labels[g]), -1) for g in missed]


def count_errors(found: Sequence, truths: Sequence, num_classes: int) -> tuple[Counter, np.ndarray]:
    """모든 사진의 오류를 종류마다 셉니다.

    Returns:
        종류마다의 수와 혼동 행렬 (K + 1, K + 1). 마지막이 배경입니다.
    """
    rows = [blame(*pair) for pair in zip(found, truths, strict=True)]
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for _, pairs in rows:
        np.add.at(matrix, tuple(np.array(pairs, int).reshape(-1, 2).T), 1)
    return sum((counts for counts, _ in rows), Counter()), matrix


def threshold_curves(found: Sequence, truths: Sequence) -> dict[str, tuple[np.ndarray, list]]:
    """점수의 문턱에 따른 정밀도와 재현율입니다(IoU 0.5)."""
    thresholds, total = np.linspace(0.05, 0.8, 16), sum((~truth.crowd).sum() for truth in truths)
    precision, recall = [], []
    for least in thresholds:
        pairs = zip(found, truths, strict=True)
        counts = sum((blame(*pair, least)[0] for pair in pairs), Counter())
        precision.append(counts["맞음"] / max(1, counts.total() - counts["놓침"]))
        recall.append(counts["맞음"] / total)
    return {"정밀도": (thresholds, precision), "재현율": (thresholds, recall)}


def compare_with_pycocotools(
    evaluate: Callable, count: int, seed: int
) -> tuple[float, dict[str, float]]:
    """무작위 예측 `count`벌을 `evaluate`(6강의 `evaluate_detections`)와 pycocotools로 채점합니다.

    Returns:
        정밀도의 가장 큰 차이(모양이 다르면 무한대)와, 한 벌을 채점한 평균 시간(밀리초).
    """
    rng, worst, seconds = np.random.default_rng(seed), 0.0, np.zeros(2)
    coco_precision(*random_detections(np.random.default_rng(0)))  # 예열
    for _ in range(count):
        case = random_detections(rng)
        start = time.perf_counter()
        ours = evaluate(*case).precision
        middle = time.perf_counter()
        theirs, took = coco_precision(*case)
        seconds += middle - start, took
        same = ours.shape == theirs.shape and np.isfinite(ours).all()
        worst = max(worst, float(np.abs(ours - theirs).max()) if same else np.inf)
    return worst, dict(zip(("직접", "pycocotools"), (1000 * seconds / count).tolist(), strict=True))


def coco_precision(
    predictions: Sequence, truths: Sequence, num_classes: int
) -> tuple[np.ndarray, float]:
    """pycocotools로 채점한 정밀도 (문턱 10개, 재현율 101개, 클래스, 크기 4가지)와 걸린 시간(초)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, rows = [], []

    def xywh(box: Sequence[float]) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    for number, (found, truth) in enumerate(zip(predictions, truths, strict=True), 1):
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True):
            one = {"id": len(annotations) + 1, "image_id": number, "iscrowd": int(crowd)}
            one |= {"category_id": int(label) + 1, "bbox": xywh(box.astype(float).tolist())}
            annotations.append(one | {"area": one["bbox"][2] * one["bbox"][3]})
        for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
            rows.append([number, *xywh(box.astype(float)), score, label + 1])
    with contextlib.redirect_stdout(io.StringIO()):  # 왜: pycocotools는 진행을 화면에 출력함
        truth = COCO()
        images, kinds = ([{"id": k + 1} for k in range(n)] for n in (len(truths), num_classes))
        truth.dataset = {"info": {}, "images": images, "categories": kinds}
        truth.dataset["annotations"] = annotations
        truth.createIndex()
        found = truth.loadRes(np.array(rows).reshape(-1, 7)) if rows else _nothing_found(truth)
        scorer = COCOeval(truth, found, "bbox")
        start = time.perf_counter()  # 형식을 바꾸는 시간은 뺌
        scorer.evaluate()
        scorer.accumulate()
    # 마지막 축은 예측을 100개까지 본 것
    return scorer.eval["precision"][..., 2], time.perf_counter() - start


def _nothing_found(truth: Any) -> Any:
    """예측이 하나도 없는 결과입니다. 왜: pycocotools의 loadRes는 빈 배열을 받지 못함"""
    found = copy.copy(truth)
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


class AverageBox:
    """가장 흔한 클래스의 평균 상자(사진에 대한 비율) 하나만 답하는 기준선입니다."""

    def __init__(self, photos: Sequence) -> None:
        labels = np.concatenate([photo.labels for photo in photos])
        self.label = int(np.bincount(labels).argmax())
        ratios = [p.boxes[p.labels == self.label] / _width_height(p) for p in photos]
        self.ratio = np.concatenate(ratios).mean(axis=0)

    def __call__(self, photo: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """사진 하나의 (상자, 클래스, 점수)입니다."""
        return (self.ratio * _width_height(photo))[None], np.array([self.label]), np.ones(1)


def _width_height(photo: Any) -> np.ndarray:
    with Image.open(photo.path) as image:
        return np.array(upright_size(image) * 2)


class ContourDetector:
    """색의 분포를 배워 윤곽선으로 덩어리를 찾는, 신경망이 없는 기준선입니다.

    색(HSV를 나눈 칸)마다 그 클래스의 상자 안에 있을 비율을 학습 사진에서 셉니다(Swain과 Ballard
    1991의 역투영). 비율이 문턱보다 큰 픽셀의 덩어리가 상자이고, 그 안의 평균 비율이 점수입니다.
    """

    BINS = (24, 6, 6)

    def __init__(self, photos: Sequence, num_classes: int, limit: int = 400) -> None:
        counts, self.threshold = np.ones((num_classes + 1, np.prod(self.BINS))), 0.5
        for photo in photos[:limit]:
            cells = self._cells(photo)
            counts[-1] += np.bincount(cells.ravel(), minlength=counts.shape[1])
            for box, label in zip(photo.boxes.round().astype(int), photo.labels, strict=True):
                part = cells[box[1] : box[3], box[0] : box[2]]
                counts[label] += np.bincount(part.ravel(), minlength=counts.shape[1])
        self.share = (counts[:-1] / (counts[-1] + num_classes)).astype(np.float32)  # (K, 칸)

    def _cells(self, photo: Any) -> np.ndarray:
        hsv = cv2.cvtColor(read_image(photo.path, color=True), cv2.COLOR_RGB2HSV).astype(int)
        h, s, v = (
            hsv[..., k] * n // top
            for k, n, top in zip(range(3), self.BINS, (180, 256, 256), strict=True)
        )
        return (h * self.BINS[1] + s) * self.BINS[2] + v

    def tune(self, photos: Sequence, score: Callable[[list], float]) -> None:
        """검증 사진에서 점수가 가장 높은 문턱을 고릅니다."""
        scores = {}
        for self.threshold in (0.1, 0.2, 0.3, 0.45, 0.6):
            scores[self.threshold] = score([self(photo) for photo in photos])
        self.threshold = max(scores, key=scores.get)

    def __call__(self, photo: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """사진 하나의 (상자, 클래스, 점수)입니다."""
        cells, rows = self._cells(photo), []
        for label, share in enumerate(self.share):
            if share.max() < self.threshold:
                continue
            heat = cv2.GaussianBlur(share[cells], (5, 5), 0)
            mask = (heat > self.threshold).astype(np.uint8)
            for contour in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
                x, y, w, h = cv2.boundingRect(contour)
                if w * h >= 64:
                    score = heat[y : y + h, x : x + w].mean()
                    rows.append((x, y, x + w, y + h, label, score))
        table = np.array(sorted(rows, key=lambda row: -row[-1])[:100]).reshape(-1, 6)
        return table[:, :4], table[:, 4].astype(int), table[:, 5]


# ---------------------------------------------------------------------------------------------
# 이미지 생성 (7강)
# ---------------------------------------------------------------------------------------------
class PixelGaussian:
    """픽셀의 주성분마다 정규분포에서 뽑아 사진을 만드는, 신경망이 없는 기준선입니다.

    Args:
        photos: 학습 사진 (N, H, W, 3). 앞의 4,000장에서 평균과 주성분을 구합니다.
        share: 주성분이 설명할 분산의 비율. 주성분의 수를 정합니다(많아야 128개).
    """

    def __init__(self, photos: Tensor, share: float = 0.9) -> None:
        self.shape, x = photos.shape[1:], photos[:4000].flatten(1).float()
        self.mean = x.mean(dim=0)
        with torch.random.fork_rng(devices=[]):  # 왜: svd_lowrank는 난수를 씀
            torch.manual_seed(0)
            _, values, components = torch.svd_lowrank(x - self.mean, min(128, len(x) - 1), niter=3)
        explained = values.square().cumsum(dim=0) / (x - self.mean).square().sum()
        count = int((explained < share).sum()) + 1
        self.components, self.std = components[:, :count], values[:count] / (len(x) - 1) ** 0.5

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """uint8 사진 (count, H, W, 3)을 뽑습니다."""
        z = torch.randn(count, len(self.std), generator=generator) * self.std
        x = self.mean + z @ self.components.T
        return x.round().clamp(0, 255).byte().view(count, *self.shape)


def neighbor_precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """scikit-learn으로 구한 정밀도와 재현율입니다. 특징 (N, D), (M, D)"""
    from sklearn.neighbors import NearestNeighbors

    def inside(points: np.ndarray, others: np.ndarray) -> float:
        radius = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()[0][:, -1]  # 자신은 뺌
        near = NearestNeighbors().fit(points).radius_neighbors(others, radius.max())
        pairs = zip(*near, strict=True)
        return float(np.mean([(apart <= radius[which]).any() for apart, which in pairs]))

    return inside(real.numpy(), fake.numpy()), inside(fake.numpy(), real.numpy())


def nearest_photos(photos: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """사진 (N, H, W, 3)마다 가장 가까운 `known`까지의 거리 (N,)와 그 번호 (N,)입니다.

    16x16으로 줄여 잰 픽셀(0~1)의 제곱 평균 제곱근입니다. 좌우로 뒤집은 `known`과도 비교합니다.
    왜: 뒤집어 배운 모델은 뒤집힌 사진을 외울 수 있습니다.
    """
    ours, theirs = (
        F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2).float() / 255, 16) for x in (photos, known)
    )
    both = torch.cat([theirs, theirs.flip(3)]).flatten(1)
    nearest = torch.cdist(ours.flatten(1), both).min(dim=1)
    return nearest.values / both.shape[1] ** 0.5, nearest.indices % len(known)


def scipy_frechet(a: Tensor, b: Tensor) -> float:
    """scipy로 구한 프레셰 거리입니다. 특징 (N, D), (M, D)"""
    from scipy import linalg

    A, B = np.cov(a.T), np.cov(b.T)
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum().item()
    return apart + np.trace(A + B) - 2 * np.trace(linalg.sqrtm(A @ B).real)


def kinds_covered(fake: Tensor, real: Tensor) -> float:
    """속성(bool (N, K), (M, K))마다의 있음과 없음 가운데, 가짜에도 모자라지 않는 것의 비율입니다.

    진짜의 몫의 5분의 1이 되지 않으면 모자란 것입니다.
    """
    ours, theirs = (torch.cat([has, ~has], dim=1).double().mean(dim=0) for has in (fake, real))
    return (ours >= 0.2 * theirs).double().mean().item()  # 왜 >=: 진짜에도 없으면 빠진 것이 아님


def nearest_pair(labels: Tensor, k: int) -> Tensor:
    """속성 k가 없는 첫 줄과, k가 있으면서 나머지가 가장 비슷한 줄 (2, K)입니다. 속성 (N, K)"""
    without, having = labels[labels[:, k] == 0][0], labels[labels[:, k] == 1]
    return torch.stack([without, having[(having != without).sum(dim=1).argmin()]])


# ---------------------------------------------------------------------------------------------
# 번역 (8강)
# ---------------------------------------------------------------------------------------------
def standard_bleu(korean: bool, **options: Any) -> Any:
    """sacrebleu의 BLEU입니다. 소문자로 바꾸어 재고, 한국어는 글자로 자릅니다.

    Args:
        options: sacrebleu의 옵션. 위의 것도 바꿀 수 있습니다.
    """
    from sacrebleu.metrics import BLEU

    defaults = {"tokenize": "char" if korean else "13a", "lowercase": True, "force": True}
    return BLEU(**(defaults | options))


def random_corpora(seed: int) -> list[tuple[list[list[str]], list[list[str]]]]:
    """무작위 토큰의 (출력들, 정답들) 40개입니다. 한두 토큰이나 빈 출력도 있습니다."""
    rng = np.random.default_rng(seed)

    def rows(count: int, low: int) -> list[list[str]]:
        lengths = rng.integers(low, 9, size=count)
        return [[str(n) for n in rng.integers(4, size=length)] for length in lengths]

    return [(rows(1 + k % 5, 0), rows(1 + k % 5, 1)) for k in range(40)]


def token_bleu(
    outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]], smooth: bool
) -> float:
    """이미 자른 토큰으로 잰 sacrebleu의 BLEU입니다."""
    bleu = standard_bleu(False, tokenize="none", smooth_method="exp" if smooth else "none")
    lines = [[" ".join(row) for row in part] for part in (outputs, references)]
    return bleu.corpus_score(lines[0], [lines[1]]).score


def standard_chrf() -> Any:
    """sacrebleu의 chrF입니다. 소문자로 바꾸어 잽니다."""
    from sacrebleu.metrics import CHRF

    return CHRF(lowercase=True)


def bleu_tokens(bleu: Any, texts: Iterable[str]) -> list[list[str]]:
    """`standard_bleu`가 자르는 대로 자릅니다."""
    return [bleu.tokenizer(text.lower().rstrip()).split() for text in texts]


def nearest_translations(x: Sequence[str], y: Sequence[str], texts: Sequence[str]) -> list[str]:
    """`texts`마다, 가장 비슷한(TF-IDF의 코사인) 학습 원문 x의 번역문 y입니다."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    count = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True)
    known = count.fit_transform(x)
    return [y[k] for k in np.asarray((count.transform(texts) @ known.T).argmax(axis=1)).ravel()]


def split_words(text: str) -> list[str]:
    """소문자로 바꾸어 낱말과 문장 부호로 자릅니다."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def number_words(texts: Iterable[str], most: int = 100) -> tuple[list[list[int]], list[str]]:
    """글마다 앞의 `most`낱말의 번호(1부터)와, 번호의 낱말입니다. 0번 낱말은 비워 둡니다."""
    rows, index = [split_words(text)[:most] for text in texts], {"": 0}
    numbers = [[index.setdefault(word, len(index)) for word in row] for row in rows]
    return numbers, list(index)


def unknown_words(known: Iterable[str], texts: Iterable[str]) -> float:
    """낱말과 문장 부호 가운데 `known`에 나오지 않은 것의 비율입니다."""
    seen = {word for text in known for word in split_words(text)}
    return float(np.mean([word not in seen for text in texts for word in split_words(text)]))


def bootstrap(
    score: Callable[[np.ndarray], float], rows: np.ndarray, draws: int = 1000
) -> tuple[float, float]:
    """문장마다의 통계 (N, K)를 되풀이해 뽑아 더한 것의 점수의 2.5~97.5 % 구간입니다."""
    rng = np.random.default_rng(0)
    scores = [
        score(rows[rng.integers(len(rows), size=len(rows))].sum(axis=0)) for _ in range(draws)
    ]
    low, high = np.percentile(scores, (2.5, 97.5)).tolist()
    return low, high


def by_length(
    score: Callable[[np.ndarray], float], counts: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """이름마다의 통계 (N, K)를 정답의 길이(둘째 칸)로 셋으로 나누어 잰 점수입니다."""
    length = next(iter(counts.values()))[:, 1]
    parts = np.array_split(length.argsort(kind="stable"), 3)
    names = {f"{length[part].min()}~{length[part].max()}토큰": part for part in parts}
    return {
        name: {which: score(rows[part].sum(axis=0)) for which, part in names.items()}
        for name, rows in counts.items()
    }
