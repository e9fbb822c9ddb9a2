# %% [markdown]
"""
# 3강. 합성곱 신경망으로 이미지 분류하기

| 항목 | 내용 |
|---|---|
| 배우는 것 | 합성곱을 손으로 구현해 `F.conv2d`와 비교하고, CNN을 학습시켜 속을 들여다봅니다 |
| 먼저 볼 것 | 1강 1.7절(학습 반복문), 2강 2.5절(배치 정규화), 2.7절(학습률 일정) |
| 데이터 | CIFAR-10 (약 170 MB, 처음 한 번 내려받음). 네트워크가 없으면 코드로 그린 장면 |
| 실행 | `python 03_cnn_image_classification.py` |
| 빠른 확인 | `python 03_cnn_image_classification.py --quick` |
| 기대 결과 | 테스트 정확도 91.16 ± 0.06 %, MLP 55.64 % (CIFAR-10 3회, 12분) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-21 |
"""

# %%
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from tqdm import tqdm

from utils import lesson, metrics, model_utils
from utils import visualization as plot
from utils.command_line import option, setting
from utils.data_utils import TrainVal, center_square, plain_loader, read_image
from utils.datasets import cifar10
from utils.datasets.scenes import draw_scenes
from utils.device import autocast, median_seconds, reuse_memory
from utils.lesson import Lesson, Run, percents
from utils.metrics import evaluate, predict_logits, val_accuracy
from utils.model_utils import count_parameters, load_weights, read_about, save_weights


@dataclass(frozen=True)
class Config:
    epochs: int = setting(12, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(512, "한 번에 보는 사진의 수 (실험은 4분의 1)", low=8)
    lr: float = setting(0.4, "학습률의 최댓값 (512장 기준, 묶음 크기에 비례)", above=0)
    width: int = setting(64, "CifarNet의 너비", low=4)
    small: int = setting(8000, "작은 실험에 쓰는 학습 사진의 수", low=1000)
    steps: int = setting(150, "작은 실험의 걸음 수", low=10)
    dataset: str = setting("cifar10", "3.8절과 3.9절의 데이터셋", choices=("cifar10", "cifar100"))
    predict: str = option("", "이 사진을 분류하고 끝냅니다")
    pretrained: str = option("", "torchvision의 ResNet-18 가중치 파일 (3.10절)")


QUICK = replace(Config(), epochs=3, batch_size=96, lr=2.0, width=16, small=2000, steps=20)
GPU = replace(Config(), epochs=30, width=128)
chapter = Lesson(__file__, __doc__, Config(), QUICK, gpu=GPU)

# %% [markdown]
# ## 실험을 위한 준비
# 사진은 uint8 (B, 32, 32, 3)으로 메모리에 둡니다. PyTorch의 합성곱은 (B, 3, 32, 32)를 받으므로
# `Pixels`가 모양과 값의 범위를 바꿉니다. 작은 실험은 아래의 짧은 반복문 `fit`을 쓰고, 따로 적지
# 않으면 걸음 수와 학습률이 같습니다. 판정은 시드 하나의 결과이고, 1 %p쯤은 우연입니다.


# %%
class Pixels(nn.Module):
    """사진 (B, H, W, 3), 0~255를 합성곱의 입력 (B, 3, H, W), -2~2로 바꿉니다."""

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2) / 64 - 2  # 메모리에는 여전히 픽셀마다 채널이 붙어 있음


def load(run: Run):
    return run.data(cifar10.load if run.config.dataset == "cifar10" else cifar10.load_cifar100)


def small_data(run: Run) -> TrainVal:
    return run.data(cifar10.load).on(run.device, run.config.small, run.config.small // 4)


def make(run: Run, build: Callable[..., nn.Module], *args, **options) -> nn.Sequential:
    """사진을 받는 모델을 만듭니다. 비교할 모델은 모두 같은 난수에서 시작합니다."""
    torch.manual_seed(run.seed)
    model = nn.Sequential(Pixels(), build(*args, **options))
    return model.to(run.device, memory_format=torch.channels_last)


def fit(run: Run, model, data: TrainVal, steps: int, lr=0.005, augment=None) -> list[float]:
    """AdamW와 원사이클로 `steps`걸음 학습시키고 걸음마다의 손실을 돌려줍니다."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, fused=True)  # fused: 한꺼번에 갱신함
    scheduler, losses = OneCycleLR(optimizer, lr, steps, cycle_momentum=False), []
    model.train()
    for _ in range(steps):
        index = torch.randint(len(data.x), (run.config.batch_size // 4,), device=data.x.device)
        images, labels = data.x[index], data.y[index]
        with autocast(run.device, run.dtype):
            logits = model(augment(images) if augment else images)  # 1) 순전파
        loss = F.cross_entropy(logits.float(), labels)  # 2) 손실
        optimizer.zero_grad()  # 3) 기울기 비우기
        loss.backward()  # 4) 역전파
        optimizer.step()  # 5) 매개변수 갱신
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


# %% [markdown]
# ## 3.1 합성곱
# **왜 필요할까요?** 이미지에서 이웃한 픽셀은 서로 관련이 크고, 같은 무늬는 어디에나 나타납니다.
# **합성곱**(convolution)은 작은 창 하나를 옮겨 가며 같은 가중치를 곱해 이 두 사실을 씁니다.
# ```text
# y[b, o, i, j] = bias[o] + 합(c, u, v) weight[o, c, u, v] * x[b, c, S*i + D*u - P, S*j + D*v - P]
#
# x      (B, C, H, W)      입력. C 채널(빨강, 초록, 파랑)   S 스트라이드(창을 옮기는 간격)
# weight (O, C/G, K, K)    커널(창의 가중치). O 출력 채널   P 패딩(둘레에 더한 0), K 커널의 한 변
# y      (B, O, H', W')    H' = (H + 2P - D*(K-1) - 1) // S + 1       D 팽창(창 안의 간격), G 그룹
# 매개변수 O * (C/G * K * K + 1)       곱셈 O * C/G * K * K * H' * W'
# ```
# 반복문으로 적은 뒤, 창을 모두 펼쳐 행렬곱 한 번으로 바꿉니다(im2col). 기울기도 합성곱입니다. y[i]
# = 합(u) w[u] x[i+u]이면 dx[k] = 합(u) w[u] dy[k-u](뒤집은 커널), dw[u] = 합(i) x[i+u] dy[i]입니다.
# 스트라이드가 S이면 dx는 dy 사이에 0을 끼워서, dw는 dy를 S칸씩 띄워서 구합니다.


# %%
def conv2d_by_loops(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """반복문으로 적은 합성곱입니다. x (C, H, W), weight (O, C, K, K) -> (O, H', W')"""
    O, C, K, _ = weight.shape
    y = np.zeros((O, x.shape[1] - K + 1, x.shape[2] - K + 1))
    for o, i, j in np.ndindex(*y.shape):
        for c, u, v in np.ndindex(C, K, K):
            y[o, i, j] += weight[o, c, u, v] * x[c, i + u, j + v]
    return y


def conv_output_size(size: int, kernel: int, stride=1, padding=0, dilation=1) -> int:
    """입력의 한 변이 `size`일 때 출력의 한 변입니다."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def unfold(x: Tensor, kernel: int, stride=1, padding=0, dilation=1, value=0.0) -> Tensor:
    """창을 모두 펼칩니다(im2col). (B, C, H, W) -> (B, C, K, K, H', W')"""
    sizes = [conv_output_size(size, kernel, stride, padding, dilation) for size in x.shape[2:]]
    x = F.pad(x, (padding,) * 4, value=value)
    inside = dilation * torch.arange(kernel, device=x.device)
    rows, columns = (inside[:, None] + stride * torch.arange(n, device=x.device) for n in sizes)
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]]


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """합성곱입니다. 인자의 뜻과 모양은 `F.conv2d`와 같고 커널은 정사각형입니다."""
    windows = unfold(x, weight.shape[-1], stride, padding, dilation)  # (B, C, K, K, H', W')
    columns = windows.flatten(4).unflatten(1, (groups, -1)).flatten(2, 4)  # (B, G, C/G*K*K, H'*W')
    matrix = weight.reshape(groups, len(weight) // groups, -1)  # (G, O/G, C/G*K*K)
    y = (matrix @ columns).reshape(len(x), len(weight), *windows.shape[-2:])  # (B, O, H', W')
    return y if bias is None else y + bias[:, None, None]


def conv2d_input_gradient(size: int, weight, gradient, stride=1, padding=0) -> Tensor:
    """출력의 기울기 (B, O, H', W')에서 한 변이 `size`인 입력의 기울기 (B, C, H, W)를 구합니다."""
    (B, O, H, W), K = gradient.shape, weight.shape[-1]
    spread = gradient.new_zeros(B, O, (H - 1) * stride + 1, (W - 1) * stride + 1)
    spread[:, :, ::stride, ::stride] = gradient  # 스트라이드만큼 사이에 0을 끼움
    full = conv2d(spread, weight.flip(2, 3).transpose(0, 1), padding=K - 1)
    rest = size + 2 * padding - full.shape[-1]  # 어느 창에도 들지 않은 끝
    return F.pad(full, (0, rest, 0, rest))[:, :, padding:, padding:][:, :, :size, :size]


def conv2d_weight_gradient(x, gradient, kernel: int, stride=1, padding=0) -> Tensor:
    """출력의 기울기 (B, O, H', W')에서 커널의 기울기 (O, C, K, K)를 구합니다."""
    x, gradient = x.transpose(0, 1), gradient.transpose(0, 1)  # 묶음과 채널의 자리를 바꿈
    y = conv2d(x, gradient, padding=padding, dilation=stride)  # (C, O, K 이상, K 이상)
    return y[:, :, :kernel, :kernel].transpose(0, 1)


KERNELS = {
    "흐리게": torch.full((3, 3), 1 / 9),
    "세로 경계": torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "가로 경계": torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "또렷하게": torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
}


@chapter.section("3.1", "합성곱")
def section_convolution(run: Run) -> None:
    x, weight, bias = torch.randn(2, 4, 9, 9), torch.randn(6, 4, 3, 3), torch.randn(6)
    by_loops = conv2d_by_loops(x[0].double().numpy(), weight.double().numpy())
    run.check("반복문과 행렬곱", by_loops, conv2d(x.double(), weight.double())[0], atol=1e-9)
    names = ("입력의 기울기", "커널의 기울기", "편향의 기울기")
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}):
        kernel = weight[:, : 4 // options.get("groups", 1)]
        pair = partial(conv2d, **options), partial(F.conv2d, **options)
        run.check_with_gradient(f"합성곱 {options}", *pair, x, kernel, bias, input_names=names)
    for stride, padding in ((1, 0), (2, 1), (3, 2)):
        x, weight = (t.detach().double().requires_grad_() for t in (x, weight))
        y = F.conv2d(x, weight, stride=stride, padding=padding)
        gradient = torch.randn_like(y)
        y.backward(gradient)
        by_hand = conv2d_input_gradient(9, weight, gradient, stride, padding)
        run.check(f"식으로 구한 입력의 기울기 (S={stride})", by_hand, x.grad, atol=1e-9)
        by_hand = conv2d_weight_gradient(x, gradient, 3, stride, padding)
        run.check(f"식으로 구한 커널의 기울기 (S={stride})", by_hand, weight.grad, atol=1e-9)
    cases = list(product((9, 12), (3, 5), (1, 2), (0, 2), (1, 2)))  # 크기, K, S, P, D
    x, ours = torch.zeros(1, 1, 12, 12), [conv_output_size(*case) for case in cases]
    kernels = {k: torch.zeros(1, 1, k, k) for k in (3, 5)}
    sizes = [F.conv2d(x[..., :n], kernels[k], None, *more).shape[3] for n, k, *more in cases]
    run.check(f"출력 크기의 식, {len(cases)}가지", ours, sizes, atol=0)
    layer = nn.Conv2d(3, 16, 3, padding=1)
    run.check("매개변수의 수", 16 * (3 * 3 * 3 + 1), count_parameters(layer), atol=0)
    counted = model_utils.count_multiplications(layer, torch.zeros(1, 3, 32, 32))
    run.check("곱셈의 수", 16 * 3 * 3 * 3 * 32 * 32, counted, atol=0)
    photos = run.data(cifar10.load).x_train[:3]
    maps = conv2d(photos.float().mean(dim=3)[:, None], torch.stack([*KERNELS.values()])[:, None])
    images = [image.numpy() for k in range(3) for image in (photos[k], *maps[k])]
    figure = plot.image_grid(images, ["원본", *KERNELS] * 3, 5, "손으로 정한 커널")
    run.figure(figure, "01_kernels")


# %% [markdown]
# **읽는 법.** 오차가 정확히 0이 아닌 까닭은 더하는 순서가 달라 반올림이 다르기 때문입니다. 합성곱의
# 매개변수는 사진의 크기와 상관없습니다. CNN은 이런 커널을 데이터에서 배웁니다.
#
# ## 3.2 풀링과 이동
# **왜 필요할까요?** 물체가 한 픽셀 옮겨 가도 같은 물체입니다. **풀링**(pooling)은 창 안의 값을
# 하나로 줄여 작은 이동을 무시하고, 뒤 계층의 계산도 줄입니다.
# ```text
# 최대 풀링    y = 창 안의 최댓값      기울기는 최댓값의 자리에만 갑니다
# 평균 풀링    y = 창 안의 평균        기울기는 K * K로 나뉘어 고르게 갑니다. 전역 풀링은 창이 전체
# ```


# %%
def max_pool2d(x: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """최대 풀링입니다. (B, C, H, W) -> (B, C, H', W'), `F.max_pool2d`와 같습니다."""
    windows = unfold(x, kernel_size, stride or kernel_size, padding, value=-torch.inf)
    return windows.flatten(2, 3).max(dim=2).values


def avg_pool2d(x: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """평균 풀링입니다. (B, C, H, W) -> (B, C, H', W'), `F.avg_pool2d`와 같습니다."""
    return unfold(x, kernel_size, stride or kernel_size, padding).mean(dim=(2, 3))


@chapter.section("3.2", "풀링과 이동")
def section_pooling(run: Run) -> None:
    x = torch.randn(2, 3, 9, 9)
    kinds = {"최대": (max_pool2d, F.max_pool2d), "평균": (avg_pool2d, F.avg_pool2d)}
    for name, pair in kinds.items():
        for options in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}):
            functions = (partial(f, **options) for f in pair)
            run.check_with_gradient(f"{name} 풀링 {options}", *functions, x)
    whole = lambda t: F.adaptive_avg_pool2d(t, 1).flatten(1)
    run.check_with_gradient("전역 평균 풀링", lambda t: t.mean(dim=(2, 3)), whole, x)
    photos = run.data(cifar10.load).x_train[:200].permute(0, 3, 1, 2) / 255
    w = torch.randn(8, 3, 3, 3)
    features = F.relu(conv2d(photos, w))  # (200, 8, 30, 30)
    run.check("합성곱의 등변성", F.relu(conv2d(photos[..., 1:], w)), features[..., 1:], atol=1e-4)
    pools = {"풀링 없음": lambda t: t, "최대 2": lambda t: max_pool2d(t, 2)}
    pools |= {"최대 5": lambda t: max_pool2d(t, 5), "전역 평균": lambda t: t.mean(dim=(2, 3))}
    moved = {}
    for name, pool in pools.items():
        before, after = pool(features[..., 1:]), pool(features[..., :-1])  # 한 픽셀 옮김
        moved[name] = ((after - before).norm() / (before - before.roll(1, 0)).norm()).item()
    figure = plot.bar_figure({"변화": moved}, "변화 / 다른 사진과의 차이", "한 픽셀 옮겼을 때")
    run.figure(figure, "02_translation")
    text, values = "창이 넓을수록 한 픽셀 이동에 출력이 덜 변합니다", list(moved.values())
    run.claim(text, moved, values == sorted(values, reverse=True))


# %% [markdown]
# **읽는 법.** 합성곱의 출력은 물체가 옮겨 간 만큼 따라 옮겨 갑니다(등변성). 풀링이 그 이동을
# 줄입니다(불변성). 대신 물체가 어디에 있는지를 잊으므로, 6강의 검출에서는 조심해서 씁니다.
#
# ## 3.3 수용 영역
# **왜 필요할까요?** 출력 한 칸이 보는 입력의 한 변인 **수용 영역**(receptive field)이 물체보다
# 좁으면 물체 전체를 볼 수 없습니다.
# ```text
# 처음에 r = j = 1. 계층마다 r = r + (K - 1) * j, j = j * S        r 수용 영역, j 칸 사이의 간격
# ```


# %%
def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """(커널, 스트라이드)의 목록에서 마지막 출력 한 칸의 수용 영역(한 변의 픽셀 수)을 구합니다."""
    field = jump = 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field


@chapter.section("3.3", "수용 영역")
def section_receptive_field(run: Run) -> None:
    stacks, heats = {"3x3 세 층": [(3, 1)] * 3, "7x7 한 층": [(7, 1)]}, []
    stacks["3x3과 스트라이드 2"] = [(3, 1), (3, 2), (3, 1), (3, 2), (3, 1)]
    for name, layers in stacks.items():
        convs = [nn.Conv2d(1, 1, kernel, stride, bias=False) for kernel, stride in layers]
        for conv in convs:
            nn.init.uniform_(conv.weight, 0.5, 1)  # 양수라 서로 지워지지 않음
        x = torch.zeros(1, 1, 65, 65, requires_grad=True)
        y = nn.Sequential(*convs)(x)
        y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
        seen = int((x.grad[0, 0] != 0).any(dim=0).sum())
        run.check(f"{name}, 식과 잰 수용 영역", receptive_field(layers), seen, atol=0)
        heats.append(x.grad[0, 0].numpy())
    figure = plot.image_grid(heats, list(stacks), 3, "출력 한 칸이 보는 픽셀")
    run.figure(figure, "03_receptive_field")


# %% [markdown]
# **읽는 법.** 3x3을 세 번 쌓으면 7x7 한 층과 같은 범위를 보면서 매개변수는 (채널이 하나일 때) 49개
# 대신 27개입니다. 쌓은 그림의 가운데가 밝은 것은 그리로 가는 길이 많기 때문입니다.
#
# ## 3.4 CNN과 MLP
# **왜 필요할까요?** CNN이 나은 까닭이 매개변수의 수가 아니라 구조라면, 매개변수와 걸음 수를
# 맞추어도 나아야 합니다. 픽셀을 섞어 이웃 관계를 없애면 앞서는 폭이 크게 줄어야 합니다.


# %%
def conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def vgg(width: int = 32, depth: int = 2, num_classes: int = 10) -> nn.Sequential:
    """3x3 합성곱 `depth`번과 풀링을 세 번 쌓은 VGG 방식입니다(Simonyan과 Zisserman 2015)."""
    layers, inputs = [], 3
    for outputs in (width, 2 * width, 4 * width):
        layers += [conv_bn(inputs, outputs), *(conv_bn(outputs, outputs) for _ in range(depth - 1))]
        layers, inputs = [*layers, nn.MaxPool2d(2)], outputs
    head = nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)
    return nn.Sequential(*layers, *head)


small_cnn = partial(vgg, depth=1)  # 합성곱 세 층. (B, 3, 32, 32) -> (B, 10)


def small_mlp(hidden: int, num_classes: int = 10) -> nn.Sequential:
    layers = nn.Linear(3072, hidden), nn.BatchNorm1d(hidden), nn.ReLU()
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(hidden, num_classes))


@chapter.section("3.4", "CNN과 MLP")
def section_cnn_against_mlp(run: Run) -> None:
    data, order = small_data(run), torch.randperm(32 * 32)
    hidden = count_parameters(small_cnn()) // (3072 + 10)
    shuffle = lambda x: x.flatten(1, 2)[:, order.to(x.device)].view_as(x)
    shuffled, scores = data._replace(x=shuffle(data.x), x_val=shuffle(data.x_val)), {}
    for kind, build in (("MLP", partial(small_mlp, hidden)), ("CNN", small_cnn)):
        for where, chosen in {"": data, " (섞음)": shuffled}.items():
            model = make(run, build)
            fit(run, model, chosen, run.config.steps)
            scores[kind + where] = val_accuracy(model, chosen, run.dtype)
    models = make(run, small_mlp, hidden), make(run, small_cnn)
    counts = [count_parameters(model) for model in models]
    costs = [model_utils.count_multiplications(model, data.x[:1]) for model in models]
    text = "매개변수의 수가 비슷하고 걸음 수가 같을 때 CNN이 MLP보다 정확합니다"
    sizes = f"매개변수 {counts[0]:,}개와 {counts[1]:,}개, 곱셈 {costs[0]:,}번과 {costs[1]:,}번"
    run.claim(text, f"{sizes}. {percents(scores)}", scores["CNN"] > scores["MLP"])
    lead = {"원래": scores["CNN"] - scores["MLP"]}
    lead["섞음"] = scores["CNN (섞음)"] - scores["MLP (섞음)"]
    text = "픽셀을 섞으면 CNN이 앞서는 폭이 절반 아래로 줄어듭니다"
    run.claim(text, lead, lead["섞음"] < lead["원래"] / 2 and lead["원래"] > 0)


# %% [markdown]
# **읽는 법.** 픽셀을 섞어도 MLP에는 같은 문제입니다. 가중치의 자리만 바뀌기 때문입니다. CNN은
# 이웃한 픽셀이 관련 있다고 보고 만든 구조라, 그렇지 않으면 나은 점을 잃습니다. 다만 CNN은 같은
# 가중치를 자리마다 다시 쓰므로 곱셈은 훨씬 많습니다(판정의 값).
#
# ## 3.5 LeNet에서 ResNet까지
# **왜 필요할까요?** LeNet-5는 합성곱이 두 층, VGG는 3x3만 여러 층입니다. 더 깊게 쌓으면 어느
# 깊이부터 학습 오차조차 커집니다(He 외 2016, 그림 1. 여기서는 20층만 봅니다). **잔차
# 연결**(residual connection, 지름길)은 블록이 입력에 더할 차이만 배우게 합니다.
# ```text
# 보통 블록  y = ReLU(f(x))        잔차 블록  y = ReLU(f(x) + x)      기울기가 + x를 타고 흐름
# ```


# %%
class LeNet5(nn.Module):
    """LeNet-5입니다(LeCun 외 1998. 논문은 tanh와 학습되는 풀링). (B, 3, 32, 32) -> (B, 10)"""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.hidden = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
        self.output = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (B, 6, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 16, 5, 5)
        return self.output(self.hidden(x.flatten(1)))


class BasicBlock(nn.Module):
    """잔차 블록입니다(He 외 2016, 그림 2). `residual`이 False이면 지름길이 없는 보통 블록입니다."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.residual, self.downsample = residual, None
        if residual and (stride > 1 or inputs != outputs):  # 모양이 다르면 1x1 합성곱으로 맞춤
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y)


def stage(inputs: int, outputs: int, count: int, stride: int, residual=True) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, residual)
    rest = (BasicBlock(outputs, outputs, 1, residual) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


class ResNet18(nn.Module):
    """ResNet-18입니다(He 외 2016, 표 1). (B, 3, H, W) -> (B, 클래스 수), torchvision과 같습니다."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(64, 64, 2, 1), stage(64, 128, 2, 2)
        self.layer3, self.layer4 = stage(128, 256, 2, 2), stage(256, 512, 2, 2)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        x = self.layer1(F.max_pool2d(x, 3, stride=2, padding=1))  # (B, 64, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(x)))  # (B, 512, H/32, W/32)
        return self.fc(x.mean(dim=(2, 3)))


def resnet20(residual: bool = True, num_classes: int = 10) -> nn.Sequential:
    """CIFAR용 20층 ResNet입니다(He 외 2016, 4.2절. 논문의 지름길에는 매개변수가 없음)."""
    sizes = (16, 16, 1), (16, 32, 2), (32, 64, 2)  # 입력과 출력의 채널, 첫 블록의 스트라이드
    stages = (stage(a, b, 3, stride, residual) for a, b, stride in sizes)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes)
    return nn.Sequential(conv_bn(3, 16), *stages, *head)


@chapter.section("3.5", "LeNet에서 ResNet까지")
def section_architectures(run: Run) -> None:
    data, points, losses, norms = small_data(run), {}, {}, {}
    deep, sample = ("보통 20층", "ResNet 20층"), (data.x[:64], data.y[:64])
    builds = {"LeNet-5": LeNet5, "VGG 방식": vgg}
    builds |= {"보통 20층": partial(resnet20, False), "ResNet 20층": resnet20}
    print("  모델             매개변수  곱셈(백만)      초   검증 정확도")
    for name, build in builds.items():
        if name in deep:
            norms[name] = model_utils.output_gradients(make(run, build), *sample, kernel=3)
        model, start = make(run, build), time.perf_counter()
        losses[name] = fit(run, model, data, run.config.steps)
        seconds, score = time.perf_counter() - start, val_accuracy(model, data, run.dtype)
        cost = model_utils.count_multiplications(model, data.x[:1]) / 1e6
        print(
            f"  {name:14} {count_parameters(model):10,} {cost:10.1f} {seconds:8.1f} {score:10.3f}"
        )
        points[name] = [cost], [score]
    labels = "곱셈(백만)", "검증 정확도", "같은 걸음 수의 정확도"
    run.figure(plot.line_figure(points, *labels, log="x"), "04_architectures")
    smooth = {name: np.convolve(losses[name], np.ones(10) / 10, mode="valid") for name in deep}
    curves = {name: (range(9, run.config.steps), smooth[name]) for name in deep}
    figure = plot.line_figure(curves, "걸음", "학습 손실 (10걸음 평균)", "잔차 연결과 손실")
    run.figure(figure, "05_residual_loss")
    curves = {name: (range(1, len(norms[name]) + 1), norms[name]) for name in deep}
    figure = plot.line_figure(curves, "합성곱", "출력의 기울기", "학습을 시작할 때", log="y")
    run.figure(figure, "06_residual_gradient")
    ends = {name: float(smooth[name][-1]) for name in deep}
    text = "20층에서 잔차 연결이 있는 쪽의 학습 손실이 더 작습니다"
    run.claim(text, ends, ends["ResNet 20층"] < ends["보통 20층"], unit="")
    spread = {name: max(norms[name]) / min(norms[name]) for name in deep}
    text = "잔차 연결이 있으면 기울기의 크기가 계층 사이에서 더 고릅니다(가장 큰 것 / 가장 작은 것)"
    run.claim(text, spread, spread["ResNet 20층"] < spread["보통 20층"], unit="배")
    from torchvision.models import resnet18  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    library, ours = resnet18(weights=None).eval(), ResNet18().eval()
    counts = count_parameters(ours), count_parameters(library)
    run.check("ResNet-18의 매개변수 수와 torchvision", *counts, atol=0)
    ours.load_state_dict(library.state_dict())  # 이름과 모양이 모두 같아야 들어감
    x = torch.randn(2, 3, 64, 64)
    run.check("ResNet-18의 출력과 torchvision", ours(x), library(x), atol=1e-4)


# %% [markdown]
# **읽는 법.** LeNet-5에는 배치 정규화가 없고 학습률은 모두 같아, 순위가 구조만의 차이는 아닙니다.
#
# ## 3.6 데이터 증강
# **왜 필요할까요?** 뒤집거나 조금 옮긴 고양이도 고양이입니다. **데이터 증강**(augmentation)은
# 정답을 아는 새 사진을 만들어 외우지 못하게 합니다. 색과 믹스업은 여기서 그려 보기만 합니다.
# ```text
# 뒤집기    좌우를 절반의 확률로         지우기     무작위 정사각형을 회색으로 (DeVries 외 2017)
# 옮기기    위아래, 좌우로 4픽셀까지     믹스업     lam * x1 + (1 - lam) * x2, 정답도 같은 비율로
# 색        밝기, 대비, 색조를 조금                 (Zhang 외 2018. lam은 베타 분포에서 뽑음)
# ```


# %%
def random_flip(x: Tensor) -> Tensor:
    """절반의 사진을 좌우로 뒤집습니다. (B, H, W, 3) -> (B, H, W, 3)"""
    chosen = torch.rand(len(x), device=x.device) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(2), x)


def random_crop(x: Tensor, size: int = 32, most: int = 4) -> Tensor:
    """사진마다 `most`픽셀까지 벗어난 자리를 자릅니다. (B, H, W, 3) -> (B, size, size, 3)

    사진 밖은 거울처럼 채웁니다. `size`가 사진의 크기와 같으면 사진을 옮기는 것과 같습니다.
    """
    last = x.shape[1] - 1
    move = torch.randint(-most, x.shape[1] - size + most + 1, (2, len(x), 1), device=x.device)
    index = torch.arange(size, device=x.device) + move  # (2, B, size)
    rows, columns = last - (last - index.abs()).abs()  # 끝을 넘으면 되돌아옴
    which = torch.arange(len(x), device=x.device)[:, None, None]
    return x[which, rows[:, :, None], columns[:, None]]


def cutout(x: Tensor, size: int = 8) -> Tensor:
    """사진마다 한 변이 `size`인 정사각형을 회색으로 지웁니다. 일부가 사진 밖일 수 있습니다."""
    start = torch.randint(-size // 2, x.shape[1] - size // 2, (2, len(x), 1), device=x.device)
    index = torch.arange(x.shape[1], device=x.device)
    rows, columns = (start <= index) & (index < start + size)  # (B, 32), (B, 32)
    return x.masked_fill((rows[:, :, None] & columns[:, None])[..., None], 128)


def color_jitter(x: Tensor, strength: float = 0.2) -> Tensor:
    """사진마다 대비와 밝기를, 채널마다 색조를 바꿉니다. (B, H, W, 3) -> float (B, H, W, 3)"""
    noise = strength * (2 * torch.rand(3, len(x), 1, 1, 3, device=x.device) - 1)
    contrast, bright, tint = 1 + noise[0, ..., :1], 128 * noise[1, ..., :1], 64 * noise[2]
    return ((x - 128.0) * contrast + 128 + bright + tint).clamp(0, 255)


def mixup(x: Tensor, targets: Tensor, alpha: float = 0.2) -> tuple[Tensor, Tensor]:
    """사진과 정답의 확률 (B, 클래스 수)를 두 장씩 섞습니다. 섞는 비율은 사진마다 다릅니다."""
    lam = torch.distributions.Beta(alpha, alpha).sample((len(x),)).to(x.device)
    order = torch.randperm(len(x), device=x.device)
    blend = lambda a, w: w * a + (1 - w) * a[order]
    return blend(x.float(), lam[:, None, None, None]), blend(targets, lam[:, None])


@chapter.section("3.6", "데이터 증강")
def section_augmentation(run: Run) -> None:
    data = small_data(run)
    photos, labels = data.x[:6], F.one_hot(data.y[:6], 10).float()
    shown = {"원본": photos, "뒤집기": random_flip(photos), "옮기기": random_crop(photos)}
    shown |= {"지우기": cutout(photos), "색": color_jitter(photos)}
    shown["믹스업"] = mixup(photos, labels, alpha=1.0)[0]
    images = [image.cpu().numpy().astype(np.uint8) for change in shown.values() for image in change]
    titles = [name for name in shown for _ in range(6)]
    run.figure(plot.image_grid(images, titles, 6, "데이터 증강"), "07_augmentation")
    few, fitted, val = data._replace(x=data.x[:1000], y=data.y[:1000]), {}, {}
    move = lambda x: random_crop(random_flip(x))
    plans = {"없음": None, "뒤집고 옮기기": move, "지우기까지": lambda x: cutout(move(x))}
    for name, augment in plans.items():
        model = make(run, small_cnn)
        fit(run, model, few, run.config.steps, augment=augment)
        fitted[name] = evaluate(model, few.x, few.y, run.dtype)[1]
        val[name] = val_accuracy(model, data, run.dtype)
    gaps = {name: fitted[name] - val[name] for name in plans}
    bars = {"검증 정확도": val, "학습과 검증의 차이": gaps}
    run.figure(plot.bar_figure(bars, "비율", "사진 1,000장에서 증강의 효과"), "08_augmentation_gap")
    text = "뒤집고 옮기면 학습과 검증의 차이가 줄어듭니다"
    measured = f"차이 {percents(gaps)}. 검증 {percents(val)}"
    run.claim(text, measured, gaps["뒤집고 옮기기"] < gaps["없음"])


# %% [markdown]
# **읽는 법.** 증강은 학습을 어렵게 하므로 걸음이 적으면 검증 정확도가 오히려 낮을 수 있습니다.
# 판정에 나온 차이와 검증 정확도를 함께 보세요.
#
# ## 3.7 배치 정규화와 빠르게 계산하기
# **왜 필요할까요?** CNN은 계산의 대부분을 합성곱에 씁니다. 더 짧은 수(bfloat16)로, 채널이 붙어 있는
# 순서(channels_last)로 계산하면 빨라질 수 있습니다. 먼저 결과가 같은지 봅니다.
# ```text
# 2차원 배치 정규화    채널마다 B * H * W개의 평균과 분산. 2강 2.5절의 식에서 축만 다릅니다
# contiguous           메모리의 순서 B, C, H, W       channels_last    메모리의 순서 B, H, W, C
# ```
# '흔한 방식'은 한 장씩 PIL로 뒤집고 자르는 `DataLoader`, float32, contiguous입니다. 이 강의는
# 묶음을 한꺼번에 바꾸고, 다 쓴 메모리를 운영체제에 돌려주지 않고 다시 씁니다.


# %%
class BatchNorm2d(nn.Module):
    """2차원 배치 정규화입니다. (B, C, H, W) -> (B, C, H, W), `nn.BatchNorm2d`와 같습니다."""

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        axes, mean, variance = (0, 2, 3), self.running_mean, self.running_var
        if self.training:
            mean, variance = x.mean(dim=axes), x.var(dim=axes, unbiased=False)
            with torch.no_grad():
                self.running_mean += self.momentum * (mean - self.running_mean)
                self.running_var += self.momentum * (x.var(dim=axes) - self.running_var)
        scale = self.weight / torch.sqrt(variance + 1e-5)  # (C,)
        return (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]


@chapter.section("3.7", "배치 정규화와 빠르게 계산하기")
def section_speed(run: Run) -> None:
    x = torch.randn(4, 5, 6, 6)
    for name, mode in (("2차원 배치 정규화(학습)", True), ("2차원 배치 정규화(평가)", False)):
        run.check_modules(name, BatchNorm2d(5).train(mode), nn.BatchNorm2d(5).train(mode), x)
    data, batch = small_data(run), run.config.batch_size
    model = make(run, vgg).train()  # 왜: 학습하기 전의 평가 상태에서는 점수가 거의 편향뿐임
    with torch.no_grad():
        exact, packed = model(data.x[:batch]), model[0](data.x[:batch]).contiguous()
        model.to(memory_format=torch.contiguous_format)
        run.check("channels_last와 contiguous", model[1](packed), exact, atol=1e-3)
        with autocast(run.device, torch.bfloat16):
            short = model(data.x[:batch]).float()
    agree = (short.argmax(dim=1) == exact.argmax(dim=1)).float().mean().item()
    worst = ((short - exact).abs().max() / exact.abs().max()).item()
    text = "bfloat16으로 계산해도 점수의 오차가 가장 큰 점수의 10분의 1보다 작습니다"
    run.claim(text, f"상대 오차 {worst:.3f}, 같은 답 {100 * agree:.1f} %", worst < 0.1)
    speeds = compare_speed(run, data.x[:batch], data.y[:batch])
    text = "이 강의의 방식이 1초에 처리하는 사진은 흔한 방식의 3배를 넘습니다"
    run.claim(text, speeds, speeds["이 강의"] > 3 * speeds["흔한 방식"], unit="장/초")


def compare_speed(run: Run, x: Tensor, y: Tensor) -> dict[str, float]:
    """두 방식으로 순전파와 역전파를 하고(갱신은 없음) 1초에 처리한 사진의 수를 잽니다."""
    width = run.config.width // 2
    plain, ours = make(run, vgg, width)[1], make(run, vgg, width)
    plain.to(memory_format=torch.contiguous_format)
    loader, speeds = plain_loader(x, y, len(x)), {}

    def learn(model: nn.Module, batches, dtype: torch.dtype) -> None:
        for images, labels in batches:
            with autocast(run.device, dtype):
                logits = model(images.to(run.device))
            F.cross_entropy(logits.float(), labels.to(run.device)).backward()

    steps = {"흔한 방식": lambda: learn(plain, loader, torch.float32)}
    steps["이 강의"] = lambda: learn(ours, [(random_crop(random_flip(x)), y)], run.dtype)
    for name, step in steps.items():
        reuse_memory(name == "이 강의")
        speeds[name] = len(x) / median_seconds(step, run.device, repeats=3)
    return speeds


# %% [markdown]
# **읽는 법.** 속도의 판정은 컴퓨터에 따라 다르고, 넷 가운데 어느 것의 덕인지는 알려 주지 않습니다.
# bfloat16의 오차는 학습하지 않은 모델 하나로 쟀습니다.
#
# ## 3.8 마지막 학습
# **왜 필요할까요?** 앞의 부품에 새 요령 셋(백색화, 작게 자르기, 뒤집어 보기)을 더합니다.
# `CifarNet`의 첫 합성곱은 배우지 않고 **백색화**(whitening)로 정합니다. 2x2 조각은 수 열두 개의
# 벡터입니다. 서로 직각인 열두 방향(고유벡터)에 비추고 방향마다의 평균 제곱(고윳값)의 제곱근으로
# 나누면, 열두 채널은 서로 거의 무관하고 크기가 비슷해집니다. 부호를 바꾼 커널도 둡니다.
# ```text
# M = 평균(조각 조각^T)   M의 고유벡터 v, 고윳값 e   커널 = v / sqrt(e + 0.001)와 그 부호를 바꾼 것
# ```


# %%
def whitening_kernels(images: Tensor, kernel: int = 2) -> Tensor:
    """사진 (N, H, W, 3)의 조각을 백색화하는 커널 (6 * K * K, 3, K, K)를 구합니다."""
    groups = (F.unfold(Pixels()(part), kernel) for part in images.split(500))  # 메모리를 아낌
    M = sum((x @ x.mT / x.shape[2]).sum(dim=0) for x in groups) / len(images)  # x (N, 3*K*K, 자리)
    values, vectors = torch.linalg.eigh(M.cpu())
    kernels = (vectors / torch.sqrt(values + 1e-3)).T.flip(0)  # 고윳값이 큰 것부터
    return torch.cat([kernels, -kernels]).reshape(-1, 3, kernel, kernel)


class PooledBlock(nn.Module):
    """합성곱, 풀링 뒤에 잔차 연결이 있는 합성곱입니다. (B, C, H, W) -> (B, O, H/2, W/2)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = conv_bn(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(F.max_pool2d(self.conv(x), 2)))  # 풀링이 먼저라 뒤의 계산이 4분의 1
        return x + self.residual(x)


class CifarNet(nn.Module):
    """백색화한 첫 합성곱과 블록 셋입니다. (B, 3, H, W) -> (B, num_classes)"""

    def __init__(self, width: int = 64, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2).requires_grad_(False)  # 배우지 않음
        sizes = pairwise([24, width, 2 * width, 4 * width])
        self.blocks = nn.ModuleList(PooledBlock(inputs, outputs) for inputs, outputs in sizes)
        self.output = nn.Linear(4 * width, num_classes, bias=False)

    def whiten(self, images: Tensor) -> None:
        """학습 사진 (N, H, W, 3)으로 첫 합성곱을 정합니다."""
        self.stem.weight.copy_(whitening_kernels(images))
        self.stem.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))  # (B, 24, 31, 31)
        for block in self.blocks:
            x = block(x)  # (B, w, 15, 15), (B, 2w, 7, 7), (B, 4w, 3, 3). w 너비
        return self.output(x.amax(dim=(2, 3))) / 8  # 전역 최대 풀링. 8로 나누어 처음 점수를 작게 함


def train(run: Run, model: nn.Module, data: TrainVal) -> list[dict[str, float]]:
    """모델을 학습시키고 에폭마다의 기록을 돌려줍니다. 에폭이 끝날 때마다 저장합니다."""
    config, steps = run.config, max(1, len(data.x) // run.config.batch_size)
    options = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}
    optimizer = torch.optim.SGD(model.parameters(), config.lr * config.batch_size / 512, **options)
    total = config.epochs * steps  # 학습률은 20 %까지 곧게 올렸다가 0까지 곧게 내림
    factor = lambda t: min((t + 1) / (0.2 * total), (total - t) / (0.8 * total))
    scheduler = LambdaLR(optimizer, factor)
    checkpoint = run.checkpoint(model, optimizer, scheduler)
    net = run.parallel(model)  # torchrun으로 실행했을 때만 다름
    for epoch in range(len(checkpoint.history), config.epochs):
        model.train()
        size = 24 if epoch < config.epochs // 2 else 32  # 왜: 처음에 작게 잘라 시간을 줄임
        order = torch.randperm(len(data.x)).split(config.batch_size)[:steps]  # 다 찬 묶음만
        for index in tqdm(run.share(order), leave=False, disable=None):
            images, labels = data.x[index], data.y[index]
            with autocast(run.device, run.dtype):
                logits = net(random_crop(random_flip(images), size))  # 1) 순전파
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
        run.end_epoch(checkpoint, metrics.epoch_scores(model, data, run.dtype))
    return checkpoint.history


def predict_flipped(run: Run, model: nn.Module, x: Tensor) -> Tensor:
    """원본과 좌우로 뒤집은 사진의 확률을 평균합니다. (N, H, W, 3) -> (N, 클래스 수)"""
    return sum(predict_logits(model, t, run.dtype).softmax(dim=1) for t in (x, x.flip(2))) / 2


@chapter.section("3.8", "마지막 학습", shared=True)
def section_training(run: Run) -> nn.Module:
    data = load(run)
    model = make(run, CifarNet, run.config.width, len(data.class_names))
    model[1].whiten(data.x_train[:5000].to(run.device))
    print(f"  CifarNet의 매개변수 {count_parameters(model):,}개")
    history = train(run, model, data.on(run.device))
    run.figure(plot.learning_curves(history), "09_learning_curves")
    save_weights(run.path("model.pt"), model, width=run.config.width, names=data.class_names)
    hits = predict_flipped(run, model, data.x_val).argmax(dim=1) == data.y_val
    scores = {"한 번": history[-1]["val_accuracy"], "뒤집기까지": hits.float().mean().item()}
    text = "뒤집은 사진의 예측을 함께 쓰면 검증 정확도가 오릅니다"
    run.claim(text, scores, scores["뒤집기까지"] > scores["한 번"])
    return model


# %% [markdown]
# **읽는 법.** 학습 쪽 곡선도 증강하지 않은 사진으로 재므로 검증과 바로 비교할 수 있습니다.
#
# ## 3.9 결과와 속 들여다보기
# **왜 필요할까요?** 엉뚱한 곳을 보고 맞혔을 수 있습니다. **Grad-CAM**은 어느 자리가 그 클래스의
# 점수를 올렸는지 기울기로, 가리기 시험은 가렸을 때 확률이 떨어지는 정도로 보여 줍니다.
# ```text
# 가중치[c]  = 평균(i, j) d 점수 / d A[c, i, j]         A 특징 맵 (C, h, w), 훅으로 얻음
# 지도[i, j] = ReLU(합(c) 가중치[c] * A[c, i, j])          사진 크기로 늘리고 최댓값으로 나눔
# ```


# %%
def grad_cam(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM입니다(Selvaraju 외 2017, 식 1과 2). 점수를 올린 자리가 없으면 모두 0입니다.

    layer는 특징 맵 (B, C, h, w)를 내는 계층입니다. 사진 (B, H, W, 3), 클래스 (B,) -> (B, H, W), 0~1
    """
    kept = []
    hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
    scores = model.eval()(images).gather(1, targets[:, None])
    hook.remove()
    (gradient,) = torch.autograd.grad(scores.sum(), kept[0])  # (B, C, h, w)
    weight = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    heat = F.relu((weight * kept[0]).sum(dim=1, keepdim=True))  # (B, 1, h, w)
    heat = F.interpolate(heat, images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).detach()


def explain(model: nn.Module, photo: Tensor, label: int) -> np.ndarray:
    """사진 (H, W, 3)에 마지막 블록의 특징 맵으로 구한 Grad-CAM을 겹칩니다."""
    device = next(model.parameters()).device
    target = torch.tensor([label], device=device)
    heat = grad_cam(model, model[1].blocks[-1], photo[None].to(device), target)
    return plot.overlay(photo.numpy(), heat[0].cpu().numpy())


def occlusion_map(model: nn.Module, photo: Tensor, label: int, size: int = 8) -> np.ndarray:
    """회색 정사각형으로 가렸을 때 확률이 떨어지는 정도의 지도입니다. photo (H, W, 3)"""
    places = range(0, len(photo) - size + 1, size // 2)
    covered = photo.repeat(len(places) ** 2 + 1, 1, 1, 1)  # 마지막 한 장은 가리지 않음
    for image, (top, left) in zip(covered, product(places, places), strict=False):
        image[top : top + size, left : left + size] = 128
    probability = predict_logits(model, covered).softmax(dim=1)[:, label]
    return (probability[-1] - probability[:-1]).reshape(len(places), -1).numpy()


@chapter.section("3.9", "결과와 속 들여다보기", needs=("3.8",))
def section_result(run: Run, model: nn.Module) -> None:
    data = load(run)
    names, K = data.class_names, len(data.class_names)
    steps = run.config.epochs * len(data.x_train) // (run.config.batch_size // 4)
    softmax = make(run, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, K)))
    fit(run, softmax, data.on(run.device), steps, lr=0.001)  # 에폭 수는 CNN과 같고 증강은 없음
    mlp = make(run, small_mlp, 8 * run.config.width, K)
    fit(run, mlp, data.on(run.device), steps, lr=0.001)
    x_test, y_test = data.take_test()
    run.floor("가장 많은 클래스만 답하기", metrics.majority_accuracy(data.y_train, y_test))
    nearest = metrics.nearest_neighbor_accuracy(data.x_train, data.y_train, x_test, y_test)
    run.floor("최근접 이웃 다섯", nearest)
    score = lambda logits: (logits.argmax(dim=1) == y_test).float().mean().item()
    for name, floor in {"소프트맥스 회귀": softmax, "MLP": mlp}.items():
        run.floor(name, score(predict_logits(floor, x_test, run.dtype)))
    once = score(predict_logits(model, x_test, run.dtype))
    run.result("테스트 정확도 (뒤집기 없이)", once, beats="MLP")
    probabilities = predict_flipped(run, model, x_test)
    run.result("테스트 정확도", score(probabilities), beats="MLP")
    predictions = probabilities.argmax(dim=1)
    if len(names) == 10:
        matrix = metrics.confusion_matrix(y_test, predictions, 10).numpy()
        run.figure(plot.confusion_matrix_figure(matrix, names), "10_confusion_matrix")
    run.figure(plot.hardest_pair_figure(x_test, y_test, predictions, names), "11_hardest_pair")
    draw_features(run, model, x_test[0])
    images, titles = [], []
    for k in (predictions == y_test).nonzero().flatten()[:3].tolist():  # 맞힌 사진 셋
        photo, target = x_test[k], int(y_test[k])
        wrong = int(probabilities[k].argsort()[-2])  # 두 번째로 확률이 높은 클래스
        images += [photo.numpy(), explain(model, photo, target), explain(model, photo, wrong)]
        images += [occlusion_map(model, photo, target)]
        titles += ["사진", f"CAM: {names[target]}", f"CAM: {names[wrong]}", "가리기 시험"]
    run.figure(plot.image_grid(images, titles, 4, "무엇을 보고 답했을까요"), "13_explanations")
    if data.provenance.source == "sample":  # 물체의 자리를 아는 것은 그린 장면뿐
        check_pointing(run, model)


def draw_features(run: Run, model: nn.Module, photo: Tensor) -> None:
    """첫 합성곱의 커널과, 계층마다 특징 맵 다섯 장입니다."""
    kernels = model[1].stem.weight.detach().cpu()[:5].permute(0, 2, 3, 1)  # (5, 2, 2, 3)
    images = [((k - k.min()) / (k.max() - k.min())).numpy() for k in kernels]
    titles = [f"커널 {i + 1}" for i in range(5)]
    with torch.inference_mode():
        x = model.eval()[0](photo[None].to(run.device))
        for layer in (model[1].stem, *model[1].blocks):
            x = F.relu(layer(x))  # (1, C, H, W). 블록의 출력은 0 이상이라 변하지 않음
            images += list(x[0, :5].cpu().numpy())
            titles += [f"특징 맵 {x.shape[2]}x{x.shape[3]}"] * 5
    run.figure(plot.image_grid(images, titles, 5, "첫 커널과 계층마다의 특징 맵"), "12_features")


def check_pointing(run: Run, model: nn.Module, count: int = 50) -> None:
    """물체의 자리를 아는 그림에서, Grad-CAM의 무게 중심이 물체의 상자 안에 드는 비율입니다."""
    images, labels, boxes = (torch.from_numpy(a).to(run.device) for a in draw_scenes(count, 20))
    heat = grad_cam(model, model[1].blocks[-1], images, labels.long())  # (50, 32, 32)
    index = torch.arange(heat.shape[1], device=run.device) + 0.5
    weight = heat / heat.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    points = torch.stack([weight.sum(dim=1) @ index, weight.sum(dim=2) @ index], dim=1)  # (x, y)
    middle = torch.full_like(points, heat.shape[1] / 2)
    inside = lambda p: ((boxes[:, :2] <= p) & (p <= boxes[:, 2:])).all(dim=1).float().mean().item()
    share = {"Grad-CAM": inside(points), "그림의 한가운데": inside(middle)}
    text = "물체의 상자 안에 Grad-CAM의 무게 중심은 90 % 이상 들고, 한가운데는 그만큼 들지 않습니다"
    run.claim(text, share, share["Grad-CAM"] >= 0.9 > share["그림의 한가운데"])


# %% [markdown]
# **읽는 법.** 정답 클래스의 지도가 물체 위에 있는지, 다른 클래스의 지도와 다른지 보세요. Grad-CAM은
# 3x3을 늘린 것이라 대강의 자리만 알려 줍니다. 두 방법이 다른 곳을 가리키면 설명을 믿지 마세요.
#
# ## 3.10 전이 학습
# **왜 필요할까요?** 사진이 50장뿐이라면 처음부터 배우기 어렵습니다. 다른 클래스로 배운 특징을 옮겨
# 쓰는 것을 **전이 학습**(transfer learning)이라고 합니다. 고양이와 개를 뺀 클래스로 학습한 뒤,
# 고양이와 개를 50장씩만 보고 배웁니다. 첫 합성곱(백색화)은 셋이 같습니다.
# ```text
# 처음부터      나머지는 무작위 가중치에서 시작     특징 고정    마지막 계층만 새로 학습
# 미세 조정     배운 블록에서 시작해 첫 합성곱 말고 모두를 작은 학습률로 학습
# ```


# %%
@chapter.section("3.10", "전이 학습")
def section_transfer(run: Run) -> None:
    data, steps = run.data(cifar10.load).on(run.device), run.config.steps
    build = partial(CifarNet, run.config.width // 2)
    cat, dog, scores = 3, 5, {}  # 고양이와 개의 번호
    new, new_val = ((t == cat) | (t == dog) for t in (data.y, data.y_val))
    few = torch.cat([(data.y == label).nonzero().flatten()[:50] for label in (cat, dog)])
    first = TrainVal(data.x[~new], data.y[~new], data.x_val[~new_val], data.y_val[~new_val])
    answers = (data.y[few] == dog).long(), (data.y_val[new_val] == dog).long()
    second = TrainVal(data.x[few], answers[0], data.x_val[new_val], answers[1])
    base = make(run, build)
    base[1].whiten(data.x[:5000])
    fit(run, base, first, 8 * steps, augment=lambda x: random_crop(random_flip(x)))
    print(f"  고양이와 개를 뺀 여덟 클래스의 검증 정확도 {100 * val_accuracy(base, first):.1f} %")
    plans = {"처음부터": (0.005, ("stem",)), "미세 조정": (0.001, ("stem", "blocks"))}
    for name, (lr, kept) in plans.items():  # 학습률과, 옮길 계층의 이름
        model, weights = make(run, build, num_classes=2), base[1].state_dict()
        moved = {key: value for key, value in weights.items() if key.startswith(kept)}
        model[1].load_state_dict(moved, strict=False)  # 주의: 이름이 틀려도 조용히 지나감
        fit(run, model, second, steps, lr, augment=random_flip)
        scores[name] = val_accuracy(model, second, run.dtype)
    base[1].output = nn.Identity()
    scores["특징 고정"] = score_frozen(run, base, second)
    downloaded = f"{torch.hub.get_dir()}/checkpoints/resnet18-f37072fd.pth"  # torchvision이 두는 곳
    weights = Path(run.config.pretrained or downloaded)
    if weights.is_file():
        body = ResNet18()  # 주의: ImageNet에는 고양이와 개도 있고, Pixels는 그 정규화와 조금 다름
        load_weights(weights, body)
        body.fc = nn.Identity()
        body = nn.Sequential(Pixels(), nn.Upsample(scale_factor=4), body).to(run.device)
        scores["ImageNet 특징"] = score_frozen(run, body, second)
    else:
        print(f"  ImageNet으로 학습한 가중치({weights})가 없어 그것과는 비교하지 않습니다.")
    figure = plot.bar_figure({"검증 정확도": scores}, "검증 정확도", "고양이와 개, 50장씩")
    run.figure(figure, "14_transfer")
    text = "배운 특징을 옮겨 미세 조정하면 처음부터 배우는 것보다 정확합니다"
    run.claim(text, scores, scores["미세 조정"] > scores["처음부터"])


def score_frozen(run: Run, body: nn.Module, data: TrainVal) -> float:
    """고정한 `body`가 뽑은 특징 위에 마지막 계층 하나만 학습시킨 검증 정확도입니다."""
    x, x_val = (predict_logits(body, t).to(run.device) for t in (data.x, data.x_val))  # (N, D)
    features, head = data._replace(x=x, x_val=x_val), nn.Linear(x.shape[1], 2).to(run.device)
    fit(run, head, features, run.config.steps)
    return val_accuracy(head, features)


# %% [markdown]
# **읽는 법.** 옮긴 특징은 다른 여덟 클래스를 구별하려고 배운 것이라, 쓸모는 앞의 학습이 충분한지에
# 달려 있습니다. 검증 사진이 적어 4 %p(표본은 10 %p)보다 작은 차이는 우연일 수 있습니다.
#
# ## 정리
# - 합성곱은 이웃한 픽셀이 관련 있다는 사실을 구조에 담은 것입니다(3.4절).
# - 합성곱의 기울기도 합성곱입니다. 식으로 구한 값이 PyTorch와 같았습니다(3.1절).
# - 데이터를 꺼내는 방식, 자료형, 메모리의 순서와 재사용을 함께 바꾸면 빨라집니다(3.7절의 판정).
#
# ## 연습문제
# 1. 좌우로 뒤집는 것도 픽셀을 섞는 것입니다. 이때는 왜 CNN이 무너지지 않습니까? (3.4절)
# 2. `conv2d`를 써서 전치 합성곱(7강 7.3절)을 만들어 `F.conv_transpose2d`와 비교하세요. (3.1절)
# 3. `CifarNet`의 풀링을 스트라이드 2인 합성곱으로 바꾸고 시간과 정확도를 비교하세요. (3.8절)
#
# ## 더 읽을거리
# - K. He 외, Deep Residual Learning, CVPR 2016: https://arxiv.org/abs/1512.03385
# - R. Selvaraju 외, Grad-CAM, ICCV 2017: https://arxiv.org/abs/1610.02391
# - K. Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024: https://arxiv.org/abs/2404.00498
# - PyTorch 공식 문서, Conv2d: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html


# %%
def predict_file(run: Run, path: Path) -> dict:
    """사진 파일 하나를 가운데만 잘라 32x32로 줄이고, 분류하고, Grad-CAM을 그립니다."""
    about = read_about(run.path("model.pt"))
    names, model = about["names"], make(run, CifarNet, about["width"], len(about["names"]))
    load_weights(run.path("model.pt"), model)
    small = torch.from_numpy(center_square(read_image(path, color=True), 32))
    probabilities = predict_flipped(run, model, small[None])[0]
    best = probabilities.argsort(descending=True)[:3].tolist()
    print(f"  {path}: " + ", ".join(f"{names[k]} {100 * probabilities[k]:.1f} %" for k in best))
    images = [small.numpy(), explain(model, small, best[0])]
    run.figure(plot.image_grid(images, ["사진", f"CAM: {names[best[0]]}"], 2, "내 사진"), "predict")
    return {names[k]: float(probabilities[k]) for k in best}


def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    if run.config.predict:
        return predict_file(run, Path(run.config.predict))
    section_convolution(run)
    section_pooling(run)
    section_receptive_field(run)
    section_cnn_against_mlp(run)
    section_architectures(run)
    section_augmentation(run)
    section_speed(run)
    model = section_training(run)
    section_result(run, model)
    section_transfer(run)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
