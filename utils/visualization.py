"""그림의 한글 글꼴과, 강의가 함께 쓰는 그림들."""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from utils.errors import UserError
from utils.files import write_atomically
from utils.metrics import confusion_matrix

KOREAN_FONTS = (
    "Pretendard",
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
    "NanumGothic",
)


@functools.cache
def korean_font() -> str:
    """쓸 수 있는 첫 한글 글꼴의 이름을 돌려줍니다.

    `koreanize-matplotlib`에서는 글꼴 파일(나눔고딕)만 빌립니다. import하면 없어진 distutils를
    찾다가 멈춥니다.

    Raises:
        UserError: 한글 글꼴이 하나도 없을 때.
    """
    spec = importlib.util.find_spec("koreanize_matplotlib")
    for folder in spec.submodule_search_locations if spec else []:
        for file in Path(folder).rglob("NanumGothic*.ttf"):
            font_manager.fontManager.addfont(file)
    installed = {font.name for font in font_manager.fontManager.ttflist}
    for name in KOREAN_FONTS:
        if name in installed:
            return name
    raise UserError("한글 글꼴이 없습니다. pip install koreanize-matplotlib을 실행하세요.")


def use_korean_font() -> None:
    """이후에 그리는 모든 그림이 한글 글꼴을 쓰게 합니다."""
    matplotlib.rcParams["font.family"] = [korean_font(), "DejaVu Sans"]
    matplotlib.rcParams["axes.unicode_minus"] = False  # 나눔고딕에는 U+2212 빼기 기호가 없음


def new_figure(
    rows: int = 1, columns: int = 1, width: float = 5.0, height: float = 3.6
) -> tuple[Figure, Any]:
    """한글 글꼴을 쓰는 빈 그림입니다. `width`와 `height`는 칸 하나의 크기(인치)입니다."""
    use_korean_font()
    size = (width * columns, height * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained")


@functools.cache
def drawable(text: str) -> str:
    """글꼴에 없는 글자를 물음표로 바꿉니다. 리뷰처럼 무엇이 들었는지 모르는 글을 그릴 때 씁니다."""
    use_korean_font()
    paths = [font_manager.findfont(name) for name in matplotlib.rcParams["font.family"]]
    fonts = [font_manager.get_font(path) for path in paths]
    return "".join(c if any(f.get_char_index(ord(c)) for f in fonts) else "?" for c in text)


class MissingGlyph(UserWarning):
    """글꼴에 없는 글자가 네모로 그려질 때 납니다."""


@contextmanager
def refuse_missing_glyphs() -> Iterator[None]:
    """글꼴에 없는 글자를 오류로 바꿉니다.

    왜: 글자는 경고로, 로그 축의 지수는 로그 기록으로만 알려 주므로 둘 다 보아야 합니다.
    """

    def refuse(record: logging.LogRecord) -> bool:
        if "does not have a glyph" in record.msg:
            raise MissingGlyph(record.getMessage())
        return True

    logger = logging.getLogger("matplotlib.mathtext")
    logger.addFilter(refuse)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Glyph .* missing from")
            yield
    finally:
        logger.removeFilter(refuse)


def save_figure(figure: Figure, path: Path, show: bool = False) -> None:
    """그림을 PNG로 저장하고 닫습니다. `show`이면 닫기 전에 창으로 엽니다."""
    try:
        with refuse_missing_glyphs():
            content = io.BytesIO()
            figure.savefig(content, dpi=110, pil_kwargs={"compress_level": 1})
        write_atomically(path, content.getvalue())
        if show:
            plt.show()
    finally:
        plt.close(figure)


def log_axis(axes: Axes, which: str = "y") -> None:
    """축을 로그로 바꿉니다. 지수의 빼기 기호(U+2212)는 DejaVu Sans로 그립니다."""
    axes.set(**{f"{which}scale": "log"})
    axes.tick_params(axis=which, which="both", labelfontfamily="DejaVu Sans")


def line_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    title: str,
    log: str = "",
    dashed: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """이름마다의 (가로 값, 세로 값)을 한 그림에 선으로 그립니다.

    Args:
        log: 로그로 그릴 축. `x`, `y`, `xy`.
        dashed: 이름이 같은 선과 같은 색의 점선으로 함께 그릴 것(이론의 예측 따위).
    """
    figure, ax = new_figure(width=6.5)
    for name, (x, y) in curves.items():
        style = "o" if dashed else "o-" if len(x) <= 30 else "-"
        (line,) = ax.plot(x, y, style, markersize=4, label=name)
        if dashed:
            ax.plot(*dashed[name], "--", color=line.get_color())
    for which in log:
        log_axis(ax, which)
    if "x" not in log and max(np.ptp(x) for x, _ in curves.values()) > 2:  # 0~1의 비율은 그대로
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if len(curves) > 1:
        ax.legend(fontsize=8)
    return figure


def bar_figure(
    groups: Mapping[str, Mapping[str, float]],
    ylabel: str,
    title: str,
    spread: Sequence[tuple[float, float]] = (),
) -> Figure:
    """무리마다 색이 다른 막대를 항목별로 나란히 그립니다.

    Args:
        groups: `{무리: {항목: 값}}`. 모든 무리의 항목이 같아야 합니다.
        spread: 항목마다 세로선으로 그릴 구간의 (아래, 위). 무리가 하나일 때 씁니다.
    """
    names = list(next(iter(groups.values())))
    figure, ax = new_figure(width=max(5.0, 0.9 * len(names)))
    thick = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        places = np.arange(len(names)) + (number - (len(groups) - 1) / 2) * thick
        bars = ax.bar(places, [values[name] for name in names], thick, label=group)
        if not spread:
            ax.bar_label(bars, fmt="{:.3g}", fontsize=7)
    for place, edges in enumerate(spread):
        ax.plot([place, place], edges, color="black", linewidth=1.5)
    ax.set_xticks(range(len(names)), names, rotation=20 if len(names) > 4 else 0)
    ax.set(ylabel=ylabel, title=title)
    if len(groups) > 1:
        ax.margins(y=0.18)  # 범례가 막대를 가리지 않게 위를 비움
        ax.legend(loc="upper center", ncols=len(groups), fontsize=8)
    return figure


def learning_curves(history: Sequence[dict[str, float]]) -> Figure:
    """에폭마다의 점수를 학습과 검증으로 나누어 그립니다.

    Args:
        history: 에폭마다의 사전. `train_loss`, `val_loss`처럼 짝이 있는 것만 그립니다.
    """
    names = [key.removeprefix("train_") for key in history[0] if key.startswith("train_")]
    figure, axes = new_figure(1, len(names))
    epochs = range(1, len(history) + 1)
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        label = {"loss": "손실", "accuracy": "정확도"}.get(name, name)
        ax.plot(epochs, [h[f"train_{name}"] for h in history], "o-", label="학습")
        ax.plot(epochs, [h[f"val_{name}"] for h in history], "s--", label="검증")
        ax.set(xlabel="에폭", ylabel=label, title=f"{label} 곡선")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
    return figure


def image_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    title: str,
    side: float = 1.21,
) -> Figure:
    """이미지 (H, W) 또는 (H, W, 3)들을 제목과 함께 격자로 그립니다. `side`는 한 변(인치)입니다.

    왜: 칸마다 축을 두면 그리는 데 몇 배 오래 걸리므로, 축 하나에 자리(인치)를 정해 놓습니다.
    """
    use_korean_font()
    rows, cell = math.ceil(len(images) / columns), (side + 0.14, side + 0.54)
    width, height = cell[0] * columns, cell[1] * rows + 0.4
    figure = plt.figure(figsize=(width, height))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    for number, (image, text) in enumerate(zip(images, titles, strict=False)):
        row, column = divmod(number, columns)
        left, bottom = cell[0] * column + 0.07, height - 0.4 - cell[1] * (row + 1) + 0.08
        tall, wide = (side * length / max(image.shape[:2]) for length in image.shape[:2])
        x, y = left + (side - wide) / 2, bottom + (side - tall) / 2
        ax.imshow(image, cmap="gray", extent=(x, x + wide, y, y + tall))
        place = {"ha": "center", "va": "bottom", "fontsize": 9}
        ax.text(left + side / 2, y + tall + 0.03, text, **place)
    ax.set(xlim=(0, width), ylim=(0, height))
    figure.suptitle(title, y=1 - 0.12 / height, va="top")
    return figure


def box_color(kind: int) -> tuple[int, int, int]:
    """클래스마다 다른 색(RGB)입니다."""
    color = matplotlib.colormaps["tab20"]((2 * kind) % 20 + (kind // 10) % 2)
    return tuple(int(255 * value) for value in color[:3])


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None = None,
    *,
    names: Sequence[str],
    least: float = 0.3,
) -> np.ndarray:
    """사진 (H, W, 3)에 상자 (n, 4)와 클래스 이름을 그립니다. 작은 사진은 키워서 그립니다.

    Args:
        names: 클래스 번호마다의 이름.
        scores: 있으면 `least`보다 큰 것만, 점수와 함께 그립니다.
    """
    scale = max(1, math.ceil(500 / max(image.shape[:2])))
    height, width = (scale * length for length in image.shape[:2])
    canvas = Image.fromarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    pen, font = ImageDraw.Draw(canvas), label_font(max(12, width // 38))
    for k, (box, label) in enumerate(zip(np.asarray(boxes) * scale, labels, strict=True)):
        if scores is not None and scores[k] <= least:
            continue
        text = drawable(names[int(label)]) + ("" if scores is None else f" {scores[k]:.2f}")
        color, (left, top, right, bottom) = box_color(int(label)), box.tolist()
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=3)
        place = pen.textbbox((left, max(0, top)), text, font=font)
        pen.rectangle(place, fill=color)
        pen.text((left, max(0, top)), text, font=font, fill="white")
    return np.asarray(canvas)


@functools.cache
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """사진에 적을 한글 글꼴입니다. 왜: OpenCV의 putText는 한글을 그리지 못함"""
    return ImageFont.truetype(font_manager.findfont(korean_font()), size)


def draw_dots(
    image: np.ndarray, size: int, points: Tensor, radii: Tensor, kinds: Tensor
) -> np.ndarray:
    """한 변이 `size`인 좌표의 점 (n, 2)를 사진에 그립니다. 반지름 (n,)은 사진의 픽셀입니다."""
    image, scale = image.copy(), len(image) / size
    for point, radius, kind in zip(points, radii, kinds, strict=True):
        place = (scale * point).round().int().tolist()
        for color, width in ((box_color(int(kind)), -1), ((0, 0, 0), 1)):
            cv2.circle(image, place, int(radius) + 2, color, width, cv2.LINE_AA)
    return image


def scatter_figure(
    groups: Mapping[str, np.ndarray], xlabel: str, ylabel: str, title: str
) -> Figure:
    """이름마다의 점 (n, 2)입니다. 첫째는 흐린 바탕으로, 나머지는 크게 그립니다."""
    figure, ax = new_figure(width=6, height=4.5)
    for k, (name, points) in enumerate(groups.items()):
        style = (
            {"s": 60, "marker": "o^sD"[k % 4], "edgecolor": "black"}
            if k
            else {"s": 5, "alpha": 0.3}
        )
        ax.scatter(*np.asarray(points).T, label=name, **style)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(fontsize=8)
    return figure


def point_panels(groups: Mapping[str, Tensor], title: str, columns: int = 3) -> Figure:
    """이름마다의 점 (N, 2)를 크기와 범위가 같은 칸에 따로 그립니다. 범위는 첫째에 맞춥니다."""
    rows = math.ceil(len(groups) / columns)
    figure, axes = new_figure(rows, columns, width=2.8, height=2.8)
    limit = 1.3 * float(next(iter(groups.values())).abs().max())
    for ax in axes.flat[len(groups) :]:
        ax.axis("off")
    for ax, (name, points) in zip(axes.flat, groups.items(), strict=False):
        ax.scatter(*np.asarray(points).T, s=3, alpha=0.3)
        ax.set(title=name, xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    figure.suptitle(title)
    return figure


def save_gif(path: Path, pages: Sequence[np.ndarray], columns: int = 4) -> None:
    """사진 (N, H, W, 3)의 묶음마다 한 장씩, 격자로 붙여 움직이는 GIF로 저장합니다.

    `columns`장이 안 되는 마지막 줄은 버립니다.
    """
    frames = []
    for photos in pages:
        starts = range(0, len(photos) - columns + 1, columns)
        rows = [np.concatenate(photos[k : k + columns], axis=1) for k in starts]
        frames.append(Image.fromarray(np.concatenate(rows)))
    content = io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:], "duration": 400, "loop": 0}
    frames[0].save(content, format="GIF", **options)
    write_atomically(path, content.getvalue())


def confusion_matrix_figure(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """혼동 행렬 (정답 행, 예측 열)을 그립니다. 색은 틀린 칸에만 입힙니다.

    왜: 맞은 칸까지 색을 입히면 대각선만 진하고 어디서 틀리는지는 보이지 않습니다.
    """
    import seaborn  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    size = max(4.6, 0.5 * len(names) + 1.2)
    figure, ax = new_figure(width=size, height=size)
    errors = matrix * (1 - np.eye(len(names), dtype=int))
    counts = np.where(matrix > 0, matrix.astype(str), "")
    look = {"xticklabels": names, "yticklabels": names, "annot_kws": {"fontsize": 8}}
    look |= {"cmap": "Reds", "cbar": False, "square": True, "vmin": 0, "vmax": max(1, errors.max())}
    seaborn.heatmap(errors, annot=counts, fmt="", linewidths=0.5, ax=ax, **look)
    ax.tick_params("x", rotation=45 if max(map(len, names)) > 2 else 0)
    ax.tick_params("y", rotation=0)
    ax.set(xlabel="예측", ylabel="정답", title="혼동 행렬")
    return figure


def hardest_pair_figure(
    images: Tensor, targets: Tensor, predictions: Tensor, names: Sequence[str]
) -> Figure:
    """서로 가장 많이 바꾸어 답한 두 클래스의 틀린 이미지를 20장까지 그립니다."""
    matrix = confusion_matrix(targets, predictions, len(names)).numpy()
    images, targets, predictions = images.numpy(), targets.numpy(), predictions.numpy()
    errors = matrix + matrix.T
    np.fill_diagonal(errors, 0)
    i, j = np.unravel_index(errors.argmax(), errors.shape)
    wrong = ((targets == i) & (predictions == j)) | ((targets == j) & (predictions == i))
    shown = np.flatnonzero(wrong)[:20]
    titles = [f"정답 {names[targets[k]]}\n예측 {names[predictions[k]]}" for k in shown]
    title = f"가장 헷갈리는 짝: {names[i]}와 {names[j]} (틀린 {wrong.sum()}장)"
    if i == j:
        shown, title = shown[:0], "틀린 것이 없습니다"
    return image_grid(images[shown], titles, 10, title)


def importance_figure(trials: Sequence[Mapping[str, float]], scores: Sequence[float]) -> Figure:
    """하이퍼파라미터의 중요도입니다. 점수를 랜덤 포레스트로 설명해 어림하고, 합은 1입니다."""
    from sklearn.ensemble import RandomForestRegressor  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    forest = RandomForestRegressor(100, random_state=0)
    forest.fit([list(trial.values()) for trial in trials], scores)
    importance = dict(zip(trials[0], forest.feature_importances_, strict=True))
    return bar_figure({"중요도": importance}, "중요도 (합 1)", "무엇이 정확도를 갈랐는지")


def overlay(photo: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """사진 (H, W, 3)에 0~1의 지도 (H, W)를 파랑(0)에서 빨강(1)까지의 색으로 겹칩니다."""
    color = matplotlib.colormaps["jet"](heat)[..., :3] * 255
    return (0.55 * photo + 0.45 * color).astype(np.uint8)


def mask_figure(masks: Mapping[str, np.ndarray]) -> Figure:
    """묶음마다 어느 칸이 진짜 토큰(파랑)이고 어느 칸이 빈자리(회색)인지 그립니다. (B, T)의 bool"""
    figure, axes = new_figure(1, len(masks), width=4.5, height=3)
    for ax, (name, mask) in zip(np.atleast_1d(axes), masks.items(), strict=True):
        colors = np.where(mask[..., None], (0.12, 0.47, 0.71), (0.85, 0.85, 0.85))
        ax.imshow(colors, aspect="auto", interpolation="nearest")
        ax.set(xlabel="토큰의 자리", ylabel="글", title=name)
    return figure


def word_map(vectors: Tensor, words: Sequence[str], groups: Sequence[str]) -> Figure:
    """낱말 벡터 (N, D)를 가장 크게 벌어지는 두 방향(주성분)으로 그립니다."""
    centered = (vectors - vectors.mean(dim=0)).cpu().numpy()
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    points = centered @ axes[:2].T  # (N, 2)
    figure, ax = new_figure(width=7.5, height=5)
    for color, group in zip(("tab:blue", "tab:red"), dict.fromkeys(groups), strict=True):
        chosen = [k for k, name in enumerate(groups) if name == group]
        ax.scatter(*points[chosen].T, s=8, color=color, label=group)
        for k in chosen:
            ax.annotate(
                drawable(words[k]), points[k], (3, 3), textcoords="offset points", color=color
            )
    ax.set(xlabel="첫째 방향", ylabel="둘째 방향", title="낱말 벡터")
    ax.margins(0.12)
    ax.legend()
    return figure


def text_heat(
    rows: Sequence[tuple[str, Sequence[str], Sequence[float]]], title: str, width: int = 100
) -> Figure:
    """글을 적고 토큰마다 값의 크기만큼 바탕을 칠합니다. 파랑은 양수, 빨강은 음수입니다.

    Args:
        rows: (이름, 토큰, 토큰마다의 값)의 목록. 색의 진하기는 글마다 가장 큰 값에 맞춥니다.
        width: 한 줄의 칸 수. 한글 한 글자는 두 칸입니다.
    """
    use_korean_font()
    boxes, line = [], 0.0  # (줄, 왼쪽, 너비, 토큰, 색)
    for name, tokens, values in rows:
        boxes.append((line, 0, 0, name, None))
        line, left, largest = line + 1, 0.0, max([abs(float(v)) for v in values] + [1e-12])
        for token, value in zip(tokens, values, strict=True):
            size = sum(2 if ord(c) > 0x1100 else 1 for c in token) + 1
            if left + size > width:
                line, left = line + 1, 0
            color = matplotlib.colormaps["RdBu"](0.5 + 0.32 * float(value) / largest)
            boxes.append((line, left, size, drawable(token), color))
            left += size
        line += 1.6
    figure = plt.figure(figsize=(0.09 * width, 0.24 * line + 0.4))
    ax = figure.add_axes((0.02, 0, 0.96, 1), xlim=(0, width), ylim=(line + 0.2, -1.6))
    ax.axis("off")
    ax.text(width / 2, -1, title, ha="center", va="center", fontsize=12)
    for y, left, size, text, color in boxes:
        if color is None:
            ax.text(0, y, text, va="center", fontsize=9, weight="bold")
            continue
        ax.add_patch(Rectangle((left + 0.05, y - 0.45), size - 0.1, 0.9, color=color, lw=0))
        ax.text(left + size / 2, y, text, ha="center", va="center", fontsize=8, parse_math=False)
    return figure


def panel_figure(
    panels: Mapping[str, Mapping[str, tuple[Sequence, Sequence[float]]]],
    xlabel: str = "",
    ylabel: str = "",
    share: bool = True,
) -> Figure:
    """칸마다 제목과 선들을 위에서 아래로 그립니다. 가로축은 날짜여도 됩니다.

    Args:
        panels: `{칸의 제목: {선의 이름: (가로 값, 세로 값)}}`
        share: False이면 칸을 옆으로 나란히 놓고 가로축을 따로 씁니다.
    """
    use_korean_font()
    rows, columns = (len(panels), 1) if share else (1, len(panels))
    size = (8.0, 1.2 + 1.9 * rows) if share else (4.5 * columns, 3.6)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=share, layout="constrained")
    axes = np.atleast_1d(axes)
    for ax, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (x, y) in curves.items():
            ax.plot(x, y, "o-" if len(x) <= 30 else "-", markersize=4, linewidth=1, label=name)
        ax.set(title=title, ylabel=ylabel, xlabel="" if share else xlabel)
        if not share:
            ax.xaxis.get_major_locator().set_params(integer=True)
        if len(curves) > 1:
            ax.legend(fontsize=8)
    axes[-1].set(xlabel=xlabel)
    return figure


def history_figure(
    histories: Mapping[str, Sequence[Mapping[str, float]]], groups: Mapping[str, Sequence[str]]
) -> Figure:
    """여러 학습의 에폭마다의 기록을 칸으로 나누어 나란히 그립니다.

    Args:
        histories: 학습의 이름마다의 기록. 에폭의 수는 서로 달라도 됩니다.
        groups: `{칸의 제목: 그 칸에 그릴 값의 이름들}`
    """
    panels = {title: {} for title in groups}
    for title, names in groups.items():
        for who, rows in histories.items():
            for name in names:
                values = [row[name] for row in rows]
                panels[title][f"{who}, {name}"] = range(1, len(rows) + 1), values
    return panel_figure(panels, "에폭", share=False)


def epoch_strip(pages: Sequence[np.ndarray], title: str, columns: int = 8) -> Figure:
    """에폭마다의 이미지 (N, H, W, 3) 가운데 많아야 다섯 에폭을, 한 줄에 한 에폭씩 그립니다."""
    last, columns = len(pages) - 1, min(columns, len(pages[0]))
    shown = sorted({0, min(1, last), last // 4, last // 2, last})
    images = [image for k in shown for image in pages[k][:columns]]
    titles = [f"에폭 {k + 1}" for k in shown for _ in range(columns)]
    return image_grid(images, titles, columns, title)


def heat_strips(rows: Mapping[str, np.ndarray], xlabel: str, title: str) -> Figure:
    """이름마다의 값 (칸, T)를 시간에 따른 색 띠로 그립니다. 파랑은 양수, 빨강은 음수입니다."""
    figure, axes = new_figure(len(rows), 1, width=8, height=1.3)
    for ax, (name, values) in zip(axes, rows.items(), strict=True):
        values = np.asarray(values)  # 왜: 텐서를 그대로 주면 matplotlib이 경고함
        limit = max(1.0, float(np.abs(values).max()))
        image = ax.imshow(values, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit)
        ax.set(ylabel=name, yticks=[])
        ax.xaxis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=ax)
    axes[0].set(title=title)
    axes[-1].set(xlabel=xlabel)
    return figure


def heat_grid(
    panels: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    across: int = 3,
) -> Figure:
    """0~1의 표 (rows, columns)들을 한 줄에 `across`개씩, 진할수록 큰 값으로 그립니다."""
    across = min(across, len(panels))
    down = math.ceil(len(panels) / across)
    size = 1.2 + 0.22 * len(columns), 1.0 + 0.2 * len(rows)
    figure, axes = new_figure(down, across, *size)
    axes = np.atleast_1d(axes).ravel()
    names = [[drawable(text) for text in part] for part in (rows, columns)]
    for ax, (name, values) in zip(axes, panels.items(), strict=False):
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_title(name, fontsize=9)
        ax.set_yticks(range(len(rows)), names[0], fontsize=7, parse_math=False)
        turn = 90 if len(columns) > 4 else 0
        ax.set_xticks(range(len(columns)), names[1], fontsize=7, rotation=turn, parse_math=False)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    figure.suptitle(title)
    return figure


def band_figure(
    x: Sequence,
    curves: Mapping[str, Sequence[float]],
    band: tuple[str, Sequence[float], Sequence[float]],
    title: str,
) -> Figure:
    """선들과, 아래와 위의 값 사이를 칠한 띠 하나를 그립니다."""
    figure, ax = new_figure(width=8, height=4)
    name, low, high = band
    ax.fill_between(x, low, high, alpha=0.25, color="tab:green", label=name)
    for label, y in curves.items():
        ax.plot(x, y, linewidth=1.2, label=label)
    ax.set(title=title, xlabel="날짜", ylabel="가격")
    ax.legend(fontsize=8)
    return figure
