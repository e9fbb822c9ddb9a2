"""거리 장면: COCO의 여섯 범주를 코드로 그린 256x256 RGB 그림과 정답 상자.

사진이 아니라 OpenCV 도형으로 그린 그림입니다. COCO와 범주의 이름과 번호, 파일 형식만 같으므로
여기서 잰 mAP를 COCO의 mAP와 비교할 수 없습니다. 물체와 색이 같은 다른 도형이 함께 있어, 모양까지
보아야 물체를 찾을 수 있습니다.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.random import Generator

VERSION = 1  # 그리는 코드가 바뀌면 올림. 왜: 옛 코드로 그려 둔 폴더를 쓰지 않게 함
SIZE, MOST_OBJECTS, SMALLEST, LARGEST = 256, 8, 12, 160
# COCO의 범주 이름과 번호
CATEGORIES = {
    "stop sign": 13,
    "traffic light": 10,
    "clock": 85,
    "sports ball": 37,
    "kite": 38,
    "donut": 60,
}
BITS = 4  # OpenCV의 정수 좌표로 1/16 픽셀까지 전하는 자릿수
SKIES = (0xA5C3DC, 0xC8D2DC, 0xE1C8AF, 0x8296B4, 0xB4B9BE)
GROUNDS = (0x5F5F64, 0x787673, 0x698741, 0x96876E, 0x464B50)
WALLS = (0xB4A08C, 0x8C7873, 0xA5AAB4, 0x785A46, 0xC8BEAA, 0x646E7D)
PAINTS = (0xBE2828, 0x2D50AA, 0x3C966E, 0xE1BE3C, 0xE6E6E1, 0x282A2D, 0xD2783C, 0x8C5AA0)
# 물체의 색. 물체가 아닌 도형도 이 색으로 그림
COMMON = (0xB4191E, 0xB4191E, 0x282A2D, 0xEBE6DC, 0xD2702D, 0xC8DC46, 0xBE8246, 0xE68CAA, 0x5A321E)
COMMON += PAINTS
Ink = tuple[float, float, float]


def rgb(rng: Generator, code: int, spread: float = 12) -> Ink:
    """16진수 색에 잡음을 더합니다."""
    base = np.array([code >> 16, code >> 8 & 255, code & 255])
    return tuple((base + rng.normal(0, spread, 3)).clip(5, 250).tolist())


def pick(rng: Generator, codes: tuple[int, ...]) -> Ink:
    """색 하나를 골라 잡음을 더합니다."""
    return rgb(rng, codes[rng.integers(len(codes))])


# ---------------------------------------------------------------------------------------------
# 붓: 물체의 좌표(중심이 0, 긴 변이 1)를 그림의 좌표로 옮겨 그림
# ---------------------------------------------------------------------------------------------
class Brush:
    """물체 하나를 그리면서, 그린 점들을 둘러싼 상자를 기억합니다.

    Args:
        image: (H, W, 3) 그림. 여기에 바로 그립니다.
        center, size: 물체의 중심과 긴 변(픽셀).
        squeeze: 옆에서 비스듬히 본 정도. 가로를 이만큼 줄입니다.
        angle: 기울기(라디안).
    """

    def __init__(
        self, image: np.ndarray, center: np.ndarray, size: float, squeeze: float, angle: float
    ) -> None:
        self.image, self.center, self.size = image, center, size
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        self.matrix = size * np.diag([squeeze, 1.0]) @ turn
        self.low, self.high = np.full(2, np.inf), np.full(2, -np.inf)

    def place(self, points: np.ndarray) -> np.ndarray:
        """물체의 좌표 (N, 2)를 그림의 좌표로 옮깁니다."""
        return np.asarray(points, float) @ self.matrix + self.center

    def fill(self, points: np.ndarray, ink: Ink) -> None:
        """다각형 (N, 2)의 속을 칠합니다."""
        points = self.place(points)
        self.low = np.minimum(self.low, points.min(axis=0))
        self.high = np.maximum(self.high, points.max(axis=0))
        corners = np.rint((points - 0.5) * (1 << BITS)).astype(np.int32)
        cv2.fillPoly(self.image, [corners], ink, cv2.LINE_AA, BITS)

    def ring(self, x: float, y: float, radius: float, ink: Ink, count: int = 28) -> None:
        """(x, y)를 중심으로 한 원을 칠합니다."""
        t = np.linspace(0, 2 * np.pi, count, endpoint=False)
        self.fill(np.stack([x + radius * np.cos(t), y + radius * np.sin(t)], axis=1), ink)

    def line(self, points: np.ndarray, ink: Ink, width: float) -> None:
        """꺾은선을 긋습니다. 굵기는 물체의 크기에 비례하고 적어도 1픽셀입니다."""
        points, thick = self.place(points), max(1, round(width * self.size))
        self.low = np.minimum(self.low, points.min(axis=0) - thick / 2)
        self.high = np.maximum(self.high, points.max(axis=0) + thick / 2)
        corners = np.rint((points - 0.5) * (1 << BITS)).astype(np.int32)
        cv2.polylines(self.image, [corners], False, ink, thick, cv2.LINE_AA, BITS)


def polygon(sides: int, radius: float, start: float) -> np.ndarray:
    """정다각형의 꼭짓점 (sides, 2)입니다."""
    t = start + np.arange(sides) * 2 * np.pi / sides
    return radius * np.stack([np.cos(t), np.sin(t)], axis=1)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """직사각형의 꼭짓점 (4, 2)입니다."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


# ---------------------------------------------------------------------------------------------
# 여섯 가지 물체
# ---------------------------------------------------------------------------------------------
def draw_stop_sign(rng: Generator, brush: Brush) -> None:
    """흰 테를 두른 빨간 팔각형과 흰 글자 자국입니다."""
    radius, white = 0.5 / np.cos(np.pi / 8), rgb(rng, 0xE6E6E1, 6)
    brush.fill(polygon(8, radius, np.pi / 8), white)
    brush.fill(polygon(8, 0.9 * radius, np.pi / 8), rgb(rng, 0xB4191E, 14))
    for x in (-0.29, -0.1, 0.09, 0.28):
        brush.line([(x, -0.1), (x, 0.1)], white, 0.07)
    brush.line([(-0.16, -0.1), (-0.02, -0.1)], white, 0.05)


def draw_traffic_light(rng: Generator, brush: Brush) -> None:
    """어두운 상자 안에 등 세 개가 한 줄로 있고 하나가 켜져 있습니다."""
    half, lit = rng.uniform(0.17, 0.22), rng.integers(3)
    shell = rgb(rng, (0x282A2D, 0x2D3C32, 0xB4963C)[rng.integers(3)], 8)
    brush.fill(rectangle(-half, -0.5, half, 0.5), shell)
    lamps = (0xF03C32, 0xFAC83C, 0x46E68C)
    for k, y in enumerate((-0.31, 0, 0.31)):
        dim = tuple(0.3 * value for value in rgb(rng, lamps[k], 5))
        brush.ring(0, y, 0.72 * half, rgb(rng, lamps[k], 10) if k == lit else dim, 16)


def draw_clock(rng: Generator, brush: Brush) -> None:
    """테두리, 밝은 판, 눈금, 바늘 둘입니다."""
    brush.ring(0, 0, 0.5, pick(rng, PAINTS[1:3] + PAINTS[5:]))
    brush.ring(0, 0, 0.42, rgb(rng, 0xEBE6DC, 8))
    dark = rgb(rng, 0x28282D, 6)
    for t in np.arange(0, 12, 1 if brush.size > 40 else 3) * np.pi / 6:
        way = np.array([np.cos(t), np.sin(t)])
        brush.line([0.32 * way, 0.38 * way], dark, 0.025)
    for length, width in ((0.2, 0.06), (0.31, 0.035)):
        t = rng.uniform(0, 2 * np.pi)
        brush.line([(0, 0), (length * np.cos(t), length * np.sin(t))], dark, width)


def draw_sports_ball(rng: Generator, brush: Brush) -> None:
    """축구공, 농구공, 테니스공 가운데 하나입니다."""
    kind, turn = rng.integers(3), rng.uniform(0, 2 * np.pi)
    brush.ring(0, 0, 0.5, rgb(rng, (0xE6E6E6, 0xD2702D, 0xC8DC46)[kind], 10))
    dark = rgb(rng, 0x1E1E20, 5)
    if kind == 0:
        brush.fill(polygon(5, 0.17, turn), dark)
        for corner in polygon(5, 1.0, turn):
            brush.line([0.17 * corner, 0.33 * corner], dark, 0.03)
            brush.fill(0.38 * corner + polygon(5, 0.1, turn + np.pi / 5), dark)
    ink = dark if kind == 1 else rgb(rng, 0xF0F0F0, 5)
    t = np.linspace(-1, 1, 9)
    for bend in () if kind == 0 else (-0.3, 0.3):  # 농구공은 바깥으로, 테니스공은 안으로 굽음
        x, y = (1.15 - 0.55 * t**2, 0.44 * t) if kind == 1 else (0.75 + 0.35 * t**2, 0.33 * t)
        curve = np.stack([bend * x, y], axis=1)
        cos, sin = np.cos(turn), np.sin(turn)
        brush.line(curve @ np.array([[cos, sin], [-sin, cos]]), ink, 0.035)
    if kind == 1:
        for way in polygon(2, 0.48, turn), polygon(2, 0.48, turn + np.pi / 2):
            brush.line(way, ink, 0.03)


def draw_kite(rng: Generator, brush: Brush) -> None:
    """살이 엇갈린 마름모와 짧은 꼬리입니다. 상자는 꼬리까지 둘러쌉니다."""
    wide, cross = rng.uniform(0.26, 0.36), rng.uniform(-0.22, -0.12)
    top, left, right, foot = (0, -0.5), (-wide, cross), (wide, cross), (0, 0.28)
    codes = rng.permutation([PAINTS[k] for k in (0, 1, 2, 3, 6, 7)])
    for k, (a, b) in enumerate(((top, left), (top, right), (foot, left), (foot, right))):
        brush.fill(np.array([a, b, (0, cross)]), rgb(rng, int(codes[(k in (1, 2)) * 1]), 8))
    dark = rgb(rng, 0x3C322D, 6)
    brush.line([left, right], dark, 0.02)
    brush.line([top, foot], dark, 0.02)
    sway = rng.uniform(0.04, 0.1) * rng.choice((-1, 1))
    brush.line([foot, (sway, 0.36), (-sway, 0.43), (0, 0.5)], rgb(rng, int(codes[0]), 8), 0.04)


def draw_donut(rng: Generator, brush: Brush) -> None:
    """갈색 고리 위에 당의와 가루를 얹고, 가운데에는 뒤가 보입니다."""
    hole, behind = rng.uniform(0.13, 0.17), brush.image.copy()
    brush.ring(0, 0, 0.5, rgb(rng, 0xBE8246, 10))
    icing = (0xE68CAA, 0x5A321E, 0xF0E6D2, 0xBE8246)[rng.integers(4)]
    brush.ring(0, 0, 0.42, rgb(rng, icing, 8))
    for _ in range(rng.integers(0, 12)):
        t, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.22, 0.38)
        x, y, a = r * np.cos(t), r * np.sin(t), rng.uniform(0, np.pi)
        step = 0.035 * np.array([np.cos(a), np.sin(a)])
        middle = np.array([x, y])
        brush.line(np.stack([middle - step, middle + step]), pick(rng, PAINTS), 0.03)
    mask = np.zeros(behind.shape[:2], np.uint8)
    t = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    points = brush.place(hole * np.stack([np.cos(t), np.sin(t)], axis=1))
    cv2.fillPoly(mask, [np.rint((points - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, BITS)
    top, bottom = (int(np.clip(points[:, 1].min() - 2, 0, SIZE)), int(points[:, 1].max() + 3))
    weight = mask[top : max(bottom, 0), :, None] / 255
    part = brush.image[top : max(bottom, 0)]
    part[:] = (part + weight * (behind[top : max(bottom, 0)] - part.astype(float))).round()


PAINTERS = (
    draw_stop_sign,
    draw_traffic_light,
    draw_clock,
    draw_sports_ball,
    draw_kite,
    draw_donut,
)
TILTS = (0.12, 0.08, 0.3, 0.3, 0.35, 0.3)  # 기울기의 표준편차(라디안)
SQUEEZES = (0.75, 0.85, 0.7, 1.0, 0.8, 0.65)  # 가로를 가장 많이 줄일 때


def draw_distractor(rng: Generator, brush: Brush) -> None:
    """물체와 색이 같지만 물체가 아닌 도형입니다."""
    kind, ink = rng.integers(6), pick(rng, COMMON)
    if kind == 0:  # 원판, 때로는 가운데가 흰 표지판
        brush.ring(0, 0, 0.5, ink)
        if rng.random() < 0.6:
            brush.fill(rectangle(-0.35, -0.09, 0.35, 0.09), rgb(rng, 0xE6E6E1))
    elif kind == 1:  # 삼각형 표지판
        brush.fill(polygon(3, 0.5, -np.pi / 2), ink)
        brush.fill(polygon(3, 0.32, -np.pi / 2), rgb(rng, 0xE6E6E1))
    elif kind == 2:  # 등이 없는 어두운 상자, 우체통
        wide = rng.uniform(0.15, 0.4)
        brush.fill(rectangle(-wide, -0.5, wide, 0.5), ink)
    elif kind == 3:  # 타이어
        brush.ring(0, 0, 0.5, rgb(rng, 0x232326, 6))
        brush.ring(0, 0, 0.3, rgb(rng, 0x96969B))
    elif kind == 4:  # 네모난 창
        brush.fill(rectangle(-0.4, -0.4, 0.4, 0.4), ink)
        brush.line([(0, -0.4), (0, 0.4)], rgb(rng, 0xE6E6E1), 0.05)
        brush.line([(-0.4, 0), (0.4, 0)], rgb(rng, 0xE6E6E1), 0.05)
    else:  # 나뭇잎 덩어리
        for _ in range(5):
            brush.ring(*rng.uniform(-0.3, 0.3, 2), rng.uniform(0.1, 0.2), rgb(rng, 0x4B6E37, 20))


# ---------------------------------------------------------------------------------------------
# 장면
# ---------------------------------------------------------------------------------------------
def draw_street(rng: Generator, grain: np.ndarray) -> np.ndarray:
    """하늘, 건물, 도로에 얼룩과 잡음을 입힌 배경 (256, 256, 3)입니다."""
    horizon = int(rng.uniform(0.3, 0.75) * SIZE)
    image = np.empty((SIZE, SIZE, 3), np.float32)
    fade = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    image[:] = np.array(pick(rng, SKIES)) * (0.8 + 0.3 * fade)
    image[horizon:] = pick(rng, GROUNDS)
    left = -rng.integers(30)
    while left < SIZE:
        right = left + int(rng.integers(25, 80))
        if rng.random() < 0.75:
            top, ink = int(horizon - rng.uniform(10, 150)), pick(rng, WALLS)
            cv2.rectangle(image, (left, top), (right - 2, horizon), ink, -1)
            step, glass = int(rng.integers(9, 20)), tuple(0.6 * value for value in ink)
            for x in range(left + 4, right - step // 2 - 2, step):
                for y in range(top + 4, horizon - step // 2, step):
                    cv2.rectangle(image, (x, y), (x + step // 2, y + step // 2), glass, -1)
        left = right
    for _ in range(rng.integers(1, 5)):  # 차선과 기둥
        x, y = rng.integers(SIZE), rng.integers(horizon, SIZE)
        if rng.random() < 0.5:
            end = (int(x + rng.integers(20, 70)), int(y + rng.integers(-4, 4)))
            cv2.line(image, (int(x), int(y)), end, rgb(rng, 0xDCDCD2), int(rng.integers(2, 6)))
        else:
            foot = (int(x), int(y - rng.integers(30, 160)))
            cv2.line(image, (int(x), int(y)), foot, rgb(rng, 0x50505A), int(rng.integers(2, 5)))
    top, side = rng.integers(len(grain) - SIZE, size=2)
    image += rng.uniform(0.5, 1.5) * grain[top : top + SIZE, side : side + SIZE]
    return image.clip(0, 255).astype(np.uint8)


def make_grain() -> np.ndarray:
    """배경에 더할 얼룩입니다. 거친 것부터 고운 것까지 세 겹의 잡음을 더합니다."""
    rng, total = np.random.default_rng(0), np.zeros((1024, 1024, 3), np.float32)
    for cells, strength in ((32, 12), (128, 8), (1024, 6)):
        noise = rng.normal(0, strength, (cells, cells, 1)).astype(np.float32)
        noise = noise + rng.normal(0, strength / 3, (cells, cells, 3)).astype(np.float32)
        total += cv2.resize(noise, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return total


def covered_share(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """상자 (n, 4)마다 새 상자 (4,)에 가려지는 비율 (n,)입니다."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return (high - low).clip(0).prod(axis=1) / (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def draw_scene(
    index: int, seed: int, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """장면 하나: 그림 (256, 256, 3), 상자 (n, 4) xyxy 픽셀, 범주의 차례 (n,)입니다.

    물체는 1~8개이고 긴 변은 12~160픽셀입니다(작은 것과 큰 것이 고르게 나오도록 로그로 뽑음). 서로
    겹칠 수 있지만 한 물체의 절반 넘게 가려지지는 않고, 4분의 1까지 그림 밖으로 나갈 수 있습니다.
    """
    rng = np.random.default_rng([seed, index])
    image = draw_street(rng, grain)
    boxes, labels, hidden = np.empty((0, 4)), [], np.empty(0)
    plan = rng.permutation([0] * rng.integers(1, MOST_OBJECTS + 1) + [1] * rng.integers(2, 9))
    for distractor in plan:
        size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        label = int(rng.integers(len(PAINTERS)))
        center = rng.uniform(0.25 * size, SIZE - 0.25 * size, 2)
        squeeze, angle = rng.uniform(SQUEEZES[label], 1), rng.normal(0, TILTS[label])
        around = np.concatenate([center - size / 2, center + size / 2]).clip(0, SIZE)
        more = hidden + covered_share(around, boxes)
        if (more > 0.5).any():
            continue
        hidden = more
        brush = Brush(image, center, size, squeeze, angle)
        if distractor:
            draw_distractor(rng, brush)
            continue
        PAINTERS[label](rng, brush)
        box = np.concatenate([brush.low, brush.high]).clip(0, SIZE)
        boxes, labels = np.concatenate([boxes, box[None]]), [*labels, label]
        hidden = np.append(hidden, 0.0)
    return finish(rng, image), boxes, np.array(labels, np.int64)


def finish(rng: Generator, image: np.ndarray) -> np.ndarray:
    """대비, 밝기, 색조, 흐림을 입힙니다."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.3, 0.9))
    gain, tint = rng.uniform(0.7, 1.15), rng.uniform(0.93, 1.07, 3)
    table = np.arange(256)[:, None] * gain * tint + rng.uniform(-15, 25)
    return cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[None])


# ---------------------------------------------------------------------------------------------
# COCO 형식으로 쓰기
# ---------------------------------------------------------------------------------------------
def write_street(folder: Path, counts: dict[str, int]) -> None:
    """장면을 그려 COCO의 폴더 모양으로 씁니다: `<나눔>/000001.jpg`, `annotations/instances_*.json`.

    다 쓴 뒤에 이름을 바꾸므로, 도중에 끊겨도 반쯤 쓴 폴더가 남지 않습니다.

    Args:
        counts: 나눔(train, val, test)마다의 장면 수. 나눔이 다르면 시드가 다릅니다.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(suffix=".part", dir=folder.parent) as temporary:
            part = Path(temporary) / folder.name
            write_splits(part, counts)
            part.rename(folder)
    except OSError as error:
        error.filename = str(folder)  # 왜: 쓰다가 공간이 모자란 오류에는 이름이 없음
        raise


def write_splits(part: Path, counts: dict[str, int]) -> None:
    """나눔마다 그림과 JSON을 씁니다."""
    grain = make_grain()
    (part / "annotations").mkdir(parents=True)
    for seed, (split, count) in enumerate(counts.items()):
        (part / split).mkdir()
        images, annotations = [], []
        for index in range(count):
            image, boxes, labels = draw_scene(index, seed, grain)
            name = f"{index + 1:06}.jpg"
            _, content = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 92))
            (part / split / name).write_bytes(content.tobytes())
            images.append({"id": index + 1, "file_name": name, "width": SIZE, "height": SIZE})
            annotations += coco_annotations(index + 1, boxes, labels, len(annotations))
        content = {
            "info": {"description": "코드로 그린 거리 장면"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for name, number in CATEGORIES.items()],
        }
        text = json.dumps(content, ensure_ascii=False)
        (part / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")


def coco_annotations(
    image_id: int, boxes: np.ndarray, labels: np.ndarray, start: int
) -> list[dict]:
    """상자를 COCO의 annotations 목록으로 바꿉니다. COCO의 상자는 (왼쪽, 위, 너비, 높이)입니다."""
    numbers, rows = list(CATEGORIES.values()), []
    for box, label in zip(boxes.round(2).tolist(), labels.tolist(), strict=True):
        left, top, right, bottom = box
        width, height = round(right - left, 2), round(bottom - top, 2)
        row = {"id": start + len(rows) + 1, "image_id": image_id, "category_id": numbers[label]}
        row |= {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
        rows.append(row)
    return rows
