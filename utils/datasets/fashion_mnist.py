"""의류 이미지: Fashion-MNIST 원본, 없으면 코드로 그린 의류 그림.

Fashion-MNIST는 Zalando의 상품 사진에서 만든 28x28 회색조 이미지 70,000장입니다(Xiao 외 2017).
표본은 옷을 찍은 사진이 아니라 OpenCV 도형으로 그린 그림입니다. 클래스 이름과 배열 형식만 같으므로,
표본에서 잰 정확도를 Fashion-MNIST에서 잰 정확도와 비교할 수 없습니다.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator

from utils.data_utils import Found, IdxOriginal, ImageArrays, ImageDataset, search

CLASS_NAMES = (
    *("티셔츠", "바지", "풀오버", "원피스", "코트"),
    *("샌들", "셔츠", "운동화", "가방", "앵클부츠"),
)
ORIGINAL = IdxOriginal(
    name="Fashion-MNIST",
    # torchvision이 쓰는 자리, Debian의 dataset-fashion-mnist 패키지가 쓰는 자리
    folders=("FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"),
    archive="fashion_mnist.npz",
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    md5=(  # torchvision.datasets.FashionMNIST와 같음
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)


def load(source: str = "auto", folder: Path = Path("data"), offline: bool = False) -> ImageDataset:
    """의류 데이터를 찾아 학습, 검증, 테스트로 나눕니다. 인자의 뜻은 `mnist.load`와 같습니다."""
    read, download = partial(ORIGINAL.read, folder), partial(ORIGINAL.download, folder)
    found = search(source, offline, read, download, _draw_sample)
    name, num_val = ("Fashion-MNIST", 5000) if found.source == "original" else ("의류 그림", 1000)
    return ImageDataset(name, found, CLASS_NAMES, num_val)


def _draw_sample() -> Found:
    """학습 5,000장(검증 1,000장을 여기서 뗌)과 테스트 1,000장을 서로 다른 시드로 그립니다."""
    arrays = ImageArrays(*draw_garments(5000, seed=0), *draw_garments(1000, seed=1))
    return Found("sample", "OpenCV로 그린 의류, 사진이 아님", arrays)


def sample_beside_original(data_dir: Path) -> tuple[list[np.ndarray], list[str]]:
    """클래스마다 그린 표본 한 장과, 원본이 있으면 원본 한 장을 (이미지, 제목)으로 돌려줍니다."""
    pairs = {"표본": draw_garments(10, seed=2)}
    if original := ORIGINAL.read(data_dir):
        pairs["원본"] = original.arrays.x_train, original.arrays.y_train
    images, titles = [], []
    for kind, (x, y) in pairs.items():
        for label, name in enumerate(CLASS_NAMES):
            images.append(x[y == label][0])
            titles.append(f"{kind}\n{name}")
    return images, titles


# ---------------------------------------------------------------------------------------------
# 의류 그리기
# ---------------------------------------------------------------------------------------------
SIZE, SCALE, BLOCK = 28, 4, 1000
# OpenCV의 정수 좌표로 1/16 픽셀까지 전하는 자릿수
FRACTION_BITS = 4
# (점, 밝기 0~1, 선 굵기). x는 중심선이 0, y는 위가 0이고 굵기 0은 속을 채운 다각형
Outline = list[tuple[float, float]]
Stroke = tuple[Outline, float, float]
# 클래스별 (짧은 소매, 깃, 지퍼, 단추, 프린트, 밑단) 확률. 헷갈리는 옷이 생기도록 겹친 값
TOP_RATES = {
    0: (0.95, 0.08, 0.01, 0.05, 0.45, 0.10),
    2: (0.03, 0.08, 0.03, 0.04, 0.45, 0.80),
    4: (0.01, 0.75, 0.92, 0.10, 0.02, 0.10),
    6: (0.35, 0.85, 0.03, 0.92, 0.05, 0.10),
}


def symmetric(*left: tuple[float, float]) -> Outline:
    """왼쪽 윤곽에 거울상을 이어 닫힌 윤곽을 만듭니다."""
    return [*left, *((-x, y) for x, y in reversed(left))]


def pair(*strokes: Stroke) -> list[Stroke]:
    """왼쪽 부품에 오른쪽 부품을 더합니다."""
    return [*strokes, *(([(-x, y) for x, y in line], *look) for line, *look in strokes)]


def draw_sleeves(rng: Generator, x: float, y: float, length: float, width: float) -> list[Stroke]:
    """어깨점 (x, y)에서 비스듬히 내려오는 두 소매입니다."""
    angle = rng.uniform(0.12, 0.36) if length > 11 else rng.uniform(0.35, 0.9)
    cuff_x, cuff_y = x - length * np.sin(angle), y + length * np.cos(angle)
    inner = (cuff_x + width * np.cos(angle), cuff_y + width * np.sin(angle))
    sleeve = [(x + 1, y - 0.5), (x, y), (cuff_x, cuff_y), inner, (x + 1.5, y + width + 2)]
    return pair((sleeve, rng.uniform(0.6, 0.9), 0))


def draw_front(rng: Generator, parts: np.ndarray, top: float, hem: float) -> list[Stroke]:
    """목둘레와 지퍼, 단추, 깃, 프린트입니다."""
    collar, zipper, button, printed = parts
    neck, depth = rng.uniform(1.8, 3.2), rng.uniform(0.8, 3) + zipper * rng.uniform(0, 4)
    left, bottom = (-neck, top - 0.6), (0, top + depth)
    strokes: list[Stroke] = [(symmetric(left, bottom), rng.choice([0, 0.3]), 0)]
    if zipper:
        gap = symmetric((-0.2, top + depth), (-rng.uniform(0.7, 2.2), hem))
        strokes += [(gap, rng.choice([0.05, 0.25, 1], p=[0.4, 0.4, 0.2]), 0)]
    if button:
        tone = rng.choice([0.1, 1], p=[0.7, 0.3])
        heights = np.arange(top + depth + 1, hem, rng.uniform(2.2, 3.5))
        strokes += [([bottom, (0, hem)], 0.55, 0.5)]
        strokes += [([(0, y), (0, y + 0.2)], tone, 1.5) for y in heights]
    if collar:
        wing = [left, bottom, (-neck - 1, top + 1 + depth / 2)]
        strokes += pair((wing, rng.choice([0.5, 1]), 0), (wing[1:], 0.2, 0.8))
    if printed:
        width, middle, half = rng.uniform(1, 4), top + rng.uniform(6, 11), rng.uniform(0.5, 3)
        patch = symmetric((-width, middle - half), (-width, middle + half))
        strokes += [(patch, rng.choice([0.2, 0.45, 1]), 0)]
    return strokes


def draw_top(rng: Generator, label: int) -> list[Stroke]:
    """티셔츠, 풀오버, 코트, 셔츠입니다."""
    short, *parts, ribbed = rng.random(6) < TOP_RATES[label]
    coat, shirt = label == 4, label == 6
    length, width = rng.uniform(20, 25) + coat * 2, rng.uniform(5.2, 7.5) + coat * 0.7
    top, hem = 14 - length / 2, 14 + length / 2
    y, sleeve = top + rng.uniform(0.8, 2), rng.uniform(2, 9) if short else length * 0.85
    waist = (rng.uniform(0, 1.2) - width, top + length * 0.6)
    side = [(-width, y), (0.5 - width, y + 6), waist, (rng.uniform(-1, 1) - width, hem)]
    body = symmetric((-2.5, top), *side, (-2, hem + shirt * rng.uniform(0, 1.8)))
    strokes = draw_sleeves(rng, -width, y, sleeve * rng.uniform(0.9, 1.1), rng.uniform(2.8, 4))
    strokes += [(body, 0.75, 0), *pair((side, 0.4, 0.5))]
    if ribbed:
        band = [(1 - width, hem - 1), (width - 1, hem - 1)]
        strokes += [(band, rng.choice([0.35, 0.5, 1]), 1.2)]
    return strokes + draw_front(rng, parts, top, hem)


def draw_dress(rng: Generator, _: int) -> list[Stroke]:
    """허리가 들어가고 치마가 퍼지는 원피스입니다."""
    width, waist, flare = rng.uniform(3, 5), -rng.uniform(2.4, 4.2), -rng.uniform(3.5, 8.5)
    middle, hem = rng.uniform(9, 13), rng.uniform(25, 28)
    sleeve = rng.choice([0, rng.uniform(3, 7), rng.uniform(12, 17)], p=[0.5, 0.35, 0.15])
    strokes = draw_sleeves(rng, -width, 1, sleeve, rng.uniform(2, 3)) if sleeve else []
    bodice = symmetric((1.7 - width, 0), (-width, 1), (0.7 - width, 6), (waist, middle))
    skirt = symmetric((waist, middle), (flare, hem))
    neck = symmetric((1.8 - width, -0.5), (0, rng.uniform(2, 6)))
    strokes += [(bodice, 0.75, 0), (skirt, rng.choice([0.5, 0.75, 0.95], p=[0.2, 0.6, 0.2]), 0)]
    strokes += pair(([(waist / 2, middle), (flare / 2, hem)], rng.uniform(0.5, 0.75), 0.6))
    belt = [(waist, middle), (-waist, middle)]
    return [*strokes, (neck, 0, 0), (belt, rng.choice([0.3, 0.7, 1]), 0.9)]


def draw_trouser(rng: Generator, _: int) -> list[Stroke]:
    """허리와 두 다리이고, 다리 사이는 좁거나 벌어집니다."""
    waist, hip = rng.uniform(2.8, 4.2), rng.uniform(3.6, 5.2)
    crotch, hem = rng.uniform(8, 11), rng.uniform(25, 28)
    outer = hip + rng.uniform(-1, 2.2)
    inner = outer * rng.uniform(0.15, 0.5)
    leg = [(0, 0.5), (-waist, 0.5), (-hip, 8), (-outer, hem), (-inner, hem), (-0.2, crotch)]
    crease = [(-hip / 2, 6), (-(outer + inner) / 2, hem)]
    fly, belt = [(0, 1), (0, crotch + 1)], [(-waist, 1), (waist, 1)]
    strokes = pair((leg, 0.7, 0), (crease, rng.uniform(0.7, 1), 1))
    return [*strokes, (fly, 0.3, 0.6), (belt, rng.choice([0.4, 0.95]), 1)]


def draw_bag(rng: Generator, _: int) -> list[Stroke]:
    """모서리가 둥근 사다리꼴 몸통에 손잡이와 덮개를 답니다."""
    upper, top, bottom = rng.uniform(6, 12), rng.uniform(7, 14), rng.uniform(22, 27)
    lower = np.clip(upper + rng.normal(0.5, 1.5), 6, 13)
    body = symmetric((1 - upper, top), (-upper, top + 1), (-lower, bottom - 1), (1 - lower, bottom))
    strokes: list[Stroke] = [(body, 0.75, 0)]
    if rng.random() < 0.85:
        reach, rise = upper * rng.uniform(0.35, 0.95), rng.uniform(4, top - 1)
        angles = np.linspace(np.pi, 2 * np.pi, 9)
        handle = [(reach * np.cos(a), top + 0.5 + rise * np.sin(a)) for a in angles]
        strokes += [(handle, rng.uniform(0.5, 0.9), rng.uniform(0.7, 1.5))]
    if rng.random() < 0.6:
        fold = top + (bottom - top) * rng.uniform(0.25, 0.6)
        flap = symmetric((-upper, top + 0.5), (-rng.uniform(0.3, 1) * upper, fold))
        strokes += [(flap, rng.choice([0.6, 0.9]), 0), (flap[1:3], 0.3, 0.5)]
        strokes += [([(-0.5, fold), (0.5, fold)], 1, 1.5)]
    return strokes


def draw_shoe(rng: Generator, label: int) -> list[Stroke]:
    """운동화와 앵클부츠이고, 발목 높이와 굽이 다릅니다."""
    boot = label == 9
    height = rng.uniform(11.5, 21) if boot else rng.uniform(7, 11.5)
    heel = rng.uniform(0.5, 6) * (boot and rng.random() < 0.7)
    base = 14 + height / 2 + rng.uniform(0, 2)
    toe, back, ankle = rng.uniform(-13, -12), rng.uniform(11, 13), rng.uniform(-1, 4)
    top, instep = base - height, base - rng.uniform(4, 6) - heel * 0.6
    upper = [(toe, base), (toe + 0.3, base - 2), (toe + 2, base - 3.2), (ankle - 4, instep)]
    upper += [(ankle, top + 1), (ankle + 1, top), (back - 3, top + rng.uniform(0, 2))]
    upper += [(back - 0.5, top), (back, base - heel), (ankle, base - heel / 2), (-5, base)]
    sole = [(toe, base), (-5, base), (back - 6, base - heel), (back, base - heel)]
    block = [*sole[2:], (back, base), (back - rng.uniform(1, 5), base)]
    strokes: list[Stroke] = [(upper, 0.75, 0), (block, 0.6, 0)]
    if rng.random() < 0.5:
        x, tone = rng.uniform(-3, 6), rng.choice([0.25, 1])
        strokes += [([(x, base - 1), (x + 4, instep + 1)], tone, rng.uniform(0.6, 2))]
    for step in range(rng.integers(0, 5)):
        x, y = ankle - 3 + step, instep - step * (instep - top) / 6
        strokes += [([(x - 1, y), (x + 2, y + 1.5)], rng.choice([0.3, 1]), 0.6)]
    return [*strokes, (sole, rng.choice([0.3, 0.55, 1]), rng.uniform(0.8, 2.5))]


def draw_sandal(rng: Generator, _: int) -> list[Stroke]:
    """밑창과 굽 위에 끈 몇 가닥만 얹습니다."""
    heel, width = rng.uniform(1, 11) * (rng.random() < 0.7), rng.uniform(0.9, 2.6)
    base = 19 + heel / 2 + rng.uniform(-1, 1)
    toe, back, high = rng.uniform(-13, -12), rng.uniform(11, 13), base - heel
    foot = [(toe, base), (-4, base), (6, high), (back, high)]
    strokes: list[Stroke] = [(foot, rng.uniform(0.5, 0.9), rng.uniform(1, 2.4))]
    wedge, stem = [*foot[1:], (back, base)], [(back - 1, high), (back - 0.5, base)]
    strokes += [(wedge, 0.6, 0) if rng.random() < 0.4 else (stem, 0.65, width)]
    for x in rng.uniform(-11, 0, rng.integers(1, 4)):
        start, end = np.interp([x, x + 7], *np.transpose(foot))
        strap = [(x, start), (x + 2, start - 4), (x + 5, end - 4.5), (x + 7, end)]
        strokes += [(strap, rng.uniform(0.5, 1), rng.choice([0, 0.6, 1]) * width)]
    if rng.random() < 0.7:
        top, front = high - rng.uniform(4, 9), rng.uniform(-6, 3)
        instep = (front, np.interp(front, *np.transpose(foot)) - rng.uniform(0, 4))
        loop = [(back, high), (back - 0.5, top), (back - 7, top + 1), instep]
        strokes += [(loop, 0.8, width * 0.6), (loop[1:3], 0.95, width)]
    return strokes


PAINTERS = [draw_top, draw_trouser, draw_top, draw_dress, draw_top]
PAINTERS += [draw_sandal, draw_top, draw_shoe, draw_bag, draw_shoe]


def render(rng: Generator, strokes: list[Stroke]) -> np.ndarray:
    """조금 비틀고 옮겨 네 배 크기로 그린 뒤, 넓이 평균으로 줄입니다."""
    turn, shear = rng.normal(0, 0.04, 2)
    pose = np.array([[1, turn], [shear - turn, 1]]) * rng.uniform(0.83, 1.03, 2)
    shift = SIZE / 2 - np.array([0, SIZE / 2]) @ pose + rng.normal(0, 1.1, 2)
    canvas = np.zeros((SIZE * SCALE, SIZE * SCALE), np.uint8)
    for outline, tone, width in strokes:
        placed = (np.array(outline) @ pose + shift) * (SCALE << FRACTION_BITS)
        corners, color = [np.rint(placed).astype(np.int32)], 255 * tone
        if width:
            thick = max(1, round(width * SCALE))
            cv2.polylines(canvas, corners, False, color, thick, cv2.LINE_AA, FRACTION_BITS)
        else:
            cv2.fillPoly(canvas, corners, color, cv2.LINE_AA, FRACTION_BITS)
    return cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def decorate(rng: Generator, images: np.ndarray) -> np.ndarray:
    """밝기, 음영, 무늬, 잡음, 흐림을 이미지 묶음 전체에 한꺼번에 입힙니다."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)

    def amount(low: float, high: float, rate: float = 1) -> np.ndarray:
        value = rng.uniform(low, high, len(images)) * (rng.random(len(images)) < rate)
        return value.astype(np.float32)[:, None, None]

    rows = np.sin(y * amount(0.6, 2.2) + x * amount(-0.2, 0.2) + amount(0, 2 * np.pi))
    columns = np.sin(x * amount(0.6, 2.2) + amount(0, 2 * np.pi))
    pattern = amount(0.1, 0.4, 0.2) * rows + amount(0.05, 0.3, 0.15) * columns
    spread = cv2.resize(np.eye(5, dtype=np.float32), (5, SIZE), interpolation=cv2.INTER_CUBIC)
    shade = spread @ rng.standard_normal((len(images), 5, 5), np.float32) @ spread.T
    grain = amount(0.01, 0.07) + amount(0.05, 0.25, 0.12)
    pattern += amount(0.05, 0.2) * shade + grain * rng.standard_normal(images.shape, np.float32)
    images = images * amount(0.35, 1.35) * (1 + pattern)
    blur = cv2.GaussianBlur(np.eye(SIZE, dtype=np.float32), (1, 3), 0.7)
    images += amount(0, 0.8, 0.3) * (blur @ images @ blur.T - images)
    return np.clip(images, 0, 255).astype(np.uint8)


def draw_garments(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(num, 28, 28) 그림과 (num,) 클래스 번호를 만듭니다. seed가 같으면 결과도 같습니다."""
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(num) % 10).astype(np.uint8)
    images = np.empty((num, SIZE, SIZE), np.uint8)
    for start in range(0, num, BLOCK):
        block = slice(start, start + BLOCK)
        drawn = [render(rng, PAINTERS[label](rng, label)) for label in labels[block].tolist()]
        images[block] = decorate(rng, np.stack(drawn))
    return images, labels
