"""7강: 공개된 이름마다 표준 구현과 비교하고, 무너진 학습을 알아보는지, 조건과 자를 시험합니다."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import load_lesson, run_lesson
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import linalg
from scipy.spatial import geometric_slerp
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from utils import metrics, model_utils
from utils import visualization as plot
from utils.datasets import faces
from utils.errors import UserError
from utils.lesson import CheckFailed

NAME = "07_gan_image_generation"
lesson = load_lesson(NAME)
seeds = st.integers(0, 10_000)
relaxed = settings(deadline=None, max_examples=25)


def drawn(count: int) -> faces.FaceDataset:
    counts = (count, count // 4, count // 2)
    parts = [faces.draw_faces(n, seed) for seed, n in enumerate(counts)]
    arrays = faces.Faces(*(a for part in parts for a in part), np.array(faces.ATTRIBUTES))
    return faces.FaceDataset("작은 얼굴", "sample", "시험", arrays)


@pytest.fixture(scope="module")
def made_once():
    return drawn(96)


@pytest.fixture
def run(tmp_path, made_once):
    run = lesson.chapter.start(["--quick", "--device", "cpu", "--output-dir", str(tmp_path)])
    changes = {"faces": 96, "size": 64, "width": 4, "latent": 8, "epochs": 1, "steps": 20}
    run.config = dataclasses.replace(run.config, **changes)
    test = made_once._test
    run._datasets[lesson.faces.load, ("faces", 96), ("size", 64)] = made_once
    yield run
    made_once._test = test  # 다른 시험도 테스트 데이터를 쓸 수 있게 함


def same(ours, reference, atol=1e-9):
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


# -- 손실과 게임 ---------------------------------------------------------------------------
@relaxed
@given(seed=seeds, scale=st.floats(0.1, 200))
def test_losses_are_bce(seed, scale):
    torch.manual_seed(seed)
    real, fake = (scale * torch.randn(2, 20).double()).requires_grad_().unbind()
    bce = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    assert same(lesson.discriminator_loss(real, fake), bce(real, ones) + bce(fake, zeros))
    assert same(lesson.generator_loss(fake), bce(fake, ones))
    assert same(lesson.saturating_loss(fake), -bce(fake, zeros))


@relaxed
@given(p=st.floats(0.01, 5), q=st.floats(0.01, 5))
def test_optimal_discriminator_maximizes_the_value(p, q):
    best = lesson.optimal_discriminator(p, q)
    value = lambda d: p * math.log(d) + q * math.log(1 - d)  # noqa: E731
    assert all(value(best) >= value(d) - 1e-12 for d in np.linspace(0.001, 0.999, 99))


# -- 고리와 처방 ---------------------------------------------------------------------------
def test_mode_coverage():
    centers = torch.tensor([[0.0, 0], [10, 0], [20, 0]])
    exact = centers.repeat(100, 1)
    assert lesson.mode_coverage(exact, centers, 1.0) == (3, 1.0)
    assert lesson.mode_coverage(exact[::3], centers, 1.0) == (1, 1.0)
    assert lesson.mode_coverage(exact + 5, centers, 1.0) == (0, 0.0)
    few = torch.cat([centers[:1].repeat(95, 1), centers[1:2].repeat(5, 1)])  # 5 % < 1/3의 1/5
    assert lesson.mode_coverage(few, centers, 1.0) == (1, 1.0)


@relaxed
@given(seed=seeds, shape=st.sampled_from([(6, 3), (5, 4, 2, 3)]))
def test_minibatch_std(seed, shape):
    torch.manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64)
    y = lesson.MinibatchStd()(x)
    assert y.shape == (shape[0], shape[1] + 1, *shape[2:]) and torch.equal(y[:, :-1], x)
    assert same(y[:, -1], x.std(dim=0, correction=0).mean().expand_as(y[:, -1]), 1e-6)


@relaxed
@given(seed=seeds, image=st.booleans())
def test_penalties_equal_functorch(seed, image):
    torch.manual_seed(seed)
    shape = (4, 2, 3, 3) if image else (4, 5)
    D = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 7), nn.Tanh(), nn.Linear(7, 1))
    D, x = D.double(), torch.randn(shape, dtype=torch.float64)
    slope = torch.func.vmap(torch.func.grad(lambda one: D(one[None])[0, 0]))(x)
    norm = slope.flatten(1).norm(dim=1)
    assert same(lesson.r1_penalty(D, x), (norm**2).mean())
    assert same(lesson.gradient_penalty(D, x, x), ((norm - 1) ** 2).mean())


@relaxed
@given(seed=seeds)
def test_gradient_penalty_looks_between_the_samples(seed):
    torch.manual_seed(seed)
    real, fake, seen = torch.zeros(50, 2), torch.ones(50, 2), []
    D = lambda x: seen.append(x) or (x**2).sum(dim=1)  # noqa: E731
    lesson.gradient_penalty(D, real, fake)
    assert ((seen[0] >= 0) & (seen[0] <= 1)).all() and seen[0].std() > 0.1
    assert torch.equal(seen[0][:, 0], seen[0][:, 1])  # 두 좌표를 같은 비율로 섞음


@relaxed
@given(seed=seeds, rows=st.integers(2, 6), columns=st.integers(2, 6))
def test_spectral_norm(seed, rows, columns):
    torch.manual_seed(seed)
    weight = torch.randn(rows, columns, dtype=torch.float64)
    values = torch.linalg.svdvals(weight)
    assume(values[0] > 1.05 * values[1])
    norm = lesson.SpectralNorm(weight)
    for _ in range(300):
        norm(weight)
    assert torch.linalg.svdvals(norm.eval()(weight))[0] == pytest.approx(1, abs=1e-4)
    before = norm.u.clone()
    norm(weight)
    assert torch.equal(norm.u, before)  # 평가할 때는 u가 변하지 않음


def test_spectral_layers_follow_the_singular_value_of_torch():
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    theirs = parametrizations.spectral_norm(nn.Linear(6, 4), n_power_iterations=100)
    theirs.parametrizations.weight.original.data = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", lesson.SpectralNorm(layer.weight))
    for _ in range(200):
        a, b = layer.weight, theirs.weight
    assert same(a, b, 1e-5)


@pytest.mark.slow
def test_ring_collapses_and_r1_repairs_it(run):
    """강의의 판정과 같은 설정을 시드 셋에서 봅니다."""
    run.config = dataclasses.replace(run.config, steps=1500)
    for seed in range(3):
        run.seed = seed
        plain, repaired = (lesson.fit_ring(run, kind)[1] for kind in ("없음", "R1"))
        assert plain[-1]["종류"] < 1 and lesson.diagnose(plain) == "모드 붕괴"
        assert repaired[-1]["종류"] == 1 and lesson.diagnose(repaired) == "정상"


def test_diagnose_reads_the_last_quarter():
    row = lambda real, fake, kinds: {"D(진짜)": real, "D(가짜)": fake, "종류": kinds}  # noqa: E731
    good, wins, falls = row(0.6, 0.4, 1.0), row(1.0, 0.01, 1.0), row(0.6, 0.4, 0.5)
    assert lesson.diagnose([falls] * 6 + [good] * 2) == "정상"
    assert lesson.diagnose([good] * 6 + [wins] * 2) == "판별자 승리"
    assert lesson.diagnose([good] * 6 + [falls] * 2) == "모드 붕괴"
    assert lesson.diagnose([falls]) == "모드 붕괴"


def test_a_stopped_generator_loses(run):
    run.config = dataclasses.replace(run.config, steps=200)
    _, history, _ = lesson.fit_ring(run, "없음", lr=(1e-6, 0.005))
    assert lesson.diagnose(history) == "판별자 승리"


# -- 전치 합성곱과 신경망 ---------------------------------------------------------------------
@relaxed
@given(
    seed=seeds,
    size=st.integers(1, 5),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    bias=st.booleans(),
)
def test_conv_transpose2d(seed, size, kernel, stride, padding, bias):
    assume((size - 1) * stride + kernel - 2 * padding > 0)
    torch.manual_seed(seed)
    x = torch.randn(2, 3, size, size + 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, kernel, kernel, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(4, dtype=torch.float64) if bias else None
    options = {"stride": stride, "padding": padding}
    ours = lesson.conv_transpose2d(x, weight, offset, **options)
    theirs = F.conv_transpose2d(x, weight, offset, **options)
    assert same(ours, theirs)
    upstream = torch.randn_like(ours)
    pairs = (torch.autograd.grad(y, (x, weight), upstream) for y in (ours, theirs))
    assert all(same(a, b) for a, b in zip(*pairs, strict=True))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_network_shapes(size, batch_norm):
    G, D = lesson.Generator(8, 4, size), lesson.Discriminator(4, size, batch_norm)
    x = G(torch.randn(3, 8))
    assert x.shape == (3, 3, size, size) and x.abs().max() <= 1 and D(x).shape == (3,)
    net, photos = lesson.AttributeNet(5, size), lesson.to_photos(x)
    assert net(photos).shape == (3, 5)
    assert net.body(lesson.to_input(photos)).shape == (3, 64, size // 16, size // 16)
    norms = [m for m in D.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) is batch_norm


def test_conditional_models_start_as_the_plain_ones_and_then_listen():
    torch.manual_seed(0)
    G, D = lesson.Generator(8, 4), lesson.Discriminator(4)
    ours = lesson.ConditionalGenerator(5, 8, 4, 64), lesson.ConditionalDiscriminator(5, 4, 64)
    z, y = torch.randn(6, 8), torch.randint(2, (6, 5)).float()
    for model, plain, given_ in zip(ours, (G, D), (z, G(z).detach()), strict=True):
        model.load_state_dict(plain.state_dict(), strict=False)
        assert same(model.eval()(given_, y), plain.eval()(given_), 1e-6)
        nn.init.normal_(model.embed.weight)
        assert not same(model(given_, y), model(given_, 1 - y), 1e-3)


@given(seeds)
def test_photos_round_trip(seed):
    photos = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3), np.uint8))
    x = lesson.to_input(photos)
    assert x.shape == (2, 3, 8, 8) and x.abs().max() <= 1
    assert torch.equal(lesson.to_photos(x), photos)


# -- 자 -----------------------------------------------------------------------------------
@relaxed
@given(seed=seeds, dimensions=st.integers(1, 6), shift=st.floats(-3, 3))
def test_frechet_distance(seed, dimensions, shift):
    torch.manual_seed(seed)
    a, b = torch.randn(2, 60, dimensions, dtype=torch.float64)
    b = b @ torch.randn(dimensions, dimensions, dtype=torch.float64) + shift
    A, B = (np.atleast_2d(np.cov(t.T)) for t in (a, b))
    root = np.trace(np.atleast_2d(linalg.sqrtm(A @ B)).real)
    theirs = np.square((a.mean(0) - b.mean(0)).numpy()).sum() + np.trace(A + B) - 2 * root
    ours = lesson.frechet_distance(a, b) if dimensions > 1 else theirs
    assert ours == pytest.approx(theirs, abs=1e-4)
    moved = lesson.frechet_distance(a, a + shift) if dimensions > 1 else dimensions * shift**2
    assert moved == pytest.approx(dimensions * shift**2, abs=1e-6)


@relaxed
@given(seed=seeds, k=st.integers(1, 4), apart=st.floats(0, 3))
def test_precision_recall(seed, k, apart):
    torch.manual_seed(seed)
    real, fake = torch.randn(30, 4).double(), torch.randn(25, 4).double() + apart
    ours = lesson.precision_recall(real, fake, k)
    assert ours == pytest.approx(metrics.neighbor_precision_recall(real, fake, k))


def test_precision_and_recall_tell_quality_from_variety():
    torch.manual_seed(0)
    real = torch.cat([torch.randn(100, 3), torch.randn(100, 3) + 20])
    one_mode = torch.randn(200, 3)
    spread = torch.cat([real[::2], 100 * torch.randn(100, 3)])
    precision, recall = lesson.precision_recall(real, one_mode)
    assert precision > 0.8 and recall < 0.6
    precision, recall = lesson.precision_recall(real, spread)
    assert precision < 0.6 and recall > 0.8


def test_kinds_covered():
    real = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]]).bool()
    assert metrics.kinds_covered(real, real) == 1
    assert metrics.kinds_covered(torch.ones(4, 2).bool(), real) == 0.5
    assert metrics.kinds_covered(torch.tensor([[True, False]] * 4), real) == 0.5
    never = torch.zeros(4, 2).bool()  # 진짜에도 없는 것은 빠진 것이 아님
    assert metrics.kinds_covered(never, never) == 1


def test_nearest_pair_differs_in_one_attribute_where_it_can():
    labels = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 1]])
    assert metrics.nearest_pair(labels, 0).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert metrics.nearest_pair(labels, 2).tolist() == [[0, 1, 0], [0, 0, 1]]


@relaxed
@given(seed=seeds, t=st.floats(0, 1), size=st.integers(2, 8))
def test_slerp(seed, t, size):
    torch.manual_seed(seed)
    a, b = F.normalize(torch.randn(2, size, dtype=torch.float64), dim=1)
    assume(abs(a @ b) < 0.99)
    theirs = torch.from_numpy(geometric_slerp(a.numpy(), b.numpy(), t))
    assert same(lesson.slerp(a, b, t), theirs, 1e-6)
    batch = lesson.slerp(a.expand(3, -1), b.expand(3, -1), t)
    assert same(batch[2], theirs, 1e-6)


@relaxed
@given(d=st.floats(0, 1))
def test_update_ema_is_that_of_lesson_6(d):
    sixth = load_lesson("06_yolo_object_detection")
    new = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ours = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    theirs = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    theirs.load_state_dict(ours.state_dict())
    model_utils.update_ema(ours, new, d)
    sixth.update_ema(theirs, new, d)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])


# -- 기준선과 그림 ----------------------------------------------------------------------------
def test_pixel_gaussian_has_the_mean_and_spread_of_the_photos(made_once):
    gaussian = metrics.PixelGaussian(made_once.x_train)
    made = gaussian.sample(400, torch.Generator().manual_seed(0))
    assert made.shape == (400, 64, 64, 3) and made.dtype == torch.uint8
    mean = made.float().mean(dim=0)
    assert (mean - made_once.x_train.float().mean(dim=0)).abs().mean() < 6
    spread = made.float().std(dim=0).mean() / made_once.x_train.float().std(dim=0).mean()
    assert 0.6 < spread < 1.1
    again = gaussian.sample(400, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)


def test_nearest_photos(made_once):
    known = made_once.x_train
    apart, which = metrics.nearest_photos(known[5:9], known)
    assert which.tolist() == [5, 6, 7, 8] and apart.max() < 1e-3
    apart, which = metrics.nearest_photos(known[5:9].flip(2), known)  # 뒤집어 외운 것도 알아봄
    assert which.tolist() == [5, 6, 7, 8] and apart.max() < 1e-3
    apart, _ = metrics.nearest_photos(made_once.x_val, known)
    assert (apart > 0.01).all()


def test_gif_holds_every_page(tmp_path):
    pages = [np.full((16, 64, 64, 3), 40 * k, np.uint8) for k in range(5)]
    plot.save_gif(tmp_path / "a.gif", pages)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 5 and image.size == (256, 256)
    plot.save_gif(tmp_path / "few.gif", [page[:10] for page in pages])  # 네 장으로 나누어지지 않음
    with Image.open(tmp_path / "few.gif") as image:
        assert image.size == (256, 128)


# -- 학습 ---------------------------------------------------------------------------------
def test_attribute_net_learns(run, made_once):
    net = lesson.fit_attributes(run, made_once)
    features, has = lesson.describe(net, made_once.x_train)
    right = (has == made_once.y_train.bool()).double().mean(dim=0)
    assert features.shape == (96, 64) and (features >= 0).all()
    assert right.mean() > 0.9


@pytest.mark.slow
def test_no_nan_and_ema_follows(run, made_once):
    net = lesson.AttributeNet(11).eval()
    for refined in (True, False):
        recipe = lesson.refined_recipe(run.config) if refined else lesson.DCGAN
        G = lesson.make(run, lesson.Generator, 8, 4)
        D = lesson.make(run, lesson.Discriminator, 4, batch_norm=not refined)
        start = {key: value.clone() for key, value in G.state_dict().items()}
        ema, album, history = lesson.train(run, net, (G, D), recipe, 2, f"checkpoint-{refined}.pt")
        assert len(history) == len(album.pages) == 2
        assert all(math.isfinite(value) for row in history for value in row.values())
        assert not same(G.start.weight, start["start.weight"], 1e-6)
        if not refined:  # EMA가 없으면 생성자와 같음
            assert same(ema.start.weight, G.start.weight)


def test_training_leaves_the_test_faces_alone(run, made_once):
    net = lesson.section_ruler(run)
    lesson.section_training(run, net)
    assert not made_once.test_is_taken


def grey_folder(folder, count=400):
    folder.mkdir()
    rng, (images, _) = np.random.default_rng(0), faces.draw_faces(count, seed=7)
    for k, image in enumerate(images):
        size = tuple(int(side) for side in rng.integers(40, 120, 2))
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size)
        cv2.imwrite(str(folder / f"{k:03}.png"), grey)
    return folder


@pytest.mark.slow
def test_folder_of_grey_photos_trains(tmp_path):
    folder = grey_folder(tmp_path / "grey")
    small = "--epochs 2 --width 8 --latent 16 --steps 20".split()
    options = ("--data-dir", folder, "--device", "cpu", *small)
    done = run_lesson(NAME, *options, output=tmp_path)
    assert done.status == 0, done.stderr
    data = done.metrics["data"]
    assert data["source"] == "original" and data["num_train"] == 280 and "주성분" in data["detail"]
    assert len(done.metrics["figures"]) >= 9
    wanted = run_lesson(NAME, "--make", "성분 1,성분 3", "--data-dir", folder, output=tmp_path)
    assert wanted.status == 0 and (wanted.folder / "make.png").exists()
    wrong = run_lesson(NAME, "--make", "안경", "--data-dir", folder, output=tmp_path)
    assert wrong.status == 1 and "성분 1" in wrong.stderr and "Traceback" not in wrong.stderr


def test_make_before_training_says_what_to_do(run):
    run.config = dataclasses.replace(run.config, make="안경")
    with pytest.raises(UserError, match="먼저"):
        lesson.make_faces(run)


# -- 판정과 확인 ----------------------------------------------------------------------------
@pytest.mark.slow
def test_quick_run_beats_the_pixel_gaussian(quick_runs):
    metrics = quick_runs(NAME).metrics
    result = metrics["results"]["특징 프레셰 거리"]
    assert result["floor"] == "PCA 정규분포 75 %" and result["beats_floor"]
    floors = metrics["floors"]
    assert "진짜와 진짜" not in floors  # 천장은 기준선이 아님
    (text,) = (c["measured"] for c in metrics["claims"] if "진짜와 진짜" in c["measured"])
    assert float(text.rsplit("진짜와 진짜 ", 1)[1]) < result["value"]
    assert result["value"] < floors["PCA 정규분포 75 %"] < floors["잡음"]
    assert metrics["results"]["요청한 속성대로 만든 비율"]["beats_floor"]
    assert (quick_runs(NAME).folder / "epochs-quick.gif").stat().st_size > 5000


def first_order_r1(D, real):
    x = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x)  # create_graph를 빠뜨림
    return gradient.flatten(1).square().sum(dim=1).mean() + 0 * D(x).sum()


def swapped_kernel(original):
    return lambda x, weight, bias=None, **options: original(x, weight.flip(2, 3), bias, **options)


def frechet_without_root(a, b):
    A, B = torch.cov(a.T), torch.cov(b.T)
    apart = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (apart + A.trace() + B.trace() - 2 * (A @ B).trace().sqrt()).item()


def nearest_itself(original):
    return lambda real, fake, k=3: original(real, fake, k - 1)


MUTATIONS = {
    "부호가 바뀐 생성자의 손실": (
        "generator_loss",
        lambda _: lambda fake: lesson.softplus(fake).mean(),
        "section_game",
    ),
    "두 번 미분되지 않는 R1": ("r1_penalty", lambda _: first_order_r1, "section_ring"),
    "뒤집힌 커널": ("conv_transpose2d", swapped_kernel, "section_transposed"),
    "제곱근이 틀린 프레셰 거리": (
        "frechet_distance",
        lambda _: frechet_without_root,
        "section_ruler",
    ),
    "자신을 이웃으로 세는 정밀도": ("precision_recall", nearest_itself, "section_ruler"),
    "묶음이 아니라 특징을 가로지른 표준편차": (
        "MinibatchStd",
        lambda _: lambda: lambda x: torch.cat([x, x.std(dim=1, keepdim=True)], dim=1),
        "section_ring",
    ),
    "사진의 축이 바뀜": (
        "to_photos",
        lambda original: lambda x: original(x).transpose(1, 2),
        "section_step",
    ),
}


@pytest.mark.parametrize("title", MUTATIONS)
def test_checks_catch_mutations(title, run, monkeypatch):
    name, mutate, section = MUTATIONS[title]
    monkeypatch.setattr(lesson, name, mutate(getattr(lesson, name)))
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run)


def test_checks_catch_a_forgotten_detach(run, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: self)
    with pytest.raises(CheckFailed, match="생성자에 주는 기울기"):
        lesson.section_step(run)
