"""실행의 결과를 `results/expected.json`의 기대 결과와 비교해 정상, 의심, 고장을 가립니다."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent.parent / "results" / "expected.json"
NORMAL, DOUBTFUL, BROKEN = "정상", "의심", "고장"
CAUSES = {
    DOUBTFUL: "장치나 버전이 다르면 조금 다를 수 있습니다. --seed를 바꾸어 다시 재 보고, 그래도 "
    "같으면 --doctor로 장치의 계산을 확인하세요.",
    BROKEN: "모델이 제대로 배우지 못했습니다. 고친 코드가 있으면 되돌려 보고, --no-amp와 "
    "--device cpu로 다시 재고, --doctor로 장치의 계산을 확인하세요.",
    "너무 좋음": "기대보다 너무 좋습니다. 테스트 데이터나 정답이 학습에 섞이지 않았는지 보세요.",
}


def read(path: Path = PATH) -> dict[str, dict[str, dict]]:
    """강의마다, 데이터와 장치마다의 기대 결과입니다. 파일이 없으면 빈 사전입니다."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def find(metrics: Mapping[str, Any], expected: Mapping[str, Mapping[str, dict]]) -> dict | None:
    """비교할 기대 결과입니다. 데이터와 `--quick`이 같아야 하고, 장치는 가까운 것을 고릅니다."""
    data, quick = metrics["data"], metrics["quick"]
    same = [
        entry
        for entry in expected.get(metrics["lesson"], {}).values()
        if (entry["data"], entry["source"]) == (data["name"], data["source"])
        and entry["quick"] == quick
    ]
    near = lambda entry: (  # noqa: E731
        entry["device"] == metrics["device_name"],
        entry["device"].startswith("CPU") == (metrics["device"] == "cpu"),
        entry["dtype"] == metrics["dtype"],
    )
    return max(same, key=near, default=None)


def judge(value: float | None, expected: Mapping[str, Any]) -> str:
    """결과 하나를 가립니다.

    폭은 표준편차의 4배, 기준선보다 나은 만큼의 10 %, 값의 0.5 % 가운데 가장 큰 것입니다. 평균에서
    폭만큼 안이면 정상이고, 폭의 두 배 넘게 나쁘면서 나은 만큼의 절반 넘게 잃었으면 고장입니다.
    기준선을 넘지 못하는 것이 정상인 결과는 값의 10 % 넘게 나빠야 고장입니다.
    """
    if value is None:
        return BROKEN
    sign = -1 if expected["lower_is_better"] else 1
    gain = sign * (expected["mean"] - expected["floor_mean"])
    width = max(4 * expected["std"], 0.1 * abs(gain), 0.005 * abs(expected["mean"]))
    change = sign * (value - expected["mean"])
    if abs(change) <= width:
        return NORMAL
    lost = 0.5 * gain if gain > 0 else 0.1 * abs(expected["mean"])
    return BROKEN if change < -max(2 * width, lost) else DOUBTFUL


def compare(metrics: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """결과마다의 판정과 까닭입니다. 기대 결과에 없는 이름은 뺍니다."""
    verdicts = {}
    for name, expected in entry["results"].items():
        if name not in metrics["results"]:
            continue
        value = metrics["results"][name]["value"]
        verdict = judge(value, expected)
        sign = -1 if expected["lower_is_better"] else 1
        better = value is not None and sign * (value - expected["mean"]) > 0
        cause = CAUSES.get("너무 좋음" if better and verdict != NORMAL else verdict, "")
        verdicts[name] = {"verdict": verdict, "mean": expected["mean"], "std": expected["std"]}
        verdicts[name]["cause"] = cause
    return verdicts
