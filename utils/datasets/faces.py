"""얼굴 사진: CelebA, 사진이 든 폴더, 코드로 그린 얼굴. 모두 64x64 RGB입니다.

CelebA(Liu 외, 2015)는 비상업적 연구에만 쓸 수 있어 자동으로 내려받지 않습니다. 그린 얼굴은
사진이 아니라 NumPy로 그린 그림입니다. 속성의 이름만 CelebA와 같으므로 여기서 잰 값을 CelebA에서
잰 값과 비교할 수 없습니다.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy import ndarray as Array

from utils.data_utils import (
    DownloadError,
    Provenance,
    TestOnce,
    center_square,
    content_sha256,
    read_image,
    search,
)
from utils.datasets.detection import IMAGE_SUFFIXES, read_text
from utils.errors import UserError
from utils.files import write_atomically

VERSION = 1  # 그리거나 읽는 코드가 바뀌면 올림. 왜: 옛 코드로 만든 파일을 쓰지 않게 함
SIZE, BLOCK, COLUMNS = 64, 64, 66
FEWEST, COMPONENTS = 60, 8
PHOTO_SUFFIXES = IMAGE_SUFFIXES | {".pgm"}
CELEBA_FILES = ("list_attr_celeba.txt", "list_eval_partition.txt")
KOREAN = {
    "Smiling": "웃음",
    "Eyeglasses": "안경",
    "Black_Hair": "검은 머리",
    "Blond_Hair": "금발",
    "Brown_Hair": "갈색 머리",
    "Gray_Hair": "흰머리",
    "Wearing_Hat": "모자",
    "Bangs": "앞머리",
    "Pale_Skin": "밝은 피부",
    "Mouth_Slightly_Open": "벌린 입",
    "Mustache": "콧수염",
}  # CelebA의 이름과 화면에 보일 이름
ATTRIBUTES = tuple(KOREAN)
HAIR_SHARES = (0.35, 0.2, 0.3, 0.15)  # ATTRIBUTES의 머리색 차례
HAIR = np.array([(30, 27, 28), (224, 184, 104), (112, 68, 40), (172, 172, 176)], np.float32)
PALE, TAN, BROWN, MOUTH = np.array(
    [(255, 226, 205), (230, 178, 136), (116, 70, 44), (70, 22, 26)], np.float32
)[..., None, None]
LIPS, BLUSH = np.array([(0.86, 0.5, 0.5), (1, 0.7, 0.66)], np.float32)[..., None, None]
GRID = np.arange(SIZE, dtype=np.float32) + 0.5 - SIZE / 2


# ---------------------------------------------------------------------------------------------
# 속성과 난수
# ---------------------------------------------------------------------------------------------
def random_table(count: int, seed: int, start: int = 0) -> Array:
    """얼굴마다 0~1의 난수 한 줄 (count, COLUMNS)입니다. 줄마다 시드가 (seed, start + i)입니다."""
    rows = [np.random.default_rng([seed, start + i]).random(COLUMNS) for i in range(count)]
    return np.array(rows, np.float32).reshape(count, COLUMNS)


def choose_attributes(table: Array) -> Array:
    """난수의 앞 여덟 열로 속성 (N, 11)을 정합니다. 벌린 입만 웃음에 따라 확률이 다릅니다."""
    smiling, glasses, hair, hat, bangs, pale, mouth, mustache = table[:, :8].T
    color = np.searchsorted(np.cumsum(HAIR_SHARES[:-1]), hair, side="right")
    smiling, colors = smiling < 0.5, [color == k for k in range(len(HAIR))]
    is_open, rest = mouth < np.where(smiling, 0.5, 0.2), (hat < 0.25, bangs < 0.4, pale < 0.3)
    columns = [smiling, glasses < 0.3, *colors, *rest, is_open, mustache < 0.25]
    return np.stack(columns, axis=1).astype(np.uint8)


# ---------------------------------------------------------------------------------------------
# 그리기: 경계까지의 거리로 덮는 정도를 구해, 묶음 전체에 한꺼번에 칠함
# ---------------------------------------------------------------------------------------------
def ellipse(x: Array, y: Array, rx: Array, ry: Array) -> Array:
    """원점에 놓인 타원의 경계까지의 대략의 거리(픽셀)입니다. 안쪽이 음수입니다."""
    return (np.sqrt((x / rx) ** 2 + (y / ry) ** 2) - 1) * np.minimum(rx, ry)


def box(x: Array, y: Array, half_width: Array, half_height: Array, corner: float = 0.6) -> Array:
    """원점에 놓인, 모서리가 둥근 직사각형의 경계까지의 거리입니다."""
    x = np.maximum(np.abs(x) - half_width + corner, 0)
    y = np.maximum(np.abs(y) - half_height + corner, 0)
    return np.sqrt(x**2 + y**2) - corner


def cover(distance: Array, soft: float = 1) -> Array:
    """거리를 덮는 정도 0~1로 바꿉니다. `soft`는 경계가 번지는 폭(픽셀)입니다."""
    return np.clip(0.5 - distance / soft, 0, 1)


def paint_color(hue: Array, saturation: Array, value: Array) -> Array:
    """색상, 채도, 명도(모두 0~1)를 RGB 색 (N, 3, 1, 1)로 바꿉니다."""
    k = (np.array([5, 3, 1], np.float32)[:, None, None] + 6 * hue) % 6
    return 255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))


class Portrait:
    """얼굴 N개를 함께 그리는 판입니다.

    `x`, `y`는 그림의 좌표, `u`, `v`는 기울기와 크기를 되돌린 머리의 좌표, `a`는 고개를 돌린 만큼
    옮긴 이목구비의 가로 좌표이고 모두 (N, 1, 64, 64)입니다. 원점은 얼굴의 가운데입니다.
    """

    def __init__(self, table: Array, attributes: Array) -> None:
        self.columns = iter(table[:, 8:].T[..., None, None, None])  # 앞의 여덟 열은 속성에 씀
        flags = attributes.T.astype(np.float32)[..., None, None, None]
        self.has = dict(zip(ATTRIBUTES, flags, strict=True))
        self.image = np.empty((len(table), 3, SIZE, SIZE), np.float32)
        self.x = GRID - self.draw(-1.5, 1.5)
        self.y = GRID[:, None] - self.draw(1.5, 3.5)
        angle, scale = self.draw(-0.08, 0.08), self.draw(1.02, 1.15)
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        self.u, self.v = cos * self.x + sin * self.y, cos * self.y - sin * self.x
        self.a = self.u - self.draw(-2, 2)
        self.m = np.abs(self.a)  # 왜: 좌우가 같은 것은 절댓값으로 한 번에 그림
        self.light = self.draw(-0.7, 0.7), self.draw(-0.6, 0.1)
        self.wide, self.eye = self.draw(14, 15.8), self.draw(6.3, 7.2)  # 얼굴과 눈 사이의 반너비
        hair = attributes[:, 2:6].astype(np.float32) @ HAIR
        self.hair = hair[..., None, None] * self.draw(0.9, 1.1) + self.draw(-5, 5)
        tan = TAN + self.draw(0, 1) * (BROWN - TAN)
        pale = PALE - self.draw(0, 6)
        self.skin = tan + self.has["Pale_Skin"] * (pale - tan)

    def draw(self, low: float, high: float) -> Array:
        """얼굴마다 하나씩 다음 난수 (N, 1, 1, 1)을 꺼냅니다."""
        return low + (high - low) * next(self.columns)

    def paint(self, amount: Array, color: Array | float) -> None:
        """덮는 정도 (N, 1, 64, 64)만큼 색 (N, 3, 1, 1)을 칠합니다."""
        self.image += amount * (color - self.image)

    def shade(self, amount: Array) -> None:
        """밝기를 (1 + amount)배로 합니다."""
        self.image *= 1 + amount

    def middle(self) -> Portrait:
        """이목구비가 들어가는 가운데만의 판입니다. 왜: 넓이가 절반이라 두 배 빠릅니다."""
        part = copy(self)
        for name in ("image", "u", "v", "a", "m"):
            setattr(part, name, getattr(self, name)[..., 18:60, 8:56])
        return part


def draw_backdrop(face: Portrait) -> None:
    """한쪽에서 다른 쪽으로 색이 변하는 배경과 어깨입니다."""
    hue, angle, value = face.draw(0, 1), face.draw(0, 2 * np.pi), face.draw(0.3, 0.95)
    first = paint_color(hue, face.draw(0.1, 0.5), value)
    last = paint_color(hue + face.draw(-0.15, 0.15), face.draw(0.1, 0.5), 0.75 * value)
    t = 0.5 + (np.cos(angle) * GRID + np.sin(angle) * GRID[:, None]) / SIZE / 1.4
    face.image[:] = first + t * (last - first)
    clothes = paint_color(face.draw(0, 1), face.draw(0.2, 0.7), face.draw(0.25, 0.9))
    shoulders = ellipse(face.x, face.y - 36, face.draw(24, 29), 14.5)
    face.paint(cover(shoulders), clothes * (1 - 0.012 * np.abs(face.x)))


def draw_back_hair(face: Portrait) -> None:
    """머리 뒤의 머리카락입니다. 절반은 어깨까지 내려옵니다."""
    is_long, width = face.draw(0, 1) < 0.5, face.wide + face.draw(2.6, 4)
    face.strands = 1 + 0.04 * np.sin(1.7 * face.u + 0.3 * face.v + face.draw(0, 6))
    face.strands -= 0.012 * (face.v + 8)
    top = ellipse(face.u, face.v + 3.5, width, face.draw(18.5, 20.5))
    down = box(face.u, face.v - 8, width + 0.1 * face.v, face.draw(14, 19), 4)
    face.paint(cover(np.where(is_long, np.minimum(top, down), top)), face.hair * face.strands)


def draw_head(face: Portrait) -> None:
    """목, 귀, 빛을 받은 타원체 얼굴, 볼입니다."""
    u, v, skin = face.u, face.v, face.skin
    face.paint(cover(ellipse(u, v - 19, 6.8, 9.5)), 0.78 * skin)
    face.paint(cover(ellipse(np.abs(u) - face.wide, v - 1, 2.2, 3.6)), 0.85 * skin)
    narrow = face.wide * (1 - 0.00075 * np.maximum(v, 0) ** 2)
    tall = face.draw(18, 19.5)
    nx, ny = u / narrow, v / tall
    depth = np.sqrt(np.maximum(0, 1 - nx**2 - ny**2))
    glow = 0.66 + 0.36 * depth + 0.2 * (face.light[0] * nx + face.light[1] * ny)
    face.paint(cover(ellipse(u, v, narrow, tall)), skin * glow)
    blush = cover(ellipse(face.m - 8.5, v - 5.5, 4, 3), 4)
    face.paint(0.3 * blush, skin * BLUSH)


def draw_eyes(face: Portrait) -> None:
    """눈썹, 흰자, 홍채, 눈동자입니다."""
    side, open_ = face.m - face.eye, face.draw(1.7, 2.4) - 0.3 * face.has["Smiling"]
    brow = face.v + face.draw(6, 6.8) - face.draw(-0.12, 0.12) * side + 0.04 * side**2
    face.paint(0.9 * cover(box(side, brow, 3.9, face.draw(0.6, 1.0))), 0.5 * face.hair)
    y = face.v + 2
    face.paint(cover(ellipse(side, y + 0.5, 3.9, open_ + 0.4)), 0.3 * face.skin)
    white = cover(ellipse(side, y, 3.4, open_))
    face.paint(white, 240)
    iris = paint_color(face.draw(0.05, 0.65), face.draw(0.3, 0.8), face.draw(0.3, 0.7))
    x = face.a - face.draw(-0.7, 0.7)  # 두 눈이 같은 쪽을 봄
    x = np.abs(x - np.sign(face.a) * face.eye)
    face.paint(white * cover(ellipse(x, y, 1.9, 1.9)), iris)
    face.paint(white * cover(ellipse(x, y, 0.9, 0.9)), 15)


def draw_nose(face: Portrait) -> None:
    """콧등의 밝은 줄과 코 밑의 그림자입니다."""
    length = face.draw(5, 6.2)
    face.shade(0.12 * cover(ellipse(face.a, face.v - 1.5, 1.6, length), 3))
    side = face.a + 2.2 * np.sign(face.light[0])
    face.shade(-0.12 * cover(ellipse(side, face.v - 2, 1.3, length - 1), 3))
    face.shade(-0.3 * cover(ellipse(face.a, face.v - 6.6, 2.8, 1.1), 1.5))


def draw_mouth(face: Portrait) -> None:
    """입술, 벌린 입 속과 이, 콧수염입니다. 웃으면 입꼬리가 올라갑니다."""
    smiling, is_open, a = face.has["Smiling"], face.has["Mouth_Slightly_Open"], face.a
    width = face.draw(4.6, 5.6) + 1.6 * smiling
    bow = (a / width) ** 2
    taper = np.clip(1 - bow, 0, 1)
    half = (0.3 + is_open * face.draw(1.3, 1.9)) * taper
    line = face.v - 11.2 - 1.2 * smiling + bow * (3.6 * smiling - 0.2 * (1 - smiling))
    gap = np.abs(line - half * is_open) - half
    lips = face.skin * LIPS * face.draw(0.8, 1.0)
    end = np.abs(a) - width
    face.paint(cover(np.maximum(gap - face.draw(0.9, 1.4) * (0.4 + 0.6 * taper), end)), lips)
    inside = cover(np.maximum(gap, end + 0.8))
    face.paint(inside, MOUTH)
    face.paint(inside * is_open * cover(line - 1.2), 238)
    line = face.v - 8.7 - 0.02 * a**2
    hairs = cover(np.abs(line) - face.draw(1.2, 1.6) * np.clip(1.25 - (face.m / 6.5) ** 2, -1, 1))
    face.paint(hairs * face.has["Mustache"], 0.32 * face.hair)


def draw_glasses(face: Portrait) -> None:
    """두 테와 다리, 코걸이입니다. 넷에 하나는 선글라스입니다."""
    has, tint = face.has["Eyeglasses"], (face.draw(0, 1) < 0.25).astype(np.float32)
    rx, ry, frame = face.draw(4.7, 5.6), face.draw(3.8, 4.7), face.draw(10, 50)
    x, y = face.m - face.eye, face.v + 1.6
    edge = ellipse(x, y, rx, ry)
    rim = np.abs(edge) - 0.6
    bar = np.abs(face.v + 2.4) - 0.5
    bridge = np.maximum(bar, x + rx)
    arms = np.maximum(np.maximum(bar, rx - x), np.abs(face.u) - face.wide)
    face.paint(has * (0.08 + 0.77 * tint) * cover(edge), frame)
    face.paint(has * cover(np.minimum(np.minimum(rim, bridge), arms)), frame)


def draw_front_hair(face: Portrait) -> None:
    """이마 위의 머리카락입니다. 앞머리가 있으면 눈썹 가까이 내려옵니다."""
    bangs, part = face.has["Bangs"], face.draw(-5, 5)
    bare = -13.2 + 0.035 * (face.u - part) ** 2
    fringe = -7.4 + 0.9 * np.abs(np.sin(0.55 * face.u + part)) - 0.004 * face.u**2
    line = np.minimum(bare, -4) * (1 - bangs) + fringe * bangs
    outer = ellipse(face.u, face.v + 3.5, face.wide + 1.8, 18.5)
    face.paint(cover(np.maximum(outer, face.v - line)), face.hair * face.strands)


def draw_hat(face: Portrait) -> None:
    """머리 위를 덮는 모자와 챙입니다."""
    has, u, v = face.has["Wearing_Hat"], face.u, face.v + 11.5
    color = paint_color(face.draw(0, 1), face.draw(0.45, 0.85), face.draw(0.35, 0.95))
    width, height = face.wide + face.draw(2.6, 4), face.draw(9, 14)
    crown = np.maximum(ellipse(u, v, width, height), v)
    face.paint(has * cover(crown), color * (1 - 0.02 * (u + 4)))
    band = np.maximum(ellipse(u, v, width, height), np.abs(v + 2.4) - 1.4)
    face.paint(has * cover(band), color * face.draw(0.35, 0.7))
    brim = box(u, v + u**2 * face.draw(-0.002, 0.009), width + face.draw(0, 5), 1.3)
    face.paint(has * cover(brim), 0.72 * color)


def paint_faces(table: Array, attributes: Array) -> Array:
    """난수 (N, COLUMNS)와 속성 (N, 11)대로 그린 얼굴 (N, 64, 64, 3)입니다."""
    face = Portrait(table, attributes)
    for draw in (draw_backdrop, draw_back_hair, draw_head):
        draw(face)
    middle = face.middle()
    for draw in (draw_eyes, draw_nose, draw_mouth, draw_glasses):
        draw(middle)
    for draw in (draw_front_hair, draw_hat):
        draw(face)
    face.image *= face.draw(0.93, 1.05)
    return np.clip(face.image, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def draw_faces(count: int, seed: int, start: int = 0) -> tuple[Array, Array]:
    """uint8 얼굴 (count, 64, 64, 3)과 속성 (count, 11)을 그립니다.

    i번째 얼굴은 `seed`와 `start + i`로만 정해집니다.
    """
    table = random_table(count, seed, start)
    attributes, images = choose_attributes(table), np.empty((count, SIZE, SIZE, 3), np.uint8)
    for first in range(0, count, BLOCK):
        block = slice(first, first + BLOCK)
        images[block] = paint_faces(table[block], attributes[block])
    return images, attributes


# ---------------------------------------------------------------------------------------------
# 데이터셋
# ---------------------------------------------------------------------------------------------
class Faces(NamedTuple):
    """나눔마다의 uint8 얼굴 (N, 64, 64, 3)과 속성 (N, K), 속성의 이름 (K,)입니다."""

    x_train: Array
    y_train: Array
    x_val: Array
    y_val: Array
    x_test: Array
    y_test: Array
    names: Array


class FaceDataset(TestOnce):
    """메모리에 올린 얼굴과 속성입니다.

    `x_train`, `x_val`은 uint8 텐서 (N, 64, 64, 3)이고 `y_train`, `y_val`은 0과 1의 uint8 텐서
    (N, K)입니다. `take_test()`는 테스트의 (x, y)를 한 번만 내줍니다.

    Raises:
        UserError: 어느 나눔이든 열 장보다 적을 때.
    """

    def __init__(self, name: str, source: str, detail: str, faces: Faces) -> None:
        *arrays, names = faces
        sizes = [len(array) for array in arrays[::2]]
        for part, size in zip(("학습", "검증", "테스트"), sizes, strict=True):
            if size < 10:
                raise UserError(f"{name}의 {part} 사진이 {size}장입니다. 열 장은 있어야 합니다.")
        self.x_train, self.y_train, self.x_val, self.y_val, *test = map(torch.from_numpy, arrays)
        self._test = tuple(test)
        self.attribute_names = tuple(KOREAN.get(english, english) for english in names.tolist())
        digest = content_sha256(*arrays[:2], *arrays[4:])
        self.provenance = Provenance(name, source, detail, digest, *sizes)

    def shrink(self, size: int) -> FaceDataset:
        """모든 얼굴을 칸의 평균으로 줄여 (N, size, size, 3)으로 바꿉니다. 64의 약수여야 합니다."""
        self.x_train, self.x_val = shrink(self.x_train, size), shrink(self.x_val, size)
        self._test = shrink(self._test[0], size), self._test[1]
        return self


def shrink(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 사진 (N, 64, 64, 3)을 칸의 평균으로 줄입니다."""
    if size == SIZE:
        return images
    small = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), SIZE // size)
    return small.round().byte().permute(0, 2, 3, 1).contiguous()


def load(
    source: str = "auto",
    folder: Path = Path("data"),
    offline: bool = False,
    faces: int = 8000,
    size: int = SIZE,
) -> FaceDataset:
    """얼굴을 찾습니다. 인자의 뜻은 `mnist.load`와 같습니다.

    사진만 있는 폴더에는 속성이 없으므로, 학습 사진의 주성분 여덟 개가 중앙값보다 큰지를 속성으로
    씁니다. 내용이 같은 사진은 한 장만 씁니다. 사람마다의 폴더이면 같은 사람이 학습과 테스트에 함께
    있을 수 있습니다.

    Args:
        folder: `celeba`가 든 폴더나 그 폴더, 또는 사진이 바로 아래나 한 단계 아래에 있는 폴더.
        faces: 학습에 쓸 얼굴의 수. 검증은 8분의 1, 테스트는 4분의 1입니다. 사진이 든 폴더는
            모두 합해 이 수의 8분의 11까지를 70, 10, 20 %로 나눕니다.
        size: 얼굴의 한 변. 64보다 작으면 칸의 평균으로 줄입니다.

    Raises:
        UserError: 사진이 모자라거나 CelebA의 목록을 읽을 수 없을 때.
    """
    ways = partial(read_local, folder, faces), no_download, partial(draw_dataset, folder, faces)
    return search(source, offline, *ways).shrink(size)


def no_download() -> FaceDataset:
    """라이선스가 비상업적 연구용이라 내려받지 않습니다."""
    raise DownloadError(
        "CelebA는 비상업적 연구용이라 자동으로 내려받지 않습니다. 데이터 폴더의 celeba에 두거나 "
        "--data-dir로 사진이 든 폴더를 주세요"
    )


def draw_dataset(folder: Path, faces: int) -> FaceDataset:
    """그린 얼굴입니다. 많으면 그리는 데 몇 초가 넘으므로 파일로 남깁니다."""

    def make() -> Faces:
        counts = (faces, faces // 8, faces // 4)
        parts = [draw_faces(count, seed) for seed, count in enumerate(counts)]
        return Faces(*(array for part in parts for array in part), np.array(ATTRIBUTES))

    path = folder / f"faces-drawn-{faces}-v{VERSION}.npz"
    drawn = cached(path, make) if faces > 2000 else make()
    return FaceDataset("그린 얼굴", "sample", "NumPy로 그린 얼굴, 사진이 아님", drawn)


def read_local(folder: Path, faces: int) -> FaceDataset | None:
    """CelebA나 사진이 든 폴더를 읽습니다. 어느 쪽도 아니면 None입니다."""
    root = find_celeba(folder)
    if root:
        name, detail, (paths, *lists) = "CelebA", str(root), list_celeba(root, faces)
        make = partial(read_celeba, paths, *lists)
    else:
        name, detail = folder.resolve().name, f"{folder}, 속성은 주성분의 크고 작음"
        paths = list_photos(folder)
        make = partial(read_photos, folder, paths, faces)
    if not paths:
        return None
    files = [*paths, *((root / name for name in CELEBA_FILES) if root else ())]
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    digest = hashlib.sha256("\n".join([*lines, f"{faces} {VERSION}"]).encode()).hexdigest()[:12]
    found = cached(folder / f"faces-{SIZE}-{digest}.npz", make)
    return FaceDataset(name, "original", detail, found)


def cached(path: Path, make: Callable[[], Faces]) -> Faces:
    """만들어 둔 배열을 읽습니다. 없거나 손상되었으면 만들어 남깁니다."""
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as archive:
                return Faces(*(archive[name] for name in Faces._fields))
        except Exception:  # 왜: 손상된 자리에 따라 온갖 오류가 남
            print(f"  {path} 파일이 손상되어 다시 만듭니다.")
    made, content = make(), io.BytesIO()
    np.savez(content, **made._asdict())
    with suppress(OSError):  # 왜: 읽기만 할 수 있는 폴더여도 쓸 수 있음
        write_atomically(path, content.getvalue())
    return made


def decode(paths: Sequence[Path]) -> tuple[Array, list[int]]:
    """가운데를 잘라 줄인 사진 (N, 64, 64, 3)과 읽은 것의 차례입니다. 못 읽은 것은 세어 알립니다."""
    images, kept = [], []
    for k, path in enumerate(paths):
        with suppress(UserError, OSError, cv2.error):
            images.append(center_square(read_image(path, color=True), SIZE))
            kept.append(k)
    if len(kept) < len(paths):
        print(f"  읽을 수 없는 사진 {len(paths) - len(kept):,}장을 뺐습니다.")
    return np.array(images, np.uint8).reshape(-1, SIZE, SIZE, 3), kept


def split_faces(images: Array, labels: Array, part: Array, names: Sequence[str]) -> Faces:
    """나눔의 번호(0 학습, 1 검증, 2 테스트)대로 나눕니다."""
    pairs = [(images[part == k], labels[part == k]) for k in range(3)]
    return Faces(*(array for pair in pairs for array in pair), np.array(names))


# ---------------------------------------------------------------------------------------------
# CelebA
# ---------------------------------------------------------------------------------------------
def find_celeba(folder: Path) -> Path | None:
    """torchvision과 같은 모양의 CelebA 폴더입니다. 없으면 None입니다."""
    for root in (folder / "celeba", folder):
        if (root / "img_align_celeba").is_dir():
            missing = [name for name in CELEBA_FILES if not (root / name).is_file()]
            if not missing:
                return root
            print(f"  {root}에 CelebA의 {', '.join(missing)} 파일이 없습니다.")
    return None


def list_celeba(root: Path, faces: int) -> tuple[list[Path], Array, Array, list[str]]:
    """쓸 사진의 경로와 속성 (N, 40), 나눔의 번호 (N,), 속성의 이름입니다.

    Raises:
        UserError: 목록의 형식이 CelebA와 다를 때.
    """
    limits = {"0": faces, "1": faces // 8, "2": faces // 4}
    there = {path.name for path in (root / "img_align_celeba").iterdir()}
    chosen = {number: [] for number in limits}
    try:
        (_, header, *rows), pairs = (read_text(root / name).splitlines() for name in CELEBA_FILES)
        for name, number in (line.split() for line in pairs if line.strip()):
            if name in there and len(chosen[number]) < limits[number]:
                chosen[number].append(name)
        table = dict(line.split(maxsplit=1) for line in rows if line.strip())
        names = [name for part in chosen.values() for name in part]
        labels = np.array([table[name].split() for name in names]).reshape(-1, len(header.split()))
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{root}: CelebA의 목록({', '.join(CELEBA_FILES)})을 읽을 수 없습니다. 다시 받으세요."
        ) from error
    part = np.repeat(range(3), [len(part) for part in chosen.values()])
    paths = [root / "img_align_celeba" / name for name in names]
    return paths, (labels == "1").astype(np.uint8), part, header.split()


def read_celeba(paths: Sequence[Path], labels: Array, part: Array, names: Sequence[str]) -> Faces:
    """CelebA의 사진을 읽습니다. 학습 사진의 2 %보다 적거나 98 %보다 많은 속성은 뺍니다."""
    images, kept = decode(paths)
    labels, part = labels[kept], part[kept]
    share = labels[part == 0].mean(axis=0)
    usual = (share >= 0.02) & (share <= 0.98)
    if not usual.any():
        raise UserError("CelebA의 목록에 쓸 수 있는 속성이 하나도 없습니다. 목록을 다시 받으세요.")
    return split_faces(images, labels[:, usual], part, np.array(names)[usual])


# ---------------------------------------------------------------------------------------------
# 사진이 든 폴더
# ---------------------------------------------------------------------------------------------
def list_photos(folder: Path) -> list[Path]:
    """폴더 바로 아래의 사진들, 없으면 한 단계 아래의 사진들(60장부터)입니다.

    Raises:
        UserError: 바로 아래에 사진이 있지만 60장보다 적을 때.
    """
    direct, below = (
        sorted(path for path in folder.glob(form) if is_photo(path)) for form in ("*", "*/*")
    )
    if 0 < len(direct) < FEWEST:
        raise too_few(folder, len(direct))
    return direct or (below if len(below) >= FEWEST else [])


def is_photo(path: Path) -> bool:
    """그림 파일의 이름이면 True입니다."""
    return path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()


def too_few(folder: Path, count: int) -> UserError:
    """사진이 모자랄 때의 오류입니다."""
    return UserError(f"{folder}의 사진이 {count}장입니다. 얼굴 사진을 {FEWEST}장 이상 넣으세요.")


def read_photos(folder: Path, paths: Sequence[Path], faces: int) -> Faces:
    """섞어서 나눈 사진과, 학습 사진의 주성분으로 만든 속성입니다. 검증 10 %, 테스트 20 %입니다."""
    order = np.random.default_rng(0).permutation(len(paths))[: max(FEWEST, faces * 11 // 8)]
    images = without_copies(decode([paths[k] for k in order])[0])
    if len(images) < FEWEST:
        raise too_few(folder, len(images))
    num_val, num_test = max(10, len(images) // 10), len(images) // 5
    part = np.repeat([2, 1, 0], [num_test, num_val, len(images) - num_val - num_test])
    names = [f"성분 {k + 1}" for k in range(COMPONENTS)]
    return split_faces(images, component_signs(images, part == 0), part, names)


def without_copies(images: Array) -> Array:
    """내용이 같은 사진을 한 장만 남깁니다. 왜: 학습과 테스트에 함께 있지 않게 함"""
    contents = [hashlib.sha256(image.tobytes()).digest() for image in images]
    _, first = np.unique(contents, return_index=True)
    if len(first) < len(images):
        print(f"  내용이 같은 사진 {len(images) - len(first):,}장을 뺐습니다.")
    return images[np.sort(first)]


def component_signs(images: Array, is_train: Array) -> Array:
    """사진마다 주성분 여덟 개의 값이 중앙값보다 크면 1인 (N, 8)입니다.

    평균, 주성분, 중앙값은 모두 학습 사진(`is_train`)의 것입니다.
    """
    cell = SIZE // 16
    small = images.reshape(-1, 16, cell, 16, cell, 3).mean(axis=(2, 4), dtype=np.float32)
    small = torch.from_numpy(small).flatten(1)  # (N, 16, 16, 3) -> (N, 768)
    train = torch.from_numpy(is_train)
    small -= small[train].mean(dim=0)
    # 왜: 다른 일을 하는 컴퓨터에서 numpy의 svd는 스레드끼리 기다리느라 수십 배 느려짐
    components = torch.linalg.svd(small[train], full_matrices=False).Vh[:COMPONENTS]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    values = (small @ (components * largest.sign()).T).numpy()  # 왜: 주성분의 부호는 정해지지 않음
    return (values > np.median(values[is_train], axis=0)).astype(np.uint8)
