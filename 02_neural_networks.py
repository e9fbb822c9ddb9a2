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
| 기대 결과 | 테스트 정확도 90.77 ± 0.37 %, 소프트맥스 회귀 84.45 % (Fashion-MNIST 3회, 258초) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-21 |
"""

# %%
from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from utils import lesson, metrics
from utils import visualization as plot
from utils.command_line import setting
from utils.data_utils import TrainVal, iterate_batches
from utils.datasets import fashion_mnist
from utils.device import autocast
from utils.lesson import Lesson, Run, percents
from utils.metrics import evaluate, predict_logits, val_accuracy
from utils.model_utils import Optimizer, count_parameters, output_gradients, save_weights


@dataclass(frozen=True)
class Config:
    epochs: int = setting(20, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(256, "마지막 학습에서 한 번에 보는 이미지의 수", low=2)
    lr: float = setting(0.003, "2.8절에서 뽑을 학습률의 가운데 값", above=0)
    small: int = setting(6000, "작은 실험에 쓰는 학습 이미지의 수", low=2000)
    steps: int = setting(300, "작은 실험의 걸음 수", low=20)
    trials: int = setting(16, "2.8절에서 시험할 설정의 수", low=4)
    ensemble: int = setting(3, "2.9절에서 평균할 모델의 수", low=2)


QUICK = replace(Config(), epochs=3, batch_size=128, small=2000, steps=30, trials=4, ensemble=2)
chapter = Lesson(__file__, __doc__, Config(), QUICK)

# %% [markdown]
# ## 실험을 위한 준비
# 학습하는 실험은 모두 Fashion-MNIST(옷, 신발, 가방 10종의 28x28 회색조 이미지)의 일부와 짧은 반복문
# `fit`을 쓰므로, 같은 절의 값끼리 비교할 수 있지만 마지막 성적은 아닙니다. 판정은 시드 하나의
# 결과이고, 검증 이미지 2,000장(표본은 1,000장)으로 잰 정확도는 1 %p쯤 우연히 달라집니다.


# %%
class MLP(nn.Module):
    """완전연결 신경망(다층 퍼셉트론)입니다. uint8 이미지 (B, 28, 28) -> 점수 (B, 10)

    hidden은 은닉 계층의 유닛 수, norm은 배치 정규화(2.5절), dropout은 끄는 비율(2.6절)입니다.
    """

    def __init__(self, hidden: Sequence[int], activation=nn.ReLU, norm=False, dropout=0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, m in pairwise([28 * 28, *hidden]):  # (784, 첫 계층), (첫 계층, 둘째 계층), ...
            between = nn.BatchNorm1d(m) if norm else nn.Identity()
            layers += [nn.Linear(n, m), between, activation(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden[-1], 10))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1) / 127.5 - 1  # (B, 784), 0~255를 -1~1로
        return self.layers(x).float()  # (B, 10)


def small_data(run: Run) -> TrainVal:
    return run.data(fashion_mnist.load).on(run.device, run.config.small, 2000)


def make_mlp(run: Run, hidden: Sequence[int] = (128, 64), **options) -> MLP:
    torch.manual_seed(run.seed)  # 왜: 비교할 모델은 같은 난수에서 시작해야 공정함
    return MLP(hidden, **options).to(run.device)


def fit(model, data: TrainVal, steps: int, optimizer=None, criterion=F.cross_entropy) -> list:
    """무작위 묶음으로 `steps`걸음 학습시키고 걸음마다의 손실을 돌려줍니다. 기본은 Adam입니다."""
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.001)
    losses = []
    model.train()
    for _ in range(steps):
        index = torch.randint(len(data.x), (128,), device=data.x.device)
        logits = model(data.x[index])  # 1) 순전파
        loss = criterion(logits, data.y[index])  # 2) 손실
        optimizer.zero_grad()  # 3) 기울기 비우기
        loss.backward()  # 4) 역전파
        optimizer.step()  # 5) 매개변수 갱신
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


# %% [markdown]
# ## 2.1 다층 퍼셉트론: 매개변수, 깊이, 너비
# **왜 필요할까요?** 모델을 바꾸어 보기 전에 모델의 크기를 셀 줄 알아야 합니다. 크기가 다른 두
# 모델을 비교하면 무엇 때문에 달라졌는지 알 수 없습니다.
# ```text
# 완전연결 계층의 매개변수 = 입력 수 * 출력 수 + 출력 수(편향)
# 예: 784 -> 128 -> 10     784 * 128 + 128 + 128 * 10 + 10 = 101,770
# ```
# `summarize`는 **훅**(forward hook)으로 계층마다 출력의 모양과 매개변수의 수를 적습니다. 훅은
# 계층이 순전파를 마칠 때 PyTorch가 불러 주는 함수입니다.


# %%
def count_by_hand(hidden: Sequence[int]) -> int:
    """입력 784, 출력 10인 MLP의 매개변수를 식으로 셉니다."""
    return sum(n * m + m for n, m in pairwise([784, *hidden, 10]))


def summarize(model: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...], int]]:
    """계층마다 (이름, 출력의 모양, 매개변수의 수)를 모읍니다. `model`은 평가 상태가 됩니다."""
    rows = []

    def note(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        rows.append((type(layer).__name__, tuple(output.shape), count_parameters(layer)))

    lowest = [layer for layer in model.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(note) for layer in lowest]
    model.eval()(x)
    for hook in hooks:
        hook.remove()  # 주의: 떼지 않으면 다음 순전파에서도 불림
    return rows


@chapter.section("2.1", "다층 퍼셉트론: 매개변수, 깊이, 너비")
def section_multilayer_perceptron(run: Run) -> None:
    data = small_data(run)
    images, titles = fashion_mnist.sample_beside_original(run.data_dir)
    figure = plot.image_grid(images, titles, 10, "코드로 그린 표본(위)과 원본(아래, 있을 때)")
    run.figure(figure, "01_samples")
    rows = summarize(make_mlp(run, norm=True), data.x[:2])
    for name, shape, count in rows:
        print(f"  {name:12} 출력 {shape!s:10} 매개변수 {count:,}")
    expected = count_by_hand((128, 64)) + 2 * 128 + 2 * 64  # 배치 정규화는 유닛마다 둘
    run.check("요약표의 합과 손으로 센 수", sum(count for *_, count in rows), expected, atol=0)
    shapes, scores = {"1층": [150], "2층": [128] * 2, "4층": [107] * 4, "8층": [85] * 8}, {}
    for name, hidden in shapes.items():
        model = make_mlp(run, hidden)
        total = count_parameters(model)
        run.check(f"은닉 {name}, 매개변수 {total:,}개", count_by_hand(hidden), total, atol=0)
        fit(model, data, run.config.steps)
        scores[name] = val_accuracy(model, data)
    text = "매개변수 수가 비슷할 때 은닉 계층이 가장 많은 모델이 가장 정확한 것은 아닙니다"
    run.claim(text, scores, scores["8층"] < max(scores.values()))


# %% [markdown]
# **읽는 법.** 같은 수의 매개변수를 깊게 쌓으면 더 복잡한 함수를 만들 수 있지만, 학습하기도 어려워질
# 수 있습니다. 왜 어려운지가 2.2절과 2.3절의 주제입니다.
#
# **더 해 보기.** `--steps 2000 --only 2.1`로 실행하면 네 정확도의 순서가 바뀝니까?
#
# ## 2.2 활성화 함수
# **왜 필요할까요?** 활성화 함수가 없으면 계층을 아무리 쌓아도 행렬 하나를 곱한 것과 같습니다.
# 함수의 차이는 역전파에서 드러납니다. 계층마다 그 도함수가 기울기에 곱해지기 때문입니다. 도함수는
# 시그모이드가 많아야 0.25, tanh가 많아야 1, ReLU가 0 아니면 1입니다. 아래 코드가 곧 식입니다(x가
# -88쯤보다 작으면 exp가 넘쳐 기울기가 nan이 되므로, 모델에는 PyTorch의 함수를 씁니다).

# %%
sigmoid = lambda x: 1 / (1 + torch.exp(-x))
normal_cdf = lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2)))  # 표준정규분포의 누적분포
tanh = lambda x: 2 * sigmoid(2 * x) - 1
relu = lambda x: torch.where(x > 0, x, 0.0)
leaky_relu = lambda x: torch.where(x > 0, x, 0.01 * x)
gelu = lambda x: x * normal_cdf(x)
silu = lambda x: x * sigmoid(x)

sigmoid_derivative = lambda x: sigmoid(x) * (1 - sigmoid(x))
tanh_derivative = lambda x: 1 - tanh(x) ** 2
relu_derivative = lambda x: (x > 0).to(x.dtype)
leaky_relu_derivative = lambda x: torch.where(x > 0, torch.ones_like(x), 0.01)
gelu_derivative = lambda x: normal_cdf(x) + x * normal_density(x)
silu_derivative = lambda x: sigmoid(x) + x * sigmoid_derivative(x)
normal_density = lambda x: torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)  # normal_cdf의 도함수

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
    x = torch.linspace(-5, 5, 1000, dtype=torch.float64)  # 짝수 개라 꺾이는 점 0은 들지 않음
    values, slopes = {}, {}
    for name, (ours, derivative, library, _) in ACTIVATIONS.items():
        run.check_with_gradient(name, ours, library, x)
        leaf = x.clone().requires_grad_()
        library(leaf).sum().backward()
        run.check(f"{name}, 손으로 구한 도함수", derivative(x), leaf.grad, atol=1e-12)
        values[name], slopes[name] = (x, ours(x)), (x, derivative(x))
    run.figure(plot.line_figure(values, "x", "f(x)", "활성화 함수"), "02_activations")
    run.figure(plot.line_figure(slopes, "x", "f'(x)", "활성화 함수의 도함수"), "03_derivatives")
    measure_gradient_by_layer(run)
    data, dead = small_data(run), {}
    for bias in (0, -1, -3):
        linear = make_mlp(run, (256,)).layers[0]
        z = (data.x.flatten(1) / 127.5 - 1) @ linear.weight.T + bias  # (N, 256), 편향은 모두 bias
        dead[f"편향 {bias}"] = (z <= 0).all(dim=0).float().mean().item()
    text = "편향을 나쁘게(크게 음수로) 시작하면 어느 이미지에도 켜지지 않는 죽은 ReLU가 생깁니다"
    run.claim(text, dead, dead["편향 -3"] > dead["편향 0"])


def measure_gradient_by_layer(run: Run) -> None:
    """은닉 계층 20개에서 계층의 출력마다 기울기의 크기를 잽니다. 초기화는 모두 Xavier입니다."""
    data, curves = small_data(run), {}
    for name, (*_, activation) in ACTIVATIONS.items():
        model = make_mlp(run, [64] * 20, activation=activation)
        for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        norms = output_gradients(model, data.x[:256], data.y[:256])  # 계층마다 하나
        curves[name] = range(1, 21), norms[:-1]  # 마지막 것은 출력 계층
    labels = "은닉 계층(1이 입력 쪽)", "출력의 기울기", "계층을 거슬러 가는 기울기"
    run.figure(plot.line_figure(curves, *labels, log="y"), "04_gradient_by_layer")
    ratios = {name: norms[0] / norms[-1] for name, (_, norms) in curves.items()}
    text = "시그모이드에서는 입력 쪽으로 가며 기울기가 ReLU보다 더 많이 줄어듭니다"
    run.claim(text, ratios, ratios["시그모이드"] < ratios["ReLU"], unit="배")


# %% [markdown]
# **읽는 법.** 시그모이드의 도함수는 작으므로, 가중치가 그만큼 키워 주지 않으면 기울기는 계층마다
# 줄고 입력 쪽 계층은 배우기 어려워집니다. 이것이 **사라지는 기울기**(vanishing gradient)입니다. 첫
# 계층의 죽은 ReLU는 기울기가 0이고 입력도 바뀌지 않으므로 스스로 살아나지 못합니다.
#
# **더 해 보기.** 이 그래프의 초기화를 다음 절의 He로 바꾸면 ReLU의 선이 어떻게 됩니까?
#
# ## 2.3 초기화
# **왜 필요할까요?** 계층마다 값이 두 배가 되면 20층 뒤에는 백만 배가 되고, 절반이 되면 백만분의 1이
# 됩니다. 가중치의 처음 크기가 이것을 정합니다.
# ```text
# z = x @ W,  W의 칸은 평균 0, 표준편차 s     z의 제곱 평균 = n * s^2 * (x의 제곱 평균)
# ReLU는 음수인 절반을 0으로 만들므로         계층마다 n * s^2 / 2배
# n, m    들어오는 유닛의 수와 나가는 유닛의 수
# 기본값  s^2 = 1 / (3 * n)     계층마다 1/6배  (nn.Linear를 그대로 쓴 2.1절의 모델)
# Xavier  s^2 = 2 / (n + m)     계층마다 1/2배  (n = m일 때. Glorot과 Bengio 2010)
# He      s^2 = 2 / n           계층마다 1배    (He 외 2015)
# ```

# %%
DEPTH, WIDTH = 20, 256
STDS = {"너무 작게": 0.01, "너무 크게": 0.2}  # 너비 256인 계층의 가중치 표준편차
STDS |= {"Xavier": math.sqrt(1 / WIDTH), "He": math.sqrt(2 / WIDTH)}


def squares_by_layer(std: float) -> list[float]:
    """ReLU 20층을 지나며 활성화 전 값 z의 제곱 평균이 어떻게 변하는지 잽니다."""
    x, squares = torch.randn(512, WIDTH, dtype=torch.float64), []
    for _ in range(DEPTH):
        z = x @ (std * torch.randn(WIDTH, WIDTH, dtype=torch.float64))  # (512, 256)
        squares.append(z.square().mean().item())
        x = relu(z)
    return squares


@chapter.section("2.3", "초기화")
def section_initialization(run: Run) -> None:
    measured, theory, depth = {}, {}, range(1, DEPTH + 1)
    for name, std in STDS.items():
        measured[name] = depth, squares_by_layer(std)
        first, factor = WIDTH * std**2, WIDTH * std**2 / 2  # 입력의 제곱 평균은 1
        theory[name] = depth, [first * factor**layer for layer in range(DEPTH)]
    labels = "계층", "z의 제곱 평균", "초기화에 따른 값의 크기 (점선: 이론)"
    run.figure(plot.line_figure(measured, *labels, log="y", dashed=theory), "05_initialization")
    ratios = {name: values[-1] / theory[name][1][-1] for name, (_, values) in measured.items()}
    holds = all(1 / 3 < ratio < 3 for ratio in ratios.values())
    run.claim("20층 뒤의 크기는 이론의 예측과 3배 안에서 맞습니다", ratios, holds, unit="배")
    growth = {name: values[-1] / values[0] for name, (_, values) in measured.items()}
    holds = [name for name, ratio in growth.items() if 0.1 < ratio < 10] == ["He"]
    run.claim("He 초기화만 20층 뒤의 크기가 첫 층의 0.1~10배입니다", growth, holds, unit="배")
    data, model = small_data(run), make_mlp(run, (64,), activation=nn.Sigmoid)  # 왜: ReLU면 멈춤
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    fit(model, data, run.config.steps)
    weight = model.layers[0].weight.detach().cpu()  # (64, 784)
    distinct, moved = len(weight.unique(dim=0)), weight.abs().max().item()
    text = "0으로 시작한 은닉 유닛 64개는 학습한 뒤에도 모두 같습니다"
    units = f"서로 다른 유닛 {distinct}가지, 가중치는 0에서 {moved:.2g}까지 움직임"
    run.claim(text, units, distinct == 1 and moved > 0)


# %% [markdown]
# **읽는 법.** 세로축이 로그이므로 직선은 계층마다 같은 배수로 변한다는 뜻입니다. 0으로 시작하면
# 모든 유닛이 같은 값을 내고 같은 기울기를 받아 영원히 같습니다. 그래서 무작위로 시작합니다.
#
# ## 2.4 손실 함수
# **왜 필요할까요?** 무엇을 줄이는지가 무엇을 배우는지를 정합니다. 같은 모델이라도 손실이 다르면
# 배우는 속도도, 드문 클래스를 대하는 태도도 달라집니다.
# ```text
# 제곱 오차          평균(k) (p[k] - Y[k])^2              p 확률, Y 원-핫 정답
# 교차 엔트로피      -합(k) Y[k] log p[k]
# 레이블 스무딩      Y를 (1 - e) * Y + e / K로 바꾼 교차 엔트로피. 여기서는 e = 0.1
# 클래스 가중치      손실에 N / (K * N[정답])을 곱하고, 묶음에 든 가중치의 합으로 나눕니다
# ```


# %%
def label_smoothing_cross_entropy(logits: Tensor, targets: Tensor, smoothing=0.1) -> Tensor:
    """레이블 스무딩을 더한 평균 교차 엔트로피입니다. logits (B, K), targets (B,)"""
    log_p = logits - logits.logsumexp(dim=1, keepdim=True)  # (B, K)
    correct = log_p.gather(1, targets[:, None])[:, 0]  # (B,), 정답 자리의 로그 확률
    return -((1 - smoothing) * correct + smoothing * log_p.mean(dim=1)).mean()


squared_error = lambda z, y: (z.softmax(dim=1) - F.one_hot(y, z.shape[1])).square().mean()


@chapter.section("2.4", "손실 함수")
def section_losses(run: Run) -> None:
    library = partial(F.cross_entropy, label_smoothing=0.1)
    inputs = torch.randn(8, 10), torch.randint(0, 10, (8,))
    run.check_with_gradient("레이블 스무딩", label_smoothing_cross_entropy, library, *inputs)
    data, scores, confidence = small_data(run), {}, {}
    losses = {"제곱 오차": squared_error, "교차 엔트로피": F.cross_entropy}
    for name, criterion in {**losses, "레이블 스무딩": label_smoothing_cross_entropy}.items():
        model = make_mlp(run)
        fit(model, data, run.config.steps, criterion=criterion)
        scores[name] = val_accuracy(model, data)
        confidence[name] = predict_logits(model, data.x_val).softmax(1).amax(1).mean().item()
    text = "같은 걸음 수에서 교차 엔트로피가 제곱 오차보다 정확합니다"
    run.claim(text, scores, scores["교차 엔트로피"] > scores["제곱 오차"])
    text = "레이블 스무딩은 모델의 자신감(가장 큰 확률의 평균)을 낮춥니다"
    run.claim(text, confidence, confidence["레이블 스무딩"] < confidence["교차 엔트로피"])
    rare, y_val = 6, data.y_val.cpu()  # 셔츠를 20분의 1만 남김
    keep = (data.y != rare) | (torch.arange(len(data.y), device=data.y.device) % 20 == 0)
    fewer = data._replace(x=data.x[keep], y=data.y[keep])
    weight, recall, overall = len(fewer.y) / (10 * fewer.y.bincount(minlength=10)), {}, {}
    for name, chosen in {"가중치 없음": None, "가중치 있음": weight}.items():
        model = make_mlp(run)
        fit(model, fewer, run.config.steps, criterion=nn.CrossEntropyLoss(chosen))
        hit = (predict_logits(model, data.x_val).argmax(dim=1) == y_val).float()
        recall[name], overall[name] = hit[y_val == rare].mean().item(), hit.mean().item()
    text = "클래스 가중치를 주면 드문 클래스(셔츠)를 더 많이 찾습니다"
    measured = f"찾은 비율(재현율, 2.9절): {percents(recall)}. 전체 정확도: {percents(overall)}"
    run.claim(text, measured, recall["가중치 있음"] > recall["가중치 없음"])


# %% [markdown]
# **읽는 법.** 제곱 오차의 기울기에는 소프트맥스의 도함수가 곱해지므로, 자신 있게 틀린 데이터에서는
# 0에 가깝습니다. 교차 엔트로피에서는 그 도함수가 약분됩니다(1강 1.3절). 그래도 짧은 실험에서는 둘의
# 정확도가 비슷할 수 있습니다. 클래스 가중치를 준 뒤 전체 정확도가 어떻게 변했는지도 함께 보세요.
#
# ## 2.5 정규화 계층
# **왜 필요할까요?** 초기화는 출발점만 맞춥니다. 학습하는 동안에도 값의 크기를 고르게 하려고 평균을
# 빼고 표준편차로 나눕니다. 네 정규화의 가장 큰 차이는 **어느 축을 따라 평균을 내는지**입니다.
# ```text
# y = (x - 평균) / sqrt(분산 + eps) * weight + bias
#
# 입력 (N, C, L)   평균을 내는 축            평균과 분산의 단위 (C 채널, L 길이, T 자리, D 특징)
# 배치 정규화      N, L                      채널마다 하나 (묶음 전체를 봄)
# 계층 정규화      C, L. (B, T, D)라면 D     데이터마다 하나. (B, T, D)라면 자리마다 하나
# 그룹 정규화      그룹 안의 C와 L           데이터와 그룹마다 하나
# 인스턴스 정규화  L                         데이터와 채널마다 하나
#
# 배치 정규화의 역전파 (g = y의 기울기 * weight, h = 정규화한 x, 평균은 묶음 방향)
# dx = (g - 평균(g) - h * 평균(g * h)) / 표준편차     뺀 두 항: 평균과 분산도 x에 따라 변함
# ```
# 배치 정규화만 묶음의 다른 데이터를 봅니다. 그래서 학습할 때 **이동 평균**을 모아 두었다가 평가할
# 때는 그것을 씁니다. `eval()`을 잊으면 예측이 함께 든 이미지에 따라 달라집니다.


# %%
def normalize(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """`dims` 축을 따라 평균 0, 분산 1로 맞춥니다. 모양은 그대로입니다."""
    variance = x.var(dim=dims, unbiased=False, keepdim=True)
    return (x - x.mean(dim=dims, keepdim=True)) / torch.sqrt(variance + 1e-5)


class Affine(nn.Module):
    """정규화한 값에 곱하고 더할 매개변수입니다. 정규화 계층의 공통 부분입니다."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))


class BatchNorm1d(Affine):
    """배치 정규화입니다(Ioffe와 Szegedy 2015). (B, C) -> (B, C), `nn.BatchNorm1d`와 같습니다."""

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__(num_features)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            h = (x - self.running_mean) / torch.sqrt(self.running_var + 1e-5)
            return h * self.weight + self.bias
        with torch.no_grad():  # 왜: 이동 평균은 미분하지 않음
            self.running_mean += self.momentum * (x.mean(dim=0) - self.running_mean)
            # 주의: momentum은 새 값의 비율. 이동 분산에는 B - 1로, 정규화에는 B로 나눈 분산을 씀
            self.running_var += self.momentum * (x.var(dim=0) - self.running_var)
        return normalize(x, (0,)) * self.weight + self.bias


def batch_norm_input_gradient(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """출력의 기울기 (B, C)에서 입력의 기울기 (B, C)를 식으로 구합니다."""
    g, h = gradient * weight, normalize(x, (0,))
    std = torch.sqrt(x.var(dim=0, unbiased=False) + 1e-5)
    return (g - g.mean(dim=0) - h * (g * h).mean(dim=0)) / std


class LayerNorm(Affine):
    """계층 정규화입니다(Ba 외 2016). 마지막 축의 크기가 num_features입니다."""

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x, (-1,)) * self.weight + self.bias


class GroupNorm(Affine):
    """그룹 정규화입니다(Wu와 He 2018). (N, C, L) -> (N, C, L)"""

    def __init__(self, num_groups: int, num_channels: int) -> None:
        super().__init__(num_channels)
        self.num_groups = num_groups

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
    batch, x = torch.randn(16, 6) * 3 + 1, torch.randn(4, 6, 5)  # x는 (B, T, D) 또는 (N, C, L)
    pairs = {
        "배치 정규화(학습)": (BatchNorm1d(6), nn.BatchNorm1d(6), batch),
        "배치 정규화(평가)": (BatchNorm1d(6).eval(), nn.BatchNorm1d(6).eval(), batch),
        "계층 정규화": (LayerNorm(5), nn.LayerNorm(5), x),
        "그룹 정규화": (GroupNorm(3, 6), nn.GroupNorm(3, 6), x),
        "인스턴스 정규화": (InstanceNorm1d(), nn.InstanceNorm1d(6), x),
    }
    for name, modules in pairs.items():
        run.check_modules(name, *modules)
    leaf, gradient, weight = batch.clone().requires_grad_(), torch.randn(16, 6), torch.randn(6)
    F.batch_norm(leaf, None, None, weight, training=True).backward(gradient)
    by_formula = batch_norm_input_gradient(batch, gradient, weight)
    run.check("배치 정규화, 식으로 구한 입력의 기울기", by_formula, leaf.grad, atol=1e-5)
    data, model = small_data(run), make_mlp(run, norm=True)
    fit(model, data, run.config.steps)
    x, y = data.x_val[:512], data.y_val[:512]
    scores = {"eval()": evaluate(model, x, y)[1]}
    for size in (2, 32):
        forgotten = copy.deepcopy(model).train()  # 왜: 이동 평균이 더럽혀지므로 복사본을 씀
        with torch.no_grad():
            hits = [forgotten(a).argmax(1) == b for a, b in iterate_batches(x, y, size)]
        scores[f"묶음 {size}"] = torch.cat(hits).float().mean().item()
    try:
        copy.deepcopy(model).train()(x[:1])
    except ValueError as error:  # 값이 하나면 분산을 구할 수 없음
        print(f"  묶음 1이면 나는 오류: {error}")
    text = "eval()을 잊으면 작은 묶음(2)의 정확도가 큰 묶음(32)보다 낮습니다"
    run.claim(text, scores, scores["묶음 2"] < min(scores["묶음 32"], scores["eval()"]))


# %% [markdown]
# **읽는 법.** 완전연결 계층 뒤에서는 묶음이 1이면 PyTorch가 오류로 막아 주지만(합성곱 뒤에서는
# 막지 않습니다), 2부터는 오류 없이 함께 든 이미지에 따라 답이 달라집니다. 오류 없는 실수가 더
# 위험합니다. 계층 정규화는 묶음을 보지 않아 안전합니다.
#
# **더 해 보기.** 학습률을 10배로 키우면 `norm=True`와 `norm=False` 가운데 어느 쪽이 버팁니까?
#
# ## 2.6 과적합과 규제
# **왜 필요할까요?** 데이터가 적으면 모델은 규칙 대신 답을 외웁니다. 학습 정확도와 검증 정확도의
# 차이가 그 증거입니다. 이를 막는 방법이 **규제**(regularization)이고, 2.5절의 정규화와는 다릅니다.
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


def overfit(
    run: Run, size=500, dropout=0.0, make=torch.optim.Adam, decay=0.0, criterion=F.cross_entropy
) -> list[tuple[float, float]]:
    """적은 이미지로 학습시키며 (학습 정확도, 검증 정확도)를 열 번 잽니다."""
    data, model = small_data(run), make_mlp(run, (256, 128), dropout=dropout)
    few = data._replace(x=data.x[:size], y=data.y[:size])
    optimizer = make(model.parameters(), lr=0.001, weight_decay=decay)
    curve = []
    for _ in range(10):
        fit(model, few, run.config.steps // 10, optimizer, criterion)
        curve.append((evaluate(model, few.x, few.y)[1], val_accuracy(model, data)))
    return curve


@chapter.section("2.6", "과적합과 규제")
def section_regularization(run: Run) -> None:
    ours, library = Dropout(0.3), nn.Dropout(0.3)
    x = torch.full((400, 1000), 2.0, device=run.device)
    a, b = ours(x), library(x)
    run.check("드롭아웃의 값은 0과 x / (1 - p)뿐", a.unique(), b.unique(), atol=1e-6)
    run.check("0이 되는 비율", (a == 0).float().mean(), (b == 0).float().mean(), atol=0.01)
    run.check("기댓값이 지켜짐", a.mean(), x.mean(), atol=0.02)
    run.check("드롭아웃, 평가 상태", ours.eval()(x), library.eval()(x), atol=0)
    shrunk = {}
    for name, make in {"L2": torch.optim.Adam, "가중치 감쇠": torch.optim.AdamW}.items():
        w = torch.ones(2, requires_grad=True)
        optimizer = make([w], lr=0.001, weight_decay=0.5)
        for step in range(300):  # 부호가 번갈아 바뀌는 작은 기울기와 큰 기울기
            w.grad = torch.tensor([0.1, 10.0]) * (-1) ** step
            optimizer.step()
        small, large = (1 - w.detach()).tolist()
        shrunk |= {f"{name}(작은 기울기)": small, f"{name}(큰 기울기)": large}
    l2_small, l2_large, small, large = shrunk.values()
    text = "Adam에서 L2는 기울기가 큰 가중치를 덜 줄이고, 가중치 감쇠는 똑같이 줄입니다"
    run.claim(text, shrunk, l2_small - l2_large > 5 * abs(small - large))
    remedies = {
        "처방 없음": {},
        "드롭아웃": {"dropout": 0.5},
        "L2": {"decay": 0.01},
        "가중치 감쇠": {"make": torch.optim.AdamW, "decay": 1.0},  # 한 걸음에 0.1 %씩 줄임
        "레이블 스무딩": {"criterion": label_smoothing_cross_entropy},
        "데이터 4배": {"size": 2000},
    }
    curves = {name: overfit(run, **options) for name, options in remedies.items()}
    train, val = np.array(curves["처방 없음"]).T  # (10,), (10,)
    lines = {"학습": (range(1, 11), train), "검증": (range(1, 11), val)}
    labels = "진행 (전체의 10분의 1씩)", "정확도", "이미지 500장: 처방 없음"
    run.figure(plot.line_figure(lines, *labels), "06_overfitting")
    ends = {name: curve[-1] for name, curve in curves.items()}
    ends["조기 종료"] = max(curves["처방 없음"], key=lambda pair: pair[1])
    val = {name: end[1] for name, end in ends.items()}
    gaps = {name: end[0] - end[1] for name, end in ends.items()}
    bars = {"검증 정확도": val, "학습과 검증의 차이": gaps}
    run.figure(plot.bar_figure(bars, "비율", "이미지 500장에서 처방의 효과"), "07_remedies")
    text = "이미지 500장에서는 처방 가운데 '데이터 4배'가 검증 정확도를 가장 많이 올립니다"
    run.claim(text, val, max(val, key=val.get) == "데이터 4배")
    text = "드롭아웃은 학습 정확도와 검증 정확도의 차이를 줄입니다"
    run.claim(text, gaps, gaps["드롭아웃"] < gaps["처방 없음"])


# %% [markdown]
# **읽는 법.** '학습과 검증의 차이'로 외운 정도를 어림합니다. 규제로 차이가 줄어도 검증 정확도가
# 오른다는 보장은 없습니다. Adam에서 L2의 `wd * w`는 기울기와 함께 `sqrt(s)`로 나뉩니다. 그래서
# AdamW는 감쇠를 갱신에서 떼어 냅니다. 조기 종료의 값은 검증 데이터로 골라 조금 낙관적입니다.
#
# ## 2.7 옵티마이저와 학습률
# **왜 필요할까요?** 옵티마이저를 비교한 표는 많지만, 학습률을 저마다 맞추지 않은 비교는
# 옵티마이저가 아니라 학습률을 비교한 것입니다. 여기서는 옵티마이저마다 학습률을 먼저 고릅니다.
# ```text
# Nesterov   m = momentum * m + g;                 p = p - lr * (g + momentum * m)
# RMSprop    s = alpha * s + (1 - alpha) * g^2;    p = p - lr * g / (sqrt(s) + 1e-8)
# AdamW      p = p - lr * wd * p 다음에 Adam의 갱신 (Loshchilov와 Hutter 2019)
# 자르기     모든 기울기를 이은 벡터의 길이가 max_norm을 넘으면 max_norm / 길이를 곱함
# 계단        학습률을 정해진 걸음마다 0.3배로 줄임
# 코사인      학습률 = 최댓값 * (1 + cos(pi * t / T)) / 2      t 걸음, T 전체 걸음 수
# 예열        처음 몇 걸음 동안 학습률을 조금씩 올림
# 원사이클    30 %까지 최댓값 / 25에서 최댓값으로 올렸다가, 0 가까이로 내림 (둘 다 코사인)
# 범위 시험   학습률을 걸음마다 같은 배수로 키우며 손실을 봄
# ```
# 아래의 `Optimizer`는 1강 1.5절에서 만든 것입니다. `step`이 매개변수 `p`마다 기울기 `g`와 기억해 둔
# 두 텐서 `m`, `s`를 `update`에 넘깁니다.


# %%
@dataclass
class Nesterov(Optimizer):
    """한 걸음 앞을 내다보는 모멘텀입니다. `torch.optim.SGD(nesterov=True)`와 같습니다."""

    momentum: float = 0.9

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        m.mul_(self.momentum).add_(g)
        p -= self.lr * (g + self.momentum * m)


@dataclass
class RMSprop(Optimizer):
    """RMSprop입니다(Hinton의 강의, 2012). `torch.optim.RMSprop`과 같습니다."""

    alpha: float = 0.99

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        s.mul_(self.alpha).add_((1 - self.alpha) * g**2)
        p -= self.lr * g / (s.sqrt() + 1e-8)


@dataclass
class AdamW(Optimizer):
    """가중치 감쇠를 분리한 Adam입니다. `torch.optim.AdamW`와 같습니다."""

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        beta1, beta2 = self.betas
        p *= 1 - self.lr * self.weight_decay
        m.mul_(beta1).add_((1 - beta1) * g)
        s.mul_(beta2).add_((1 - beta2) * g**2)
        mean, square = m / (1 - beta1**self.time), s / (1 - beta2**self.time)
        p -= self.lr * mean / (square.sqrt() + 1e-8)


OPTIMIZERS = {  # 이름: (직접 만든 것, PyTorch의 것, 시험할 학습률의 가운데)
    "SGD": (None, torch.optim.SGD, 0.1),
    "모멘텀": (None, partial(torch.optim.SGD, momentum=0.9), 0.01),
    "Nesterov": (Nesterov, partial(torch.optim.SGD, momentum=0.9, nesterov=True), 0.01),
    "RMSprop": (RMSprop, torch.optim.RMSprop, 0.001),
    "Adam": (None, torch.optim.Adam, 0.001),
    "AdamW": (AdamW, torch.optim.AdamW, 0.001),
}


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """모든 기울기를 한 벡터로 본 길이가 `max_norm`을 넘지 않게 줄이고, 줄이기 전 길이를 줍니다."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = torch.sqrt(sum(g.square().sum() for g in gradients))
    for g in gradients:
        g *= (max_norm / (length + 1e-6)).clamp(max=1.0)
    return length


def learning_rate_range_test(model: nn.Module, data: TrainVal, rates: list[float]) -> list[float]:
    """학습률을 걸음마다 바꾸며 손실을 적습니다(Smith 2017, 3.3절. 논문은 정확도를 봄)."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=rates[0], momentum=0.9), []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        losses += fit(model, data, 1, optimizer)
    return losses


@chapter.section("2.7", "옵티마이저와 학습률")
def section_optimizers(run: Run) -> None:
    data = small_data(run)
    for name, (ours, library, _) in OPTIMIZERS.items():
        if ours:
            run.check_optimizer(name, partial(ours, lr=0.02), partial(library, lr=0.02))
    ours, library = (list(make_mlp(run).parameters()) for _ in range(2))
    for p in (*ours, *library):
        p.square().sum().backward()
    lengths = clip_grad_norm(ours, 1.0), nn.utils.clip_grad_norm_(library, 1.0)
    run.check("기울기 자르기, 자르기 전 길이", *lengths, atol=1e-4)
    clipped = (torch.cat([p.grad.flatten() for p in group]) for group in (ours, library))
    run.check("기울기 자르기, 자른 기울기", *clipped, atol=1e-6)
    curves, best = {}, {}
    for name, (_, make, middle) in OPTIMIZERS.items():  # 학습률을 저마다 맞추어 비교
        rates, scores = [middle * factor for factor in (0.1, 0.4, 1.6, 6.4)], []
        for rate in rates:
            model = make_mlp(run)
            fit(model, data, run.config.steps, make(model.parameters(), lr=rate))
            scores.append(val_accuracy(model, data))
        curves[name], best[name] = (rates, scores), max(scores)
    figure = plot.line_figure(curves, "학습률", "검증 정확도", "옵티마이저와 학습률", log="x")
    run.figure(figure, "08_optimizers")
    text = "학습률을 저마다 맞추면 옵티마이저의 차이는 5 %p보다 작습니다"
    run.claim(text, best, max(best.values()) - min(best.values()) < 0.05)
    rates = np.geomspace(1e-4, 10, 100).tolist()  # 같은 배수로 커지는 100개
    losses = learning_rate_range_test(make_mlp(run), data, rates)
    curve = {"손실": (rates, np.minimum(losses, 5))}
    figure = plot.line_figure(curve, "학습률", "손실", "학습률 범위 시험", log="x")
    run.figure(figure, "09_range_test")
    lowest = rates[int(np.nanargmin(losses))]
    print(f"  모멘텀 SGD의 손실이 가장 작은 학습률 {lowest:.2g}. 그 10분의 1부터 시험해 보세요.")
    compare_schedules(run, data)


def compare_schedules(run: Run, data: TrainVal) -> None:
    """같은 걸음 수에서, 일정마다 학습률의 최댓값 셋을 시험해 가장 좋은 것끼리 비교합니다."""
    steps, curves, losses = run.config.steps, {}, {}
    schedules = {
        "일정하게": lambda o, top: lr_scheduler.ConstantLR(o, factor=1.0),
        "계단": lambda o, top: lr_scheduler.StepLR(o, steps // 3, gamma=0.3),
        "코사인": lambda o, top: lr_scheduler.CosineAnnealingLR(o, steps),
        "예열": lambda o, top: lr_scheduler.LinearLR(o, 0.05, total_iters=steps // 10),
        "원사이클": lambda o, top: lr_scheduler.OneCycleLR(o, top, steps, cycle_momentum=False),
    }
    for name, make in schedules.items():
        ends = []
        for top in (0.001, 0.003, 0.01):
            model, rates = make_mlp(run), []
            optimizer = torch.optim.Adam(model.parameters(), lr=top)
            scheduler = make(optimizer, top)
            for _ in range(steps):
                rates.append(optimizer.param_groups[0]["lr"])
                fit(model, data, 1, optimizer)
                scheduler.step()
            ends.append(evaluate(model, data.x_val, data.y_val)[0])
        curves[name], losses[name] = (range(steps), rates), min(ends)
    run.figure(plot.line_figure(curves, "걸음", "학습률", "학습률 일정"), "10_schedules")
    text = "최댓값을 저마다 맞추어도 코사인의 검증 손실이 '일정하게'보다 작습니다"
    run.claim(text, losses, losses["코사인"] < losses["일정하게"], unit="")


# %% [markdown]
# **읽는 법.** 옵티마이저 그림에서 봉우리의 높이보다 자리를 보세요. 기본 학습률을 그대로 옮겨 쓰면
# 봉우리에서 멀어질 수 있습니다. 학습률이 크면 빨리 가지만 바닥 근처에서 흔들립니다. 그 흔들림을
# 끝에서 가라앉히려는 것이 학습률 일정이고, 효과는 판정의 값으로 봅니다.
#
# ## 2.8 하이퍼파라미터 탐색과 마지막 학습
# **왜 필요할까요?** 학습률, 드롭아웃, 너비처럼 학습이 정해 주지 않는 값을 **하이퍼파라미터**라고
# 합니다. 무작위로 뽑아 시험하고, 가망 없는 것을 일찍 그만두면 예산을 아낄 수 있습니다.
# ```text
# 무작위 탐색    설정 n개를 무작위로 뽑아 똑같이 b걸음씩 학습. 예산은 걸음 수의 합
# 연속 반감      하나가 남을 때까지, 나은 절반만 남겨 두 배 더 학습 (Jamieson과 Talwalkar 2016)
# ```
# 고르는 데에는 검증 데이터만 씁니다. 두 방법의 답 가운데 검증 정확도가 높은 쪽을 택해(더 오래
# 학습한 연속 반감이 유리합니다), 학습 데이터 전체로 처음부터 학습시킵니다.


# %%
def sample_trial(rng: np.random.Generator, lr: float) -> dict[str, float]:
    """하이퍼파라미터 한 벌을 뽑습니다. 학습률과 가중치 감쇠는 로그 눈금에서 고르게 뽑습니다."""
    rates = {"lr": lr * 10 ** rng.uniform(-0.5, 0.5), "weight_decay": 10 ** rng.uniform(-3, -0.5)}
    return {**rates, "dropout": rng.uniform(0, 0.4), "width": int(rng.choice([512, 640, 768]))}


class Candidate:
    """하이퍼파라미터 한 벌로 만든 모델입니다. `advance`를 부를 때마다 이어서 더 학습합니다."""

    def __init__(self, run: Run, trial: dict[str, float], seed: int) -> None:
        torch.manual_seed(seed)
        width, dropout, decay = trial["width"], trial["dropout"], trial["weight_decay"]
        model = MLP((width, width // 2), nn.GELU, norm=True, dropout=dropout).to(run.device)
        self.optimizer = torch.optim.AdamW(model.parameters(), trial["lr"], weight_decay=decay)
        self.trial, self.model, self.data = trial, model, small_data(run)

    def advance(self, steps: int) -> float:
        fit(self.model, self.data, steps, self.optimizer)
        return val_accuracy(self.model, self.data)


def successive_halving(candidates: Sequence, budget: int) -> tuple[object, float, int]:
    """가장 나은 후보, 그 점수, 모두 합해 쓴 예산을 돌려줍니다.

    후보의 `advance(budget)`은 budget만큼 더 학습하고 점수를 냅니다. 예산은 라운드마다 두 배입니다.
    """
    alive, spent = list(candidates), 0
    while True:
        scores = {candidate: candidate.advance(budget) for candidate in alive}
        spent += budget * len(alive)
        alive = sorted(alive, key=scores.get, reverse=True)[: max(1, len(alive) // 2)]
        if len(alive) == 1:
            return alive[0], scores[alive[0]], spent
        budget *= 2


@chapter.section("2.8", "하이퍼파라미터 탐색과 마지막 학습")
def section_search_and_training(run: Run) -> tuple[dict, MLP, list[MLP]]:
    rng, steps = np.random.default_rng(run.seed), run.config.steps
    trials = [sample_trial(rng, run.config.lr) for _ in range(run.config.trials)]
    start = lambda: [Candidate(run, trial, run.seed) for trial in trials]
    winner, score, budget = successive_halving(start(), max(5, steps // 5))
    candidates = start()
    scores = [candidate.advance(budget // len(trials)) for candidate in candidates]
    run.figure(plot.importance_figure(trials, scores), "11_importance")
    text = "같은 예산을 쓰면 연속 반감이 무작위 탐색보다 높은 검증 정확도에 이릅니다"
    measured = {"연속 반감": score, "무작위 탐색": max(scores)}
    run.claim(text, measured, score > max(scores))
    trial = winner.trial if score > max(scores) else trials[int(np.argmax(scores))]
    print("  고른 설정: " + ", ".join(f"{name} {value:.3g}" for name, value in trial.items()))
    model, history = train(run, trial, run.seed, "checkpoint.pt")
    run.figure(plot.learning_curves(history), "12_learning_curves")
    save_weights(run.path("model.pt"), model)
    return trial, model, [candidate.model for candidate in candidates]


def train(run: Run, trial: dict, seed: int, name: str) -> tuple[MLP, list[dict[str, float]]]:
    """전체 데이터로 학습시키고 에폭마다의 기록을 돌려줍니다. 에폭이 끝날 때마다 저장합니다."""
    config, device, data = run.config, run.device, run.data(fashion_mnist.load).on(run.device)
    candidate = Candidate(run, trial, seed)
    model, optimizer = candidate.model, candidate.optimizer
    steps = max(1, len(data.x) // config.batch_size)
    total = config.epochs * steps
    scheduler = lr_scheduler.OneCycleLR(optimizer, trial["lr"], total, cycle_momentum=False)
    checkpoint = run.checkpoint(model, optimizer, scheduler, name=name, chosen=trial)
    for _ in range(len(checkpoint.history), config.epochs):
        model.train()
        batches = iterate_batches(data.x, data.y, config.batch_size, shuffle=True, drop_last=True)
        for images, labels in tqdm(batches, total=steps, leave=False, disable=None):
            with autocast(device, run.dtype):
                logits = model(images)  # 1) 순전파
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
        run.end_epoch(checkpoint, metrics.epoch_scores(model, data, run.dtype))
    return model, checkpoint.history


# %% [markdown]
# **읽는 법.** 두 정확도의 차이에는 설정의 차이와 학습량의 차이가 섞여 있습니다. 탐색은 적은
# 이미지와 일정한 학습률로 했으니, 고른 설정이 마지막 학습에서도 가장 좋다는 보장은 없습니다.
# 중요도는 결정 나무 여럿을 평균하는 랜덤 포레스트로 어림한 값이라 실행마다 흔들립니다.
#
# ## 2.9 결과 읽기
# **왜 필요할까요?** 정확도 하나로는 무엇을 틀리는지 알 수 없습니다. 클래스마다 **정밀도**(그렇다고
# 답한 것 가운데 맞은 비율)와 **재현율**(실제로 그런 것 가운데 찾은 비율)을 봅니다.
# ```text
# 혼동 행렬 M[i, j] = 정답이 i일 때 j라고 답한 횟수
# 정밀도[k] = M[k, k] / 열 k의 합      재현율[k] = M[k, k] / 행 k의 합
# F1[k] = 2 * 정밀도 * 재현율 / (정밀도 + 재현율)
# ```
# 기준선은 셋입니다. 가장 많은 클래스만 답하기, 픽셀의 소프트맥스 회귀, 그리고 공식 저장소의 표에
# 적힌 사람의 성적 83.5 %입니다(비전문가 셋이 단 답의 다수결, 테스트 이미지 1,000장).
# **앙상블**은 설정이 같고 시드만 다른 모델들의 확률을 평균해 답하는 방법입니다.


# %%
def precision_recall_f1(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """혼동 행렬 (K, K)에서 클래스마다의 정밀도, 재현율, F1 (K,)을 구합니다. 0/0은 0으로 봅니다."""
    correct = matrix.diagonal().double()
    precision = correct / matrix.sum(dim=0).clamp(min=1)
    recall = correct / matrix.sum(dim=1).clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return precision, recall, f1


@chapter.section("2.9", "결과 읽기", needs=("2.8",))
def section_result(run: Run, trained: tuple[dict, MLP, list[MLP]]) -> None:
    trial, model, candidates = trained
    models = [model]
    for number in range(2, run.config.ensemble + 1):
        print(f"  앙상블의 {number}번째 모델")
        models += [train(run, trial, run.seed + 1000 * number, f"checkpoint_{number}.pt")[0]]
    data = run.data(fashion_mnist.load)
    x_test, y_test = data.take_test()
    for name, accuracy in metrics.pixel_floors(data, x_test, y_test).items():
        run.floor(name, accuracy)
    if data.provenance.source == "original":
        run.floor("사람(발표된 값)", 0.835)  # 출처: github.com/zalandoresearch/fashion-mnist
    probabilities = [predict_logits(m, x_test, run.dtype).softmax(dim=1) for m in models]
    members = [(p.argmax(dim=1) == y_test).float().mean().item() for p in probabilities]
    together = (sum(probabilities).argmax(dim=1) == y_test).float().mean().item()
    run.result("테스트 정확도", members[0], beats="소프트맥스 회귀")
    run.result("앙상블의 테스트 정확도", together, beats="소프트맥스 회귀")
    measured = {"앙상블": together, "모델 하나의 평균": np.mean(members)}
    text = "확률을 평균한 앙상블은 모델 하나보다 정확합니다"
    run.claim(text, measured, together > np.mean(members))
    predictions = probabilities[0].argmax(dim=1)
    matrix = metrics.confusion_matrix(y_test, predictions, 10)
    scores, names = precision_recall_f1(matrix), data.class_names
    library = precision_recall_fscore_support(y_test, predictions, zero_division=0)[:3]
    run.check("정밀도, 재현율, F1", torch.stack(scores), np.stack(library), atol=1e-9)
    print(metrics.class_table(names, ("정밀도", "재현율", "F1"), scores))
    run.figure(plot.confusion_matrix_figure(matrix.numpy(), names), "13_confusion_matrix")
    run.figure(plot.hardest_pair_figure(x_test, y_test, predictions, names), "14_hardest_pair")
    warn_about_selecting_on_test(run, candidates, x_test, y_test)


def warn_about_selecting_on_test(run: Run, models: list[MLP], x: Tensor, y: Tensor) -> None:
    """테스트 500장으로 가장 좋은 후보를 골랐을 때, 그 500장과 나머지에서의 정확도를 비교합니다."""
    hits = torch.stack([predict_logits(model, x).argmax(dim=1) == y for model in models]).float()
    gaps = []
    for _ in range(200):
        order = torch.randperm(len(y))
        seen, unseen = hits[:, order[:500]].mean(dim=1), hits[:, order[500:]].mean(dim=1)
        gaps.append((seen.max() - unseen[seen.argmax()]).item())
    text = "테스트를 보고 고르면, 고를 때 본 정확도가 보지 않은 데이터의 정확도보다 높습니다"
    measured = f"후보 {len(hits)}개, 무작위 나눔 200번의 평균 차이 {100 * np.mean(gaps):+.2f} %p"
    run.claim(text, measured, np.mean(gaps) > 0)


# %% [markdown]
# **읽는 법.** 가장 헷갈리는 짝을 그림에서 확인하세요. 마지막 판정의 차이는 모델이 좋아져서가 아니라
# 테스트로 골랐기 때문에 생겼습니다. 이 실험은 경고일 뿐이며, 위의 성적은 그 전에 정해졌습니다.
#
# ## 2.10 고장 박물관
# **왜 필요할까요?** 오류가 나지 않는 실수가 가장 오래 갑니다. 곡선의 모양을 눈에 익혀 두세요.
#
# | 고장 | 흔한 증상 | 고치기 |
# |---|---|---|
# | 기울기를 비우지 않음 | 손실이 흔들리며 커집니다 | `optimizer.zero_grad()` |
# | `cross_entropy` 앞에 소프트맥스 | 내려가다 높은 곳에서 멈춥니다 | 점수를 그대로 넣습니다 |
# | 학습률 100배 | 처음부터 튀거나 한 값에 붙습니다 | 범위 시험으로 고릅니다 |
# | 섞지 않은 묶음 | 마지막에 본 클래스만 답합니다 | `shuffle=True` |
# | 정답이 하나씩 밀림 | 손실은 내려가는데 정확도가 0에 가깝습니다 | 데이터를 눈으로 봅니다 |


# %%
def broken_fit(run: Run, fault: str) -> tuple[np.ndarray, float]:
    """`fault`라는 실수를 저지르며 학습시킵니다. 걸음마다의 손실과 검증 정확도를 돌려줍니다."""
    data, steps, criterion = small_data(run), run.config.steps, F.cross_entropy
    model = make_mlp(run)
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0 if fault == "학습률 100배" else 0.05)
    parts = [data]
    if fault == "기울기를 비우지 않음":
        optimizer.zero_grad = lambda: None  # 비우기가 아무 일도 하지 않게 바꿈
    elif fault == "소프트맥스 두 번":
        criterion = lambda z, y: F.cross_entropy(z.softmax(dim=1), y)
    elif fault == "정답이 하나씩 밀림":
        parts = [data._replace(y=(data.y + 1) % 10)]
    elif fault == "섞지 않은 묶음":
        order = data.y.argsort(stable=True).tensor_split(min(steps, len(data.y)))  # 클래스 순서대로
        parts = [data._replace(x=data.x[part], y=data.y[part]) for part in order]
    losses = [fit(model, part, steps // len(parts), optimizer, criterion) for part in parts]
    return np.concatenate(losses), val_accuracy(model, data)


@chapter.section("2.10", "고장 박물관")
def section_failure_museum(run: Run) -> None:
    figure, axes = plot.new_figure(2, 3, width=3.6, height=2.8)
    faults, scores = ["정상", "기울기를 비우지 않음", "소프트맥스 두 번", "학습률 100배"], {}
    faults += ["섞지 않은 묶음", "정답이 하나씩 밀림"]
    for ax, fault in zip(axes.flat, faults, strict=True):
        losses, scores[fault] = broken_fit(run, fault)
        ax.plot(np.clip(losses, 0, 6))
        ax.set(title=f"{fault}\n검증 {100 * scores[fault]:.1f} %", xlabel="걸음", ylabel="손실")
    run.figure(figure, "15_failure_museum")
    text = "다섯 가지 고장 모두 오류 없이 끝까지 실행되면서 정상보다 정확도가 낮습니다"
    run.claim(text, scores, all(scores[fault] < scores["정상"] for fault in faults[1:]))


# %% [markdown]
# **읽는 법.** 학습 손실 곡선만 보아서는 '정답이 하나씩 밀림'을 알 수 없습니다. 검증 데이터의
# 정답까지 똑같이 밀렸다면 정확도로도 알 수 없고, 이미지와 정답을 눈으로 보아야 합니다.
#
# ## 정리
# - 역전파에서는 계층마다 활성화 함수의 도함수와 가중치가 곱해집니다. 2.2절의 그래프를 보세요.
# - 옵티마이저는 학습률을 저마다 맞춘 뒤에 비교합니다. 2.7절에서 맞춘 뒤에 남은 차이를 쟀습니다.
# - 고르는 일은 검증 데이터로 합니다. 테스트로 고르면 얼마나 속는지 2.9절이 보여 줍니다.
#
# ## 연습문제
# 1. `ACTIVATIONS`에 Mish(`x * tanh(softplus(x))`)와 그 도함수를 더하세요. (2.2절)
# 2. 잔차 연결 `x + f(x)`를 넣은 20층 MLP의 기울기 그래프를 2.2절의 그래프에 더하세요. (2.2절)
# 3. `GroupNorm`의 그룹이 하나이면, 또 채널 수와 같으면 어떤 정규화가 됩니까? (2.5절)
# 4. 셔츠의 재현율이 90 %가 되는 확률의 문턱을 검증 데이터로 고르면 정밀도는 얼마입니까? (2.9절)
#
# ## 더 읽을거리
# - H. Xiao 외, Fashion-MNIST, 2017: https://arxiv.org/abs/1708.07747
# - S. Ioffe, C. Szegedy, Batch Normalization, ICML 2015: https://arxiv.org/abs/1502.03167
# - I. Loshchilov, F. Hutter, AdamW, ICLR 2019: https://arxiv.org/abs/1711.05101
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
    section_result(run, trained)
    section_failure_museum(run)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
