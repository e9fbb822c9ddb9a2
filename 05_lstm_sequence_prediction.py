# %% [markdown]
"""
# 5강. LSTM으로 시계열 예측하기

| 항목 | 내용 |
|---|---|
| 배우는 것 | LSTM을 게이트 하나씩 구현하고, 주가에서 무엇을 예측할 수 있고 없는지 잽니다 |
| 먼저 볼 것 | 1강 1.7절(학습 반복문), 4강 4.4절(순환 셀), 4.5절(사라지는 기울기) |
| 데이터 | pip 패키지에 든 S&P 500(1999~2018). `--csv 파일`, `--ticker 종목`도 됩니다 |
| 실행 | `python 05_lstm_sequence_prediction.py` |
| 빠른 확인 | `python 05_lstm_sequence_prediction.py --quick` |
| 기대 결과 | 구간 0.24397 ± 0.00060 핀볼 손실, 변동성에 비례 0.2482 (S&P 500(패키지) 3회, 48초) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-22 |
"""

# %%
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pandas import DataFrame
from scipy import stats
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from utils import lesson, metrics
from utils import visualization as plot
from utils.command_line import option, setting
from utils.datasets import prices
from utils.errors import UserError
from utils.lesson import Lesson, Run
from utils.model_utils import clip_grad_norm, count_parameters, save_weights


@dataclass(frozen=True)
class Config:
    epochs: int = setting(8, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(128, "한 번에 보는 창의 수", low=2)
    lr: float = setting(0.01, "학습률의 최댓값", above=0)
    hidden: int = setting(32, "은닉 상태의 크기", low=4)
    window: int = setting(40, "모델이 보는 지난 날의 수(창)", low=5)
    horizon: int = setting(5, "며칠 뒤까지 예측할지", low=2)
    points: int = setting(3000, "만든 시계열의 길이", low=600)
    steps: int = setting(600, "기억하는 문제의 걸음 수", low=10)
    csv: str = option("", "이 파일의 주가를 씁니다. 열은 date, open, high, low, close, volume")
    ticker: str = option("", "yfinance로 받을 종목 (예: 005930.KS)", metavar="종목")


QUICK = replace(Config(), epochs=2, hidden=16, window=20, points=1000, steps=80)
chapter = Lesson(__file__, __doc__, Config(), QUICK, mixed=())
DECAY = 0.94  # RiskMetrics(1996)가 하루 자료에 쓴 값
LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)  # 마지막 모델이 내는 분위수


def load(run: Run) -> prices.Prices:
    """이 실행이 쓰는 주가입니다. 데이터보다 너무 긴 창을 달라면 멈춥니다."""
    data = run.data(prices.load, csv=run.config.csv, ticker=run.config.ticker)
    days = min(data.num_train, run.config.points * 3 // 4)
    if run.config.window > days // 5 or run.config.horizon > days // 12:
        raise UserError(f"--window는 {days // 5}, --horizon은 {days // 12}을 넘지 않게 하세요.")
    return data


# %% [markdown]
# ## 5.1 시계열 다듬기
# **왜 필요할까요?** 시간 차례로 잰 값을 **시계열**이라고 합니다. 가격은 평균이 옮겨 다닙니다.
# 어제와 오늘의 가격은 거의 같으므로, 가격을 그대로 맞히게 하면 무엇을 해도 점수가 높습니다. 그래서
# **로그 수익률**로 바꿉니다. S&P 500은 미국의 큰 회사 500곳의 주가를 하나로 묶은 지수입니다.
# ```text
# 로그 수익률   r[t] = log(P[t] / P[t-1])                  여러 날의 것은 하루의 것을 더하면 됩니다
# 자기상관      a[k] = 합(t) d[t] d[t-k] / 합(t) d[t]^2    d = y - 평균. k일(시차) 전과 닮은 정도
#               우연이면 95 %쯤이 |a| < 2 / 루트 N         1이면 똑같이 움직이고 0이면 관계없음
# 변동성        s[t]^2 = 합(k) w[k] r[t-k]^2 / 합(k) w[k]   w[k] = 0.94^k. s 흔들리는 크기
# ```
# s^2처럼 오래될수록 덜 세는 평균이 **지수 이동 평균**(EWMA)입니다. 평균, 분산, 자기상관이 시간에
# 따라 변하지 않으면 **정상**(stationary) 시계열입니다. 주식 하나를 50주로 나누는 **액면 분할**을
# 되돌리지 않은 가격은 하루에 98 % 떨어진 것으로 보입니다.


# %%
def autocorrelation(y: Tensor, lags: int) -> Tensor:
    """시차 0부터 `lags`까지의 자기상관 (lags + 1,)입니다. y (N,)"""
    d = y - y.mean()
    return torch.stack([d[k:] @ d[: len(d) - k] for k in range(lags + 1)]) / (d @ d)


def log_returns(close: Tensor) -> Tensor:
    """하루의 로그 수익률입니다. 첫날은 0입니다. (N,) -> (N,)"""
    return torch.cat([close.new_zeros(1), close.log().diff()])


def ewma_variance(r: Tensor) -> Tensor:
    """오늘까지의 제곱 수익률을 최근일수록 크게 평균한 분산 (N,)입니다. 1e-8 이상입니다."""
    mean = pd.Series(r.numpy() ** 2).ewm(alpha=1 - DECAY).mean()
    return torch.tensor(mean.to_numpy()).clamp(min=1e-8)


def make_features(frame: DataFrame) -> DataFrame:
    """하루의 특징 (N, 7)입니다. t번째 행은 t일까지의 시세만 봅니다."""
    log, day = np.log(frame.assign(volume=frame["volume"] + 1)), frame.index
    r = log["close"].diff().fillna(0)
    features = {"수익률": r, "추세": r.rolling(20, 1).mean()}
    features["폭"] = np.log((log["high"] - log["low"]).clip(lower=1e-4))
    features["변동성"] = np.log(ewma_variance(torch.tensor(r.to_numpy())).numpy())
    features["거래량"] = log["volume"] - log["volume"].rolling(20, 1).mean()
    features["요일"] = np.sin(2 * np.pi * day.day_of_week / 5)
    features["월"] = np.sin(2 * np.pi * day.month / 12)
    return DataFrame(features, index=day)


@chapter.section("5.1", "시계열 다듬기")
def section_series(run: Run) -> None:
    from statsmodels.tsa.stattools import acf  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    frame = load(run).frame
    missing = pd.bdate_range(frame.index[0], frame.index[-1]).difference(frame.index)
    gap = frame.index.diff().max().days
    print(f"  시세가 없는 평일 {len(missing):,}일(휴장일 포함), 가장 긴 틈 {gap}일")
    close, half = prices.closing(frame), len(frame) // 2
    r, price = log_returns(close), close.log()
    run.check("하루 수익률의 합과 전체 수익률", r.sum(), price[-1] - price[0], atol=1e-9)
    before = torch.arange(len(close)) < half
    split = torch.where(before, close, close / 50)  # 가운데 날에 1주를 50주로 나눈 가격
    print(f"  액면 분할한 날의 수익률: {100 * math.expm1(log_returns(split)[half]):.1f} %")
    adjusted = torch.where(before, split / 50, split)  # 수정 가격: 앞의 가격도 50으로 나눔
    run.check("액면 분할을 되돌린 수익률", log_returns(adjusted), r, atol=1e-9)
    kinds, curves = {"로그 가격": price, "수익률": r, "|수익률|": r.abs()}, {}
    for name, y in kinds.items():
        a, library = autocorrelation(y, 60), acf(y.numpy(), nlags=60)
        run.check(f"{name}의 자기상관과 statsmodels", a, library, atol=1e-9)
        curves[name] = range(61), a
    limit = 1.96 / math.sqrt(len(r))
    curves["우연의 한계"] = range(61), [limit] * 61
    run.figure(plot.line_figure(curves, "시차(일)", "자기상관", "자기상관"), "01_autocorrelation")
    found = {name: curves[name][1][1].item() for name in ("로그 가격", "수익률")}
    text = "로그 가격은 하루 자기상관이 0.99를 넘고, 수익률은 그 크기가 0.1보다 작습니다"
    run.claim(text, found, found["로그 가격"] > 0.99 and abs(found["수익률"]) < 0.1, unit="")
    far = curves["|수익률|"][1][20].item()
    text = "20일 떨어진 날끼리도 수익률의 크기는 우연의 한계보다 더 닮았습니다"
    run.claim(text, {"자기상관": far, "한계": limit}, far > limit, unit="")
    yearly = {name: pd.Series(kinds[name].numpy()).rolling(250) for name in found}
    drift = {name: float(yearly[name].mean().std() / kinds[name].std()) for name in found}
    text = "250일 평균은 로그 가격에서 표준편차의 0.5배 넘게, 수익률에서 0.2배가 안 되게 흔들립니다"
    run.claim(text, drift, drift["로그 가격"] > 0.5 and drift["수익률"] < 0.2, unit="배")
    rows = {"종가": close, "로그 수익률": r, "수익률의 250일 표준편차": yearly["수익률"].std()}
    panels = {name: {name: (frame.index.to_numpy(), y)} for name, y in rows.items()}
    run.figure(plot.panel_figure(panels), "02_prices")


# %% [markdown]
# **읽는 법.** 가격은 어제 값이 이미 좋은 예측입니다. 수익률의 자기상관은 한계를 넘더라도 0.1이면
# 분산을 그 제곱인 1 %만 설명합니다. 하지만 수익률의 크기는 오래 닮습니다. 02 그림의 셋째 칸처럼
# 분산이 큰 때와 작은 때가 길게 이어지기 때문입니다. 이 차이가 이 강의의 줄거리입니다.
#
# ## 5.2 창으로 자르기와 누설
# **왜 필요할까요?** 모델은 지난 T일의 **창**(window)을 보고 다음 H일을 예측합니다. 창은 하루씩 밀며
# 겹치게 자르므로 이웃한 창은 거의 같습니다. 그래서 앞날의 정보가 학습에 섞이는 **누설**(leakage)이
# 쉽게 생기고, 그러면 실제로는 없는 실력이 점수에 나타납니다.
# ```text
# 창        x[t] = y[t-T+1 .. t]  (T, D)       목표 = t+1 .. t+H일
# 나누기    처음 60 % 학습, 다음 20 % 검증, 끝 20 % 테스트. 목표가 경계를 넘는 창 H-1개는 버림
# 정규화    z = (x - 평균) / 표준편차          평균과 표준편차는 학습 기간에서만 구합니다
# ```


# %%
def sliding_windows(x: Tensor, window: int) -> Tensor:
    """창을 복사하지 않고 봅니다. 같은 메모리를 겹쳐 읽는 보기(view)입니다. x (N, D)"""
    return x.unfold(0, window, 1).transpose(1, 2)  # (N - T + 1, D, T) -> (N - T + 1, T, D)


class StandardScaler:
    """열마다 평균 0, 표준편차 1로 맞춥니다. `fit`에는 학습 기간만 넣어야 합니다. x (N, D)"""

    def fit(self, x: Tensor) -> StandardScaler:
        self.mean, self.std = x.mean(dim=0), x.std(dim=0, correction=0)
        self.std[self.std == 0] = 1.0  # 왜: 변하지 않는 열을 0으로 나누지 않음
        return self

    def transform(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def prepare(frame: DataFrame, num_train: int) -> Tensor:
    """표에서 정규화한 특징 (N, D)를 만듭니다. 평균과 표준편차는 앞의 `num_train`일에서 구합니다."""
    x = torch.tensor(make_features(frame).to_numpy(np.float64))
    return StandardScaler().fit(x[:num_train]).transform(x)


def split_days(days: Tensor, boundary: int, horizon: int) -> tuple[Tensor, Tensor]:
    """창의 마지막 날들을, 목표가 모두 경계 전인 것과 모두 경계부터인 것으로 나눕니다."""
    return days[days + horizon < boundary], days[days + 1 >= boundary]


def seen_targets(train: Tensor, test: Tensor, window: int, horizon: int) -> float:
    """목표로 삼은 날이 학습의 창이나 목표에도 들어 있는 검증 창의 비율입니다. 0이어야 합니다."""
    seen = torch.zeros(int(max(train.max(), test.max())) + horizon + 1, dtype=torch.bool)
    seen[train[:, None] + torch.arange(1 - window, horizon + 1)] = True
    return seen[test[:, None] + torch.arange(1, horizon + 1)].any(dim=1).double().mean().item()


def future_effect(pipeline: Callable, frame: DataFrame, today: int) -> float:
    """`today` 뒤의 시세를 마구 바꾸었을 때 `today`까지의 특징이 변한 정도입니다. 0이어야 합니다."""
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, frame.shape).cumsum(axis=0))
    noise[: today + 1] = 1
    before, after = (pipeline(f)[: today + 1] for f in (frame, frame * noise))
    return (before - after).abs().max().item()


def future_returns(close: Tensor, horizon: int) -> Tensor:
    """1~H일 뒤까지의 로그 수익률 (N, H)입니다. 알 수 없는 끝은 NaN입니다."""
    price = F.pad(close.log(), (0, horizon), value=torch.nan)
    return price.unfold(0, horizon + 1, 1)[:, 1:] - close.log()[:, None]


@chapter.section("5.2", "창으로 자르기와 누설")
def section_windows(run: Run) -> None:
    from sklearn import preprocessing

    frame, num_train = load(run).frame, load(run).num_train
    T, H = run.config.window, run.config.horizon
    x = torch.tensor(make_features(frame).to_numpy(np.float64))
    views, one_by_one = sliding_windows(x, T), [x[t : t + T] for t in range(len(x) - T + 1)]
    run.check("하나씩 자른 창과 보기로 만든 창", views, torch.stack(one_by_one), atol=0)
    by_numpy = np.lib.stride_tricks.sliding_window_view(x.numpy(), T, axis=0).transpose(0, 2, 1)
    run.check("보기로 만든 창과 sliding_window_view", views, by_numpy, atol=0)
    run.check("복사하지 않음: 첫 칸의 주소", views.data_ptr(), x.data_ptr(), atol=0)
    ours, library = StandardScaler().fit(x[:num_train]), preprocessing.StandardScaler()
    by_library = library.fit(x[:num_train].numpy()).transform(x.numpy())
    run.check("StandardScaler와 scikit-learn", ours.transform(x), by_library, 1e-9)
    days = torch.arange(T - 1, len(frame) - H)
    fair = split_days(days, num_train, H)
    mixed = days[torch.randperm(len(days))].split([len(fair[0]), len(days) - len(fair[0])])
    mean = lambda f, center: make_features(f)["수익률"].rolling(5, 1, center=center).mean()
    pipelines = {"바르게": lambda f: prepare(f, num_train)}
    pipelines["모든 날로 정규화"] = lambda f: prepare(f, len(f))
    pipelines["지난 평균"] = lambda f: torch.tensor(mean(f, False).to_numpy())[:, None]
    pipelines["가운데 평균"] = lambda f: torch.tensor(mean(f, True).to_numpy())[:, None]  # 모레까지
    effect = {name: future_effect(p, frame, num_train - 1) for name, p in pipelines.items()}
    run.check("차례로 나누면 미리 본 목표가 없음", seen_targets(*fair, T, H), 0, atol=0)
    honest = [effect.pop(name) for name in ("바르게", "지난 평균")]
    run.check("앞날을 바꾸어도 특징이 그대로", honest, [0, 0], atol=0)
    leaks = {"무작위로 나누기": seen_targets(*mixed, T, H)} | effect
    text = "심은 누설 셋을 검사로 알아챕니다(첫째는 본 목표의 비율, 나머지는 특징이 변한 정도)"
    run.claim(text, leaks, min(leaks.values()) > 0, unit="")
    price, y = prices.closing(frame).log(), future_returns(prices.closing(frame), H)[:, -1]
    level = F.pad(price, (T - 1, 0), value=price[0]).unfold(0, T, 1)  # 가격의 창 (N, T)
    plans = {"바르게, 가격의 창": (level, fair), "무작위로 나누기": (level, mixed)}
    plans |= {name: (pipeline(frame), fair) for name, pipeline in pipelines.items()}
    scores = {n: metrics.neighbor_correlation(x, y, *parts) for n, (x, parts) in plans.items()}
    figure = plot.bar_figure({"상관": scores}, "예측과 실제의 상관계수", "누설로 부풀려진 점수")
    run.figure(figure, "03_leaks")
    for leak, honest in (("무작위로 나누기", "바르게, 가격의 창"), ("가운데 평균", "지난 평균")):
        text = f"누설({leak})로 없는 실력이 생깁니다(상관계수가 0.1 넘게 오름)"
        pair = {name: scores[name] for name in (honest, leak)}
        run.claim(text, pair, pair[leak] > pair[honest] + 0.1, unit="")
    pair = {name: scores[name] for name in ("바르게", "모든 날로 정규화")}
    text = "누설(모든 날로 정규화)로 달라지는 점수는 작습니다(0.1 안). 그래도 누설입니다"
    run.claim(text, pair, abs(pair["모든 날로 정규화"] - pair["바르게"]) < 0.1, unit="")


# %% [markdown]
# **읽는 법.** 03 그림은 가장 닮은 학습 창(앞의 둘은 가격의 창, 나머지는 하루의 특징) 열 개의 목표를
# 평균한 예측의 상관계수(1이면 완벽)입니다. 무작위로 나누면 검증 창과 겹치는 창이 학습에 있어 답을
# 미리 봅니다. 이렇게 오른 점수는 내일이면 사라집니다. 그래서 검사를 코드에 남깁니다.
#
# ## 5.3 LSTM을 게이트 하나씩
# **왜 필요할까요?** LSTM은 셀 상태 c에 기억을 담고, 게이트 셋으로 무엇을 지우고 쓰고 내보낼지
# 정합니다. 게이트는 0(닫힘)과 1(열림) 사이의 수입니다. f가 1에 가까우면 c가 그대로 남으므로
# 기울기도 오래갑니다(4강 4.5절). 그래서 f의 편향을 1로 두고 시작하기도 합니다(Jozefowicz 외 2015).
# ```text
# i = s(W_i [x, h] + b_i)   입력: 새 값을 얼마나 쓸지        g = tanh(W_g [x, h] + b_g)   새 값
# f = s(W_f [x, h] + b_f)   잊기: 옛 값을 얼마나 남길지      c = f * c + i * g
# o = s(W_o [x, h] + b_o)   출력: 얼마나 내보낼지            h = o * tanh(c)
#   x (B, D)  h, c (B, H)  [x, h] 이어 붙인 (B, D + H)  W (H, D + H)  s 시그모이드  H 은닉 크기
# ```


# %%
def lstm_step(x: Tensor, h: Tensor, c: Tensor, weights: list[Tensor]) -> tuple:
    """LSTM의 한 걸음입니다(Gers 외 2000). x (B, D), h와 c (B, H) -> 새 h와 c, 게이트 (i, f, o)"""
    # weights: W (4H, D), U (4H, H), b와 b' (4H,). i, f, g, o의 차례로 쌓여 있음
    W, U, b, b2 = (w.chunk(4) for w in weights)
    gate = lambda k: x @ W[k].T + b[k] + h @ U[k].T + b2[k]  # (B, H)
    i = torch.sigmoid(gate(0))  # 입력: 새 값을 얼마나 쓸지
    f = torch.sigmoid(gate(1))  # 잊기: 옛 값을 얼마나 남길지
    g = torch.tanh(gate(2))  # 새 값
    o = torch.sigmoid(gate(3))  # 출력: 얼마나 내보낼지
    c = f * c + i * g
    return o * torch.tanh(c), c, (i, f, o)


class LSTMCell(nn.LSTMCell):
    """LSTM의 셀입니다. 매개변수는 nn.LSTMCell의 것을 물려받고 계산은 직접 합니다."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        return lstm_step(x, *state, weights)[:2]


class StackedLSTM(nn.LSTM):
    """여러 층의 LSTM입니다. 아래층의 h가 위층의 x입니다. (B, T, D) -> (B, T, H)"""

    def forward(self, x: Tensor) -> Tensor:
        for weights in self.all_weights:
            h, c = x.new_zeros(2, len(x), self.hidden_size)
            outputs = []
            for t in range(x.shape[1]):
                h, c, _ = lstm_step(x[:, t], h, c, weights)
                outputs.append(h)
            x = torch.stack(outputs, dim=1)
        return x


class GRUCell(nn.GRUCell):
    """GRU의 셀입니다. 게이트가 둘이고 셀 상태가 없습니다(4강 4.4절). x (B, D), h (B, H)"""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        W, U = self.weight_ih.chunk(3), self.weight_hh.chunk(3)
        b, b2 = self.bias_ih.chunk(3), self.bias_hh.chunk(3)
        r = torch.sigmoid(x @ W[0].T + b[0] + h @ U[0].T + b2[0])  # 되돌림
        z = torch.sigmoid(x @ W[1].T + b[1] + h @ U[1].T + b2[1])  # 갱신: 옛 값을 얼마나 남길지
        n = torch.tanh(x @ W[2].T + b[2] + r * (h @ U[2].T + b2[2]))  # 새 값
        return (1 - z) * n + z * h


class LSTMForecaster(nn.Module):
    """창 하나에서 앞날의 값들을 냅니다. x (B, T, D) -> (B, outputs)"""

    def __init__(self, inputs: int, outputs: int, hidden: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.drop, self.output = nn.Dropout(dropout), nn.Linear(hidden, outputs)
        nn.init.zeros_(self.output.weight)  # 왜: 배우기 전의 예측이 0, 곧 기준선과 같음
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(x)  # (B, T, H)
        return self.output(self.drop(h[:, -1]))


def train(run: Run, model: nn.Module, x, y, loss_of: Callable, epochs: int, score=None) -> list:
    """창 x (M, T, D)로 학습시키고 걸음마다의 손실을, `score`가 있으면 에폭마다의 점수를 냅니다."""
    optimizer = torch.optim.AdamW(model.parameters(), run.config.lr, weight_decay=0.01, fused=True)
    total = epochs * math.ceil(len(x) / run.config.batch_size)
    scheduler = OneCycleLR(optimizer, run.config.lr, total, cycle_momentum=False)
    checkpoint, losses = run.checkpoint(model, optimizer, scheduler) if score else None, []
    for _ in range(len(checkpoint.history) if score else 0, epochs):
        model.train()
        parts = torch.randperm(len(x), device=x.device).split(run.config.batch_size)
        for index in parts:
            forecast = model(x[index])  # 1) 순전파
            loss = loss_of(forecast, y[index])  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
            losses.append(loss.detach())
        if score:
            run.end_epoch(checkpoint, score())
    return checkpoint.history if score else torch.stack(losses).tolist()


@torch.inference_mode()
def predict(model: nn.Module, x: Tensor) -> Tensor:
    """창마다의 예측을 평가 상태에서 구해 CPU에 float64로 모읍니다."""
    model.eval()
    return torch.cat([model(part).cpu().double() for part in x.split(1000)])


def marked_values(num: int, steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """기억하는 문제: 값과 표시 (B, T, 2)를 보고, 처음에 표시된 값 (B, 1)을 끝에서 답합니다."""
    values = torch.rand(num, steps, device=device) * 2 - 1
    place = torch.randint(steps // 4, (num, 1), device=device)  # 처음의 4분의 1에 표시
    mark = torch.zeros_like(values).scatter_(1, place, 1.0)
    return torch.stack([values, mark], dim=2), values.gather(1, place)


def learn_to_remember(run: Run, forget_bias: float) -> tuple[nn.LSTM, list[float]]:
    """표시된 값을 기억하도록 배운 LSTM과, 걸음마다의 손실입니다."""
    torch.manual_seed(run.seed)
    model = LSTMForecaster(2, 1, 16).to(run.device)
    model.lstm.bias_ih_l0.data[16:32] = forget_bias  # i, f, g, o 가운데 f
    nn.init.zeros_(model.lstm.bias_hh_l0)
    x, y = marked_values(run.config.batch_size * run.config.steps // 10, 20, run.device)
    return model.lstm, train(run, model, x, y, F.mse_loss, 10)


@torch.no_grad()
def trace_gates(lstm: nn.LSTM, x: Tensor) -> dict[str, Tensor]:
    """시각마다의 게이트와 셀 상태 (H, T)입니다. x (T, D)"""
    h = c = x.new_zeros(1, lstm.hidden_size)
    rows = []
    for row in x[:, None]:  # (1, D)씩
        h, c, gates = lstm_step(row, h, c, lstm.all_weights[0])
        rows.append(torch.cat([*gates, c]))  # (4, H)
    names = ("입력 i", "잊기 f", "출력 o", "셀 상태 c")
    return dict(zip(names, torch.stack(rows, dim=2).cpu(), strict=True))


@chapter.section("5.3", "LSTM을 게이트 하나씩")
def section_cells(run: Run) -> None:
    x, h, c = torch.randn(3, 5), torch.randn(3, 4), torch.randn(3, 4)
    ours, library = LSTMCell(5, 4), nn.LSTMCell(5, 4)
    library.load_state_dict(ours.state_dict())
    for k, name in enumerate("hc"):
        pick = lambda cell, k=k: lambda *inputs: cell.to(inputs[0])(inputs[0], inputs[1:])[k]
        run.check_with_gradient(f"LSTM 셀의 {name}", pick(ours), pick(library), x, h, c)
    run.check_modules("GRU 셀과 nn.GRUCell", GRUCell(5, 4), nn.GRUCell(5, 4), x, h)
    pair = [kind(5, 4, num_layers=2, batch_first=True) for kind in (StackedLSTM, nn.LSTM)]
    run.check_modules("두 층의 LSTM과 nn.LSTM", *pair, torch.randn(3, 7, 5))
    curves, last = {}, {}
    for bias in (0.0, 1.0):
        lstm, losses = learn_to_remember(run, bias)
        name = f"f의 편향 {bias:g}"
        smooth = pd.Series(losses).rolling(20, 1).mean().to_numpy()
        curves[name], last[name] = (range(len(losses)), smooth), float(smooth[-1])
    curves["늘 0이라고 답하기"] = [0, len(losses)], [1 / 3] * 2  # -1~1의 고른 값의 분산
    run.figure(plot.line_figure(curves, "걸음", "손실", "표시된 값을 기억하기"), "04_memory")
    text = "f의 편향이 1이면 처음에 표시된 값을 기억하고(손실 0.05 아래) 0이면 못 합니다(0.3 위)"
    run.claim(text, last, last["f의 편향 1"] < 0.05 and last["f의 편향 0"] > 0.3, unit="")
    x, y = marked_values(64, 20, run.device)
    traced = {"값과 표시": x[y.argmax()].cpu().T} | trace_gates(lstm, x[y.argmax()])
    run.figure(plot.heat_strips(traced, "시각", "배운 LSTM의 게이트"), "05_gates")


# %% [markdown]
# **읽는 법.** 05 그림에서 짙은 파랑은 1(열림), 흰색은 0(닫힘), 붉은색은 음수입니다. 표시가 있는
# 시각에 입력 게이트가 달라지고, 그 뒤로 f가 1에 가까운 칸의 c가 이어지는지 보세요.
#
# ## 5.4 예측을 재는 자
# **왜 필요할까요?** 주가를 R² 0.99로 예측했다는 글이 흔하지만, 어제 가격을 그대로 답해도 그 점수가
# 나옵니다. 그래서 어제 값의 오차로 나눈 **MASE**를 보고, 두 예측의 차이가 우연인지 **검정**합니다.
# **p값**은 실력이 같을 때 우연히 이만큼 이상 다를 확률입니다. 0.05 아래이면 우연으로 보지 않습니다.
# ```text
# MAE = 평균 |y - f|     RMSE = 루트 평균 (y - f)^2     MAPE = 평균 |y - f| / |y|   y 실제 f 예측
# sMAPE = 평균 2 |y - f| / (|y| + |f|)          MASE = MAE / (학습 기간에 어제 값으로 예측한 MAE)
# R² = 1 - 합 (y - f)^2 / 합 (y - 평균)^2       핀볼 = 평균 max(q (y - f), (q - 1) (y - f))
# Diebold-Mariano(DM) 검정    d[t] = 손실A[t] - 손실B[t]
#           DM = 평균 d / 루트(V / N)    V = C[0] + 2 합(0<k<h) C[k]
#           h일 뒤의 목표는 이웃끼리 h-1일 겹치므로 C[k]도 더합니다   C[k] = a[k]의 분자 / N(5.1절)
#           작은 표본 보정 (Harvey 외 1997): 루트((N + 1 - 2h + h(h - 1) / N) / N)을 곱하고 t분포
# ```
# 비율 q의 **분위수**(quantile)는 값의 q만큼이 그 아래에 드는 경계입니다(q가 0.05이면 5 %가 아래).
# 핀볼 손실은 f가 그 경계일 때 가장 작습니다. q가 0.5이면 가운데 값이고, 손실은 MAE의 절반입니다.


# %%
def mae(y: Tensor, f: Tensor) -> Tensor:
    """평균 절대 오차"""
    return (y - f).abs().mean()


def rmse(y: Tensor, f: Tensor) -> Tensor:
    """평균 제곱 오차의 제곱근"""
    return ((y - f) ** 2).mean().sqrt()


def mape(y: Tensor, f: Tensor) -> Tensor:
    """비율로 잰 절대 오차. 주의: y가 0에 가까우면 터집니다."""
    return ((y - f) / y).abs().mean()


def smape(y: Tensor, f: Tensor) -> Tensor:
    """y와 f를 똑같이 다룬 비율 오차(0~2)"""
    return (2 * (y - f).abs() / (y.abs() + f.abs())).mean()


def mase(y: Tensor, f: Tensor, y_train: Tensor) -> Tensor:
    """학습 기간에 어제 값으로 예측한 오차의 몇 배인지(Hyndman과 Koehler 2006)"""
    return mae(y, f) / mae(y_train[1:], y_train[:-1])


def r2_score(y: Tensor, f: Tensor) -> Tensor:
    """결정계수. 평균을 답하면 0, 완벽하면 1, 평균보다 못하면 음수"""
    return 1 - ((y - f) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def pinball_loss(y: Tensor, f: Tensor, levels: Tensor) -> Tensor:
    """분위수의 손실입니다. y (..., 1), 분위수마다의 예측 f (..., Q), levels (Q,) -> (..., Q)"""
    return torch.maximum(levels * (y - f), (levels - 1) * (y - f))


def diebold_mariano(a: Tensor, b: Tensor, horizon: int = 1) -> tuple[float, float]:
    """손실 a와 b (N,)의 평균이 같은지 검정합니다. 통계량(음수이면 a가 작음)과 양쪽 p값을 냅니다."""
    N, d = len(a), a - b
    centered = d - d.mean()
    covariance = [centered[k:] @ centered[: N - k] / N for k in range(horizon)]
    variance = (covariance[0] + 2 * sum(covariance[1:])).item()
    if variance <= 0:  # 추정한 분산이 0 이하이면 차이가 없다고 봄
        return 0.0, 1.0
    small = math.sqrt((N + 1 - 2 * horizon + horizon * (horizon - 1) / N) / N)
    statistic = small * d.mean().item() / math.sqrt(variance / N)
    return statistic, 2 * stats.t.sf(abs(statistic), N - 1)


@chapter.section("5.4", "예측을 재는 자")
def section_metrics(run: Run) -> None:
    from sklearn import metrics as sk
    from statsmodels.regression.linear_model import OLS

    y, f = (torch.rand(200, dtype=torch.float64) + 0.5 for _ in range(2))
    pairs = {"MAE": (mae, sk.mean_absolute_error), "R²": (r2_score, sk.r2_score)}
    pairs["RMSE"] = rmse, sk.root_mean_squared_error
    pairs["MAPE"] = mape, sk.mean_absolute_percentage_error
    for name, (ours, theirs) in pairs.items():
        run.check(f"{name}와 scikit-learn", ours(y, f), theirs(y.numpy(), f.numpy()), atol=1e-9)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    theirs = [sk.mean_pinball_loss(y.numpy(), f.numpy(), alpha=q) for q in LEVELS]
    losses = pinball_loss(y[:, None], f[:, None], levels).mean(dim=0)
    run.check("핀볼 손실과 scikit-learn", losses, theirs, atol=1e-9)
    weight = 2 / (y + f)
    by_library = sk.mean_absolute_error(y, f, sample_weight=weight) * weight.mean()
    run.check("sMAPE와 scikit-learn", smape(y, f), by_library, atol=1e-9)
    naive = sk.mean_absolute_error(y[1:], y[:-1])
    run.check("MASE와 scikit-learn", mase(y, f, y), sk.mean_absolute_error(y, f) / naive, 1e-9)
    a, b = torch.randn(2, 60, dtype=torch.float64) ** 2
    ours, theirs = diebold_mariano(a, b), stats.ttest_1samp(a - b, 0)
    run.check("하루 뒤의 DM 검정과 scipy의 t 검정", ours, [*theirs], atol=1e-9)
    options = {"cov_type": "HAC", "cov_kwds": {"maxlags": 4, "kernel": "uniform"}}
    library = OLS((a - b).numpy(), np.ones(60)).fit(**options)
    small = math.sqrt((61 - 10 + 20 / 60) / 60)  # 작은 표본 보정. N = 60, h = 5
    ours, theirs = diebold_mariano(a, b, horizon=5)[0], small * library.tvalues[0]
    run.check("닷새 뒤의 DM 검정과 statsmodels", ours, theirs, atol=1e-9)
    data = load(run)
    close, start = prices.closing(data.frame), data.num_train
    y, yesterday = close[start:], close[start - 1 : -1]
    r, before = log_returns(close)[start:], log_returns(close)[start - 1 : -1]
    shown = {"MAE": mae, "RMSE": rmse, "MAPE": mape, "sMAPE": smape, "R²": r2_score}
    found = ", ".join(f"{name} {metric(y, yesterday):.4g}" for name, metric in shown.items())
    print(f"  어제 값으로 예측한 검증 기간의 가격: {found}")
    scores = {"가격": r2_score(y, yesterday).item(), "수익률": r2_score(r, before).item()}
    text = "어제 값을 답하면 가격의 R²는 0.95를 넘고 수익률의 R²는 0보다 작습니다"
    run.claim(text, scores, scores["가격"] > 0.95 and scores["수익률"] < 0, unit="")
    days = data.frame.index.to_numpy()[start : start + 60]
    curves = {"실제": (days, y[:60]), "어제 값": (days, yesterday[:60])}
    figure = plot.panel_figure({f"어제 값의 R² = {scores['가격']:.4f}": curves})
    run.figure(figure, "06_r2")


# %% [markdown]
# **읽는 법.** 06 그림의 '어제 값'은 실제를 하루 늦게 따라갈 뿐인데도 R²가 1에 가깝습니다. 인터넷의
# 주가 예측 그림도 예측이 실제보다 하루 늦지 않은지 보세요.
#
# ## 5.5 예측할 수 있는 것과 없는 것
# **왜 필요할까요?** 모델이 실패했는지, 예측할 것이 없었는지 알려면 답을 아는 시계열에서 먼저 재어야
# 합니다. 같은 LSTM을 사인 곡선, 무작위 걸음(우연한 수를 쌓은 합), 로그 가격, 변동 폭(그날의 고가와
# 저가가 벌어진 정도)으로 따로 학습시켜 비교합니다.
# ```text
# 입력과 목표    창의 마지막 값을 뺀 것       x (M, T, 1)     목표 (M, H): 다음 H일의 움직임
# 기준선         어제 값: 안 움직임   추세: 평균 변화 * h   계절: 한 주기 전
#                능형 회귀: L2 규제(2강 2.6절)를 더한 선형 모델
# 실력 점수      1 - MAE(LSTM) / MAE(기준선)      양수이면 나음   MASE도 어제 값의 MASE와 비교함
# ```
# **덩어리 부트스트랩**은 검증의 날을 이웃한 20일씩(서로 닮았으므로) 무작위로 거듭 뽑아 점수를 다시
# 재고, 1,000번 잰 점수의 가운데 95 %를 **신뢰 구간**으로 냅니다. 0에 걸치면 우연일 수 있습니다.


# %%
def naive_forecasts(y: Tensor, days: Tensor, horizon: int, period: int, num_train: int) -> dict:
    """배우지 않는 예측 셋의 (M, H)입니다. 마지막 값에서 얼마나 움직이는지를 냅니다."""
    ahead = torch.arange(1, horizon + 1)
    drift = (y[num_train - 1] - y[0]) / (num_train - 1) * ahead
    back = ahead - period * ((ahead + period - 1) // period)  # 한 주기(모자라면 두 주기) 전
    season = y[days[:, None] + back] - y[days][:, None]
    return {"어제 값": torch.zeros_like(season), "추세": drift.expand_as(season), "계절": season}


def block_bootstrap(losses: Tensor, block: int = 20, repeats: int = 1000) -> Tensor:
    """이웃한 날을 덩어리로 다시 뽑아 구한 평균 (R, K)입니다. losses (N, K)"""
    size = (repeats, math.ceil(len(losses) / block), 1)
    start = torch.randint(len(losses) - block + 1, size)
    return losses[(start + torch.arange(block)).flatten(1)].mean(dim=1)


def skill_score(ours: Tensor, floor: Tensor) -> list[float]:
    """오차 (M,) 둘에서 구한 실력 점수와, 덩어리 부트스트랩으로 구한 95 % 구간의 아래와 위입니다."""
    means = block_bootstrap(torch.stack([ours, floor], dim=1))  # (R, 2)
    edges = (1 - means[:, 0] / means[:, 1]).quantile(torch.tensor([0.025, 0.975]).double())
    return [1 - (ours.mean() / floor.mean()).item(), *edges.tolist()]


class Trial(NamedTuple):
    """시계열 하나에서 잰 것입니다."""

    level: Tensor  # 창의 마지막 값 (M,)
    target: Tensor  # 그 뒤의 움직임 (M, H)
    forecasts: dict[str, Tensor]  # 이름마다 움직임의 예측 (M, H)
    scores: dict[str, float]  # 이름마다 하루 뒤의 MASE
    floor: str  # 배우지 않는 예측 가운데 가장 나은 것
    skill: list[float]  # 그것에 비교한 실력 점수, 95 % 구간의 아래와 위
    linear: list[float]  # 능형 회귀에 비교한 것


def try_series(run: Run, y: Tensor, num_train: int, period: int) -> Trial:
    """시계열 y (N,)의 앞부분으로 LSTM을 학습시키고 나머지에서 기준선과 비교합니다."""
    T, H = run.config.window, run.config.horizon
    spans = y.unfold(0, T + H, 1)  # (M, T + H)
    spans = spans - spans[:, T - 1 : T]  # 창의 마지막 값을 뺌
    x, target = spans[:, :T, None], spans[:, T:]  # (M, T, 1), (M, H)
    days = torch.arange(T - 1, len(y) - H)  # 창의 마지막 날
    learn, val = split_days(days, num_train, H)
    forecasts = naive_forecasts(y, val, H, period, num_train)
    learn, val = learn - (T - 1), val - (T - 1)  # 날에서 창의 번호로
    scale = x[learn].std()  # 왜: 신경망의 입력과 목표를 1쯤으로 맞춤
    inputs, answers = ((part / scale).float().to(run.device) for part in (x, target))
    torch.manual_seed(run.seed)
    model = LSTMForecaster(1, H, run.config.hidden).to(run.device)
    epochs = 6 * run.config.epochs  # 왜: 8에폭이면 사인 곡선을 다 배우지 못함(검증 기간에서 봄)
    train(run, model, inputs[learn], answers[learn], F.l1_loss, epochs)
    forecasts["능형 회귀"] = metrics.ridge_forecast(x[learn] / scale, target[learn], x[val] / scale)
    forecasts["LSTM"] = scale * predict(model, inputs[val])
    forecasts["LSTM, 되풀이"] = scale * recursive_forecast(model, inputs[val], H)
    x, target, level = x[val], target[val], y[T - 1 :][val]
    errors = {name: (target[:, 0] - f[:, 0]).abs() for name, f in forecasts.items()}
    score = lambda f: mase(level + target[:, 0], level + f[:, 0], y[:num_train]).item()
    scores = {name: score(f) for name, f in forecasts.items()}
    floor = min(("어제 값", "추세", "계절"), key=scores.get)
    skills = [skill_score(errors["LSTM"], errors[name]) for name in (floor, "능형 회귀")]
    return Trial(level, target, forecasts, scores, floor, *skills)


@torch.inference_mode()
def recursive_forecast(model: nn.Module, x: Tensor, steps: int) -> Tensor:
    """하루 뒤의 예측을 창의 끝에 붙여 가며 되풀이합니다. x (B, T, 1) -> (B, steps)"""
    moved, result = x.new_zeros(len(x), 1), []
    for _ in range(steps):
        change = predict(model, x)[:, :1].to(x)  # (B, 1)
        moved = moved + change
        result.append(moved)
        x = torch.cat([x[:, 1:], change[..., None]], dim=1) - change[..., None]  # 끝을 다시 0으로
    return torch.cat(result, dim=1).cpu().double()


def lag_errors(trial: Trial) -> list[float]:
    """하루 뒤의 예측과 맞힐 날의 k일 전 값의 MAE입니다(k = 0..5). 가장 작은 곳이 닮은 날입니다."""
    forecast, actual = (trial.level + t[:, 0] for t in (trial.forecasts["LSTM"], trial.target))
    return [mae(forecast[5:], actual[5 - k : len(actual) - k]).item() for k in range(6)]


def make_series(run: Run) -> dict[str, tuple[Tensor, int, int]]:
    """시계열마다의 값, 학습에 쓰는 앞부분의 길이, 계절의 주기입니다."""
    data, num = load(run), run.config.points
    sine, walk = (torch.from_numpy(prices.generate(k, num, run.seed)) for k in ("sine", "walk"))
    width, price = make_features(data.frame)["폭"], prices.closing(data.frame).log()
    made = {"사인 곡선": (sine, num * 3 // 4, 20), "무작위 걸음": (walk, num * 3 // 4, 5)}
    width = torch.tensor(width.to_numpy())
    return made | {"로그 가격": (price, data.num_train, 5), "변동 폭": (width, data.num_train, 5)}


@chapter.section("5.5", "예측할 수 있는 것과 없는 것")
def section_contrast(run: Run) -> None:
    trials = {name: try_series(run, *parts) for name, parts in make_series(run).items()}
    print("  하루 뒤의 MASE")
    for name, trial in trials.items():
        print(f"  {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in trial.scores.items()))
    score = trials["사인 곡선"].scores["LSTM"]
    run.claim("사인 곡선에서 LSTM의 MASE는 0.5 아래입니다", f"MASE {score:.3f}", score < 0.5)
    for name in trials:
        skill, low, high = trials[name].skill
        found, expected = low > 0, name in ("사인 곡선", "변동 폭")
        text = f"{name}에서 LSTM은 '{trials[name].floor}'보다 낫"
        text += "습니다(구간이 0 위)" if expected else "다고 할 수 없습니다(구간의 아래가 0 이하)"
        run.claim(text, f"실력 {skill:.3f}, 95 % 구간 {low:.3f} ~ {high:.3f}", found == expected)
    skill, low, high = trials["변동 폭"].linear
    text = "변동 폭에서 LSTM은 선형 모델인 능형 회귀보다 낫습니다(구간이 0 위)"
    run.claim(text, f"실력 {skill:.3f}, 95 % 구간 {low:.3f} ~ {high:.3f}", low > 0)
    skills = {f"{name}\n('{t.floor}'보다)": t.skill[0] for name, t in trials.items()}
    spread = [t.skill[1:] for t in trials.values()]
    figure = plot.bar_figure({"실력": skills}, "실력 점수", "하루 뒤의 예측", spread)
    run.figure(figure, "07_skill")
    pair = {name: trials[name] for name in ("사인 곡선", "로그 가격")}
    lags = {name: lag_errors(trial) for name, trial in pair.items()}
    curves = {name: (range(6), [e / errors[0] for e in errors]) for name, errors in lags.items()}
    figure = plot.line_figure(curves, "며칠 전의 값과 비교하나", "MAE(0일이 1)", "예측과 닮은 날")
    run.figure(figure, "08_lags")
    closest = {name: int(np.argmin(errors)) for name, errors in lags.items()}
    text = "사인 곡선의 예측은 맞힐 날의 값과, 가격의 예측은 하루 전의 값과 가장 닮았습니다"
    run.claim(text, closest, list(closest.values()) == [0, 1], unit="일 전")
    panels, ahead = {}, range(1, run.config.horizon + 1)
    for name, trial in pair.items():
        error = lambda way, t=trial: (t.target - t.forecasts[way]).abs().mean(dim=0)
        ways = ("어제 값", "LSTM", "LSTM, 되풀이")
        panels[name] = {way: (ahead, error(way)) for way in ways}
    run.figure(plot.panel_figure(panels, "며칠 뒤", "MAE", share=False), "09_horizon")
    last = {way: panels["사인 곡선"][way][1][-1].item() for way in ("LSTM", "LSTM, 되풀이")}
    text = f"사인 곡선의 {run.config.horizon}일 뒤는 되풀이할 때보다 한꺼번에 낼 때 MAE가 작습니다"
    run.claim(text, last, last["LSTM"] < last["LSTM, 되풀이"], unit="")


# %% [markdown]
# **읽는 법.** 08 그림에서 가장 낮은 점이 1일이면 예측이 어제 값을 베낀 셈입니다. 사인 곡선을 맞힌
# 모델이 가격에서 기준선을 넘지 못하면, 가격에 배울 것이 적다고 볼 만합니다. 09 그림은 여러 날 뒤를
# 한꺼번에(direct) 낸 예측과 하루씩 되풀이한(recursive) 예측입니다. 되풀이하면 틀린 것을 다시
# 입력으로 쓰므로 오차가 쌓일 수 있으나 늘 지지는 않습니다. 선형 관계라면 능형 회귀로 충분합니다.
#
# ## 5.6 마지막 학습: 얼마나 흔들릴지 예측하기
# **왜 필요할까요?** 내일의 가격은 한 값으로 맞히기 어렵지만 **예측 구간**은 다릅니다. 조용한 때의
# 구간은 좁고 출렁이는 때에는 넓어야 합니다. LSTM이 분위수 다섯 개를 내고 핀볼 손실로 배웁니다.
# ```text
# 목표      z[t, h] = log(P[t+h] / P[t]) / (s[t] 루트 h)      분산이 날마다 더해져 폭은 루트 h배
# 분위수    가운데에서 바깥으로 softplus만큼 벌림   softplus(x) = log(1 + e^x), 늘 양수라 안 뒤바뀜
# 예측 구간 P[t] exp(z_q s[t] 루트 h)    z_q는 z의 분위수. 5 %와 95 %의 것 사이가 90 % 구간
# 기준선    늘 같은 구간: 학습 기간 수익률의 분위수      변동성에 비례: z의 분위수 * s[t] 루트 h
# ```


# %%
class QuantileForecaster(LSTMForecaster):
    """다음 H일마다 분위수 다섯 개를 작은 것부터 냅니다. x (B, T, D) -> (B, H, 5)"""

    def forward(self, x: Tensor) -> Tensor:
        raw = super().forward(x).unflatten(1, (-1, len(LEVELS)))  # (B, H * 5) -> (B, H, 5)
        middle, step = raw[..., 2:3], F.softplus(raw)  # 가운데 값에서 바깥으로 벌림
        above = middle + step[..., 3:].cumsum(dim=-1)
        below = middle - step[..., :2].flip(-1).cumsum(dim=-1).flip(-1)
        return torch.cat([below, middle, above], dim=-1)


class Task(NamedTuple):
    """창과 목표입니다. t번째 행은 마지막 날이 t일인 창입니다. 앞의 T - 1행에는 0도 들었습니다."""

    x: Tensor  # (N, T, D) float32, 장치에
    returns: Tensor  # 다음 H일의 로그 수익률 (N, H)
    sigma: Tensor  # 최근의 변동성에 루트 h를 곱한 것 (N, H)
    days: Tensor  # 특징과 목표를 모두 아는 날. 처음의 20일은 변동성을 몰라 뺌


def make_task(run: Run, frame: DataFrame, num_train: int) -> Task:
    """표에서 창과 목표를 만듭니다. 정규화의 평균은 앞의 `num_train`일에서만 구합니다."""
    T, H, close = run.config.window, run.config.horizon, prices.closing(frame)
    x = F.pad(prepare(frame, num_train), (0, 0, T - 1, 0))  # 앞에 빈 날 T - 1일
    sigma = ewma_variance(log_returns(close)).sqrt()
    sigma = sigma[:, None] * torch.arange(1, H + 1).double().sqrt()
    days = torch.arange(T + 20, len(frame) - H)
    return Task(sliding_windows(x.float().to(run.device), T), future_returns(close, H), sigma, days)


def quantile_loss(forecast: Tensor, target: Tensor) -> Tensor:
    """분위수 (B, H, 5)와 목표 (B, H)의 핀볼 손실입니다. 창마다 평균합니다. -> (B,)"""
    levels = torch.tensor(LEVELS, dtype=forecast.dtype, device=forecast.device)
    return pinball_loss(target[..., None], forecast, levels).mean(dim=(1, 2))


def quantile_forecasts(task: Task, model: nn.Module, train_days: Tensor, days: Tensor) -> dict:
    """이름마다 로그 수익률의 분위수 (M, H, 5)입니다. 기준선 둘과 LSTM입니다."""
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    both = task.returns[train_days], (task.returns / task.sigma)[train_days]
    past, scaled = (part.quantile(levels, dim=0).T for part in both)  # (H, 5)
    sigma = task.sigma[days][..., None]
    ours = predict(model, task.x[days.to(task.x.device)]) * sigma
    return {"늘 같은 구간": past.expand_as(ours), "변동성에 비례": scaled * sigma, "LSTM": ours}


def coverage(y: Tensor, f: Tensor) -> Tensor:
    """5 %와 95 % 분위수 사이(90 % 구간)에 들어온 비율입니다. y (M,), f (M, 5)"""
    return ((y > f[:, 0]) & (y < f[:, 4])).double().mean()


@chapter.section("5.6", "마지막 학습: 얼마나 흔들릴지 예측하기")
def section_training(run: Run) -> tuple:
    data, T, H = load(run), run.config.window, run.config.horizon
    task = make_task(run, data.frame, data.num_train)
    train_days, val_days = split_days(task.days, data.num_train, H)
    sizes = task.x.shape[2], H * len(LEVELS), run.config.hidden
    model = QuantileForecaster(*sizes, dropout=0.5).to(run.device)
    x, z = task.x[train_days], (task.returns / task.sigma).float().to(run.device)
    print(f"  창 {len(x):,}개, 매개변수 {count_parameters(model):,}개. 에폭의 손실은 z로 잽니다")
    loss_of = lambda forecast, target: quantile_loss(forecast, target).mean()
    parts = {"train_loss": train_days[-len(val_days) :], "val_loss": val_days}
    loss_on = lambda days: loss_of(predict(model, task.x[days]), z[days].cpu()).item()
    score = lambda: {name: loss_on(days) for name, days in parts.items()}
    history = train(run, model, x, z[train_days], loss_of, run.config.epochs, score)
    run.figure(plot.learning_curves(history), "10_learning_curves")
    about = {"window": T, "horizon": H, "hidden": run.config.hidden, "levels": LEVELS}
    save_weights(run.path("model.pt"), model, **about)
    forecasts = quantile_forecasts(task, model, train_days, val_days)
    actual, sigma, scores = task.returns[val_days], task.sigma[val_days, 0], {}
    calm = sigma < sigma.median()
    parts = {"전체": sigma > 0, "조용한 날": calm, "출렁인 날": ~calm}
    for name, f in forecasts.items():
        print(f"  검증 핀볼 손실(수익률을 %로 적음) {100 * loss_of(f, actual):.4f}  {name}")
        scores[name] = {k: coverage(actual[p, 0], f[p, 0]).item() for k, p in parts.items()}
    run.figure(plot.bar_figure(scores, "90 % 구간에 든 비율", "검증 기간의 하루 뒤"), "11_coverage")
    gap = {name: abs(found["조용한 날"] - found["출렁인 날"]) for name, found in scores.items()}
    text = "조용한 날과 출렁인 날의 구간에 든 비율 차이는 '늘 같은 구간'보다 LSTM에서 작습니다"
    run.claim(text, gap, gap["LSTM"] < gap["늘 같은 구간"])
    return model, train_days


# %% [markdown]
# **읽는 법.** 90 % 구간에는 열흘에 아흐레쯤 들어와야 합니다. 더 들어오면 구간이 너무 넓고, 덜하면
# 너무 좁습니다. 11 그림의 세 무리가 고르게 0.9에 가까운지 보세요. 전체의 비율만 보면 놓칩니다.
#
# ## 5.7 변동성 예측
# **왜 필요할까요?** 5.5절에서 가격과 변동 폭의 판정을 비교해 보세요. 금융에서는 흔들림의 크기만
# 예측하는 모델을 오래 써 왔습니다. LSTM이 그 모델들을 넘는지 잽니다.
# ```text
# 실현 분산   RV[t] = 합(h = 1..H) r[t+h]^2                    맞힐 값
# 지난 며칠   지난 H일의 실현 분산         EWMA    H s[t]^2. s는 5.1절의 변동성 (RiskMetrics)
# GARCH(1,1)  v[t+1] = w + a e[t]^2 + b v[t], v 분산, e = r - 평균. H일 합 (Bollerslev 1986, arch)
# QLIKE       RV / f - log(RV / f) - 1    f가 맞으면 0. 작게 잡은 것을 더 크게 벌함 (Patton 2011)
# ```
# LSTM은 EWMA에 곱할 수의 로그를 냅니다. 0을 내면 EWMA와 같습니다.


# %%
def qlike(actual: Tensor, forecast: Tensor) -> Tensor:
    """분산의 예측을 재는 손실입니다. 모양은 입력과 같습니다."""
    ratio = actual / forecast
    return ratio - ratio.clamp(min=1e-6).log() - 1


def variance_forecasts(run: Run, frame: DataFrame, num_train: int) -> tuple[Tensor, dict]:
    """실현 분산 (N,)과, 배우지 않거나 식으로 맞춘 예측들 (N,)입니다."""
    H, r = run.config.horizon, log_returns(prices.closing(frame))
    actual = F.pad(r**2, (0, H), value=torch.nan).unfold(0, H, 1).sum(dim=1)[1:]  # t+1..t+H일
    past = F.pad(r**2, (H - 1, 0)).unfold(0, H, 1).sum(dim=1)
    past = past.clamp(min=past[:num_train].mean() / 20)  # 왜: 0에 가까우면 QLIKE가 터짐
    forecasts = {"지난 며칠": past, "EWMA": H * ewma_variance(r)}
    return actual, forecasts | {"GARCH(1,1)": metrics.garch_forecast(r, num_train, H)}


def fit_variance(run: Run, task: Task, actual: Tensor, ewma: Tensor, days: Tensor) -> nn.Module:
    """EWMA에 곱할 수의 로그를 내는 LSTM을 QLIKE로 학습시킵니다."""
    torch.manual_seed(run.seed)
    model = LSTMForecaster(task.x.shape[2], 1, run.config.hidden, 0.5).to(run.device)
    ratio = (actual / ewma)[days].float().to(run.device)[:, None]
    loss = lambda forecast, y: qlike(y, forecast.exp()).mean()
    train(run, model, task.x[days], ratio, loss, run.config.epochs)
    return model


def variance_of(model: nn.Module, task: Task, ewma: Tensor, days: Tensor) -> Tensor:
    """LSTM이 예측한 H일의 분산 (M,)입니다."""
    return ewma[days] * predict(model, task.x[days])[:, 0].exp()


def variance_losses(actual: Tensor, forecasts: dict, task: Task, model, days: Tensor) -> dict:
    """이름마다 날마다의 QLIKE (M,)입니다. RMSE도 출력합니다."""
    found = {name: f[days] for name, f in forecasts.items()}
    found["LSTM"] = variance_of(model, task, forecasts["EWMA"], days)
    errors = {name: 1e4 * rmse(actual[days], f).item() for name, f in found.items()}
    print("  분산의 RMSE(%의 제곱): " + ", ".join(f"{k} {v:.3f}" for k, v in errors.items()))
    return {name: qlike(actual[days], f) for name, f in found.items()}


@chapter.section("5.7", "변동성 예측")
def section_volatility(run: Run) -> nn.Module:
    data, H = load(run), run.config.horizon
    task = make_task(run, data.frame, data.num_train)
    actual, forecasts = variance_forecasts(run, data.frame, data.num_train)
    train_days, val_days = split_days(task.days, data.num_train, H)
    model = fit_variance(run, task, actual, forecasts["EWMA"], train_days)
    losses = variance_losses(actual, forecasts, task, model, val_days)
    scores = {name: loss.mean().item() for name, loss in losses.items()}
    text = "검증 기간에 LSTM의 QLIKE는 EWMA보다 작습니다"
    run.claim(text, scores, scores["LSTM"] < scores["EWMA"], unit="")
    return model


# %% [markdown]
# **읽는 법.** QLIKE는 작을수록 좋습니다. 여기서는 평균만 비교하고, 우연인지는 5.8절에서 검정합니다.
# EWMA에는 배울 것이 없고 GARCH에는 넷(w, a, b, 평균)뿐입니다. LSTM과 얼마나 다른지 보세요.
#
# ## 5.8 결과: 처음 보는 기간
# **왜 필요할까요?** 지금까지의 선택은 모두 학습과 검증 기간에서 했습니다. 남겨 둔 마지막 기간을
# 이제 한 번만 꺼내, 가격과 구간과 변동성을 기준선과 비교합니다. **전진 검증**(walk-forward)은
# 250일마다 그날까지의 모든 날로 다시 학습시키고 다음 250일을 예측하는 것입니다.


# %%
def walk_forward(run: Run, task: Task, actual: Tensor, ewma: Tensor, days: Tensor) -> Tensor:
    """250일마다 그때까지의 모든 날로 다시 배워 예측한 분산 (M,)입니다."""
    parts = []
    for part in days.split(250):
        past = task.days[task.days + run.config.horizon < part[0]]
        parts.append(variance_of(fit_variance(run, task, actual, ewma, past), task, ewma, part))
    return torch.cat(parts)


def judge(run: Run, title: str, unit: str, losses: dict, horizon: int, beats: str) -> None:
    """기준선의 평균 손실을 먼저 보이고, LSTM이 기준선마다 나은지 DM 검정으로 판정합니다. (M,)씩"""
    for name, loss in losses.items():
        if name.startswith("LSTM"):
            _, p = diebold_mariano(loss, losses[beats], horizon)
            options = {"beats": beats, "unit": unit, "lower_is_better": True, "p": p}
            run.result(title + name.removeprefix("LSTM"), loss.mean().item(), **options)
        else:
            run.floor(name, loss.mean().item(), unit=unit)
    for name in [name for name in losses if not name.startswith("LSTM")]:
        statistic, p = diebold_mariano(losses["LSTM"], losses[name], horizon)
        text = f"{title}: LSTM의 손실은 '{name}'보다 작습니다(DM 검정, p가 0.05 아래)"
        measured = f"통계량 {statistic:.2f}(음수이면 LSTM이 작음), p = {p:.3f}"
        run.claim(text, measured, statistic < 0 and p < 0.05)


def judge_price(run: Run, task: Task, close: Tensor, median: Tensor, train_days, days) -> None:
    """하루 뒤의 가격을 어제 값, 추세, 계절, 선형 모델과 비교합니다. median (M, H)"""
    moves = naive_forecasts(close.log(), days, run.config.horizon, 5, int(train_days[-1]) + 1)
    ridge = metrics.ridge_forecast(task.x[train_days], task.returns[train_days], task.x[days])
    moves = {name: f[:, 0] for name, f in moves.items()} | {"능형 회귀": ridge[:, 0]}
    moves["LSTM"] = median[:, 0]
    actual, known = close[days + 1], close[: train_days[-1] + 1]
    scale = mae(known[1:], known[:-1])  # MASE의 분모. 학습 기간의 것
    forecasts = {name: close[days] * move.exp() for name, move in moves.items()}
    losses = {name: (actual - f).abs() / scale for name, f in forecasts.items()}
    judge(run, "하루 뒤 가격", "MASE", losses, 1, "어제 값")
    moved = task.returns[days, 0] != 0  # 그대로인 날은 뺌
    rose, said = task.returns[days, 0][moved] > 0, median[moved, 0] > 0
    low, high = stats.binomtest(int((said == rose).sum()), len(rose)).proportion_ci(method="wilson")
    share = rose.double().mean().item()
    shown = {"구간의 아래": low, "위": high, "한쪽만": max(share, 1 - share)}
    text = "방향을 맞힌 비율은 늘 한 방향만 답할 때보다 높습니다(95 % 구간의 아래가 더 높음)"
    run.claim(text, shown, low > shown["한쪽만"])


@chapter.section("5.8", "결과: 처음 보는 기간", needs=("5.6", "5.7"))
def section_result(run: Run, trained: tuple, volatility: nn.Module) -> None:
    model, train_days = trained
    data, H = load(run), run.config.horizon
    frame, first = data.take_test()
    task, close = make_task(run, frame, data.num_train), prices.closing(frame)
    days = torch.arange(first, len(frame) - H)
    print(f"  {frame.index[first]:%Y-%m-%d}부터 {len(days):,}일")
    found = quantile_forecasts(task, model, train_days, days)
    judge_price(run, task, close, found["LSTM"][..., 2], train_days, days)
    actual = task.returns[days]
    losses = {name: 100 * quantile_loss(f, actual) for name, f in found.items()}
    judge(run, "구간", "핀볼 손실", losses, H, "변동성에 비례")
    hit = {f"{h + 1}일 뒤": coverage(actual[:, h], found["LSTM"][:, h]).item() for h in (0, H - 1)}
    text = "LSTM의 90 % 구간에 85~95 %가 들어옵니다"
    run.claim(text, hit, min(hit.values()) > 0.85 and max(hit.values()) < 0.95)
    last, q = days[-120:], found["LSTM"][-120:, 0].exp()  # (120, 5)
    curves = {"실제": close[last + 1], "어제 값": close[last], "LSTM": close[last] * q[:, 2]}
    band = "LSTM의 90 % 구간", close[last] * q[:, 0], close[last] * q[:, 4]
    when = frame.index.to_numpy()[last.numpy() + 1]
    run.figure(plot.band_figure(when, curves, band, "하루 뒤의 종가"), "12_forecast")
    actual, forecasts = variance_forecasts(run, frame, data.num_train)
    losses = variance_losses(actual, forecasts, task, volatility, days)
    again = walk_forward(run, task, actual, forecasts["EWMA"], days)
    losses["LSTM, 다시 배움"] = qlike(actual[days], again)
    judge(run, "변동성", "QLIKE", losses, H, "EWMA")
    scores = {name: loss.mean().item() for name, loss in losses.items()}
    run.figure(plot.bar_figure({"QLIKE": scores}, "QLIKE", "테스트 기간의 변동성"), "13_qlike")


# %% [markdown]
# **읽는 법.** '넘지 못했습니다'와 DM 검정의 '아니오'는 낫다고 할 증거가 없다는 뜻입니다. LSTM이 진
# 것은 통계량이 양수이고 p가 0.05보다 작을 때뿐입니다. 가격의 '아니오'는 예상한 답입니다. MASE의
# 분모는 학습 기간의 것이어서 어제 값도 1이 아닙니다. '다시 배움'은 자료가 늘어난 덕도 봅니다.
#
# **투자 조언이 아닙니다.** 사고파는 것은 재지 않았으므로 어떤 결과도 돈을 번다는 뜻이 아닙니다.
# 가격의 판정이 '예'여도 수수료와 세금, 사고팔 때의 값 차이를 빼야 합니다. 변동성을 안다고 방향을
# 아는 것도 아닙니다. 한 종목의 지난 기록에서 얻은 차이는 다음 해에 사라지기도 합니다.
#
# ## 정리
# - 가격은 어제 값과 닮아 R²가 1에 가깝습니다. MASE와 DM 검정으로 보아야 합니다(5.4절, 5.8절).
# - 누설은 없는 실력을 만듭니다. 겹친 목표를 세고 앞날을 바꾸어 보는 검사로 찾습니다(5.2절의 판정).
# - 같은 LSTM이 사인 곡선, 변동 폭, 무작위 걸음, 가격에서 낸 실력은 서로 다릅니다(5.5절의 구간).
# - 방향보다 얼마나 흔들릴지가 예측하기 쉽습니다. 얼마나 나은지는 결과에서 보세요(5.6~5.8절).
#
# ## 연습문제
# 1. `prepare`가 학습 기간 대신 모든 날로 정규화하게 고치세요. 어느 확인이 실패합니까? (5.2절)
# 2. `utils/datasets/prices.py`의 사인 곡선 잡음을 0.5로 키우면 실력 점수는 어떻게 됩니까? (5.5절)
# 3. `prepare`에서 '폭'을 빼고(`.drop(columns="폭")`) QLIKE를 다시 재세요. 나빠집니까? (5.7절)
#
# ## 더 읽을거리
# - R. Hyndman 외, Measures of forecast accuracy, 2006: https://robjhyndman.com/papers/mase.pdf
# - F. Diebold, Comparing Predictive Accuracy, 1995: https://doi.org/10.1080/07350015.1995.10524599
# - A. Patton, Volatility forecast comparison, 2011: https://doi.org/10.1016/j.jeconom.2010.03.034


# %%
def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    section_series(run)
    section_windows(run)
    section_cells(run)
    section_metrics(run)
    section_contrast(run)
    trained = section_training(run)
    volatility = section_volatility(run)
    section_result(run, trained, volatility)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
