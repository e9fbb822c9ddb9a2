"""3강: 공개된 이름마다 표준 구현과 비교하고, 데이터와 Grad-CAM의 약속을 시험합니다."""

from __future__ import annotations

import dataclasses
import pickle
import tarfile

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import give_data, has_original, load_lesson, run_lesson
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from utils import metrics
from utils.data_utils import Found, ImageArrays, ImageDataset
from utils.datasets import scenes
from utils.errors import UserError
from utils.lesson import CheckFailed

NAME = "03_cnn_image_classification"
lesson = load_lesson(NAME)
cifar10 = lesson.cifar10
seeds = st.integers(0, 10_000)
relaxed = settings(deadline=None, max_examples=25)


def small_dataset() -> ImageDataset:
    train, test = scenes.draw_scenes(700, seed=3), scenes.draw_scenes(600, seed=4)
    found = Found("sample", "시험", ImageArrays(*train[:2], *test[:2]))
    return ImageDataset("작은 장면", found, scenes.CLASS_NAMES, 200)


@pytest.fixture
def run(tmp_path):
    run = lesson.chapter.start(["--quick", "--output-dir", str(tmp_path), "--device", "cpu"])
    run.config = dataclasses.replace(run.config, steps=10, small=500, epochs=1, width=4)
    give_data(run, cifar10.load, small_dataset())
    return run


def same(ours, reference, atol=1e-9):
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


# -- 합성곱과 풀링 --------------------------------------------------------------------
shapes = {
    "seed": seeds,
    "size": st.integers(5, 9),
    "kernel": st.integers(1, 3),
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 2),
}


@relaxed
@given(**shapes, dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]), bias=st.booleans())
def test_conv2d(seed, size, kernel, stride, padding, dilation, groups, bias):
    assume(lesson.conv_output_size(size, kernel, stride, padding, dilation) > 0)
    torch.manual_seed(seed)
    x = torch.randn(2, 4, size, size + 1, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 4 // groups, kernel, kernel, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(6, dtype=torch.float64) if bias else None
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    ours = lesson.conv2d(x, weight, offset, **options)
    reference = F.conv2d(x, weight, offset, **options)
    assert same(ours, reference)
    upstream = torch.randn_like(ours)
    pairs = (torch.autograd.grad(y, (x, weight), upstream) for y in (ours, reference))
    assert all(same(a, b) for a, b in zip(*pairs, strict=True))


@relaxed
@given(**shapes)
def test_conv2d_gradients_by_hand(seed, size, kernel, stride, padding):
    torch.manual_seed(seed)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64, requires_grad=True)
    y = F.conv2d(x, weight, stride=stride, padding=padding)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    by_hand = lesson.conv2d_input_gradient(size, weight.detach(), upstream, stride, padding)
    assert same(by_hand, x.grad)
    by_hand = lesson.conv2d_weight_gradient(x.detach(), upstream, kernel, stride, padding)
    assert same(by_hand, weight.grad)


@given(st.integers(3, 5), st.integers(1, 2), st.integers(1, 3))
def test_loops_equal_the_matrix_product(size, channels, kernel):
    x, weight = torch.randn(channels, size, size), torch.randn(2, channels, kernel, kernel)
    by_loops = lesson.conv2d_by_loops(x.double().numpy(), weight.double().numpy())
    assert same(torch.from_numpy(by_loops), F.conv2d(x[None].double(), weight.double())[0])


@relaxed
@given(seeds, st.integers(5, 9), st.integers(2, 3), st.integers(1, 3), st.integers(0, 1))
def test_pooling(seed, size, kernel, stride, padding):
    torch.manual_seed(seed)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    for ours, library in ((lesson.max_pool2d, F.max_pool2d), (lesson.avg_pool2d, F.avg_pool2d)):
        outputs = [pool(x, kernel, stride, padding) for pool in (ours, library)]
        assert same(*outputs)
        upstream = torch.randn_like(outputs[0])
        assert same(*(torch.autograd.grad(y, x, upstream)[0] for y in outputs))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=4))
def test_receptive_field(layers):
    field = lesson.receptive_field(layers)
    size = field
    for kernel, stride in layers:
        size = (size - kernel) // stride + 1
    assert size == 1  # 수용 영역만 한 입력에서는 출력이 꼭 한 칸
    x = torch.zeros(1, 1, field, field, requires_grad=True)
    y = x
    for kernel, stride in layers:
        y = F.conv2d(y, torch.ones(1, 1, kernel, kernel), stride=stride)
    y.sum().backward()
    corners = x.grad[0, 0, [0, -1], [0, -1]]
    gaps = any(stride > kernel for kernel, stride in layers[:-1])  # 창 사이가 비면 구멍이 생김
    assert gaps or (corners > 0).all()


# -- 모델 ----------------------------------------------------------------------------
@relaxed
@given(seeds, st.integers(2, 4), st.integers(1, 4), st.integers(2, 5), st.booleans())
def test_batch_norm2d(seed, batch, channels, size, training):
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, size, size, dtype=torch.float64) * 3 + 1
    ours = lesson.BatchNorm2d(channels).double().train(training)
    library = nn.BatchNorm2d(channels).double().train(training)
    for value in ours.state_dict().values():
        value.uniform_(0.5, 1.5)
    library.load_state_dict(ours.state_dict(), strict=False)
    upstream, results = torch.randn_like(x), []
    for module in (ours, library):
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        y.backward(upstream)
        buffers = module.running_mean, module.running_var
        results.append([y, leaf.grad, module.weight.grad, module.bias.grad, *buffers])
    assert all(same(a, b) for a, b in zip(*results, strict=True))


def test_resnet18_is_that_of_torchvision():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    library, ours = resnet18(num_classes=7), lesson.ResNet18(num_classes=7)
    ours.load_state_dict(library.state_dict())
    x = torch.randn(3, 3, 40, 48)
    for training in (True, False):
        assert same(ours.train(training)(x), library.train(training)(x), 1e-4)


@pytest.mark.parametrize("build", [lesson.LeNet5, lesson.vgg, lesson.resnet20, lesson.CifarNet])
def test_models_give_one_score_per_class(build):
    images = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    model = nn.Sequential(lesson.Pixels(), build(num_classes=7))
    assert model(images).shape == (2, 7)


def test_pixels_are_channels_last_without_a_copy():
    x = lesson.Pixels()(torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8))
    assert x.shape == (2, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last)


# -- 증강 ----------------------------------------------------------------------------
@given(seeds)
def test_flip_and_shift_move_pixels_only(seed):
    torch.manual_seed(seed)
    x = torch.randint(0, 256, (40, 32, 32, 3), dtype=torch.uint8)
    flipped = lesson.random_flip(x)
    same_as = [
        (torch.equal(a, b), torch.equal(a, b.flip(1))) for a, b in zip(flipped, x, strict=True)
    ]
    assert all(any(pair) for pair in same_as) and {pair[0] for pair in same_as} == {True, False}
    padded = F.pad(x.permute(0, 3, 1, 2).float(), (4,) * 4, mode="reflect")
    shifted = lesson.random_crop(x).permute(0, 3, 1, 2).float()
    windows = F.unfold(padded[:3], 32).reshape(3, 3, 32, 32, 81)
    for image, places in zip(shifted[:3], windows, strict=True):
        assert (image[..., None] == places).all(dim=(0, 1, 2)).any()


@given(seeds, st.integers(2, 12))
def test_cutout_erases_one_square(seed, size):
    torch.manual_seed(seed)
    x = torch.zeros(20, 32, 32, 3, dtype=torch.uint8)
    erased = lesson.cutout(x, size) == 128
    assert (erased.all(dim=3) == erased.any(dim=3)).all()
    area = erased[..., 0].sum(dim=(1, 2))
    assert (area <= size**2).all() and (area > 0).any()
    rows, columns = erased[..., 0].any(dim=2).sum(dim=1), erased[..., 0].any(dim=1).sum(dim=1)
    assert torch.equal(area, rows * columns)  # 빈틈없는 사각형


@given(seeds)
def test_mixup_mixes_images_and_targets_alike(seed):
    torch.manual_seed(seed)
    x = torch.eye(6)[:, None, None].expand(6, 2, 2, 6) * 255
    images, targets = lesson.mixup(x, torch.eye(6))
    assert torch.allclose(images[:, 0, 0] / 255, targets, atol=1e-6)
    assert torch.allclose(targets.sum(dim=1), torch.ones(6))


# -- 들여다보기 -----------------------------------------------------------------------
class Spot(nn.Module):
    """클래스 k의 점수가 k번째 사분면의 밝기인 모델입니다. Grad-CAM의 답을 압니다."""

    def __init__(self):
        super().__init__()
        self.features = nn.AvgPool2d(4)

    def forward(self, images):
        maps = self.features(images.permute(0, 3, 1, 2)[:, :1].float())  # (B, 1, 8, 8)
        quarters = F.one_hot(torch.arange(4)).float().reshape(4, 2, 2).repeat_interleave(4, 1)
        self.maps = maps * quarters.repeat_interleave(4, 2)  # (B, 4, 8, 8)
        return self.last(self.maps).sum(dim=(2, 3))

    last = nn.Identity()


def test_grad_cam_points_at_the_part_that_gives_the_score():
    images = torch.full((4, 32, 32, 3), 200, dtype=torch.uint8)
    model = Spot()
    model.last = nn.Identity()
    heat = lesson.grad_cam(
        nn.Sequential(model), model.last, images.float().requires_grad_(), torch.arange(4)
    )
    assert heat.shape == (4, 32, 32) and heat.min() >= 0 and heat.max() <= 1
    for k, (top, left) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
        inside = heat[k, top : top + 16, left : left + 16].sum()
        assert inside > 0.8 * heat[k].sum()


def test_occlusion_hurts_where_the_object_is():
    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.01))

        def forward(self, images):
            bright = images[:, :8, :8].float().mean(dim=(1, 2, 3)) - 128
            return torch.stack([self.scale * bright, torch.zeros(len(images))], dim=1)

    photo = torch.full((32, 32, 3), 255, dtype=torch.uint8)
    drop = lesson.occlusion_map(Corner(), photo, 0)
    assert drop.shape == (7, 7) and np.unravel_index(drop.argmax(), drop.shape) == (0, 0)
    assert abs(drop[3:, 3:]).max() < 1e-6


# -- 데이터 --------------------------------------------------------------------------
def test_scenes_are_deterministic_and_boxed():
    x, y, boxes = scenes.draw_scenes(200, seed=5)
    again, other = scenes.draw_scenes(200, seed=5)[0], scenes.draw_scenes(200, seed=6)[0]
    assert np.array_equal(x, again) and not np.array_equal(x, other)
    assert x.dtype == np.uint8 and x.shape == (200, 32, 32, 3)
    assert np.bincount(y).tolist() == [20] * 10
    assert (boxes >= 0).all() and (boxes <= 32).all() and (boxes[:, :2] < boxes[:, 2:]).all()


def write_npz(path, arrays):
    names = ImageArrays._fields
    np.savez(path, **dict(zip(names, arrays, strict=True)))


def test_npz_with_other_content_is_refused(tmp_path):
    x, y, _ = scenes.draw_scenes(20, seed=0)
    write_npz(tmp_path / "cifar10.npz", (x, y[:, None], x, y[:, None]))
    with pytest.raises(UserError, match=r"cifar10\.npz의 내용이 CIFAR-10 원본과 다릅니다"):
        cifar10.load("original", tmp_path, offline=True)


class Bomb:
    def __reduce__(self):
        return (open, ("bomb", "w"))


def test_pickles_with_other_content_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="손상되었습니다"):
        cifar10.load("original", tmp_path, offline=True)
    assert not (tmp_path / "bomb").exists()


def test_cifar100_without_the_original_is_the_sample(tmp_path):
    data = cifar10.load_cifar100("sample", tmp_path, offline=True)
    assert data.provenance.source == "sample" and data.class_names == scenes.CLASS_NAMES


@pytest.mark.parametrize("classes", [10, 100])
def test_layout_of_torchvision(classes, tmp_path, monkeypatch):
    """같은 배치로 만든 작은 가짜 파일을 읽습니다. 실제 파일의 md5 확인만 건너뜁니다."""
    kind = torchvision.datasets.CIFAR10 if classes == 10 else torchvision.datasets.CIFAR100
    original = cifar10.ORIGINAL if classes == 10 else cifar10.ORIGINAL_100
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(kind, "_load_meta", lambda self: None)
    rng, folder = np.random.default_rng(0), tmp_path / original.folder
    folder.mkdir()
    photos, labels = [], []
    for name, _ in kind.train_list + kind.test_list:
        flat, answers = rng.integers(0, 256, (20, 3072), dtype=np.uint8), [*range(classes)][-20:]
        key = "labels" if classes == 10 else "fine_labels"
        answers = [answers[i % len(answers)] for i in range(20)]
        (folder / name).write_bytes(pickle.dumps({"data": flat, key: answers}))
        photos.append(flat.reshape(20, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(answers)
    arrays = original.read(tmp_path).arrays
    assert np.array_equal(arrays.x_train, np.concatenate(photos[:-1]))
    assert np.array_equal(arrays.x_test, photos[-1])
    assert arrays.y_train.tolist() == np.concatenate(labels[:-1]).tolist()
    assert len(set(cifar10.NAMES[f"cifar{classes}"])) == classes


@pytest.mark.parametrize("broken", [False, True])
def test_archive_is_unpacked_whole_or_not_at_all(broken, tmp_path, monkeypatch):
    source = tmp_path / "source" / cifar10.ORIGINAL.folder
    source.mkdir(parents=True)
    (source / "batches.meta").write_bytes(bytes(200_000))
    archive = tmp_path / "data" / cifar10.ORIGINAL.archive
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz", compresslevel=0) as file:
        file.add(source, cifar10.ORIGINAL.folder)
    if broken:
        archive.write_bytes(archive.read_bytes()[:100_000])
    monkeypatch.setattr(cifar10, "download_file", lambda *args: None)
    monkeypatch.setattr(cifar10.CifarOriginal, "_unpickle", lambda self, folder: "배열")
    if broken:
        with pytest.raises((EOFError, tarfile.ReadError)):
            cifar10.ORIGINAL.download(archive.parent)
    else:
        assert cifar10.ORIGINAL.download(archive.parent).arrays == "배열"
    left = sorted(path.name for path in archive.parent.iterdir())
    assert left == ([] if broken else [cifar10.ORIGINAL.folder]) + [archive.name]


def test_real_cifar10_when_present():
    if not has_original(cifar10):
        pytest.skip("data에 CIFAR-10 원본이 없습니다")
    provenance = cifar10.load("original", offline=True).provenance
    assert (provenance.num_train, provenance.num_test) == (45000, 10000)


@given(seeds)
@settings(deadline=None, max_examples=10)
def test_nearest_neighbors_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (60, 2, 2, 3), dtype=np.uint8), rng.integers(0, 3, 60)
    train, test = (x[:40], y[:40]), (x[40:], y[40:])
    tensors = [torch.from_numpy(a) for a in (*train, *test)]
    model = KNeighborsClassifier(1).fit(train[0].reshape(40, -1), train[1])
    expected = model.score(test[0].reshape(20, -1), test[1])
    assert metrics.nearest_neighbor_accuracy(*tensors, neighbors=1) == pytest.approx(expected)


# -- 과정의 규칙과 확인 ------------------------------------------------------------------
def test_test_labels_change_nothing_but_the_test_figures(run):
    outcomes = []
    for permute in (False, True):
        torch.manual_seed(0)
        data = small_dataset()
        if permute:
            x, y = data._test
            data._test = x, y[torch.randperm(len(y))]
        give_data(run, cifar10.load, data)
        run.metrics |= {"checks": [], "claims": [], "floors": {}, "results": {}, "figures": []}
        model = lesson.section_training(run)
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        before = [claim["measured"] for claim in run.metrics["claims"]]
        lesson.section_result(run, model)
        outcomes.append((weights, before, run.metrics["results"]["테스트 정확도"]["value"]))
    (weights_a, claims_a, score_a), (weights_b, claims_b, score_b) = outcomes
    assert torch.equal(weights_a, weights_b) and claims_a == claims_b and score_a != score_b


def unflipped_input_gradient(size, weight, gradient, stride=1, padding=0):
    return right_input_gradient(size, weight.flip(2, 3), gradient, stride, padding)


def mean_instead_of_max(x, kernel_size, stride=None, padding=0):
    return lesson.unfold(x, kernel_size, stride or kernel_size, padding).mean(dim=(2, 3))


def swapped_weight_gradient(x, gradient, kernel, stride=1, padding=0):
    return right_weight_gradient(x, gradient, kernel, stride, padding).transpose(2, 3)


right_input_gradient = lesson.conv2d_input_gradient
right_weight_gradient = lesson.conv2d_weight_gradient
MUTATIONS = [
    (lesson, "conv2d_input_gradient", unflipped_input_gradient, "section_convolution"),
    (lesson, "conv2d_weight_gradient", swapped_weight_gradient, "section_convolution"),
    (lesson, "max_pool2d", mean_instead_of_max, "section_pooling"),
    (
        lesson,
        "receptive_field",
        lambda layers: 1 + sum(k - 1 for k, _ in layers),
        "section_receptive_field",
    ),
    (
        lesson.BatchNorm2d,
        "forward",
        lambda self, x: x * self.weight[:, None, None],
        "section_speed",
    ),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "section"), MUTATIONS)
def test_checks_catch_mutations(owner, name, wrong, section, run, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run)


def test_gpu_preset_is_larger_and_flags_win(tmp_path):
    def start(*flags):
        return lesson.chapter.start([*flags, "--output-dir", str(tmp_path)]).config

    assert start("--preset", "gpu").epochs == lesson.GPU.epochs > start("--preset", "cpu").epochs
    assert start("--preset", "gpu", "--epochs", "2").epochs == 2
    assert start("--quick", "--preset", "gpu") == lesson.QUICK


def test_gpu_preset_trains_with_a_tiny_configuration(tmp_path):
    flags = "--preset gpu --device cpu --epochs 2 --width 4 --batch-size 96 --small 1000".split()
    run = lesson.chapter.start([*flags, "--output-dir", str(tmp_path)])
    give_data(run, cifar10.load, small_dataset())
    model = lesson.section_training(run)
    assert run.path("model.pt").exists() and model[1].output.in_features == 16


# -- 실행 전체 -----------------------------------------------------------------------
@pytest.mark.slow
def test_quick_learning_band(quick_runs):
    done = quick_runs(NAME)
    results, floors = done.metrics["results"], done.metrics["floors"]
    assert results["테스트 정확도"]["value"] > floors["MLP"] + 0.05
    assert floors["소프트맥스 회귀"] < 0.4 and abs(floors["가장 많은 클래스만 답하기"] - 0.1) < 1e-6
    claims = {claim["claim"]: claim["holds"] for claim in done.metrics["claims"]}
    for start in (
        "창이 넓을수록",
        "매개변수의 수가",
        "기울기의 크기가",
        "bfloat16",
        "뒤집은 사진의",
    ):
        assert [holds for text, holds in claims.items() if start in text] == [True], start


@pytest.mark.slow
def test_claims_hold_when_the_small_models_learn_enough(tmp_path):
    """20걸음은 판정하기에 짧습니다. 걸음과 이미지를 늘리면 글의 주장이 성립해야 합니다."""
    run = lesson.chapter.start(["--data", "sample", "--output-dir", str(tmp_path)])
    run.config = dataclasses.replace(run.config, batch_size=192, width=32, small=4000, steps=120)
    lesson.section_cnn_against_mlp(run)
    lesson.section_augmentation(run)
    lesson.section_transfer(run)
    run.config = dataclasses.replace(run.config, steps=240)  # 왜: 20층은 120걸음에 거의 못 배움
    lesson.section_architectures(run)
    assert [c["claim"] for c in run.metrics["claims"] if not c["holds"]] == []


@pytest.mark.slow
def test_predict_reads_a_photo_and_refuses_what_is_none(quick_runs, tmp_path):
    folder = quick_runs(NAME).folder.parent
    photo = tmp_path / "사진.png"
    cv2.imencode(".png", scenes.draw_scenes(1, seed=9)[0][0].repeat(3, 0))[1].tofile(photo)
    done = run_lesson(NAME, "--quick", "--predict", photo, output=folder)
    assert done.status == 0 and "%" in done.stdout and (folder / NAME / "predict.png").exists()
    text = tmp_path / "글.png"
    text.write_text("그림이 아님", encoding="utf-8")
    for path, words in ((text, "그림 파일이 아닙니다"), (tmp_path / "없음.png", "파일이 없습니다")):
        done = run_lesson(NAME, "--quick", "--predict", path, output=folder)
        assert done.status == 1 and words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_grad_cam_points_at_the_object(tmp_path):
    """`--data sample`로 다 학습시킨 모델의 Grad-CAM은 그린 물체의 상자 안을 가리켜야 합니다."""
    flags = ["--data", "sample", "--device", "cpu", "--width", "32"]
    run = lesson.chapter.start([*flags, "--output-dir", str(tmp_path)])
    model = lesson.section_training(run)
    lesson.check_pointing(run, model)
    assert run.metrics["claims"][-1]["holds"] is True, run.metrics["claims"][-1]
