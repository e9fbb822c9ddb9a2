"""주가: 여러 모양의 CSV를 읽고, 고친 것을 말하고, 읽을 수 없는 것은 한 문장으로 거절합니다."""

from __future__ import annotations

import sys
import types

import numpy as np
import pandas as pd
import pytest

from utils.datasets import prices
from utils.errors import UserError

KOREAN = {"date": "날짜", "open": "시가", "high": "고가", "low": "저가", "close": "종가"}
KOREAN["volume"] = "거래량"


def table(num: int = 700) -> pd.DataFrame:
    """글자로 된 멀쩡한 표입니다."""
    frame = prices.make_prices(num).reset_index()
    frame["date"] = frame["date"].dt.strftime("%Y-%m-%d")
    return frame.astype(str)


def load(frame: pd.DataFrame | str | bytes, tmp_path, **options):
    path = tmp_path / "내 주가.csv"
    if isinstance(frame, pd.DataFrame):
        frame = frame.to_csv(index=False)
    path.write_bytes(frame.encode("utf-8") if isinstance(frame, str) else frame)
    return prices.load(csv=str(path), **options)


def whole(dataset: prices.Prices) -> pd.DataFrame:
    return dataset.take_test()[0]


def test_package_data():
    data = prices.load(offline=True)
    frame, first = data.take_test()
    assert data.provenance.source == "package" and len(frame) == 5031
    assert f"{frame.index[0]:%Y-%m-%d}" == "1999-01-04"
    assert f"{frame.index[-1]:%Y-%m-%d}" == "2018-12-31"
    assert (frame[prices.PRICES] > 0).all(axis=None) and frame.index.is_monotonic_increasing
    assert len(data.frame) == first and data.num_train == 5031 * 3 // 5


def test_the_test_period_is_handed_out_once_and_not_before():
    data = prices.load("sample")
    last = data.frame.index[-1]
    frame, first = data.take_test()
    assert data.test_is_taken and frame.index[first] > last
    with pytest.raises(RuntimeError):
        data.take_test()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_korean_headers_commas_and_encodings(encoding, tmp_path):
    frame = table()
    reference = whole(load(frame, tmp_path))
    korean = frame.rename(columns=KOREAN)
    korean["거래량"] = [f"{int(float(v)):,}" for v in korean["거래량"]]
    korean["날짜"] = korean["날짜"].str.replace("-", ".")
    found = whole(load(korean.to_csv(index=False).encode(encoding), tmp_path))
    pd.testing.assert_frame_equal(found, reference)


@pytest.mark.parametrize("shape", ["%Y%m%d", "%Y/%m/%d", "%m/%d/%Y", "%Y-%m-%dT00:00:00+09:00"])
def test_date_shapes(shape, tmp_path):
    frame = table()
    days = pd.to_datetime(frame["date"])
    found = whole(load(frame.assign(date=days.dt.strftime(shape)), tmp_path))
    assert found.index.equals(pd.DatetimeIndex(days, name="date"))


def test_disorder_is_mended_and_told(tmp_path, capsys):
    frame = table()
    reference = whole(load(frame, tmp_path))
    capsys.readouterr()
    extra = frame.iloc[[10, 20]].assign(close="1")  # 겹친 날짜. 앞에 온 것은 버려짐
    broken = frame.iloc[[0, 1, 2, 3]].copy()
    broken["date"] = ["2030-01-01", "어제", "2030-01-03", "2030-01-04"]
    broken["close"] = ["nan", "5", "0", "-3"]
    found = whole(load(pd.concat([broken, extra, frame[::-1]]), tmp_path))
    pd.testing.assert_frame_equal(found, reference)
    told = capsys.readouterr().out
    assert "정렬했습니다" in told and "4행을 뺐습니다" in told and "2행은 마지막 것만" in told


def test_adjusted_close_scales_all_four_prices(tmp_path):
    frame = table()
    close = frame["close"].astype(float)
    half = np.where(np.arange(700) < 350, 0.02, 1.0)
    raw = frame.copy()
    for name in prices.PRICES:
        raw[name] = (frame[name].astype(float) / half).astype(str)
    raw["Adj Close"] = close.astype(str)
    found, reference = whole(load(raw, tmp_path)), whole(load(frame, tmp_path))
    pd.testing.assert_frame_equal(found, reference)


def test_a_split_that_was_not_adjusted_is_told(tmp_path, capsys):
    frame = table()
    for name in prices.PRICES:
        values = frame[name].astype(float)
        frame[name] = np.where(np.arange(700) < 350, values, values / 50).astype(str)
    load(frame, tmp_path)
    told = capsys.readouterr().out
    assert frame["date"][350] in told and "0.0199배" in told and "액면 분할" in told


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "표로 읽을 수 없습니다"),
        ("\n\n", "표로 읽을 수 없습니다"),
        (b"\xff\xfe\x00\x81\x8d" * 50, "읽을 수 없습니다"),
        ('date,open\n"2020,1\n', "읽을 수 없습니다"),
        ("date,open,high,low,close\n2020-01-01,1,1,1,1\n", "volume 또는 거래량"),
        ("하루,값\n2020-01-01,1\n", "있는 열: 하루, 값"),
        ("date,open,high,low,close,volume\n", "쓸 수 있는 날이 0일"),
        ("date,open,high,low,close,volume\n2020-01-01,1,1,1,1,1\n", "쓸 수 있는 날이 1일"),
    ],
)
def test_unreadable_files_are_refused_in_one_sentence(content, expected, tmp_path):
    with pytest.raises(UserError, match=expected) as error:
        load(content, tmp_path)
    assert "\n" not in str(error.value)


def test_prices_that_never_change_are_refused(tmp_path):
    frame = table()
    with pytest.raises(UserError, match="그대로입니다"):
        load(frame.assign(**dict.fromkeys(prices.PRICES, "100")), tmp_path)


def test_prices_without_a_daily_range_are_refused(tmp_path):
    frame = table()
    with pytest.raises(UserError, match="고가와 저가"):
        load(frame.assign(**dict.fromkeys(prices.PRICES, frame["close"])), tmp_path)


def test_contradicting_requests(tmp_path):
    for request in (
        {"csv": "a.csv", "ticker": "A"},
        {"source": "sample", "csv": "a.csv"},
        {"source": "original"},
        {"ticker": "../../etc/passwd"},
    ):
        with pytest.raises(UserError):
            prices.load(folder=tmp_path, **request)


# -- 종목 ------------------------------------------------------------------------------
def fake_yfinance(monkeypatch, frame):
    class Ticker:
        def __init__(self, name):
            self.name = name

        def history(self, period, auto_adjust):
            if isinstance(frame, Exception):
                raise frame
            return frame

    monkeypatch.setitem(sys.modules, "yfinance", types.SimpleNamespace(Ticker=Ticker))


def test_ticker_is_cached_and_read_again_without_network(monkeypatch, tmp_path):
    frame = prices.make_prices(700)
    frame.columns = [name.capitalize() for name in frame]
    fake_yfinance(monkeypatch, frame.assign(Dividends=0.0))
    first = whole(prices.load(folder=tmp_path, ticker="005930.KS"))
    fake_yfinance(monkeypatch, ConnectionError())
    again = whole(prices.load(folder=tmp_path, ticker="005930.KS", offline=True))
    pd.testing.assert_frame_equal(first, again)
    np.testing.assert_allclose(first["close"], frame["Close"])


def test_the_day_that_has_not_ended_is_not_cached(monkeypatch, tmp_path):
    frame = prices.make_prices(700)
    frame.columns = [name.capitalize() for name in frame]
    frame.index = [*frame.index[:-1], pd.Timestamp.now()]
    yesterday = frame.index[-2]
    fake_yfinance(monkeypatch, frame)
    found = whole(prices.load(folder=tmp_path, ticker="A"))
    assert len(found) == 699 and found.index[-1] == yesterday


@pytest.mark.parametrize("answer", [pd.DataFrame(), None, ConnectionError("끊김")])
def test_an_empty_answer_is_an_error_and_not_data(answer, monkeypatch, tmp_path):
    fake_yfinance(monkeypatch, answer)
    with pytest.raises(UserError, match="NOPE"):
        prices.load(folder=tmp_path, ticker="NOPE")
    assert not list(tmp_path.rglob("*.csv"))


def test_yfinance_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(UserError, match="pip install yfinance"):
        prices.load(folder=tmp_path, ticker="AAPL")
    with pytest.raises(UserError, match="--quick은 네트워크를 쓰지 않습니다"):
        prices.load(folder=tmp_path, ticker="AAPL", offline=True)


# -- 만든 시계열 -----------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["sine", "walk", "ar2", "garch"])
def test_generated_series(kind):
    y = prices.generate(kind, 3000, 1)
    assert y.shape == (3000,) and np.isfinite(y).all()
    assert np.array_equal(y, prices.generate(kind, 3000, 1))
    assert not np.array_equal(y, prices.generate(kind, 3000, 2))


def test_generated_series_have_the_properties_they_are_named_for():
    step = np.diff(prices.generate("walk", 20000, 0))
    assert abs(np.corrcoef(step[1:], step[:-1])[0, 1]) < 0.03
    sine = prices.generate("sine", 20000, 0)
    assert np.std(sine[20:] - sine[:-20]) < 0.16  # 잡음 0.1의 루트 2배
    y = prices.generate("ar2", 20000, 0)
    columns = np.stack([y[1:-1], y[:-2]], axis=1)
    np.testing.assert_allclose(np.linalg.lstsq(columns, y[2:])[0], [1.2, -0.5], atol=0.03)
    r = prices.generate("garch", 20000, 0)
    assert abs(np.corrcoef(r[1:], r[:-1])[0, 1]) < 0.05
    assert np.corrcoef(np.abs(r[1:]), np.abs(r[:-1]))[0, 1] > 0.1


def test_made_prices_are_consistent():
    frame = prices.make_prices(1000)
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1) * (1 - 1e-12)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1) * (1 + 1e-12)).all()
