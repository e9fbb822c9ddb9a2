"""그림의 약속: 한글과 빼기 기호가 선형 축과 로그 축에서 모두 보입니다."""

from __future__ import annotations

import importlib.util

import matplotlib
import numpy as np
import pytest
import torch

from utils import visualization
from utils.errors import UserError
from utils.visualization import (
    bar_figure,
    confusion_matrix_figure,
    drawable,
    epoch_strip,
    hardest_pair_figure,
    history_figure,
    image_grid,
    importance_figure,
    korean_font,
    learning_curves,
    line_figure,
    log_axis,
    mask_figure,
    new_figure,
    point_panels,
    refuse_missing_glyphs,
    text_heat,
    word_map,
)

matplotlib.use("Agg")


def draw(figure):
    with refuse_missing_glyphs():
        figure.canvas.draw()
    matplotlib.pyplot.close(figure)


def test_hangul_and_minus_on_linear_and_log_axes():
    for scale in ("linear", "log"):
        figure, ax = new_figure()
        ax.plot([1e-9, 1e-3, 1], [1e-9, 1e-3, 1])
        ax.set(xlabel="에폭", ylabel="손실(로그)", title="가나다 힣 ㄱㄴ 123 -1")
        if scale == "log":
            log_axis(ax, "x")
            log_axis(ax, "y")
        else:
            ax.set_xlim(-1, 1)
        draw(figure)


def test_log_axis_fix_is_needed():
    """고치지 않은 로그 축에서는 정말로 글자가 빠지는지 봅니다(나눔고딕에만 해당)."""
    if korean_font() != "NanumGothic":
        pytest.skip("나눔고딕이 아닌 글꼴을 씁니다")
    figure, ax = new_figure()
    ax.plot([1, 2], [1e-9, 1])
    ax.set_yscale("log")
    with pytest.raises(UserWarning, match="glyph"):
        draw(figure)


def test_every_shared_figure_draws():
    history = [
        {"train_loss": 1 / e, "val_loss": 2 / e, "train_accuracy": 0.5, "val_accuracy": 0.4}
        for e in (1, 2, 3)
    ]
    draw(learning_curves(history))
    draw(learning_curves(history[:1]))
    line = {"가": ([1, 2], [1e-9, 1])}
    draw(line_figure(line, "가로", "세로", "제목", log="xy", dashed=line))
    draw(bar_figure({"학습": {"가": 1, "나": 2}, "검증": {"가": 2, "나": 1}}, "세로", "제목"))
    draw(mask_figure({"가": np.ones((3, 5)) > 0, "나": np.eye(4) > 0}))
    draw(importance_figure([{"학습률": i, "너비": -i} for i in range(4)], [0.1, 0.2, 0.3, 0.4]))


def test_texts_with_any_letter_draw():
    """리뷰에는 글꼴에 없는 글자와 수식 기호($)도 들어 있습니다."""
    odd = ["좋다", "naïve", "\U00020000", "$5", "ᄀ", "▁", "a" * 200]
    assert drawable("좋다 \U00020000") == "좋다 ?"
    figure = text_heat([("이름", odd, range(-3, 4)), ("없음", [], [])], "제목")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert {"제목", "이름", "없음", "좋다", "naïve", "?"} <= set(shown)
    colors = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert colors[0][0] > colors[0][2] and colors[-1][2] > colors[-1][0]  # 음수는 빨강, 양수는 파랑
    draw(figure)
    draw(word_map(torch.randn(4, 8), ["좋다", "good", "\U00020000", "bad"], list("가가나나")))


def test_hardest_pair_is_the_most_confused_one():
    targets, predictions = torch.tensor([0, 0, 1, 2, 2, 1]), torch.tensor([1, 1, 0, 2, 0, 1])
    images = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 4, 4)
    figure = hardest_pair_figure(images, targets, predictions, ("가", "나", "다"))
    assert "가와 나 (틀린 3장)" in figure.get_suptitle()
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["정답 가\n예측 나", "정답 가\n예측 나", "정답 나\n예측 가"]
    draw(figure)
    draw(image_grid(np.zeros((5, 8, 8)), ["가"] * 5, 3, "제목"))
    draw(image_grid(np.zeros((1, 8, 8, 3), np.uint8), ["가"], 3, "제목"))
    draw(confusion_matrix_figure(np.eye(3, dtype=int) * 4, ["바지", "셔츠", "운동화"]))


def test_hardest_pair_without_errors_shows_nothing():
    right = torch.tensor([0, 1, 1])
    images = torch.zeros(3, 4, 4, dtype=torch.uint8)
    figure = hardest_pair_figure(images, right, right, ("가", "나"))
    assert figure.get_suptitle() == "틀린 것이 없습니다" and not figure.axes[0].texts
    draw(figure)


def test_learning_curves_draw_every_pair():
    history = [{"train_loss": 1.0, "val_loss": 1.2, "val_bleu": 3.0}] * 2
    assert len(learning_curves(history).axes) == 1
    history = [scores | {"train_ap": 0.1, "val_ap": 0.1} for scores in history]
    assert [ax.get_ylabel() for ax in learning_curves(history).axes] == ["손실", "ap"]


def test_no_korean_font_is_an_error(monkeypatch):
    korean_font.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(visualization, "KOREAN_FONTS", ("없는 글꼴",))
    with pytest.raises(UserError, match="koreanize-matplotlib"):
        korean_font()
    monkeypatch.undo()
    korean_font.cache_clear()
    assert korean_font()


def test_history_figure_draws_every_value_of_every_run():
    rows = [{"거리": 3.0, "답": 0.5}, {"거리": 2.0, "답": 0.6}]
    histories = {"가": rows, "나": [*rows, {"거리": 1.0, "답": 0.7}]}
    figure = history_figure(histories, {"자": ("거리",), "답": ("답", "거리")})
    lines = [[line.get_label() for line in ax.lines] for ax in figure.axes]
    assert lines == [["가, 거리", "나, 거리"], ["가, 답", "가, 거리", "나, 답", "나, 거리"]]
    assert len(figure.axes[0].lines[1].get_xdata()) == 3
    draw(figure)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (9, 5)])
def test_epoch_strip_shows_the_first_and_the_last_epoch(count, shown):
    pages = [np.full((10, 8, 8, 3), k, np.uint8) for k in range(count)]
    figure = epoch_strip(pages, "제목")
    images = [np.asarray(image.get_array())[0, 0, 0] for image in figure.axes[0].images]
    assert len(images) == 8 * shown and images[0] == 0 and images[-1] == count - 1
    draw(figure)


def test_point_panels_share_the_limits_of_the_first():
    groups = {"진짜": torch.tensor([[2.0, 0], [0, -2]]), "만든 것": 9 * torch.ones(3, 2)}
    figure = point_panels(groups, "점", columns=3)
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == 2 and shown[0].get_xlim() == shown[1].get_xlim() == (-2.6, 2.6)
    draw(figure)
