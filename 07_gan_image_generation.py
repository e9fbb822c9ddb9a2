# %% [markdown]
"""
# 7강. GAN으로 이미지 만들기

| 항목 | 내용 |
|---|---|
| 배우는 것 | 두 모델의 게임을 식과 비교하고, 무너지는 GAN을 고치고, 만든 얼굴을 숫자로 잽니다 |
| 먼저 볼 것 | 1강 1.5절(옵티마이저), 3강 3.1절(합성곱), 6강 6.7절(BCE), 6.8절(EMA) |
| 데이터 | CelebA나 얼굴 사진의 폴더(`--data-dir`). 없으면 코드로 그린 얼굴 |
| 실행 | `python 07_gan_image_generation.py` |
| 빠른 확인 | `python 07_gan_image_generation.py --quick` |
| 기대 결과 | 특징 프레셰 거리 0.064 ± 0.014, PCA 정규분포 75 % 0.972 (그린 얼굴(표본) 3회, 20분) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-25 |
"""

# %%
from __future__ import annotations

import copy
import math
import time
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.spatial import distance, geometric_slerp
from torch import Tensor, nn
from torch.nn.utils import get_total_norm, parametrizations, parametrize
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from utils import lesson, metrics, model_utils
from utils import visualization as plot
from utils.command_line import option, setting
from utils.data_utils import iterate_batches
from utils.datasets import faces
from utils.datasets.faces import FaceDataset
from utils.device import autocast
from utils.errors import UserError
from utils.lesson import Lesson, Run
from utils.model_utils import Album, count_parameters, load_weights, read_about, update_ema


@dataclass(frozen=True)
class Config:
    epochs: int = setting(16, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(32, "한 번에 보는 얼굴의 수", low=8)
    lr: float = setting(0.002, "학습률의 최댓값 (다듬은 조리법. DCGAN은 0.0002로 일정)", above=0)
    size: int = setting(64, "얼굴의 한 변(픽셀), 32나 64", low=32, below=65, multiple=32)
    width: int = setting(24, "생성자와 판별자의 너비", low=4)
    latent: int = setting(64, "잠재 벡터의 차원", low=2)
    r1: float = setting(1.0, "R1 벌점의 크기", low=0)
    faces: int = setting(8000, "학습에 쓰는 얼굴의 수. 데이터가 없으면 그만큼 그림", low=80)
    steps: int = setting(1500, "작은 실험의 걸음 수", low=10)
    make: str = option("", "이 속성의 얼굴을 만들고 끝냅니다", metavar="속성[,속성]")


QUICK = replace(Config(), epochs=4, batch_size=16, lr=0.003, size=32, width=16, latent=32)
QUICK = replace(QUICK, r1=0.1, faces=1000, steps=100)
chapter = Lesson(__file__, __doc__, Config(), QUICK)
HEALTH = "D(진짜)", "D(가짜)", "D 기울기", "G 기울기"  # 걸음마다 모아 에폭마다 평균 내는 것


load = lambda run: run.data(faces.load, faces=run.config.faces, size=run.config.size)
# 학습률의 배율. 처음 20분의 1은 올리고(예열), 뒤의 절반은 0까지 내림
learning_rate = lambda step, total: min(20 * (step + 1) / total, 1.0, 2 - 2 * step / total)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()  # 3) 기울기 비우기
    loss.backward()  # 4) 역전파
    optimizer.step()  # 5) 매개변수 갱신


def mlp(sizes: Sequence[int], activation: Callable = nn.ReLU) -> nn.Sequential:
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]
    return nn.Sequential(*layers[:-1])  # 마지막 활성화 함수는 뺌


# %% [markdown]
# ## 7.1 두 모델의 게임
# **왜 필요할까요?** 새 얼굴을 만드는 일에는 정답이 없습니다. **GAN**(Goodfellow 외 2014)에서
# **생성자**(generator) G는 잡음 z, 곧 **잠재 벡터**(latent vector)로 가짜를 만들고,
# **판별자**(discriminator) D는 진짜와 가짜를 가립니다. D의 답이 G의 손실이 됩니다.
# ```text
# 게임      min(G) max(D)  V = 평균(진짜 x) log D(x) + 평균(가짜 x) log(1 - D(x))  D = sigmoid(점수)
# 최적의 D  D*(x) = p(x) / (p(x) + q(x))         p 진짜의 밀도, q 가짜의 밀도
# 그때의 V  2 * JS(p, q) - log 4                 JS 젠슨-섀넌 발산. p = q이면 0
# 생성자    원래의 손실 log(1 - D)  d / d 점수 = -sigmoid(점수)     가짜로 확신하면 거의 0(포화)
#           바꾼 손실 -log D        d / d 점수 = sigmoid(점수) - 1  가짜로 확신하면 거의 -1
# ```
# 점수로 적으면 -log D = softplus(-점수), -log(1 - D) = softplus(점수)입니다.


# %%
def softplus(scores: Tensor) -> Tensor:
    """log(1 + exp(점수))입니다. 점수가 커도 넘치지 않는 꼴입니다(6강 6.7절)."""
    return scores.clamp(min=0) + torch.log1p(torch.exp(-scores.abs()))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """점수 (B,), (B,) -> -V입니다. 진짜에는 1, 가짜에는 0을 답하게 하는 BCE의 합과 같습니다."""
    return softplus(-real).mean() + softplus(fake).mean()


generator_loss = lambda fake: softplus(-fake).mean()  # 바꾼 손실 -log D (논문의 3절)
saturating_loss = lambda fake: -softplus(fake).mean()  # 원래의 손실 log(1 - D)
optimal_discriminator = lambda p, q: p / (p + q)  # 두 밀도를 알 때의 가장 좋은 D (명제 1)


def fit_discriminator(run: Run, draw_real: Callable, draw_fake: Callable) -> nn.Module:
    """움직이지 않는 두 분포에서 뽑은 수 (B, 1)을 가리는 판별자를 학습시킵니다."""
    D = mlp([1, 32, 32, 1], nn.Tanh).to(run.device)
    optimizer = torch.optim.Adam(D.parameters(), 0.01, fused=True)
    steps = max(100, run.config.steps // 2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        real, fake = D(draw_real()), D(draw_fake())  # 1) 순전파
        loss = discriminator_loss(real, fake)  # 2) 손실
        update(optimizer, loss)  # 3)~5)
        scheduler.step()
    return D


@chapter.section("7.1", "두 모델의 게임")
def section_game(run: Run) -> None:
    bce, scores = F.binary_cross_entropy_with_logits, 5 * torch.randn(2, 50)
    to_one, to_zero = (lambda s, y=y: bce(s, torch.full_like(s, y)) for y in (1.0, 0.0))
    both, negative = lambda real, fake: to_one(real) + to_zero(fake), lambda s: -to_zero(s)
    run.check_with_gradient("판별자의 손실과 BCE", discriminator_loss, both, *scores)
    run.check_with_gradient("바꾼 손실과 BCE", generator_loss, to_one, scores[0])
    run.check_with_gradient("원래의 손실과 BCE", saturating_loss, negative, scores[0])
    x = np.linspace(-8, 8, 1601)
    p, q = stats.norm(-1, 1).pdf(x), stats.norm(1.5, 0.7).pdf(x)
    best = optimal_discriminator(p, q)
    rest = optimal_discriminator(q, p)  # 1 - D*. 왜: 1에서 빼면 0이 되어 로그를 구할 수 없음
    value = np.trapezoid(p * np.log(best) + q * np.log(rest), x)
    js = distance.jensenshannon(p, q) ** 2  # scipy는 발산의 제곱근을 냄
    run.check("최적의 D가 얻는 V와 2 JS - log 4", value, 2 * js - math.log(4), atol=1e-6)
    sample = lambda mean, std: lambda: mean + std * torch.randn(512, 1, device=run.device)
    D = fit_discriminator(run, sample(-1, 1), sample(1.5, 0.7))
    points = torch.tensor(x, dtype=torch.float32, device=run.device)[:, None]
    learned = D(points).sigmoid().detach().cpu().numpy()[:, 0]
    apart = np.trapezoid((p + q) / 2 * np.abs(learned - best), x)  # 데이터가 있는 곳에서
    text = "배운 판별자의 답은 식의 답과 평균 0.03 안에서 같습니다"
    run.claim(text, {"평균 차이": apart}, apart < 0.03, unit="")
    curves = {"진짜 p": (x, p), "가짜 q": (x, q), "D* (식)": (x, best), "D (배움)": (x, learned)}
    run.figure(plot.line_figure(curves, "x", "밀도와 D의 답", "최적의 판별자"), "01_optimal")
    # 가짜가 아직 엉뚱한 곳에 있을 때, 가짜의 자리 place를 옮기려는 기울기
    place, pulls = torch.tensor(4.0, device=run.device, requires_grad=True), {}
    D = fit_discriminator(run, sample(-1, 1), sample(place.item(), 0.7))
    scores = D(place + sample(0, 0.7)())
    for name, loss in {"원래": saturating_loss, "바꾼": generator_loss}.items():
        (pull,) = torch.autograd.grad(loss(scores), place, retain_graph=True)
        pulls[name] = pull.abs().item()
    by_formula = torch.autograd.grad(scores, place, scores.sigmoid().detach() / -len(scores))[0]
    run.check("원래의 손실의 기울기와 식", pulls["원래"], by_formula.abs(), atol=1e-5)
    text = "판별자가 이길 때 바꾼 손실의 기울기는 원래 손실의 10배를 넘습니다"
    run.claim(text, pulls, pulls["바꾼"] > 10 * pulls["원래"], unit="")


# %% [markdown]
# **읽는 법.** 두 분포가 모두 0에 가까운 곳(x > 7)에서는 배운 D가 식과 다릅니다. 배운 적이 없는
# 곳입니다. 판별자가 이길수록 원래의 손실은 배울 것을 주지 않으므로 바꾼 손실을 씁니다.
#
# ## 7.2 고리 위의 모드 붕괴
# **왜 필요할까요?** 진짜의 봉우리가 여덟이면 생성자도 여덟을 다 만들어야 합니다. 몇 개만 만드는
# 것을 **모드 붕괴**(mode collapse)라고 합니다. 평면에서는 셀 수 있어 일부러 무너뜨려 봅니다.
# 판별자의 학습률을 생성자의 열 배로 두고, 처방마다 같은 걸음 수로 학습시킵니다. 첫 처방은 판별자가
# 다양성을 보게 하고, 나머지는 판별자가 가파르지 않게 해 생성자가 쓸 기울기를 남깁니다.
# ```text
# 미니배치 표준편차  묶음의 표준편차를 판별자가 보는 것에 덧붙임 (Karras 외 2018, 3절)
# WGAN-GP           D의 손실 = 평균 점수(가짜) - 평균 점수(진짜) + 벌점, G의 손실 = -평균 점수(가짜)
#                   벌점 = 3 * 평균 (|d 점수 / d x| - 1)^2  x 진짜와 가짜의 사이 (Gulrajani 외 2017)
#                   주의: 논문은 10배이고 D를 다섯 번 고칠 때 G를 한 번 고침. 여기서는 번갈아 고침
# R1                벌점 = r / 2 * 평균 |d 점수 / d x|^2      x 진짜 (Mescheder 외 2018, 식 9)
# 스펙트럼 정규화   W / s(W)     s 가장 큰 특잇값, 곧 W가 늘이는 최대의 배율 (Miyato 외 2018)
#                   되풀이: v = W^T u, u = W v를 길이 1로 만들면 s = u^T W v
# ```


# %%
ANGLES = torch.arange(8) * math.pi / 4
CENTERS, SPREAD = 2 * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1), 0.1  # 봉우리와 표준편차
REMEDIES = "없음", "미니배치 표준편차", "WGAN-GP", "R1", "스펙트럼 정규화"
draw_ring = lambda count: CENTERS[torch.randint(8, (count,))] + SPREAD * torch.randn(count, 2)


def mode_coverage(samples: Tensor, centers: Tensor, std: float) -> tuple[int, float]:
    """점 (N, 2)가 덮은 봉우리 (K, 2)의 수와, 봉우리에서 3 * std 안에 있는 점의 비율입니다."""
    near = torch.cdist(samples, centers).min(dim=1)
    good = near.values < 3 * std
    share = near.indices[good].bincount(minlength=len(centers)) / len(samples)  # (K,)
    covered = share > 0.2 / len(centers)  # 똑같이 나눌 때의 몫 1 / K의 5분의 1을 넘으면 덮은 것
    return int(covered.sum()), good.float().mean().item()


class MinibatchStd(nn.Module):
    """묶음의 표준편차를 특징마다 구해 평균하고 채널로 덧붙입니다. (B, C, ...) -> (B, C+1, ...)"""

    def forward(self, x: Tensor) -> Tensor:
        std = (x.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([x, std.expand_as(x[:, :1])], dim=1)


def gradient_penalty(D: Callable, real: Tensor, fake: Tensor) -> Tensor:
    """진짜와 가짜 (B, ...)를 섞은 점에서, 점수의 기울기의 길이가 1에서 벗어난 만큼의 벌점입니다."""
    mix = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    x = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)  # 벌점도 미분해야 함
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def r1_penalty(D: Callable, real: Tensor) -> Tensor:
    """진짜 (B, ...)에서 점수의 기울기의 길이를 제곱한 평균입니다."""
    x = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean()


class SpectralNorm(nn.Module):
    """가중치 (O, ...)를 가장 큰 특잇값으로 나눕니다. `parametrize`에 넣어 씁니다."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("u", F.normalize(torch.randn(len(weight)).to(weight), dim=0))
        self.register_buffer("v", F.normalize(weight.detach().flatten(1).T @ self.u, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)  # (O, ...) -> (O, I)
        if self.training:  # 왜: 가중치가 조금씩 변하므로 앞의 u에서 한 번만 이어 가면 충분함
            with torch.no_grad():
                self.v.copy_(F.normalize(matrix.T @ self.u, dim=0))
                self.u.copy_(F.normalize(matrix @ self.v, dim=0))
        return weight / (self.u.clone() @ matrix @ self.v.clone())  # 왜: u와 v는 다음에 덮어쓰임


def ring_losses(remedy: str, D: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """판별자의 손실과, D(진짜)와 D(가짜)의 평균 (2,)입니다."""
    scores = D(real), D(fake)
    if remedy == "WGAN-GP":
        loss = scores[1].mean() - scores[0].mean() + 3 * gradient_penalty(D, real, fake)
    else:
        loss = discriminator_loss(*scores)
    if remedy == "R1":
        loss = loss + 0.3 / 2 * r1_penalty(D, real)
    return loss, torch.stack([s.detach().sigmoid().mean() for s in scores])


def fit_ring(run: Run, remedy: str, lr=(0.0005, 0.005)) -> tuple[Tensor, list[dict], nn.Module]:
    """고리를 배워 만든 점 (2000, 2), 열 번의 기록, 판별자를 냅니다. `lr`은 G와 D의 학습률입니다."""
    torch.manual_seed(run.seed)
    std = [MinibatchStd()] if remedy == "미니배치 표준편차" else []
    D = nn.Sequential(*std, *mlp([2 + len(std), 128, 128, 1], lambda: nn.LeakyReLU(0.2)))
    for layer in D[::2] if remedy == "스펙트럼 정규화" else ():  # 선형 계층
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    D, G = D.to(run.device), mlp([16, 128, 128, 2]).to(run.device)
    adam = partial(torch.optim.Adam, betas=(0.5, 0.99), fused=True)
    optimizer_g, optimizer_d = adam(G.parameters(), lr[0]), adam(D.parameters(), lr[1])
    steps, history, answers = run.config.steps, [], []
    rate = partial(learning_rate, total=steps)
    schedulers = LambdaLR(optimizer_g, rate), LambdaLR(optimizer_d, rate)
    adversarial = (lambda s: -s.mean()) if remedy == "WGAN-GP" else generator_loss
    for step in range(1, steps + 1):
        real, fake = draw_ring(128).to(run.device), G(torch.randn(128, 16, device=run.device))
        loss, answer = ring_losses(remedy, D, real, fake.detach())  # 1) 순전파, 2) 손실
        update(optimizer_d, loss)  # 판별자의 3)~5)
        update(optimizer_g, adversarial(D(fake)))  # 생성자의 1)~5)
        schedulers[0].step(), schedulers[1].step()
        answers.append(answer)
        if step % max(1, steps // 10) == 0:
            with torch.no_grad():
                samples = G(torch.randn(2000, 16, device=run.device)).cpu()
            row = dict(zip(HEALTH[:2], torch.stack(answers).mean(dim=0).tolist(), strict=True))
            row["종류"] = mode_coverage(samples, CENTERS, SPREAD)[0] / 8
            history, answers = [*history, row | {"걸음": step}], []
    return samples, history, D


def diagnose(history: Sequence[dict]) -> str:
    """기록의 뒤쪽 4분의 1을 평균해 정상, 모드 붕괴, 판별자 승리 가운데 하나를 답합니다."""
    last = history[-max(1, len(history) // 4) :]
    real, fake, kinds = (sum(r[n] for r in last) / len(last) for n in (*HEALTH[:2], "종류"))
    return "판별자 승리" if real - fake > 0.9 else "모드 붕괴" if kinds < 0.9 else "정상"


def check_remedies(run: Run) -> None:
    x, D = torch.randn(16, 5).double(), mlp([5, 8, 1], nn.Tanh).double()
    library = lambda t: torch.cat([t, t.std(dim=0, correction=0).mean().expand(len(t), 1)], dim=1)
    run.check_with_gradient("미니배치 표준편차와 torch.std", MinibatchStd(), library, x, atol=1e-6)
    length = torch.func.vmap(torch.func.grad(lambda point: D(point)[0]))(x).norm(dim=1)
    pairs = {"WGAN-GP의 벌점": (gradient_penalty(D, x, x), (length - 1).square().mean())}
    pairs["R1의 벌점"] = r1_penalty(D, x), length.square().mean()
    for name, (ours, theirs) in pairs.items():
        run.check(f"{name}과 torch.func", ours, theirs, atol=1e-9)
        grad = partial(torch.autograd.grad, inputs=D[0].weight, retain_graph=True)
        gradients = (grad(loss)[0] for loss in (ours, theirs))
        run.check(f"{name}, 가중치의 기울기", *gradients, atol=1e-9)
    layer = parametrizations.spectral_norm(nn.Conv2d(3, 6, 3)).to(run.device, run.exact(0)[0])
    theirs, weight = layer.parametrizations.weight[0], torch.randn_like(layer.weight)
    weight[0] *= 3  # 왜: 가장 큰 특잇값이 둘째보다 뚜렷이 커야 빨리 찾음
    ours = SpectralNorm(weight)
    for _ in range(300):
        ours(weight), theirs(weight)
    run.check_with_gradient("스펙트럼 정규화와 nn.utils의 것", ours.eval(), theirs.eval(), weight)


@chapter.section("7.2", "고리 위의 모드 붕괴")
def section_ring(run: Run) -> None:
    check_remedies(run)
    runs, real = {remedy: fit_ring(run, remedy) for remedy in REMEDIES}, draw_ring(2000)
    points = {"진짜": real} | {remedy: made for remedy, (made, *_) in runs.items()}
    run.figure(plot.point_panels(points, "만든 점 2,000개"), "02_ring")
    curve = lambda rows: ([row["걸음"] for row in rows], [8 * row["종류"] for row in rows])
    curves = {remedy: curve(rows) for remedy, (_, rows, _) in runs.items()}
    run.figure(plot.line_figure(curves, "걸음", "덮은 봉우리(개)", "모드 붕괴와 처방"), "03_modes")
    modes = {remedy: y[-1] for remedy, (_, y) in curves.items()}
    text = "처방이 없으면 봉우리 여덟을 다 덮지 못하고, R1을 쓰면 다 덮습니다"
    run.claim(text, modes, modes["없음"] < 8 == modes["R1"], unit="개")
    slopes = {}
    for remedy, (made, _, D) in runs.items():
        x = ((real + made) / 2).to(run.device).requires_grad_()  # 진짜와 가짜의 가운데
        length = torch.autograd.grad(D(x).sum(), x)[0].norm(dim=1)
        slopes[remedy] = (length - 1).abs().mean().item()
    text = "진짜와 가짜의 사이에서 기울기의 길이가 1에서 가장 덜 벗어나는 것은 WGAN-GP입니다"
    run.claim(text, slopes, min(slopes, key=slopes.get) == "WGAN-GP", unit="")
    _, stuck, _ = fit_ring(run, "없음", lr=(1e-6, 0.005))
    verdicts = [diagnose(history) for history in (runs["없음"][1], runs["R1"][1], stuck)]
    text = "기록만으로 처방이 없는 것, R1, 생성자가 멈춘 것을 알아봅니다"
    run.claim(text, ", ".join(verdicts), verdicts == ["모드 붕괴", "정상", "판별자 승리"])


# %% [markdown]
# **읽는 법.** 여덟을 덮는 데 걸린 걸음과, 점이 봉우리에 모인 정도를 그림에서 함께 보세요. 진단은
# 기록만 보는 규칙이라, 처음 겪는 병은 알아보지 못합니다.
#
# ## 7.3 전치 합성곱
# **왜 필요할까요?** 생성자는 작은 것을 키워 이미지를 만듭니다. **전치 합성곱**(transposed
# convolution)은 입력의 칸마다 커널을 찍어 더합니다. 합성곱에서 입력의 기울기(3강 3.1절)와
# 같습니다. K는 커널의 한 변, S는 스트라이드, P는 패딩입니다.
# ```text
# y[b, o, S*i + u - P, S*j + v - P] += weight[c, o, u, v] * x[b, c, i, j]    H' = (H-1) * S - 2P + K
# ```
# 커널 K가 스트라이드 S로 나누어떨어지지 않으면 자리마다 더해지는 횟수가 달라 격자무늬가 생깁니다
# (**체커보드**, checkerboard, Odena 외 2016).


# %%
def conv_transpose2d(x: Tensor, weight: Tensor, bias=None, stride: int = 1, padding: int = 0):
    """전치 합성곱입니다. x (B, C, H, W), weight (C, O, K, K) -> (B, O, H', W')"""
    (B, _, H, W), (_, O, K, _) = x.shape, weight.shape
    y = x.new_zeros(B, O, (H - 1) * stride + K, (W - 1) * stride + K)
    for u, v in np.ndindex(K, K):  # 커널의 칸마다, 입력 전체를 한꺼번에 찍음
        stamp = torch.einsum("co,bchw->bohw", weight[:, :, u, v], x)
        rows, columns = (slice(a, a + (n - 1) * stride + 1, stride) for a, n in ((u, H), (v, W)))
        y[:, :, rows, columns] += stamp
    y = y[:, :, padding : y.shape[2] - padding, padding : y.shape[3] - padding]
    return y if bias is None else y + bias[:, None, None]


@chapter.section("7.3", "전치 합성곱")
def section_transposed(run: Run) -> None:
    x, weight, bias = torch.randn(2, 3, 5, 6), torch.randn(3, 4, 4, 4), torch.randn(4)
    for options in ({}, {"stride": 2, "padding": 1}, {"stride": 3}):
        pair = (partial(f, **options) for f in (conv_transpose2d, F.conv_transpose2d))
        run.check_with_gradient(f"전치 합성곱 {options}", *pair, x, weight, bias)
    by_hand = conv_transpose2d(x, weight, stride=2, padding=1)  # x를 출력의 기울기로 봄
    by_torch = nn.grad.conv2d_input((2, 4, 10, 12), weight, x, stride=2, padding=1)
    run.check("합성곱에서 입력의 기울기", by_hand, by_torch, atol=1e-4)
    ones = lambda side: torch.ones(1, 1, side, side)
    maps = {f"K {k}, S 2": conv_transpose2d(ones(12), ones(k), stride=2) for k in (3, 4)}
    maps["늘리고 합성곱"] = F.conv2d(F.interpolate(ones(12), scale_factor=2.0), ones(3))
    maps = {name: y[0, 0, 3:-3, 3:-3] for name, y in maps.items()}  # 가장자리는 뺌
    images = [(one / one.max())[..., None].expand(-1, -1, 3).numpy() for one in maps.values()]
    run.figure(plot.image_grid(images, [*maps], 3, "모두 1일 때의 출력", 2), "04_checkerboard")
    uneven = {name: (one.std() / one.mean()).item() for name, one in maps.items()}
    text = "커널이 모두 1이면 K가 S로 나누어떨어지지 않을 때만 무늬가 생깁니다(표준편차 / 평균)"
    run.claim(text, uneven, uneven["K 3, S 2"] > 0.1 > max([*uneven.values()][1:]), unit="")


# %% [markdown]
# **읽는 법.** 이 강의의 생성자는 K 4, S 2를 씁니다. 배운 커널은 모두 1이 아니므로, 그래도 무늬가
# 생길 수는 있습니다.
#
# ## 7.4 생성자, 판별자와 학습 한 걸음
# **왜 필요할까요?** 한 걸음에 두 모델을 차례로 고칩니다. 판별자를 고칠 때는 생성자에 기울기가 가지
# 않게 합니다. 생성자를 고칠 때는 기울기가 판별자를 지나가지만, 판별자의 갱신에 섞이면 안 됩니다.
# 7.6절처럼 가짜를 한 번 만들어 두 번 쓰면 `detach`를 빠뜨릴 때 오류가 나지만, 가짜를 다시 만드는
# 코드에서는 오류 없이 기울기가 섞일 수 있습니다.
# ```text
# 생성자   z (B, L) -> (B, 8w, 4, 4) -> (4w, 8, 8) -> (2w, 16, 16) -> (w, 32, 32) -> (B, 3, 64, 64)
# 판별자   (B, 3, 64, 64) -> (w, 32, 32) -> (2w, 16, 16) -> (4w, 8, 8) -> (8w, 4, 4) -> 점수 (B,)
# DCGAN    배치 정규화를 두 모델에 씀 (Radford 외 2016)
# 다듬음   판별자에는 배치 정규화 대신 미니배치 표준편차를 씀. 나머지 차이는 7.6절
# ```


# %%
# 절반으로 줄일 때마다 채널을 두 배로. 64픽셀이면 w, 2w, 4w, 8w
stages = lambda width, size: [width * 2**k for k in range(int(math.log2(size // 4)))]


class Generator(nn.Module):
    """잠재 벡터 (B, L) -> 얼굴 (B, 3, S, S), -1~1. `labels`는 받아도 쓰지 않습니다."""

    def __init__(self, latent: int = 64, width: int = 24, size: int = 64) -> None:
        super().__init__()
        self.channels = width * size // 8  # 4x4 특징 맵의 채널
        self.start = nn.ConvTranspose2d(latent, self.channels, 4, bias=False)
        layers = [nn.BatchNorm2d(self.channels), nn.ReLU()]
        for inputs, outputs in pairwise(stages(width, size)[::-1]):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.blocks = nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, padding=1))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.blocks(self.start(z[:, :, None, None])).tanh()


class Discriminator(nn.Module):
    """얼굴 (B, 3, S, S) -> 점수 (B,). `batch_norm`이 True이면 DCGAN의 것입니다."""

    def __init__(self, width: int = 24, size: int = 64, batch_norm: bool = False) -> None:
        super().__init__()
        self.channels = width * size // 8
        layers = [nn.Conv2d(3, width, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(stages(width, size)):
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers += [nn.Conv2d(inputs, outputs, 4, 2, padding=1), *norm, nn.LeakyReLU(0.2)]
        self.blocks, std = nn.Sequential(*layers), [] if batch_norm else [MinibatchStd()]
        self.score = nn.Sequential(*std, nn.Conv2d(self.channels + len(std), 1, 4))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.score(self.blocks(x)).flatten()


def make(run: Run, build: Callable[..., nn.Module], *args, **options) -> nn.Module:
    torch.manual_seed(run.seed)
    return build(*args, **options).to(run.device, memory_format=torch.channels_last)


# 사진 (B, H, W, 3), 0~255를 (B, 3, H, W), -1~1로 바꾸고 되돌림
to_input = lambda photos: photos.permute(0, 3, 1, 2) / 127.5 - 1
to_photos = lambda x: ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)


@chapter.section("7.4", "생성자, 판별자와 학습 한 걸음")
def section_step(run: Run) -> None:
    config, data = run.config, load(run)
    length = lambda m: get_total_norm(p.grad for p in m.parameters() if p.grad is not None)
    G = Generator(config.latent, config.width, config.size).to(run.device)
    D = Discriminator(config.width, config.size, batch_norm=True).to(run.device)
    print(f"  매개변수: 생성자 {count_parameters(G):,}개, 판별자 {count_parameters(D):,}개")
    real = to_input(data.x_train[:32].to(run.device))
    run.check("사진으로 바꾸었다가 되돌리기", to_photos(real).cpu(), data.x_train[:32], atol=0)
    fake = G(torch.randn(32, config.latent, device=run.device))
    discriminator_loss(D(real), D(fake.detach())).backward()
    run.check("판별자의 걸음이 생성자에 주는 기울기", length(G), 0.0, atol=0)
    before = length(D)
    D.requires_grad_(False)
    generator_loss(D(fake)).backward(retain_graph=True)
    D.requires_grad_(True)
    run.check("생성자의 걸음 앞뒤의 판별자의 기울기", length(D), before, atol=0)
    right = torch.cat([p.grad.flatten() for p in G.parameters()])
    G.zero_grad()
    discriminator_loss(D(real), D(fake)).backward()  # detach를 빠뜨림
    leaked = torch.cat([p.grad.flatten() for p in G.parameters()])
    cosine = {"코사인": F.cosine_similarity(right, leaked, dim=0).item()}
    text = "detach를 빠뜨린 판별자의 손실은 생성자에 제 손실과 반대쪽의 기울기를 줍니다(코사인)"
    run.claim(text, cosine, cosine["코사인"] < 0, unit="")
    with torch.no_grad():
        alone, mixed = D(real)[:16], D(torch.cat([real[:16], fake[:16]]))[:16]
    moved = {"변화": (alone - mixed).abs().mean().item(), "흩어짐": alone.std().item()}
    text = "배치 정규화를 쓰면 같은 진짜의 점수가, 함께 있는 것에 따라 흩어짐의 10 % 넘게 변합니다"
    run.claim(text, moved, moved["변화"] > 0.1 * moved["흩어짐"], unit="")


# %% [markdown]
# **읽는 법.** 그래서 배치 정규화를 쓰는 판별자에는 흔히 진짜와 가짜를 따로 넣습니다.
#
# ## 7.5 만든 것을 재는 자
# **왜 필요할까요?** 손실은 상대에 대한 성적이라 얼굴이 나아졌는지 알려 주지 않습니다. 속성을 맞히는
# 분류기를 학습시키고, 마지막 특징 맵을 채널마다 평균한 64개의 수로 진짜와 가짜를 비교합니다. 이름은
# **특징 프레셰 거리**입니다. FID도 그런 평균을 쓰지만 ImageNet으로 배운 Inception의 것이라
# 값을 서로 비교할 수 없습니다.
# ```text
# 프레셰 거리  |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))  특징의 평균 m, 공분산 C (Heusel 외 2017)
# 정밀도       진짜마다 3번째로 가까운 진짜까지를 반지름으로 원을 그림. 어느 원에든 드는 가짜의 비율
# 재현율       가짜마다 3번째로 가까운 가짜까지를 반지름으로 원을 그림. 어느 원에든 드는 진짜의 비율
# ```
# 정밀도와 재현율은 Kynkäänniemi 외(2019)의 것입니다. (C1 C2)^(1/2)의 대각합은 대칭 행렬
# C1^(1/2) C2 C1^(1/2)의 고윳값의 제곱근의 합과 같습니다.


# %%
class AttributeNet(nn.Module):
    """얼굴 (B, S, S, 3), 0~255 -> 속성마다의 점수 (B, K). 잴 때는 `body`의 자리 평균을 씁니다."""

    def __init__(self, num_attributes: int, size: int = 64, width: int = 16) -> None:
        super().__init__()
        layers = []
        for inputs, outputs in pairwise([3, width, 2 * width, 4 * width, 4 * width]):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        hidden = nn.Linear(4 * width * (size // 16) ** 2, 64), nn.BatchNorm1d(64), nn.ReLU()
        self.output = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, num_attributes))

    def forward(self, photos: Tensor) -> Tensor:
        return self.output(self.body(to_input(photos)))  # 특징 맵 (B, 64, S/16, S/16) -> (B, K)


def fit_attributes(run: Run, data: FaceDataset) -> AttributeNet:
    """속성 분류기를 학습시킵니다."""
    net = make(run, AttributeNet, len(data.attribute_names), run.config.size)
    x, y = data.x_train.to(run.device), data.y_train.float().to(run.device)
    size = min(64, len(x))
    epochs = max(3, 12000 // len(x))  # 데이터가 적으면 여러 번
    steps = epochs * (len(x) // size)
    optimizer = torch.optim.AdamW(net.parameters(), 0.004, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, steps)
    for _ in range(epochs):
        for photos, labels in iterate_batches(x, y, size, shuffle=True, drop_last=True):
            logits = net(photos)  # 1) 순전파
            loss = F.binary_cross_entropy_with_logits(logits, labels)  # 2) 손실
            update(optimizer, loss)  # 3)~5)
            scheduler.step()
    return net.eval()


@torch.inference_mode()
def describe(net: AttributeNet, photos: Tensor) -> tuple[Tensor, Tensor]:
    """얼굴 (N, S, S, 3)의 특징 (N, 64)와, 속성이 있는지 (N, K)를 CPU에 모읍니다."""
    device, rows = next(net.parameters()).device, []
    for part in photos.split(250):
        maps = net.body(to_input(part.to(device)))
        rows.append((maps.mean(dim=(2, 3)).cpu().double(), (net.output(maps) > 0).cpu()))
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """두 특징 (N, D), (M, D)를 정규분포로 보았을 때의 프레셰 거리입니다."""
    A, B = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(A)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # A^(1/2)
    shared = torch.linalg.eigvalsh(root @ B @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (apart + A.trace() + B.trace() - 2 * shared).item()


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """정밀도와 재현율입니다. 특징 (N, D), (M, D)"""

    def inside(points: Tensor, others: Tensor) -> float:
        radius = torch.cdist(points, points).kthvalue(k + 1, dim=1).values  # 자신이 첫째
        return (torch.cdist(others, points) <= radius).any(dim=1).double().mean().item()

    return inside(real, fake), inside(fake, real)


@chapter.section("7.5", "만든 것을 재는 자")
def section_ruler(run: Run) -> AttributeNet:
    data = load(run)
    net = fit_attributes(run, data)
    real, has = describe(net, data.x_val)
    right = (has == data.y_val.bool()).double().mean(dim=0)
    common = torch.maximum(data.y_val.double().mean(dim=0), 1 - data.y_val.double().mean(dim=0))
    scores = {"분류기": right.mean().item(), "더 많은 쪽만 답하기": common.mean().item()}
    text = "속성 분류기의 정확도(속성의 평균)는 더 많은 쪽만 답하는 것보다 높습니다"
    run.claim(text, scores, scores["분류기"] > scores["더 많은 쪽만 답하기"])
    other, _ = describe(net, data.x_train[: len(real)])
    sets = real[:200], other[:150] + 0.1 * torch.randn_like(other[:150])
    theirs = metrics.neighbor_precision_recall(*sets)
    run.check("정밀도, 재현율과 scikit-learn", precision_recall(*sets), theirs, atol=1e-9)
    a, b = torch.randn(2, 300, 64).double() @ torch.randn(2, 64, 64).double() + 1
    run.check("프레셰 거리와 scipy", frechet_distance(a, b), metrics.scipy_frechet(a, b), atol=1e-6)
    apart = {}
    for noise in (0, 8, 16, 32, 64):
        dirty = (data.x_val + noise * torch.randn(data.x_val.shape)).round().clamp(0, 255)
        apart[noise] = frechet_distance(real, describe(net, dirty.byte())[0])
    labels, rows = ("더한 잡음의 표준편차", "특징 프레셰 거리", "자를 시험하기"), [*apart.values()]
    run.figure(plot.line_figure({"": ([*apart], rows)}, *labels), "05_ruler")
    text = "진짜에 더한 잡음의 표준편차가 클수록 특징 프레셰 거리가 커집니다"
    measured = {f"잡음 {noise}": row for noise, row in apart.items()}
    run.claim(text, measured, rows == sorted(rows), unit="")
    return net


# %% [markdown]
# **읽는 법.** 자가 더러워진 사진을 알아보는지 먼저 시험했습니다. 데이터나 분류기가 다르면 이 거리의
# 값은 서로 비교할 수 없습니다.
#
# ## 7.6 마지막 학습: 얼굴 생성기
# **왜 필요할까요?** DCGAN의 조리법(recipe)과 다듬은 조리법을 비교합니다. 생성자는 같고, 판별자는
# 7.4절의 한 곳만 다릅니다. DCGAN에 에폭을 더 주며, 걸린 시간은 아래에 출력합니다.
# ```text
#          학습률   베타         벌점        생성자의 EMA   학습률 일정   사진
# DCGAN    0.0002   0.5, 0.999   없음        없음           없음          그대로
# 다듬음   --lr     0.0, 0.99    R1 (--r1)   0.998          예열, 내림    절반은 좌우로 뒤집음
# ```
# DCGAN의 가중치는 논문대로 표준편차 0.02에서, 다듬은 것은 PyTorch의 기본에서 시작합니다. 다듬은
# 것은 기울기의 길이를 20으로 자릅니다(2강 2.7절). R1은 여덟 걸음마다 여덟 배로 계산합니다(Karras
# 외 2020은 열여섯 걸음마다). 한 걸음에 1)~5)를 두 번, 판별자와 생성자의 차례로 합니다.


# %%
Recipe = namedtuple("Recipe", "lr betas r1 ema clip refined")  # refined: 학습률 일정과 뒤집기
DCGAN = Recipe(0.0002, (0.5, 0.999), r1=0.0, ema=0.0, clip=math.inf, refined=False)
refined_recipe = lambda config: Recipe(config.lr, (0.0, 0.99), config.r1, 0.998, 20.0, True)
normal = lambda seed, shape: np.random.default_rng(seed).standard_normal(shape, np.float32)
draw_latent = lambda count, latent, seed=0: torch.from_numpy(normal(seed, (count, latent)))


@torch.inference_mode()
def generate(run: Run, G: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """잠재 벡터 (N, L) -> 얼굴 (N, S, S, 3), 0~255, CPU"""
    photos = []
    for k in range(0, len(z), 250):
        given = None if labels is None else labels[k : k + 250].float().to(run.device)
        with autocast(run.device, run.dtype):
            x = G.eval()(z[k : k + 250].to(run.device), given)
        photos.append(to_photos(x.float()).cpu())
    return torch.cat(photos)


def train(run: Run, net: AttributeNet, models: Sequence, recipe: Recipe, epochs: int, name: str):
    """G와 D(`models`)를 학습시켜 EMA 생성자, 에폭마다의 얼굴, 에폭마다의 기록을 냅니다."""
    config, data, album, (G, D) = run.config, load(run), Album(), models
    ema = copy.deepcopy(G).requires_grad_(False)
    x, y = data.x_train.to(run.device), data.y_train.float().to(run.device)
    size = min(config.batch_size, len(x))
    steps, goal = len(x) // size, describe(net, data.x_val[:1000])
    often = min(8, steps)  # R1을 몇 걸음마다 계산할지. 그만큼 곱해 크기를 맞춤
    adam = partial(torch.optim.Adam, lr=recipe.lr, betas=recipe.betas, fused=True)
    optimizer_g, optimizer_d = adam(G.parameters()), adam(D.parameters())
    factor = partial(learning_rate, total=epochs * steps) if recipe.refined else lambda t: 1.0
    schedulers = [LambdaLR(optimizer, factor) for optimizer in (optimizer_g, optimizer_d)]
    checkpoint = run.checkpoint(G, D, ema, optimizer_g, optimizer_d, *schedulers, album, name=name)
    for epoch in range(len(checkpoint.history), epochs):
        start, health = time.perf_counter(), torch.zeros(len(HEALTH), device=run.device)
        batches = iterate_batches(x, y, size, shuffle=True, drop_last=True)
        batches = enumerate(tqdm(batches, total=steps, leave=False, disable=None), epoch * steps)
        for step, (photos, labels) in batches:  # 처음부터 센 걸음. 에폭 안에서는 step % steps
            real = to_input(photos)
            if recipe.refined:
                flipped = torch.rand(len(real), 1, 1, 1, device=run.device) < 0.5
                real = torch.where(flipped, real.flip(3), real)
            z = torch.randn(len(real), config.latent, device=run.device)
            with autocast(run.device, run.dtype):
                fake = G(z, labels)  # 1) 순전파 (판별자)
                scores = D(real, labels).float(), D(fake.detach(), labels).float()
            loss = discriminator_loss(*scores)  # 2) 손실
            if recipe.r1 and step % steps % often == 0:
                loss = loss + often * recipe.r1 / 2 * r1_penalty(lambda t, y=labels: D(t, y), real)
            optimizer_d.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            lengths = [nn.utils.clip_grad_norm_(D.parameters(), recipe.clip)]
            optimizer_d.step()  # 5) 매개변수 갱신
            D.requires_grad_(False)  # 생성자의 걸음은 판별자에 기울기를 남기지 않음 (7.4절)
            with autocast(run.device, run.dtype):
                score = D(fake, labels).float()  # 1) 순전파 (생성자)
            loss = generator_loss(score)  # 2) 손실
            optimizer_g.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            lengths.append(nn.utils.clip_grad_norm_(G.parameters(), recipe.clip))
            optimizer_g.step()  # 5) 매개변수 갱신
            D.requires_grad_(True)
            schedulers[0].step(), schedulers[1].step()
            update_ema(ema, G, min(recipe.ema, (step + 1) / (step + 10)))  # 처음에는 빨리 따라감
            answers = [s.detach().sigmoid().mean() for s in scores]
            health += torch.stack([*answers, *lengths]) / steps
        row = dict(zip(HEALTH, health.tolist(), strict=True))  # 왜: 시간을 재기 전에 GPU를 기다림
        row["초"] = time.perf_counter() - start
        z = draw_latent(len(goal[0]), config.latent)
        features, has = describe(net, generate(run, ema, z, data.y_val))
        row["특징 거리"] = frechet_distance(goal[0], features)
        row["종류"] = metrics.kinds_covered(has, goal[1])
        album.add((generate(run, ema, z[:16], data.y_val[:16]).numpy(),))
        run.end_epoch(checkpoint, row, epochs)
    return ema, album, checkpoint.history


@chapter.section("7.6", "마지막 학습: 얼굴 생성기", needs=("7.5",))
def section_training(run: Run, net: AttributeNet) -> tuple[nn.Module, nn.Module, nn.Module]:
    config, sizes = run.config, (run.config.width, run.config.size)
    ours = make(run, Generator, config.latent, *sizes), make(run, Discriminator, *sizes)
    ema, album, rows = train(run, net, ours, refined_recipe(config), config.epochs, "checkpoint.pt")
    model_utils.save_weights(run.path("model.pt"), ema)
    print("  DCGAN")
    other = make(run, Generator, config.latent, *sizes), make(run, Discriminator, *sizes, True)
    for weight in (*other[0].parameters(), *other[1].parameters()):
        if weight.dim() == 4:  # 합성곱과 전치 합성곱의 커널
            nn.init.normal_(weight, 0, 0.02)
    epochs = math.ceil(1.15 * config.epochs)  # 왜: 한 걸음이 짧으므로 에폭을 더 주어 시간을 맞춤
    plain, _, plain_rows = train(run, net, other, DCGAN, epochs, "checkpoint-dcgan.pt")
    pages = [page[0] for page in album.pages]
    run.figure(plot.epoch_strip(pages, "같은 잠재 벡터의 얼굴"), "06_by_epoch")
    plot.save_gif(run.path("epochs.gif"), pages)
    histories = {"다듬음": rows, "DCGAN": plain_rows}
    groups = {"D의 답": HEALTH[:2], "기울기의 길이": HEALTH[2:], "검증 데이터": ("특징 거리",)}
    run.figure(plot.history_figure(histories, groups), "07_health")
    for who, history in histories.items():
        print(f"  {who}: {len(history)}에폭을 {sum(row['초'] for row in history):.0f}초에 배움")
    verdicts = [f"{who}: {diagnose(history)}" for who, history in histories.items()]
    text = "다듬은 조리법의 기록은 정상이라는 진단을 받습니다"
    run.claim(text, ", ".join(verdicts), verdicts[0] == "다듬음: 정상")
    return ema, ours[1], plain


# %% [markdown]
# **읽는 법.** 두 D의 답이 0과 1로 갈라지면 판별자가 이긴 것입니다. '종류'는 속성마다의 있음과
# 없음 가운데 만든 얼굴에도 진짜의 5분의 1 이상 나온 것의 비율이고, 0.9 아래이면 모드 붕괴로 봅니다.
#
# ## 7.7 결과
# **왜 필요할까요?** 숫자 하나로는 품질이 나쁜지 다양성이 모자란지 알 수 없고, 학습 얼굴을 외워도
# 좋은 값이 나옵니다. 그래서 나누어 봅니다. 테스트 얼굴의 절반과 비교합니다.
# ```text
# 기준선     잡음 / 평균 얼굴 하나 / PCA 정규분포(분산의 75 %나 95 %, 많아야 128개) / DCGAN
# PCA        사진이 가장 많이 달라지는 서로 직각인 방향만 남김. 방향마다 정규분포에서 뽑음
# 천장       진짜와 진짜. 테스트의 나머지 절반. 완벽한 생성자가 얻을 값
# 외우기     만든 얼굴에서 가장 가까운 학습 얼굴까지의 거리를 진짜 테스트 얼굴의 것과 비교함
# ```


# %%
@chapter.section("7.7", "결과", needs=("7.6",))
def section_result(run: Run, net: AttributeNet, trained: tuple) -> None:
    (G, _, plain), data, z = trained, load(run), draw_latent(1000, run.config.latent, seed=1)
    x_test, _ = data.take_test()
    count = min(1000, len(x_test) // 2)
    real, has = describe(net, x_test[:count])
    rng = torch.Generator().manual_seed(run.seed)
    sets = {"잡음": torch.randint(256, x_test[:count].shape, generator=rng).byte()}
    sets["평균 얼굴"] = data.x_train.float().mean(dim=0).byte().expand(count, -1, -1, -1)
    for share in (75, 95):
        gaussian = metrics.PixelGaussian(data.x_train, share / 100)
        sets[f"PCA 정규분포 {share} %"] = gaussian.sample(count, rng)
    sets |= {"DCGAN": generate(run, plain, z[:count]), "진짜와 진짜": x_test[count : 2 * count]}
    sets["다듬은 GAN"] = generate(run, G, z[:count])
    found, values = {name: describe(net, photos) for name, photos in sets.items()}, {}
    for name, (features, _) in found.items():
        values[name] = frechet_distance(real, features)
        precision, recall = precision_recall(real, features)
        print(f"  {name}: 정밀도 {100 * precision:.1f} %, 재현율 {100 * recall:.1f} %")
    for name in [*sets][:-2]:  # 천장(진짜와 진짜)은 아래의 판정에 나옴
        run.floor(name, values[name], unit="")
    ours, floor = values["다듬은 GAN"], "PCA 정규분포 75 %"
    run.result("특징 프레셰 거리", ours, beats=floor, unit="", lower_is_better=True)
    for name, times in {"PCA 정규분포 95 %": 1, "DCGAN": 0.5, "진짜와 진짜": 3}.items():
        text = f"다듬은 GAN의 특징 프레셰 거리는 {name}의 {times}배보다 작습니다"
        run.claim(text, {"다듬은 GAN": ours, name: values[name]}, ours < times * values[name], "")
    rates = {"진짜": has} | {name: found[name][1] for name in ("DCGAN", "다듬은 GAN")}
    rates = {name: has.double().mean(dim=0).tolist() for name, has in rates.items()}
    shown = {k: dict(zip(data.attribute_names, v, strict=True)) for k, v in rates.items()}
    run.figure(plot.bar_figure(shown, "비율", "속성이 있는 얼굴의 비율"), "08_attributes")
    gap = {k: np.abs(np.subtract(v, rates["진짜"])).max() for k, v in rates.items()}
    text = "다듬은 GAN에서는 모든 속성의 비율이 진짜와 10 %p 안에서 같습니다(가장 큰 차이)"
    run.claim(text, gap, gap["다듬은 GAN"] < 0.1)
    pair = sets["다듬은 GAN"], sets["진짜와 진짜"]
    (made, near), (real, _) = (metrics.nearest_photos(x, data.x_train) for x in pair)
    median = {"만든 얼굴": made.median().item(), "진짜 테스트 얼굴": real.median().item()}
    text = "가장 가까운 학습 얼굴까지의 거리(중앙값)가 진짜 테스트 얼굴의 절반보다 큽니다"
    run.claim(text, median, median["만든 얼굴"] > median["진짜 테스트 얼굴"] / 2, unit="")
    images = [*pair[0][:8].numpy(), *data.x_train[near[:8]].numpy()]
    titles = ["만든 얼굴"] * 8 + ["학습 (뒤집어 비교)"] * 8
    run.figure(plot.image_grid(images, titles, 8, "가장 가까운 학습 얼굴"), "09_nearest")


# %% [markdown]
# **읽는 법.** 평균 얼굴 하나는 정밀도가 높아도 재현율이 0입니다. 정밀도는 흔한 쪽에 몰려도 높으므로
# 둘을 함께 봅니다. 어느 차이 덕분인지는 하나씩 빼 보아야 압니다.
#
# ## 7.8 조건부 생성
# **왜 필요할까요?** 안경 쓴 얼굴처럼 원하는 것을 만들려면 속성을 함께 주어야 합니다(Mirza와
# Osindero 2014). 배운 모델에 속성을 받는 선형 계층을 0에서 시작해 더하고, 이어서 배웁니다.
# ```text
# 생성자   처음 특징 맵 (B, C, 4, 4) = 앞의 것 + E y           y (B, K) 속성(있으면 1, 없으면 -1)
# 판별자   점수 = 앞의 것 + V y와 평균(i, j) h의 내적          h (B, C, 4, 4) (Miyato와 Koyama 2018)
# E, V     배우는 행렬 (C, K)                                  주의: 논문은 평균이 아니라 합
# ```


# %%
class ConditionalGenerator(Generator):
    """잠재 벡터 (B, L)과 속성 (B, K), 0 또는 1 -> 얼굴 (B, 3, S, S)"""

    def __init__(self, num_attributes: int, latent: int, width: int, size: int) -> None:
        super().__init__(latent, width, size)
        self.embed = nn.Linear(num_attributes, self.channels, bias=False)
        nn.init.zeros_(self.embed.weight)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        asked = self.embed(2 * labels - 1)[:, :, None, None]  # (B, C, 1, 1)
        return self.blocks(self.start(z[:, :, None, None]) + asked).tanh()


class ConditionalDiscriminator(Discriminator):
    """얼굴 (B, 3, S, S)과 속성 (B, K) -> 점수 (B,). 투영 판별자입니다."""

    def __init__(self, num_attributes: int, width: int, size: int) -> None:
        super().__init__(width, size)
        self.embed = nn.Linear(num_attributes, self.channels, bias=False)
        nn.init.zeros_(self.embed.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = self.blocks(x)  # (B, C, 4, 4)
        match = (self.embed(2 * labels - 1) * h.mean(dim=(2, 3))).sum(dim=1)
        return self.score(h).flatten() + match


@chapter.section("7.8", "조건부 생성", needs=("7.6",))
def section_conditional(run: Run, net: AttributeNet, trained: tuple) -> None:
    (G, D, _), config, data = trained, run.config, load(run)
    K, names = len(data.attribute_names), data.attribute_names
    z, asked = draw_latent(len(data.y_val), config.latent, seed=2), data.y_val
    x, y = to_input(data.x_val[:8].to(run.device)), asked[:8].float().to(run.device)
    sizes = config.width, config.size
    models = [make(run, ConditionalGenerator, K, config.latent, *sizes)]
    models.append(make(run, ConditionalDiscriminator, K, *sizes))
    for model, learned, given in zip(models, (G, D), (z[:8].to(run.device), x), strict=True):
        model.load_state_dict(learned.state_dict(), strict=False)
        with torch.no_grad():
            pair = model.eval()(given, y), learned.eval()(given)
        run.check(f"{type(model).__name__}의 첫 출력과 배운 모델", *pair, atol=1e-4)
        model.train()
    agree = lambda made: (describe(net, made)[1] == asked.bool()).double().mean(dim=0)
    run.floor("요청을 무시하기", agree(generate(run, G, z)).mean().item())
    epochs = max(2, config.epochs // 3)
    made, *_ = train(run, net, models, refined_recipe(config), epochs, "checkpoint-conditional.pt")
    about = {"latent": config.latent, "sizes": sizes}  # --make가 쓸 것
    about |= {"names": names, "rows": data.y_val[:500].tolist()}
    model_utils.save_weights(run.path("conditional.pt"), made, **about)
    right = agree(generate(run, made, z, asked))
    run.result("요청한 속성대로 만든 비율", right.mean().item(), beats="요청을 무시하기")
    print("  " + lesson.percents(dict(zip(names, right.tolist(), strict=True))))
    labels = torch.cat([metrics.nearest_pair(data.y_train, k) for k in range(min(K, 8))])
    images = generate(run, made, z[:1].expand(len(labels), -1), labels).numpy()
    titles = [f"{name} {word}" for name in names[:8] for word in ("없음", "있음")]
    run.figure(plot.image_grid(images, titles, 8, "속성만 바꾸기"), "10_conditional")


# %% [markdown]
# **읽는 법.** 채점한 분류기는 생성자의 학습에 쓰지 않았고, 그 정확도(7.5절)가 천장입니다. 다른
# 얼굴을 그린 것일 수도 있으므로 그림에서 속성만 바뀌었는지 함께 보세요.
#
# ## 7.9 잠재 공간
# **왜 필요할까요?** 잠재 벡터를 조금 옮기면 얼굴도 조금 변해야 하고, 뜻이 있는 방향이 있어야
# 쓸모가 있습니다. z는 정규분포라 길이가 거의 sqrt(L)입니다. 곧게 섞으면 그보다 짧아집니다.
# ```text
# 직선   (1 - t) * a + t * b             구면(slerp)   (sin((1 - t) w) * a + sin(t w) * b) / sin(w)
# 방향   평균(속성이 있는 z) - 평균(없는 z)             w 두 벡터의 사잇각
# 줄이기(truncation)   s * z, s < 1      주의: BigGAN(Brock 외 2019)은 큰 값을 다시 뽑음
# ```


# %%
def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """두 벡터 (..., L)의 사이를 구를 따라 잇습니다(Shoemake 1985). t는 0~1"""
    cosine = F.cosine_similarity(a, b, dim=-1).clamp(-1 + 1e-7, 1 - 1e-7)
    angle = torch.acos(cosine)[..., None]
    return (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()


@chapter.section("7.9", "잠재 공간", needs=("7.6",))
def section_latent(run: Run, net: AttributeNet, trained: tuple) -> None:
    (G, *_), data, z = trained, load(run), draw_latent(2000, run.config.latent, seed=3)
    a, b = (F.normalize(t.double(), dim=0) for t in z[:2])
    ours = torch.stack([slerp(a, b, t) for t in (0.0, 0.25, 0.5, 1.0)])
    theirs = geometric_slerp(a.numpy(), b.numpy(), np.array([0.0, 0.25, 0.5, 1.0]))
    run.check("구면 보간과 scipy", ours, theirs, atol=1e-6)
    a, b = z[:1000], z[1000:]
    vectors = {"처음": a, "직선": (a + b) / 2, "구면": slerp(a, b, 0.5)}
    lengths = {name: t.norm(dim=1).mean().item() for name, t in vectors.items()}
    text = "곧게 섞은 가운데 벡터는 처음의 0.8배보다 짧고, 구면으로 섞으면 0.9배보다 깁니다"
    holds = lengths["직선"] < 0.8 * lengths["처음"] and lengths["구면"] > 0.9 * lengths["처음"]
    run.claim(text, lengths, holds, unit="")
    times = torch.linspace(0, 1, 8).tolist()
    rows = [generate(run, G, torch.stack([slerp(a[k], b[k], t) for t in times])) for k in range(4)]
    titles = [f"t = {t:.2f}" for t in times] * 4
    figure = plot.image_grid([*torch.cat(rows).numpy()], titles, 8, "두 얼굴의 사이 (구면)")
    run.figure(figure, "11_interpolation")
    features = torch.stack([describe(net, row)[0] for row in rows])  # (4, 8, 64)
    steps = features.diff(dim=1).norm(dim=2) / (features[:, 7:] - features[:, :1]).norm(dim=2)
    smooth = {"평균": steps.mean().item(), "가장 큰 것": steps.amax(dim=1).mean().item()}
    text = "일곱 걸음 가운데 가장 큰 것도 두 끝의 차이보다 작습니다(차이에 대한 비율, 네 짝의 평균)"
    run.claim(text, smooth, smooth["가장 큰 것"] < 1)
    check_directions(run, net, G, z)
    z, scales = z[: min(1000, len(data.x_val))], (0.3, 0.5, 0.7, 0.85, 1.0)
    real, _ = describe(net, data.x_val[: len(z)])
    pairs = [precision_recall(real, describe(net, generate(run, G, s * z))[0]) for s in scales]
    precision, recall = zip(*pairs, strict=True)
    curves = {"정밀도": (scales, precision), "재현율": (scales, recall)}
    figure = plot.line_figure(curves, "줄인 배율 s", "비율", "줄이기: 품질과 다양성")
    run.figure(figure, "14_truncation")
    ends = {"정밀도 0.5": precision[1], "정밀도 1": precision[-1]}
    ends |= {"재현율 0.5": recall[1], "재현율 1": recall[-1]}
    text = "잠재 벡터를 절반으로 줄이면 정밀도가 오르고 재현율이 내립니다"
    run.claim(text, ends, precision[1] > precision[-1] and recall[1] < recall[-1])


def check_directions(run: Run, net: AttributeNet, G: nn.Module, z: Tensor) -> None:
    """속성의 방향을 찾아 얼굴을 옮기고, 분류기로 속성의 비율이 얼마나 변하는지 잽니다."""
    look = lambda t: describe(net, generate(run, G, t))[1].double()  # 만든 얼굴의 속성 (N, K)
    names, y, found = load(run).attribute_names, load(run).y_train, look(z)
    usual = [k for k in range(len(names)) if 0.03 < found[:, k].mean() < 0.97][:8]
    if len(usual) < 2:
        return print("  거의 모든 얼굴의 속성이 같아 방향을 찾지 못했습니다.")
    apart = lambda has: F.normalize(z[has].mean(dim=0) - z[~has].mean(dim=0), dim=0)
    ways = {k: 3 * apart(found[:, k] > 0) for k in usual}  # 길이가 3인 방향 (L,)
    start, moved, others = z[:500], {}, []
    for k, way in ways.items():
        change = (look(start + way) - found[:500]).mean(dim=0)  # (K,)
        moved[names[k]] = change[k].item()
        others.append((change.abs().sum() - change[k].abs()).item() / (len(names) - 1))
    measured = {"가장 덜 늘어난 것": min(moved.values()), "평균": np.mean([*moved.values()])}
    measured["다른 속성의 평균"] = np.mean(others)
    text = "속성의 방향으로 옮기면 그 속성이 늘고, 다른 속성은 평균하면 그보다 덜 변합니다"
    run.claim(text, measured, min(moved.values()) > 0 and measured["평균"] > np.mean(others))
    run.figure(plot.bar_figure({"변화": moved}, "비율의 변화", "3만큼 옮길 때"), "12_directions")
    first, *rest = sorted(ways, key=lambda k: -moved[names[k]])
    # 왜: 함께 있는 것이 많은 짝을 골라, 금발과 흰머리처럼 함께 있을 수 없는 짝을 피함
    second = max(rest, key=lambda k: (y[:, first] * y[:, k]).sum())
    share = lambda t: look(t)[:, [first, second]].all(dim=1).double().mean().item()
    shares = {"옮기기 전": share(start), "옮긴 뒤": share(start + ways[first] + ways[second])}
    text = f"방향을 더하면 두 속성({names[first]}, {names[second]})이 함께 있는 얼굴이 늘어납니다"
    run.claim(text, shares, shares["옮긴 뒤"] > shares["옮기기 전"])
    scales = (-1, -0.5, 0, 0.5, 1)
    moves = torch.stack([start[:4] + s * ways[first] for s in scales], dim=1)  # (4, 5, L)
    images = generate(run, G, moves.flatten(0, 1)).numpy()
    titles = [f"{names[first]} {3 * s:+.1f}" for s in scales] * 4
    run.figure(plot.image_grid(images, titles, 5, "속성의 방향"), "13_direction")


# %% [markdown]
# **읽는 법.** 방향은 평균의 차이라, 데이터에서 함께 나오는 속성은 함께 움직일 수 있습니다. 줄인 z는
# 배울 때 거의 나오지 않은 길이라(7.9절의 첫 판정), 품질이 오를지는 재어 보아야 압니다.
#
# ## 정리
# - 판별자가 최적일 때 게임의 값은 두 분포의 발산으로 정해집니다(7.1절의 확인).
# - 모드 붕괴는 셀 수 있고, 처방마다 효과를 잴 수 있습니다(7.2절의 판정).
# - 생성 모델은 자를 먼저 만들고 재야 하고, 자도 시험해야 합니다(7.5절의 판정).
#
# ## 연습문제
# 1. `fit_ring`에서 두 학습률을 같게 하면 처방이 없을 때 봉우리 몇 개를 덮습니까? (7.2절)
# 2. `r1`을 0으로 하고 학습하면 진단과 특징 거리가 바뀝니까? (`--r1 0`, 7.6절)
# 3. 힌지 손실 relu(1 - 점수(진짜)) + relu(1 + 점수(가짜))로 바꾸어 비교하세요. (7.6절)
# 4. 얼굴의 왼쪽 절반만 주고 오른쪽을 만들려면 무엇을 조건으로 주어야 합니까? (7.8절)
#
# ## 더 읽을거리
# - I. Goodfellow 외, Generative Adversarial Networks, 2014: https://arxiv.org/abs/1406.2661
# - L. Mescheder 외, Which Training Methods for GANs, ICML 2018: https://arxiv.org/abs/1801.04406
# - T. Karras 외, StyleGAN2, CVPR 2020: https://arxiv.org/abs/1912.04958
# - T. Kynkäänniemi 외, Improved Precision and Recall, 2019: https://arxiv.org/abs/1904.06991


# %%
def make_faces(run: Run) -> dict:
    """`--make`로 준 속성의 얼굴을 만듭니다. 나머지 속성은 검증 데이터의 것을 씁니다."""
    about = read_about(run.path("conditional.pt"))
    names, rows = about["names"], torch.tensor(about["rows"])
    asked = [name.strip() for name in run.config.make.split(",")]
    if wrong := [name for name in asked if name not in names]:
        known = ", ".join(names)
        raise UserError(f"--make: 모르는 속성입니다({', '.join(wrong)}). 이 가운데 주세요: {known}")
    columns = [names.index(name) for name in asked]
    labels = rows[rows[:, columns].sum(dim=1).argsort(descending=True, stable=True)[:24]]
    labels[:, columns] = 1
    G = ConditionalGenerator(len(names), about["latent"], *about["sizes"]).to(run.device)
    load_weights(run.path("conditional.pt"), G)
    images = generate(run, G, draw_latent(len(labels), about["latent"], run.seed), labels).numpy()
    run.figure(plot.image_grid(images, [""] * len(images), 8, run.config.make), "make")
    return {"faces": len(images)}


def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    if run.config.make:
        return make_faces(run)
    section_game(run)
    section_ring(run)
    section_transposed(run)
    section_step(run)
    net = section_ruler(run)
    trained = section_training(run, net)
    section_result(run, net, trained)
    section_conditional(run, net, trained)
    section_latent(run, net, trained)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
