# %% [markdown]
"""
# 1강. PyTorch 기초: 텐서에서 손글씨 인식까지

| 항목 | 내용 |
|---|---|
| 배우는 것 | 텐서, 자동 미분, 손실, 역전파, 옵티마이저를 손으로 만들어 PyTorch와 비교합니다 |
| 먼저 볼 것 | Python의 함수, 클래스, 리스트와 NumPy 조금. 딥러닝은 몰라도 됩니다 |
| 데이터 | MNIST (약 11 MB, 처음 한 번 내려받음). 네트워크가 없으면 scikit-learn의 손글씨 숫자 |
| 실행 | `python 01_pytorch_basics.py` |
| 빠른 확인 | `python 01_pytorch_basics.py --quick` |
| 기대 결과 | 테스트 정확도 99.39 ± 0.08 %, 소프트맥스 회귀 92.22 % (MNIST 3회, 66초) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-21 |
"""

# %%
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from utils import lesson
from utils import visualization as plot
from utils.command_line import option, setting
from utils.data_utils import ImageDataset, TrainVal, read_image
from utils.datasets import mnist
from utils.device import autocast, median_seconds
from utils.lesson import Lesson, Run
from utils.model_utils import count_parameters, load_weights, save_weights


@dataclass(frozen=True)
class Config:
    epochs: int = setting(8, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(128, "한 번에 보는 이미지의 수", low=1)
    lr: float = setting(0.004, "학습률의 최댓값", above=0)
    predict: str = option("", "이 그림 파일의 숫자를 읽고 끝냅니다")


QUICK = replace(Config(), batch_size=64)
chapter = Lesson(__file__, __doc__, Config(), QUICK)


# %% [markdown]
# ## 이 강의를 읽는 법
# 이 파일은 교과서이면서 프로그램입니다. 위에서부터 읽고, 실행한 출력과 나란히 보세요. 절마다 순서가
# 같습니다. 왜 필요한지 말하고, 식을 적고, 코드로 만든 뒤, 실행할 때마다 그 자리에서 확인합니다.
#
# | 출력하는 줄 | 뜻 |
# |---|---|
# | `[확인]` | 직접 만든 것과 PyTorch의 것의 가장 큰 오차. 허용 범위를 넘으면 실행이 멈춥니다 |
# | `[판정]` | 글의 주장이 맞는지 이번 실행에서 재어 본 값. 틀리면 '아니오'가 나옵니다 |
# | `[기준선]` | 넘어야 할 값. 결과보다 먼저 나옵니다 |
# | `[결과]` | 모델의 성적과, 기준선을 넘었는지 여부 |
#
# 맨 아래의 `main` 함수가 이 강의의 차례입니다. `@chapter.section(...)`은 바로 아래 함수가 몇 절인지
# 알리는 표시이고, `run`은 위의 줄들을 출력하고 기록하는 객체입니다. `Config`는 명령행 옵션의
# 기본값, `QUICK`은 `--quick`일 때의 값입니다. 절마다 난수를 같은 시드로 다시 시작하므로 한 절만
# 실행해도 수치가 같습니다.
#
# 낯선 문법이 있으면 여기를 보세요.
#
# | 문법 | 뜻 |
# |---|---|
# | `lambda x: 식` | 이름 없는 짧은 함수 |
# | `f(*목록)` | 목록을 풀어 인자로 하나씩 넘김 |
# | `yield 값` | 값을 하나씩 내주는 함수. `for`로 받음 |
# | `with 문맥:` | 그 블록 안에서만 적용 |
# | `x: Tensor`, `-> Tensor` | 자료형을 알려 주는 설명. 실행에는 영향이 없음 |
# | `x[:, None]` | 크기 1인 축을 끼움. (N,) -> (N, 1) |
#
# ## 1.1 텐서
# **왜 필요할까요?** 이미지도 글도 신경망 안에서는 모두 수의 배열입니다. **텐서**(tensor)는
# 모양(`shape`), 자료형(`dtype`), 장치(`device`)를 가진 배열입니다. 흔한 오류는 이 셋 가운데 하나가
# 어긋나서 납니다.
#
# 모양이 다른 두 텐서를 더할 때는 **브로드캐스팅**(broadcasting)이 크기가 1인 쪽을 늘려서 맞춥니다.
# 규칙은 셋입니다.
# ```text
# 1. 차원 수가 다르면 적은 쪽의 앞에 1을 붙입니다.       (3,)    -> (1, 3)
# 2. 크기가 1인 차원은 상대의 크기만큼 늘어납니다.       (1, 3) + (2, 1) -> (2, 3)
# 3. 크기가 다르고 둘 다 1이 아니면 오류입니다.          (2, 3) + (2,)   -> 오류
# ```


# %%
def add_by_loop(a: Tensor, b: Tensor) -> Tensor:
    """브로드캐스팅이 하는 일을 반복문으로 적습니다. a (N, 1)과 b (M,)에서 (N, M)을 만듭니다."""
    total = torch.empty(len(a), len(b), dtype=a.dtype)
    for i in range(len(a)):
        for j in range(len(b)):
            total[i, j] = a[i, 0] + b[j]
    return total


def show_tensor_basics() -> None:
    zeros, numbers = torch.zeros(2, 3), torch.arange(12).reshape(3, 4)
    for name, tensor in [("torch.zeros(2, 3)", zeros), ("torch.arange(12)을 3x4로", numbers)]:
        print(f"  {name}: 모양 {tuple(tensor.shape)}, {tensor.dtype}, {tensor.device}")
    print(f"  numbers[1]    = {numbers[1].tolist()}          (둘째 행)")
    print(f"  numbers[:, 1] = {numbers[:, 1].tolist()}             (둘째 열)")
    print(f"  numbers[numbers > 8] = {numbers[numbers > 8].tolist()}   (조건으로 고르기)")


@chapter.section("1.1", "텐서")
def section_tensors(run: Run) -> None:
    show_tensor_basics()
    column, row = torch.randn(4, 1, device=run.device), torch.randn(3, device=run.device)
    run.check("브로드캐스팅과 이중 반복문", column + row, add_by_loop(column, row), atol=0)
    try:
        torch.zeros(2, 3) + torch.zeros(2)
    except RuntimeError as error:
        print(f"  규칙 3을 어기면 나는 오류: {error}")

    # view는 같은 메모리를 다른 모양으로 볼 뿐이고, 전치한 뒤의 reshape는 값을 옮겨 적음
    numbers = torch.arange(6).reshape(2, 3)
    same = numbers.view(3, 2).data_ptr() == numbers.data_ptr()
    moved = numbers.T.reshape(6).data_ptr() != numbers.data_ptr()
    run.claim(
        "view는 메모리를 함께 쓰고, 전치 뒤의 reshape는 복사합니다",
        measured=f"view의 주소가 같음 {same}, reshape의 주소가 다름 {moved}",
        holds=same and moved,
    )
    array = np.zeros(3)
    torch.from_numpy(array)[0] = 7.0  # 왜: from_numpy도 메모리를 함께 씀
    run.check("NumPy 배열과 텐서의 공유 메모리", array, [7.0, 0.0, 0.0], atol=0)
    measure_vectorization(run)


def measure_vectorization(run: Run) -> None:
    a, b = torch.randn(2, 20_000)
    numbers = a.tolist(), b.tolist()

    def dot_by_loop() -> float:
        return sum(x * y for x, y in zip(*numbers, strict=True))

    run.check("내적: 반복문과 a @ b", dot_by_loop(), a.double() @ b.double(), atol=1e-6)
    ratio = median_seconds(dot_by_loop, a.device) / median_seconds(lambda: a @ b, a.device)
    run.claim(
        "2만 개의 곱을 더할 때 텐서 연산은 Python 반복문보다 10배 넘게 빠릅니다",
        measured=f"{ratio:.0f}배",
        holds=ratio > 10,
    )


# %% [markdown]
# **읽는 법.** 텐서 연산이 빠른 까닭은 반복이 Python이 아니라 컴파일된 코드에서, 한 명령에 여러 수씩
# 일어나기 때문입니다. 앞으로 `for`로 원소를 하나씩 도는 코드는 설명할 때만 씁니다.
#
# **주의:** `view`와 `from_numpy`처럼 메모리를 함께 쓰는 연산은 한쪽을 바꾸면 다른 쪽도 바뀝니다.
# 따로 쓰려면 `clone()`을 부르세요.
#
# **더 해 보기.** `(4, 1)`과 `(3, 1)`을 더하면 어떻게 됩니까? 규칙 셋으로 먼저 예상해 보세요.
#
# ## 1.2 자동 미분
# **왜 필요할까요?** **모델**은 입력을 답으로 바꾸는 식이고, 그 안에서 조절하는 수가
# **매개변수**입니다. **손실**은 답이 얼마나 틀렸는지를 나타내는 수 하나입니다. 학습은 손실이
# 줄어드는 쪽으로 매개변수를 조금씩 옮기는 일이고, 어느 쪽인지는 **기울기**(gradient)가 알려 줍니다.
# ```text
# 경사 하강법    p = p - lr * (손실을 p로 미분한 값)      이것을 되풀이합니다
#
# p   매개변수
# lr  학습률: 한 걸음의 크기
# ```
# 매개변수가 수백만 개이므로 손으로 미분할 수 없고, 컴퓨터가 해야 합니다.
#
# 방법은 연쇄 법칙입니다. 계산을 작은 연산으로 쪼개고, 연산마다 '입력이 조금 변하면 출력이 얼마나
# 변하는지'(국소 기울기)를 적어 둔 뒤, 출력에서 입력 쪽으로 곱하며 돌아옵니다.
# ```text
# f = (a * b + c) ** 2          순전파: u = a * b,  v = u + c,  f = v ** 2
#
# df/dv = 2 * v                 역전파: 뒤에서부터 하나씩
# df/du = df/dv * 1             덧셈은 기울기를 그대로 넘김
# df/dc = df/dv * 1
# df/da = df/du * b             곱셈은 상대의 값을 곱해서 넘김
# df/db = df/du * a
# ```
# 아래의 `Value`가 자동 미분의 전부입니다. 연산마다 입력을 부모로, 국소 기울기를 값으로 적어 둡니다.
# 거꾸로 돌 때는 어떤 값을 쓴 모든 결과에서 오는 기울기를 다 더한 뒤에 그 값의 부모로 넘겨야 합니다.
# PyTorch의 autograd도 원리가 같고, 스칼라 대신 텐서를 다룹니다.


# %%
class Value:
    """스칼라 하나와, 그것을 만든 입력과 국소 기울기를 기억합니다.

    연산할 때마다 계산 그래프가 자라고, `backward()`가 그래프를 거꾸로 돌며 `grad`를 채웁니다.
    """

    def __init__(self, data: float, parents: tuple = (), local_gradients: tuple = ()) -> None:
        self.data, self.grad = float(data), 0.0
        self.parents, self.local_gradients = parents, local_gradients

    def __add__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> Value:  # d(x ** n) = n * x ** (n - 1)
        slope = exponent * self.data ** (exponent - 1)
        return Value(self.data**exponent, (self,), (slope,))

    def tanh(self) -> Value:  # d(tanh x) = 1 - tanh(x) ** 2
        t = np.tanh(self.data)
        return Value(t, (self,), (1 - t * t,))

    __radd__, __rmul__ = __add__, __mul__  # 2.0 * v처럼 수가 왼쪽에 올 때 불림

    def __sub__(self, other: Value | float) -> Value:
        return self + other * -1.0

    def backward(self) -> None:
        """이 값을 모든 조상으로 미분해 `grad`에 더합니다."""
        order: list[Value] = []
        seen: set[Value] = set()

        def visit(node: Value) -> None:
            if node not in seen:
                seen.add(node)
                for parent in node.parents:
                    visit(parent)
                order.append(node)  # 부모가 먼저 적힘

        visit(self)
        self.grad = 1.0
        for node in reversed(order):  # 왜: 거꾸로 돌면 결과가 부모보다 먼저 옴
            for parent, local in zip(node.parents, node.local_gradients, strict=True):
                parent.grad += local * node.grad


def numeric_gradient(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    """중앙 차분 `(f(x + h) - f(x - h)) / 2h`로 기울기를 어림합니다.

    Args:
        function: x와 같은 모양의 텐서를 받아 스칼라를 돌려주는 함수.
        x: float64 텐서. 모양은 무엇이든 됩니다.
    """
    gradient = torch.zeros_like(x)
    for index in np.ndindex(*x.shape):
        shift = torch.zeros_like(x)
        shift[index] = step
        gradient[index] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


@chapter.section("1.2", "자동 미분")
def section_autograd(run: Run) -> None:
    a, b, c = 2.0, -3.0, 10.0
    v = a * b + c
    by_hand = [2 * v * b, 2 * v * a, 2 * v]  # df/da, df/db, df/dc

    def f(x: Tensor) -> Tensor:
        return (x[0] * x[1] + x[2]) ** 2

    x = torch.tensor([a, b, c], dtype=torch.float64, requires_grad=True)
    f(x).backward()
    values = [Value(a), Value(b), Value(c)]
    f(values).backward()  # 같은 식에 텐서 대신 Value를 넣음
    run.check("손으로 미분한 값과 autograd", by_hand, x.grad, atol=1e-12)
    run.check("수치 미분과 autograd", numeric_gradient(f, x.detach()), x.grad, atol=1e-6)
    run.check("직접 만든 Value와 autograd", [v.grad for v in values], x.grad, atol=1e-12)
    check_random_expression(run)
    show_accumulation(run)
    draw_numeric_error(run)


def check_random_expression(run: Run) -> None:
    """앞의 값 셋을 무작위로 골라 섞기를 30번 되풀이한 식에서 Value와 autograd를 비교합니다."""
    start = np.random.uniform(-1, 1, size=4)
    tensor = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    values = [Value(number) for number in start]
    ours, reference = list(values), list(tensor)
    for _ in range(30):
        i, j, k = np.random.randint(len(ours), size=3)
        for nodes in (ours, reference):
            nodes.append((nodes[i] * nodes[j] - nodes[k] ** 2 + 0.5).tanh())
    ours[-1].backward()
    reference[-1].backward()
    run.check("무작위 식의 Value와 autograd", [v.grad for v in values], tensor.grad, atol=1e-9)


def show_accumulation(run: Run) -> None:
    x = torch.ones(3, requires_grad=True)
    for _ in range(2):
        (2 * x).sum().backward()
    accumulated = x.grad[0].item()
    run.claim(
        "기울기는 덮어쓰이지 않고 더해집니다. 그래서 다음 backward 전에 비워야 합니다",
        measured=f"2x를 두 번 미분한 뒤의 grad는 {accumulated:.0f} (한 번이면 2)",
        holds=accumulated == 4.0,
    )
    with torch.no_grad():
        without_graph = (2 * x).requires_grad
    with torch.inference_mode():
        inference = (2 * x).is_inference()
    cut = x.detach().requires_grad
    run.claim(
        "no_grad와 inference_mode 안의 계산, detach로 뗀 값은 계산 그래프에 이어지지 않습니다",
        measured=f"no_grad {without_graph}, detach {cut}, inference_mode 텐서 {inference}",
        holds=not without_graph and not cut and inference,
    )


def draw_numeric_error(run: Run) -> None:
    x, steps = torch.tensor([0.7], dtype=torch.float64), 10.0 ** np.arange(-12, 0)
    exact = 1 - np.tanh(0.7) ** 2
    errors = [abs(numeric_gradient(lambda t: t.tanh()[0], x, h).item() - exact) for h in steps]
    best = steps[int(np.argmin(errors))]
    figure, ax = plot.new_figure()
    ax.plot(steps, np.maximum(errors, 1e-16), "o-")
    plot.log_axis(ax, "x")
    plot.log_axis(ax, "y")
    ax.set(xlabel="차분 간격 h", ylabel="기울기의 절대 오차", title="수치 미분의 오차")
    run.figure(figure, "01_numeric_gradient")
    run.claim(
        "차분 간격이 작을수록 좋은 것은 아닙니다",
        measured=f"h = {best:.0e}에서 {min(errors):.0e}, h = {steps[0]:.0e}에서 {errors[0]:.0e}",
        holds=best > steps[0],
    )


# %% [markdown]
# **읽는 법.** 그림의 오른쪽 비탈은 간격이 커서 생기는 어림 오차이고, 왼쪽 비탈은 거의 같은 두 수를
# 뺄 때 자릿수가 사라지는 반올림 오차입니다. 수치 미분은 느리지만 틀리기 어려워서, 손으로 만든
# 역전파를 검사할 때 씁니다.
#
# 매개변수를 갱신할 때는 `no_grad`, 평가할 때는 `inference_mode`, 값만 꺼낼 때는 `detach`를 씁니다.
#
# **더 해 보기.** `Value`에 `exp`와 `log`를 더하고, `check_random_expression`이 그것도 섞게 하세요.
#
# ## 1.3 선형 회귀, 로지스틱 회귀, 교차 엔트로피
# **왜 필요할까요?** 많은 신경망의 마지막 계층은 이 셋 가운데 하나입니다. 수를 맞히면 **선형 회귀**,
# 둘 가운데 하나를 고르면 **로지스틱 회귀**, 여럿 가운데 하나를 고르면 **소프트맥스 회귀**입니다.
# 마지막 것은 점수를 **소프트맥스**(softmax)로 확률로 바꾸고, 정답의 확률에 로그를 취해 부호를 바꾼
# **교차 엔트로피**(cross entropy)를 손실로 씁니다.
# ```text
# 선형 회귀        예측 = x @ w                       손실 = 평균((예측 - y) ** 2)
# 로지스틱 회귀    p = 1 / (1 + exp(-(x @ w)))        손실 = -평균(y log p + (1 - y) log(1 - p))
# 소프트맥스 회귀  p[k] = exp(z[k]) / 합(j) exp(z[j])    손실 = -평균(log p[정답])
#
# x        (N, D)   입력. N은 데이터의 수, D는 입력의 수. 절편을 위해 1인 열을 붙입니다
# logits z (B, K)   점수. 확률로 바꾸기 전의 값을 로짓이라고 부릅니다. B는 한 번에 보는 수
# targets  (B,)     정답 클래스의 번호. 클래스는 K개의 종류 가운데 하나
#
# 교차 엔트로피의 기울기 (한 데이터)    d손실/dz[k] = p[k] - (k가 정답이면 1, 아니면 0)
# ```
# 식을 그대로 옮기면 `exp(1000)`이 무한대가 되어 `nan`이 나옵니다. 모든 점수에서 최댓값을 빼도
# 확률은 같으므로, 빼고 나서 `exp`를 계산합니다.


# %%
def softmax_naive(logits: Tensor) -> Tensor:
    """식을 그대로 옮긴 소프트맥스입니다. 큰 점수에서 nan이 나옵니다."""
    exponentials = logits.exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


def softmax(logits: Tensor) -> Tensor:
    """점수 (B, K)를 행마다 합이 1인 확률 (B, K)로 바꿉니다."""
    # keepdim: 합친 축을 크기 1로 남겨 (B, 1)이 되므로 (B, K)에서 뺄 수 있음
    shifted = logits - logits.max(dim=1, keepdim=True).values  # (B, K), 가장 큰 값이 0
    exponentials = shifted.exp()
    return exponentials / exponentials.sum(dim=1, keepdim=True)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """점수 (B, K)와 정답 번호 (B,)의 평균 교차 엔트로피(스칼라)입니다."""
    shifted = logits - logits.max(dim=1, keepdim=True).values
    log_total = shifted.exp().sum(dim=1).log()  # (B,)
    rows = torch.arange(len(targets), device=logits.device)
    correct = shifted[rows, targets]  # (B,), i행에서 정답 열의 점수 하나씩
    return (log_total - correct).mean()


def minimize(loss: Callable[[Tensor], Tensor], start: Tensor, lr: float, steps: int) -> Tensor:
    """`start`에서 시작해 기울기의 반대쪽으로 `steps`번 움직인 자리를 돌려줍니다(경사 하강법)."""
    w = start.clone().requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():  # 왜: 갱신은 미분할 계산이 아님
            w -= lr * w.grad  # -=는 새 텐서를 만들지 않고 w의 값을 고침
        w.grad = None
    return w.detach()


@chapter.section("1.3", "선형 회귀, 로지스틱 회귀, 교차 엔트로피")
def section_regression(run: Run) -> None:
    x = torch.rand(50, dtype=torch.float64) * 4 - 2
    y = 1.5 * x - 0.5 + 0.4 * torch.randn(50, dtype=torch.float64)
    inputs = torch.stack([x, torch.ones_like(x)], dim=1)  # (N, 2), 마지막 열의 계수가 절편
    zeros = torch.zeros(2, dtype=torch.float64)
    line = minimize(lambda w: ((inputs @ w - y) ** 2).mean(), zeros, lr=0.1, steps=200)
    exact = torch.linalg.lstsq(inputs, y[:, None]).solution[:, 0]
    run.check("경사 하강법과 최소제곱 해", line, exact, atol=1e-6)

    points = torch.randn(200, 2, dtype=torch.float64)
    labels = (2 * points[:, 0] - points[:, 1] + torch.randn(200) > 0).double()
    inputs = torch.cat([points, torch.ones(200, 1, dtype=torch.float64)], dim=1)  # (N, 3)

    def logistic_loss(w: Tensor) -> Tensor:
        p = torch.sigmoid(inputs @ w)  # (N,), 정답이 1일 확률
        return -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()

    zeros = torch.zeros(3, dtype=torch.float64)
    weight = minimize(logistic_loss, zeros, lr=1.0, steps=2000)
    library = LogisticRegression(C=np.inf, tol=1e-10)  # C=inf: 가중치를 누르지 않음
    library.fit(points.numpy(), labels.numpy())
    reference = [*library.coef_[0], *library.intercept_]
    run.check("로지스틱 회귀와 scikit-learn", weight, reference, atol=1e-4)
    draw_regressions(run, (x, y, line), (points, labels, weight))
    check_cross_entropy(run)


def check_cross_entropy(run: Run) -> None:
    logits, targets = torch.randn(8, 5), torch.randint(0, 5, (8,))
    run.check_with_gradient("소프트맥스", softmax, lambda z: z.softmax(dim=1), logits)
    run.check_with_gradient("교차 엔트로피", cross_entropy, F.cross_entropy, logits, targets)
    extreme = torch.tensor([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 999.0]])
    targets = torch.tensor([1, 2])
    run.check_with_gradient(
        "점수 ±1000의 교차 엔트로피", cross_entropy, F.cross_entropy, extreme, targets
    )
    broken = softmax_naive(extreme).isnan().sum().item()
    stable = softmax(extreme).isnan().sum().item()
    run.claim(
        "식을 그대로 옮긴 소프트맥스는 점수 1000에서 nan을 내고, 최댓값을 빼면 내지 않습니다",
        measured=f"nan의 수 {broken}개와 {stable}개",
        holds=broken > 0 and stable == 0,
    )


def draw_regressions(run: Run, line: tuple, logistic: tuple) -> None:
    figure, (left, right) = plot.new_figure(1, 2)
    x, y, (w, b) = line
    ends = torch.tensor([-2.0, 2.0])
    left.scatter(x, y, s=14, alpha=0.6, label="데이터")
    left.plot(ends, w * ends + b, color="tab:red", label=f"y = {w:.2f}x {b:+.2f}")
    left.set(xlabel="x", ylabel="y", title="선형 회귀")
    left.legend()
    points, labels, weight = logistic
    right.scatter(*points.T, c=labels, cmap="coolwarm", s=14, alpha=0.7)
    right.plot(ends, -(weight[0] * ends + weight[2]) / weight[1], "k--", label="확률 0.5인 경계")
    right.set(xlabel="x1", ylabel="x2", title="로지스틱 회귀", ylim=(-3, 3))
    right.legend()
    run.figure(figure, "02_regression")


# %% [markdown]
# **읽는 법.** 교차 엔트로피의 기울기는 확률에서 정답 자리의 1을 뺀 것입니다. 확률이 정답과 같으면
# 0이고, 자신 있게 틀릴수록 큽니다. 다음 절에서 이 식을 그대로 씁니다.
#
# **주의:** `F.cross_entropy`는 소프트맥스까지 합니다. 확률을 넣으면 소프트맥스를 두 번 하게 됩니다.
#
# **더 해 보기.** `minimize`에서 `w.grad = None`을 지우면 어떻게 됩니까? 1.2절의 판정으로 설명해
# 보세요.
#
# ## 1.4 두 층 신경망과 손으로 쓴 역전파
# **왜 필요할까요?** 로지스틱 회귀의 경계는 직선입니다. **계층**(layer)을 하나 더 쌓고 사이에 굽은
# 함수인 **활성화 함수**를 두면 굽은 경계를 그릴 수 있습니다. 여기서는 음수를 0으로 바꾸는 **ReLU**,
# max(z, 0)을 씁니다. 가운데 값 h의 칸 하나를 **은닉 유닛**이라고 합니다. 그 기울기를 NumPy로 직접
# 구해 보면 autograd가 대신해 주는 일이 무엇인지 보입니다.
# ```text
# 순전파                              역전파 (d이름 = 손실을 그 이름으로 미분한 값)
# z1 = x @ W1 + b1      (B, H)        dz2 = (softmax(z2) - Y) / B           (B, K)
# h  = max(z1, 0)       (B, H)        dW2 = h.T @ dz2,   db2 = dz2를 행끼리 더한 것
# z2 = h @ W2 + b2      (B, K)        dh  = dz2 @ W2.T                      (B, H)
# loss = 교차 엔트로피(z2, 정답)      dz1 = dh * (z1 > 0)                   (B, H)
#                                     dW1 = x.T @ dz1,   db1 = dz1을 행끼리 더한 것
#
# Y  (B, K)   정답 칸만 1이고 나머지는 0인 행렬(원-핫). B로 나누는 까닭은 평균 손실이기 때문입니다
# W 가중치, b 편향(1.3절의 절편)      둘 다 매개변수. 배운 매개변수를 모두 가중치라고도 합니다
# ```


# %%
class TwoLayerNet:
    """NumPy로 쓴 두 층 신경망입니다. 순전파의 중간값을 기억했다가 역전파에 씁니다.

    Args:
        num_inputs: 입력의 수 D.
        num_hidden: 은닉 유닛의 수 H.
        num_classes: 클래스의 수 K.
        seed: 초기값의 시드.
    """

    def __init__(self, num_inputs: int, num_hidden: int, num_classes: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.params = {
            "W1": rng.normal(0, np.sqrt(2 / num_inputs), (num_inputs, num_hidden)),
            "b1": np.zeros(num_hidden),
            "W2": rng.normal(0, np.sqrt(1 / num_hidden), (num_hidden, num_classes)),
            "b2": np.zeros(num_classes),
        }

    def forward(self, x: np.ndarray) -> np.ndarray:
        """입력 (B, D)의 점수 (B, K)를 돌려줍니다."""
        p = self.params
        self.x = x
        self.z1 = x @ p["W1"] + p["b1"]  # (B, H)
        self.h = np.maximum(self.z1, 0)  # (B, H)
        self.z2 = self.h @ p["W2"] + p["b2"]  # (B, K)
        return self.z2

    def backward(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        """마지막 `forward`의 평균 교차 엔트로피를 매개변수마다 미분합니다. targets는 (B,)입니다."""
        exponentials = np.exp(self.z2 - self.z2.max(axis=1, keepdims=True))
        dz2 = exponentials / exponentials.sum(axis=1, keepdims=True)  # (B, K), softmax(z2)
        dz2[np.arange(len(targets)), targets] -= 1  # Y를 뺌: i행에서 정답 칸만 1을 줄임
        dz2 /= len(targets)
        dh = dz2 @ self.params["W2"].T  # (B, H)
        dz1 = dh * (self.z1 > 0)  # (B, H)
        return {
            "W1": self.x.T @ dz1,  # (D, H)
            "b1": dz1.sum(axis=0),  # (H,)
            "W2": self.h.T @ dz2,  # (H, K)
            "b2": dz2.sum(axis=0),  # (K,)
        }


@chapter.section("1.4", "두 층 신경망과 손으로 쓴 역전파")
def section_backpropagation(run: Run) -> None:
    x, targets = np.random.randn(6, 4), np.random.randint(0, 3, 6)
    net = TwoLayerNet(4, 5, 3, run.seed)
    net.forward(x)
    ours = net.backward(targets)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    h = torch.relu(torch.tensor(x) @ p["W1"] + p["b1"])
    F.cross_entropy(h @ p["W2"] + p["b2"], torch.tensor(targets)).backward()
    for name, gradient in ours.items():
        run.check(f"손으로 쓴 d{name}과 autograd", gradient, p[name].grad, atol=1e-12)

    points, labels = make_moons(400, noise=0.2, random_state=run.seed)
    net = TwoLayerNet(2, 32, 2, run.seed)
    for _ in range(500):
        net.forward(points)
        for name, gradient in net.backward(labels).items():
            net.params[name] -= 0.5 * gradient
    curved = (net.forward(points).argmax(axis=1) == labels).mean()
    straight = LogisticRegression().fit(points, labels).score(points, labels)
    draw_boundary(run, net, points, labels)
    run.claim(
        "두 층 신경망은 학습한 두 초승달의 점들을 로지스틱 회귀보다 잘 나눕니다",
        measured=f"맞힌 비율 {100 * curved:.1f} %, 로지스틱 회귀 {100 * straight:.1f} %",
        holds=curved > straight,
    )


def draw_boundary(run: Run, net: TwoLayerNet, points: np.ndarray, labels: np.ndarray) -> None:
    across, up = np.meshgrid(np.linspace(-2, 3, 200), np.linspace(-1.5, 2, 200))
    scores = net.forward(np.stack([across.ravel(), up.ravel()], axis=1))
    figure, ax = plot.new_figure()
    ax.contourf(
        across, up, (scores[:, 1] - scores[:, 0]).reshape(across.shape), 20, cmap="coolwarm"
    )
    ax.contour(across, up, (scores[:, 1] - scores[:, 0]).reshape(across.shape), [0], colors="black")
    ax.scatter(*points.T, c=labels, cmap="coolwarm", edgecolors="white", s=18)
    ax.set(xlabel="x1", ylabel="x2", title="두 층 신경망의 경계(검은 선)")
    run.figure(figure, "03_two_layer_boundary")


# %% [markdown]
# **읽는 법.** 순전파의 줄마다 그것을 거꾸로 푸는 줄이 있습니다. 행렬곱은 상대 행렬을 전치해
# 곱합니다. 편향은 B개의 행에 함께 더해졌으므로 행의 기울기를 모두 더합니다. `max(z, 0)`은 z가
# 양수인 칸의 기울기만 넘깁니다.
#
# **더 해 보기.** 은닉 유닛을 32에서 2로 줄이면 경계가 어떻게 바뀝니까?
#
# ## 1.5 옵티마이저
# **왜 필요할까요?** 기울기는 어느 쪽이 얼마나 가파른지 알려 줍니다. 그 반대로 얼마나 움직일지는
# **옵티마이저**(optimizer)가 정합니다. 골짜기가 길쭉하면 가파른 방향에서 튀어 나가지 않도록
# 학습률을 작게 두어야 하고, 그러면 완만한 방향으로는 느립니다. 모멘텀은 지난 움직임을 이어 가고,
# Adam은 매개변수마다 보폭을 따로 맞춥니다.
# ```text
# SGD       p = p - lr * g
# 모멘텀    v = momentum * v + g;                          p = p - lr * v
# Adam      m = beta1 * m + (1 - beta1) * g                기울기의 이동 평균
#           s = beta2 * s + (1 - beta2) * g ** 2           기울기 제곱의 이동 평균
#           p = p - lr * (m / (1 - beta1 ** t)) / (sqrt(s / (1 - beta2 ** t)) + eps)
#
# p 매개변수, g 기울기, t 지금까지의 걸음 수, eps 0으로 나누지 않게 하는 작은 수
# ```
# 0에서 시작한 이동 평균은 처음에 너무 작습니다. `1 - beta ** t`로 나누어 바로잡습니다(Kingma와 Ba
# 2015, 3절). SGD의 이름에 든 '확률적'은 데이터 전체가 아니라 무작위로 뽑은 **묶음**(batch) 하나로
# 기울기를 어림한다는 뜻입니다. 1.7절에서 그렇게 씁니다.


# %%
@dataclass
class Optimizer:
    """옵티마이저의 공통 부분입니다. 갱신 규칙은 물려받은 클래스의 `update`가 정합니다."""

    parameters: Iterable[Tensor]
    lr: float

    def __post_init__(self) -> None:  # @dataclass가 만든 __init__이 끝나고 불림
        self.parameters, self.time = list(self.parameters), 0
        # 매개변수마다 기억할 텐서 둘. 쓰지 않는 규칙도 있음
        self.memory = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        self.time += 1
        for p, (m, s) in zip(self.parameters, self.memory, strict=True):
            self.update(p, p.grad, m, s)


class SGD(Optimizer):
    """확률적 경사 하강법입니다. `torch.optim.SGD`와 같습니다."""

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        p -= self.lr * g


@dataclass
class Momentum(Optimizer):
    """모멘텀을 더한 SGD입니다. `torch.optim.SGD(momentum=...)`과 같습니다."""

    momentum: float = 0.9

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        m.mul_(self.momentum).add_(g)  # mul_, add_처럼 _로 끝나면 그 자리에서 고침
        p -= self.lr * m


@dataclass
class Adam(Optimizer):
    """Adam입니다(Kingma와 Ba 2015, 알고리즘 1). `torch.optim.Adam`과 같습니다."""

    betas: tuple[float, float] = (0.9, 0.999)

    def update(self, p: Tensor, g: Tensor, m: Tensor, s: Tensor) -> None:
        beta1, beta2 = self.betas
        m.mul_(beta1).add_((1 - beta1) * g)
        s.mul_(beta2).add_((1 - beta2) * g**2)
        mean, square = m / (1 - beta1**self.time), s / (1 - beta2**self.time)
        p -= self.lr * mean / (square.sqrt() + 1e-8)


def run_optimizer(make: Callable, start: Tensor, loss: Callable, steps: int) -> Tensor:
    """`start`에서 시작해 지나간 점들 (steps + 1, D)를 돌려줍니다."""
    p = start.clone().requires_grad_()
    optimizer, path = make([p]), [start.clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        loss(p).backward()
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path)


@chapter.section("1.5", "옵티마이저")
def section_optimizers(run: Run) -> None:
    pairs = {
        "SGD": (lambda ps: SGD(ps, 0.1), lambda ps: torch.optim.SGD(ps, 0.1)),
        "모멘텀": (lambda ps: Momentum(ps, 0.1), lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9)),
        "Adam": (lambda ps: Adam(ps, 0.1), lambda ps: torch.optim.Adam(ps, 0.1)),
    }
    for name, makers in pairs.items():
        run.check_optimizer(name, *makers)
    valley = lambda p: 0.5 * (p[..., 0] ** 2 + 25 * p[..., 1] ** 2)  # ...: 앞의 모든 축
    makers = {
        "SGD (학습률 0.03)": lambda ps: SGD(ps, 0.03),
        "SGD (학습률 0.07)": lambda ps: SGD(ps, 0.07),
        "모멘텀 (학습률 0.03)": lambda ps: Momentum(ps, 0.03, momentum=0.8),
        "Adam (학습률 0.3)": lambda ps: Adam(ps, 0.3),
    }
    start = torch.tensor([-4.0, 1.0])
    paths = {name: run_optimizer(make, start, valley, 150) for name, make in makers.items()}
    arrival = {name: int((valley(path) < 0.01).float().argmax()) for name, path in paths.items()}
    draw_paths(run, valley, paths)
    sgd = min(arrival["SGD (학습률 0.03)"], arrival["SGD (학습률 0.07)"])
    run.claim(
        "길쭉한 골짜기에서 모멘텀은 SGD보다 적은 걸음으로 바닥에 닿습니다",
        measured=", ".join(f"{name} {steps}걸음" for name, steps in arrival.items()),
        holds=0 < arrival["모멘텀 (학습률 0.03)"] < sgd,
    )


def draw_paths(run: Run, valley: Callable, paths: dict[str, Tensor]) -> None:
    across, up = torch.meshgrid(
        torch.linspace(-5, 2, 100), torch.linspace(-2, 2, 100), indexing="xy"
    )
    figure, ax = plot.new_figure(width=7)
    heights = valley(torch.stack([across, up], dim=-1))
    ax.contour(across, up, heights, levels=[0.1, 1, 4, 9, 16, 30, 50], colors="lightgray")
    for name, path in paths.items():
        ax.plot(*path.T, ".-", markersize=4, linewidth=1, label=name)
    ax.plot(0, 0, "k*", markersize=12)
    ax.set(xlabel="매개변수 1", ylabel="매개변수 2", title="길쭉한 골짜기를 내려가는 길")
    ax.legend()
    run.figure(figure, "04_optimizer_paths")


# %% [markdown]
# **읽는 법.** 학습률 0.03인 SGD는 위아래로는 금방 멈추지만 완만한 가로 방향에서 오래 걸립니다.
# 0.07로 키우면 가로는 빨라지고 위아래로는 벽을 오갑니다. 가장 가파른 방향이 학습률의 한계를
# 정합니다.
#
# **더 해 보기.** SGD의 학습률을 0.079와 0.081로 바꾸어 보세요. `2 / 25 = 0.08`이 경계인 까닭은
# 무엇입니까?
#
# ## 1.6 nn.Module, Dataset, DataLoader
# **왜 필요할까요?** 매개변수가 많아지면 목록으로 들고 다니기 어렵습니다. **nn.Module**은 매개변수를
# 스스로 찾아 주고, 저장하고, 장치로 옮겨 줍니다. 데이터 쪽에서는 **Dataset**이 '몇 개인지'와
# 'i번째가 무엇인지'를, **DataLoader**가 섞고 묶는 일을 맡습니다.
#
# 데이터가 작으면 더 간단하고 빠른 길이 있습니다. 전부를 텐서 하나로 메모리에 두고, 섞은 번호로
# 한꺼번에 골라 오면 됩니다. 둘이 같은 묶음을 만드는지 확인하고 시간을 재겠습니다.


# %%
class Linear(nn.Module):
    """`nn.Linear`를 그대로 다시 만든 계층입니다. (B, D) -> (B, K)"""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        bound = num_inputs**-0.5
        # nn.Parameter로 감싸야 parameters()와 state_dict()가 찾음. 모양은 1.4절의 W와 전치 관계
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class DigitDataset(Dataset):
    """이미지와 정답을 하나씩 내주는 가장 단순한 Dataset입니다."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def iterate_batches(
    x: Tensor, y: Tensor, batch_size: int, shuffle: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """메모리에 있는 텐서에서 묶음을 차례로 꺼냅니다. `shuffle`이면 순서를 섞습니다."""
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    for index in order.to(x.device).split(batch_size):
        yield x[index], y[index]


@chapter.section("1.6", "nn.Module, Dataset, DataLoader")
def section_modules_and_data(run: Run) -> None:
    ours, library = Linear(6, 4), nn.Linear(6, 4)
    names = [name for name, _ in ours.named_parameters()]
    print(f"  nn.Module이 찾은 매개변수: {names}, 모두 {count_parameters(ours)}개")
    run.check_modules("직접 만든 Linear와 nn.Linear", ours, library, torch.randn(3, 6))

    data = run.data(mnist.load)
    show_samples(run, data)
    x, y = data.x_train[:10_000], data.y_train[:10_000]
    loader = DataLoader(DigitDataset(x, y), batch_size=128)
    for i, what in enumerate(("이미지", "정답")):
        in_memory = torch.cat([batch[i] for batch in iterate_batches(x, y, 128)])
        by_loader = torch.cat([batch[i] for batch in loader])
        run.check(f"모든 묶음의 {what}: 번호로 고르기와 DataLoader", in_memory, by_loader, atol=0)
    slow = median_seconds(lambda: list(loader), x.device, repeats=3)
    fast = median_seconds(lambda: list(iterate_batches(x, y, 128)), x.device, repeats=3)
    run.claim(
        "메모리의 텐서에서 번호로 고르면 DataLoader로 하나씩 모으는 것보다 2배 넘게 빠릅니다",
        measured=f"{len(x):,}장에 {1000 * slow:.1f} ms와 {1000 * fast:.1f} ms, {slow / fast:.1f}배",
        holds=slow / fast > 2,
    )


def show_samples(run: Run, data: ImageDataset) -> None:
    titles = [data.class_names[label] for label in data.y_train[:20]]
    run.figure(
        plot.image_grid(data.x_train[:20].numpy(), titles, 10, "학습 이미지와 정답"), "05_samples"
    )


# %% [markdown]
# **읽는 법.** DataLoader는 이미지마다 Python 함수를 한 번씩 부르므로 느립니다. 이미지가 너무 많아
# 메모리에 둘 수 없거나, 하나씩 파일을 열어야 할 때는 DataLoader가 알맞습니다. 여기서는 모두
# 메모리에 둡니다.
#
# **주의:** `num_workers`를 1 이상으로 주면 Windows와 macOS(Python 3.14부터는 Linux도)에서 작업
# 프로세스가 스크립트를 처음부터 다시 읽습니다. `if __name__ == "__main__":`이 없으면 오류로
# 멈춥니다.
#
# **더 해 보기.** `Linear`에서 `nn.Parameter`를 빼면 무엇이 출력되고, 어느 줄에서 왜 멈춥니까?
#
# ## 1.7 손글씨 숫자 학습
# **왜 필요할까요?** 기본 부품을 손으로 만들어 보았으니 이제 모아서 실제 글씨를 읽게 합니다. 모델은
# 합성곱 계층 둘과 완전연결 계층(1.6절의 `Linear`) 둘입니다. 아직 만들지 않은 부품이 넷 있습니다.
# 지금은 이렇게만 알아 두세요.
#
# | 부품 | 하는 일 | 다루는 곳 |
# |---|---|---|
# | 합성곱과 풀링 | 좁은 창으로 훑어 특징 맵(채널)을 만들고, 반으로 줄입니다 | 3강 3.1, 3.2절 |
# | 배치 정규화 | 계층을 지나는 값의 크기를 고르게 합니다 | 2강 2.5절 |
# | 드롭아웃 | 학습할 때만 값의 일부를 무작위로 0으로 만들어 외우지 못하게 합니다 | 2강 2.6절 |
# | 원사이클 일정 | 학습률을 천천히 올렸다가 0 가까이까지 내립니다 | 2강 2.7절 |
# ```text
# 이미지 (B, 28, 28) uint8
#   -> 밝기 맞추기       (B, 1, 28, 28)    평균 0, 표준편차 1
#   -> 합성곱, 풀링      (B, 16, 14, 14)   채널 16개
#   -> 합성곱, 풀링      (B, 32, 7, 7)     채널 32개
#   -> 펼치기            (B, 1568)
#   -> 완전연결 둘       (B, 10)           숫자마다의 점수
# ```
# 데이터는 셋으로 나눕니다. **학습 데이터**로 매개변수를 고치고, **검증 데이터**로 설정을 고르고,
# **테스트 데이터**로는 마지막에 한 번만 잽니다(1.8절).
#
# 묶음 하나로 한 걸음을 가고, 모든 묶음을 한 번씩 보면 한 **에폭**(epoch)입니다. 학습 반복문의 다섯
# 단계에는 강의마다 같은 번호를 붙였습니다. 다음 강의에서도 찾아보세요.
#
# `autocast` 안에서는 행렬곱과 합성곱을 16비트 수(bfloat16)로 계산해 빠릅니다. 그 명령이 없는
# CPU에서는 float32 그대로입니다. 손실은 정밀해야 하므로 점수를 float32로 되돌려(`.float()`)
# 계산합니다.


# %%
class DigitNet(nn.Module):
    """합성곱 두 층으로 숫자를 읽습니다. uint8 이미지 (B, 28, 28) -> 점수 (B, 10)

    왜: 밝기 맞추기를 모델 안에 두면 예측할 때 빠뜨릴 수 없고, 가중치와 함께 저장됩니다.

    Args:
        mean: 학습 이미지의 평균 밝기(0~255).
        std: 학습 이미지의 표준편차.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        # buffer: 학습하지 않지만 함께 저장하고 장치로 옮기는 값
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.3)
        self.hidden = nn.Linear(32 * 7 * 7, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = ((images.float() - self.mean) / self.std)[:, None]  # (B, 1, 28, 28)
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)  # (B, 16, 14, 14)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)  # (B, 32, 7, 7)
        x = F.relu(self.hidden(self.dropout(x.flatten(1))))  # (B, 1568) -> (B, 128)
        return self.output(x).float()  # (B, 10)


@torch.inference_mode()
def evaluate(run: Run, model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """평균 손실과 정확도입니다. 둘 다 전체의 합을 전체의 수로 나눕니다."""
    model.eval()  # 주의: 빠뜨리면 드롭아웃과 배치 정규화가 학습할 때처럼 움직임
    loss = correct = 0.0
    for images, labels in iterate_batches(x, y, 1000):
        with autocast(run.device, run.dtype):
            logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
    return loss / len(x), correct / len(x)


def train(run: Run, model: nn.Module, data: TrainVal) -> list[dict[str, float]]:
    """모델을 학습시키고 에폭마다의 기록을 돌려줍니다. 에폭이 끝날 때마다 저장합니다."""
    config, device = run.config, run.device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    steps = math.ceil(len(data.x) / config.batch_size)  # 한 에폭의 묶음 수
    total = config.epochs * steps
    scheduler = OneCycleLR(optimizer, config.lr, total_steps=total, cycle_momentum=False)
    checkpoint = run.checkpoint(model, optimizer, scheduler)

    for _ in range(len(checkpoint.history), config.epochs):
        model.train()
        batches = iterate_batches(data.x, data.y, config.batch_size, shuffle=True)
        for images, labels in tqdm(batches, total=steps, leave=False, disable=None):
            with autocast(device, run.dtype):
                logits = model(images)  # 1) 순전파
            loss = F.cross_entropy(logits, labels)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            loss.backward()  # 4) 역전파
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
        train_loss, train_accuracy = evaluate(run, model, data.x[:5000], data.y[:5000])
        val_loss, val_accuracy = evaluate(run, model, data.x_val, data.y_val)
        scores = {"train_loss": train_loss, "train_accuracy": train_accuracy}
        run.end_epoch(checkpoint, scores | {"val_loss": val_loss, "val_accuracy": val_accuracy})
    return checkpoint.history


@chapter.section("1.7", "손글씨 숫자 학습")
def section_training(run: Run) -> DigitNet:
    data = run.data(mnist.load)
    pixels = data.x_train.float()
    model = DigitNet(pixels.mean().item(), pixels.std().item())
    # channels_last: 픽셀마다 채널을 붙여 두는 메모리 배치. 3강 3.7절에서 다른 것과 함께 잼
    model.to(run.device, memory_format=torch.channels_last)
    print(f"  DigitNet의 매개변수 {count_parameters(model):,}개")
    history = train(run, model, data.on(run.device))
    run.figure(plot.learning_curves(history), "06_learning_curves")
    first, last = history[0]["val_loss"], history[-1]["val_loss"]
    run.claim(
        "학습이 끝난 뒤의 검증 손실은 첫 에폭보다 작습니다",
        measured=f"{first:.4f} -> {last:.4f}",
        holds=last < first,
    )
    return model


# %% [markdown]
# **읽는 법.** 학습 손실과 검증 손실이 함께 내려가면 배우는 중이고, 학습 손실만 내려가면 외우는
# 중(**과적합**)입니다. 곡선의 '학습'은 학습 이미지 5,000장을 검증과 똑같이 `eval()` 상태로 잰
# 값입니다.
#
# **더 해 보기.** `--only 1.7 --lr 1 --output-dir outputs/lr1`로 실행하면 곡선이 어떻게 됩니까?
# `--lr 0.00001`은 어떻습니까?
#
# ## 1.8 테스트는 한 번만
# **왜 필요할까요?** 정확도 95 %는 좋은 값일까요? 열 가운데 아홉이 같은 숫자라면 아무것도 배우지
# 않아도 90 %입니다. 그래서 **기준선**(baseline)을 먼저 봅니다. 가장 많은 클래스만 답하는 것, 그리고
# 픽셀에 바로 소프트맥스 회귀를 맞춘 것입니다. 신경망은 적어도 이 둘을 넘어야 합니다.
#
# 테스트 데이터는 `take_test()`로 한 번의 실행에서 한 번만 꺼낼 수 있습니다. 테스트 정확도를 보고
# 설정을 고치면 그 값은 처음 보는 데이터의 정확도가 아닙니다. 여러 번 실행하며 테스트 정확도가 높은
# 설정을 고르는 일까지는 코드가 막지 못하므로, 고를 때는 검증 정확도만 보세요.


# %%
@chapter.section("1.8", "테스트는 한 번만", needs=("1.7",))
def section_result(run: Run, model: DigitNet) -> None:
    data = run.data(mnist.load)
    x_test, y_test = data.take_test()
    majority = data.y_train.bincount().argmax()
    run.floor("가장 많은 클래스만 답하기", (y_test == majority).float().mean().item())
    linear = LogisticRegression(max_iter=1000, tol=1e-3)  # 기본값 C=1: 가중치를 조금 누름
    linear.fit(data.x_train.flatten(1).numpy() / np.float32(255), data.y_train.numpy())
    linear_accuracy = linear.score(x_test.flatten(1).numpy() / np.float32(255), y_test.numpy())
    run.floor("소프트맥스 회귀", linear_accuracy)

    logits = predict_logits(run, model, x_test)
    predictions = logits.argmax(dim=1)
    accuracy = (predictions == y_test).float().mean().item()
    run.result("테스트 정확도", accuracy, beats="소프트맥스 회귀")

    matrix = confusion_by_hand(y_test, predictions, 10)
    run.check("혼동 행렬과 scikit-learn", matrix, confusion_matrix(y_test, predictions), atol=0)
    run.figure(
        plot.confusion_matrix_figure(matrix.numpy(), data.class_names), "07_confusion_matrix"
    )
    draw_worst_mistakes(run, x_test, y_test, logits)


@torch.inference_mode()
def predict_logits(run: Run, model: nn.Module, x: Tensor) -> Tensor:
    """이미지 (N, 28, 28)의 점수 (N, 10)를 CPU에 모아 돌려줍니다."""
    model.eval()
    with autocast(run.device, run.dtype):
        return torch.cat([model(part.to(run.device)).cpu() for part in x.split(1000)])


def confusion_by_hand(targets: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """정답이 i일 때 j라고 답한 횟수를 세어 (K, K) 행렬로 만듭니다."""
    cell = targets * num_classes + predictions  # 두 번호를 번호 하나로 합침
    return cell.bincount(minlength=num_classes**2).reshape(num_classes, num_classes)


def draw_worst_mistakes(run: Run, x: Tensor, y: Tensor, logits: Tensor) -> None:
    """틀린 것 가운데 손실이 큰 20장, 곧 가장 자신 있게 틀린 것들을 그립니다."""
    losses = F.cross_entropy(logits, y, reduction="none")
    wrong = (logits.argmax(dim=1) != y).nonzero().flatten()
    worst = wrong[losses[wrong].argsort(descending=True)][:20]
    titles = [f"정답 {y[i]}\n예측 {logits[i].argmax()}" for i in worst]
    print(f"  틀린 이미지 {len(wrong)}장 / {len(y):,}장")
    if len(worst):
        run.figure(
            plot.image_grid(x[worst].numpy(), titles, 10, "가장 자신 있게 틀린 이미지"),
            "08_mistakes",
        )


# %% [markdown]
# **읽는 법.** 틀린 이미지를 꼭 눈으로 보세요. 사람도 헷갈리는 글씨가 많다면 남은 오류는 모델보다
# 데이터의 문제입니다. 혼동 행렬에서 진한 칸은 자주 헷갈리는 짝입니다.
#
# **더 해 보기.** 소프트맥스 회귀가 틀린 이미지와 DigitNet이 틀린 이미지는 얼마나 겹칩니까?
#
# ## 1.9 저장하고, 이어 가고, 내 글씨 읽기
# **왜 필요할까요?** 학습은 언제든 끊길 수 있습니다. 이어서 학습한 결과가 끊기지 않은 것과 같으려면
# 가중치만으로는 모자랍니다. 옵티마이저의 이동 평균, 학습률 일정의 위치, 난수의 상태까지 모두
# 저장해야 합니다.
#
# 예측에는 가중치만 있으면 됩니다. `--predict 파일`은 저장한 가중치로 내 이미지를 읽습니다. 이때
# 그림을 학습 데이터와 같은 꼴로 바꾸는 일이 모델만큼 중요합니다. 배경은 검고 글씨는 희며, 글씨가
# 20x20 안에 들고, 무게 중심이 28x28의 가운데에 오게 합니다. MNIST를 만든 사람들이 쓴 방법입니다.


# %%
@chapter.section("1.9", "저장하고, 이어 가고, 내 글씨 읽기", needs=("1.7",))
def section_saving(run: Run, model: DigitNet) -> None:
    x_val = run.data(mnist.load).x_val
    save_weights(run.path("model.pt"), model)
    loaded = DigitNet().to(run.device, memory_format=torch.channels_last)
    load_weights(run.path("model.pt"), loaded)
    before, after = predict_logits(run, model, x_val), predict_logits(run, loaded, x_val)
    run.check("저장했다가 불러온 모델의 점수", after, before, atol=0)
    check_resuming(run)

    photos = [mnist.fake_photo(image) for image in x_val[:100].numpy()]
    restored = torch.from_numpy(np.stack([mnist.photo_to_digit(photo) for photo in photos]))
    agreement = predict_logits(run, model, restored).argmax(1) == before[:100].argmax(1)
    draw_preparation(run, x_val[0].numpy(), photos[0], restored[0].numpy())
    run.claim(
        "밝은 종이에 크게 쓴 사진처럼 바꾼 이미지도 100장 가운데 80장 넘게 같은 숫자로 읽습니다",
        measured=f"{int(agreement.sum())}장",
        holds=agreement.sum() > 80,
    )


def check_resuming(run: Run) -> None:
    """끊지 않은 20걸음과, 10걸음 뒤에 저장하고 새로 불러와 이어 간 20걸음을 비교합니다."""
    x, y = torch.randn(64, 10), torch.randint(0, 3, (64,))
    path = run.path("resume_demo.pt")

    def train_10_steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(10):
            noisy = x + 0.1 * torch.randn_like(x)  # 학습에 난수가 쓰이는 경우
            optimizer.zero_grad()
            F.cross_entropy(model(noisy), y).backward()
            optimizer.step()

    model = nn.Linear(10, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train_10_steps(model, optimizer)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "rng": torch.get_rng_state()}, path)
    train_10_steps(model, optimizer)

    gaps = []
    for with_optimizer in (True, False):
        state = torch.load(path, weights_only=True)  # 주의: False이면 파일 속 코드가 실행됨
        resumed = nn.Linear(10, 3)
        resumed.load_state_dict(state["model"])
        optimizer = torch.optim.Adam(resumed.parameters(), lr=0.1)
        if with_optimizer:
            optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        train_10_steps(resumed, optimizer)
        gaps.append((resumed.weight - model.weight).abs().max().item())
    run.check("모두 되돌려 이어 간 학습과 끊지 않은 학습의 차이", gaps[0], 0.0, atol=0)
    run.claim(
        "옵티마이저의 상태를 빼고 이어 가면 결과가 달라집니다",
        measured=f"가중치의 최대 차이 {gaps[1]:.3f}",
        holds=gaps[1] > 1e-3,
    )


def draw_preparation(run: Run, digit: np.ndarray, photo: np.ndarray, restored: np.ndarray) -> None:
    titles = ["원래 이미지", f"사진 {photo.shape[1]}x{photo.shape[0]}", "모델에 넣는 28x28"]
    figure = plot.image_grid([digit, photo, restored], titles, 3, "사진을 학습 데이터와 같은 꼴로")
    run.figure(figure, "09_preparation")


def predict_file(run: Run, path: Path) -> dict[str, float]:
    """저장한 모델로 그림 파일 하나를 읽어 숫자마다의 확률을 출력합니다."""
    image = mnist.photo_to_digit(read_image(path))
    model = DigitNet().to(run.device, memory_format=torch.channels_last)
    load_weights(run.path("model.pt"), model)
    probability = softmax(predict_logits(run, model, torch.from_numpy(image)[None]))[0]
    for digit in probability.argsort(descending=True)[:3].tolist():
        print(f"  {digit}: {100 * probability[digit]:.1f} %")
    figure, (left, right) = plot.new_figure(1, 2, width=3.4, height=3)
    left.imshow(image, cmap="gray")
    left.set_title("모델에 넣는 28x28")
    left.axis("off")
    right.bar(range(10), 100 * probability.numpy())
    right.set(
        xlabel="숫자", ylabel="확률 (%)", title=f"예측 {probability.argmax()}", xticks=range(10)
    )
    run.figure(figure, "predict")
    return {str(digit): p for digit, p in enumerate(probability.tolist())}


# %% [markdown]
# **읽는 법.** 이어 간 학습이 마지막 자리까지 같아야 '중단해도 괜찮다'고 말할 수 있습니다. 이 강의의
# 학습도 같은 방식으로 저장합니다. 실행 중에 Ctrl-C를 누른 뒤 `--resume`을 붙여 다시 실행해 보세요.
#
# **더 해 보기.** 종이에 숫자를 써서 찍은 뒤 `python 01_pytorch_basics.py --predict 사진.jpg`로 읽어
# 보세요. 틀리면 `predict.png`에서 모델이 실제로 본 28x28 그림을 확인하세요.
#
# ## 정리
# - 텐서 연산은 반복을 미리 컴파일된 코드에 맡깁니다. 얼마나 빨랐는지는 1.1절의 판정에 있습니다.
# - 자동 미분은 국소 기울기를 거꾸로 곱하는 일입니다. 짧은 `Value`가 1.2절에서 autograd와
#   같았습니다.
# - 교차 엔트로피의 기울기는 확률에서 정답 자리의 1을 뺀 것입니다. 1.4절의 역전파가 여기서
#   시작합니다.
# - 정확도는 기준선과 함께 읽습니다. 1.8절에서 DigitNet이 소프트맥스 회귀를 얼마나 넘었는지 보세요.
# - 이어 가려면 가중치, 옵티마이저, 학습률 일정, 난수를 모두 저장합니다. 1.9절에서 오차 0을
#   확인했습니다.
#
# ## 연습문제
# 1. `numeric_gradient`로 `TwoLayerNet.backward`를 검사하는 함수를 만드세요. (1.2절, 1.4절)
# 2. `Momentum`을 고쳐 Nesterov 모멘텀을 만들고 `torch.optim.SGD(nesterov=True)`와 비교하세요.
#    (1.5절)
# 3. `DigitNet`에서 합성곱을 모두 빼고 완전연결만 남기면 검증 정확도가 얼마나 떨어집니까? (1.7절)
# 4. 학습 데이터를 100장, 1,000장, 10,000장으로 줄여 가며 검증 정확도의 곡선을 그리세요. (1.7절)
# 5. 학습률 일정과 체크포인트를 뺀 짧은 반복문을 쓰고, 같은 시드에서 직접 만든 `Adam`과
#    `torch.optim.Adam`으로 DigitNet을 한 에폭씩 학습시켜 손실을 비교하세요. (1.5절, 1.7절)
#
# ## 더 읽을거리
# - PyTorch 공식 문서, Autograd mechanics: https://docs.pytorch.org/docs/stable/notes/autograd.html
# - D. P. Kingma, J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015:
#   https://arxiv.org/abs/1412.6980
# - Y. LeCun 외, Gradient-Based Learning Applied to Document Recognition, 1998 (MNIST가 나온 논문)


# %%
def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    if run.config.predict:
        return predict_file(run, Path(run.config.predict))
    section_tensors(run)
    section_autograd(run)
    section_regression(run)
    section_backpropagation(run)
    section_optimizers(run)
    section_modules_and_data(run)
    model = section_training(run)
    section_result(run, model)
    section_saving(run, model)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
