"""앞선 강의에서 손으로 만든 지표와 기준선입니다."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.data_utils import iterate_batches
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
    """uint8 픽셀에 바로 맞춘 소프트맥스 회귀(scikit-learn)의 정확도입니다(1강 1.8절)."""
    from sklearn.linear_model import LogisticRegression  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    def pixels(images: Tensor) -> np.ndarray:
        return images.flatten(1).numpy() / np.float32(255)

    model = LogisticRegression(max_iter=1000, tol=1e-3)
    model.fit(pixels(x_train), y_train.numpy())
    return model.score(pixels(x), y.numpy())
