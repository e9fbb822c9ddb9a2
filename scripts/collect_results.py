"""실행 기록(metrics.json)을 모아 기대 결과를 갱신합니다.

    python scripts/collect_results.py 기록/*/01_pytorch_basics/metrics.json
    python scripts/collect_results.py --check

시드가 다른 기록을 평균해 results/expected.json에 쓰고, 거기에서 README.md의 표와 강의 머리말을 다시
씁니다. 손으로 적는 숫자가 없으므로 글과 결과가 어긋나지 않습니다. 강의는 실행이 끝나면 자기 결과를
그 파일과 비교합니다. `--check`는 어긋나면 종료 상태 1로 끝납니다.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "results" / "expected.json"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def summarize(runs: list[dict]) -> dict:
    """같은 강의, 데이터, 장치에서 시드만 다른 기록들을 하나로 줄입니다."""
    first = runs[0]
    results = {}
    for name, result in first["results"].items():
        values = [run["results"][name]["value"] for run in runs]
        results[name] = {
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "unit": result["unit"],
            "floor": result["floor"],
            "lower_is_better": result.get("lower_is_better", False),
            "beats_floor": all(run["results"][name]["beats_floor"] for run in runs),
            "floor_mean": statistics.mean(run["floors"][result["floor"]] for run in runs),
        }
    return {
        "quick": first["quick"],
        "data": first["data"]["name"],
        "source": first["data"]["source"],
        "device": first["device_name"],
        "dtype": first["dtype"],
        "seeds": [run["seed"] for run in runs],
        "results": results,
        "seconds": statistics.mean(run["seconds"] for run in runs),
        "peak_memory_mb": max(run["peak_memory_mb"] or 0 for run in runs),
        "versions": first["versions"],
        "date": datetime.date.today().isoformat(),
    }


def collect(paths: list[Path], expected: dict) -> dict:
    """기록 파일들을 `expected`에 더합니다. 같은 강의, 데이터, 장치의 옛 기록은 바뀝니다."""
    groups = defaultdict(list)
    for path in paths:
        run = json.loads(path.read_text(encoding="utf-8"))
        data = {"data": run["data"]["name"], "source": run["data"]["source"]}
        key = f"{data_name(data)}, {run['device_name']}" + ", --quick" * run["quick"]
        groups[run["lesson"], key].append(run)
    for (lesson, key), runs in groups.items():
        runs.sort(key=lambda run: run["seed"])
        same = [{k: run.get(k) for k in ("config", "dtype", "versions", "data")} for run in runs]
        if any(settings != same[0] for settings in same):
            sys.exit(f"{lesson} ({key}): 설정, 자료형, 버전, 데이터가 다른 기록이 섞여 있습니다.")
        if any(result["value"] is None for run in runs for result in run["results"].values()):
            sys.exit(f"{lesson} ({key}): 계산할 수 없는 결과가 있습니다.")
        if len({run["seed"] for run in runs}) < max(3, len(runs)):
            sys.exit(f"{lesson} ({key}): 시드가 서로 다른 기록이 3개 이상 필요합니다.")
        expected.setdefault(lesson, {})[key] = summarize(runs)
    return dict(sorted(expected.items()))


def percent(value: float, unit: str) -> str:
    """예: 92.22 %"""
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.4g} {unit}".rstrip()


def describe(name: str, result: dict) -> str:
    """예: 테스트 정확도 99.38 ± 0.05 %"""
    if result["unit"] == "%":
        return f"{name} {100 * result['mean']:.2f} ± {100 * result['std']:.2f} %"
    if not result["std"]:
        return f"{name} {result['mean']:.4g} ± 0 {result['unit']}".rstrip()
    digits = max(0, 1 - math.floor(math.log10(result["std"])))  # 표준편차의 유효 숫자 둘까지
    mean, std = (f"{result[key]:.{digits}f}" for key in ("mean", "std"))
    return f"{name} {mean} ± {std} {result['unit']}".rstrip()


def duration(seconds: float) -> str:
    """예: 359초, 20분(10분부터)"""
    return f"{seconds:.0f}초" if seconds < 600 else f"{seconds / 60:.0f}분"


def data_name(entry: dict) -> str:
    """데이터의 이름입니다. 원본이 아니면 그렇다고 붙입니다. 예: IMDB(패키지)"""
    return entry["data"] + {"package": "(패키지)", "sample": "(표본)"}.get(entry["source"], "")


def headlines(entry: dict) -> dict[str, dict]:
    """표에 적을 결과입니다. '테스트 정확도'가 있으면 그것만, 없으면 모두입니다."""
    results = entry["results"]
    name = "테스트 정확도"
    return {name: results[name]} if name in results else results


def full_runs(entries: dict) -> list[dict]:
    """`--quick`이 아닌 것들입니다. 글에는 이것만 적습니다."""
    return [entry for entry in entries.values() if not entry["quick"]]


def readme_table(expected: dict) -> str:
    """README.md의 결과 표입니다."""
    lines = [
        "| 강의 | 데이터 | 기준선 | 결과 (시드 3개) | 시간 | 메모리 | 장치 | 버전 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for lesson, entries in expected.items():
        for entry in full_runs(entries):
            for name, result in headlines(entry).items():
                floor = f"{result['floor']} {percent(result['floor_mean'], result['unit'])}"
                cells = [
                    f"`{lesson}.py`",
                    data_name(entry),
                    floor,
                    describe(name, result) + " (넘지 못함)" * (not result["beats_floor"]),
                    duration(entry["seconds"]),
                    f"{entry['peak_memory_mb'] / 1000:.1f} GB",
                    f"{entry['device']}, {entry['dtype']}",
                    f"torch {entry['versions']['torch'].split('+')[0]}",
                ]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def header_rows(entries: dict) -> dict[str, str]:
    """강의 머리말의 두 줄입니다. 처음 잰 데이터, 곧 강의의 기본 데이터의 것을 씁니다.

    결과가 여럿이면 기준선을 넘은 첫째를 적습니다.
    """
    entry = full_runs(entries)[0]
    found = headlines(entry).items()
    beaten = [(name, result) for name, result in found if result["beats_floor"]]
    name, result = (beaten or [*found])[0]
    unit = "%" if result["unit"] == "%" else ""  # 다른 단위는 결과에만 적음. 왜: 한 줄이 길어짐
    floor = f"{result['floor']} {percent(result['floor_mean'], unit)}"
    where = f"{data_name(entry)} {len(entry['seeds'])}회, {duration(entry['seconds'])}"
    versions = entry["versions"]
    torch_version = versions["torch"].split("+")[0]
    return {
        "기대 결과": f"{describe(name, result)}, {floor} ({where})",
        "확인한 환경": f"{entry['device']}, torch {torch_version}, Python {versions['python']}, "
        f"{entry['date']}",
    }


def render(expected: dict) -> dict[Path, str]:
    """기대 결과에서 다시 쓴 README.md와 강의 파일의 내용입니다."""
    files = {}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = f"{BEGIN}\n{readme_table(expected)}\n{END}"
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    files[ROOT / "README.md"] = re.sub(pattern, lambda _: table, readme, flags=re.DOTALL)
    for lesson, entries in expected.items():
        path = ROOT / f"{lesson}.py"
        text = path.read_text(encoding="utf-8")
        rows = header_rows(entries) if full_runs(entries) else {}
        for field, value in rows.items():
            row = f"| {field} | {value} |"
            text = re.sub(rf"^\| {field} \|.*\|$", lambda _, row=row: row, text, flags=re.MULTILINE)
        files[path] = text
    return files


def outdated(expected: dict) -> list[Path]:
    """기대 결과와 어긋난 파일들입니다."""
    return [p for p, text in render(expected).items() if p.read_text(encoding="utf-8") != text]


def main(argv: list[str] | None = None) -> None:
    """명령행을 읽어 모으거나 검사합니다."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metrics", nargs="*", type=Path, help="metrics.json 파일들")
    parser.add_argument("--check", action="store_true", help="고치지 않고 어긋났는지만 봅니다")
    args = parser.parse_args(argv)
    expected = json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.exists() else {}
    if args.check:
        names = [path.name for path in outdated(expected)]
        sys.exit(f"results/expected.json과 다릅니다: {', '.join(names)}" if names else 0)
    expected = collect(args.metrics, expected)
    text = json.dumps(expected, ensure_ascii=False, indent=2) + "\n"
    EXPECTED.write_text(text, encoding="utf-8")
    for path, content in render(expected).items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
