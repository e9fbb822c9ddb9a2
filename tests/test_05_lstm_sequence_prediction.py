"""5강: 공개된 이름마다 표준 구현과 비교하고, 심은 누설과 없는 실력을 알아채는지 시험합니다."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from sklearn import preprocessing
from torch import nn

from utils.data_utils import Found
from utils.datasets import prices
from utils.errors import UserError
from utils.lesson import CheckFailed

NAME = "05_lstm_sequence_prediction"
lesson = load_lesson(NAME)
seeds = st.integers(0, 10_000)
relaxed = settings(deadline=None, max_examples=25)


@pytest.fixture
def run(tmp_path):
    return lesson.chapter.start(["--quick", "--output-dir", str(tmp_path), "--device", "cpu"])


def with_config(run, **changes):
    run.config = dataclasses.replace(run.config, **changes)
    return run


def claims(run) -> dict[str, bool]:
    return {claim["claim"]: claim["holds"] for claim in run.metrics["claims"]}


def same(ours, reference, atol=1e-9):
    reference = torch.as_tensor(np.asarray(reference))
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


def normal(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# -- 시계열과 창 -----------------------------------------------------------------------
@relaxed
@given(seeds, st.integers(5, 80))
def test_autocorrelation(seed, num):
    y = normal(seed, num)
    d = (y - y.mean()).numpy()
    by_loop = [sum(d[t] * d[t - k] for t in range(k, num)) / (d @ d) for k in range(4)]
    assert same(lesson.autocorrelation(y, 3), by_loop)


@relaxed
@given(seeds, st.integers(1, 30), st.integers(1, 4), st.integers(1, 30))
def test_sliding_windows(seed, num, width, window):
    x = normal(seed, max(num, window), width)
    views = lesson.sliding_windows(x, window)
    assert same(views, torch.stack([x[t : t + window] for t in range(len(x) - window + 1)]), 0)
    assert views.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@relaxed
@given(seeds)
def test_standard_scaler(seed):
    train, new = normal(seed, 20, 3) * 5 + 2, normal(seed + 1, 7, 3)
    train[:, 2] = 4.0  # 변하지 않는 열
    reference = preprocessing.StandardScaler().fit(train.numpy())
    ours = lesson.StandardScaler().fit(train)
    assert same(ours.transform(new), reference.transform(new.numpy()))


@relaxed
@given(seeds, st.integers(1, 6), st.integers(2, 10))
def test_future_returns(seed, horizon, num):
    close = normal(seed, num + horizon).exp()
    found = lesson.future_returns(close, horizon)
    for t in range(num):
        expected = [math.log(close[t + h] / close[t]) for h in range(1, horizon + 1)]
        assert same(found[t], expected)
    assert found[num:, -1].isnan().all()


def test_naive_forecasts():
    y, days = torch.arange(40.0).double() ** 2, torch.tensor([20, 30])
    found = lesson.naive_forecasts(y, days, horizon=7, period=5, num_train=30)
    for row, t in enumerate(days.tolist()):
        for h in range(1, 8):
            back = t + h - 5 if h <= 5 else t + h - 10
            assert found["계절"][row, h - 1] == y[back] - y[t]
            assert found["추세"][row, h - 1] == pytest.approx(h * y[29].item() / 29)
    assert (found["어제 값"] == 0).all() and found["어제 값"].shape == (2, 7)


# -- 누설 ------------------------------------------------------------------------------
@relaxed
@given(st.integers(1, 8), st.integers(1, 8), st.integers(40, 90))
def test_days_in_order_share_no_target(window, horizon, boundary):
    days = torch.arange(window - 1, 120 - horizon)
    train, val = lesson.split_days(days, boundary, horizon)
    assert (train + horizon).max() < boundary <= (val + 1).min()
    assert lesson.seen_targets(train, val, window, horizon) == 0


def test_shuffled_days_share_targets():
    days = torch.arange(9, 300)
    mixed = days[torch.randperm(len(days))]
    assert lesson.seen_targets(mixed[:200], mixed[200:], 10, 1) > 0.9


def test_features_do_not_see_the_future(run):
    data = lesson.load(run)

    def features(frame):
        return torch.tensor(lesson.make_features(frame).to_numpy())

    for today in (300, data.num_train - 1, len(data.frame) - 50):
        assert lesson.future_effect(features, data.frame, today) == 0


def fit_on_everything(frame, num_train, original=lesson.prepare):
    return original(frame, len(frame))


def split_at_random(days, boundary, horizon):
    mixed = days[torch.randperm(len(days))]
    return mixed[:boundary], mixed[boundary:]


def with_tomorrow(frame, original=lesson.make_features):
    features = original(frame)
    return features.assign(내일=features["수익률"].shift(-1).fillna(0))


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("prepare", fit_on_everything),
        ("split_days", split_at_random),
        ("make_features", with_tomorrow),
    ],
)
def test_planted_leaks_are_caught(name, leak, run, monkeypatch):
    monkeypatch.setattr(lesson, name, leak)
    with pytest.raises(CheckFailed):
        lesson.section_windows(run)


def test_nothing_learns_from_the_test_period(run, monkeypatch):
    weights = []
    for factor in (1.0, 3.0):
        frame = prices.make_prices(900)
        frame.iloc[720:] *= factor  # 테스트 기간의 시세를 바꿈
        run._datasets.clear()
        data = prices.Prices("시험", Found("sample", "시험", frame))
        monkeypatch.setattr(lesson, "load", lambda run, data=data: data)
        torch.manual_seed(0)
        model, _ = lesson.section_training(run)
        volatility = lesson.section_volatility(run)
        weights.append([*model.parameters(), *volatility.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


# -- 셀 --------------------------------------------------------------------------------
@relaxed
@given(seeds, st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
def test_cells(seed, batch, inputs, hidden):
    torch.manual_seed(seed)
    x, h, c = normal(seed, batch, inputs), normal(seed + 1, batch, hidden), normal(seed, 1, hidden)
    c = c.expand(batch, -1).contiguous()
    for ours, library, state in (
        (lesson.LSTMCell, nn.LSTMCell, (h, c)),
        (lesson.GRUCell, nn.GRUCell, h),
    ):
        ours, library = ours(inputs, hidden).double(), library(inputs, hidden).double()
        library.load_state_dict(ours.state_dict())
        a, b = ours(x, state), library(x, state)
        for left, right in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
            assert torch.allclose(left, right, atol=1e-9)


@relaxed
@given(seeds, st.integers(1, 3), st.integers(1, 6))
def test_stacked_lstm(seed, layers, steps):
    torch.manual_seed(seed)
    ours, library = (
        kind(3, 4, num_layers=layers, batch_first=True).double()
        for kind in (lesson.StackedLSTM, nn.LSTM)
    )
    library.load_state_dict(ours.state_dict())
    x = normal(seed, 2, steps, 3)
    assert torch.allclose(ours(x), library(x)[0], atol=1e-9)


def swapped_gates(x, h, c, weights, original=lesson.lstm_step):
    return original(x, h, c, [w.roll(len(w) // 4, 0) for w in weights])


def forgetful(x, h, c, weights, original=lesson.lstm_step):
    return original(x, h, c * 0, weights)


def without_second_bias(x, h, c, weights, original=lesson.lstm_step):
    return original(x, h, c, [*weights[:3], weights[3] * 0])


@pytest.mark.parametrize("mutant", [swapped_gates, forgetful, without_second_bias])
def test_mutated_lstm_fails_its_check(mutant, run, monkeypatch):
    monkeypatch.setattr(lesson, "lstm_step", mutant)
    with pytest.raises(CheckFailed):
        lesson.section_cells(run)


def test_mutated_gru_fails_its_check(run, monkeypatch):
    forward = lesson.GRUCell.forward
    monkeypatch.setattr(
        lesson.GRUCell, "forward", lambda cell, x, h: forward(cell, x, h) + 1e-3 * h
    )
    with pytest.raises(CheckFailed):
        lesson.section_cells(run)


def test_gates_are_traced_like_the_library():
    torch.manual_seed(0)
    lstm, x = nn.LSTM(2, 5, batch_first=True), torch.randn(12, 2)
    traced = lesson.trace_gates(lstm, x)
    h, (_, c) = lstm(x[None])
    assert torch.allclose(traced["셀 상태 c"][:, -1], c[0, 0], atol=1e-6)
    ours = traced["출력 o"] * torch.tanh(traced["셀 상태 c"])
    assert torch.allclose(ours.T, h[0], atol=1e-6)


def test_marked_values():
    x, y = lesson.marked_values(200, 40, torch.device("cpu"))
    assert x.shape == (200, 40, 2) and (x[..., 1].sum(dim=1) == 1).all()
    assert (x[:, 10:, 1] == 0).all()
    assert torch.equal((x[..., 0] * x[..., 1]).sum(dim=1, keepdim=True), y)


# -- 지표 ------------------------------------------------------------------------------
@relaxed
@given(seeds, st.integers(2, 50))
def test_metrics(seed, num):
    y, f = normal(seed, num).abs() + 0.1, normal(seed + 1, num).abs() + 0.1
    a, b = y.numpy(), f.numpy()
    assert lesson.mae(y, f).item() == pytest.approx(sk.mean_absolute_error(a, b))
    assert lesson.rmse(y, f).item() == pytest.approx(sk.root_mean_squared_error(a, b))
    assert lesson.mape(y, f).item() == pytest.approx(sk.mean_absolute_percentage_error(a, b))
    assert lesson.r2_score(y, f).item() == pytest.approx(sk.r2_score(a, b))
    by_loop = np.mean([2 * abs(p - q) / (abs(p) + abs(q)) for p, q in zip(a, b, strict=True)])
    assert lesson.smape(y, f).item() == pytest.approx(by_loop)
    naive = np.mean([abs(a[t] - a[t - 1]) for t in range(1, num)])
    assert lesson.mase(y, f, y).item() == pytest.approx(np.abs(a - b).mean() / naive)
    for level in (0.05, 0.5, 0.9):
        ours = lesson.pinball_loss(y[:, None], f[:, None], torch.tensor([level]).double()).mean()
        assert ours.item() == pytest.approx(sk.mean_pinball_loss(a, b, alpha=level), rel=1e-5)


def test_metrics_at_their_fixed_points():
    y = normal(0, 100)
    assert lesson.r2_score(y, y.mean().expand(100)).item() == pytest.approx(0)
    assert lesson.mase(y[1:], y[:-1], y).item() == pytest.approx(1)
    levels = torch.tensor([0.5], dtype=torch.float64)
    half = lesson.pinball_loss(y[:, None], torch.zeros(100, 1), levels).mean()
    assert half.item() == pytest.approx(y.abs().mean().item() / 2)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_quantile_has_the_smallest_pinball_loss(level):
    y, levels = normal(3, 2001), torch.tensor([level], dtype=torch.float64)
    grid = torch.linspace(-2.5, 2.5, 501).double()
    losses = [lesson.pinball_loss(y[:, None], q.view(1, 1), levels).mean() for q in grid]
    assert abs(grid[int(torch.stack(losses).argmin())] - y.quantile(level)) < 0.02


@relaxed
@given(seeds, st.integers(8, 60))
def test_diebold_mariano_one_day_ahead_is_a_t_test(seed, num):
    a, b = normal(seed, num) ** 2, normal(seed + 1, num) ** 2
    reference = stats.ttest_1samp((a - b).numpy(), 0)
    assert lesson.diebold_mariano(a, b) == pytest.approx(tuple(reference))
    assert lesson.diebold_mariano(b, a)[0] == pytest.approx(-reference.statistic)


def test_small_sample_correction_brings_the_error_rate_nearer_to_five_percent():
    generator, wrong, plain = torch.Generator().manual_seed(0), 0, 0
    small = math.sqrt((40 + 1 - 10 + 20 / 40) / 40)
    for _ in range(1500):  # 똑같이 나쁜 두 예측. 오차가 닷새 겹침
        noise = torch.randn(44, generator=generator, dtype=torch.float64)
        d = noise.unfold(0, 5, 1).sum(dim=1)
        statistic, p = lesson.diebold_mariano(d, torch.zeros(40).double(), 5)
        wrong += p < 0.05
        plain += 2 * stats.norm.sf(abs(statistic) / small) < 0.05
    assert 0.03 < wrong / 1500 < plain / 1500 < 0.2


def test_diebold_mariano_with_a_variance_that_is_not_positive():
    d = torch.tensor([1.0, -1.0] * 10, dtype=torch.float64)
    assert lesson.diebold_mariano(d, torch.zeros(20).double(), 2) == (0.0, 1.0)
    same_losses = torch.ones(20, dtype=torch.float64)
    assert lesson.diebold_mariano(same_losses, same_losses) == (0.0, 1.0)


def test_mutated_test_fails_its_check(run, monkeypatch):
    original = lesson.diebold_mariano
    monkeypatch.setattr(lesson, "diebold_mariano", lambda a, b, horizon=1: original(a, b, 1))
    with pytest.raises(CheckFailed):
        lesson.section_metrics(run)


@relaxed
@given(seeds)
def test_qlike_is_smallest_at_the_truth(seed):
    actual = normal(seed, 20).abs() + 0.1
    assert same(lesson.qlike(actual, actual), torch.zeros(20).double())
    for wrong in (0.5, 2.0):
        assert (lesson.qlike(actual, actual * wrong) > 0).all()
    low, high = (lesson.qlike(actual, actual * factor) for factor in (0.5, 2.0))
    assert (low > high).all()  # 작게 잡은 것을 더 크게 벌함


def test_coverage():
    y, f = torch.tensor([0.0, 2.0, -3.0, 1.0]), torch.tensor([[-1.0, 0, 0, 0, 1.5]]).expand(4, 5)
    assert lesson.coverage(y, f).item() == 0.5


def test_block_bootstrap():
    torch.manual_seed(0)
    losses = normal(1, 400, 2) + torch.tensor([1.0, 2.0]).double()
    means = lesson.block_bootstrap(losses)
    assert means.shape == (1000, 2)
    assert torch.allclose(means.mean(dim=0), losses.mean(dim=0), atol=0.03)
    spread = means.std(dim=0) * math.sqrt(400)  # 서로 독립이므로 표준편차가 1쯤
    assert ((spread > 0.8) & (spread < 1.2)).all()


# -- 예측 ------------------------------------------------------------------------------
class Climber(nn.Module):
    """창의 마지막 두 값의 차이만큼 더 오른다고 예측합니다."""

    def forward(self, x):
        return (x[:, -1] - x[:, -2]).expand(-1, 3)


def test_recursive_forecast_feeds_its_own_answers_back():
    y = torch.stack([2.0 * torch.arange(10), -1.0 * torch.arange(10)])[..., None]
    x = y - y[:, -1:]
    found = lesson.recursive_forecast(Climber(), x, 4)
    expected = torch.tensor([[2.0, 4, 6, 8], [-1, -2, -3, -4]]).double()
    assert torch.allclose(found, expected)


def test_an_untrained_forecaster_answers_like_the_baseline():
    model = lesson.LSTMForecaster(3, 5)
    assert (model(torch.randn(4, 10, 3)) == 0).all()


@relaxed
@given(seeds, st.floats(0.1, 20))
def test_quantiles_never_cross(seed, scale):
    torch.manual_seed(seed)
    model = lesson.QuantileForecaster(3, 4 * 5, hidden=8)
    nn.init.normal_(model.output.weight, std=scale)
    q = model(torch.randn(6, 10, 3) * scale)
    assert q.shape == (6, 4, 5) and (q.diff(dim=-1) >= 0).all()


def walk(seed: int) -> torch.Tensor:
    return torch.from_numpy(prices.generate("walk", 700, seed))


@pytest.mark.slow
def test_no_skill_is_claimed_on_random_walks(run):
    with_config(run, epochs=1)
    skills = [lesson.try_series(run, walk(seed), 500, 5).skill for seed in range(40)]
    assert sum(low > 0 for _, low, _ in skills) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sine", "ar2"])
def test_skill_is_found_where_there_is_some(kind, run):
    with_config(run, epochs=8)
    y = torch.from_numpy(prices.generate(kind, 2000, 0))
    trial = lesson.try_series(run, y, 1500, 20)
    assert trial.skill[1] > 0 and trial.scores["LSTM"] < trial.scores[trial.floor]


def test_training_lowers_the_loss(run):
    y = torch.from_numpy(prices.generate("sine", 600, 0)).float()
    x, target = y.unfold(0, 21, 1)[:, :20, None], y.unfold(0, 21, 1)[:, 20:]
    torch.manual_seed(0)
    model = lesson.LSTMForecaster(1, 1, 16)
    losses = lesson.train(run, model, x, target, nn.functional.mse_loss, 20)
    assert losses[-1] < 0.3 * losses[0]


# -- 절과 강의 전체 --------------------------------------------------------------------
def test_claims_about_the_series_and_the_leaks(run):
    lesson.section_series(run)
    lesson.section_windows(run)
    assert all(claims(run).values()), claims(run)


def test_claim_about_r2(run):
    lesson.section_metrics(run)
    assert all(claims(run).values())


@pytest.mark.slow
def test_claim_about_the_forget_bias(run):
    lesson.section_cells(with_config(run, steps=400))
    assert list(claims(run).values()) == [True]


@pytest.mark.slow
def test_claims_about_what_can_be_predicted(run):
    lesson.section_contrast(with_config(run, epochs=5, window=40, hidden=32, points=3000))
    found = {text: holds for text, holds in claims(run).items() if "능형 회귀" not in text}
    names = ("사인 곡선", "무작위 걸음", "로그 가격", "변동 폭")
    judged = {n: [h for t, h in found.items() if t.startswith(f"{n}에서 LSTM은")] for n in names}
    assert judged == {name: [True] for name in names}
    assert claims(run)["사인 곡선에서 LSTM의 MASE는 0.5 아래입니다"]


@pytest.mark.slow
def test_forecasts_of_variance_and_interval_beat_their_floors(run):
    with_config(run, epochs=8, hidden=32, window=40)
    trained = lesson.section_training(run)
    volatility = lesson.section_volatility(run)
    lesson.section_result(run, trained, volatility)
    results = run.metrics["results"]
    assert results["변동성"]["beats_floor"] and results["구간"]["beats_floor"]
    found = claims(run)
    price = [holds for text, holds in found.items() if "가격: LSTM의 손실은 '어제 값'" in text]
    assert price == [False]
    for rival in ("지난 며칠", "EWMA"):
        assert found[f"변동성: LSTM의 손실은 '{rival}'보다 작습니다(DM 검정, p가 0.05 아래)"]


@pytest.mark.slow
def test_a_csv_with_korean_headers_runs_to_the_end(tmp_path):
    path = tmp_path / "우리 회사.csv"
    frame = prices.make_prices(900, seed=3).reset_index()
    frame.columns = ["날짜", "시가", "고가", "저가", "종가", "거래량"]
    path.write_text(frame.to_csv(index=False), encoding="utf-8")
    done = run_lesson(NAME, "--quick", "--csv", path, output=tmp_path)
    assert done.status == 0, done.stderr
    assert done.metrics["data"]["name"] == "우리 회사" and done.metrics["data"]["num_test"] == 180


@pytest.mark.parametrize(
    "flags",
    [
        ["--csv", "없는파일.csv"],
        ["--csv", "table.csv"],
        ["--window", "900"],
        ["--horizon", "300"],
        ["--ticker", "../x"],
        ["--data", "original"],
        ["--data", "sample", "--ticker", "A"],
    ],
)
def test_bad_input_is_one_sentence(flags, tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        lesson.main(["--quick", *flags])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flags", [["--window", "4"], ["--horizon", "1"], ["--points", "10"]])
def test_numbers_out_of_range(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        lesson.main(["--quick", *flags])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
