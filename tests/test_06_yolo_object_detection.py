"""6강: 공개된 이름마다 표준 구현과 비교하고, 학습과 예측의 약속을 시험합니다."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import ops
from torchvision.models import detection as models

from utils import metrics, model_utils, video
from utils.datasets import detection
from utils.datasets.detection import Detections, Example, Photo, collate
from utils.errors import UserError
from utils.lesson import CheckFailed

NAME = "06_yolo_object_detection"
lesson = load_lesson(NAME)
relaxed = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 10_000)
COCO128, BCCD = ROOT / "data" / "coco128", ROOT / "data" / "bccd" / "BCCD"
PAIRS = {
    "box_iou": ops.box_iou,
    "generalized_box_iou": ops.generalized_box_iou,
    "distance_box_iou": ops.distance_box_iou,
    "complete_box_iou": ops.complete_box_iou,
}


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """그린 장면 40장이 든 데이터 폴더입니다."""
    folder = tmp_path_factory.mktemp("street")
    detection.load("sample", folder, True, scenes=40)
    return folder


@pytest.fixture
def run(tmp_path, street):
    folders = "--output-dir", str(tmp_path), "--data-dir", str(street)
    run = lesson.chapter.start(["--quick", "--device", "cpu", *folders])
    run.config = dataclasses.replace(run.config, scenes=40, size=96, epochs=1, width=8)
    return run


def boxes_of(seed: int, count: int, size: float = 100.0) -> torch.Tensor:
    torch.manual_seed(seed)
    return lesson.random_boxes(count, size).double()


def same(ours, reference, atol=1e-9):
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


# -- 상자 -------------------------------------------------------------------------------
@relaxed
@given(
    seed=seeds,
    source=st.sampled_from(["xyxy", "xywh", "cxcywh"]),
    target=st.sampled_from(["xyxy", "xywh", "cxcywh"]),
)
def test_box_convert(seed, source, target):
    boxes = ops.box_convert(boxes_of(seed, 9), "xyxy", source)
    ours = lesson.box_convert(boxes, source, target)
    assert same(ours, ops.box_convert(boxes, source, target))
    assert same(lesson.box_convert(ours, target, source), boxes)


def test_unknown_box_format_is_refused():
    with pytest.raises(ValueError, match="xywx"):
        lesson.box_convert(torch.zeros(1, 4), "xyxy", "xywx")


@relaxed
@given(seed=seeds, name=st.sampled_from([*PAIRS]), n=st.integers(1, 5), size=st.floats(3, 1e5))
def test_iou_family(seed, name, n, size):
    a, b = (boxes_of(seed + k, n + k, size).requires_grad_() for k in (0, 1))
    pair = getattr(lesson, name)(a, b), PAIRS[name](a, b)
    assert same(*pair, atol=1e-6)
    upstream = torch.randn(pair[0].shape, dtype=torch.float64)
    gradients = (torch.autograd.grad(y, (a, b), upstream) for y in pair)
    assert all(same(x, y, atol=1e-6) for x, y in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_iou_of_degenerate_and_huge_boxes_is_finite(name):
    corner = torch.tensor([[0.0, 0, 0, 0], [5, 5, 5, 9], [5, 5, 9, 5], [0, 0, 1e7, 1e7]])
    boxes = corner.requires_grad_()
    values = getattr(lesson, name)(boxes, corner.detach())
    values.sum().backward()
    assert values.isfinite().all() and boxes.grad.isfinite().all()


def test_matched_iou_is_the_diagonal():
    a, b = boxes_of(0, 7), boxes_of(1, 7)
    assert same(lesson.matched_iou(a, b), lesson.complete_box_iou(a, b).diagonal())


# -- 레터박스와 증강 -----------------------------------------------------------------------
@relaxed
@given(height=st.integers(1, 700), width=st.integers(1, 700), size=st.sampled_from([64, 256]))
def test_letterbox_and_back(height, width, size):
    image = np.full((height, width, 3), 255, np.uint8)
    boxed, matrix = lesson.letterbox(image, size)
    whole = np.array([[0, 0, width, height]], np.float32)
    moved = lesson.move_boxes(whole, matrix)
    assert boxed.shape == (size, size, 3)
    assert (moved >= 0).all() and (moved <= size).all() and (moved[0] == size).any()
    x1, y1, x2, y2 = moved[0].round().astype(int)
    assert (boxed[y1:y2, x1:x2] == 255).all()
    assert (boxed == 255).all(axis=2).sum() == (y2 - y1) * (x2 - x1)
    assert np.abs(lesson.unletterbox(moved, matrix) - whole).max() < 0.01


@relaxed
@given(seed=seeds)
def test_moved_boxes_fit_what_is_drawn(seed):
    rng = np.random.default_rng(seed)
    image, box = metrics.white_box(rng)
    small, matrix = lesson.letterbox(image, 256)
    inside = lesson.move_boxes(box, matrix)
    assert np.abs(metrics.measure_box(small) - inside).max() < 0.5
    moving = lesson.random_matrix(rng, 256, 0.1)
    turned = lesson.warp(small, moving, 256, 256)
    assert np.abs(metrics.measure_box(turned) - lesson.move_boxes(inside, moving)).max() < 0.5


def test_flip_is_exact():
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    flip = np.array([[-1.0, 0, 32], [0, 1, 0]])
    assert (lesson.warp(image, flip, 32, 32) == image[:, ::-1]).all()
    box = np.array([[3, 4, 10, 20]], np.float32)
    assert lesson.move_boxes(box, flip).tolist() == [[22, 4, 29, 20]]


@relaxed
@given(seed=seeds, count=st.sampled_from([1, 4]))
def test_augment_keeps_boxes_inside(seed, count):
    rng = np.random.default_rng(seed)
    sources = []
    for k in range(count):
        boxes = boxes_of(seed + k, 5, 60).numpy().astype(np.float32)
        image = rng.integers(0, 255, (96, 96, 3)).astype(np.uint8)
        sources.append(Example(image, boxes, np.arange(5)))
    made = lesson.augment(rng, sources)
    assert made.image.shape == (96, 96, 3) and made.image.dtype == np.uint8
    assert len(made.boxes) == len(made.labels) <= 5 * count
    assert (made.boxes >= 0).all() and (made.boxes <= 96).all()
    assert (lesson.sides(made.boxes) > 2).all()


def test_augment_drops_what_is_hardly_visible(monkeypatch):
    shift = np.array([[1.0, 0, 60], [0, 1, 0]])  # 오른쪽으로 60픽셀
    monkeypatch.setattr(lesson, "random_matrix", lambda rng, size, move: shift.copy())
    boxes = np.array([[0, 0, 30, 30], [20, 0, 40, 20], [39, 0, 60, 20]], np.float32)
    source = Example(np.zeros((96, 96, 3), np.uint8), boxes, np.array([7, 8, 9]))
    made = lesson.augment(np.random.default_rng(0), [source])
    assert made.labels.tolist() == [7, 8]  # 셋째는 화면 밖
    assert made.boxes.tolist() == [[60, 0, 90, 30], [80, 0, 96, 20]]


# -- 격자와 앵커 --------------------------------------------------------------------------
def test_kmeans_anchors_finds_the_groups():
    torch.manual_seed(0)
    centers = torch.tensor([[10.0, 10], [20, 60], [120, 90]])
    sizes = (centers[:, None] * (1 + 0.03 * torch.randn(3, 50, 2))).flatten(0, 1)
    anchors = lesson.kmeans_anchors(sizes[torch.randperm(150)], 3)
    assert (anchors - centers).abs().max() < 2
    best = lambda a: lesson.size_iou(sizes, a).amax(dim=1).mean()  # noqa: E731
    assert best(anchors) > best(torch.tensor([[8.0, 8], [16, 16], [32, 32]]))


def test_size_iou_by_hand():
    ours = lesson.size_iou(torch.tensor([[2.0, 4]]), torch.tensor([[4.0, 2], [2, 4]]))
    assert ours[0].tolist() == pytest.approx([4 / 12, 1])


@relaxed
@given(seed=seeds, size=st.sampled_from([64, 96, 256]))
def test_encode_then_decode_is_the_identity(seed, size):
    grid = lesson.make_grid(size)
    grid = lesson.Grid(*(t.double() for t in grid))
    boxes = boxes_of(seed, len(grid.points), size)
    raw = lesson.encode_targets(boxes, grid)
    assert same(lesson.decode_predictions(raw, grid), boxes, atol=1e-6)


def test_grid_points_are_cell_centers():
    points, strides = lesson.make_grid(64)
    assert points[:3].tolist() == [[4, 4], [12, 4], [20, 4]] and points[8].tolist() == [4, 12]
    assert points[-1].tolist() == [48, 48] and strides[-1].item() == 32
    assert len(points) == 64 + 16 + 4


def test_decoding_huge_outputs_stays_finite():
    grid = lesson.make_grid(64)
    raw = torch.full((len(grid.points), 4), 1e4)
    assert lesson.decode_predictions(raw, grid).isfinite().all()


# -- 신경망 -------------------------------------------------------------------------------
def test_network_shape_size_and_prior():
    model = lesson.TinyYOLO(6).eval()
    output = model(torch.randint(0, 255, (2, 96, 128, 3), dtype=torch.uint8))
    assert output.shape == (2, 12 * 16 + 6 * 8 + 3 * 4, 10)
    assert 1e6 < model_utils.count_parameters(model) < 3e6
    assert output[..., 4:].sigmoid().mean() < 0.02


# -- NMS ----------------------------------------------------------------------------------
@relaxed
@given(seed=seeds, count=st.integers(0, 60), threshold=st.floats(0.1, 0.9))
def test_nms(seed, count, threshold):
    boxes, scores = boxes_of(seed, count).float(), torch.rand(count)
    labels = torch.randint(3, (count,))
    ours = lesson.nms(boxes, scores, threshold)
    assert ours.tolist() == ops.nms(boxes, scores, threshold).tolist()
    ours = lesson.batched_nms(boxes, scores, labels, threshold)
    assert ours.tolist() == ops.batched_nms(boxes, scores, labels, threshold).tolist()


def test_select_returns_one_box_for_a_perfect_cell():
    grid = lesson.make_grid(64)
    raw = torch.full((len(grid.points), 4 + 2), -20.0)
    raw[:, :4] = 0
    raw[[5, 6], 4 + 1] = torch.tensor([3.0, 2.0])
    raw[6, :4] = lesson.encode_targets(torch.tensor([[40.0, 0, 48, 8]]), grid)[6]
    boxes, labels, scores = lesson.select(raw, grid, least=0.3)
    assert labels.tolist() == [1] and scores[0] == pytest.approx(torch.tensor(3.0).sigmoid())
    assert boxes[0].tolist() == [40, 0, 48, 8]


# -- mAP ----------------------------------------------------------------------------------
def test_average_precision_by_hand():
    recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])
    assert lesson.average_precision(recall, precision, "area") == pytest.approx(5 / 6)
    assert lesson.average_precision(recall, precision, "11") == pytest.approx((6 + 5 * 2 / 3) / 11)
    ours = lesson.average_precision(recall, precision)
    assert ours == pytest.approx((51 + 50 * 2 / 3) / 101)


@pytest.mark.slow
def test_evaluation_equals_pycocotools_on_200_cases():
    worst, seconds = metrics.compare_with_pycocotools(lesson.evaluate_detections, 200, seed=1)
    assert worst <= 1e-6
    assert seconds["직접"] < 2 * seconds["pycocotools"]


def photo(boxes, labels, crowd=None):
    crowd = np.zeros(len(labels), bool) if crowd is None else np.array(crowd)
    return Photo(None, np.array(boxes, float).reshape(-1, 4), np.array(labels, int), crowd)


def found(boxes, labels, scores):
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(labels), np.array(scores))


def test_evaluation_of_simple_cases():
    truth = photo([[0, 0, 50, 50], [100, 100, 200, 200]], [0, 1])
    perfect = found(truth.boxes, [0, 1], [0.9, 0.8])
    assert lesson.evaluate_detections([perfect], [truth], 2).ap() == 1
    nothing = found([], [], [])
    scores = lesson.evaluate_detections([nothing], [truth], 3)
    assert (
        scores.ap() == 0 and math.isnan(scores.ap(label=2)) and math.isnan(scores.ap(size="작음"))
    )
    twice = found([*truth.boxes, *truth.boxes], [0, 1, 0, 1], [0.9, 0.8, 0.95, 0.7])
    assert lesson.evaluate_detections([twice], [truth], 2).ap() == 1  # 뒤의 중복은 재현율 1 다음
    crowd = photo([[0, 0, 50, 50], [100, 100, 200, 200]], [0, 0], [False, True])
    inside = found([[0, 0, 50, 50], [110, 110, 130, 130]], [0, 0], [0.5, 0.9])
    assert lesson.evaluate_detections([inside], [crowd], 1).ap() == 1  # 무리 안의 예측은 세지 않음


@relaxed
@given(seed=seeds, n=st.integers(0, 6), m=st.integers(0, 6))
def test_crowd_iou_is_the_lessons_iou(seed, n, m):
    a, b = boxes_of(seed, n), boxes_of(seed + 1, m)
    crowd = np.arange(m) % 2 == 1
    ours = metrics.crowd_iou(a.numpy(), b.numpy(), crowd)
    iou = lesson.box_iou(a, b).numpy()
    assert np.allclose(ours[:, ~crowd], iou[:, ~crowd], atol=1e-9)
    low, high = (
        f(a[:, None, k], b[None, :, k]).numpy()
        for f, k in ((torch.maximum, slice(0, 2)), (torch.minimum, slice(2, 4)))
    )
    inside = (high - low).clip(0).prod(axis=2) / ops.box_area(a).numpy()[:, None]
    assert np.allclose(ours[:, crowd], inside[:, crowd], atol=1e-9)


def test_class_names_without_a_glyph_do_not_stop_the_run(run, monkeypatch):
    dataset = lesson.load(run)
    odd = (*dataset.class_names[:-1], "한자 \U00020000")
    monkeypatch.setattr(dataset, "class_names", odd)
    lesson.section_result(run, lesson.TinyYOLO(6, 8))
    assert len(run.metrics["figures"]) == 4 and len(run.metrics["results"]) == 2


def test_blame_names_every_error():
    truth = photo([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], [0, 1, 0, 0])
    guesses = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 47, 5], [90, 0, 99, 9]]
    made = found(guesses, [0, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5])
    counts, pairs = metrics.blame(made, truth)
    assert counts == {"맞음": 1, "중복": 1, "클래스": 1, "위치": 1, "배경": 1, "놓침": 1}
    assert sorted(pairs) == sorted([(0, 0), (-1, 0), (1, 0), (-1, 0), (-1, 1), (0, -1)])


def test_blame_keeps_a_confused_object_free_and_skips_crowds():
    truth = photo([[0, 0, 10, 10], [50, 0, 90, 40]], [0, 0], [False, True])
    made = found([[0, 0, 10, 10], [0, 0, 10, 10], [60, 5, 70, 15]], [1, 0, 0], [0.9, 0.8, 0.7])
    counts, _ = metrics.blame(made, truth)
    assert counts == {"클래스": 1, "맞음": 1, "놓침": 0}


def test_errors_and_threshold_curves_add_up():
    truths = [photo([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 1]), photo([], [])]
    made = [found([[0, 0, 10, 10]], [0], [0.6]), found([[5, 5, 9, 9]], [1], [0.4])]
    counts, matrix = metrics.count_errors(made, truths, 2)
    assert counts["맞음"] == 1 and counts["배경"] == 1 and counts["놓침"] == 1
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    curves = metrics.threshold_curves(made, truths)
    x, precision = curves["정밀도"]
    assert precision[0] == 0.5 and curves["재현율"][1][0] == 0.5
    assert precision[np.flatnonzero(x > 0.45)[0]] == 1 and curves["재현율"][1][-1] == 0


# -- 기준선 -------------------------------------------------------------------------------
def test_floors_on_drawn_scenes(street):
    dataset = detection.load("sample", street, True, scenes=40)
    photos, K = dataset.train, 6
    average = metrics.AverageBox(photos)
    boxes, labels, _ = average(photos[0])
    assert labels[0] == np.bincount(np.concatenate([p.labels for p in photos])).argmax()
    assert (boxes >= 0).all() and (boxes <= 256).all()
    contours = metrics.ContourDetector(photos, K)
    scores = []
    contours.tune(dataset.val, lambda guesses: scores.append(len(guesses)) or -contours.threshold)
    assert contours.threshold == 0.1 and scores == [len(dataset.val)] * 5
    made = [Detections(*contours(p)) for p in photos]
    assert lesson.evaluate_detections(made, photos, K).ap(0.5) > 0.1  # 배운 사진에서는 찾음


def test_simple_photo_has_few_separate_objects():
    crowded, near = (
        photo(np.tile([0, 0, 9, 9], (20, 1)), [0] * 20),
        photo([[0, 0, 9, 9]] * 2, [0, 1]),
    )
    good = photo([[0, 0, 9, 9], [50, 50, 80, 80]], [0, 1])
    assert detection.simple_photo([photo([], []), crowded, near, good]) is good
    assert detection.simple_photo([photo([], []), crowded]) is crowded


# -- 손실과 담당 ----------------------------------------------------------------------------
def targets(seed, count=3, size=128, num_classes=4):
    torch.manual_seed(seed)
    corner = torch.rand(2, count, 2) * size * 0.6
    boxes = torch.cat([corner, corner + 6 + torch.rand(2, count, 2) * size * 0.3], dim=2)
    labels = torch.randint(num_classes, (2, count))
    labels[1, -1] = -1  # 빈자리
    boxes[1, -1] = 0
    return boxes, labels


@relaxed
@given(seed=seeds, aligned=st.booleans())
def test_assignment_gives_cells_to_real_objects_only(seed, aligned):
    boxes, labels = targets(seed)
    grid, size = lesson.make_grid(128), 128
    P = len(grid.points)
    scores, predicted = torch.rand(2, P, 4), boxes_of(seed, 2 * P, size).float().view(2, P, 4)
    assign = lesson.assign_aligned if aligned else lesson.assign_by_center
    owner, t = assign(scores, predicted, boxes, labels, grid)
    assert owner.shape == t.shape == (2, P) and (t >= 0).all() and (t <= 1).all()
    near = lesson.near_center(boxes, labels, grid)  # (B, M, P)
    chosen = near.gather(1, owner[:, None])[:, 0]
    assert chosen[t > 0].all() and (labels.gather(1, owner)[t > 0] >= 0).all()
    if aligned:
        counts = F.one_hot(owner, 3).float().mul((t > 0)[..., None]).sum(dim=1)
        assert counts.max() <= 9


def test_center_assignment_follows_the_size():
    boxes = torch.tensor([[[50.0, 50, 66, 66], [60, 60, 120, 130], [0, 0, 200, 180]]])
    labels, grid = torch.tensor([[0, 1, 2]]), lesson.make_grid(256)
    owner, t = lesson.assign_by_center(None, None, boxes, labels, grid)
    used = [set(grid.strides[(t[0] > 0) & (owner[0] == k), 0].tolist()) for k in range(3)]
    assert used == [{8.0}, {16.0}, {32.0}]


@relaxed
@given(seed=seeds)
def test_loss_is_finite_with_finite_gradient(seed):
    boxes, labels = targets(seed)
    grid = lesson.make_grid(128)
    raw = (20 * torch.randn(2, len(grid.points), 8)).requires_grad_()
    class_loss, box_loss, *_ = lesson.detection_loss(raw, boxes, labels, grid)
    (class_loss + 5 * box_loss).backward()
    assert class_loss.isfinite() and box_loss.isfinite() and raw.grad.isfinite().all()


def test_loss_of_photos_without_objects():
    blank = Example(np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    _, boxes, labels = collate([blank, blank], torch.device("cpu"))
    grid = lesson.make_grid(64)
    raw = torch.full((2, len(grid.points), 6), 0.1, requires_grad=True)
    class_loss, box_loss, _, t = lesson.detection_loss(raw, boxes, labels, grid)
    class_loss.backward()
    assert box_loss == 0 and t.sum() == 0 and (raw.grad[..., 4:] > 0).all()


@relaxed
@given(seed=seeds, scale=st.floats(0.1, 100))
def test_binary_cross_entropy(seed, scale):
    torch.manual_seed(seed)
    logits, answers = scale * torch.randn(20).double(), torch.rand(20).double()
    library = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    assert same(lesson.binary_cross_entropy(logits, answers), library)


# -- 학습 ---------------------------------------------------------------------------------
@relaxed
@given(d=st.floats(0, 1))
def test_update_ema(d):
    old, new = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    before = {key: value.clone() for key, value in old.state_dict().items()}
    lesson.update_ema(old, new, d)
    for key, value in old.state_dict().items():
        if value.is_floating_point():
            expected = d * before[key] + (1 - d) * new.state_dict()[key]
            assert torch.allclose(value, expected, atol=1e-6)
        else:
            assert value == new.state_dict()[key]


@pytest.mark.slow
def test_no_nan_in_ten_seeds(run):
    for seed in range(10):
        run.seed = seed
        dataset = lesson.load(run)
        examples = [lesson.prepare(photo, 96) for photo in dataset.train]
        _, album, history = lesson.train(run, examples, dataset.val)
        assert len(album.pages) == len(history) == 1
        assert all(math.isfinite(value) for value in history[0].values())


@pytest.mark.slow
@pytest.mark.skipif(not COCO128.exists(), reason="data/coco128이 없음")
def test_overfits_one_coco_photo(tmp_path):
    folders = "--output-dir", str(tmp_path), "--data-dir", str(COCO128)
    run = lesson.chapter.start(["--device", "cpu", "--only", "6.7", *folders])
    lesson.section_loss(run)
    gates = [check for check in run.metrics["checks"] if "외운" in check["name"]]
    assert len(gates) == 2 and run.seconds["6.7"] < 60


@pytest.mark.skipif(not BCCD.exists(), reason="data/bccd가 없음")
def test_bccd_is_read_by_the_lesson(tmp_path):
    folders = "--output-dir", str(tmp_path), "--data-dir", str(BCCD)
    run = lesson.chapter.start(["--device", "cpu", *folders])
    dataset = lesson.load(run)
    example = lesson.prepare(dataset.train[0], 320)
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    assert example.boxes.max() <= 320 and example.boxes.min() >= 0


# -- 실시간 -------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
def test_fuse_conv_bn(bias):
    conv, norm = nn.Conv2d(3, 5, 3, stride=2, bias=bias), nn.BatchNorm2d(5).eval()
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.5, 2)
    x = torch.randn(2, 3, 9, 9)
    ours, library = lesson.fuse_conv_bn(conv, norm), nn.utils.fuse_conv_bn_eval(conv.eval(), norm)
    assert same(ours(x), norm(conv(x)), atol=1e-5) and same(ours(x), library(x), atol=1e-5)


def test_fused_model_has_no_norm_and_answers_the_same():
    model = lesson.TinyYOLO(3, width=8).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
    fused = model_utils.fuse(model, lesson.fuse_conv_bn)
    x = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert same(fused(x), model(x), atol=1e-3)


# -- 예측과 동영상 ---------------------------------------------------------------------------
@pytest.fixture
def trained(run):
    """학습한 척하는 모델이 저장된 결과 폴더입니다."""
    torch.manual_seed(0)
    names = ["stop sign", "시계"]
    about = {"width": 8, "size": 96, "names": names}
    model_utils.save_weights(run.path("model.pt"), lesson.TinyYOLO(2, 8), **about)
    return run


def start(run, **options):
    run.config = dataclasses.replace(run.config, **options)
    return lesson.predict_files(run)


def test_predict_a_photo_and_a_folder(trained, tmp_path, capsys):
    folder = tmp_path / "사진"
    folder.mkdir()
    for k, size in enumerate(((40, 30), (3, 500), (1, 1))):
        cv2.imencode(".png", np.full((*size, 3), 90, np.uint8))[1].tofile(folder / f"{k}.png")
    assert list(start(trained, predict=str(folder / "0.png"))) == [str(folder / "0.png")]
    assert len(start(trained, predict=str(folder))) == 3
    assert "물체" in capsys.readouterr().out and (trained.folder / "predict.png").exists()


def test_shown_boxes_stay_inside_the_photo(trained, tmp_path, capsys):
    file = tmp_path / "한 장.png"
    cv2.imencode(".png", np.full((40, 60, 3), 90, np.uint8))[1].tofile(file)
    look = lambda image: found([[-5, 3, 80, 44]], [0], [0.9])  # noqa: E731
    assert video.show_photos(trained, file, look, ["시계"]) == {str(file): ["시계"]}
    assert "[0, 3, 60, 40]" in capsys.readouterr().out


def test_video_in_and_out(trained, tmp_path):
    clip = tmp_path / "clip.mp4"
    video.write_pan(np.full((64, 96, 3), 120, np.uint8), clip, count=7)
    target = tmp_path / "결과.mp4"
    assert start(trained, video=str(clip), out=str(target)) == {"frames": 7}
    assert len([*video.frames(str(target))]) == 7


def test_wrong_inputs_are_told_in_korean(trained, tmp_path):
    (tmp_path / "빈").mkdir()
    (tmp_path / "글.txt").write_text("사진이 아님", encoding="utf-8")
    for wrong in ("없음.png", "빈", "글.txt"):
        with pytest.raises(UserError, match=r"[가-힣]"):
            start(trained, predict=str(tmp_path / wrong))
    for wrong in ("없음.mp4", "글.txt"):
        with pytest.raises(UserError, match=r"[가-힣]"):
            start(trained, predict="", video=str(tmp_path / wrong))


@pytest.mark.slow
def test_wrong_runs_end_in_one_sentence(tmp_path):
    (tmp_path / "자료" / "images").mkdir(parents=True)
    cases = {
        ("--predict", "없음.png"): "강의를 끝까지 한 번 실행",
        ("--size", "100"): "32의 배수",
        ("--data-dir", str(tmp_path / "자료"), "--only", "6.2"): "형식을 알아볼 수 없습니다",
    }
    for arguments, message in cases.items():
        done = run_lesson(NAME, *arguments, output=tmp_path)
        assert done.status in (1, 2) and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


# -- 판정과 확인 ----------------------------------------------------------------------------
@pytest.mark.slow
def test_quick_run_learns(quick_runs):
    metrics = quick_runs(NAME).metrics
    result = metrics["results"]["mAP@0.5"]["value"]
    assert metrics["floors"]["색과 윤곽선, mAP@0.5"] < result < 0.6
    lost = [claim["claim"] for claim in metrics["claims"] if not claim["holds"]]
    assert lost == [], "빠른 확인에서 모두 성립하던 판정"


def test_published_numbers_are_those_of_torchvision():
    text = (ROOT / f"{NAME}.py").read_text(encoding="utf-8")
    for kind in (models.FasterRCNN_ResNet50_FPN_Weights, models.RetinaNet_ResNet50_FPN_Weights):
        meta = kind.COCO_V1.meta
        score = meta["_metrics"]["COCO-val2017"]["box_map"]
        assert f"{score} %  {round(meta['num_params'] / 10_000):,}만" in text


def no_half_pixel(image, matrix, width, height):
    return cv2.warpAffine(image, matrix, (width, height), borderValue=(114, 114, 114))


def alpha_with_gradient(a, b, aspect=True):
    iou, _, hull = lesson.overlap(a, b)
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    diou = iou - apart.square().sum(dim=-1) / (hull.square().sum(dim=-1) + 1e-7)
    angles = [torch.atan(s[..., 0] / s[..., 1]) for s in (lesson.sides(a), lesson.sides(b))]
    v = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    return diou - v / (1 - iou + v + 1e-7) * v if aspect else diou


def without_crowd(original):
    return lambda iou, crowd, ignored: original(iou, crowd & False, ignored)


def rows_first(size, device=None):
    points, strides = ORIGINAL_GRID(size, device)
    return lesson.Grid(points.flip(1), strides)  # (y, x)의 순서


ORIGINAL_GRID = lesson.make_grid
MUTATIONS = {
    "가로와 세로가 바뀐 격자": ("make_grid", lambda _: rows_first, "section_grid"),
    "반 픽셀을 고치지 않은 warp": ("warp", lambda _: no_half_pixel, "section_augmentation"),
    "미분되는 alpha": ("matched_iou", lambda _: alpha_with_gradient, "section_boxes"),
    "클래스를 보지 않는 NMS": (
        "batched_nms",
        lambda _: lambda boxes, scores, labels, threshold: lesson.nms(boxes, scores, threshold),
        "section_nms",
    ),
    "무리를 모르는 채점": ("match", without_crowd, "section_map"),
    "중심을 옮기지 않은 부호화": (
        "encode_targets",
        lambda original: lambda boxes, grid: original(boxes, grid) * 1.01,
        "section_grid",
    ),
    "평균을 빼지 않은 합치기": (
        "fuse_conv_bn",
        lambda original: (
            lambda conv, norm: original(
                conv, nn.BatchNorm2d(norm.num_features).to(conv.weight).eval()
            )
        ),
        "section_speed",
    ),
}


@pytest.mark.parametrize("title", MUTATIONS)
def test_checks_catch_mutations(title, run, monkeypatch):
    name, mutate, section = MUTATIONS[title]
    monkeypatch.setattr(lesson, name, mutate(getattr(lesson, name)))
    arguments = (lesson.TinyYOLO(6, 8),) if section == "section_speed" else ()
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run, *arguments)
