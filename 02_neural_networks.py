# %% [markdown]
"""
# 2강. 신경망의 부품과 학습 기법

| 항목 | 내용 |
|---|---|
| 배우는 것 | 활성화 함수, 초기화, 정규화, 드롭아웃, 옵티마이저를 만들고 효과를 하나씩 잽니다 |
| 먼저 볼 것 | 1강 1.3절(교차 엔트로피), 1.5절(옵티마이저), 1.7절(학습 반복문) |
| 데이터 | Fashion-MNIST (약 30 MB, 처음 한 번 내려받음). 네트워크가 없으면 그린 의류 그림 |
| 실행 | `python 02_neural_networks.py` |
| 빠른 확인 | `python 02_neural_networks.py --quick` |
| 기대 결과 | 테스트 정확도 90.47 ± 0.29 %, 소프트맥스 회귀 84.45 % (Fashion-MNIST, 3회, 254초) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-21 |
"""

# %%
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from utils import lesson
from utils.data_utils import ImageDataset, iterate_batches
from utils.datasets import fashion_mnist
from utils.device import autocast
from utils.lesson import Lesson, Run, percents, setting
from utils.metrics import (
    confusion_matrix,
    evaluate,
    majority_accuracy,
    predict_logits,
    softmax_regression_accuracy,
)
from utils.model_utils import count_parameters, save_weights
from utils.visualization import (
    confusion_matrix_figure,
    image_grid,
    learning_curves,
    line_figure,
    log_axis,
    new_figure,
)


@dataclass(frozen=True)
class Config:
    epochs: int = setting(20, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(256, "한 번에 보는 이미지 수", low=2)
    lr: float = setting(0.003, "2.8절에서 뽑을 학습률의 가운데 값", above=0)
    small: int = setting(6000, "작은 실험에 쓰는 학습 이미지 수", low=2000)
    steps: int = setting(300, "작은 실험의 걸음 수", low=20)
    trials: int = setting(16, "2.8절에서 시험할 설정의 수", low=4)
    ensemble: int = setting(3, "2.9절에서 평균할 모델의 수", low=2)


QUICK = replace(Config(), epochs=3, batch_size=128, small=2000, steps=30, trials=4, ensemble=2)
chapter = Lesson(__file__, __doc__, Config(), QUICK)


# %% [markdown]
# ## 실험을 위한 준비
#
# 이 강의는 부품마다 작은 실험을 합니다. 실험은 모두 같은 데이터(학습 이미지의 일부와 검증 이미지)와
# 아래의 짧은 반복문 `fit`을 씁니다. 그래서 실험끼리는 견줄 수 있지만, 실험의 정확도는 마지막 성적이
# 아닙니다. 마지막 모델은 2.8절에서 학습 데이터 전체로 처음부터 다시 학습시킵니다.


# %%
class MLP(nn.Module):
    """완전연결 신경망(다층 퍼셉트론)입니다. uint8 이미지 (B, 28, 28) -> 점수 (B, 10)

    Args:
        hidden: 은닉 계층마다의 유닛 수.
        activation: 활성화 함수 계층을 만드는 함수.
        norm: 배치 정규화를 넣을지(2.5절).
        dropout: 드롭아웃으로 끄는 비율(2.6절). 0이면 넣지 않습니다.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, m in pairwise([28 * 28, *hidden]):  # (784, 첫 계층), (첫 계층, 둘째 계층), ...
            norms = [nn.BatchNorm1d(m)] if norm else []
            drops = [nn.Dropout(dropout)] if dropout else []
            layers += [nn.Linear(n, m), *norms, activation(), *drops]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 10))
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(255.0))

    def set_brightness(self, images: Tensor) -> MLP:
        """입력의 밝기를 맞출 평균과 표준편차를 학습 이미지에서 구합니다."""
        self.mean.fill_(images.float().mean())
        self.std.fill_(images.float().std())
        return self

    def forward(self, images: Tensor) -> Tensor:
        x = (images.flatten(1).float() - self.mean) / self.std  # (B, 784)
        return self.layers(x).float()  # (B, 10)


class SmallData(NamedTuple):
    """작은 실험에 쓰는 학습 데이터와 검증 데이터입니다. 이미 장치에 올라가 있습니다."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor


def small_data(run: Run) -> SmallData:
    data, size = run.data(fashion_mnist.load), run.config.small
    parts = data.x_train[:size], data.y_train[:size], data.x_val[:2000], data.y_val[:2000]
    return SmallData(*(part.to(run.device) for part in parts))


def make_mlp(run: Run, data: SmallData, hidden: Sequence[int] = (128, 64), **options) -> MLP:
    """절의 다른 모델과 같은 난수에서 시작하는 MLP를 만듭니다. 그래야 공정한 비교입니다."""
    torch.manual_seed(run.seed)
    return MLP(hidden, **options).set_brightness(data.x).to(run.device)


def fit(
    run: Run,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    steps: int | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loss_function: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    scheduler: lr_scheduler.LRScheduler | None = None,
) -> list[float]:
    """작은 실험용 학습입니다. 무작위 묶음으로 갱신하고 걸음마다의 손실을 돌려줍니다."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.001)
    losses = []
    model.train()
    for _ in range(steps or run.config.steps):
        index = torch.randint(len(x), (128,), device=x.device)
        logits = model(x[index])  # 1) 순전파
        loss = loss_function(logits, y[index])  # 2) 손실
        optimizer.zero_grad()  # 3) 기울기 비우기
        loss.backward()  # 4) 역전파
        optimizer.step()  # 5) 매개변수 갱신
        if scheduler:
            scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


def val_accuracy(model: nn.Module, data: SmallData) -> float:
    return evaluate(model, data.x_val, data.y_val)[1]


# %% [markdown]
# ## 2.1 다층 퍼셉트론: 매개변수, 깊이, 너비
#
# **왜 필요할까요?** 모델을 바꾸어 보기 전에 모델의 크기를 셀 줄 알아야 합니다. 크기가 다른 두
# 모델을 견주면 무엇 때문에 달라졌는지 알 수 없습니다.
#
# ```text
# 완전연결 계층의 매개변수 = 입력 수 * 출력 수 + 출력 수(편향)
# 예: 784 -> 128 -> 10     784 * 128 + 128 + 128 * 10 + 10 = 101,770
# ```
#
# `summarize`는 **훅**(forward hook)으로 계층마다 출력의 모양과 매개변수의 수를 적습니다. 훅은
# 계층이 순전파를 마칠 때 PyTorch가 불러 주는 함수입니다.


# %%
def count_by_hand(hidden: Sequence[int]) -> int:
    """입력 784, 출력 10인 MLP의 매개변수를 식으로 셉니다."""
    return sum(n * m + m for n, m in pairwise([784, *hidden, 10]))


def summarize(model: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...], int]]:
    """계층마다 (이름, 출력의 모양, 매개변수의 수)를 순전파 한 번으로 모읍니다."""
    rows, hooks = [], []
    for layer in model.modules():
        if not list(layer.children()):  # 다른 계층을 담지 않은 맨 아래 계층만

            def note(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
                rows.append((type(layer).__name__, tuple(output.shape), count_parameters(layer)))

            hooks.append(layer.register_forward_hook(note))
    model(x)
    for hook in hooks:
        hook.remove()  # 주의: 떼지 않으면 다음 순전파에서도 불림
    return rows


@chapter.section("2.1", "다층 퍼셉트론: 매개변수, 깊이, 너비")
def section_multilayer_perceptron(run: Run) -> None:
    data = small_data(run)
    titles = [fashion_mnist.CLASS_NAMES[label] for label in data.y[:20]]
    run.figure(image_grid(data.x[:20].cpu().numpy(), titles, 10, "학습 이미지"), "01_samples")
    images, titles = fashion_mnist.sample_beside_original(run.data_dir)
    run.figure(image_grid(images, titles, 10, "그린 표본과 원본(있을 때)"), "02_sample")
    model = make_mlp(run, data, (128, 64), norm=True)
    rows = summarize(model, data.x[:2])
    for name, shape, count in rows:
        print(f"  {name:12} 출력 {shape!s:10} 매개변수 {count:,}")
    expected = count_by_hand((128, 64)) + 2 * 128 + 2 * 64  # 배치 정규화는 유닛마다 둘
    run.check("요약표의 합과 손으로 센 수", sum(count for *_, count in rows), expected, atol=0)

    shapes = {"은닉 1개": [150], "은닉 2개": [128] * 2, "은닉 4개": [107] * 4, "은닉 8개": [85] * 8}
    counts = {name: count_by_hand(hidden) for name, hidden in shapes.items()}
    scores = {}
    for name, hidden in shapes.items():
        model = make_mlp(run, data, hidden)
        run.check(f"{name}의 매개변수: 식과 PyTorch", counts[name], count_parameters(model), atol=0)
        fit(run, model, data.x, data.y)
        scores[name] = val_accuracy(model, data)
    run.claim(
        "매개변수 수가 비슷할 때 가장 깊은 모델이 가장 정확한 것은 아닙니다",
        measured=f"{min(counts.values()):,}~{max(counts.values()):,}개. {percents(scores)}",
        holds=scores["은닉 8개"] < max(scores.values()),
    )


# %% [markdown]
# **읽는 법.** 같은 수의 매개변수를 깊게 쌓으면 더 복잡한 함수를 만들 수 있지만, 학습하기도 어려워질
# 수 있습니다. 왜 어려운지가 2.2절과 2.3절의 주제입니다.
#
# **더 해 보기.** `--steps 2000 --only 2.1`로 실행하면 네 정확도의 순서가 바뀝니까?

# %% [markdown]
# ## 2.2 활성화 함수
#
# **왜 필요할까요?** 활성화 함수가 없으면 계층을 아무리 쌓아도 행렬 하나를 곱한 것과 같습니다. 어떤
# 함수를 쓰는지는 역전파에서 드러납니다. 계층을 지날 때마다 그 도함수가 기울기에 곱해지기
# 때문입니다.
#
# ```text
# sigmoid(x) = 1 / (1 + exp(-x))             도함수 s * (1 - s),   최대 0.25
# tanh(x)                                    도함수 1 - tanh(x)^2, 최대 1
# relu(x)    = max(x, 0)                     도함수 0 또는 1
# leaky(x)   = x > 0이면 x, 아니면 0.01 * x    도함수 1 또는 0.01
# gelu(x)    = x * P(x)                      P: 표준정규분포의 누적분포, 도함수 P(x) + x * p(x)
# silu(x)    = x * sigmoid(x)                도함수 s + x * s * (1 - s)
# ```


# %%
def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def sigmoid_derivative(x: Tensor) -> Tensor:
    return sigmoid(x) * (1 - sigmoid(x))


def tanh(x: Tensor) -> Tensor:
    return 2 * sigmoid(2 * x) - 1


def tanh_derivative(x: Tensor) -> Tensor:
    return 1 - tanh(x) ** 2


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.0)


def relu_derivative(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def leaky_relu_derivative(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, torch.ones_like(x), slope)


def normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu(x: Tensor) -> Tensor:
    return x * normal_cdf(x)


def gelu_derivative(x: Tensor) -> Tensor:
    return normal_cdf(x) + x * torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def silu(x: Tensor) -> Tensor:
    return x * sigmoid(x)


def silu_derivative(x: Tensor) -> Tensor:
    return sigmoid(x) + x * sigmoid_derivative(x)


ACTIVATIONS = {  # 이름: (직접 만든 것, 직접 만든 도함수, PyTorch의 함수, PyTorch의 계층)
    "시그모이드": (sigmoid, sigmoid_derivative, torch.sigmoid, nn.Sigmoid),
    "tanh": (tanh, tanh_derivative, torch.tanh, nn.Tanh),
    "ReLU": (relu, relu_derivative, F.relu, nn.ReLU),
    "Leaky ReLU": (leaky_relu, leaky_relu_derivative, F.leaky_relu, nn.LeakyReLU),
    "GELU": (gelu, gelu_derivative, F.gelu, nn.GELU),
    "SiLU": (silu, silu_derivative, F.silu, nn.SiLU),
}


@chapter.section("2.2", "활성화 함수")
def section_activations(run: Run) -> None:
    x = torch.linspace(-6, 6, 1000, dtype=torch.float64)  # 짝수 개라 꺾이는 점 0은 들지 않음
    for name, (ours, derivative, library, _) in ACTIVATIONS.items():
        run.check_with_gradient(name, ours, library, x)
        leaf = x.clone().requires_grad_()
        library(leaf).sum().backward()
        run.check(f"{name}, 손으로 구한 도함수", derivative(x), leaf.grad, atol=1e-12)
    draw_activations(run, x)
    measure_gradient_by_layer(run)
    measure_dead_units(run)


def draw_activations(run: Run, x: Tensor) -> None:
    figure, (left, right) = new_figure(1, 2)
    for name, (ours, derivative, *_) in ACTIVATIONS.items():
        left.plot(x, ours(x), label=name)
        right.plot(x, derivative(x), label=name)
    left.set(xlabel="x", ylabel="f(x)", title="활성화 함수", ylim=(-1.5, 3), xlim=(-5, 5))
    right.set(xlabel="x", ylabel="f'(x)", title="도함수", xlim=(-5, 5))
    right.legend(fontsize=8)
    run.figure(figure, "03_activations")


def measure_gradient_by_layer(run: Run) -> None:
    """은닉 계층 20개에서 계층의 출력마다 기울기의 크기를 잽니다. 초기화는 모두 Xavier입니다."""
    data, norms = small_data(run), {}
    for name, (*_, layer) in ACTIVATIONS.items():
        model, outputs = make_mlp(run, data, [64] * 20, activation=layer), []
        for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            linear.register_forward_hook(lambda _, __, z, kept=outputs: kept.append(z))
        loss = F.cross_entropy(model(data.x[:256]), data.y[:256])
        norms[name] = [g.norm().item() for g in torch.autograd.grad(loss, outputs[:-1])]
    curves = {name: (range(1, len(values) + 1), values) for name, values in norms.items()}
    labels = {"xlabel": "은닉 계층(1이 입력 쪽)", "ylabel": "출력의 기울기"}
    figure = line_figure(curves, **labels, title="계층을 거슬러 가는 기울기", log="y")
    run.figure(figure, "04_gradient_by_layer")
    ratios = {name: values[0] / values[-1] for name, values in norms.items()}
    run.claim(
        "시그모이드에서는 입력 쪽으로 가며 기울기가 ReLU보다 더 많이 줄어듭니다",
        measured=", ".join(f"{name} {ratio:.0e}배" for name, ratio in ratios.items()),
        holds=ratios["시그모이드"] < ratios["ReLU"],
    )


def measure_dead_units(run: Run) -> None:
    """어느 이미지에도 켜지지 않는 ReLU 유닛의 비율을 편향의 초기값마다 잽니다."""
    data, dead = small_data(run), {}
    for bias in (0.0, -1.0, -3.0):
        model = make_mlp(run, data, (256,))
        nn.init.constant_(model.layers[0].bias, bias)
        with torch.inference_mode():
            pixels = (data.x.flatten(1).float() - model.mean) / model.std
            dead[bias] = (model.layers[0](pixels) <= 0).all(dim=0).float().mean().item()
    run.claim(
        "편향을 나쁘게 시작하면 어느 이미지에도 켜지지 않는 죽은 ReLU가 생깁니다",
        measured=", ".join(f"편향 {bias:g}: {100 * share:.0f} %" for bias, share in dead.items()),
        holds=dead[-3.0] > dead[0.0],
    )


# %% [markdown]
# **읽는 법.** 시그모이드의 도함수는 많아야 0.25입니다. 가중치가 그만큼 키워 주지 않으면 기울기는
# 계층마다 줄고, 입력 쪽 계층은 배우기 어려워집니다. 이것이 **기울기 소실**(vanishing
# gradient)입니다. 첫 계층의 죽은 ReLU는 기울기가 0이고 입력도 바뀌지 않으므로 스스로 살아나지
# 못합니다.
#
# **더 해 보기.** `measure_gradient_by_layer`의 초기화를 다음 절의 He로 바꾸면 ReLU의 선이 어떻게
# 됩니까?

# %% [markdown]
# ## 2.3 초기화
#
# **왜 필요할까요?** 계층을 지날 때마다 값이 두 배가 되면 20층 뒤에는 백만 배가 되고, 절반이 되면
# 백만분의 1이 됩니다. 가중치의 처음 크기가 이것을 정합니다.
#
# ```text
# z = x @ W,  W의 칸은 평균 0, 표준편차 s     z의 제곱 평균 = n * s^2 * (x의 제곱 평균)
# ReLU는 제곱 평균을 절반으로 만들므로        계층마다 n * s^2 / 2배
#
# n       들어오는 유닛의 수
# Xavier  s^2 = 2 / (n + m)     계층마다 1/2배  (n = m일 때. Glorot과 Bengio 2010)
# He      s^2 = 2 / n           계층마다 1배    (He 외 2015)
# ```


# %%
NUM_LAYERS, WIDTH = 20, 256
SCHEMES = {  # 이름: 너비 256인 계층의 가중치 표준편차
    "0으로": 0.0,
    "너무 작게 (0.01)": 0.01,
    "너무 크게 (0.2)": 0.2,
    "Xavier": math.sqrt(1 / WIDTH),
    "He": math.sqrt(2 / WIDTH),
}


def squares_by_layer(std: float, generator: torch.Generator) -> list[float]:
    """ReLU 20층을 지나며 활성화 전 값 z의 제곱 평균이 어떻게 변하는지 잽니다."""
    x = torch.randn(512, WIDTH, dtype=torch.float64, generator=generator)
    squares = []
    for _ in range(NUM_LAYERS):
        z = x @ (std * torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=generator))
        squares.append(z.square().mean().item())
        x = relu(z)
    return squares


@chapter.section("2.3", "초기화")
def section_initialization(run: Run) -> None:
    generator = torch.Generator().manual_seed(run.seed)
    figure, ax = new_figure(width=6.5)
    measured, predicted = {}, {}
    for name, std in SCHEMES.items():
        measured[name] = squares_by_layer(std, generator)
        first = WIDTH * std**2  # 입력의 제곱 평균은 1
        predicted[name] = [first * (WIDTH * std**2 / 2) ** layer for layer in range(NUM_LAYERS)]
        if std > 0:
            (line,) = ax.plot(range(1, NUM_LAYERS + 1), measured[name], "o", label=name)
            ax.plot(range(1, NUM_LAYERS + 1), predicted[name], "--", color=line.get_color())
    log_axis(ax, "y")
    ax.set(xlabel="계층", ylabel="z의 제곱 평균", title="초기화에 따른 값의 크기 (점선: 이론)")
    ax.legend(fontsize=8)
    run.figure(figure, "05_initialization")
    for name, init in {"Xavier": nn.init.xavier_normal_, "He": nn.init.kaiming_normal_}.items():
        weight = init(torch.empty(WIDTH, WIDTH))
        run.check(f"{name} 초기화의 표준편차와 nn.init", SCHEMES[name], weight.std(), atol=0.002)
    ratios = {n: measured[n][-1] / predicted[n][-1] for n, std in SCHEMES.items() if std > 0}
    run.claim(
        "20층 뒤의 크기는 이론의 예측과 3배 안에서 맞습니다",
        measured=", ".join(f"{name} {ratio:.2f}배" for name, ratio in ratios.items()),
        holds=all(1 / 3 < ratio < 3 for ratio in ratios.values()),
    )
    run.claim(
        "He 초기화만 20층을 지나도 값의 크기가 10배 안에서 유지됩니다",
        measured=", ".join(f"{n} {v[-1] / v[0]:.0e}배" for n, v in measured.items() if v[0] > 0),
        holds=[n for n, v in measured.items() if v[0] and 0.1 < v[-1] / v[0] < 10] == ["He"],
    )


# %% [markdown]
# **읽는 법.** 그래프의 세로축이 로그이므로 직선은 계층마다 같은 배수로 변한다는 뜻입니다. 0으로
# 시작하면 모든 유닛이 같은 값을 내고 같은 기울기를 받아 영원히 같습니다. 그래서 무작위로
# 시작합니다.
#
# **더 해 보기.** `relu`를 `tanh`로 바꾸면 어느 초기화가 가장 좋습니까?

# %% [markdown]
# ## 2.4 손실 함수
#
# **왜 필요할까요?** 무엇을 줄이는지가 무엇을 배우는지를 정합니다. 같은 모델이라도 손실이 다르면
# 배우는 속도도, 드문 클래스를 대하는 태도도 달라집니다.
#
# ```text
# 제곱 오차          평균(k) (p[k] - Y[k])^2              p 확률, Y 원-핫 정답
# 교차 엔트로피      -합(k) Y[k] log p[k]
# 레이블 스무딩      Y를 (1 - e) * Y + e / K로 바꾼 교차 엔트로피. 지나친 자신감을 막습니다
# 클래스 가중치      드문 클래스의 손실에 큰 수를 곱하고, 묶음에 든 가중치의 합으로 나눕니다
# ```


# %%
def label_smoothing_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.1
) -> Tensor:
    """레이블 스무딩을 더한 평균 교차 엔트로피입니다. logits (B, K), targets (B,)"""
    log_p = logits - logits.logsumexp(dim=1, keepdim=True)  # (B, K)
    correct = log_p.gather(1, targets[:, None])[:, 0]  # (B,), 정답 자리의 로그 확률
    return -((1 - smoothing) * correct + smoothing * log_p.mean(dim=1)).mean()


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """확률과 원-핫 정답의 제곱 오차입니다."""
    return (logits.softmax(dim=1) - F.one_hot(targets, logits.shape[1])).square().mean()


@chapter.section("2.4", "손실 함수")
def section_losses(run: Run) -> None:
    data = small_data(run)
    logits, targets = torch.randn(8, 10), torch.randint(0, 10, (8,))
    run.check_with_gradient(
        "레이블 스무딩",
        label_smoothing_cross_entropy,
        lambda z, t: F.cross_entropy(z, t, label_smoothing=0.1),
        *(logits, targets),
    )
    scores, confidence = {}, {}
    losses = {
        "제곱 오차": squared_error,
        "교차 엔트로피": F.cross_entropy,
        "레이블 스무딩": label_smoothing_cross_entropy,
    }
    for name, loss_function in losses.items():
        model = make_mlp(run, data)
        fit(run, model, data.x, data.y, loss_function=loss_function)
        scores[name] = val_accuracy(model, data)
        confidence[name] = predict_logits(model, data.x_val).softmax(1).amax(1).mean().item()
    run.claim(
        "같은 걸음 수에서 교차 엔트로피가 제곱 오차보다 정확합니다",
        measured=percents(scores),
        holds=scores["교차 엔트로피"] > scores["제곱 오차"],
    )
    run.claim(
        "레이블 스무딩은 모델의 자신감(가장 큰 확률의 평균)을 낮춥니다",
        measured=", ".join(f"{name} {value:.3f}" for name, value in confidence.items()),
        holds=confidence["레이블 스무딩"] < confidence["교차 엔트로피"],
    )
    measure_class_weights(run, data)


def measure_class_weights(run: Run, data: SmallData, rare: int = 6) -> None:
    """셔츠를 20분의 1만 남긴 데이터에서, 가중치가 셔츠를 찾는 비율(재현율)에 주는 영향입니다."""
    keep = (data.y != rare) | (torch.arange(len(data.y), device=data.y.device) % 20 == 0)
    x, y = data.x[keep], data.y[keep]
    counts = y.bincount(minlength=10)
    weights = {"가중치 없음": None, "가중치 있음": len(y) / (10 * counts.float())}
    recall, overall = {}, {}
    for name, weight in weights.items():
        model = make_mlp(run, data)
        fit(run, model, x, y, loss_function=lambda z, t, w=weight: F.cross_entropy(z, t, weight=w))
        hit = predict_logits(model, data.x_val).argmax(1) == data.y_val.cpu()
        recall[name] = hit[data.y_val.cpu() == rare].float().mean().item()
        overall[name] = hit.float().mean().item()
    run.claim(
        "클래스 가중치를 주면 드문 클래스(셔츠)를 더 많이 찾습니다",
        measured=f"셔츠 {counts[rare]}장. 재현율: {percents(recall)}. 전체: {percents(overall)}",
        holds=recall["가중치 있음"] > recall["가중치 없음"],
    )


# %% [markdown]
# **읽는 법.** 제곱 오차의 기울기에는 소프트맥스의 도함수가 곱해지므로, 자신 있게 틀린 데이터에서는
# 0에 가깝습니다. 교차 엔트로피에서는 그 도함수가 약분됩니다(1강 1.3절). 클래스 가중치는 공짜가
# 아닙니다. 판정에 나온 전체 정확도가 어떻게 변했는지도 함께 보세요.
#
# **더 해 보기.** 가중치 대신 드문 이미지를 여러 번 복사해 넣으면 결과가 같습니까?

# %% [markdown]
# ## 2.5 정규화 계층
#
# **왜 필요할까요?** 초기화는 학습의 출발점만 맞춥니다. 학습하는 동안에도 값의 크기를 고르게 하려고
# 계층 사이에서 평균을 빼고 표준편차로 나눕니다. 네 가지 정규화의 가장 큰 차이는 **어느 축을 따라
# 평균을 내는지**입니다.
#
# ```text
# y = (x - 평균) / sqrt(분산 + eps) * weight + bias
#
# 입력 (N, C, L)   평균을 내는 축            평균과 분산의 단위
# 배치 정규화      N, L                      채널마다 하나 (묶음 전체를 봄)
# 계층 정규화      C, L. (B, T, D)라면 D     데이터마다 하나. (B, T, D)라면 자리마다 하나
# 그룹 정규화      그룹 안의 C와 L           데이터와 그룹마다 하나
# 인스턴스 정규화  L                         데이터와 채널마다 하나
#
# 배치 정규화의 역전파 (g = y의 기울기 * weight, h = 정규화한 x, 평균은 묶음 방향)
# dx = (g - 평균(g) - h * 평균(g * h)) / 표준편차
# ```
#
# 배치 정규화만 묶음의 다른 데이터를 봅니다. 그래서 학습할 때 **이동 평균**을 모아 두었다가 평가할
# 때는 그것을 씁니다. `eval()`을 잊으면 예측이 옆의 이미지에 따라 달라집니다.


# %%
def normalize(x: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """`dims` 축을 따라 평균 0, 분산 1로 맞춥니다. 모양은 그대로입니다."""
    mean = x.mean(dim=dims, keepdim=True)
    variance = x.var(dim=dims, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps)


class BatchNorm1d(nn.Module):
    """배치 정규화입니다(Ioffe와 Szegedy 2015). (B, C) -> (B, C), `nn.BatchNorm1d`와 같습니다."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            h = (x - self.running_mean) / torch.sqrt(self.running_var + self.eps)
            return h * self.weight + self.bias
        with torch.no_grad():  # 왜: 이동 평균은 미분하지 않음
            self.running_mean += self.momentum * (x.mean(dim=0) - self.running_mean)
            # 주의: 이동 분산에는 B - 1로 나눈 분산을, 정규화에는 B로 나눈 분산을 씀
            self.running_var += self.momentum * (x.var(dim=0) - self.running_var)
        return normalize(x, (0,), self.eps) * self.weight + self.bias


def batch_norm_input_gradient(x: Tensor, gradient: Tensor, weight: Tensor, eps: float) -> Tensor:
    """출력의 기울기 (B, C)에서 입력의 기울기 (B, C)를 식으로 구합니다."""
    g, h = gradient * weight, normalize(x, (0,), eps)
    std = torch.sqrt(x.var(dim=0, unbiased=False) + eps)
    return (g - g.mean(dim=0) - h * (g * h).mean(dim=0)) / std


class LayerNorm(nn.Module):
    """계층 정규화입니다(Ba 외 2016). 마지막 축의 크기가 num_features입니다."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, (-1,)) * self.weight + self.bias


class GroupNorm(nn.Module):
    """그룹 정규화입니다(Wu와 He 2018). (N, C, L) -> (N, C, L)"""

    def __init__(self, num_groups: int, num_channels: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (self.num_groups, -1))  # (N, G, C/G, L)
        h = normalize(groups, (2, 3)).flatten(1, 2)  # (N, C, L)
        return h * self.weight[:, None] + self.bias[:, None]


class InstanceNorm1d(nn.Module):
    """인스턴스 정규화입니다(Ulyanov 외 2016). (N, C, L) -> (N, C, L), 매개변수가 없습니다."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, (2,))


@chapter.section("2.5", "정규화 계층")
def section_normalization(run: Run) -> None:
    check_batch_norm(run)
    x = torch.randn(4, 6, 5)  # 계층 정규화에는 (B, T, D), 나머지에는 (N, C, L)
    pairs = {
        "계층 정규화": (LayerNorm(5), nn.LayerNorm(5)),
        "그룹 정규화": (GroupNorm(3, 6), nn.GroupNorm(3, 6)),
        "인스턴스 정규화": (InstanceNorm1d(), nn.InstanceNorm1d(6)),
    }
    for name, (ours, library) in pairs.items():
        randomize(ours)
        library.load_state_dict(ours.state_dict())
        run.check_modules(name, ours, library, x)
    measure_forgotten_eval(run)


def randomize(module: nn.Module) -> None:
    """왜: weight 1과 bias 0으로 비교하면 그것을 빠뜨린 구현도 같아 보입니다."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)


def check_batch_norm(run: Run) -> None:
    ours, library = BatchNorm1d(5).to(run.device), nn.BatchNorm1d(5).to(run.device)
    randomize(ours)
    library.load_state_dict(ours.state_dict(), strict=False)  # num_batches_tracked만 없음
    x = torch.randn(16, 5, device=run.device)
    run.check_modules("배치 정규화, 학습 상태", ours, library, x)
    for _ in range(3):
        batch = torch.randn(16, 5, device=run.device) * 3 + 1
        ours(batch), library(batch)
    run.check("배치 정규화의 이동 평균", ours.running_mean, library.running_mean, atol=1e-6)
    run.check("배치 정규화의 이동 분산", ours.running_var, library.running_var, atol=1e-5)
    library.load_state_dict(ours.state_dict(), strict=False)
    run.check_modules("배치 정규화, 평가 상태", ours.eval(), library.eval(), x)
    dtype, atol = run.exact(1e-9)
    leaf, gradient = x.to(dtype).requires_grad_(), torch.randn_like(x, dtype=dtype)
    weight = ours.weight.detach().to(dtype)
    F.batch_norm(leaf, None, None, weight, training=True, eps=1e-5).backward(gradient)
    by_formula = batch_norm_input_gradient(leaf.detach(), gradient, weight, 1e-5)
    run.check("배치 정규화, 식으로 구한 입력의 기울기", by_formula, leaf.grad, atol)


def measure_forgotten_eval(run: Run) -> None:
    data = small_data(run)
    model = make_mlp(run, data, norm=True)
    fit(run, model, data.x, data.y)
    x, y = data.x_val[:512], data.y_val[:512]
    scores = {"eval": evaluate(model, x, y)[1]}
    for size in (2, 32):
        forgotten, correct = copy.deepcopy(model).train(), 0  # 이동 평균이 더럽혀지므로 복사본을 씀
        for images, labels in iterate_batches(x, y, size):
            with torch.no_grad():
                correct += (forgotten(images).argmax(1) == labels).sum().item()
        scores[f"묶음 {size}"] = correct / len(x)
    try:
        copy.deepcopy(model).train()(x[:1])
    except ValueError as error:  # 값이 하나면 분산을 구할 수 없음
        print(f"  묶음 1이면 나는 오류: {error}")
    run.claim(
        "eval()을 잊으면 작은 묶음(2)의 정확도가 큰 묶음(32)보다 낮습니다",
        measured=percents(scores),
        holds=scores["묶음 2"] < min(scores["묶음 32"], scores["eval"]),
    )


# %% [markdown]
# **읽는 법.** 묶음이 1이면 PyTorch는 오류로 막아 주지만, 2부터는 오류 없이 함께 든 이미지에 따라
# 답이 달라집니다. 오류 없는 실수가 더 위험합니다. 계층 정규화는 묶음을 보지 않아 이런 일이 없고,
# 8강의 트랜스포머가 씁니다.
#
# **더 해 보기.** `make_mlp(..., norm=True)`의 학습률을 10배로 키워도 학습이 됩니까? `norm=False`는
# 어떻습니까?

# %% [markdown]
# ## 2.6 과적합과 규제
#
# **왜 필요할까요?** 데이터가 적으면 모델은 규칙 대신 답을 외웁니다. 학습 정확도와 검증 정확도의
# 차이가 그 증거입니다. 외우지 못하게 방해하는 방법을 **규제**(regularization)라고 합니다.
#
# ```text
# 드롭아웃      학습할 때만 확률 p로 0을 만들고, 남은 값을 1 / (1 - p)배 합니다. 기댓값은 같습니다
# L2            손실에 (wd / 2) * w^2를 더합니다. 기울기에 wd * w가 더해집니다
# 가중치 감쇠   기울기와 따로 w = w - lr * wd * w. 모멘텀 없는 SGD에서만 L2와 같습니다
# 조기 종료     검증 정확도가 더 오르지 않으면 멈춥니다 (여기서는 끝까지 돌린 곡선에서 고릅니다)
# ```


# %%
class Dropout(nn.Module):
    """드롭아웃입니다(Srivastava 외 2014). 모양은 그대로이고 평가할 때는 아무 일도 하지 않습니다."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.rand_like(x) >= self.p
        return x * keep / (1 - self.p)


@chapter.section("2.6", "과적합과 규제")
def section_regularization(run: Run) -> None:
    check_dropout(run)
    show_decoupled_decay(run)
    compare_remedies(run)


def check_dropout(run: Run) -> None:
    x, p = torch.full((400, 1000), 2.0, device=run.device), 0.3
    ours, library = Dropout(p), nn.Dropout(p)
    run.check("드롭아웃, 평가 상태", ours.eval()(x), library.eval()(x), atol=0)
    outputs = ours.train()(x), library.train()(x)
    values = [output.unique() for output in outputs]
    run.check("드롭아웃의 값은 0과 x / (1 - p)뿐", *values, atol=1e-6)
    shares = [(output == 0).float().mean().item() for output in outputs]
    run.check("0이 되는 비율(40만 칸)", *shares, atol=0.01)
    run.check("기댓값이 지켜짐", outputs[0].mean(), x.mean(), atol=0.02)


def show_decoupled_decay(run: Run) -> None:
    """부호가 무작위인 기울기를 줄 때, 감쇠가 기울기의 크기에 따라 달라지는지 잽니다."""
    decay = {}
    for name, kind in {"L2": torch.optim.Adam, "가중치 감쇠": torch.optim.AdamW}.items():
        w = torch.ones(2, 1000, requires_grad=True)
        optimizer = kind([w], lr=0.001, weight_decay=0.5)
        for _ in range(300):
            sign = torch.randint(0, 2, (1, 1000)) * 2.0 - 1.0
            w.grad = torch.tensor([[0.1], [10.0]]) * sign  # 작은 기울기와 큰 기울기
            optimizer.step()
        small, large = 1 - w.detach().mean(dim=1)
        decay[f"{name}(작은 기울기)"], decay[f"{name}(큰 기울기)"] = small.item(), large.item()
    l2_small, l2_large, small, large = decay.values()
    run.claim(
        "Adam에서 L2는 기울기가 큰 가중치를 덜 줄이고, 가중치 감쇠는 똑같이 줄입니다",
        measured=f"줄어든 비율: {percents(decay)}",
        holds=l2_small - l2_large > 5 * abs(small - large),
    )


def compare_remedies(run: Run, num_images: int = 500) -> None:
    """이미지 500장에서 시작해 처방마다 학습 정확도와 검증 정확도를 잽니다."""
    data = small_data(run)
    x, y = data.x[:num_images], data.y[:num_images]
    more = data.x[: 4 * num_images], data.y[: 4 * num_images]
    remedies = {  # 이름: (모델 옵션, 감쇠, 손실, 학습 이미지)
        "처방 없음": ({}, 0.0, F.cross_entropy, (x, y)),
        "드롭아웃": ({"dropout": 0.5}, 0.0, F.cross_entropy, (x, y)),
        "가중치 감쇠": ({}, 1.0, F.cross_entropy, (x, y)),
        "레이블 스무딩": ({}, 0.0, label_smoothing_cross_entropy, (x, y)),
        "데이터 4배": ({}, 0.0, F.cross_entropy, more),
    }
    curves, ends = {}, {}
    for name, (options, decay, loss_function, (images, labels)) in remedies.items():
        model = make_mlp(run, data, (256, 128), **options)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=decay)
        curve = []
        for _ in range(10):
            steps = max(1, run.config.steps // 10)
            fit(run, model, images, labels, steps, optimizer, loss_function)
            curve.append((evaluate(model, images, labels)[1], val_accuracy(model, data)))
        curves[name], ends[name] = curve, curve[-1]
    ends["조기 종료"] = max(curves["처방 없음"], key=lambda pair: pair[1])
    draw_remedies(run, curves["처방 없음"], ends)
    gaps = {name: train - val for name, (train, val) in ends.items()}
    run.claim(
        "이미지 500장에서는 처방 가운데 '데이터 4배'가 검증 정확도를 가장 많이 올립니다",
        measured=percents({name: val for name, (_, val) in ends.items()}),
        holds=max(ends, key=lambda name: ends[name][1]) == "데이터 4배",
    )
    run.claim(
        "드롭아웃은 학습과 검증의 차이를 줄입니다",
        measured=f"차이: {percents(gaps)}",
        holds=gaps["드롭아웃"] < gaps["처방 없음"],
    )


def draw_remedies(run: Run, curve: list, ends: dict[str, tuple[float, float]]) -> None:
    figure, (left, right) = new_figure(1, 2, width=6)
    steps = [(i + 1) * max(1, run.config.steps // 10) for i in range(len(curve))]
    left.plot(steps, [100 * train for train, _ in curve], "o-", label="학습")
    left.plot(steps, [100 * val for _, val in curve], "s--", label="검증")
    left.set(xlabel="걸음", ylabel="정확도 (%)", title="500장: 처방 없음")
    left.legend()
    places = np.arange(len(ends))
    right.bar(places - 0.2, [100 * train for train, _ in ends.values()], 0.4, label="학습")
    right.bar(places + 0.2, [100 * val for _, val in ends.values()], 0.4, label="검증")
    right.set_xticks(places, ends, rotation=20)
    right.set(ylabel="정확도 (%)", title="처방마다의 차이", ylim=(0, 101))
    right.legend(loc="lower right")
    run.figure(figure, "06_overfitting")


# %% [markdown]
# **읽는 법.** 두 막대의 차이가 외운 몫입니다. 규제로 차이가 줄어도 검증 정확도가 오른다는 보장은
# 없습니다. 조기 종료의 값은 검증 데이터로 골랐으므로 조금 낙관적입니다.
#
# **더 해 보기.** 드롭아웃과 가중치 감쇠를 함께 쓰면 효과가 더해집니까?

# %% [markdown]
# ## 2.7 옵티마이저와 학습률
#
# **왜 필요할까요?** 옵티마이저를 견준 표는 많지만, 학습률을 저마다 맞추지 않은 비교는 옵티마이저가
# 아니라 학습률을 견준 것입니다. 여기서는 옵티마이저마다 학습률을 먼저 고릅니다.
#
# ```text
# Nesterov   v = momentum * v + g;         p = p - lr * (g + momentum * v)
# RMSprop    s = a * s + (1 - a) * g ** 2;   p = p - lr * g / (sqrt(s) + eps)
# AdamW      p = p - lr * wd * p 다음에 Adam의 갱신 (Loshchilov와 Hutter 2019)
# 기울기 자르기   모든 기울기의 길이 L이 c를 넘으면 c / L을 곱합니다
#
# 계단        학습률을 정해진 걸음마다 0.3배로 줄임
# 코사인      학습률 = 최댓값 * (1 + cos(pi * t / T)) / 2
# 예열        처음 몇 걸음 동안 학습률을 조금씩 올림
# 원사이클    30 %까지 최댓값 / 25에서 최댓값으로 올렸다가, 0 가까이로 내림 (둘 다 코사인)
# 범위 시험   학습률을 걸음마다 같은 배수로 키우며 손실을 봄
# ```


# %%
class Optimizer:
    """옵티마이저의 공통 부분입니다(1강 1.5절)."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters, self.lr, self.time = list(parameters), lr, 0
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None


class Nesterov(Optimizer):
    """한 걸음 앞을 내다보는 모멘텀입니다. `torch.optim.SGD(nesterov=True)`와 같습니다."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum

    @torch.no_grad()
    def step(self) -> None:
        for p, v in zip(self.parameters, self.means, strict=True):
            v *= self.momentum
            v += p.grad
            p -= self.lr * (p.grad + self.momentum * v)


class RMSprop(Optimizer):
    """RMSprop입니다(Hinton의 강의, 2012). `torch.optim.RMSprop`과 같습니다."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        super().__init__(parameters, lr)
        self.alpha, self.eps = alpha, eps

    @torch.no_grad()
    def step(self) -> None:
        for p, s in zip(self.parameters, self.squares, strict=True):
            s *= self.alpha
            s += (1 - self.alpha) * p.grad**2
            p -= self.lr * p.grad / (s.sqrt() + self.eps)


class AdamW(Optimizer):
    """가중치 감쇠를 분리한 Adam입니다. `torch.optim.AdamW`와 같습니다."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        self.time += 1
        beta1, beta2 = self.betas
        for p, m, s in zip(self.parameters, self.means, self.squares, strict=True):
            p *= 1 - self.lr * self.weight_decay
            m *= beta1
            m += (1 - beta1) * p.grad
            s *= beta2
            s += (1 - beta2) * p.grad**2
            mean, square = m / (1 - beta1**self.time), s / (1 - beta2**self.time)
            p -= self.lr * mean / (square.sqrt() + self.eps)


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """모든 기울기를 한 벡터로 본 길이가 `max_norm`을 넘지 않게 줄이고, 줄이기 전 길이를 줍니다."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = torch.sqrt(sum(g.square().sum() for g in gradients))
    for g in gradients:
        g *= (max_norm / (length + 1e-6)).clamp(max=1.0)
    return length


def learning_rate_range_test(
    run: Run, model: nn.Module, x: Tensor, y: Tensor, low: float, high: float, steps: int
) -> tuple[list[float], list[float]]:
    """학습률을 `low`에서 `high`까지 배수로 키우며 손실을 적습니다.

    주의: 논문(Smith 2017, 3.3절)은 학습률을 고르게 키우고 정확도를 봅니다. 여기서는 로그 눈금으로
    넓은 범위를 보려고 배수로 키웁니다.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=low, momentum=0.9)
    factor = (high / low) ** (1 / (steps - 1))
    scheduler = lr_scheduler.ExponentialLR(optimizer, gamma=factor)
    losses = fit(run, model, x, y, steps, optimizer, scheduler=scheduler)
    return [low * factor**step for step in range(steps)], losses


@chapter.section("2.7", "옵티마이저와 학습률")
def section_optimizers(run: Run) -> None:
    check_optimizers(run)
    compare_optimizers(run)
    draw_range_test(run)
    compare_schedules(run)


def check_optimizers(run: Run) -> None:
    dtype, atol = run.exact(1e-9)
    start, pull = torch.randn(2, 12, dtype=dtype, device=run.device)
    pairs = {
        "Nesterov": (Nesterov, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True)),
        "RMSprop": (RMSprop, torch.optim.RMSprop),
        "AdamW": (AdamW, torch.optim.AdamW),
    }
    for name, makers in pairs.items():
        ends = []
        for make in makers:
            p = start.clone().requires_grad_()
            optimizer = make([p], 0.02)
            for _ in range(50):
                optimizer.zero_grad()
                (p**2 + (pull * p).sin()).sum().backward()
                optimizer.step()
            ends.append(p.detach())
        run.check(f"{name}, 50걸음 뒤 torch.optim과의 차이", *ends, atol)
    ours = [torch.randn(3, 4, device=run.device).requires_grad_() for _ in range(3)]
    copies = ours, copy.deepcopy(ours)
    for group in copies:
        sum((5 * p.square()).sum() for p in group).backward()
    lengths = clip_grad_norm(copies[0], 1.0), nn.utils.clip_grad_norm_(copies[1], 1.0)
    run.check("기울기 자르기, 자르기 전 길이", *lengths, atol=1e-4)
    clipped = [torch.stack([p.grad for p in group]) for group in copies]
    run.check("기울기 자르기, 자른 기울기", *clipped, atol=1e-6)


def compare_optimizers(run: Run) -> None:
    """옵티마이저마다 학습률 네 개를 시험해 가장 좋은 것끼리 견줍니다."""
    data = small_data(run)
    kinds = {  # 이름: (만드는 함수, 가운데 학습률)
        "SGD": (torch.optim.SGD, 0.1),
        "모멘텀": (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), 0.01),
        "Nesterov": (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True), 0.01),
        "RMSprop": (torch.optim.RMSprop, 0.001),
        "Adam": (torch.optim.Adam, 0.001),
        "AdamW": (torch.optim.AdamW, 0.001),
    }
    curves, best = {}, {}
    for name, (make, middle) in kinds.items():
        rates, scores = [middle * factor for factor in (0.1, 0.4, 1.6, 6.4)], []
        for rate in rates:
            model = make_mlp(run, data)
            fit(run, model, data.x, data.y, optimizer=make(model.parameters(), lr=rate))
            scores.append(val_accuracy(model, data))
        best[name] = max(scores)
        curves[name] = rates, [100 * score for score in scores]
    labels = {"xlabel": "학습률", "ylabel": "검증 정확도 (%)", "title": "옵티마이저와 학습률"}
    figure = line_figure(curves, **labels, log="x")
    run.figure(figure, "07_optimizers")
    tuned = max(best.values()) - min(best.values())
    run.claim(
        "학습률을 저마다 맞추면 옵티마이저의 차이는 5 %p보다 작습니다",
        measured=percents(best),
        holds=tuned < 0.05,
    )


def draw_range_test(run: Run) -> None:
    data = small_data(run)
    model = make_mlp(run, data)
    rates, losses = learning_rate_range_test(run, model, data.x, data.y, 1e-4, 10, 100)
    smooth = np.convolve(losses, np.ones(5) / 5, mode="valid")  # 5걸음의 평균, 가운데는 2부터
    lowest = rates[2 + int(np.nanargmin(smooth))]
    curves = {"손실": (rates[2:-2], np.minimum(smooth, 5))}
    labels = {"xlabel": "학습률", "ylabel": "손실 (5걸음 평균)", "title": "학습률 범위 시험"}
    run.figure(line_figure(curves, **labels, log="x"), "08_range_test")
    print(f"  손실이 가장 작은 학습률 {lowest:.2g}. 그 3분의 1에서 10분의 1부터 시험해 보세요.")


def compare_schedules(run: Run) -> None:
    """같은 걸음 수에서, 일정마다 학습률의 최댓값 셋을 시험해 가장 좋은 것끼리 견줍니다."""
    data, steps = small_data(run), run.config.steps
    schedules = {
        "일정하게": lambda o, top: lr_scheduler.ConstantLR(o, factor=1.0),
        "계단": lambda o, top: lr_scheduler.StepLR(o, steps // 3, gamma=0.3),
        "코사인": lambda o, top: lr_scheduler.CosineAnnealingLR(o, steps),
        "예열": lambda o, top: lr_scheduler.LinearLR(o, 0.05, total_iters=steps // 10),
        "원사이클": lambda o, top: lr_scheduler.OneCycleLR(o, top, steps, cycle_momentum=False),
    }
    curves, losses = {}, dict.fromkeys(schedules, math.inf)
    for name, make in schedules.items():
        for top in (0.001, 0.003, 0.01):
            model = make_mlp(run, data)
            optimizer = torch.optim.Adam(model.parameters(), lr=top)
            scheduler, rates = make(optimizer, top), []
            for _ in range(steps):
                rates.append(optimizer.param_groups[0]["lr"])
                fit(run, model, data.x, data.y, 1, optimizer, scheduler=scheduler)
            losses[name] = min(losses[name], evaluate(model, data.x_val, data.y_val)[0])
        curves[name] = range(steps), rates
    by_hand = [one_cycle(t, steps, 0.01) for t in range(steps)]
    run.check("원사이클: 식과 torch", by_hand, curves["원사이클"][1], atol=1e-12)
    run.figure(
        line_figure(curves, xlabel="걸음", ylabel="학습률", title="학습률 일정"), "09_schedules"
    )
    run.claim(
        "최댓값을 저마다 맞추어도, 학습률을 끝에서 줄이는 코사인의 검증 손실이 더 작습니다",
        measured=", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()),
        holds=losses["코사인"] < losses["일정하게"],
    )


def one_cycle(t: int, total: int, top: float) -> float:
    """걸음 t의 원사이클 학습률입니다. `torch.optim.lr_scheduler.OneCycleLR`의 기본값과 같습니다."""
    peak = 0.3 * total - 1
    if t <= peak:
        start, end, part = top / 25, top, t / peak
    else:
        start, end, part = top, top / 25e4, (t - peak) / (total - 1 - peak)
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


# %% [markdown]
# **읽는 법.** 옵티마이저 그림에서 봉우리의 높이보다 자리를 보세요. 기본 학습률을 그대로 옮겨 쓰면
# 봉우리에서 멀어질 수 있습니다. 학습률이 크면 빨리 가지만 바닥 근처에서 흔들립니다. 그 흔들림을
# 끝에서 가라앉히려는 것이 학습률 일정이고, 효과는 판정의 값으로 봅니다.
#
# **더 해 보기.** `compare_schedules`의 걸음 수를 세 배로 늘려도 순서가 같습니까?

# %% [markdown]
# ## 2.8 하이퍼파라미터 탐색과 마지막 학습
#
# **왜 필요할까요?** 학습률, 드롭아웃, 너비처럼 학습이 정해 주지 않는 값을 **하이퍼파라미터**라고
# 합니다. 격자로 모두 시험하면 개수가 곱으로 늘어납니다. 무작위로 뽑아 시험하고, 가망 없는 것을 일찍
# 그만두면 예산을 아낄 수 있습니다.
#
# ```text
# 무작위 탐색       설정 n개를 무작위로 뽑아 똑같이 b걸음씩 학습시킵니다
# 연속 반감         n개를 조금 학습시켜 나은 절반만 남기고, 남은 것을 두 배 더 학습시킵니다.
#                   하나가 남을 때까지 되풀이합니다 (Jamieson과 Talwalkar 2016)
# ```
#
# 고르는 데에는 검증 데이터만 씁니다. 고른 설정으로 학습 데이터 전체를 처음부터 학습시킵니다.


# %%
@dataclass(frozen=True)
class Trial:
    """탐색에서 시험하는 하이퍼파라미터 한 벌입니다."""

    lr: float
    dropout: float
    weight_decay: float
    width: int


def sample_trials(run: Run, count: int) -> list[Trial]:
    """학습률과 가중치 감쇠는 로그 눈금에서 고르게 뽑습니다."""
    rng = np.random.default_rng(run.seed)
    return [
        Trial(
            lr=run.config.lr * 10 ** rng.uniform(-0.5, 0.5),
            dropout=rng.uniform(0, 0.5),
            weight_decay=10 ** rng.uniform(-3, -0.5),
            width=int(rng.choice([384, 512, 768])),
        )
        for _ in range(count)
    ]


def successive_halving(
    count: int, advance: Callable[[int, int], float], first_budget: int
) -> tuple[int, list[tuple[int, dict[int, float]]]]:
    """가장 나은 후보의 번호와, 라운드마다의 (더 쓴 예산, 후보별 점수)를 돌려줍니다.

    Args:
        count: 후보의 수.
        advance: `advance(i, budget)`은 후보 i를 budget만큼 더 학습시키고 점수를 냅니다.
        first_budget: 첫 라운드의 예산. 라운드마다 두 배가 됩니다.
    """
    alive, budget, rounds = list(range(count)), first_budget, []
    while True:
        scores = {i: advance(i, budget) for i in alive}
        rounds.append((budget, scores))
        alive = sorted(alive, key=scores.get, reverse=True)[: max(1, len(alive) // 2)]
        if len(alive) == 1:
            return alive[0], rounds
        budget *= 2


def build(run: Run, trial: Trial, images: Tensor) -> MLP:
    hidden = (trial.width, trial.width // 2)
    model = MLP(hidden, nn.GELU, norm=True, dropout=trial.dropout)
    return model.set_brightness(images).to(run.device)


def start_search(
    run: Run, data: SmallData, trials: list[Trial]
) -> tuple[list[MLP], Callable[[int, int], float]]:
    """후보 모델들과, i번째를 더 학습시키고 검증 정확도를 돌려주는 함수를 만듭니다."""
    models, optimizers = [], []
    for trial in trials:
        torch.manual_seed(run.seed)
        models.append(build(run, trial, data.x))
        options = {"lr": trial.lr, "weight_decay": trial.weight_decay}
        optimizers.append(torch.optim.AdamW(models[-1].parameters(), **options))

    def advance(i: int, steps: int) -> float:
        fit(run, models[i], data.x, data.y, steps, optimizers[i])
        return val_accuracy(models[i], data)

    return models, advance


@chapter.section("2.8", "하이퍼파라미터 탐색과 마지막 학습")
def section_search_and_training(run: Run) -> tuple[Trial, MLP, list[MLP]]:
    data, full = small_data(run), run.data(fashion_mnist.load)
    trials = sample_trials(run, run.config.trials)
    _, advance = start_search(run, data, trials)
    winner, rounds = successive_halving(len(trials), advance, max(5, run.config.steps // 5))
    spent = sum(budget * len(scores) for budget, scores in rounds)
    candidates, advance = start_search(run, data, trials)
    scores = [advance(i, spent // len(trials)) for i in range(len(trials))]
    draw_search(run, trials, scores, rounds)
    picked = {"연속 반감": trials[winner], "무작위": trials[int(np.argmax(scores))]}
    _, advance = start_search(run, data, list(picked.values()))
    again = {name: advance(i, 2 * run.config.steps) for i, name in enumerate(picked)}
    run.claim(
        "같은 예산으로 고른 두 설정을 다시 학습시키면 연속 반감의 것이 더 나쁘지 않습니다",
        measured=f"예산 {spent:,}걸음씩. 다시 학습시킨 정확도: {percents(again)}",
        holds=again["연속 반감"] >= again["무작위"],
    )
    trial = trials[winner]
    print(
        f"  고른 설정: 학습률 {trial.lr:.2g}, 드롭아웃 {trial.dropout:.2f}, "
        f"가중치 감쇠 {trial.weight_decay:.2g}, 너비 {trial.width}"
    )
    torch.manual_seed(run.seed)
    model = build(run, trial, full.x_train)
    print(f"  마지막 모델의 매개변수 {count_parameters(model):,}개")
    history = train(run, model, full, trial)
    run.figure(learning_curves(history), "11_learning_curves")
    save_weights(run.path("model.pt"), model)
    return trial, model, candidates


def train(
    run: Run, model: MLP, full: ImageDataset, trial: Trial, name: str = "checkpoint.pt"
) -> list[dict[str, float]]:
    """전체 데이터로 학습시키고 에폭마다의 기록을 돌려줍니다. 에폭이 끝날 때마다 저장합니다."""
    config, device = run.config, run.device
    x_train, y_train = full.x_train.to(device), full.y_train.to(device)
    x_val, y_val = full.x_val.to(device), full.y_val.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), trial.lr, weight_decay=trial.weight_decay)
    steps = max(1, len(x_train) // config.batch_size)
    total = config.epochs * steps
    scheduler = lr_scheduler.OneCycleLR(optimizer, trial.lr, total, cycle_momentum=False)
    checkpoint = run.checkpoint(model, optimizer, scheduler, name, chosen=asdict(trial))
    history = checkpoint.restore() if run.resume else []
    checkpoint.save(history)

    for epoch in range(len(history), config.epochs):
        model.train()
        batches = iterate_batches(x_train, y_train, config.batch_size, shuffle=True, drop_last=True)
        for images, labels in tqdm(batches, total=steps, leave=False, disable=None):
            with autocast(device, run.dtype):
                logits = model(images)  # 1) 순전파
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
        train_scores = evaluate(model, x_train[:5000], y_train[:5000], run.dtype)
        val_scores = evaluate(model, x_val, y_val, run.dtype)
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        history.append(dict(zip(names, train_scores + val_scores, strict=True)))
        checkpoint.save(history)
        print(
            f"  에폭 {epoch + 1:2}/{config.epochs}: 학습 손실 {train_scores[0]:.4f}, 검증 손실 "
            f"{val_scores[0]:.4f}, 검증 정확도 {100 * val_scores[1]:.2f} %"
        )
    return history


def draw_search(run: Run, trials: list[Trial], scores: list[float], rounds: list) -> None:
    """왼쪽은 연속 반감의 진행, 오른쪽은 랜덤 포레스트로 어림한 하이퍼파라미터의 중요도입니다."""
    from sklearn.ensemble import RandomForestRegressor  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    figure, (left, right) = new_figure(1, 2)
    used = np.cumsum([budget for budget, _ in rounds])
    for i in range(len(trials)):
        points = [(u, 100 * s[i]) for u, (_, s) in zip(used, rounds, strict=True) if i in s]
        left.plot(*zip(*points, strict=True), "o-", markersize=3)
    left.set(xlabel="쓴 걸음 수", ylabel="검증 정확도 (%)", title="연속 반감")
    table = [[np.log(t.lr), t.dropout, np.log(t.weight_decay), t.width] for t in trials]
    forest = RandomForestRegressor(200, random_state=run.seed).fit(table, scores)
    right.barh(["학습률", "드롭아웃", "가중치 감쇠", "너비"], forest.feature_importances_)
    right.set(xlabel="중요도 (합 1)", title="무엇이 정확도를 갈랐는지")
    run.figure(figure, "10_search")


# %% [markdown]
# **읽는 법.** 왼쪽 그림에서 일찍 끊긴 선이 아낀 예산입니다. 후보의 순위가 뒤에서 뒤집힐 수 있다는
# 것이 연속 반감의 약점입니다. 오른쪽의 중요도는 결정 나무 여럿을 평균하는 랜덤 포레스트로 어림한
# 값이고, 설정 몇 개로 어림했으므로 실행마다 바뀔 수 있습니다.
#
# **더 해 보기.** `--trials 32`로 늘리면 고른 설정이 얼마나 달라집니까?

# %% [markdown]
# ## 2.9 결과 읽기
#
# **왜 필요할까요?** 정확도 하나로는 무엇을 틀리는지 알 수 없습니다. 클래스마다 **정밀도**(그렇다고
# 답한 것 가운데 맞은 비율)와 **재현율**(실제로 그런 것 가운데 찾은 비율)을 봅니다.
#
# ```text
# 혼동 행렬 M[i, j] = 정답이 i일 때 j라고 답한 횟수
# 정밀도[k] = M[k, k] / 열 k의 합      재현율[k] = M[k, k] / 행 k의 합
# F1[k] = 2 * 정밀도 * 재현율 / (정밀도 + 재현율)
# ```
#
# 기준선은 셋입니다. 가장 많은 클래스만 답하기, 픽셀의 소프트맥스 회귀, 그리고 사람입니다. 공식
# 저장소의 벤치마크 표에는 의류 전문 지식이 없는 사람들의 성적이 83.5 %로 적혀 있습니다(무작위
# 테스트 이미지 1,000장, 한 장에 세 명, 다수결).


# %%
HUMAN_ACCURACY = 0.835  # 출처: github.com/zalandoresearch/fashion-mnist의 README, Benchmark


def precision_recall_f1(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """혼동 행렬 (K, K)에서 클래스마다의 정밀도, 재현율, F1 (K,)을 구합니다. 0/0은 0으로 봅니다."""
    correct = matrix.diagonal().double()
    precision = correct / matrix.sum(dim=0).clamp(min=1)
    recall = correct / matrix.sum(dim=1).clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return precision, recall, f1


@chapter.section("2.9", "결과 읽기", needs=("2.8",))
def section_result(run: Run, trial: Trial, model: MLP, candidates: list[MLP]) -> None:
    full = run.data(fashion_mnist.load)
    others = []
    for number in range(1, run.config.ensemble):
        print(f"  앙상블의 {number + 1}번째 모델")
        torch.manual_seed(run.seed + 1000 * number)
        others.append(build(run, trial, full.x_train))
        train(run, others[-1], full, trial, f"checkpoint_{number}.pt")

    x_test, y_test = full.take_test()
    report_floors(run, full, x_test, y_test)
    probabilities = [predict_logits(m, x_test, run.dtype).softmax(1) for m in (model, *others)]
    members = [(p.argmax(dim=1) == y_test).float().mean().item() for p in probabilities]
    together = (sum(probabilities).argmax(dim=1) == y_test).float().mean().item()
    run.result("테스트 정확도", members[0], beats="소프트맥스 회귀")
    run.result("앙상블의 테스트 정확도", together, beats="소프트맥스 회귀")
    run.claim(
        "확률을 평균한 앙상블은 그 안의 어느 모델보다도 정확합니다",
        measured=f"앙상블 {100 * together:.2f} %, 모델마다 "
        + ", ".join(f"{100 * member:.2f} %" for member in members),
        holds=together > max(members),
    )
    predictions = probabilities[0].argmax(dim=1)
    report_classes(run, x_test, y_test, predictions)
    warn_about_selecting_on_test(run, candidates, x_test, y_test)


def report_floors(run: Run, full: ImageDataset, x_test: Tensor, y_test: Tensor) -> None:
    run.floor("가장 많은 클래스만 답하기", majority_accuracy(full.y_train, y_test))
    if full.provenance.source == "original":
        run.floor("사람(발표된 값)", HUMAN_ACCURACY)
    linear = softmax_regression_accuracy(full.x_train, full.y_train, x_test, y_test)
    run.floor("소프트맥스 회귀", linear)


def report_classes(run: Run, x_test: Tensor, y_test: Tensor, predictions: Tensor) -> None:
    names = fashion_mnist.CLASS_NAMES
    matrix = confusion_matrix(y_test, predictions, 10)
    ours = torch.stack(precision_recall_f1(matrix))
    library = precision_recall_fscore_support(y_test, predictions, zero_division=0)[:3]
    run.check("정밀도, 재현율, F1과 scikit-learn", ours, np.stack(library), atol=1e-9)
    print("  클래스        정밀도  재현율     F1")
    for name, (precision, recall, f1) in zip(names, ours.T.tolist(), strict=True):
        print(f"  {name:\u3000<6} {100 * precision:6.1f} {100 * recall:7.1f} {100 * f1:6.1f}")
    run.figure(confusion_matrix_figure(matrix.numpy(), names), "12_confusion_matrix")
    errors = matrix + matrix.T
    errors.fill_diagonal_(0)
    i, j = divmod(int(errors.argmax()), 10)
    pair = ((y_test == i) & (predictions == j)) | ((y_test == j) & (predictions == i))
    shown = pair.nonzero().flatten()[:20]
    titles = [f"정답 {names[y_test[k]]}\n예측 {names[predictions[k]]}" for k in shown]
    title = f"가장 헷갈리는 짝: {names[i]}와 {names[j]} ({int(pair.sum())}장)"
    run.figure(image_grid(x_test[shown].numpy(), titles, 10, title), "13_hardest_pair")


def warn_about_selecting_on_test(
    run: Run, candidates: list[MLP], x_test: Tensor, y_test: Tensor
) -> None:
    """테스트의 무작위 500장으로 후보를 골랐다면 얼마라고 했을지와, 나머지에서의 값을 견줍니다."""
    hits = torch.stack([predict_logits(m, x_test).argmax(1) == y_test for m in candidates]).float()
    gaps = []
    for _ in range(200):
        order = torch.randperm(hits.shape[1])
        seen, unseen = hits[:, order[:500]].mean(dim=1), hits[:, order[500:]].mean(dim=1)
        best = seen.argmax()
        gaps.append((seen[best] - unseen[best]).item())
    run.claim(
        "테스트를 보고 고르면, 고를 때 본 정확도가 보지 않은 데이터의 정확도보다 높습니다",
        measured=f"후보 {len(hits)}개, 무작위 나눔 200번의 평균 차이 {100 * np.mean(gaps):+.2f} %p",
        holds=np.mean(gaps) > 0,
    )


# %% [markdown]
# **읽는 법.** 가장 헷갈리는 짝을 그림에서 확인하세요. 28x28에서는 사람도 자주 틀립니다. 마지막
# 판정의 차이는 모델이 나아진 몫이 아니라 골라서 생긴 착각입니다.
#
# **더 해 보기.** 앙상블의 모델을 1개에서 5개까지 늘리며 정확도를 그려 보세요.

# %% [markdown]
# ## 2.10 고장 박물관
#
# **왜 필요할까요?** 오류가 나지 않는 실수가 가장 오래 갑니다. 자주 하는 실수 다섯을 일부러 저질러
# 보고 곡선의 모양을 눈에 익혀 두세요.
#
# | 고장 | 흔한 증상 | 고치기 |
# |---|---|---|
# | 기울기를 비우지 않음 | 손실이 흔들리며 커집니다 | `optimizer.zero_grad()` |
# | `cross_entropy` 앞에 소프트맥스 | 내려가다 높은 곳에서 멈춥니다 | 점수를 그대로 넣습니다 |
# | 학습률 100배 | 처음부터 튀거나 한 값에 붙습니다 | 범위 시험으로 고릅니다 |
# | 섞지 않은 묶음 | 마지막에 본 클래스만 답합니다 | `shuffle=True` |
# | 레이블이 하나씩 밀림 | 손실은 내려가는데 정확도가 0에 가깝습니다 | 데이터를 눈으로 봅니다 |


# %%
def broken_fit(run: Run, data: SmallData, fault: str) -> tuple[list[float], float]:
    """`fault`라는 실수를 저지르며 학습시킵니다. 걸음마다의 손실과 검증 정확도를 돌려줍니다."""
    model, loss_function, y = make_mlp(run, data), F.cross_entropy, data.y
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0 if fault == "학습률 100배" else 0.05)
    if fault == "기울기를 비우지 않음":
        optimizer.zero_grad = lambda: None
    elif fault == "소프트맥스 두 번":
        loss_function = lambda z, t: F.cross_entropy(z.softmax(dim=1), t)
    elif fault == "레이블이 하나씩 밀림":
        y = (data.y + 1) % 10
    if fault != "섞지 않은 묶음":
        losses = fit(run, model, data.x, y, None, optimizer, loss_function)
        return losses, val_accuracy(model, data)
    losses, order = [], data.y.argsort(stable=True)
    for part in order.tensor_split(run.config.steps):  # 클래스 순서대로
        losses += fit(run, model, data.x[part], y[part], 1, optimizer)
    return losses, val_accuracy(model, data)


@chapter.section("2.10", "고장 박물관")
def section_failure_museum(run: Run) -> None:
    data = small_data(run)
    faults = ["정상", "기울기를 비우지 않음", "소프트맥스 두 번", "학습률 100배"]
    faults += ["섞지 않은 묶음", "레이블이 하나씩 밀림"]
    figure, axes = new_figure(2, 3, width=3.6, height=2.8)
    scores = {}
    for ax, fault in zip(axes.flat, faults, strict=True):
        losses, scores[fault] = broken_fit(run, data, fault)
        ax.plot(np.clip(losses, 0, 6))
        ax.set(title=f"{fault}\n검증 {100 * scores[fault]:.1f} %", xlabel="걸음", ylabel="손실")
    run.figure(figure, "14_failure_museum")
    run.claim(
        "다섯 가지 고장 모두 오류 없이 끝까지 실행되면서 정상보다 정확도가 낮습니다",
        measured=percents(scores),
        holds=all(scores[fault] < scores["정상"] for fault in faults[1:]),
    )


# %% [markdown]
# **읽는 법.** 학습 손실 곡선만 보아서는 '레이블이 하나씩 밀림'을 알 수 없습니다. 검증 데이터의
# 레이블까지 똑같이 밀렸다면 정확도로도 알 수 없고, 이미지와 레이블을 눈으로 보아야 합니다.
#
# **더 해 보기.** 고장을 하나 더 만들어 보세요. 예: 평가할 때 `eval()`을 부르지 않음.

# %% [markdown]
# ## 정리
#
# - 기울기는 계층마다 도함수와 가중치의 크기만큼 곱해집니다. 2.2절과 2.3절에서 20층을 지난 값을
#   쟀습니다.
# - 배치 정규화는 학습과 평가가 다르게 움직입니다. `eval()`을 잊은 값이 2.5절에 있습니다.
# - 규제의 효과는 학습과 검증의 차이로 잽니다. 2.6절의 막대를 보세요.
# - 옵티마이저는 학습률을 저마다 맞춘 뒤에 견줍니다. 2.7절에서 맞춘 뒤에 남은 차이를 쟀습니다.
# - 고르는 일은 검증 데이터로 합니다. 테스트로 고르면 얼마나 속는지 2.9절이 보여 줍니다.
#
# ## 연습문제
#
# 1. `ACTIVATIONS`에 Mish(`x * tanh(softplus(x))`)와 그 도함수를 더하세요. (2.2절)
# 2. 잔차 연결 `x + f(x)`를 넣은 20층 MLP의 기울기 그래프를 2.2절의 그래프에 더하세요. (2.2절)
# 3. `GroupNorm`의 그룹을 1개로 두면 어떤 정규화와 같아집니까? 그룹이 채널 수와 같으면 어떻습니까?
#    (2.5절)
# 4. 연속 반감에서 절반 대신 3분의 1만 남기게 고치세요. (2.8절)
# 5. 셔츠일 확률이 얼마 이상이면 셔츠라고 답할지(문턱값)를 낮추어 재현율을 90 %로 만들면 정밀도는
#    얼마입니까? (2.9절)
#
# ## 더 읽을거리
#
# - H. Xiao 외, Fashion-MNIST, 2017: https://arxiv.org/abs/1708.07747
# - S. Ioffe, C. Szegedy, Batch Normalization, ICML 2015: https://arxiv.org/abs/1502.03167
# - I. Loshchilov, F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019:
#   https://arxiv.org/abs/1711.05101
# - PyTorch 공식 문서, torch.optim: https://docs.pytorch.org/docs/stable/optim.html


# %%
def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    section_multilayer_perceptron(run)
    section_activations(run)
    section_initialization(run)
    section_losses(run)
    section_normalization(run)
    section_regularization(run)
    section_optimizers(run)
    trained = section_search_and_training(run)
    section_result(run, *trained)
    section_failure_museum(run)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
