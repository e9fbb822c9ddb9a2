"""손글씨 숫자: MNIST 원본, 없으면 scikit-learn에 든 숫자 1,797장.

MNIST는 LeCun, Cortes, Burges가 NIST의 손글씨에서 만든 28x28 회색조 이미지 70,000장입니다.
scikit-learn의 digits는 UCI 저장소의 손글씨 숫자 8x8이며 실제로 사람이 쓴 글씨입니다.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from utils.data_utils import (
    Found,
    IdxOriginal,
    ImageArrays,
    ImageDataset,
    search,
    stratified_split,
)
from utils.errors import UserError

CLASS_NAMES = tuple("0123456789")
ORIGINAL = IdxOriginal(
    name="MNIST",
    folders=("MNIST/raw",),  # torchvision이 쓰는 자리
    archive="mnist.npz",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    md5=(  # torchvision.datasets.MNIST와 같음
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)


def load(source: str = "auto", folder: Path = Path("data"), offline: bool = False) -> ImageDataset:
    """손글씨 숫자 데이터를 찾아 학습, 검증, 테스트로 나눕니다.

    Args:
        source: `auto`, `original`, `sample`. 뜻은 `data_utils.search`를 보세요.
        folder: 원본을 찾고 내려받는 폴더.
        offline: True이면 네트워크를 쓰지 않습니다.
    """
    read, download = partial(ORIGINAL.read, folder), partial(ORIGINAL.download, folder)
    found = search(source, offline, read, download, _read_digits)
    name, num_val = ("MNIST", 5000) if found.source == "original" else ("digits", 180)
    return ImageDataset(name, found, CLASS_NAMES, num_val)


def _read_digits() -> Found:
    """scikit-learn의 digits를 20x20으로 키우고 둘레에 4픽셀을 더해 28x28로 만듭니다.

    주의: 글씨를 쓴 사람이 학습과 테스트에 함께 있을 수 있어, 처음 보는 사람의 글씨보다 쉽습니다.
    """
    package = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    with gzip.open(Path(package) / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    small = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8) / 16
    large = F.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    x = F.pad(large, (4, 4, 4, 4)).mul(255).round().to(torch.uint8).squeeze(1).numpy()
    y = table[:, 64].astype(np.uint8)
    train, test = stratified_split(y, num_held_out=360)
    arrays = ImageArrays(x[train], y[train], x[test], y[test])
    return Found("package", "scikit-learn의 digits, 8x8을 28x28로 확대", arrays)


# ---------------------------------------------------------------------------------------------
# 내 글씨 읽기
# ---------------------------------------------------------------------------------------------
def fake_photo(digit: np.ndarray) -> np.ndarray:
    """숫자 (28, 28)을 밝은 종이에 쓴 큰 사진 (H, W)처럼 바꿉니다. 글씨는 한쪽에 치우쳐 있습니다."""
    large = cv2.resize(digit, (140, 140), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    paper = np.full((260, 320), 215.0, np.float32)
    paper += np.linspace(0, 25, 320, dtype=np.float32)  # 한쪽이 더 밝은 조명
    paper[90:230, 20:160] -= 0.7 * large
    return paper.clip(0, 255).astype(np.uint8)


def photo_to_digit(gray: np.ndarray) -> np.ndarray:
    """회색조 사진 (H, W)를 MNIST와 같은 꼴의 uint8 (28, 28)로 바꿉니다.

    Raises:
        UserError: 그림에 글씨가 보이지 않을 때.
    """
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    ink = gray.astype(np.float32) if np.median(border) < 128 else 255.0 - gray  # 글씨가 밝게
    ink = cv2.GaussianBlur(ink, (3, 3), 0)
    level, _ = cv2.threshold(
        ink.astype(np.uint8), 0, 255, cv2.THRESH_OTSU
    )  # 종이와 글씨를 가르는 값
    mask = ink > level
    if ink.max() - ink.min() < 30 or not mask.any():
        raise UserError("그림에서 글씨를 찾지 못했습니다. 배경과 밝기가 뚜렷이 다른 글씨를 주세요.")
    paper = np.median(ink[~mask])
    ink = ((ink - paper) / (ink.max() - paper)).clip(0, 1) * 255  # 종이는 0, 가장 진한 글씨는 255
    ink[ink < 40] = 0  # 조명 얼룩을 지움
    top, left, height, width = _bounding_box(mask)
    return _center(ink[top : top + height, left : left + width])


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """참인 칸을 모두 담는 상자의 (위, 왼쪽, 높이, 너비)입니다."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def _center(ink: np.ndarray) -> np.ndarray:
    """글씨만 잘라 낸 (H, W)를 긴 변이 20이 되게 줄이고, 무게 중심을 28x28의 가운데에 둡니다."""
    scale = 20 / max(ink.shape)
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    small = cv2.resize(ink, size, interpolation=cv2.INTER_AREA)
    total = max(small.sum(), 1e-6)
    center_y = (small.sum(axis=1) * np.arange(small.shape[0])).sum() / total
    center_x = (small.sum(axis=0) * np.arange(small.shape[1])).sum() / total
    move = np.float32([[1, 0, 13.5 - center_x], [0, 1, 13.5 - center_y]])
    return cv2.warpAffine(small, move, (28, 28)).clip(0, 255).astype(np.uint8)
