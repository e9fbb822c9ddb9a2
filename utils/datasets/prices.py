"""하루마다의 주가: pip 패키지 `arch`에 든 S&P 500(1999~2018), CSV 파일, yfinance, 만든 시계열.

표(DataFrame)의 행은 거래일, 열은 open, high, low, close, volume입니다. 가격의 원본은 학습자가
`--csv`나 `--ticker`로 줍니다.
"""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame
from torch import Tensor

from utils.data_utils import Found, Provenance, TestOnce, content_sha256
from utils.errors import UserError
from utils.files import write_atomically

COLUMNS = {  # 열의 이름과 CSV에서 그것을 적는 말. 날짜는 행의 이름이 됨
    "date": ("date", "날짜", "일자"),
    "open": ("open", "시가"),
    "high": ("high", "고가"),
    "low": ("low", "저가"),
    "close": ("close", "종가"),
    "volume": ("volume", "거래량"),
}
ADJUSTED = ("adj close", "adjusted close", "수정종가", "수정 종가")
PRICES = ["open", "high", "low", "close"]
MIN_DAYS = 600  # 약 2년 반. 이보다 짧으면 학습, 검증, 테스트로 나눌 수 없음
JUMP = 0.4  # 하루에 로그로 이보다 크게 움직이면 액면 분할을 의심함


class Prices(TestOnce):
    """시간 순서로 나눈 주가입니다. 앞의 60 %가 학습, 다음 20 %가 검증, 끝의 20 %가 테스트입니다.

    `frame`에는 학습과 검증의 날만 있고, 그 가운데 앞의 `num_train`일이 학습입니다. `take_test()`는
    처음부터 끝까지의 표와 테스트가 시작되는 행의 번호를 한 번만 내줍니다.
    """

    def __init__(self, name: str, found: Found) -> None:
        frame = found.arrays
        num = len(frame)
        if num < MIN_DAYS:
            raise UserError(
                f"{found.detail}: 쓸 수 있는 날이 {num:,}일입니다. {MIN_DAYS}일 이상 주세요."
            )
        if (frame["close"].diff() == 0).mean() > 0.5:
            raise UserError(
                f"{found.detail}: 종가가 절반 넘는 날에 그대로입니다. 파일을 확인하세요."
            )
        if (frame["high"] <= frame["low"]).mean() > 0.5:
            raise UserError(
                f"{found.detail}: 고가와 저가가 다르지 않습니다. 시세가 든 파일을 주세요."
            )
        self.num_train, known = num * 3 // 5, num * 4 // 5
        self.frame, self._test = frame.iloc[:known], (frame, known)
        days = frame.index.to_numpy().astype("datetime64[s]").astype(np.int64)
        digest = content_sha256(days, frame.to_numpy(np.float64))
        sizes = (self.num_train, known - self.num_train, num - known)
        self.provenance = Provenance(name, found.source, found.detail, digest, *sizes)


def closing(frame: DataFrame) -> Tensor:
    """종가 (N,)의 float64 텐서입니다."""
    return torch.tensor(frame["close"].to_numpy(np.float64))


def load(
    source: str = "auto",
    folder: Path = Path("data"),
    offline: bool = False,
    csv: str = "",
    ticker: str = "",
) -> Prices:
    """주가를 찾습니다. `csv`나 `ticker`가 있으면 그것을, 없으면 패키지의 S&P 500을 씁니다.

    Args:
        source: `sample`이면 만든 가격을 씁니다. 진짜 답을 알고 있는 가격입니다.
        offline: True이면 네트워크를 쓰지 않습니다. 저장해 둔 `ticker`는 읽습니다.

    Raises:
        UserError: 파일을 읽을 수 없거나, 종목이 없거나, 날이 모자랄 때.
    """
    if csv and ticker:
        raise UserError("--csv와 --ticker 가운데 하나만 주세요.")
    if source == "sample" and (csv or ticker):
        raise UserError("--data sample은 만든 가격을 씁니다. --csv나 --ticker와 함께 주지 마세요.")
    if csv:
        return Prices(Path(csv).stem, Found("original", csv, read_csv(Path(csv))))
    if ticker:
        if not re.fullmatch(r"[\w.^=-]+", ticker):  # 왜: 파일 이름이 되므로 `../`를 막음
            raise UserError("--ticker에는 005930.KS나 AAPL 같은 종목 이름을 주세요.")
        path = folder / "stocks" / f"{ticker}.csv"
        if not path.exists():
            _download(ticker, path, offline)
        return Prices(ticker, Found("original", str(path), read_csv(path)))
    if source == "original":
        raise UserError("주가의 원본은 --csv 파일이나 --ticker 종목으로 주세요.")
    if source == "sample":
        return Prices("만든 가격", Found("sample", "GARCH(1,1), 실제 주가가 아님", make_prices()))
    return Prices("S&P 500", Found("package", "arch의 1999~2018년 일별 지수", _read_package()))


def _read_package() -> DataFrame:
    """`arch` 패키지에 든 csv를 읽습니다. 패키지를 import하지 않습니다."""
    spec = importlib.util.find_spec("arch")
    if spec is None:
        raise UserError("arch가 없습니다. pip install arch를 실행하세요.")
    path = Path(spec.submodule_search_locations[0]) / "data" / "sp500" / "sp500.csv.gz"
    return clean(pd.read_csv(path, dtype=str), str(path))


def _download(ticker: str, path: Path, offline: bool) -> None:
    """yfinance로 받아 `path`에 저장합니다. 빈 표를 받으면 저장하지 않습니다."""
    if offline:
        raise UserError(f"--quick은 네트워크를 쓰지 않습니다. {path}가 없으니 --quick을 빼세요.")
    try:
        import yfinance
    except ImportError as error:
        raise UserError(
            "--ticker에는 yfinance가 필요합니다. pip install yfinance를 실행하거나 --csv로 주세요."
        ) from error
    try:
        frame = yfinance.Ticker(ticker).history(period="max", auto_adjust=True)
    except Exception as error:  # 왜: yfinance는 네트워크가 끊기면 갖가지 예외를 냄
        text = f"{ticker}의 주가를 받지 못했습니다({type(error).__name__})."
        raise UserError(f"{text} 네트워크를 확인하거나 --csv로 주세요.") from error
    if frame is None or frame.empty:
        raise UserError(f"{ticker}의 주가가 비어 있습니다. 종목 이름과 네트워크를 확인하세요.")
    frame.index = frame.index.strftime("%Y-%m-%d")
    frame = frame[frame.index < f"{pd.Timestamp.now():%Y-%m-%d}"]  # 왜: 오늘은 아직 끝나지 않음
    text = frame.rename_axis("date").to_csv(columns=[name.capitalize() for name in [*COLUMNS][1:]])
    write_atomically(path, text.encode("utf-8"))


def read_csv(path: Path) -> DataFrame:
    """CSV를 읽어 다듬습니다. utf-8과 cp949, 영어와 한국어 열 이름을 압니다.

    Raises:
        UserError: 표로 읽을 수 없거나 필요한 열이 없을 때.
    """
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return clean(pd.read_csv(io.StringIO(content.decode(encoding)), dtype=str), str(path))
        except UnicodeDecodeError:
            continue
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise UserError(f"{path}: 표로 읽을 수 없습니다. 쉼표로 나눈 CSV를 주세요.") from error
    raise UserError(f"{path}: 글자를 읽을 수 없습니다. CSV를 utf-8로 저장하세요.")


def clean(raw: DataFrame, path: str) -> DataFrame:
    """글자로 된 표를 날짜 순서의 수로 바꿉니다. 날짜와 가격에서 고친 것은 모두 출력합니다.

    읽을 수 없는 거래량은 0으로 둡니다. 수정 종가가 있으면 네 가격에 같은 비율을 곱합니다.
    왜: 분할과 배당으로 생긴 틈을 없앰
    """
    raw = raw.rename(columns=lambda name: str(name).strip().lower())
    names = {key: next((n for n in given if n in raw), None) for key, given in COLUMNS.items()}
    missing = [" 또는 ".join(COLUMNS[key][:2]) for key, name in names.items() if name is None]
    if missing:
        found = ", ".join(map(str, raw.columns[:8]))
        raise UserError(f"{path}: 이 열을 넣어 주세요: {', '.join(missing)}. 있는 열: {found}.")

    def number(name: str) -> pd.Series:
        return pd.to_numeric(raw[name].str.replace(",", ""), errors="coerce")

    frame = DataFrame({key: number(names[key]) for key in [*COLUMNS][1:]}, dtype=float)
    adjusted = next((name for name in ADJUSTED if name in raw), None)
    if adjusted:
        frame[PRICES] = frame[PRICES].mul(number(adjusted) / frame["close"], axis=0)
    frame["volume"] = frame["volume"].fillna(0).clip(lower=0)
    # 왜: 시각과 시간대를 세계 표준시로 옮기면 한국의 날짜가 하루 밀림
    days = raw[names["date"]].str.strip().str.replace(r"[T ]\d{1,2}:.*$", "", regex=True)
    days = pd.to_datetime(days.str.replace(".", "-"), errors="coerce", format="mixed")
    frame.index = pd.DatetimeIndex(days.dt.normalize(), name="date")
    readable = np.isfinite(frame[PRICES]) & (frame[PRICES] > 0)
    kept = frame[readable.all(axis=1).to_numpy() & frame.index.notna()]
    if not kept.index.is_monotonic_increasing:
        print("  날짜 순서가 아니어서 정렬했습니다.")
        kept = kept.sort_index(kind="stable")
    once = kept[~kept.index.duplicated(keep="last")]
    if len(kept) < len(frame):
        print(f"  날짜나 가격을 읽을 수 없는 {len(frame) - len(kept):,}행을 뺐습니다.")
    if len(once) < len(kept):
        print(f"  같은 날짜가 겹친 {len(kept) - len(once):,}행은 마지막 것만 남겼습니다.")
    ratio = once["close"] / once["close"].shift()
    for day in once.index[(np.log(ratio).abs() > JUMP).to_numpy()][:5]:
        change = f"{day:%Y-%m-%d}의 종가가 전날의 {ratio[day]:.3g}배"
        print(f"  {change}입니다. 액면 분할을 반영하지 않은 것인지 보세요.")
    return once


# ---------------------------------------------------------------------------------------------
# 만든 시계열
# ---------------------------------------------------------------------------------------------
def generate(kind: str, num: int, seed: int = 0) -> np.ndarray:
    """길이 `num`인 시계열을 만듭니다. 무엇을 예측할 수 있는지 답을 알고 있습니다.

    Args:
        kind: `sine`(주기 20, 잡음 0.1), `ar2`(계수 1.2와 -0.5), `walk`(무작위 걸음),
            `garch`(수익률. 부호는 예측할 수 없고 크기는 예측할 수 있음).
    """
    noise = np.random.default_rng(seed).standard_normal(num)
    if kind == "sine":
        return np.sin(2 * np.pi * np.arange(num) / 20) + 0.1 * noise
    if kind == "walk":
        return np.cumsum(noise)
    if kind == "ar2":
        y = np.zeros(num)
        for t in range(2, num):
            y[t] = 1.2 * y[t - 1] - 0.5 * y[t - 2] + noise[t]
        return y
    if kind == "garch":
        return _garch(num, seed).sum(axis=1)
    raise ValueError(f"모르는 시계열입니다: {kind}")


def _garch(num: int, seed: int) -> np.ndarray:
    """GARCH(1,1)의 하루를 16걸음으로 나눈 로그 수익률 (num, 16)입니다."""
    steps, variance = np.random.default_rng(seed).standard_normal((num, 16)) / 4, 1e-4
    for t in range(num):
        steps[t] *= np.sqrt(variance)
        variance = 1e-6 + 0.08 * steps[t].sum() ** 2 + 0.91 * variance
    return steps


def make_prices(num: int = 4000, seed: int = 0) -> DataFrame:
    """GARCH(1,1) 수익률로 만든 가격입니다. 고가와 저가는 하루의 16걸음에서 정해집니다."""
    steps = _garch(num, seed)
    close = 100 * np.exp(np.cumsum(steps.sum(axis=1)))
    before = np.concatenate([[100.0], close[:-1]])
    path = before[:, None] * np.exp(np.cumsum(np.pad(steps, ((0, 0), (1, 0))), axis=1))
    columns = {"open": before, "high": path.max(axis=1), "low": path.min(axis=1), "close": close}
    columns["volume"] = np.round(1e6 * (1 + 30 * np.abs(steps).max(axis=1)))
    days = pd.bdate_range("2000-01-03", periods=num, name="date")
    return DataFrame(columns, index=days)
