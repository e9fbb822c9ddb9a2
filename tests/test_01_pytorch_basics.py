"""1강: 공개된 이름마다 표준 구현과 비교하고, 학습과 이어 하기와 예측을 시험합니다."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, has_original, load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import model_utils
from utils.lesson import CheckFailed

NAME = "01_pytorch_basics"
lesson = load_lesson(NAME)
sizes = st.integers(1, 6)
seeds = st.integers(0, 10_000)


@pytest.fixture
def run(tmp_path):
    return lesson.chapter.start(["--quick", "--output-dir", str(tmp_path), "--device", "cpu"])


# -- 자동 미분 ----------------
@given(seeds, sizes, sizes)
def test_numeric_gradient(seed, rows, columns):
    torch.manual_seed(seed)
    x = torch.randn(rows, columns, dtype=torch.float64, requires_grad=True)
    function = lambda t: (t.sin() * t.pow(2)).sum() + t.prod()  # noqa: E731
    function(x).backward()
    numeric = lesson.numeric_gradient(function, x.detach())
    assert torch.allclose(numeric, x.grad, atol=1e-5)


@given(seeds, st.lists(st.integers(0, 5), min_size=1, max_size=25))
def test_value_on_random_expressions(seed, operations):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.3, 1.5, 3)
    values = [lesson.Value(s) for s in start]
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    ours, reference = list(values), list(x)
    for kind in operations:
        i, j = rng.integers(0, len(ours), 2)
        for nodes in (ours, reference):
            a, b = nodes[i], nodes[j]
            new = [a + b, a * b, a - b, a**3, 2.0 * a + 1.0, a.tanh()][kind]
            nodes.append(new.tanh())
    ours[-1].backward()
    reference[-1].backward()
    assert np.allclose([v.grad for v in values], x.grad, atol=1e-9)


def test_value_accumulates_when_used_twice():
    a = lesson.Value(3.0)
    (a * a + a).backward()
    assert a.grad == 7.0


# -- 손실 ----------------
@given(seeds, sizes, st.integers(2, 8), st.sampled_from([1.0, 30.0, 1000.0]))
def test_softmax_and_cross_entropy(seed, batch, classes, scale):
    torch.manual_seed(seed)
    logits = (torch.randn(batch, classes, dtype=torch.float64) * scale).requires_grad_()
    targets = torch.randint(0, classes, (batch,))
    assert torch.allclose(lesson.softmax(logits), logits.softmax(1), atol=1e-12)
    ours = torch.autograd.grad(lesson.cross_entropy(logits, targets), logits)[0]
    reference = torch.autograd.grad(F.cross_entropy(logits, targets), logits)[0]
    assert torch.allclose(ours, reference, atol=1e-9)
    assert torch.allclose(lesson.cross_entropy(logits, targets), F.cross_entropy(logits, targets))


def test_naive_softmax_really_breaks():
    assert lesson.softmax_naive(torch.tensor([[1000.0, 0.0]])).isnan().any()


# -- 두 층 신경망 ----------------
@given(seeds, sizes, sizes, sizes, st.integers(2, 5))
def test_two_layer_net_gradients(seed, batch, inputs, hidden, classes):
    rng = np.random.default_rng(seed)
    x, targets = rng.normal(size=(batch, inputs)), rng.integers(0, classes, batch)
    net = lesson.TwoLayerNet(inputs, hidden, classes, seed)
    net.forward(x)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    h = torch.relu(torch.tensor(x) @ p["W1"] + p["b1"])
    F.cross_entropy(h @ p["W2"] + p["b2"], torch.tensor(targets)).backward()
    for name, gradient in net.backward(targets).items():
        assert np.allclose(gradient, p[name].grad, atol=1e-10), name


# -- 옵티마이저 ----------------
MAKERS = {
    "SGD": (lambda p, lr: lesson.SGD(p, lr), lambda p, lr: torch.optim.SGD(p, lr)),
    "Momentum": (
        lambda p, lr: lesson.Momentum(p, lr, 0.8),
        lambda p, lr: torch.optim.SGD(p, lr, momentum=0.8),
    ),
    "Adam": (lambda p, lr: lesson.Adam(p, lr), lambda p, lr: torch.optim.Adam(p, lr)),
}


@pytest.mark.parametrize("kind", MAKERS)
@settings(deadline=None, max_examples=20)
@given(seed=seeds, lr=st.floats(1e-4, 0.1))
def test_optimizers_follow_torch(kind, seed, lr):
    ends = []
    for make in MAKERS[kind]:
        torch.manual_seed(seed)
        parameters = [torch.randn(3, 2).double().requires_grad_() for _ in range(2)]
        target = torch.randn(3, 2).double()
        optimizer = make(parameters, lr)
        for _ in range(50):
            optimizer.zero_grad()
            ((parameters[0] - target) ** 2 + parameters[1].sin()).sum().backward()
            optimizer.step()
        ends.append(torch.stack(parameters).detach())
    assert torch.allclose(*ends, atol=1e-6)


# -- 데이터 ----------------
@given(st.integers(1, 50), st.integers(1, 60), seeds)
def test_batches_cover_everything_once(count, batch_size, seed):
    torch.manual_seed(seed)
    x, y = torch.arange(count), torch.arange(count) * 2
    batches = list(lesson.iterate_batches(x, y, batch_size, shuffle=True))
    assert all(torch.equal(b * 2, c) for b, c in batches)
    assert torch.cat([b for b, _ in batches]).sort().values.tolist() == list(range(count))
    assert all(len(b) == batch_size for b, _ in batches[:-1])


def test_linear_is_initialised_like_torch():
    torch.manual_seed(0)
    weight = lesson.Linear(100, 2000).weight
    reference = torch.nn.Linear(100, 2000).weight
    assert weight.std().item() == pytest.approx(reference.std().item(), rel=0.02)
    assert weight.abs().max() <= 0.1


@given(seeds, st.integers(1, 40))
def test_confusion_by_hand(seed, count):
    rng = np.random.default_rng(seed)
    targets, predictions = torch.from_numpy(rng.integers(0, 5, (2, count)))
    matrix = lesson.confusion_by_hand(targets, predictions, 5)
    assert matrix.sum() == count and matrix[targets[0], predictions[0]] >= 1
    assert matrix.diagonal().sum() == (targets == predictions).sum()


def test_shared_optimizer_is_that_of_the_lesson():
    """강의의 갱신 규칙을 utils의 공통 부분에 얹어도 걸음마다 같은 곳을 지나야 합니다."""

    @dataclasses.dataclass
    class Shared(model_utils.Optimizer):
        betas: tuple[float, float] = (0.9, 0.999)
        update = lesson.Adam.update

    paths = []
    for make in (lesson.Adam, Shared):
        p = torch.linspace(-1, 1, 5).requires_grad_()
        optimizer, path = make([p], 0.1), []
        for _ in range(20):
            optimizer.zero_grad()
            p.sin().sum().backward()
            optimizer.step()
            path.append(p.detach().clone())
        paths.append(torch.stack(path))
    assert torch.equal(*paths)


# -- 확인이 정말로 오류를 잡는가: 일부러 틀린 구현 ----------------
def shifted_target(logits, targets):
    return lesson_cross_entropy(logits, (targets + 1) % logits.shape[1])


def wrong_axis(logits):
    return logits.exp() / logits.exp().sum(dim=0, keepdim=True)


def no_bias_correction(self, p, g, m, s):
    m.mul_(self.betas[0]).add_((1 - self.betas[0]) * g)
    s.mul_(self.betas[1]).add_((1 - self.betas[1]) * g**2)
    p -= self.lr * m / (s.sqrt() + 1e-8)


def forgotten_transpose(self, x):
    return x @ self.weight.T * 1.001 + self.bias


def forgotten_relu_mask(self, targets):
    gradients = lesson_backward(self, targets)
    return {**gradients, "W1": gradients["W1"] + 0.01}


lesson_cross_entropy = lesson.cross_entropy
lesson_backward = lesson.TwoLayerNet.backward
MUTATIONS = [
    (lesson, "softmax", wrong_axis, "section_regression"),
    (lesson, "cross_entropy", shifted_target, "section_regression"),
    (lesson.TwoLayerNet, "backward", forgotten_relu_mask, "section_backpropagation"),
    (lesson.Adam, "update", no_bias_correction, "section_optimizers"),
    (lesson.Momentum, "update", lesson.SGD.update, "section_optimizers"),
    (lesson.Linear, "forward", forgotten_transpose, "section_modules_and_data"),
    (lesson.Value, "tanh", lambda self: lesson.Value(np.tanh(self.data)), "section_autograd"),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "section"), MUTATIONS)
def test_checks_catch_mutations(owner, name, wrong, section, run, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run)


def test_shuffled_labels_lose_to_the_floor(run, monkeypatch):
    """레이블을 섞으면 배울 것이 없으므로 기준선을 넘지 못해야 합니다."""
    data = run.data(lesson.mnist.load)
    data.y_train = data.y_train[torch.randperm(len(data.y_train))]
    lesson.section_result(run, lesson.section_training(run))
    assert run.metrics["results"]["테스트 정확도"]["value"] < 0.5


# -- 실행 전체 ----------------
@pytest.mark.slow
def test_quick_learning_band(quick_runs):
    done = quick_runs(NAME)
    result = done.metrics["results"]["테스트 정확도"]
    assert 0.97 <= result["value"] <= 1.0
    assert 0.93 <= done.metrics["floors"]["소프트맥스 회귀"] <= 0.98
    assert 0.05 <= done.metrics["floors"]["가장 많은 클래스만 답하기"] <= 0.2
    slow_claims = ("배 넘게 빠릅니다",)  # 시간은 기계의 사정에 달렸으므로 방향만 봄
    for claim in done.metrics["claims"]:
        assert claim["holds"] or claim["claim"].endswith(slow_claims), claim


@pytest.mark.slow
def test_bad_checkpoints_end_in_one_sentence(tmp_path):
    folder = tmp_path / NAME
    base = ("--quick", "--only", "1.7", "--epochs", "1")
    assert run_lesson(NAME, *base, output=tmp_path).status == 0
    checkpoint = folder / "checkpoint-quick.pt"
    good = checkpoint.read_bytes()
    cases = [
        (good, ("--lr", "0.5"), "lr 0.004 -> 0.5"),
        (good, ("--seed", "3"), "seed 0 -> 3"),
        (good[:1000], (), "손상"),
    ]
    for content, extra, words in cases:
        checkpoint.write_bytes(content)
        done = run_lesson(NAME, *base, *extra, "--resume", output=tmp_path)
        assert done.status == 1 and words in done.stderr and "Traceback" not in done.stderr
        assert checkpoint.read_bytes() == content, "잘못된 입력이 파일을 바꿈"


# -- 내 글씨 읽기 ----------------
def invoke(monkeypatch, capsys, tmp_path, *arguments):
    argv = [f"{NAME}.py", *map(str, arguments), "--output-dir", str(tmp_path), "--quick"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as stop:
        lesson.lesson.run_main(lesson.main)
    return stop.value.code, capsys.readouterr()


def test_predict_reads_digits_of_any_size_and_polarity(quick_runs, tmp_path, monkeypatch, capsys):
    done = quick_runs(NAME)
    data = lesson.mnist.load("sample")
    right = 0
    for i in range(10):
        digit = cv2.resize(data.x_val[i].numpy(), (90 + 20 * i, 60 + 20 * i))
        canvas = np.pad(digit, ((30, 5), (5, 60)))
        canvas = 255 - canvas if i % 2 else canvas
        path = tmp_path / f"글씨 {i}.png"
        path.write_bytes(cv2.imencode(".png", canvas)[1].tobytes())
        status, captured = invoke(monkeypatch, capsys, done.folder.parent, "--predict", path)
        assert status == 0
        first = next(line for line in captured.out.splitlines() if line.endswith("%"))
        right += first.strip().startswith(str(data.y_val[i].item()))
    assert right >= 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text", "그림 파일이 아닙니다"),
        ("empty", "그림 파일이 아닙니다"),
        ("missing", "파일이 없습니다"),
        ("blank", "글씨를 찾지 못했습니다"),
        ("pixel", "글씨를 찾지 못했습니다"),
    ],
)
def test_predict_refuses_what_it_cannot_read(
    content, words, quick_runs, tmp_path, monkeypatch, capsys
):
    done = quick_runs(NAME)
    path = tmp_path / "input.png"
    if content == "text":
        path.write_text("숫자 7", encoding="utf-8")
    elif content == "empty":
        path.write_bytes(b"")
    elif content in ("blank", "pixel"):
        image = np.full((1, 1) if content == "pixel" else (50, 50), 200, np.uint8)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    status, captured = invoke(monkeypatch, capsys, done.folder.parent, "--predict", path)
    assert status == 1 and words in captured.err and "Traceback" not in captured.err


def test_predict_without_a_trained_model(tmp_path, monkeypatch, capsys):
    path = tmp_path / "seven.png"
    image = np.zeros((40, 40), np.uint8)
    image[5:35, 18:22] = 255
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    status, captured = invoke(monkeypatch, capsys, tmp_path, "--predict", path)
    assert status == 1 and "먼저 강의를 끝까지" in captured.err


# -- 원본 데이터가 있을 때 ----------------
@pytest.mark.slow
def test_one_epoch_of_real_mnist(tmp_path):
    if not has_original(lesson.mnist):
        pytest.skip("data에 MNIST 원본이 없습니다")
    arguments = ("--data", "original", "--epochs", "2", "--data-dir", ROOT / "data")
    done = run_lesson(NAME, *arguments, output=tmp_path)
    assert done.status == 0, done.stderr
    assert done.metrics["results"]["테스트 정확도"]["value"] > 0.985
