"""2강: 공개된 이름마다 표준 구현과 비교하고, 과정의 규칙(검증과 테스트의 분리)을 시험합니다."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import give_data, has_original, load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from torch import nn

from utils import metrics, model_utils
from utils.data_utils import Found, ImageArrays, ImageDataset, iterate_batches
from utils.errors import UserError
from utils.lesson import CheckFailed

NAME = "02_neural_networks"
lesson = load_lesson(NAME)
first = load_lesson("01_pytorch_basics")
fashion = lesson.fashion_mnist
seeds = st.integers(0, 10_000)
sizes = st.integers(1, 6)
relaxed = settings(deadline=None, max_examples=25)


def small_dataset() -> ImageDataset:
    arrays = ImageArrays(*fashion.draw_garments(900, seed=3), *fashion.draw_garments(300, seed=4))
    return ImageDataset("작은 의류", Found("sample", "시험", arrays), fashion.CLASS_NAMES, 200)


@pytest.fixture
def run(tmp_path):
    run = lesson.chapter.start(["--quick", "--output-dir", str(tmp_path), "--device", "cpu"])
    run.config = dataclasses.replace(run.config, steps=20, small=600, epochs=1)
    give_data(run, fashion.load, small_dataset())
    return run


def same(ours, reference, atol=1e-9):
    return torch.allclose(ours, reference, atol=atol, rtol=0)


# -- 활성화 함수와 손실 ----------------------------------------------------------------
@pytest.mark.parametrize("name", lesson.ACTIVATIONS)
@relaxed
@given(seed=seeds, rows=sizes, columns=sizes, scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_activations(name, seed, rows, columns, scale):
    ours, derivative, library, layer = lesson.ACTIVATIONS[name]
    torch.manual_seed(seed)
    x = (torch.randn(rows, columns, dtype=torch.float64) * scale).requires_grad_()
    assert same(ours(x), library(x)) and same(layer()(x), library(x))
    gradient = torch.autograd.grad(library(x).sum(), x)[0]
    assert same(torch.autograd.grad(ours(x).sum(), x)[0], gradient)
    assert same(derivative(x), gradient)


@relaxed
@given(seeds, sizes, st.integers(2, 8), st.floats(0, 0.9))
def test_label_smoothing(seed, batch, classes, smoothing):
    torch.manual_seed(seed)
    logits = torch.randn(batch, classes, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, classes, (batch,))
    ours = lesson.label_smoothing_cross_entropy(logits, targets, smoothing)
    reference = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert same(ours, reference)
    assert same(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, reference)))


# -- 정규화와 드롭아웃 -----------------------------------------------------------------
def compare_modules(ours, library, x):
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    library.load_state_dict(ours.state_dict(), strict=False)
    results = []
    for module in (ours.double(), library.double()):
        leaf = x.clone().requires_grad_()
        output = module(leaf)
        (output * torch.linspace(-1, 2, output.numel()).reshape(output.shape)).sum().backward()
        results.append([output, leaf.grad, *(p.grad for p in module.parameters())])
    assert all(same(a, b, 1e-6) for a, b in zip(*results, strict=True))


@relaxed
@given(seeds, st.integers(2, 9), sizes)
def test_batch_norm(seed, batch, features):
    torch.manual_seed(seed)
    x = torch.randn(batch, features, dtype=torch.float64) * 3 + 1
    ours, library = lesson.BatchNorm1d(features), nn.BatchNorm1d(features)
    compare_modules(ours, library, x)
    assert same(ours.running_mean, library.running_mean)
    assert same(ours.running_var, library.running_var)
    compare_modules(ours.eval(), library.eval(), x)


@relaxed
@given(seeds, st.integers(3, 9), sizes)
def test_batch_norm_input_gradient(seed, batch, features):
    torch.manual_seed(seed)
    x = torch.randn(batch, features, dtype=torch.float64, requires_grad=True)
    weight, gradient = torch.randn(features).double(), torch.randn(batch, features).double()
    F.batch_norm(x, None, None, weight, training=True).backward(gradient)
    ours = lesson.batch_norm_input_gradient(x.detach(), gradient, weight)
    assert same(ours, x.grad, 1e-6)


@relaxed
@given(seeds, sizes, st.integers(1, 3), st.integers(1, 3), st.integers(2, 6))
def test_other_norms(seed, batch, groups, per_group, length):
    torch.manual_seed(seed)
    channels = groups * per_group
    x = torch.randn(batch, channels, length, dtype=torch.float64)
    compare_modules(lesson.LayerNorm(length), nn.LayerNorm(length), x)
    compare_modules(lesson.GroupNorm(groups, channels), nn.GroupNorm(groups, channels), x)
    compare_modules(lesson.InstanceNorm1d(), nn.InstanceNorm1d(channels), x)


@relaxed
@given(seeds, st.floats(0, 0.9))
def test_dropout(seed, p):
    torch.manual_seed(seed)
    x = torch.ones(200, 100)
    ours = lesson.Dropout(p)
    output = ours(x)
    assert torch.equal(ours.eval()(x), x)
    kept = output[output != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p)))
    assert abs((output == 0).float().mean().item() - p) < 0.03


# -- 옵티마이저 ----------------------------------------------------------------------
MAKERS = {
    "Nesterov": (
        lambda ps, lr: lesson.Nesterov(ps, lr, 0.8),
        lambda ps, lr: torch.optim.SGD(ps, lr, momentum=0.8, nesterov=True),
    ),
    "RMSprop": (lambda ps, lr: lesson.RMSprop(ps, lr), lambda ps, lr: torch.optim.RMSprop(ps, lr)),
    "AdamW": (
        lambda ps, lr: lesson.AdamW(ps, lr, weight_decay=0.3),
        lambda ps, lr: torch.optim.AdamW(ps, lr, weight_decay=0.3),
    ),
}


@pytest.mark.parametrize("kind", MAKERS)
@relaxed
@given(seed=seeds, lr=st.floats(1e-4, 0.05))
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
    assert same(*ends, 1e-6)


@relaxed
@given(seeds, st.floats(0.01, 100))
def test_clip_grad_norm(seed, max_norm):
    torch.manual_seed(seed)
    groups = []
    start = [torch.randn(3, 2, dtype=torch.float64) for _ in range(3)]
    for clip in (lesson.clip_grad_norm, model_utils.clip_grad_norm, nn.utils.clip_grad_norm_):
        parameters = [p.clone().requires_grad_() for p in [*start, torch.zeros(1)]]
        for p in parameters[:-1]:  # 마지막 매개변수는 기울기가 없음
            p.square().sum().backward()
        length = clip(parameters, max_norm)
        groups.append(torch.stack([*(p.grad.norm() for p in parameters[:-1]), length]))
    assert torch.equal(groups[0], groups[1])  # 강의의 것과 utils의 것은 수치까지 같음
    assert same(groups[0], groups[2], 1e-6)


# -- 모델, 지표, 탐색 ------------------------------------------------------------------
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_parameter_count(hidden):
    model = lesson.MLP(hidden)
    assert lesson.count_by_hand(hidden) == lesson.count_parameters(model)
    rows = lesson.summarize(model, torch.zeros(2, 28, 28))
    assert sum(count for *_, count in rows) == lesson.count_by_hand(hidden)
    assert rows[-1][1] == (2, 10)
    assert not any(layer._forward_hooks for layer in model.modules())


@given(seeds, st.integers(1, 60), st.integers(2, 6))
def test_precision_recall_f1(seed, count, classes):
    rng = np.random.default_rng(seed)
    targets, predictions = torch.from_numpy(rng.integers(0, classes, (2, count)))
    matrix = metrics.confusion_matrix(targets, predictions, classes)
    ours = torch.stack(lesson.precision_recall_f1(matrix))
    reference = precision_recall_fscore_support(
        targets, predictions, labels=range(classes), zero_division=0
    )
    assert same(ours, torch.from_numpy(np.stack(reference[:3])))


@given(seeds, st.integers(1, 40))
def test_metrics_are_those_of_lesson_01(seed, count):
    torch.manual_seed(seed)
    targets, predictions = torch.randint(0, 5, (2, count))
    ours = first.confusion_by_hand(targets, predictions, 5)
    assert torch.equal(metrics.confusion_matrix(targets, predictions, 5), ours)
    for shuffle in (False, True):
        torch.manual_seed(seed)
        by_first = list(first.iterate_batches(targets, predictions, 7, shuffle))
        torch.manual_seed(seed)
        shared = list(iterate_batches(targets, predictions, 7, shuffle))
        assert all(
            torch.equal(a, b)
            for p, q in zip(by_first, shared, strict=True)
            for a, b in zip(p, q, strict=True)
        )


def test_drop_last_keeps_only_full_batches():
    x = torch.arange(10)
    assert [len(b) for b, _ in iterate_batches(x, x, 4, drop_last=True)] == [4, 4]
    assert [len(b) for b, _ in iterate_batches(x, x, 20, drop_last=True)] == [10]


class Steady:
    """점수가 늘 같은 후보입니다."""

    def __init__(self, quality):
        self.quality, self.budgets = quality, []

    @property
    def spent(self):
        return sum(self.budgets)

    def advance(self, budget):
        self.budgets.append(budget)
        return self.quality


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20, unique=True))
def test_successive_halving_finds_the_best_of_steady_candidates(quality):
    candidates = [Steady(q) for q in quality]
    best, score, spent = lesson.successive_halving(candidates, 3)
    assert best.quality == score == max(quality)
    assert spent == sum(candidate.spent for candidate in candidates)
    rounds = max(len(candidate.budgets) for candidate in candidates)
    alive = [sum(len(c.budgets) > i for c in candidates) for i in range(rounds)]
    assert alive[0] == len(quality) and all(b == a // 2 for a, b in itertools.pairwise(alive))
    assert best.budgets == [3 * 2**i for i in range(rounds)]


def test_range_test_sweeps_the_rates(run):
    data = lesson.small_data(run)
    rates = np.geomspace(1e-6, 100, 60).tolist()
    losses = lesson.learning_rate_range_test(lesson.make_mlp(run), data, rates)
    assert len(losses) == 60 and np.isfinite(losses[:5]).all()
    assert np.nanmin(losses) < 0.9 * losses[0] and not losses[-1] < losses[0]


# -- 데이터 --------------------------------------------------------------------------
def test_garments_are_deterministic_and_balanced():
    x, y = fashion.draw_garments(200, seed=5)
    again, _ = fashion.draw_garments(200, seed=5)
    other, _ = fashion.draw_garments(200, seed=6)
    assert np.array_equal(x, again) and not np.array_equal(x, other)
    assert x.dtype == np.uint8 and x.shape == (200, 28, 28)
    assert np.bincount(y).tolist() == [20] * 10 and (x.reshape(200, -1).max(1) > 0).all()


def test_real_fashion_mnist_when_present():
    if not has_original(fashion):
        pytest.skip("data에 Fashion-MNIST 원본이 없습니다")
    provenance = fashion.load("original", offline=True).provenance
    assert (provenance.num_train, provenance.num_test) == (55000, 10000)


# -- 과정의 규칙 ----------------------------------------------------------------------
def test_test_labels_change_nothing_but_the_test_figures(run, tmp_path):
    """테스트 정답을 섞어도 탐색과 학습은 그대로여야 합니다."""
    outcomes = []
    for permute in (False, True):
        torch.manual_seed(0)
        data = small_dataset()
        if permute:
            x, y = data._test
            data._test = x, y[torch.randperm(len(y))]
        give_data(run, fashion.load, data)
        run.metrics |= {"checks": [], "claims": [], "floors": {}, "results": {}, "figures": []}
        trial, model, candidates = lesson.section_search_and_training(run)
        before = [c["measured"] for c in run.metrics["claims"]]
        lesson.section_result(run, (trial, model, candidates))
        weights = torch.cat([p.flatten() for p in model.parameters()])
        outcomes.append((trial, before, weights, run.metrics["results"]["테스트 정확도"]["value"]))
    (trial_a, claims_a, weights_a, score_a), (trial_b, claims_b, weights_b, score_b) = outcomes
    assert trial_a == trial_b and claims_a == claims_b and torch.equal(weights_a, weights_b)
    assert score_b < score_a


# -- 확인이 정말로 오류를 잡는가 ----------------------------------------------------------
def biased_variance(self, x):
    with torch.no_grad():
        self.running_mean += self.momentum * (x.mean(dim=0) - self.running_mean)
        self.running_var += self.momentum * (x.var(dim=0, unbiased=False) - self.running_var)
    return lesson.normalize(x, (0,)) * self.weight + self.bias


def unscaled_dropout(self, x):
    return x * (torch.rand_like(x) >= self.p) if self.training else x


def coupled_decay(self, p, g, m, s):
    decay, self.weight_decay = self.weight_decay, 0.0
    adamw_update(self, p, g + decay * p, m, s)
    self.weight_decay = decay


adamw_update = lesson.AdamW.update
MUTATIONS = [
    (lesson.BatchNorm1d, "forward", biased_variance, "section_normalization"),
    (
        lesson,
        "normalize",
        lambda x, dims: x - x.mean(dims, keepdim=True),
        "section_normalization",
    ),
    (lesson.Dropout, "forward", unscaled_dropout, "section_regularization"),
    (lesson.AdamW, "update", coupled_decay, "section_optimizers"),
    (
        lesson,
        "clip_grad_norm",
        lambda ps, c: nn.utils.clip_grad_norm_(ps, c, 1.0),
        "section_optimizers",
    ),
    (lesson, "label_smoothing_cross_entropy", lambda z, t: F.cross_entropy(z, t), "section_losses"),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "section"), MUTATIONS)
def test_checks_catch_mutations(owner, name, wrong, section, run, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run)


def test_every_fault_of_the_museum_hurts(run):
    """걸음 수를 전체 실행과 같게 하면 다섯 고장 모두 정상보다 나빠야 합니다."""
    run.config = dataclasses.replace(run.config, steps=lesson.Config().steps)
    lesson.section_failure_museum(run)
    assert run.metrics["claims"][-1]["holds"] is True, run.metrics["claims"][-1]


def test_checkpoint_of_another_choice_is_refused(run, monkeypatch):
    trial = {"lr": 0.001, "dropout": 0.1, "weight_decay": 0.01, "width": 384}
    run.data(fashion.load)
    lesson.train(run, trial, 0, "checkpoint.pt")
    monkeypatch.setattr(run, "resume", True)
    with pytest.raises(UserError, match="고른 dropout"):
        lesson.train(run, trial | {"dropout": 0.2}, 0, "checkpoint.pt")


def test_wrong_derivative_is_caught(run, monkeypatch):
    ours, _, library, layer = lesson.ACTIVATIONS["GELU"]
    wrong = (ours, lambda x: lesson.normal_cdf(x), library, layer)
    monkeypatch.setitem(lesson.ACTIVATIONS, "GELU", wrong)
    with pytest.raises(CheckFailed):
        lesson.section_activations(run)


# -- 실행 전체 -----------------------------------------------------------------------
@pytest.mark.slow
def test_quick_learning_band(quick_runs):
    done = quick_runs(NAME)
    results, floors = done.metrics["results"], done.metrics["floors"]
    assert 0.78 <= results["테스트 정확도"]["value"] <= 0.95
    assert 0.70 <= floors["소프트맥스 회귀"] <= 0.90
    claims = {claim["claim"]: claim["holds"] for claim in done.metrics["claims"]}
    sure = "시그모이드에서는,편향을 나쁘게,20층 뒤의 크기는,He 초기화만,레이블 스무딩은".split(",")
    sure += "0으로 시작한,클래스 가중치를,eval()을 잊으면,Adam에서 L2는".split(",")
    for start in sure:
        assert [holds for text, holds in claims.items() if text.startswith(start)] == [True], start


@pytest.mark.slow
def test_resume_after_a_finished_training_changes_nothing(tmp_path):
    arguments = ("--quick", "--only", "2.8", "--epochs", "2")
    assert run_lesson(NAME, *arguments, output=tmp_path).status == 0
    model = tmp_path / NAME / "model-quick.pt"
    weights = torch.load(model, weights_only=True)
    model.unlink()
    done = run_lesson(NAME, *arguments, "--resume", output=tmp_path)
    assert done.status == 0 and "이어 갑니다" in done.stdout
    again = torch.load(model, weights_only=True)
    assert all(torch.equal(again[key], weights[key]) for key in weights)
