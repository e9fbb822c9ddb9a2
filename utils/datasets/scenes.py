"""컬러 장면: CIFAR-10의 열 클래스를 코드로 그린 32x32 RGB 그림.

사진이 아니라 OpenCV 도형으로 그린 그림입니다. CIFAR-10과 클래스 이름, 배열 형식만 같으므로 여기서
잰 정확도를 CIFAR-10의 정확도와 비교할 수 없습니다. 색과 배경은 클래스끼리 많이 겹치므로, 모양을
보아야 클래스를 알 수 있습니다.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

CLASS_NAMES = ("비행기", "자동차", "새", "고양이", "사슴", "개", "개구리", "말", "배", "트럭")
SIZE, SCALE, BLOCK = 32, 4, 1000
# OpenCV의 정수 좌표로 1/16 픽셀까지 전하는 자릿수
FRACTION_BITS = 4
# (점, 색 번호, 선 굵기). y는 아래로 갈수록 크고 굵기 0은 속을 채운 다각형
Outline = list[tuple[float, float]]
Stroke = tuple[Outline, int, float]
BODY, SHADE, TRIM, DARK, LIGHT, GLASS, SHADOW = range(7)
WHEEL = ((DARK, 3.5), (LIGHT, 1.4))

# 물체의 바탕색. 앞의 것은 동물에도 흔한 색
NATURAL = (0xE1DCD2, 0x2D2A2D, 0x828282, 0x6E482A, 0xBE9669, 0xC86E2D, 0x6E823C)
COLORS = np.array([*NATURAL, 0xBE2828, 0x2D50AA, 0x3C966E, 0xE1BE3C])[:, None] >> (16, 8, 0) & 255
# (위쪽 끝, 지평선 위, 지평선 아래)의 색과, 흩어 놓을 물건 둘의 (너비의 반, 높이의 반, 지평선에서
# 떨어진 거리, 가장자리가 선명한 정도)
SCENERY = (
    (0x5087C8, 0xA5C3DC, 0x96AFC3, (7, 2.5, -32, 2), (3, 1, -32, 2)),  # 하늘: 큰 구름, 작은 구름
    (0x7DA5CD, 0xB9C8C8, 0x698741, (3, 2, 18, 3), (0.6, 2, 18, 8)),  # 들: 덤불, 풀
    (0x82A0BE, 0xC3C3BE, 0x325F87, (6, 0.6, 20, 3), (2, 0.5, 20, 3)),  # 바다: 물결
    (0x87A0BE, 0xA5AA96, 0x69696C, (4, 0.7, 18, 9), (0.6, 6, -5, 9)),  # 도로: 차선, 기둥
    (0xBEAF96, 0xAA9B87, 0x7D5A41, (4, 4, -16, 20), (6, 2, 16, 20)),  # 방: 액자, 탁자
    (0x3C5A32, 0x556E3C, 0x5F5F37, (0.9, 9, -6, 9), (4, 4, -14, 3)),  # 숲: 줄기, 잎
    (0xA5AAB4, 0x968C87, 0x787673, (3, 6, -8, 20), (1, 1, -10, 20)),  # 도시: 건물, 창문
)
SCENES = np.array([row[:3] for row in SCENERY])[..., None] >> (16, 8, 0) & 255
CLUTTER = np.array([row[3:] for row in SCENERY], np.float32)
# 클래스별로 조금 더 자주 놓이는 배경과 기울기의 표준편차
HOMES = np.array([0, 3, 5, 4, 5, 4, 1, 1, 2, 6])
TILTS = (0.3, 0.05, 0.15, 0.08, 0.06, 0.08, 0.08, 0.06, 0.06, 0.05)


# ---------------------------------------------------------------------------------------------
# 물체 그리기: 오른쪽을 보고 발이나 바퀴가 y = 0에 닿음
# ---------------------------------------------------------------------------------------------
def dot(x: float, y: float, tone: int, width: float) -> Stroke:
    """지름이 width인 동그라미입니다."""
    return [(x, y), (x, y)], tone, width


def pair(*strokes: Stroke) -> list[Stroke]:
    """x = 0을 축으로 한 거울상을 더합니다."""
    return [*strokes, *(([(-x, y) for x, y in line], *look) for line, *look in strokes)]


def moved(x: float, y: float, strokes: list[Stroke]) -> list[Stroke]:
    """(x, y)만큼 옮깁니다."""
    return [([(x + a, y + b) for a, b in line], *look) for line, *look in strokes]


def draw_plane(rng: Generator, _: int) -> list[Stroke]:
    """동체와 수직 꼬리날개, 비스듬히 본 두 날개입니다."""
    thick, root, fin = rng.uniform(1, 1.6), rng.uniform(-1, 2), -rng.uniform(4, 6)
    tip, chord, sides = root - rng.uniform(2, 6), rng.uniform(3, 4.5), []
    for span in (-rng.uniform(2, 7), rng.uniform(3.5, 8)):
        wing = [(root, 0), (tip, span), (tip - chord * 0.4, span), (root - chord, 0)]
        tail = [(-7, 0), (-10, span * 0.4), (-11, span * 0.4), (-9.5, 0)]
        sides.append([(wing, SHADE, 0), (tail, SHADE, 0), dot(tip / 2, span / 2, DARK, 1.2)])
    body = [(-6, -thick), (6, -thick), (9.5, 0), (6, thick), (-6, thick), (-11, -1)]
    rudder = [(-6, -thick / 2), (-9.5, fin), (-11, fin), (-9.5, 0)]
    windows = [([(-5, -0.4), (5, -0.4)], GLASS, 0.7), dot(7, -0.4, DARK, 1)]
    return [*sides[0], (body, BODY, 0), (rudder, TRIM, 0), *windows, *sides[1]]


def draw_car(rng: Generator, _: int) -> list[Stroke]:
    """낮은 몸통 위에 창이 난 지붕이 얹힌 승용차입니다."""
    belt, top, middle = -rng.uniform(3.8, 4.6), -rng.uniform(6.2, 8), rng.uniform(-2, 0)
    front, back, high = rng.uniform(3.5, 6), -rng.uniform(5, 8.5), top + 0.8
    left, right = back + rng.uniform(1, 2.5), front - rng.uniform(2, 3)
    roof = [(back, belt), (left, top), (right, top), (front, belt)]
    glass = [(back + 1.3, belt), (left + 0.4, high), (right - 0.4, high), (front - 1.2, belt)]
    shell = [(-9, -1.2), (-9, belt), (front, belt), (8.5, belt + 0.8), (9, -1.2)]
    strokes = [(roof, BODY, 0), (glass, GLASS, 0), ([(middle, top), (middle, belt)], BODY, 0.8)]
    wheels = [dot(x, -1.7, *look) for look in WHEEL for x in (-5.5, 5.3)]
    return [*strokes, (shell, BODY, 0), dot(8.3, belt + 1.7, LIGHT, 1.1), *wheels]


def draw_truck(rng: Generator, _: int) -> list[Stroke]:
    """운전석 뒤에 짐칸을 단 트럭입니다."""
    cab, slope, front = -rng.uniform(5.5, 8), rng.uniform(0, 2), rng.uniform(7.5, 9)
    load, axle = -rng.choice((4, 5, 7, 8, 9, 10)), rng.choice((-4, -7.5))
    head = [(3.4, -1.2), (3.4, cab), (front - slope, cab), (front, -3.8), (front, -1.2)]
    window = [(5, -3.9), (5, cab + 0.8), (front - slope - 0.3, cab + 0.8), (front - 0.6, -3.9)]
    crate = [(-10, load), (2.8, load), (2.8, -2.2), (-10, -2.2)]
    ribs = [([(x, load), (x, -2)], SHADE, 0.4) for x in np.arange(-8, 2, rng.uniform(2, 6))]
    strokes = [(crate, rng.choice((TRIM, LIGHT, BODY)), 0), *ribs]
    strokes += [([(-9, -1.8), (7, -1.8)], DARK, 1)]
    wheels = [dot(x, -1.7, *look) for look in WHEEL for x in (-7.5, axle, 5.6)]
    return [*strokes, (head, BODY, 0), (window, GLASS, 0), *wheels]


def draw_ship(rng: Generator, _: int) -> list[Stroke]:
    """선체 위에 돛을 달거나, 선실과 굴뚝을 얹습니다."""
    deck, mast, top = -rng.uniform(2.8, 4.5), rng.uniform(-3, 2), -rng.uniform(9, 15)
    hull = [(-9, deck), (10, deck - 1), (7.5, 0), (-8, 0)]
    strokes = [(hull, BODY, 0), ([(-8, -0.7), (7.3, -0.7)], TRIM, 1.2)]
    strokes += [([(mast, top), (mast, deck)], DARK, 0.7)]
    if rng.random() < 0.35:
        jib = [(mast + 0.7, top + 1.5), (mast + 0.7, deck - 1.3), (9, deck - 1.5)]
        sail = [(mast - 0.6, top), (mast - 0.6, deck - 1.3), (-8.5, deck - 1.3)]
        return [*strokes, (jib, LIGHT, 0), (sail, LIGHT, 0)]
    left, right = -rng.uniform(5, 8), rng.uniform(1, 5)
    for _ in range(rng.integers(1, 4)):
        cabin = [(left, deck - 2), (right, deck - 2), (right, deck), (left, deck)]
        window = [(left + 1, deck - 1), (right - 1, deck - 1)]
        strokes += [(cabin, LIGHT, 0), (window, GLASS, 0.7)]
        left, right, deck = left + rng.uniform(0.3, 1.5), right - rng.uniform(0.3, 2), deck - 2
    return [*strokes, ([(left + 1.5, deck - rng.uniform(1, 2.5)), (left + 1.5, deck)], TRIM, 1.8)]


def draw_bird(rng: Generator, _: int) -> list[Stroke]:
    """앉은 새는 다리와 접은 날개를, 나는 새는 펼친 날개를 보입니다."""
    rise, tip, lift = rng.uniform(0.5, 3), rng.uniform(-7, 1), -rng.uniform(11, 14)
    x, y = 3.6 + rng.uniform(-0.5, 0.6), -6.5 - rise
    beak = [(x + 1, y - 0.8), (x + rng.uniform(3, 4.2), y + 0.2), (x + 1, y + 0.8)]
    tail = [(-3, -5.5), (-8, -4 + rng.uniform(-2, 2)), (-8, -2.5), (-2, -3)]
    strokes = [(tail, SHADE, 0), ([(-2, -4.5), (2, -4.5 - rise)], BODY, rng.uniform(4, 5.2))]
    strokes += [(beak, TRIM, 0), dot(x, y, BODY, 3.4), dot(x + 0.6, y - 0.4, DARK, 1)]
    if rng.random() < 0.4:
        near = [(1.5, -5 - rise), (tip + 2, lift + 1), (tip, lift), (-3, -4.5)]
        far = [(2, -5 - rise), (tip + 7, lift + 2), (tip + 5, lift + 2), (-1, -5)]
        return [(far, SHADE, 0), *strokes, (near, TRIM, 0)]
    wing = [(1.8, -5.5 - rise), (1, -3.6), (-3, -3), (-6, -3.6), (-2, -6 - rise / 2)]
    legs = [([(a, -3), (a + 0.3, -0.3), (a + 1.3, -0.3)], DARK, 0.6) for a in (-0.6, 1)]
    return [*legs, *strokes, (wing, TRIM, 0)]


def draw_frog(rng: Generator, _: int) -> list[Stroke]:
    """납작한 몸, 접은 뒷다리, 머리 위로 솟은 두 눈입니다."""
    wide, high, eye = rng.uniform(4.2, 5.5), rng.uniform(5.2, 7), rng.uniform(2, 3.2)
    y, top = -high * 0.55, -high - rng.uniform(0, 0.6)
    side = [dot(wide + 0.4, -2.2, SHADE, 4.4), ([(wide - 1, -0.6), (wide + 3, -0.5)], SHADE, 1)]
    strokes = [*pair(*side), ([(high / 2 - wide, y), (wide - high / 2, y)], BODY, high)]
    strokes += [([(-1.5, y / 2), (1.5, y / 2)], TRIM, high / 2)]
    strokes += pair(([(wide / 2, y), (wide * 0.6, -0.6), (wide * 0.6 + 1, -0.5)], SHADE, 1))
    strokes += pair(*(dot(eye, top, *look) for look in ((BODY, 3.2), (LIGHT, 2.1), (DARK, 1.1))))
    mouth = [(-wide * 0.7, y * 1.2), (0, y * 0.9), (wide * 0.7, y * 1.2)]
    return [*strokes, (mouth, DARK, 0.6)]


def draw_trunk(rng: Generator, length: float, leg: float, deep: float) -> list[Stroke]:
    """네발짐승의 다리, 몸통, 무늬입니다."""
    strokes, back, spot = [], -leg - deep / 2, rng.uniform(-0.4, 0.3) * length
    for x, tone in ((-0.4, SHADE), (0.55, SHADE), (-0.55, BODY), (0.4, BODY)):
        hip, foot = x * length, x * length + rng.uniform(-1.3, 1.3)
        strokes.append(([(hip, back), (hip, -leg / 2), (foot, -0.5)], tone, 0.9 + deep / 9))
    strokes.append(([(-length / 2, back), (length / 2, back)], BODY, deep))
    return [*strokes, dot(spot, back, rng.integers(BODY, DARK), deep * 0.8)]


def draw_face(rng: Generator, cat: bool, turned: float) -> list[Stroke]:
    """고양이는 뾰족한 귀, 개는 주둥이와 대개 늘어진 귀입니다. turned는 고개를 돌린 정도입니다."""
    radius, reach = rng.uniform(2.1, 2.7), turned * rng.uniform(0.6 if cat else 2, 3.4 - 2.4 * cat)
    eyes = moved(turned / 3, 0, pair(dot(0.95, -0.3, DARK, 0.9)))
    peak = (rng.uniform(1.5, 1.9), -radius - rng.uniform(1.2, 2.4))
    ears = pair(([(0.1, -radius * 0.7), peak, (radius, -0.3)], BODY, 0))
    if not cat and rng.random() < 0.85:
        ears = pair(([(radius * 0.75, -radius * 0.7), (radius + 0.4, 1.4)], TRIM, 1.6))
    snout = ([(0, 0.9), (reach, 1.1)], BODY if turned or cat else LIGHT, 2.2)
    return [dot(0, 0, BODY, 2 * radius), *ears, snout, *eyes, dot(reach * 1.3, 0.8, DARK, 1)]


def draw_pet(rng: Generator, label: int) -> list[Stroke]:
    """고양이와 개: 앞을 보고 앉거나 옆으로 섭니다."""
    cat, curl = label == 3, rng.uniform(-1.5, 1.5)
    if rng.random() < 0.35:
        tail = [(2, -1), (5, -1.2), (5.5 + curl / 2, -3.5)] + [(5 - curl, -5.5)] * cat
        trunk = [([(-0.3, -3.2), (0.3, -3.2)], BODY, 6.2), ([(0, -3), (0, -7)], BODY, 4)]
        legs = pair(([(1.1, -5), (1.1, -0.7)], SHADE, 1.3))
        return [(tail, SHADE, 1.1), *trunk, *legs, *moved(0, -9.3, draw_face(rng, cat, 0))]
    length, leg, deep = rng.uniform(7, 9), rng.uniform(3.2, 4.4), rng.uniform(3, 4)
    x, y = length / 2 + rng.uniform(1.2, 2), -leg - deep - rng.uniform(0.8, 2)
    hip, back = 0.6 - length / 2 - deep / 2, -leg - deep * 0.6
    tail = [(hip, back), (hip - 2, back - 1.5), (hip - 2 + curl, back - 3.5)]
    tail += [(hip - 1.5 + 1.5 * curl, back - 6)] * cat
    strokes = [(tail, BODY, 1.1), *draw_trunk(rng, length, leg, deep)]
    face = draw_face(rng, cat, turned=float(rng.random() < 0.75 or not cat))
    return [*strokes, ([(length / 2, back), (x, y)], BODY, 2.6), *moved(x, y, face)]


def draw_hoofed(rng: Generator, label: int) -> list[Stroke]:
    """사슴은 가는 목과 대개 뿔이, 말은 갈기와 긴 꼬리가 있습니다."""
    deer, length, leg = label == 4, rng.uniform(7, 9), rng.uniform(5.2, 6.7)
    deep, thick = (rng.uniform(2.8, 3.8), 2) if deer else (rng.uniform(3.4, 4.6), 2.6)
    chest, back, hip = length / 2, -leg - deep * 0.6, 0.3 - length / 2 - deep / 2
    x, y = chest + rng.uniform(1.5, 3), back - rng.uniform(3.5, 5.5)
    muzzle, ear = [(x, y), (x + rng.uniform(1.8, 3), y + 1.2)], [(x, y), (x - 0.8, y - 2)]
    strokes = [*draw_trunk(rng, length, leg, deep), ([(chest, back), (x, y)], BODY, thick)]
    strokes += [(ear, SHADE, 0.9), (muzzle, BODY, 1.9), dot(x + 0.6, y - 0.1, DARK, 0.7)]
    if not deer:
        mane = [(x, y - 1.2), (x - 1.2, y + 0.5), (chest - 1.6, back - 1)]
        tail = [(hip, back), (hip - 1.7, back + 1), (hip - 2, -rng.uniform(1.5, 6))]
        return [*strokes, (mane, DARK, rng.uniform(0.7, 1.4)), (tail, DARK, 1.4)]
    rise, lean = rng.uniform(2, 2.7), rng.uniform(-1, 1)
    for a in (lean - 1.4, lean + 1.4) if rng.random() < 0.85 else ():
        beam = [(x, y - 0.7), (x + a, y - rise), (x + 1.6 * a, y - 2 * rise)]
        strokes += [(beam, DARK, 0.6), ([beam[1], (x + a + 1.6, y - 1.6 * rise)], DARK, 0.6)]
    return [*strokes, ([(hip, back), (hip - 1, back + 1)], LIGHT, 1.2)]


PAINTERS = [draw_plane, draw_car, draw_bird, draw_pet, draw_hoofed]
PAINTERS += [draw_pet, draw_frog, draw_hoofed, draw_ship, draw_truck]


# ---------------------------------------------------------------------------------------------
# 장면 만들기
# ---------------------------------------------------------------------------------------------
def mix_colors(rng: Generator, labels: np.ndarray) -> np.ndarray:
    """물체마다 색 일곱 개를 알파를 미리 곱한 RGBA로 섞습니다. 동물에는 칠한 듯한 색이 드뭅니다."""
    num = len(labels)
    natural = (labels >= 2) & (labels <= 7) & (rng.random(num) < 0.85)
    picks = rng.integers(np.where(natural, len(NATURAL), len(COLORS))[:, None], size=(num, 2))
    colors = np.zeros((num, 7, 4))
    colors[:, [BODY, TRIM], :3] = (COLORS[picks] + rng.normal(0, 15, (num, 2, 3))).clip(10, 245)
    colors[:, SHADE] = colors[:, BODY] * 0.68
    grays = rng.uniform((10, 215, 40), (45, 250, 170), (num, 3))
    colors[:, [DARK, LIGHT, GLASS], :3] = grays[..., None]
    colors[..., 3] = 255
    colors[:, SHADOW, 3] = rng.uniform(0, 130, num)
    return colors


def pose(rng: Generator, strokes: list[Stroke], tilt: float) -> tuple[list[Stroke], np.ndarray]:
    """물체를 뒤집고 돌리고 키워 픽셀 좌표에 놓고, 둘러싼 상자와 함께 돌려줍니다."""
    points = np.array([point for outline, *_ in strokes for point in outline])
    margin = np.array([[width / 2] for outline, _, width in strokes for _ in outline])
    angle, flip, start, placed = rng.normal(0, tilt), rng.choice((-1, 1)), 0, []
    cos, sin = np.cos(angle), np.sin(angle)
    points = points @ np.array([[flip * cos, sin], [-flip * sin, cos]])
    low, high = (points - margin).min(axis=0), (points + margin).max(axis=0)
    scale = rng.uniform(16, 24) / (high - low).max()
    extent = scale * (high - low)
    corner = rng.beta(0.3, 0.3, 2) * (SIZE + 1 - extent) - 0.5
    points = (points - low) * scale + corner
    for outline, tone, width in strokes:
        placed.append((points[start : start + len(outline)], tone, width * scale))
        start += len(outline)
    return placed, np.concatenate([corner, corner + extent])


def render(strokes: list[Stroke], box: np.ndarray, colors: list[list[float]]) -> np.ndarray:
    """네 배 크기의 투명한 판에 그림자와 물체를 그린 뒤, 넓이 평균으로 줄입니다."""
    canvas = np.zeros((SIZE * SCALE, SIZE * SCALE, 4), np.uint8)
    left, _, right, foot = (box * SCALE).astype(int).tolist()
    middle, radii = ((left + right) // 2, foot), ((right - left) // 2, 4)
    cv2.ellipse(canvas, middle, radii, 0, 0, 360, colors[SHADOW], -1)
    for outline, tone, width in strokes:
        corners = [np.rint(outline * (SCALE << FRACTION_BITS)).astype(np.int32)]
        if width:
            thick = max(1, round(width * SCALE))
            cv2.polylines(canvas, corners, False, colors[tone], thick, cv2.LINE_8, FRACTION_BITS)
        else:
            cv2.fillPoly(canvas, corners, colors[tone], cv2.LINE_8, FRACTION_BITS)
    return cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def amount(rng: Generator, num: int, low: float, high: float, rate: float = 1) -> np.ndarray:
    """그림마다 하나씩 뽑은 값 (num, 1, 1, 1)이고, 1 - rate의 확률로 0입니다."""
    value = rng.uniform(low, high, num) * (rng.random(num) < rate)
    return value.astype(np.float32)[:, None, None, None]


def scatter(rng: Generator, images: np.ndarray, kinds: np.ndarray, horizon: np.ndarray) -> None:
    """그림마다 배경 물건을 하나씩 놓습니다. 열에 셋은 아무 배경의 물건입니다."""
    num, steps = len(images), np.arange(SIZE, dtype=np.float32)
    kinds = np.where(rng.random(num) < 0.3, rng.integers(7, size=num), kinds)
    items = CLUTTER[kinds, rng.integers(2, size=num)]
    width, height, distance, sharp = items.T[..., None, None, None]
    across = (steps - amount(rng, num, 0, SIZE)) / (width * amount(rng, num, 0.5, 1.4))
    y = horizon + distance * amount(rng, num, 0, 1)
    down = (steps[:, None] - y) / (height * amount(rng, num, 0.5, 1.4))
    cover = sharp * np.maximum(1 - across**2, 0) * np.maximum(1 - down**2, 0)
    color = SCENES[kinds, rng.integers(3, size=num)] * rng.uniform(0.5, 1.3, (num, 1))
    images += np.minimum(cover, 1) * (color.astype(np.float32)[..., None, None] - images)


def draw_backdrops(rng: Generator, labels: np.ndarray) -> np.ndarray:
    """지평선 위아래를 칠하고 물건을 흩어 놓고 얼룩을 입힌, 옅은 배경 (N, 3, 32, 32)입니다."""
    num = len(labels)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    kinds = np.where(rng.random(num) < 0.3, HOMES[labels], rng.integers(7, size=num))
    horizon, slope = amount(rng, num, 6, 26), amount(rng, num, -0.12, 0.12)
    horizon[kinds == 0] = SIZE
    colors = (SCENES[kinds] + rng.normal(0, 10, (num, 3, 3))).astype(np.float32)
    top, middle, ground = colors[..., None, None].swapaxes(0, 1)
    line = horizon + slope * (x - SIZE / 2)
    sky = top + (middle - top) * np.minimum(y / line, 1)
    ripple = 1 + amount(rng, num, 0, 0.12) * np.sin(y * amount(rng, num, 1, 2.6) + slope * x * 9)
    images = sky + (ground * ripple - sky) * np.clip(y - line, 0, 1)
    for _ in range(3):
        scatter(rng, images, kinds, horizon)
    spread = cv2.resize(np.eye(8, dtype=np.float32), (8, SIZE), interpolation=cv2.INTER_CUBIC)
    shade = spread @ rng.standard_normal((num, 1, 8, 8), np.float32) @ spread.T
    images *= 1 + amount(rng, num, 0.02, 0.12) * shade
    return 125 + 0.65 * (images - 125)


def decorate(rng: Generator, images: np.ndarray) -> np.ndarray:
    """흐림, 대비, 밝기, 색조, 잡음을 묶음 전체에 한꺼번에 입힙니다."""
    num = len(images)
    blur = cv2.GaussianBlur(np.eye(SIZE, dtype=np.float32), (1, 5), 0.9)
    images += amount(rng, num, 0, 1, 0.5) * (blur @ images @ blur.T - images)
    images = (images - 120) * amount(rng, num, 0.7, 1.15) + amount(rng, num, 105, 140)
    images *= rng.uniform(0.94, 1.06, (num, 3, 1, 1)).astype(np.float32)
    images += amount(rng, num, 2, 12) * rng.standard_normal(images.shape, np.float32)
    return np.clip(images, 0, 255).astype(np.uint8)


def draw_scenes(num: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(num, 32, 32, 3) RGB 그림, (num,) 클래스 번호, (num, 4) 물체 상자를 만듭니다.

    상자는 픽셀 단위의 (x1, y1, x2, y2)입니다. seed가 같으면 결과도 같습니다.
    """
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(num) % 10).astype(np.uint8)
    images, boxes = np.empty((num, SIZE, SIZE, 3), np.uint8), np.empty((num, 4))
    for chosen in np.split(np.arange(num), range(BLOCK, num, BLOCK)):
        layers = np.empty((len(chosen), SIZE, SIZE, 4), np.float32)
        colors = mix_colors(rng, labels[chosen]).tolist()
        for i, label in enumerate(labels[chosen].tolist()):
            placed, boxes[chosen[i]] = pose(rng, PAINTERS[label](rng, label), TILTS[label])
            layers[i] = render(placed, boxes[chosen[i]], colors[i])
        drawn = layers.transpose(0, 3, 1, 2)
        scenes = draw_backdrops(rng, labels[chosen]) * (1 - drawn[:, 3:] / 255) + drawn[:, :3]
        images[chosen] = decorate(rng, scenes).transpose(0, 2, 3, 1)
    boxes[:, :2], boxes[:, 2:] = np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])
    return images, labels, np.clip(boxes, 0, SIZE).astype(int)
