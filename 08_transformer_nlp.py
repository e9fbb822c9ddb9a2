# %% [markdown]
"""
# 8강. 트랜스포머로 번역하기

| 항목 | 내용 |
|---|---|
| 배우는 것 | 어텐션부터 번역기까지 손으로 만들어 PyTorch와 비교하고, 번역을 BLEU로 바르게 잽니다 |
| 먼저 볼 것 | 2강 2.4절(손실), 2.5절(정규화), 2.7절(학습률), 3강 3.5절(잔차), 4강 4.1절, 4.6절 |
| 데이터 | Multi30k 독일어-영어 (약 1.3 MB)나 내 파일(`--parallel`). 없으면 만든 영한 캡션 |
| 실행 | `python 08_transformer_nlp.py` |
| 빠른 확인 | `python 08_transformer_nlp.py --quick` |
| 기대 결과 | 테스트 번역 40.95 ± 0.32 BLEU, 낱말마다 옮기기 25.08 (Multi30k(de-en) 3회, 22분) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-25 |
"""

# %%
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array, csr_array
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from utils import lesson, metrics, translation
from utils import visualization as plot
from utils.command_line import option, setting
from utils.datasets import captions
from utils.device import autocast, median_seconds
from utils.lesson import Lesson, Run, printable
from utils.model_utils import clip_grad_norm, count_parameters, save_weights
from utils.translation import Parallel, Subwords, draw_attention, encode_pairs, measure, translate


@dataclass(frozen=True)
class Config:
    epochs: int = setting(8, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(64, "한 번에 보는 문장의 평균 수", low=2)
    lr: float = setting(0.0015, "학습률의 최댓값", above=0)
    hidden: int = setting(256, "토큰 벡터의 크기", low=16, multiple=8)
    width: int = setting(512, "피드포워드의 너비", low=16)
    layers: int = setting(3, "인코더와 디코더의 계층 수", low=1)
    dropout: float = setting(0.1, "드롭아웃의 비율", low=0, below=1)
    words: int = setting(6000, "두 언어가 함께 쓰는 부분 낱말의 수", low=100)
    length: int = setting(100, "이보다 토큰이 많은 짝은 쓰지 않음", low=10, below=1024)
    pairs: int = setting(200000, "학습에 쓰는 짝의 최대 수", low=60)
    small: int = setting(1500, "작은 실험에 쓰는 짝의 수", low=60)
    steps: int = setting(400, "작은 실험의 걸음 수", low=10)
    pair: str = setting("de-en", "Multi30k의 방향", choices=("de-en", "en-de"))
    parallel: str = option("", "내 번역 짝(탭으로 나눈 파일이나 줄 맞춘 둘)", metavar="파일[,파일]")
    translate: str = option("", "이 문장을 번역하고 끝냅니다", metavar="문장")


QUICK = replace(Config(), epochs=5, batch_size=32, lr=0.006, hidden=64, width=128, layers=1)
QUICK = replace(QUICK, words=1000, pairs=2500, small=300, steps=60)
chapter = Lesson(__file__, __doc__, Config(), QUICK, mixed=("cuda",))  # CPU는 메모리를 더 씀
PAD, UNKNOWN, BOS, EOS = 0, 1, 2, 3  # 빈자리, 모름, 시작, 끝의 번호
HEADS = 4  # 머리의 수
SPACE = "\u2581"  # 낱말의 첫머리. sentencepiece가 띄어쓰기 대신 씀
NORMS = {"post-norm": False, "pre-norm": True}  # 이름과 norm_first
GLOSS = "낱말마다 옮기기"
load = lambda run: run.data(captions.load, pair=run.config.pair, parallel=run.config.parallel)


# %% [markdown]
# ## 8.1 어텐션
# **왜 필요할까요?** 번역할 때는 원문의 어느 낱말을 볼지가 때마다 다릅니다. **어텐션**(attention)은
# 질문(query)과 내적이 큰 열쇠(key)일수록 그 값(value)을 많이 섞습니다(4강 4.6절을 넓힌 것).
# ```text
# 어텐션(Q, K, V) = softmax(Q K^T / sqrt(D)) V           (Vaswani 외 2017, 식 1)
# Q (T, D) 질문 T개     K (S, D) 열쇠 S개     V (S, E) 값 S개     가중치 (T, S)는 줄마다 합이 1
# 빈자리 마스크     원문의 빈자리(4강 4.3절)를 보지 않음
# 인과 마스크       t번째 자리는 t번째까지만 봄. 뒤를 보면 답을 미리 보는 셈
# ```
# Q와 K의 칸이 독립이고 평균 0, 분산 1이면 내적의 분산은 D입니다. sqrt(D)로 나누지 않으면 D가 클 때
# 소프트맥스가 한 칸에 몰려 기울기가 사라집니다. 엔트로피 -합 w log w가 작을수록 몰린 것입니다.


# %%
def attention_by_loops(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """한 칸씩 계산한 어텐션입니다. q (T, D), k (S, D), v (S, E) -> (T, E)"""
    rows = []
    for query in q:
        parts = [(torch.dot(query, key) / len(query) ** 0.5).exp() for key in k]
        rows.append(sum(part / sum(parts) * value for part, value in zip(parts, v, strict=True)))
    return torch.stack(rows)


def scaled_dot_product_attention(q, k, v, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """q (..., T, D), k (..., S, D), v (..., S, E) -> 결과 (..., T, E), 가중치 (..., T, S)"""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:  # mask (..., T, S)는 True가 봄. 왜: -inf로 채우면 볼 칸이 없는 줄이 0 / 0 = NaN이 됨
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1) * mask
    return weights @ v, weights


def causal_mask(T: int, start: int = 0, device: torch.device | None = None) -> Tensor:
    """`start`번째부터의 자리 T개가 볼 수 있는 곳이 True인 (T, start + T)입니다."""
    return torch.ones(T, start + T, dtype=torch.bool, device=device).tril(start)


@chapter.section("8.1", "어텐션")
def section_attention(run: Run) -> None:
    check = partial(run.check_with_gradient, input_names=[f"{name}의 기울기" for name in "QKV"])
    by_matrices = lambda *args: scaled_dot_product_attention(*args)[0]
    by_library = lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    q, k, v = torch.randn(4, 6), torch.randn(5, 6), torch.randn(5, 3)
    check("반복문과 행렬로 계산한 어텐션", attention_by_loops, by_matrices, q, k, v)
    q, k, v = (torch.randn(2, 3, 5, 4) for _ in range(3))  # (B, H, T, D)
    mask = causal_mask(5) & (torch.tensor([5, 3])[:, None] > torch.arange(5))[:, None, None]
    check("두 마스크와 F.scaled_dot_product_attention", by_matrices, by_library, q, k, v, mask)
    blind = mask & (torch.arange(5) != 2)[:, None]  # 2번 줄은 볼 칸이 없음
    check("볼 칸이 없는 줄이 있을 때", by_matrices, by_library, q, k, v, blind)
    powers, entropy, slope = range(2, 11, 2), {}, {}
    for name, root in (("그대로", 0.0), ("sqrt(D)로 나눔", 0.5)):
        entropy[name], slope[name] = (powers, []), (powers, [])
        for D in (2**k for k in powers):  # 4, 16, 64, 256, 1024
            scores = torch.einsum("bd,bsd->bs", torch.randn(512, D), torch.randn(512, 16, D))
            w = (scores / D**root).softmax(dim=1)  # (512, 16) 열쇠 열여섯 개
            jacobian = torch.diag_embed(w) - w[:, :, None] * w[:, None]  # softmax의 미분
            entropy[name][1].append(-torch.xlogy(w, w).sum(dim=1).mean().item())
            slope[name][1].append(jacobian.flatten(1).norm(dim=1).mean().item())
    even = f"가중치의 엔트로피(고르면 {math.log(16):.2f})"
    panels = {even: entropy, "softmax의 미분의 크기": slope}
    run.figure(plot.panel_figure(panels, "log2 D", share=False), "01_scale")
    kept = {name: values[-1] / values[0] for name, (_, values) in slope.items()}
    text = "D가 4에서 1024가 되면 미분이 절반도 안 남고, sqrt(D)로 나누면 20 % 안에서 그대로입니다"
    run.claim(text, kept, kept["그대로"] < 0.5 and abs(kept["sqrt(D)로 나눔"] - 1) < 0.2, "배")


# %% [markdown]
# **읽는 법.** 볼 칸이 없는 줄은 원문이 빈자리뿐일 때 생깁니다. 그림에서 나눈 선은 거의 평평합니다.
#
# ## 8.2 여러 머리
# **왜 필요할까요?** 가중치 한 벌로는 한 가지만 볼 수 있습니다. **다중 머리**(multi-head) 어텐션은
# q, k, v를 저마다 H토막으로 나누어 따로 봅니다. 나누는 일은 모양을 달리 읽는 것뿐입니다(view).
# ```text
# 머리 h    어텐션(x W_q[h], m W_k[h], m W_v[h])    x (B, T, D) 질문하는 쪽, m (B, S, D) 답하는 쪽
# 결과      이어 붙인 H개의 머리 (B, T, D) @ W_o    W_q[h] (D, D / H), W_o (D, D). 편향은 줄였음
# 비용      가중치의 칸이 B * H * T * S개. 두 문장이 모두 두 배로 길어지면 네 배
# 셀프 어텐션(self-attention) x = m        교차 어텐션(cross-attention) m이 다른 문장
# ```


# %%
class MultiHeadAttention(nn.Module):
    """여러 머리의 어텐션입니다(논문의 3.2.2절). x (B, T, D), memory (B, S, D) -> (B, T, D)"""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * size, size) / size**0.5)  # W_q, W_k, W_v
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_proj = nn.Linear(size, size)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, H, T, D / H). 복사하지 않습니다."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, memory: Tensor, mask=None, cache: dict | None = None) -> Tensor:
        D, W, b = x.shape[2], self.in_proj_weight, self.in_proj_bias
        q = self.split(F.linear(x, W[:D], b[:D]))
        if cache and self in cache and x is not memory:  # 교차 어텐션: 캐시(8.10절)의 원문을 씀
            k, v = cache[self]
        else:
            k, v = map(self.split, F.linear(memory, W[D:], b[D:]).chunk(2, dim=2))
            if cache and self in cache:  # 셀프 어텐션: 새 토큰의 것을 앞의 것에 이어 붙임
                k, v = (torch.cat(pair, dim=2) for pair in zip(cache[self], (k, v), strict=True))
        if cache is not None:
            cache[self] = k, v
        y, weights = scaled_dot_product_attention(q, k, v, mask)
        self.weights = weights.detach()  # (B, H, T, S) 8.12절에서 봄
        return self.out_proj(y.transpose(1, 2).flatten(2))


@chapter.section("8.2", "여러 머리")
def section_heads(run: Run) -> None:
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = (torch.tensor([5, 2])[:, None] > torch.arange(5))[:, None, None]  # (B, 1, 1, S)
    pair = MultiHeadAttention(8, 2), translation.LibraryAttention(8, 2, batch_first=True)
    run.check_modules("다중 머리와 nn.MultiheadAttention", *pair, x, memory, mask)
    lengths = (32, 64, 128, 256) if run.quick else (64, 128, 256, 512, 1024)
    layer, seconds = MultiHeadAttention(64, HEADS).to(run.device), []
    for T in lengths:
        x = torch.randn(4, T, 64, device=run.device)
        seconds.append(median_seconds(lambda x=x: layer(x, x).sum().backward(), run.device))
    law = [seconds[-1] * (T / lengths[-1]) ** 2 for T in lengths]
    curves = {"잰 시간": (lengths, seconds), "T의 제곱에 비례": (lengths, law)}
    run.figure(plot.line_figure(curves, "T", "초", "어텐션 한 걸음", log="xy"), "02_cost")
    text = f"문장이 {lengths[-2]}토큰에서 {lengths[-1]}토큰이 되면 시간이 두 배 넘게 늘어납니다"
    run.claim(text, {"시간의 비": seconds[-1] / seconds[-2]}, seconds[-1] > 2 * seconds[-2], "배")


# %% [markdown]
# **읽는 법.** 짧은 문장에서는 T에 비례하는 선형 계층도 있어 제곱의 선보다 천천히 늘어납니다.
#
# ## 8.3 계층
# **왜 필요할까요?** 인코더는 원문을, 디코더는 번역문을 맡습니다. 계층은 셀프 어텐션, (디코더만)
# 교차 어텐션, **피드포워드**(feed-forward)의 차례이고, 하나하나를 잔차 연결(3강 3.5절)과 계층
# 정규화(2강 2.5절)로 감쌉니다. 정규화를 어디에 두는지에 따라 기울기가 달라집니다.
# ```text
# post-norm (논문)   x = LN(x + f(x))        정규화가 잔차의 길에 있음
# pre-norm           x = x + f(LN(x))        잔차의 길이 곧음        LN 계층 정규화, f 어텐션 따위
# 피드포워드         relu(x W1 + b1) W2 + b2     자리마다 따로. W1 (D, 너비), W2 (너비, D)
# ```


# %%
class EncoderLayer(nn.Module):
    """인코더의 계층입니다(논문의 3.1절). x (B, S, D) -> (B, S, D). 이름은 PyTorch와 같습니다."""

    def __init__(self, size: int, heads: int, hidden: int, dropout=0.1, norm_first=True) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(size, heads)
        self.linear1, self.linear2 = nn.Linear(size, hidden), nn.Linear(hidden, size)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.dropout, self.norm_first = nn.Dropout(dropout), norm_first

    def wrap(self, x: Tensor, norm: nn.Module, f: Callable[[Tensor], Tensor]) -> Tensor:
        """잔차 연결과 정규화로 `f`를 감쌉니다. 드롭아웃은 논문처럼 f의 결과에만 씁니다."""
        if self.norm_first:
            return x + self.dropout(f(norm(x)))
        return norm(x + self.dropout(f(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.wrap(x, self.norm1, lambda h: self.self_attn(h, h, mask))
        return self.wrap(x, self.norm2, self.feed_forward)


class DecoderLayer(EncoderLayer):
    """디코더의 계층입니다(논문의 3.1절). x (B, T, D), memory (B, S, D) -> (B, T, D)"""

    def __init__(self, size: int, *args, **options) -> None:
        super().__init__(size, *args, **options)
        self.multihead_attn = MultiHeadAttention(size, self.self_attn.heads)
        self.norm3 = nn.LayerNorm(size)

    def forward(self, x: Tensor, memory, causal, mask, cache: dict | None = None) -> Tensor:
        x = self.wrap(x, self.norm1, lambda h: self.self_attn(h, h, causal, cache))
        look = lambda h: self.multihead_attn(h, memory, mask, cache)
        return self.wrap(self.wrap(x, self.norm2, look), self.norm3, self.feed_forward)


class Stack(nn.Module):
    """계층을 쌓고 끝에 LN을 한 번 더 둔 것입니다(nn.Transformer와 같음). (B, T, D) -> 같음"""

    def __init__(self, build: Callable[[], EncoderLayer], layers: int, size: int) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(build() for _ in range(layers)), nn.LayerNorm(size)
        for weight in (p for p in self.parameters() if p.dim() > 1):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, *args) -> Tensor:
        for layer in self.layers:
            x = layer(x, *args)
        return self.norm(x)


@chapter.section("8.3", "계층")
def section_layers(run: Run) -> None:
    curves, x = {}, torch.randn(16, 10, 64, device=run.device)
    for name, first in NORMS.items():
        torch.manual_seed(run.seed)
        stack = Stack(lambda first=first: EncoderLayer(64, HEADS, 128, 0.0, first), 12, 64)
        (stack.to(run.device)(x) * torch.randn_like(x)).mean().backward()
        sizes = [layer.linear1.weight.grad.norm().item() for layer in stack.layers]
        curves[name] = range(1, 13), sizes
    run.figure(plot.line_figure(curves, "계층", "기울기의 크기", "학습 전의 기울기"), "03_norms")
    shape = {name: sizes[-1] / sizes[0] for name, (_, sizes) in curves.items()}
    text = "post-norm에서는 뒤 계층의 기울기가 첫 계층보다 크고, pre-norm에서는 작습니다"
    run.claim(text, shape, shape["post-norm"] > 1 > shape["pre-norm"], unit="배")


# %% [markdown]
# **읽는 법.** post-norm은 출력에 가까운 계층의 기울기가 커서 예열이 필요합니다(8.7절). 번역기는
# pre-norm입니다. 두 계층의 출력과 기울기는 8.5절에서 쌓은 뒤 PyTorch의 것과 비교합니다.
#
# ## 8.4 자리
# **왜 필요할까요?** 어텐션은 낱말의 모임을 볼 뿐 차례를 모릅니다. 그래서 **위치 인코딩**(positional
# encoding)을 벡터에 더합니다. 사인과 코사인을 쓰면 k칸 옮긴 것이 회전이 됩니다.
# ```text
# P[t, 2i] = sin(t w_i)    P[t, 2i + 1] = cos(t w_i)    w_i = 10000^(-2i / D)     (논문의 3.5절)
# p[t] = P[t, 2i:2i + 2]    p[t + k] = [[c, s], [-s, c]] p[t]    c = cos(k w_i), s = sin(k w_i)
# 배우는 위치: 자리마다의 벡터를 임베딩처럼 배움. 배운 길이를 넘는 자리는 무작위 그대로임
# 문제: 토큰 1이 토큰 2보다 앞에 있는가. 6~12토큰으로 배우고 더 긴 것에서도 잼
# ```


# %%
def sinusoidal_positions(T: int, D: int) -> Tensor:
    """사인과 코사인의 위치 인코딩 (T, D)입니다. D는 짝수입니다."""
    angles = torch.arange(T)[:, None] * 10000 ** (-torch.arange(0, D, 2) / D)  # (T, D / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class Toy(nn.Module):
    """자리마다 답하는 작은 인코더입니다. 번호 (B, T) -> 점수 (B, T, 12)"""

    def __init__(self, positions: Tensor, layers: int, norm_first=True) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(12, 64), nn.Linear(64, 12)
        self.positions = positions  # (자리, 64)
        self.stack = Stack(lambda: EncoderLayer(64, HEADS, 128, 0.0, norm_first), layers, 64)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.stack(self.embedding(tokens) + self.positions[: tokens.shape[1]]))


def fit(model: nn.Module, draw: Callable, steps: int, warmup: int = 1) -> list[float]:
    """`draw()`가 낸 (번호, 정답)으로 배울 때 걸음마다의 손실입니다. `warmup`은 예열 걸음입니다."""
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.003, (0.9, 0.98), fused=True), []
    scheduler = LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / warmup))
    for _ in range(steps):
        tokens, y = draw()
        loss = F.cross_entropy(model(tokens).flatten(0, 1), y.flatten())  # 1) 순전파, 2) 손실
        optimizer.zero_grad()  # 3) 기울기 비우기
        loss.backward()  # 4) 역전파
        optimizer.step(), scheduler.step()  # 5) 매개변수 갱신
        losses.append(loss.item())
    return losses


@chapter.section("8.4", "자리")
def section_positions(run: Run) -> None:
    P, k = sinusoidal_positions(50, 8).view(50, 4, 2), 7
    angles = k * 10000 ** (-torch.arange(0, 8, 2) / 8)
    turn = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], 1).view(4, 2, 2)
    run.check("7칸 뒤의 위치와 회전", P[k:], torch.einsum("iab,tib->tia", turn, P[:-k]), 1e-5)
    layer, order, x = MultiHeadAttention(8, 2), [3, 0, 4, 1, 2], torch.randn(1, 5, 8)
    mixed = layer(x[:, order], x[:, order])
    run.check("위치가 없으면 차례를 바꿔도 결과의 차례만 바뀜", mixed, layer(x, x)[:, order])
    tables = {"없음": torch.zeros(32, 64), "사인": sinusoidal_positions(32, 64)}
    tables["배움"], lengths, curves = torch.randn(32, 64), (6, 9, 12, 16, 20, 24, 32), {}
    for name, table in tables.items():
        torch.manual_seed(run.seed)
        table = table.to(run.device)
        model = Toy(nn.Parameter(table) if name == "배움" else table, 1).to(run.device)
        fit(model, partial(translation.draw_orders, run.device), run.config.steps)
        tests = [translation.draw_orders(run.device, 1000, T) for T in lengths]
        right = [(model(tokens).argmax(dim=2) == y).float().mean().item() for tokens, y in tests]
        curves[name] = lengths, right
    run.figure(plot.line_figure(curves, "문장의 길이", "정확도", "차례 맞히기"), "04_order")
    seen = {name: values[2] for name, (_, values) in curves.items()}
    text = "위치를 더하지 않으면 절반쯤만 맞히고, 더하면 80 % 넘게 맞힙니다(12토큰)"
    run.claim(text, seen, abs(seen["없음"] - 0.5) < 0.05 and min(seen["사인"], seen["배움"]) > 0.8)
    far = {name: values[-1] for name, (_, values) in curves.items() if name != "없음"}
    text = "12토큰까지 배운 모델은 32토큰에서 20 %p 넘게 덜 맞힙니다"
    run.claim(text, far, all(seen[name] - value > 0.2 for name, value in far.items()))


# %% [markdown]
# **읽는 법.** 어느 위치든 배운 것보다 긴 문장에서는 덜 맞힙니다. 번역기에도 한 문장씩 주세요.
#
# ## 8.5 트랜스포머
# **왜 필요할까요?** 인코더는 원문을 읽어 자리마다의 벡터로 바꾸고, 디코더는 앞에 쓴 토큰과 그
# 벡터를 보고 다음 토큰의 확률을 냅니다. 배울 때는 자기가 쓴 것 대신 정답의 앞 토큰을 넣으므로
# (**교사 강요**, teacher forcing) 모든 자리를 한 번에 배웁니다. 인과 마스크가 틀리면 답을 보고 답해
# 손실만 작고 번역은 못 합니다. 번역문의 빈자리는 뒤에 있어 인과 마스크가 막습니다.
# ```text
# source (B, S) 원문의 번호     target (B, T) 시작 y1 y2 ...     answer (B, T) y1 y2 ... 끝
# 입력   sqrt(D) E[번호] + P       출력  점수 = h E^T       h 디코더의 결과. E를 세 곳이 함께 씀
# ```


# %%
class Transformer(nn.Module):
    """인코더와 디코더입니다(논문의 3.1절). 매개변수의 이름이 nn.Transformer와 같습니다."""

    def __init__(self, size: int, heads: int, layers: int, *plan) -> None:
        super().__init__()
        self.encoder = Stack(lambda: EncoderLayer(size, heads, *plan), layers, size)
        self.decoder = Stack(lambda: DecoderLayer(size, heads, *plan), layers, size)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """원문 x (B, S, D), 번역문 y (B, T, D), mask (B, 1, 1, S) -> (B, T, D)"""
        causal = causal_mask(y.shape[1], device=y.device)
        return self.decoder(y, self.encoder(x, mask), causal, mask)


class Translator(nn.Module):
    """번호를 받는 번역기입니다. 임베딩을 원문, 번역문, 출력이 함께 씁니다(논문의 3.4절)."""

    def __init__(self, words: int, size=256, hidden=512, layers=3, dropout=0.1) -> None:
        super().__init__()
        self.transformer = Transformer(size, HEADS, layers, hidden, dropout)
        self.embedding, self.dropout = nn.Embedding(words, size), nn.Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=size**-0.5)
        self.register_buffer("positions", sinusoidal_positions(1024, size), persistent=False)

    def embed(self, tokens: Tensor, start: int = 0) -> Tensor:
        """번호 (B, T) -> (B, T, D). `start`는 첫 토큰의 자리입니다."""
        x = self.embedding(tokens) * self.embedding.embedding_dim**0.5
        return self.dropout(x + self.positions[start : start + tokens.shape[1]])

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """원문 (B, S) -> 벡터 (B, S, D)와 빈자리 마스크 (B, 1, 1, S)"""
        mask = (source != PAD)[:, None, None]
        return self.transformer.encoder(self.embed(source), mask), mask

    def decode(self, target: Tensor, memory, mask, cache: dict | None = None) -> Tensor:
        """앞에 쓴 토큰 (B, T) -> 벡터 (B, T, D)"""
        start = next(iter(cache.values()))[0].shape[2] if cache else 0  # 캐시에 있는 토큰의 수
        causal = causal_mask(target.shape[1], start, target.device)
        return self.transformer.decoder(self.embed(target, start), memory, causal, mask, cache)

    def logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self.embedding.weight)

    def forward(self, source: Tensor, target: Tensor, real: Tensor | None = None) -> Tensor:
        h = self.decode(target, *self.encode(source))  # 왜: 빈자리의 점수는 쓰지 않으므로 뺌
        return self.logits(h if real is None else h[real])


@torch.inference_mode()
def moved_before(model: Translator, source: Tensor, target: Tensor, t: int) -> float:
    """t번째 토큰을 바꿀 때 그보다 앞의 점수가 움직인 크기입니다. 0이어야 합니다."""
    changed = target.clone()
    changed[:, t] = (changed[:, t] + 1) % len(model.embedding.weight)
    return (model(source, changed) - model(source, target))[:, :t].abs().max().item()


@chapter.section("8.5", "트랜스포머")
def section_transformer(run: Run) -> None:
    x, y = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    mask = (torch.tensor([5, 3])[:, None] > torch.arange(5))[:, None, None]
    for name, first in NORMS.items():
        library = translation.LibraryTransformer(8, 2, 1, 1, 16, 0.0, norm_first=first)
        pair = Transformer(8, 2, 1, 16, 0.0, first), library
        run.check_modules(f"{name} 트랜스포머와 nn.Transformer", *pair, x, y, mask, together=True)
    dtype, atol = run.exact(1e-9)
    model, leaky = (Translator(50, 16, 32, 2).to(run.device, dtype).eval() for _ in range(2))
    leaky.decode = lambda y, *m: leaky.transformer.decoder(leaky.embed(y), m[0], None, m[1])
    source, target = (torch.randint(4, 50, (3, 7), device=run.device) for _ in range(2))
    moved = [max(moved_before(m, source, target, t) for t in range(1, 7)) for m in (model, leaky)]
    run.check("뒤의 토큰을 바꿀 때 앞의 점수가 움직인 크기", moved[0], 0.0, atol)
    longer = (F.pad(part, (0, 4), value=PAD) for part in (source, target))
    run.check("빈자리를 더 넣을 때", model(*longer)[:, :7], model(source, target), atol)
    text = "인과 마스크가 없으면 뒤의 토큰이 앞의 점수를 움직입니다(위의 확인이 잡는 실수)"
    run.claim(text, {"마스크": moved[0], "없음": moved[1]}, moved[1] > 1e-3, unit="")


# %% [markdown]
# **읽는 법.** 모양이 맞고 손실이 줄어도 마스크가 틀렸을 수 있습니다. 뒤를 바꾸어 출력을 보세요.
#
# ## 8.6 부분 낱말
# **왜 필요할까요?** 낱말을 통째로 쓰면 처음 보는 낱말을 쓸 수 없고, 글자로 쓰면 문장이 길어집니다.
# **BPE**(byte pair encoding)는 낱말 안에서 가장 자주 이어 나오는 두 토막을 글자에서부터 합치기를
# 되풀이합니다(Sennrich 외 2016). 두 언어가 함께 쓸 어휘는 sentencepiece가 학습 문장에서 배웁니다.
# ```text
# _low _low _lower -> _ lo w, _ lo w, _ lo w e r -> _ low, _ low, _ low e r      _ 낱말의 앞
# 횟수가 같으면 합쳐서 짧은 것, 그래도 같으면 유니코드의 앞쪽부터. _는 로마자보다 뒤로 침
# ```


# %%
def train_bpe(words: Counter, merges: int) -> list[str]:
    """낱말의 횟수에서 합친 토막을, 합친 차례대로 `merges`개 얻습니다."""
    cut, joined = {word: list(SPACE + word) for word in words}, []
    while len(joined) < merges:
        counts = Counter()
        for word, pieces in cut.items():
            for a, b in pairwise(pieces):
                if a + b not in joined:  # 왜: 다른 두 토막으로 이미 얻은 것은 다시 배우지 않음
                    counts[a, b] += words[word]
        left, right = min(counts, key=lambda p: (-counts[p], len(p[0] + p[1]), p[0] + p[1]))
        joined.append(left + right)
        for pieces in cut.values():
            for k in range(len(pieces)):  # 왼쪽부터. 합쳐 짧아지면 끝의 [k : k + 2]는 빈 목록
                if pieces[k : k + 2] == [left, right]:
                    pieces[k : k + 2] = [left + right]
    return joined


def apply_bpe(word: str, joined: Sequence[str]) -> list[str]:
    """먼저 배운 토막부터 합쳐 낱말을 자릅니다."""
    pieces, rank = list(SPACE + word), {piece: k for k, piece in enumerate(joined)}
    while len(pieces) > 1:
        order = [rank.get(a + b, len(rank)) for a, b in pairwise(pieces)]
        k = order.index(min(order))
        if order[k] == len(rank):
            break
        pieces[k : k + 2] = [pieces[k] + pieces[k + 1]]
    return pieces


@chapter.section("8.6", "부분 낱말")
def section_subwords(run: Run) -> tuple[Subwords, Parallel, Parallel]:
    data, config, merges = load(run), run.config, 100
    x, y = data.x_train[: config.pairs], data.y_train[: config.pairs]
    texts = " ".join([*x[:300], *y[:300]]).lower()
    words, codes = Counter(texts.split()), lambda pieces: [ord(c) for c in "|".join(pieces)]
    joined, (theirs, cut) = train_bpe(words, merges), translation.standard_bpe(words, merges)
    run.check(f"합친 토막 {merges}개와 sentencepiece", codes(joined), codes(theirs), atol=0)
    ours = [piece for word in words for piece in apply_bpe(word, joined)]
    theirs = [piece for word in words for piece in cut(word)]
    run.check(f"낱말 {len(words)}개를 자른 것과 sentencepiece", codes(ours), codes(theirs), atol=0)
    print(f"  처음 합친 토막: {printable(', '.join(joined[:12]).replace(SPACE, '_'))}")
    subwords = Subwords.from_texts([*x, *y], config.words)
    sides = (x, y), (part[: config.pairs // 8] for part in (data.x_val, data.y_val))
    train, val = (encode_pairs(subwords, *side, config.length, run.device) for side in sides)
    print(f"  부분 낱말 {len(subwords):,}개, 학습에 쓰는 짝 {len(train.source):,}개")
    print(f"  임베딩을 셋이 함께 써 아낀 매개변수: {2 * len(subwords) * config.hidden:,}개")
    unknown = {"낱말": metrics.unknown_words(y, data.y_val[: config.pairs // 8])}
    unknown["부분 낱말"] = (val.answer[val.answer != PAD] == UNKNOWN).float().mean().item()
    text = "검증 번역문에서 모르는 비율이, 낱말 대신 부분 낱말로 자르면 10분의 1도 안 됩니다"
    run.claim(text, unknown, unknown["부분 낱말"] < unknown["낱말"] / 10)
    return subwords, train, val


# %% [markdown]
# **읽는 법.** 앞의 것일수록 자주 이어 나온 것입니다. 만든 캡션에는 모르는 낱말이 거의 없습니다.
#
# ## 8.7 손실, 학습률, 묶음
# **왜 필요할까요?** 바른 번역은 여럿이라, 정답 하나만 믿지 않게 레이블 스무딩(2강 2.4절)을 씁니다.
# 빈자리의 손실은 세지 않습니다. 빈자리가 적도록 비슷한 길이끼리 묶습니다(4강 4.3절).
# ```text
# 손실         -(1 - e) log p[정답] - (e / V) 합(k) log p[k]   e = 0.1, V 번호의 수, 빈자리 뺀 평균
# 퍼플렉서티   exp(교차 엔트로피의 토큰 평균)     다음 토큰을 몇 개 가운데 고르는 셈인지
# Noam(논문)   D^-0.5 * min(t^-0.5, t * W^-1.5)       t 걸음, W 예열 걸음. t = W에서 가장 큼
# 원사이클     15 %까지 곧게 올렸다가 0까지 곧게 내림(2강의 것은 30 %까지이고 둘 다 코사인)
# ```


# %%
def label_smoothing_loss(logits: Tensor, answer: Tensor, e: float = 0.1) -> Tensor:
    """점수 (..., V), 정답 (...) -> 빈자리를 뺀 토큰의 평균 손실"""
    real = answer != PAD
    log_p = logits[real].log_softmax(dim=-1)  # (토큰, V)
    nll = -log_p.gather(1, answer[real][:, None])[:, 0]
    return ((1 - e) * nll - e * log_p.mean(dim=1)).mean()


def noam_schedule(step: int, size: int, warmup: int) -> float:
    """논문의 학습률입니다(5.3절). `step`은 1부터 셉니다."""
    return size**-0.5 * min(step**-0.5, step * warmup**-1.5)


# 가장 큰 값이 1인 배율. t는 0부터 셈. 예열은 둘 다 전체의 15 %
one_cycle = lambda t, total: min((t + 1) / (0.15 * total), (total - t) / (0.85 * total), 1.0)
noam = lambda t, total: noam_schedule(t + 1, 1, max(1, 0.15 * total)) * max(1, 0.15 * total) ** 0.5


def token_batches(data: Parallel, batch_size: int, shuffle: bool = True) -> list[Tensor]:
    """길이가 비슷한 짝끼리, 토큰이 평균 길이의 짝 `batch_size`개만큼 되게 묶습니다."""
    source, target = (length.cpu() for length in data.lengths)
    order = torch.randperm(len(source)) if shuffle else torch.arange(len(source))
    order = order[(target * 10000 + source)[order].argsort(stable=True)]  # 번역문, 원문의 길이로
    total = (source + target)[order].cumsum(dim=0)
    group = (total - 1) // int(total[-1] / len(total) * batch_size)  # 토큰이 찰 때마다 다음 묶음
    sizes = group.unique_consecutive(return_counts=True)[1].tolist()
    batches = order.to(data.source.device).split(sizes)
    return [batches[k] for k in (torch.randperm(len(batches)) if shuffle else range(len(batches)))]


def make(run: Run, words: int) -> Translator:
    """설정대로 번역기를 만듭니다. 비교할 모델은 모두 같은 난수에서 시작합니다."""
    torch.manual_seed(run.seed)
    sizes = run.config.hidden, run.config.width, run.config.layers, run.config.dropout
    return Translator(words, *sizes).to(run.device)


def train(run: Run, model, data: Parallel, epochs: int, score=None, batches=None) -> list[dict]:
    """에폭마다 `batches()`로 배웁니다. `score`가 있으면 에폭마다 재고 저장합니다."""
    batches = batches or partial(token_batches, data, run.config.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), run.config.lr, (0.9, 0.98), fused=True)
    scheduler = LambdaLR(optimizer, partial(one_cycle, total=epochs * len(batches())))
    checkpoint = run.checkpoint(model, optimizer, scheduler) if score else None
    net = run.parallel(model)  # torchrun으로 실행했을 때만 다름
    for _ in range(len(checkpoint.history) if score else 0, epochs):
        model.train()
        for index in tqdm(run.share(batches()), leave=False, disable=None):
            source, target, answer = data.take(index)
            real = answer != PAD
            with autocast(run.device, run.dtype):
                logits = net(source, target, real)  # 1) 순전파. 점수 (토큰, V)
            loss = F.cross_entropy(logits.float(), answer[real], label_smoothing=0.1)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            (run.weight(real.sum()) * loss).backward()  # 4) 역전파
            clip_grad_norm(model.parameters(), 1.0)  # 2강 2.7절
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
        if score:
            run.end_epoch(checkpoint, score())
    return checkpoint.history if score else []


@chapter.section("8.7", "손실, 학습률, 묶음", needs=("8.6",))
def section_preparation(run: Run, ready: tuple) -> None:
    logits, answer = torch.randn(3, 5, 7), torch.randint(4, 7, (3, 5))
    answer[0, 3:], answer[2, 1:] = PAD, PAD
    options = {"label_smoothing": 0.1, "ignore_index": PAD}
    library = lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), **options)
    run.check_with_gradient("레이블 스무딩의 손실", label_smoothing_loss, library, logits, answer)
    steps, factors = range(1000), {"Noam": noam, "원사이클": one_cycle}
    curves = {name: (steps, [f(t, 1000) for t in steps]) for name, f in factors.items()}
    tries = {}  # 정규화의 자리와 예열을 바꾼 손실
    draw = lambda: (tokens := torch.randint(12, (64, 10), device=run.device), tokens.flip(1))
    for (name, first), warm in product(NORMS.items(), (1, run.config.steps // 4)):
        torch.manual_seed(run.seed)
        model = Toy(sinusoidal_positions(10, 64).to(run.device), 6, first).to(run.device)
        losses = np.convolve(fit(model, draw, run.config.steps // 2, warm), np.ones(5) / 5, "valid")
        label = f"{name}, 예열 {warm}걸음" if warm > 1 else f"{name}, 예열 없음"
        tries[label] = range(5, len(losses) + 5), losses
    panels = {"학습률의 배율": curves, "토큰 열 개를 거꾸로 적기의 손실": tries}
    run.figure(plot.panel_figure(panels, "걸음", share=False), "05_schedules")
    last = {label: float(losses[-1]) for label, (_, losses) in tries.items()}
    cold, *rest = last.values()
    text = "post-norm은 예열이 있어야, pre-norm은 예열이 없어도 손실이 0.5 아래로 내려갑니다"
    run.claim(text, last, cold > 0.5 > max(rest), unit="")
    (subwords, data, _), size = ready, run.config.batch_size
    few = data.first(run.config.small)
    mixed = lambda data, size: torch.randperm(len(data.source), device=run.device).split(size)
    share, seconds = {}, {}
    for name, plan in {"비슷한 길이끼리": token_batches, "무작위": mixed}.items():
        batches = partial(plan, few, size)
        once = partial(train, run, make(run, len(subwords)), few, 1, batches=batches)
        seconds[name] = median_seconds(once, run.device, 1)  # 첫 에폭은 버리고 둘째를 잼
        share[name] = data.padding_share(plan(data, size))
    text = "길이가 비슷한 것끼리 묶으면 빈자리가 무작위로 묶을 때의 3분의 1도 안 됩니다"
    run.claim(text, share, share["비슷한 길이끼리"] < share["무작위"] / 3)
    text = "길이가 비슷한 것끼리 묶으면 같은 학습이 1.2배 넘게 빠릅니다"
    run.claim(text, seconds, seconds["무작위"] > 1.2 * seconds["비슷한 길이끼리"], unit="초")


# %% [markdown]
# **읽는 법.** Noam은 끝까지 0이 되지 않아 언제 멈출지 모를 때 쓰고, 여기서는 원사이클을 씁니다.
#
# ## 8.8 마지막 학습
# **왜 필요할까요?** 여기까지 확인한 부품을 모아 배웁니다. 검증 손실이 끝까지 내려가는지 보세요.


# %%
@chapter.section("8.8", "마지막 학습", needs=("8.6",), shared=True)
def section_training(run: Run, ready: tuple) -> tuple[Subwords, Translator]:
    (subwords, data, val), config = ready, run.config
    model, part = make(run, len(subwords)), data.first(len(val.source))
    print(f"  매개변수 {count_parameters(model):,}개")
    score = lambda: measure(run, model, part, "train_") | measure(run, model, val, "val_")
    history = train(run, model, data, config.epochs, score)
    run.figure(plot.learning_curves(history), "06_learning_curves")
    sizes = config.hidden, config.width, config.layers
    save_weights(run.path("model.pt"), model, pieces=subwords.model, sizes=sizes)
    print(f"  검증 퍼플렉서티 {math.exp(history[-1]['val_loss']):.2f}")
    return subwords, model


# %% [markdown]
# **읽는 법.** 교사 강요의 정확도는 앞을 모두 바르게 썼다고 치고 잰 것이라 번역의 성적이 아닙니다.
#
# ## 8.9 BLEU
# **왜 필요할까요?** 글자까지 같지 않아도 바른 번역일 수 있어, 이어진 낱말이 얼마나 겹치는지를
# 셉니다. **BLEU**(Papineni 외 2002)는 낱말을 자르는 방법에 따라 값이 달라집니다. 그래서 표준 도구인
# sacrebleu로 재고, 어떻게 쟀는지 적은 서명을 밝힙니다. 소문자로 바꾸고, 한국어는 글자로 자릅니다.
# ```text
# p_n   출력의 이어진 n토큰 가운데 정답에도 있는 비율. 정답에 나온 횟수까지만 셈(clipping)
# BP    min(1, exp(1 - 정답의 길이 / 출력의 길이))      짧게 써서 p_n을 올리는 것을 막음
# BLEU  100 * BP * (p_1 p_2 p_3 p_4)^(1/4)     겹친 수와 전체 수를 모든 문장에서 더한 뒤 나눔
# 겹친 것이 0이면 차례로 1/2, 1/4, ... 번 겹친 것으로 침(exp 스무딩)
# ```


# %%
def ngram_statistics(output: Sequence[str], reference: Sequence[str]) -> list[int]:
    """문장 하나의 [두 길이, n이 1~4인 겹친 수와 전체 수]입니다."""
    numbers = [len(output), len(reference)]
    for n in range(1, 5):
        grams = lambda row, n=n: Counter(tuple(row[k : k + n]) for k in range(len(row) - n + 1))
        ours, theirs = grams(output), grams(reference)
        numbers += [(ours & theirs).total(), ours.total()]
    return numbers


def bleu_score(statistics: np.ndarray, smooth: bool = True) -> float:
    """전체에서 더한 통계 (10,) -> BLEU, 0~100"""
    matched, total = np.array(statistics[2:], float).reshape(4, 2).T
    if matched[0] == 0 or total.min() == 0 or (matched.min() == 0 and not smooth):
        return 0.0
    matched = np.where(matched == 0, 0.5 ** (matched == 0).cumsum(), matched)  # exp 스무딩
    penalty = min(0.0, 1 - statistics[1] / statistics[0])  # log BP
    return 100 * math.exp(penalty + np.log(matched / total).mean())


def corpus_bleu(outputs: Sequence, references: Sequence, smooth: bool = True) -> float:
    """토큰 목록의 목록 둘 -> 말뭉치의 BLEU"""
    pairs = zip(outputs, references, strict=True)
    return bleu_score(np.sum([ngram_statistics(*pair) for pair in pairs], axis=0), smooth)


@chapter.section("8.9", "BLEU")
def section_bleu(run: Run) -> None:
    cases = [*product(metrics.random_corpora(run.seed), (True, False))]  # 말뭉치와 스무딩
    ours = [corpus_bleu(*corpus, smooth) for corpus, smooth in cases]
    theirs = [metrics.token_bleu(*corpus, smooth) for corpus, smooth in cases]
    run.check("무작위 말뭉치 40개의 BLEU와 sacrebleu(스무딩 둘)", ours, theirs, 1e-6)
    outputs, references = ["abcd", "xbxx", "abxd"], ["abcd"] * 3
    mean = np.mean([corpus_bleu([a], [b]) for a, b in zip(outputs, references, strict=True)])
    found = {"문장마다 잰 것의 평균": mean.item(), "말뭉치": corpus_bleu(outputs, references)}
    text = "문장마다 잰 BLEU의 평균은 말뭉치의 BLEU와 다릅니다(흔한 실수)"
    run.claim(text, found, abs(found["말뭉치"] - mean) > 1, unit="")


# %% [markdown]
# **읽는 법.** 남이 적은 BLEU와 비교하려면 서명이 같아야 합니다. 자르는 방법만 달라도 값이 바뀝니다.
#
# ## 8.10 디코딩
# **왜 필요할까요?** 번역할 때는 정답이 없으므로 자기가 쓴 토큰을 다시 넣으며 한 토큰씩 씁니다.
# 인과 마스크 덕분에 앞의 열쇠와 값은 바뀌지 않습니다. **캐시**(KV cache)에 두고 새것만 구합니다.
# ```text
# 탐욕(greedy)    가장 그럴듯한 토큰을 고름
# 빔 탐색(beam)   그럴듯한 문장 W개를 함께 이어 감. 점수 = log P / ((5 + 길이) / 6)^0.6
# 뽑기            softmax(점수 / 온도)에서 뽑음. 온도가 높을수록 고르게 나옴
# top-k, top-p    뽑기 전에 남기는 것. 큰 것 k개(Fan 외 2018), 합이 p가 될 때까지(Holtzman 외 2020)
# ```
# 길이(끝도 셈)로 나누지 않으면, 길수록 log P가 작아 짧은 문장이 유리합니다(Wu 외 2016, 식 14).


# %%
def filter_logits(logits: Tensor, temperature=1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """점수 (B, V)를 온도로 나누고, 남기지 않을 토큰을 -inf로 바꿉니다. `top_k` 0은 모두입니다."""
    ordered, index = (logits / temperature).sort(dim=1, descending=True)
    p = ordered.softmax(dim=1)
    drop = (p.cumsum(dim=1) - p >= top_p) & (top_p < 1)  # 앞의 것들로 이미 찼음. 첫째는 늘 남음
    drop[:, top_k or logits.shape[1] :] = True
    return torch.empty_like(logits).scatter_(1, index, ordered.masked_fill(drop, -torch.inf))


# 남긴 토큰에서 뽑는 함수를 만듦
sampler = lambda **options: lambda z: filter_logits(z, **options).softmax(1).multinomial(1)[:, 0]


@torch.inference_mode()
def greedy_decode(model, source: Tensor, most: int, pick=None, cached=True, stop=True) -> Tensor:
    """원문 (B, S) -> 번역문 (B, T). 끝 뒤는 빈자리. `pick`은 점수 (B, V)에서 토큰을 고릅니다."""
    memory, mask = model.encode(source)
    tokens, cache = source.new_full((len(source), 1), BOS), {} if cached else None
    done = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    for _ in range(most):
        h = model.decode(tokens[:, -1:] if cached else tokens, memory, mask, cache)
        best = (pick or (lambda z: z.argmax(dim=1)))(model.logits(h[:, -1]).float())
        tokens = torch.cat([tokens, best.masked_fill(done, PAD)[:, None]], dim=1)
        done |= (best == EOS) & stop  # stop이 False이면 끝이 나와도 `most`토큰까지 이어 씀
        if done.all():
            break
    return tokens[:, 1:]


@torch.inference_mode()
def beam_search(model, source: Tensor, most: int, width: int = 4, alpha: float = 0.6) -> Tensor:
    """원문 (B, S) -> 번역문 (B, most). 문장마다 그럴듯한 것 `width`개를 함께 이어 갑니다."""
    B, W, cache = len(source), width, {}
    memory, mask = (part.repeat_interleave(W, dim=0) for part in model.encode(source))
    tokens, scores = source.new_full((B * W, 1), BOS), torch.zeros(B, W, device=source.device)
    scores[:, 1:] = -torch.inf  # 처음에는 W개가 모두 같으므로 하나만 살림
    best, answer = torch.full_like(scores[:, :1], -torch.inf), source.new_zeros(B, most)
    penalty = lambda length: ((5 + length) / 6) ** alpha
    for t in range(1, most + 1):
        h = model.decode(tokens[:, -1:], memory, mask, cache)
        log_p = model.logits(h[:, -1]).float().log_softmax(dim=1).view(B, W, -1)  # (B, W, V)
        top, index = (scores[..., None] + log_p).flatten(1).topk(2 * W)  # W개까지는 끝일 수 있음
        word = index % log_p.shape[2]  # (B, 2W) 토큰의 번호. row는 이어 갈 문장의 줄
        row = torch.arange(B, device=source.device)[:, None] * W + index // log_p.shape[2]
        ended = (word == EOS) | (t == most)
        value, place = (top[:, :W] / penalty(t)).masked_fill(~ended[:, :W], -torch.inf).max(1, True)
        text = torch.cat([tokens[row.gather(1, place)[:, 0], 1:], word.gather(1, place)], dim=1)
        answer = torch.where(value > best, F.pad(text, (0, most - t), value=PAD), answer)
        best = torch.maximum(best, value)
        scores, kept = top.masked_fill(ended, -torch.inf).topk(W)
        if (best >= scores[:, :1] / penalty(most)).all():  # 남은 것은 아무리 길어져도 못 이김
            break
        row = row.gather(1, kept).flatten()
        tokens = torch.cat([tokens[row], word.gather(1, kept).view(-1, 1)], dim=1)
        cache = {layer: tuple(part[row] for part in pair) for layer, pair in cache.items()}
    return answer


@chapter.section("8.10", "디코딩", needs=("8.8",))
def section_decoding(run: Run, trained: tuple) -> None:
    (subwords, model), data = trained, load(run)
    texts, answers = (x[: run.config.pairs // 20][:500] for x in (data.x_val, data.y_val))
    val = encode_pairs(subwords, texts, answers, run.config.length, run.device)
    dtype, atol = run.exact(1e-9)  # 왜: float32의 반올림이 거의 같은 두 토큰을 뒤바꿀 수 있음
    source, decode = val.first(32).source, partial(greedy_decode, model.eval().to(dtype), most=40)
    plain, target, cache = decode(source), val.target[:32, :20], {}
    memory = model.encode(source)  # 벡터와 마스크
    h = [model.decode(row[:, None], *memory, cache) for row in target.T]  # 한 토큰씩
    run.check("캐시를 쓸 때와 안 쓸 때 벡터", torch.cat(h, 1), model.decode(target, *memory), atol)
    run.check("캐시를 쓸 때와 안 쓸 때 토큰", plain, decode(source, cached=False), atol=0)
    run.check("top-k가 1인 뽑기와 탐욕", decode(source, pick=sampler(top_k=1)), plain, atol=0)
    narrow = beam_search(model, source, 40, width=1, alpha=0)[:, : plain.shape[1]]
    run.check("폭이 1인 빔 탐색과 탐욕", narrow, plain, atol=0)
    model.float()
    again, kinds = partial(decode, source, stop=False), {"캐시": True, "다시 계산": False}
    seconds = {k: median_seconds(partial(again, cached=c), run.device, 3) for k, c in kinds.items()}
    text = "40토큰을 쓸 때 캐시가 다시 계산하는 것보다 세 배 넘게 빠릅니다"
    run.claim(text, seconds, seconds["다시 계산"] > 3 * seconds["캐시"], unit="초")
    bleu, scores = metrics.standard_bleu(data.korean), {}
    ways, rows = {"빔 4": beam_search, "탐욕": greedy_decode}, metrics.bleu_tokens(bleu, answers)
    plans = {"온도 1": sampler(), "top-k 5": sampler(top_k=5), "top-p 0.8": sampler(top_p=0.8)}
    ways |= {name: partial(greedy_decode, pick=pick) for name, pick in plans.items()}
    for name, way in ways.items():
        outputs = metrics.bleu_tokens(bleu, translate(run, subwords, model, texts, way))
        scores[name] = corpus_bleu(outputs, rows)
    run.figure(plot.bar_figure({"BLEU": scores}, "BLEU", "검증 문장의 번역"), "07_decoding")
    text = "검증 BLEU는 빔 4가 탐욕보다, 탐욕이 온도 1의 뽑기보다 높습니다"
    run.claim(text, scores, scores["빔 4"] > scores["탐욕"] > scores["온도 1"], unit="")
    tokens, real = decode(val.source, most=val.answer.shape[1]), val.answer != PAD
    free = F.pad(tokens, (0, val.answer.shape[1] - tokens.shape[1])) == val.answer
    found = {"교사 강요": measure(run, model, val)["accuracy"]}
    found["스스로"] = free[real].float().mean().item()
    text = "자리마다의 정확도는 교사 강요로 잴 때가 스스로 쓸 때보다 10 %p 넘게 높습니다"
    run.claim(text, found, found["교사 강요"] > found["스스로"] + 0.1)


# %% [markdown]
# **읽는 법.** 스스로 쓸 때는 한 토큰이 어긋나면 뒤가 모두 밀려 자리마다의 정확도가 뜻을 잃습니다.
#
# ## 8.11 결과
# **왜 필요할까요?** 낱말을 하나씩 옮기기만 해도 BLEU가 나옵니다. **IBM 모델 1**(Brown 외 1993)은
# 학습 문장에서 원문 낱말 s가 번역문 낱말 t가 될 확률 p(t | s)를 EM(기대와 최대화의 되풀이)으로
# 구합니다. 처음에는 모두 같고, 원문마다 더한 빈 낱말이 짝 없는 t를 맡습니다. 그것으로 낱말마다 옮긴
# 것, 가장 비슷한 학습 문장의 번역, 원문 그대로를 기준선으로 둡니다.
# ```text
# E      w[s, t] = p(t | s) / 합(s') p(t | s')         번역문의 낱말 하나를 원문의 낱말들이 나눔
# M      p(t | s) = 합(짝) w[s, t] / 합(t') 합(짝) w[s, t']
# 구간   문장을 중복을 허락해 1,000번 다시 뽑아(부트스트랩) 잰 BLEU의 2.5~97.5 %
# ```


# %%
def ibm_model1(sources, targets, words: int, rounds: int = 5) -> tuple[csr_array, list[float]]:
    """번호(1부터) 목록의 짝들 -> p(t | s) (words, words), 되풀이마다 그 직전의 평균 로그 확률"""
    pairs = zip(sources, targets, strict=True)
    pairs = [(np.array([0, *a]), np.array(b)) for a, b in pairs if b]  # 0은 빈 낱말
    s = np.concatenate([np.tile(a, len(b)) for a, b in pairs])
    t = np.concatenate([np.repeat(b, len(a)) for a, b in pairs])
    size = np.concatenate([np.full(len(b), len(a)) for a, b in pairs])
    place = np.repeat(np.arange(len(size)), size)  # 번역문의 몇 번째 낱말인지
    keys, pair = np.unique(s * words + t, return_inverse=True)  # 서로 다른 (s, t)
    s, t = keys // words, keys % words
    p, history = np.full(len(keys), 1 / words), []  # 모든 t의 확률이 같음
    for _ in range(rounds):
        total = np.bincount(place, p[pair])
        history.append(float(np.log(total / size).mean()))
        count = np.bincount(pair, p[pair] / total[place])  # E
        p = count / np.bincount(s, count)[s]  # M
    return coo_array((p, (s, t)), shape=(words, words)).tocsr(), history


@chapter.section("8.11", "결과", needs=("8.8",))
def section_result(run: Run, trained: tuple) -> None:
    (subwords, model), data = trained, load(run)
    x, y = (part[: min(run.config.pairs, 30000)] for part in (data.x_train, data.y_train))
    (sources, names), (targets, meanings) = (metrics.number_words(part) for part in (x, y))
    p, history = ibm_model1(sources, targets, max(len(names), len(meanings)))
    run.check("원문의 낱말마다 확률의 합", p.sum(axis=1)[: len(names)], np.ones(len(names)))
    run.check("EM을 되풀이할 때 로그 확률이 내려간 만큼", max(0.0, *-np.diff(history)), 0.0)
    table = {name: meanings[k] for name, k in zip(names, p.argmax(axis=1), strict=False)}
    x_test, y_test = (part[: run.config.pairs // 8] for part in data.take_test())
    gloss = lambda text: " ".join(table.get(w, w) for w in metrics.split_words(text))
    lines = {"원문 그대로": x_test, GLOSS: [*map(gloss, x_test)]}
    lines["가장 비슷한 학습 문장"] = metrics.nearest_translations(x, y, x_test)
    lines["번역기"] = translate(run, subwords, model, x_test, beam_search)
    bleu, chrf = metrics.standard_bleu(data.korean), metrics.standard_chrf()
    references, scores, counts = metrics.bleu_tokens(bleu, y_test), {}, {}
    for name, part in lines.items():
        pairs = zip(metrics.bleu_tokens(bleu, part), references, strict=True)
        counts[name] = np.array([ngram_statistics(*pair) for pair in pairs])  # (문장, 10)
        scores[name] = bleu.corpus_score(part, [y_test]).score
        ours = bleu_score(counts[name].sum(axis=0))
        run.check(f"{name}: 직접 잰 BLEU와 sacrebleu", ours, scores[name])
    for name in [*lines][:-1]:
        run.floor(name, scores[name], unit="BLEU")
    strongest = max([*lines][:-1], key=scores.get)  # 가장 센 기준선과 비교함
    run.result("테스트 번역", scores["번역기"], beats=strongest, unit="BLEU")
    two = {name: counts[name] for name in (strongest, "번역기")}
    found = {name: chrf.corpus_score(lines[name], [y_test]).score for name in two}
    print("  chrF:", ", ".join(f"{name} {score:.1f}" for name, score in found.items()))
    print(f"  서명: {bleu.get_signature()}\n        {chrf.get_signature()}")
    edges = {name: metrics.bootstrap(bleu_score, rows) for name, rows in two.items()}
    measured = ", ".join(f"{name} {low:.1f}~{high:.1f}" for name, (low, high) in edges.items())
    text = "번역기의 부트스트랩 95 % 구간이 가장 센 기준선의 것보다 위에 있습니다"
    run.claim(text, measured, edges["번역기"][0] > edges[strongest][1])
    run.figure(plot.bar_figure(metrics.by_length(bleu_score, two), "BLEU", "길이마다"), "08_length")
    if data.provenance.source == "sample":
        share, number = captions.particle_accuracy(lines["번역기"])
        text = f"번역에 쓴 조사 {number:,}개의 99 % 넘게를 받침에 맞게 골랐습니다"
        run.claim(text, {"바른 조사": share}, share > 0.99)
    translation.print_wrong(x_test, y_test, lines["번역기"])


# %% [markdown]
# **읽는 법.** 정답이 하나뿐이라 뜻이 맞는 번역도 깎입니다. 두 구간이 겹치면 우연일 수
# 있습니다. chrF는 이어진 글자가 겹치는 정도라 어미가 바뀌는 한국어에도 쓸 만합니다.
#
# ## 8.12 속 들여다보기
# **왜 필요할까요?** 교차 어텐션은 번역문의 토큰을 쓸 때 원문의 어디를 보았는지 말해 줍니다. IBM
# 모델 1의 **정렬**(alignment)과 비교하고, 머리마다 앞, 자기, 뒤의 토큰을 얼마나 보는지 잽니다.
# ```text
# 어텐션의 정렬   argmax(s) 가중치[t, s]        머리의 평균. 계층은 절반의 문장으로 고름
# IBM의 정렬      argmax(s) p(t | s)            같은 부분 낱말로 다시 구함. 빈 낱말은 뺌
# 대각선          s = t * S / T                 둘은 이것보다 자주 같은 곳을 가리켜야 함
# ```


# %%
@chapter.section("8.12", "속 들여다보기", needs=("8.6", "8.8"))
def section_inside(run: Run, ready: tuple, trained: tuple) -> None:
    (_, data, val), (subwords, model) = ready, trained
    strip = lambda part: [row[row > EOS].tolist() for row in part.cpu()]
    table, _ = ibm_model1(*map(strip, data.first(30000)[::2]), len(subwords))  # 원문, 정답
    agree, near, model = [], {"인코더": [], "디코더": []}, model.eval()
    pairs = [(a[a > 0], b[b > 0]) for a, b in zip(*val.first(200)[:2], strict=True)]
    for source, target in pairs:
        maps = translation.attention_weights(model, source, target)
        s, t = source.cpu().numpy(), target[1:].cpu().numpy()
        ibm = table[s][:, t].toarray().argmax(axis=0)  # (T,) 번역문의 토큰마다 원문의 자리
        diagonal = np.arange(len(t)) * len(s) // len(t)
        by_layer = maps["교차"].mean(axis=1)[:, :-1].argmax(axis=2)  # (L, T)
        agree.append([np.mean(places == ibm) for places in (diagonal, *by_layer)])
        for name, seen in near.items():
            seen.append([np.trace(maps[name], k, 2, 3) / maps[name].shape[2] for k in (-1, 0, 1)])
    agree = np.array(agree)  # (문장, 1 + L)
    layer = agree[::2, 1:].mean(axis=0).argmax() + 1  # 번호가 짝수인 문장으로 고름
    ours, floor = agree[1::2, [layer, 0]].mean(axis=0).tolist()
    text = "어텐션은 대각선보다 1.5배 넘게 자주 IBM 모델 1과 같은 곳을 가리킵니다"
    run.claim(text, {f"디코더 {layer}층": ours, "대각선": floor}, ours > 1.5 * floor)
    middle = min(pairs, key=lambda pair: abs(len(pair[1]) - 10))
    draw_attention(run, subwords, model, *middle, "09_attention")
    names = translation.head_names(run.config.layers, HEADS)
    shares = {name: np.mean(seen, axis=0).reshape(3, -1).T for name, seen in near.items()}
    run.figure(plot.heat_grid(shares, names, ["앞", "자기", "뒤"], "머리가 보는 곳"), "10_patterns")
    even = {"인코더": np.mean([(len(s) - 1) / len(s) ** 2 for s, _ in pairs])}
    even["디코더"] = np.mean([(1 / np.arange(2, len(t) + 1)).sum() / len(t) for _, t in pairs])
    times = {name: float(part[:, 0].max() / even[name]) for name, part in shares.items()}
    text = "바로 앞의 토큰을, 고르게 볼 때의 세 배 넘게 보는 머리가 있습니다(가장 큰 것)"
    run.claim(text, times, max(times.values()) > 3, unit="배")


# %% [markdown]
# **읽는 법.** 가중치가 크다고 그 토큰 때문에 그렇게 썼다는 뜻은 아닙니다(4강 4.9절).
#
# ## 정리
# - 어텐션은 행렬곱 두 번과 소프트맥스이고 sqrt(D)로 나누어야 기울기가 남습니다(8.1절의 판정).
# - 마스크는 모양이 아니라, 뒤의 토큰을 바꾸어 앞이 움직이는지로 확인합니다(8.5절).
# - 번역은 스스로 쓰게 해서, 서명을 밝힌 BLEU로, 기준선과 함께 잽니다(8.10절, 8.11절).
#
# ## 연습문제
# 1. `scaled_dot_product_attention`에서 `* mask`를 빼 보세요. 어느 확인이 실패합니까? (8.1절)
# 2. `tril(start)`를 `tril(start + 1)`로 바꾸면 검증 손실과 BLEU는? (8.5절, `--quick --only 8.11`)
# 3. `ways`에 `partial(beam_search, width=W)`를 더하세요. 폭이 클수록 나은가요? (8.10절, `--resume`)
#
# ## 더 읽을거리
# - A. Vaswani 외, Attention Is All You Need, 2017: https://arxiv.org/abs/1706.03762
# - R. Xiong 외, On Layer Normalization in the Transformer, 2020: https://arxiv.org/abs/2002.04745
# - M. Post, A Call for Clarity in Reporting BLEU Scores, 2018: https://aclanthology.org/W18-6319
# - PyTorch 공식 문서, nn.Transformer: https://docs.pytorch.org/docs/stable/nn.html


# %%
def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    if run.config.translate:
        return translation.translate_sentence(run, Translator, beam_search)
    section_attention(run)
    section_heads(run)
    section_layers(run)
    section_positions(run)
    section_transformer(run)
    ready = section_subwords(run)
    section_preparation(run, ready)
    trained = section_training(run, ready)
    section_bleu(run)
    section_decoding(run, trained)
    section_result(run, trained)
    section_inside(run, ready, trained)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
