# %% [markdown]
"""
# 6강. YOLO로 물체 검출하기

| 항목 | 내용 |
|---|---|
| 배우는 것 | 상자, 손실, NMS, mAP를 손으로 만들어 표준 구현과 비교하고, 작은 YOLO를 학습시킵니다 |
| 먼저 볼 것 | 2강 2.5절(배치 정규화), 3강 3.1절(합성곱), 3.3절(수용 영역), 3.6절(데이터 증강) |
| 데이터 | COCO, YOLO, VOC 형식의 폴더(`--data-dir`). 없으면 코드로 그린 거리 장면 |
| 실행 | `python 06_yolo_object_detection.py` |
| 빠른 확인 | `python 06_yolo_object_detection.py --quick` |
| 기대 결과 | mAP@0.5 96.11 ± 0.40 %, 색과 윤곽선, mAP@0.5 18.74 % (거리 장면(표본) 3회, 438초) |
| 확인한 환경 | CPU 2코어, torch 2.15.0, Python 3.11.7, 2026-11-22 |
"""

# %%
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise, product
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchvision import ops
from tqdm import tqdm

from utils import lesson, metrics, model_utils, video
from utils import visualization as plot
from utils.command_line import option, setting
from utils.data_utils import jitter_color
from utils.datasets import detection
from utils.datasets.detection import Detections, Example, Photo, collate
from utils.device import autocast, latencies
from utils.lesson import Lesson, Run
from utils.model_utils import Album, count_parameters, load_weights, read_about


@dataclass(frozen=True)
class Config:
    epochs: int = setting(20, "마지막 학습에서 데이터를 몇 번 돌지(에폭)", low=1)
    batch_size: int = setting(16, "한 번에 보는 사진의 수", low=2)
    lr: float = setting(0.002, "학습률의 최댓값", above=0)
    size: int = setting(256, "모델이 보는 사진의 한 변(픽셀)", low=64, multiple=32)
    width: int = setting(32, "TinyYOLO의 너비", low=8)
    early: int = setting(1, "처음에 가운데 칸에 맡기고 배우는 에폭의 수", low=0)
    mosaic: float = setting(0.5, "모자이크로 배우는 비율 (끝의 5분의 1에서는 0)", low=0, below=1)
    scenes: int = setting(1600, "데이터를 주지 않을 때 그릴 학습 장면의 수", low=40)
    predict: str = option("", "이 사진이나 폴더의 사진에서 찾고 끝냅니다", metavar="PATH")
    video: str = option("", "이 동영상이나 웹캠(0)에 상자를 그리고 끝냅니다", metavar="FILE|0")
    out: str = option("", "--video의 결과 파일. 없으면 결과 폴더의 video.mp4", metavar="MP4")


QUICK = replace(Config(), epochs=5, batch_size=8, lr=0.008, size=192, width=16, early=3)
QUICK = replace(QUICK, mosaic=0.0, scenes=256)
chapter = Lesson(__file__, __doc__, Config(), QUICK)
LOSSES, SCORES = ("클래스 손실", "상자 손실"), ("mAP@0.5", "mAP@[.5:.95]")
load = lambda run: run.data(detection.load, scenes=run.config.scenes)
STRIDES, EPS = (8, 16, 32), 1e-7  # 세 격자의 칸이 몇 픽셀인지, 0으로 나누지 않게 할 작은 수


def sides(boxes):
    return boxes[..., 2:] - boxes[..., :2]  # 상자 (..., 4)의 너비와 높이 (..., 2)


# %% [markdown]
# ## 6.1 경계 상자와 IoU
# **왜 필요할까요?** 검출(detection)은 무엇이 어디에 있는지 답합니다. 자리는 **경계 상자**(bounding
# box)로 적습니다. 두 상자의 겹침은 IoU로 잽니다. 이 강의의 상자는 xyxy이고 단위는 픽셀입니다.
# ```text
# xyxy (x1, y1, x2, y2)      xywh (x1, y1, 너비, 높이)      cxcywh (중심 x, 중심 y, 너비, 높이)
# IoU  = 교집합 / 합집합          떨어져 있으면 늘 0이라 기울기도 0
# GIoU = IoU - (C - 합집합) / C   C 둘을 감싸는 가장 작은 상자의 넓이 (Rezatofighi 외 2019)
# DIoU = IoU - d^2 / c^2          d 중심 사이의 거리, c 감싸는 상자의 대각선 (Zheng 외 2020)
# CIoU = DIoU - alpha * v         v = 4 / pi^2 * (atan(너비 / 높이)의 차이)^2
#                                 alpha = v / (1 - IoU + v). 상수로 보고 미분하지 않음
# ```


# %%
def box_convert(boxes: Tensor, source: str, target: str) -> Tensor:
    """상자 (..., 4)의 표기를 바꿉니다. 모르는 표기이면 ValueError가 납니다."""
    if not {source, target} <= {"xyxy", "xywh", "cxcywh"}:
        raise ValueError(f"모르는 표기입니다: {source}, {target}")
    a, b = boxes[..., :2], boxes[..., 2:]
    if source != "xyxy":
        a, b = (a, a + b) if source == "xywh" else (a - b / 2, a + b / 2)
    if target != "xyxy":
        a, b = (a, b - a) if target == "xywh" else ((a + b) / 2, b - a)
    return torch.cat([a, b], dim=-1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """같은 차례의 상자끼리의 IoU, 합집합의 넓이, 둘을 감싸는 상자의 너비와 높이 (..., 2)입니다."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inside = (high - low).clamp(min=0).prod(dim=-1)
    union = sides(a).prod(dim=-1) + sides(b).prod(dim=-1) - inside
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    return inside / union.clamp(min=EPS), union, hull  # 왜: 넓이가 0이면 0 / 0


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """모든 짝의 IoU입니다. (..., N, 4), (..., M, 4) -> (..., N, M)"""
    return overlap(a[..., :, None, :], b[..., None, :, :])[0]


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """모든 짝의 GIoU입니다(Rezatofighi 외 2019, 알고리즘 1). 모양은 `box_iou`와 같습니다."""
    iou, union, hull = overlap(a[..., :, None, :], b[..., None, :, :])
    whole = hull.prod(dim=-1).clamp(min=EPS)
    return iou - (whole - union) / whole


def distance_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """모든 짝의 DIoU입니다(Zheng 외 2020, 식 7). 모양은 `box_iou`와 같습니다."""
    return matched_iou(a[..., :, None, :], b[..., None, :, :], aspect=False)


def complete_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """모든 짝의 CIoU입니다(Zheng 외 2020, 식 10). 모양은 `box_iou`와 같습니다."""
    return matched_iou(a[..., :, None, :], b[..., None, :, :])


def matched_iou(a: Tensor, b: Tensor, aspect: bool = True) -> Tensor:
    """같은 차례의 상자끼리의 CIoU(`aspect`가 False이면 DIoU)입니다. (..., 4) -> (...)"""
    iou, _, hull = overlap(a, b)
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2  # 중심의 차이
    diou = iou - apart.square().sum(dim=-1) / (hull.square().sum(dim=-1) + EPS)
    angles = [torch.atan(s[..., 0] / s[..., 1].clamp(min=EPS)) for s in (sides(a), sides(b))]
    v = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    alpha = (v / (1 - iou + v + EPS)).detach()
    return diou - alpha * v if aspect else diou


def random_boxes(count: int, size: float = 100.0) -> Tensor:
    corner = torch.rand(count, 2) * size
    return torch.cat([corner, corner + 1 + torch.rand(count, 2) * size / 2], dim=1)


@chapter.section("6.1", "경계 상자와 IoU")
def section_boxes(run: Run) -> None:
    a, b = random_boxes(20), random_boxes(30)
    for kind in ("xywh", "cxcywh"):
        changed = box_convert(a, "xyxy", kind)
        run.check(f"xyxy에서 {kind}로", changed, ops.box_convert(a, "xyxy", kind), atol=1e-4)
        run.check(f"{kind}에서 되돌리기", box_convert(changed, kind, "xyxy"), a, atol=1e-4)
    functions = {"IoU": box_iou, "GIoU": generalized_box_iou}
    functions |= {"DIoU": distance_box_iou, "CIoU": complete_box_iou}
    library = ops.box_iou, ops.generalized_box_iou, ops.distance_box_iou, ops.complete_box_iou
    for (name, ours), theirs in zip(functions.items(), library, strict=True):
        run.check_with_gradient(name, ours, theirs, a, b)
    huge = complete_box_iou(1e4 * a, b), library[3](1e4 * a, b)
    run.check("좌표가 백만인 상자의 CIoU", *huge, atol=1e-4)
    point = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)  # 넓이가 0인 상자
    values = torch.cat([function(point, point.detach()) for function in functions.values()])
    values.sum().backward()
    finite = torch.cat([values.flatten(), point.grad.flatten()]).isfinite()
    run.check("넓이가 0인 상자의 값과 기울기는 유한", finite, torch.ones(8), atol=0)
    start, target, pulls, curves = random_boxes(200), random_boxes(200), {}, {}
    apart = overlap(start, target)[0] == 0
    for name, function in functions.items():
        box, curve = start.clone().requires_grad_(), []
        optimizer = torch.optim.Adam([box], lr=1.0)
        for _ in range(200):
            optimizer.zero_grad()
            (1 - function(box[:, None], target[:, None])).sum().backward()  # 제 짝과만
            pulls.setdefault(name, box.grad[apart].norm(dim=1).mean().item())
            optimizer.step()
            curve.append(overlap(box.detach(), target)[0].mean().item())
        curves[name] = range(1, 201), curve
    figure = plot.line_figure(curves, "걸음", "정답과의 평균 IoU", "상자 200개를 정답으로 옮기기")
    run.figure(figure, "01_box_losses")
    text = "떨어진 상자에서 IoU의 기울기는 0이고 나머지 셋은 0이 아닙니다(기울기의 길이)"
    run.claim(text, pulls, pulls["IoU"] == 0 < min([*pulls.values()][1:]), unit="")
    last = [curve[-1] for _, curve in curves.values()]
    text = "200걸음 뒤의 IoU는 IoU, GIoU, DIoU, CIoU로 배운 차례로 높아집니다"
    run.claim(text, dict(zip(curves, last, strict=True)), last == sorted(last), unit="")


# %% [markdown]
# **읽는 법.** GIoU는 감싸는 상자의 빈 곳을, DIoU와 CIoU는 중심의 거리를 줄입니다(식의 둘째 항).
#
# ## 6.2 레터박스와 증강
# **왜 필요할까요?** 모델은 정사각형을 봅니다. 사진을 비율대로 줄이고 남는 곳을 회색으로 채웁니다
# (**레터박스**, letterbox). 증강할 때도 사진과 상자를 같은 행렬로 옮깁니다.
# ```text
# x' = sx * x + tx,  y' = sy * y + ty      matrix [[sx, 0, tx], [0, sy, ty]]. sx가 음수이면 뒤집기
# 모자이크   사진 넷을 옮겨 네 칸에 하나씩 붙임 (mosaic, Bochkovskiy 외 2020)
# 상자       제 자리 밖은 자름. 넓이의 30 %가 남고 짧은 변이 2픽셀을 넘어야 남김
# ```


# %%
def letterbox(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """사진 (H, W, 3)을 비율대로 (size, size, 3)에 넣고, 좌표를 옮기는 행렬 (2, 3)도 냅니다."""
    H, W = image.shape[:2]
    height, width = (max(1, round(side * size / max(H, W))) for side in (H, W))
    top, left = (size - height) // 2, (size - width) // 2
    method = cv2.INTER_AREA if size < max(H, W) else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=method)
    boxed = np.full((size, size, 3), 114, np.uint8)
    boxed[top : top + height, left : left + width] = small
    return boxed, np.array([[width / W, 0, left], [0, height / H, top]])


def move_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """상자 (n, 4)를 행렬 (2, 3)으로 옮깁니다. 뒤집히면 왼쪽과 오른쪽이 바뀝니다."""
    corners = boxes.reshape(-1, 2, 2) * matrix.diagonal() + matrix[:, 2]
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def unletterbox(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`letterbox`의 행렬로 옮긴 상자 (n, 4)를 원래 사진의 좌표로 되돌립니다."""
    back = np.diag(1 / matrix.diagonal()) @ np.eye(2, 3)  # [[1 / sx, 0, 0], [0, 1 / sy, 0]]
    return move_boxes(boxes - np.tile(matrix[:, 2], 2), back)


def warp(image: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """사진을 행렬로 옮깁니다. 빈 곳은 회색입니다."""
    matrix = matrix.copy()  # 주의: 상자의 0은 첫 픽셀의 왼쪽 끝, warpAffine의 0은 첫 픽셀의 가운데
    matrix[:, 2] += (matrix.diagonal() - 1) / 2
    return cv2.warpAffine(image, matrix, (width, height), borderValue=(114, 114, 114))


def random_matrix(rng: np.random.Generator, size: int, move: float) -> np.ndarray:
    """0.67~1.5배로 바꾸고 `move * size`까지 옮기고, 절반의 확률로 뒤집는 행렬 (2, 3)입니다."""
    scale, flip = math.exp(rng.uniform(-0.4, 0.4)), rng.choice((-1, 1))
    x, y = size * (0.5 + rng.uniform(-move, move, 2))  # 사진의 가운데가 갈 자리
    half = scale * size / 2
    return np.array([[flip * scale, 0, x - flip * half], [0, scale, y - half]])


def prepare(photo: Photo, size: int) -> Example:
    (image, matrix), single = letterbox(photo.read(), size), ~photo.crowd  # 무리(6.6절)는 뺌
    return Example(image, move_boxes(photo.boxes[single], matrix), photo.labels[single])


def augment(rng: np.random.Generator, sources: Sequence[Example]) -> Example:
    """하나를 받으면 그것을 바꾸고, 넷을 받으면 모자이크를 만듭니다."""
    size, alone = len(sources[0].image), len(sources) == 1
    x, y = (size, size) if alone else rng.integers(size // 4, 3 * size // 4 + 1, 2).tolist()
    canvas, boxes, labels = np.empty((size, size, 3), np.uint8), [], []
    for k, source in enumerate(sources):
        left, right = (x, size) if k % 2 else (0, x)
        top, bottom = (y, size) if k > 1 else (0, y)
        matrix = random_matrix(rng, size, move=0.15 if alone else 0.25)
        matrix[:, 2] += (np.array([left + right, top + bottom]) - size) / 2  # 칸의 가운데로
        inner = matrix - np.array([[0, 0, left], [0, 0, top]])
        part = warp(source.image, inner, right - left, bottom - top)
        canvas[top:bottom, left:right] = part
        moved = move_boxes(source.boxes, matrix)
        clipped = moved.clip([left, top] * 2, [right, bottom] * 2).astype(np.float32)
        seen = sides(clipped).prod(axis=1) > 0.3 * sides(moved).prod(axis=1)
        kept = seen & (sides(clipped).min(axis=1, initial=1e9) > 2)
        boxes, labels = [*boxes, clipped[kept]], [*labels, source.labels[kept]]
    return Example(jitter_color(rng, canvas), np.concatenate(boxes), np.concatenate(labels))


@chapter.section("6.2", "레터박스와 증강")
def section_augmentation(run: Run) -> None:
    rng, size, errors = np.random.default_rng(run.seed), run.config.size, []
    for _ in range(20):  # 크기가 다른 사진에 흰 직사각형을 그려, 옮긴 뒤의 자리를 잼
        image, box = metrics.white_box(rng)
        small, matrix = letterbox(image, size)
        inside, moving = move_boxes(box, matrix), random_matrix(rng, size, 0.1)
        pairs = [(metrics.measure_box(small), inside), (unletterbox(inside, matrix), box)]
        turned = metrics.measure_box(warp(small, moving, size, size))
        pairs.append((turned, move_boxes(inside, moving)))
        errors.append([np.abs(measured - moved).max() for measured, moved in pairs])
    names = "레터박스의 상자(픽셀)", "되돌린 상자(픽셀)", "뒤집고 옮긴 상자(픽셀)"
    for name, error, atol in zip(names, np.max(errors, axis=0), (0.2, 1e-3, 0.3), strict=True):
        run.check(name, error, 0.0, atol)
    examples = [prepare(photo, size) for photo in load(run).train[:40]]
    others = rng.integers(len(examples), size=(4, 3))
    mosaics = [[examples[k], *(examples[i] for i in three)] for k, three in enumerate(others)]
    triples = [(four[0], augment(rng, four[:1]), augment(rng, four)) for four in mosaics]
    images = [plot.draw_boxes(*one, names=load(run).class_names) for row in triples for one in row]
    titles, title = ["레터박스", "옮기기, 색", "모자이크"] * 4, "사진과 상자를 함께 바꾸기"
    figure = plot.image_grid(images, titles, 6, title, side=2.2)
    run.figure(figure, "02_augmentation")


# %% [markdown]
# **읽는 법.** 상자가 물체에 꼭 맞는지 그림을 보세요. 어긋난 채 학습해도 오류는 나지 않습니다.
#
# ## 6.3 격자와 앵커
# **왜 필요할까요?** 물체의 수는 사진마다 다르고 모델의 출력은 크기가 정해져 있습니다. YOLO는 사진을
# **격자**(grid)로 나누고 칸마다 예측합니다. 이 강의는 칸마다 상자를 하나씩 예측합니다.
# ```text
# v1 (2016)          7x7 격자. 칸마다 너비와 높이를 사진에 대한 비율로 예측
# v2, v3 (2017~18)   미리 정한 크기인 앵커(anchor)에 곱할 배율을 예측. 앵커는 k-평균으로 찾음
# 앵커 없이          칸의 한 변(스트라이드)에 곱할 배율을 예측 (YOLOX 2021). 이 강의도 비슷함
# cx = px + stride * raw[0]    w = stride * exp(raw[2])       (px, py) 칸의 가운데
# cy = py + stride * raw[1]    h = stride * exp(raw[3])       raw (..., 4) 모델의 출력
# ```


# %%
size_iou = lambda a, b: box_iou(F.pad(a, (2, 0)), F.pad(b, (2, 0)))  # 왼쪽 위를 맞춘 두 크기의 IoU


def kmeans_anchors(sizes: Tensor, k: int, rounds: int = 100) -> Tensor:
    """1 - IoU가 거리인 k-평균입니다(Redmon과 Farhadi 2017, 2절). 크기 (N, 2) -> 앵커 (k, 2)"""
    order = sizes.prod(dim=1).argsort()
    anchors = sizes[order[torch.linspace(0, len(sizes) - 1, k).long()]].clone()
    for _ in range(rounds):
        nearest, before = size_iou(sizes, anchors).argmax(dim=1), anchors.clone()
        for i in nearest.unique():
            anchors[i] = sizes[nearest == i].mean(dim=0)
        if anchors.equal(before):
            break
    return anchors


class Grid(NamedTuple):  # 세 격자의 칸을 모두 이은 것. P는 칸의 수
    points: Tensor  # (P, 2) 칸의 가운데
    strides: Tensor  # (P, 1)


def make_grid(size: int, device: torch.device | None = None) -> Grid:
    points, strides = [], []
    for stride in STRIDES:
        line = (torch.arange(size // stride, device=device) + 0.5) * stride
        points.append(torch.cartesian_prod(line, line).flip(1))  # (y, x)의 순서를 (x, y)로
        strides.append(torch.full((len(line) ** 2, 1), float(stride), device=device))
    return Grid(torch.cat(points), torch.cat(strides))


def encode_targets(boxes: Tensor, grid: Grid) -> Tensor:
    """상자 (..., P, 4)를 예측하려면 칸마다 내야 할 값 (..., P, 4)입니다."""
    center, size = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=-1)
    return torch.cat([(center - grid.points) / grid.strides, (size / grid.strides).log()], dim=-1)


def decode_predictions(raw: Tensor, grid: Grid) -> Tensor:
    """모델의 출력 (..., P, 4)를 상자 (..., P, 4)로 바꿉니다."""
    center = grid.points + raw[..., :2] * grid.strides
    half = raw[..., 2:].clamp(max=6).exp() * grid.strides / 2  # 왜: 무한대가 되지 않게
    return torch.cat([center - half, center + half], dim=-1)


@chapter.section("6.3", "격자와 앵커")
def section_grid(run: Run) -> None:
    size, grid = run.config.size, make_grid(run.config.size, run.device)
    line = torch.arange(size, device=run.device) + 0.5
    image = torch.stack(torch.meshgrid(line, line, indexing="xy"))  # 픽셀마다의 x와 y (2, S, S)
    cells = torch.cat([F.avg_pool2d(image, stride).flatten(1).T for stride in STRIDES])
    run.check("칸의 가운데와, 칸 안 픽셀의 평균 자리", grid.points, cells, atol=1e-3)
    boxes = random_boxes(len(cells), size).to(run.device)
    decoded = decode_predictions(encode_targets(boxes, grid), grid)
    run.check("값으로 바꾸었다가 되돌린 상자", decoded, boxes, atol=1e-2)
    found = [sides(prepare(photo, size).boxes) for photo in load(run).train[:400]]
    found = torch.from_numpy(np.concatenate(found)).float()  # 모델이 보는 크기로 잰 (N, 2)
    anchors = {"앵커 9개": kmeans_anchors(found, 9), "앵커 3개": kmeans_anchors(found, 3)}
    anchors["스트라이드 3개"] = torch.tensor([[float(stride)] * 2 for stride in STRIDES])
    best = {name: size_iou(found, a).amax(dim=1).mean().item() for name, a in anchors.items()}
    labels = "너비(픽셀)", "높이(픽셀)", "상자와 앵커"
    run.figure(plot.scatter_figure({"상자": found} | anchors, *labels), "03_anchors")
    text = "k-평균으로 찾은 앵커 3개는 스트라이드 3개보다 학습 상자와 더 겹칩니다(평균 IoU)"
    run.claim(text, best, best["앵커 3개"] > best["스트라이드 3개"], unit="")


# %% [markdown]
# **읽는 법.** 앵커는 데이터마다 찾습니다. 스트라이드만 쓰면 모자라는 배율을 학습이 채워야 합니다.
#
# ## 6.4 신경망
# **왜 필요할까요?** 깊은 특징은 무엇인지를 알지만 거칠고, 얕은 특징은 그 반대입니다. **특징
# 피라미드**(feature pyramid)는 깊은 것을 늘려 얕은 것에 더합니다. 상자와 클래스는 저마다의 **머리**
# (head)가 예측합니다.
# ```text
# 몸통   1/2 -> 1/4 -> C3 1/8 -> C4 1/16 -> C5 1/32          스트라이드 2인 합성곱으로 줄임
# 목     P5 = lateral(C5)    P4 = lateral(C4) + 두 배로(P5)    P3 = lateral(C3) + 두 배로(P4)
# 머리   칸마다 상자를 정하는 값 4개와 클래스 점수 K개   출력 (B, P, 4 + K)   lateral 1x1 합성곱
# ```


# %%
def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU(inplace=True))


class Bottleneck(nn.Module):  # 1x1로 채널을 절반으로 줄인 뒤 3x3을 하는 잔차 블록
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, channels // 2, kernel=1)
        self.conv = conv_bn(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.reduce(x))


class TinyYOLO(nn.Module):
    """사진 (B, S, S, 3), 0~255 -> (B, P, 4 + K). 주의: YOLOX와 달리 물체일 확률은 따로 없습니다."""

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        neck, stages = 2 * width, []
        for inputs, outputs in pairwise(width * k // 2 for k in (1, 2, 4, 8, 16)):
            blocks = (Bottleneck(outputs) for _ in range(1 + (outputs == 4 * width)))  # C4만 둘
            stages.append(nn.Sequential(conv_bn(inputs, outputs, stride=2), *blocks))
        self.stem, self.stages = conv_bn(3, width // 2, stride=2), nn.ModuleList(stages)
        self.lateral = nn.ModuleList(conv_bn(k * width, neck, kernel=1) for k in (2, 4, 8))
        head = lambda outputs: nn.Sequential(conv_bn(neck, neck), nn.Conv2d(neck, outputs, 1))
        levels = lambda outputs: nn.ModuleList(head(outputs) for _ in STRIDES)
        self.boxes, self.classes = levels(4), levels(num_classes)
        for layer in self.classes:  # 왜: 칸은 거의 다 배경이므로 처음 확률을 0.01로 (Lin 외 2017)
            nn.init.constant_(layer[-1].bias, -math.log(99))

    def features(self, images: Tensor) -> list[Tensor]:
        """C3 (B, 2w, S/8, S/8), C4 (B, 4w, S/16, S/16), C5 (B, 8w, S/32, S/32)입니다. w 너비"""
        x, found = self.stem(images.permute(0, 3, 1, 2) / 64 - 2), []  # -2~2
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[1:]

    def forward(self, images: Tensor) -> Tensor:
        levels = [layer(x) for layer, x in zip(self.lateral, self.features(images), strict=True)]
        for k in (1, 0):
            levels[k] = levels[k] + F.interpolate(levels[k + 1], scale_factor=2.0)
        heads = zip(self.boxes, self.classes, levels, strict=True)
        outputs = [torch.cat([box(x), kind(x)], dim=1).flatten(2) for box, kind, x in heads]
        return torch.cat(outputs, dim=2).transpose(1, 2)  # (B, 4 + K, P) -> (B, P, 4 + K)


def make(run: Run) -> TinyYOLO:
    torch.manual_seed(run.seed)  # 왜: 모델은 모두 같은 난수에서 시작
    model = TinyYOLO(len(load(run).class_names), run.config.width)
    return model.to(run.device, memory_format=torch.channels_last)


@chapter.section("6.4", "신경망")
def section_network(run: Run) -> None:
    size, model = run.config.size, make(run).eval()
    images = torch.randn(1, size, size, 3, device=run.device, requires_grad=True)
    model_utils.print_stages(model.features(images), images)
    shape = 1, len(make_grid(size).points), 4 + len(load(run).class_names)
    run.check("출력의 모양 (B, P, 4 + K)", tuple(model(images).shape), shape, atol=0)
    cost = model_utils.count_multiplications(model, images.detach())
    print(f"  매개변수 {count_parameters(model):,}개, 사진 한 장에 곱셈 {cost / 1e6:,.0f}백만 번")


# %% [markdown]
# **읽는 법.** 한 칸이 큰 물체를 다 보려면 깊은 특징이 있어야 합니다. 그래서 얕은 단계에도 더합니다.
#
# ## 6.5 NMS
# **왜 필요할까요?** 한 물체를 여러 칸이 찾아 거의 같은 상자가 여럿 나옵니다. **NMS**(non-maximum
# suppression)는 점수가 가장 높은 상자를 남기고, 그것과 많이 겹치는 것을 지우기를 되풀이합니다.
# ```text
# 점수의 순서로   첫째를 남김 -> 그것과의 IoU가 IoU 문턱보다 큰 것을 지움 -> 남은 첫째를 남김 ...
# 클래스마다      상자를 클래스 번호 * (좌표의 폭 + 1)만큼 옮겨 두면 한 번에 할 수 있음
# ```


# %%
def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """NMS입니다. 상자 (n, 4), 점수 (n,) -> 남긴 것의 번호 (m,), 점수의 순서."""
    order, kept = scores.argsort(descending=True, stable=True), []
    covers = box_iou(boxes[order], boxes[order]) > threshold  # (n, n)
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for k in range(len(order)):
        if alive[k]:
            kept.append(k)
            alive &= ~covers[k]
    return order[kept]


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """클래스마다 따로 하는 NMS입니다. 다른 클래스의 상자는 서로 지우지 않습니다."""
    if not len(boxes):
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    return nms(boxes + labels[:, None] * (boxes.max() - boxes.min() + 1), scores, threshold)


def select(raw: Tensor, grid: Grid, least: float, threshold: float = 0.6) -> list[np.ndarray]:
    """출력 (P, 4 + K)에서 점수가 `least`보다 큰 것을 NMS로 골라 상자, 클래스, 점수를 냅니다."""
    boxes, scores = decode_predictions(raw[:, :4], grid), raw[:, 4:].sigmoid()
    which, labels = (scores > least).nonzero(as_tuple=True)  # 한 칸이 여러 클래스일 수 있음
    values, best = scores[which, labels].topk(min(1000, len(which)))
    boxes, labels = boxes[which[best]], labels[best]
    kept = ops.batched_nms(boxes, values, labels, threshold)[:100]  # 위의 것과 같고 빠름
    return [t[kept].cpu().numpy() for t in (boxes, labels, values)]


@torch.inference_mode()
def detect(model, images: Iterable[np.ndarray], size: int, dtype, least=0.01) -> list[Detections]:
    """사진들 (H, W, 3)에서 찾습니다. 상자는 원래 사진의 좌표입니다."""
    found, device, images = [], next(model.parameters()).device, iter(images)
    grid, _ = make_grid(size, device), model.eval()
    while chunk := [letterbox(image, size) for image in islice(images, 25)]:
        batch = torch.from_numpy(np.stack([image for image, _ in chunk])).to(device)
        with autocast(device, dtype):
            raw = model(batch)
        for one, (_, matrix) in zip(raw.float(), chunk, strict=True):
            boxes, *rest = select(one, grid, least)
            found.append(Detections(unletterbox(boxes, matrix), *rest))
    return found


@chapter.section("6.5", "NMS")
def section_nms(run: Run) -> None:
    boxes, scores = random_boxes(300).to(run.device), torch.rand(300, device=run.device)
    labels = torch.randint(4, (300,), device=run.device)
    run.check("NMS", nms(boxes, scores, 0.5), ops.nms(boxes, scores, 0.5), atol=0)
    ours, theirs = (f(boxes, scores, labels, 0.5) for f in (batched_nms, ops.batched_nms))
    run.check("클래스별 NMS", ours, theirs, atol=0)


# %% [markdown]
# **읽는 법.** IoU 문턱이 낮으면 겹친 물체를 지울 수 있고, 높으면 군더더기가 남을 수 있습니다.
#
# ## 6.6 mAP
# **왜 필요할까요?** 찾은 것 가운데 맞은 비율(정밀도)과 있는 것 가운데 찾은 비율(재현율)을 함께
# 봅니다. 점수의 문턱을 낮추며 그린 두 값의 곡선 아래 넓이가 AP이고, 클래스의 평균이 **mAP**입니다.
# ```text
# 짝짓기      점수의 순서로, IoU가 문턱 이상이고 짝이 없는 정답 가운데 가장 겹치는 것과 짝지음
# 정밀도      맞은 것 / (맞은 것 + 틀린 것). 매끈하게: 정밀도[i] = 최댓값(정밀도[i:])
# 재현율      맞은 것 / 정답의 수
# 무시        무리(crowd, 여럿을 묶은 상자)나 재는 크기 밖의 정답과 짝지은 예측은 세지 않음
# AP          재현율 11곳(0, 0.1, ..., 1)이나 101곳(COCO)의 정밀도 평균, 또는 계단의 넓이
# mAP@0.5     IoU 문턱이 0.5일 때           mAP@[.5:.95]   IoU 문턱 0.5, 0.55, ..., 0.95의 평균
# ```
# 손으로 푼 예: 정답이 셋이고 예측이 맞음, 틀림, 맞음, 틀림, 맞음이면 매끈한 정밀도는 재현율 1/3까지
# 1, 2/3까지 2/3, 1까지 3/5입니다. 넓이는 34/45, 11점은 (4 + 3 * 2/3 + 4 * 3/5) / 11입니다.


# %%
THRESHOLDS, RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
AREAS = {"모두": (0, 1e10), "작음": (0, 32**2), "중간": (32**2, 96**2), "큼": (96**2, 1e10)}  # 픽셀


def precision_at(recall: np.ndarray, precision: np.ndarray, points: np.ndarray) -> np.ndarray:
    """재현율이 `points` 이상인 첫 자리의 매끈한 정밀도입니다. 그런 자리가 없으면 0입니다."""
    smooth = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return smooth[np.searchsorted(recall, points, side="left")]


def average_precision(recall: np.ndarray, precision: np.ndarray, method: str = "101") -> float:
    """AP입니다. 두 배열 (n,)은 점수의 문턱을 낮추는 순서이고 방식은 `11`, `101`, `area`입니다."""
    if method == "area":
        return float(np.diff(recall, prepend=0.0) @ precision_at(recall, precision, recall))
    points = {"11": np.linspace(0, 1, 11), "101": RECALLS}[method]
    return float(precision_at(recall, precision, points).mean())


def match(iou: np.ndarray, crowd: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """점수 순서의 예측과 정답의 IoU (D, G)로, 크기 구간 A개와 IoU 문턱 T개의 짝을 짓습니다."""
    # 세지 않을 정답 (A, G) -> 예측마다 짝이 있는가, 그 짝을 세지 않는가 (2, A, T, D)
    (D, G), A, T = iou.shape, len(ignored), len(THRESHOLDS)
    result, free = np.zeros((2, A, T, D), bool), np.ones((A, T, G), bool)
    rows, columns = np.ogrid[:A, :T]
    for d in np.flatnonzero((iou >= THRESHOLDS[0]).any(axis=1)):  # 나머지는 짝이 없음
        good = (iou[d] >= THRESHOLDS[:, None]) & (free | crowd)  # (A, T, G)
        value = np.where(good, iou[d] + 2.0 * ~ignored[:, None], -1.0)  # 세는 정답이 먼저
        best = G - 1 - value[..., ::-1].argmax(axis=2)  # IoU가 같으면 뒤의 것(COCO의 규칙)
        found = good[rows, columns, best]  # (A, T)
        result[..., d] = found, found & ignored[rows, best]
        free[rows, columns, best] &= ~found
    return result


class Evaluation(NamedTuple):
    precision: np.ndarray  # (T, 101, K, A) 문턱, 재현율, 클래스, 크기. 정답이 없는 곳은 -1

    def ap(self, threshold: float | None = None, label: int | None = None, size="모두") -> float:
        """mAP입니다. 문턱을 주지 않으면 0.5~0.95의, 클래스를 주지 않으면 모두의 평균입니다."""
        values = self.precision[..., [*AREAS].index(size)]  # (T, 101, K)
        values = values if label is None else values[..., label]
        values = values if threshold is None else values[np.abs(THRESHOLDS - threshold).argmin()]
        return float(values[values > -1].mean()) if (values > -1).any() else math.nan


def evaluate_detections(predictions: Sequence, truths: Sequence, num_classes: int) -> Evaluation:
    """`Detections`와 `Photo`의 목록을 COCO의 방식으로 채점합니다. 넓이는 상자의 넓이입니다."""
    limits = np.array([*AREAS.values()])[..., None]  # (A, 2, 1)
    precision = np.full((len(THRESHOLDS), 101, num_classes, len(AREAS)), -1.0)
    for label in range(num_classes):
        rows, total = [], np.zeros(len(AREAS), int)
        for found, truth in zip(predictions, truths, strict=True):
            chosen, mine = truth.labels == label, np.flatnonzero(found.labels == label)
            mine = mine[np.argsort(-found.scores[mine], kind="stable")][:100]
            boxes, crowd, guesses = truth.boxes[chosen], truth.crowd[chosen], found.boxes[mine]
            sizes = (sides(part).prod(axis=1) for part in (boxes, guesses))
            ignored, outside = ((s < limits[:, 0]) | (s > limits[:, 1]) for s in sizes)  # (A, n)
            ignored = ignored | crowd  # 재는 크기를 벗어난 것과 무리
            total += (~ignored).sum(axis=1)
            matched, skipped = match(metrics.crowd_iou(guesses, boxes, crowd), crowd, ignored)
            rows.append((matched, skipped | ~matched & outside[:, None], found.scores[mine]))
        hit, skip, scores = (np.concatenate(part, axis=-1) for part in zip(*rows, strict=True))
        order = np.argsort(-scores, kind="stable")
        right, wrong = ((t & ~skip)[..., order].cumsum(axis=2) for t in (hit, ~hit))  # (A, T, n)
        for a, t in np.ndindex(right.shape[:2]):
            if total[a]:
                ratio = right[a, t] / np.maximum(right[a, t] + wrong[a, t], 1)
                precision[t, :, label, a] = precision_at(right[a, t] / total[a], ratio, RECALLS)
    return Evaluation(precision)


@chapter.section("6.6", "mAP")
def section_map(run: Run) -> None:
    hit = np.array([1, 0, 1, 0, 1])
    curve = hit.cumsum() / 3, hit.cumsum() / np.arange(1, 6)
    answers = {"area": 34 / 45, "11": (4 + 3 * 2 / 3 + 4 * 3 / 5) / 11}
    answers["101"] = (34 + 33 * 2 / 3 + 34 * 3 / 5) / 101
    for method, answer in answers.items():
        run.check(f"손으로 푼 AP ({method})", average_precision(*curve, method), answer, 1e-9)
    count = 20 if run.quick else 200  # 빈 사진, 예측이 없는 사진, 무리가 섞여 있음
    worst, seconds = metrics.compare_with_pycocotools(evaluate_detections, count, run.seed)
    run.check(f"무작위 예측 {count}벌의 정밀도와 pycocotools", worst, 0.0, atol=1e-6)
    text = "작은 무작위 문제에서 직접 만든 채점이 pycocotools보다 느리지 않습니다(한 벌의 밀리초)"
    run.claim(text, seconds, seconds["직접"] <= seconds["pycocotools"], unit="")


# %% [markdown]
# **읽는 법.** mAP를 비교할 때는 평균의 방식과 IoU 문턱이 같은지 먼저 보세요. 이 강의는 101점입니다.
#
# ## 6.7 손실과 담당
# **왜 필요할까요?** 어느 칸이 어느 물체를 **담당**할지(assignment) 정해야 손실을 계산합니다. 처음
# `--early` 에폭에는 가운데의 칸에, 그 뒤에는 지금 가장 잘 맞히는 칸에 맡깁니다.
# ```text
# 가운데     중심에서 1.5칸 안. 긴 변이 64픽셀 미만이면 8, 128 미만이면 16, 그 밖은 32의 격자. t는 1
# 정렬       중심에서 1.5칸 안인 칸(세 격자 모두) 가운데 p * IoU^6이 큰 아홉 칸 (Feng 외 2021, 식 9)
#            p 그 클래스의 확률. t는 p * IoU^6에 수를 곱해, 물체마다 최댓값을 최대 IoU로 맞춘 것
# 클래스 손실 = 합(칸, 클래스) BCE(p, t) / 합(t)          p = sigmoid(점수). 나머지 자리는 t = 0
# 상자 손실   = 합(담당한 칸) t * (1 - CIoU) / 합(t)      손실 = 클래스 손실 + 5 * 상자 손실
# ```


# %%
def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """값마다의 BCE = -t log p - (1 - t) log(1 - p)입니다. 점수가 커도 넘치지 않는 꼴입니다."""
    return logits.clamp(min=0) - logits * targets + torch.log1p(torch.exp(-logits.abs()))


def near_center(boxes: Tensor, labels: Tensor, grid: Grid) -> Tensor:
    """물체 (B, M)의 중심에서 1.5칸 안에 있는 칸이 True인 (B, M, P)입니다. 빈자리는 False입니다."""
    apart = grid.points - box_convert(boxes, "xyxy", "cxcywh")[:, :, None, :2]
    return (apart.abs() < 1.5 * grid.strides).all(dim=-1) & (labels >= 0)[..., None]


def assign_by_center(scores, predicted, boxes, labels, grid) -> tuple[Tensor, Tensor]:
    """가운데에 가까운 칸에 맡깁니다. 인자와 결과는 `assign_aligned`와 같고 예측은 보지 않습니다."""
    longest = sides(boxes).amax(dim=-1, keepdim=True)  # (B, M, 1)
    level = torch.log2(longest / (4 * STRIDES[0]) + EPS).floor().clamp(0, len(STRIDES) - 1)
    mine = near_center(boxes, labels, grid) & (STRIDES[0] * 2**level == grid.strides[:, 0])
    area = sides(boxes).prod(dim=-1)[..., None]
    smallest = torch.where(mine, area, math.inf).min(dim=1)  # 겹치면 작은 물체가 먼저
    return smallest.indices, smallest.values.isfinite().float()


def assign_aligned(scores, predicted, boxes, labels, grid) -> tuple[Tensor, Tensor]:
    """지금 가장 잘 맞히는 칸에 맡깁니다(Feng 외 2021, 3.2절). 빈자리의 클래스는 -1입니다."""
    # 확률 (B, P, K), 상자 (B, P, 4), 정답 (B, M, 4), (B, M) -> 맡은 물체의 번호, t (B, P)
    candidate, iou = near_center(boxes, labels, grid), box_iou(boxes, predicted)  # (B, M, P)
    index = labels.clamp(min=0)[..., None].expand_as(iou)
    alignment = scores.transpose(1, 2).gather(1, index) * iou**6 + 1e-12
    best = (alignment * candidate).topk(9, dim=2).indices
    mine = torch.zeros_like(candidate).scatter_(2, best, True) & candidate
    owner = torch.where(mine, iou, -1.0).argmax(dim=1)  # 둘이 고른 칸은 더 겹치는 쪽
    mine &= F.one_hot(owner, boxes.shape[1]).transpose(1, 2).bool()
    alignment, largest = alignment * mine, (iou * mine).amax(dim=2, keepdim=True)
    alignment = alignment / alignment.amax(dim=2, keepdim=True).clamp(min=1e-12) * largest
    return owner, alignment.amax(dim=1)


def detection_loss(raw, boxes, labels, grid: Grid, assign=assign_aligned) -> tuple[Tensor, ...]:
    """출력 (B, P, 4 + K)의 클래스 손실, 상자 손실, 칸마다 맡은 물체의 번호와 t (B, P)입니다."""
    predicted, logits = decode_predictions(raw[..., :4], grid), raw[..., 4:]
    with torch.no_grad():
        owner, t = assign(logits.sigmoid(), predicted, boxes, labels, grid)
    total, kinds = t.sum().clamp(min=1), labels.gather(1, owner).clamp(min=0)
    targets = torch.zeros_like(logits).scatter_(2, kinds[..., None], t[..., None])
    class_loss = binary_cross_entropy(logits, targets).sum() / total
    answers = boxes.gather(1, owner[..., None].expand_as(predicted))[t > 0]
    apart = 1 - matched_iou(predicted[t > 0], answers)
    return class_loss, (t[t > 0] * apart).sum() / total, owner, t


def overfit_one(run: Run, photo: Photo, assign: Callable) -> tuple[list[float], list]:
    """한 장만 학습해 다섯 걸음마다의 mAP@0.5와, 걸음마다의 맡은 물체의 번호와 t (1, P)를 냅니다."""
    model, curve, owned, grid = make(run), [], [], make_grid(run.config.size, run.device)
    images, boxes, labels = collate([prepare(photo, run.config.size)], run.device)
    optimizer = torch.optim.AdamW(model.parameters(), 0.002)
    for step in range(1, 301):
        losses = detection_loss(model.train()(images), boxes, labels, grid, assign)  # 1), 2)
        optimizer.zero_grad()  # 3) 기울기 비우기
        (losses[0] + 5 * losses[1]).backward()  # 4) 역전파
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()  # 5) 매개변수 갱신
        owned.append(losses[2:])
        if step % 5 == 0:
            found = detect(model, [photo.read()], run.config.size, torch.float32)
            curve.append(evaluate_detections(found, [photo], len(load(run).class_names)).ap(0.5))
            if curve[-1] > 1 - 1e-9:
                break
    return curve, owned


@chapter.section("6.7", "손실과 담당")
def section_loss(run: Run) -> None:
    logits, targets = 5 * torch.randn(4, 50), torch.rand(4, 50)
    library = partial(F.binary_cross_entropy_with_logits, reduction="none")
    run.check_with_gradient("BCE", binary_cross_entropy, library, logits, targets)
    ours = lambda a, b: 1 - matched_iou(a, b)
    two = random_boxes(30), random_boxes(30)
    run.check_with_gradient("CIoU 손실", ours, ops.complete_box_iou_loss, *two)
    dataset, size = load(run), run.config.size
    photo = detection.simple_photo(dataset.train)
    example, grid, names = prepare(photo, size), make_grid(size, run.device), dataset.class_names
    images, boxes, labels = collate([example], run.device)
    raw = make(run)(images).detach().requires_grad_()
    class_loss, box_loss, owner, t = detection_loss(raw, boxes, labels, grid)
    (gradient,) = torch.autograd.grad(class_loss, raw, retain_graph=True)
    run.check("클래스 손실이 상자에 주는 기울기", gradient[..., :4].abs().max(), 0.0, atol=0)
    (gradient,) = torch.autograd.grad(box_loss, raw)
    run.check("상자 손실이 배경 칸에 주는 기울기", gradient[t == 0].abs().max(), 0.0, atol=0)
    owner = near_center(boxes, labels, grid).float().argmax(dim=1)  # 완벽한 예측 만들기
    answers, kinds = boxes[0][owner], F.one_hot(labels[0][owner].clamp(min=0), len(names)).float()
    _, t = assign_aligned(kinds, answers, boxes, labels, grid)
    logits = 40 * kinds * (t > 0)[..., None] - 20  # 담당한 칸의 그 클래스만 20, 나머지는 -20
    perfect = torch.cat([encode_targets(answers, grid), logits], dim=-1)
    class_loss, box_loss, *_ = detection_loss(perfect, boxes, labels, grid)
    run.check("완벽한 예측의 손실", class_loss + box_loss, 0.0, atol=0.01)
    shown, boxed = {}, plot.draw_boxes(*example, names=names)
    for name, assign in {"가운데": assign_by_center, "정렬": assign_aligned}.items():
        curve, owned = overfit_one(run, photo, assign)
        run.check(f"사진 한 장을 외운 뒤의 mAP@0.5 ({name})", curve[-1], 1.0, atol=1e-9)
        for when in (1, 10, len(owned)):
            owner, t = (part[0] for part in owned[when - 1])
            dots = grid.points[t > 0], grid.strides[t > 0, 0] / 4, labels[0][owner[t > 0]]
            shown[f"{name}, {when}걸음"] = plot.draw_dots(boxed, size, *dots)
    figure = plot.image_grid([*shown.values()], [*shown], 3, "어느 칸이 맡습니까", side=2.6)
    run.figure(figure, "04_assignment")


# %% [markdown]
# **읽는 법.** 한 장도 외우지 못하면 손실, 담당, 좌표 가운데 하나가 틀린 것입니다.
#
# ## 6.8 마지막 학습
# **왜 필요할까요?** 부품이 모두 맞으니 학습합니다. 매개변수의 **지수 이동 평균**(EMA)을 따로 두어
# 검증과 예측에 씁니다(5강의 EWMA와 같은 식). 끝의 5분의 1은 모자이크 없이 배웁니다.
# ```text
# EMA      평균 = d * 평균 + (1 - d) * 매개변수       d = 0.998 * (1 - exp(-걸음 / 200))
# 학습률   처음 10분의 1은 곧게 올리고(예열), 그 뒤로는 코사인을 따라 0까지 내림
# ```


# %%
@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, d: float) -> None:
    """`average`의 매개변수와 배치 정규화의 통계를 `model` 쪽으로 조금 옮깁니다."""
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for old, new in pairs:  # 배치 정규화가 본 묶음의 수(정수)는 그대로 옮김
        old.copy_(old.lerp(new, 1 - d) if old.is_floating_point() else new)


def train(run: Run, examples: list[Example], val: list[Photo]) -> tuple[nn.Module, Album, list]:
    """모델을 학습시켜 EMA 모델, 에폭마다 첫 검증 사진에서 찾은 것, 에폭마다의 기록을 냅니다."""
    config, model, album = run.config, make(run), Album()
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    grid, K = make_grid(config.size, run.device), len(load(run).class_names)
    steps, photos = max(1, len(examples) // config.batch_size), [photo.read() for photo in val]
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=0.02, fused=True)
    total, warm = config.epochs * steps, max(1, config.epochs * steps // 10)
    factor = lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * t / total)))
    scheduler = LambdaLR(optimizer, factor)
    checkpoint = run.checkpoint(model, ema, optimizer, scheduler, album)
    net = run.parallel(model)  # torchrun으로 실행했을 때만 다름
    for epoch in range(len(checkpoint.history), config.epochs):
        model.train()
        rng, sums = np.random.default_rng([run.seed, epoch, run.team.rank]), 0.0  # 난수는 각자
        mosaic = config.mosaic if epoch < 0.8 * config.epochs else 0
        assign = assign_by_center if epoch < config.early else assign_aligned
        order = rng.permutation(len(examples))[: steps * config.batch_size]
        batches = run.share(np.array_split(order, steps))
        for k, chosen in enumerate(tqdm(batches, leave=False, disable=None)):
            others = (rng.integers(len(examples), size=3 * (rng.random() < mosaic)) for _ in chosen)
            pairs = zip(chosen, others, strict=True)
            picked = [[examples[i] for i in (one, *more)] for one, more in pairs]
            images, boxes, labels = collate([augment(rng, four) for four in picked], run.device)
            with autocast(run.device, run.dtype):
                raw = net(images)  # 1) 순전파
            *losses, _, t = detection_loss(raw.float(), boxes, labels, grid, assign)  # 2) 손실
            optimizer.zero_grad()  # 3) 기울기 비우기
            (run.weight(t.sum().clamp(min=1)) * (losses[0] + 5 * losses[1])).backward()  # 4) 역전파
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()  # 5) 매개변수 갱신
            scheduler.step()
            update_ema(ema, model, 0.998 * (1 - math.exp(-(epoch * steps + k + 1) / 200)))
            sums += torch.stack(losses).detach() / steps
        found = detect(ema, photos, config.size, run.dtype)
        album.add(found[0])
        scores, sums = evaluate_detections(found, val, K), sums.tolist()
        row = zip(LOSSES + SCORES, (*sums, scores.ap(0.5), scores.ap()), strict=True)
        run.end_epoch(checkpoint, dict(row))
    return ema, album, checkpoint.history


@chapter.section("6.8", "마지막 학습", shared=True)
def section_training(run: Run) -> nn.Module:
    dataset, size, layer = load(run), run.config.size, nn.Linear(4, 3)
    ours, theirs = copy.deepcopy(layer), copy.deepcopy(layer)
    layer.reset_parameters()
    update_ema(ours, layer, 0.9)
    library = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    library([*theirs.parameters()], [*layer.parameters()], None)
    run.check("EMA와 get_ema_multi_avg_fn", ours.weight, theirs.weight, atol=1e-6)
    examples, names = [prepare(photo, size) for photo in dataset.train], dataset.class_names
    model, album, history = train(run, examples, dataset.val)
    about = {"width": run.config.width, "size": size, "names": names}
    model_utils.save_weights(run.path("model.pt"), model, **about)
    curve = lambda name: (range(1, len(history) + 1), [row[name] for row in history])
    panels = {"손실": {name: curve(name) for name in LOSSES}, "검증": {n: curve(n) for n in SCORES}}
    run.figure(plot.panel_figure(panels, "에폭", share=False), "05_learning_curves")
    last, image = len(history) - 1, dataset.val[0].read()
    pages = {f"에폭 {k + 1}": album.pages[k] for k in (0, min(1, last), last // 4, last // 2, last)}
    pages["정답"] = dataset.val[0][1:3]
    images = [plot.draw_boxes(image, *page, names=names) for page in pages.values()]
    run.figure(plot.image_grid(images, [*pages], 3, "같은 사진의 예측", side=2.6), "06_by_epoch")
    scores = {"첫 에폭": history[0]["mAP@0.5"], "마지막 에폭": history[-1]["mAP@0.5"]}
    text = "검증 mAP@0.5가 첫 에폭보다 마지막 에폭에서 높습니다"
    run.claim(text, scores, scores["마지막 에폭"] > scores["첫 에폭"])
    return model


# %% [markdown]
# **읽는 법.** 손실은 그때의 증강과 담당으로 쟀습니다. 그것이 바뀌는 에폭의 앞뒤는 비교하지 마세요.
#
# ## 6.9 결과
# **왜 필요할까요?** 숫자 하나로는 무엇을 고칠지 알 수 없습니다. 클래스와 크기마다 나누어 봅니다.
# ```text
# 기준선   아무것도 찾지 않기 / 평균 상자 하나 / 색과 윤곽선(학습 사진에서 센 색의 덩어리를 찾음)
# 오류     위치(IoU 0.1~0.5), 클래스(이름이 틀림), 중복(이미 찾은 물체), 배경(그 밖), 놓침
# ```


# %%
@chapter.section("6.9", "결과", needs=("6.8",))
def section_result(run: Run, model: nn.Module) -> None:
    dataset = load(run)
    names, K = [*map(plot.drawable, dataset.class_names)], len(dataset.class_names)
    rate = lambda found, photos: evaluate_detections([Detections(*f) for f in found], photos, K)
    contours, average = metrics.ContourDetector(dataset.train, K), metrics.AverageBox(dataset.train)
    contours.tune(dataset.val, lambda found: rate(found, dataset.val).ap(0.5))
    test = dataset.take_test()
    found = detect(model, (photo.read() for photo in test), run.config.size, run.dtype)
    scores = rate(found, test)
    floors = {"아무것도 찾지 않기": [[np.empty((0, 4)), np.empty(0), np.empty(0)]] * len(test)}
    floors |= {"평균 상자 하나": map(average, test), "색과 윤곽선": map(contours, test)}
    floors = {name: rate(guesses, test) for name, guesses in floors.items()}
    for title, threshold in zip(SCORES, (0.5, None), strict=True):
        for name, floor in floors.items():
            run.floor(f"{name}, {title}", floor.ap(threshold))
        run.result(title, scores.ap(threshold), beats=f"색과 윤곽선, {title}")
    present = [k for k in range(K) if not math.isnan(scores.ap(label=k))]
    for k in present:
        name, ap50, ap = lesson.printable(names[k]), scores.ap(0.5, k), scores.ap(label=k)
        print(f"  {name:18} AP@0.5 {100 * ap50:5.1f} %   AP@[.5:.95] {100 * ap:5.1f} %")
    by_area = {name: scores.ap(size=name) for name in AREAS if not math.isnan(scores.ap(size=name))}
    text = "작은 물체의 mAP@[.5:.95]가 중간 물체보다 낮습니다"
    run.claim(text, by_area, by_area.get("작음", 1) < by_area.get("중간", 0))
    curves = {names[k]: (RECALLS, scores.precision[0, :, k, 0]) for k in present[:8]}
    figure = plot.line_figure(curves, "재현율", "정밀도", "정밀도-재현율 곡선 (IoU 0.5)")
    run.figure(figure, "07_precision_recall")
    seen = detect(model, (photo.read() for photo in dataset.val), run.config.size, run.dtype)
    lines = metrics.threshold_curves(seen, dataset.val)  # 왜: 문턱은 검증 데이터로 고름
    figure = plot.line_figure(lines, "점수 문턱", "비율", "점수 문턱 (검증 데이터)")
    run.figure(figure, "08_thresholds")
    counts, matrix = metrics.count_errors(found, test, K)
    if K <= 12:
        run.figure(plot.confusion_matrix_figure(matrix, [*names, "배경"]), "09_confusion_matrix")
    errors = {kind: counts[kind] for kind in ("위치", "클래스", "중복", "배경", "놓침")}
    figure = plot.bar_figure({"오류": errors}, "개수", f"오류의 종류 (맞음 {counts['맞음']:,}개)")
    run.figure(figure, "10_error_types")


# %% [markdown]
# **읽는 법.** 점수의 문턱은 쓰임에 맞춥니다. 놓치면 안 되면 재현율, 잘못 찾으면 안 되면 정밀도를
# 봅니다.
#
# ## 6.10 실시간
# **왜 필요할까요?** 1초에 25장은 처리해야 움직임을 따라갑니다. 평가할 때의 배치 정규화(평균 m, 분산
# v, 배운 g와 b)는 곱하고 더하기라 앞의 합성곱에 합칠 수 있습니다. 빨라지는지는 재어 봅니다.
# ```text
# y = g * (w * x - m) / sqrt(v + e) + b     ->     w' = w * s,  b' = b - m * s,  s = g / sqrt(v + e)
# ```


# %%
def fuse_conv_bn(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """배치 정규화를 합친 합성곱을 새로 만듭니다. 평가 상태에서 출력이 같습니다."""
    fused = copy.deepcopy(conv)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # (O,)
    bias = 0 if conv.bias is None else conv.bias
    fused.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
    fused.bias = nn.Parameter((norm.bias + (bias - norm.running_mean) * scale).detach())
    return fused


@chapter.section("6.10", "실시간", needs=("6.8",))
def section_speed(run: Run, model: nn.Module) -> None:
    conv, norm = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6).eval()
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.5, 2)
    ours, theirs = fuse_conv_bn(conv, norm), nn.utils.fuse_conv_bn_eval(conv.eval(), norm)
    run.check("합친 합성곱의 편향과 fuse_conv_bn_eval", ours.bias, theirs.bias, atol=1e-5)
    size, photo, fused = run.config.size, load(run).val[0], model_utils.fuse(model, fuse_conv_bn)
    x = torch.from_numpy(letterbox(photo.read(), size)[0][None]).to(run.device)
    with torch.inference_mode():
        run.check("합친 모델과 원래 모델의 출력", fused(x), model.eval()(x), atol=1e-2)
    kinds = {"float32": (model, torch.float32), "합친 float32": (fused, torch.float32)}
    kinds["합친 bfloat16"] = fused, torch.bfloat16
    speeds, widths = {name: ([], []) for name in kinds}, sorted({128, 192, 256, size})
    for width, (name, (net, dtype)) in product(widths, kinds.items()):
        once = lambda n=net, w=width, d=dtype: detect(n, [photo.read()], w, d, least=0.3)
        times = latencies(once, run.device, repeats=10 if run.quick else 50)
        middle, slow = 1000 * np.percentile(times, (50, 95))
        print(f"  {width}픽셀, {name}: 중앙값 {middle:.1f} ms, 95번째 백분위 {slow:.1f} ms")
        speeds[name] = [*speeds[name][0], width], [*speeds[name][1], 1000 / middle]
    figure = plot.line_figure(speeds, "사진의 한 변(픽셀)", "장/초", "파일에서 상자까지의 속도")
    run.figure(figure, "11_speed")
    at_256 = {name: float(speed[widths.index(256)]) for name, (_, speed) in speeds.items()}
    text = "모델이 256픽셀로 보면, 가장 빠른 것은 파일에서 상자까지 1초에 25장 넘게 처리합니다"
    run.claim(text, at_256, max(at_256.values()) > 25, unit="장/초")
    clip, result, names = run.path("clip.mp4"), run.path("video.mp4"), load(run).class_names
    video.write_pan(photo.read(), clip, count=60)
    look = lambda image: detect(fused, [image], size, run.dtype, least=0.3)[0]
    video.annotate(str(clip), result, look, names)
    run.check("상자를 그린 동영상의 장수", len([*video.frames(str(result))]), 60, atol=0)


# %% [markdown]
# **읽는 법.** 95번째 백분위는 느린 장의 시간입니다. 실시간에서는 중앙값보다 중요합니다.
#
# ## 정리
# - 상자가 반 픽셀만 어긋나도 오류는 나지 않습니다. 그래서 재어 확인했습니다(6.2절).
# - 긴 학습 전에 사진 한 장을 외우게 하면 손실, 담당, 좌표의 잘못이 드러납니다(6.7절의 확인).
# - mAP는 짝짓기와 평균의 방식까지 같아야 비교할 수 있습니다(6.6절의 확인).
#
# 다른 검출기의 COCO mAP@[.5:.95]와 매개변수입니다(R50은 ResNet-50, FPN은 특징 피라미드).
# ```text
# Faster R-CNN R50-FPN   37.0 %  4,176만  두 단계. 있을 만한 곳을 고른 뒤 분류 (torchvision의 기록)
# RetinaNet R50-FPN      36.4 %  3,401만  한 단계. 앵커와 초점 손실 (torchvision의 기록)
# DETR R50               42.0 %  4,100만  앵커도 NMS도 없는 트랜스포머 (Carion 외 2020, 표 1)
# YOLOX-Tiny, 416픽셀    32.8 %    506만  한 단계. 앵커가 없고 머리가 나뉨 (Ge 외 2021, 표 4)
# ```
#
# ## 연습문제
# 1. `warp`에서 반 픽셀을 고치는 줄을 지우면 어느 확인이 실패합니까? 오차는 몇 픽셀입니까? (6.2절)
# 2. BCE를 초점 손실(`torchvision.ops.sigmoid_focal_loss`)로 바꾸어 mAP를 비교하세요. (6.7절)
# 3. 예측 상자를 지우는 대신 점수를 낮추는 soft-NMS(Bodla 외 2017)를 만드세요. (6.5절)
#
# ## 더 읽을거리
# - J. Redmon 외, You Only Look Once, CVPR 2016: https://arxiv.org/abs/1506.02640
# - Z. Ge 외, YOLOX, 2021: https://arxiv.org/abs/2107.08430
# - COCO의 채점 방식: https://cocodataset.org/#detection-eval


# %%
def predict_files(run: Run) -> dict:
    """`--predict`의 사진이나 `--video`의 동영상에서 찾습니다."""
    about = read_about(run.path("model.pt"))
    model = TinyYOLO(len(about["names"]), about["width"])
    load_weights(run.path("model.pt"), model)
    model = model_utils.fuse(model, fuse_conv_bn).to(run.device, memory_format=torch.channels_last)
    look = lambda image: detect(model, [image], about["size"], run.dtype, least=0.3)[0]
    return video.answer(run, look, about["names"])


def main(argv: list[str] | None = None) -> dict:
    """이 강의의 차례입니다. 절 함수를 위에서부터 하나씩 부릅니다."""
    run = chapter.start(argv)
    if run.config.predict or run.config.video:
        return predict_files(run)
    section_boxes(run)
    section_augmentation(run)
    section_grid(run)
    section_network(run)
    section_nms(run)
    section_map(run)
    section_loss(run)
    model = section_training(run)
    section_result(run, model)
    section_speed(run, model)
    return run.finish()


# %% tags=["active-py", "remove-cell"]
if __name__ == "__main__":
    lesson.run_main(main)

# %% tags=["active-ipynb"]
# main(["--quick"])
