"""README와 기대 결과가 코드와 어긋나지 않는지 봅니다."""

from __future__ import annotations

import json
import re
import runpy
import shlex

import pytest
from conftest import LESSONS, ROOT, load_lesson
from test_lessons import MAY_LOSE

MAY_LOSE_BY = {"테스트 정확도": 0.02}  # 4강의 신경망은 센 기준선에 이만큼까지만 뒤짐
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (0\d_\w+)\.py *([^#\n]*)", README, re.MULTILINE)
collect_results = runpy.run_path(str(ROOT / "scripts" / "collect_results.py"))


def example(**changes):
    run = {
        "lesson": LESSONS[0],
        "quick": False,
        "seed": 0,
        "data": {"name": "MNIST", "source": "original"},
        "device_name": "CPU 2코어",
        "dtype": "float32",
        "results": {"정확도": {"value": 0.99, "unit": "%", "floor": "다수"}},
        "floors": {"다수": 0.1},
        "seconds": 60.0,
        "peak_memory_mb": 900.0,
        "versions": {"torch": "2.15.0+cpu", "python": "3.11.7"},
    }
    return {**run, **changes}


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_readme_commands_are_accepted(name, arguments, capsys):
    """명령의 옵션을 모두 읽을 수 있는지 봅니다. --list를 더해 학습은 하지 않습니다."""
    with pytest.raises(SystemExit) as stop:
        load_lesson(name).main([*shlex.split(arguments), "--list"])
    assert stop.value.code == 0, capsys.readouterr().err


def test_readme_names_every_lesson_and_file():
    assert COMMANDS
    missing = [name for name in LESSONS if f"`{name}.py`" not in README]
    missing += [p.name for p in (ROOT / "utils").glob("[a-z]*.py") if p.name not in README]
    assert missing == []


def test_every_package_is_locked_with_a_reason():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()[1:]
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    for line in lines:
        requirement, reason = line.split("#")
        name = re.match(r"[\w-]+", requirement).group().lower()
        assert re.search(r"[가-힣]", reason) and re.search(rf"^{name}==", locked, re.MULTILINE)


def test_expected_results_are_in_the_texts():
    expected = json.loads((ROOT / "results" / "expected.json").read_text(encoding="utf-8"))
    assert collect_results["outdated"](expected) == []
    for lesson, entries in expected.items():
        for entry in collect_results["full_runs"](entries):
            assert len(set(entry["seeds"])) >= 3
            assert any(r["beats_floor"] for r in entry["results"].values())
            for title, r in entry["results"].items():
                better = r["mean"] - r["floor_mean"]
                better = -better if r.get("lower_is_better") else better
                if r["beats_floor"]:
                    assert better > 0
                else:
                    assert title in MAY_LOSE.get(lesson, ())
                    assert better > -MAY_LOSE_BY.get(title, 0)


def test_collecting_needs_three_seeds_of_full_runs(tmp_path):
    def write(runs):
        paths = [tmp_path / f"{i}.json" for i in range(len(runs))]
        for path, run in zip(paths, runs, strict=True):
            path.write_text(json.dumps(run), encoding="utf-8")
        return paths

    collect = collect_results["collect"]
    other = [example(seed=i, dtype="bfloat16" if i else "float32") for i in range(3)]
    few = [example(), example(seed=1)]
    twice = [example(seed=i) for i in (0, 0, 1, 2)]
    for runs in ([example(), example()], [example(quick=True)] * 3, few, other, twice):
        with pytest.raises(SystemExit):
            collect(write(runs), {})
    values, beats = [0.98, 0.99, 1.0], {"beats_floor": True}
    runs = [
        example(seed=i, results={"정확도": {"value": v, "unit": "%", "floor": "다수"} | beats})
        for i, v in enumerate(values)
    ]
    entry = collect(write(runs), {})[LESSONS[0]]["MNIST, CPU 2코어"]
    assert entry["results"]["정확도"]["mean"] == pytest.approx(0.99)
    assert entry["results"]["정확도"]["std"] == pytest.approx(0.01)
    rows = collect_results["header_rows"]({"MNIST, CPU 2코어": entry})
    assert "99.00 ± 1.00 %" in rows["기대 결과"] and "다수 10.00 %" in rows["기대 결과"]
    assert "torch 2.15.0, Python 3.11.7" in rows["확인한 환경"]
    data = {"name": "MNIST", "source": "package"}
    assert (
        "MNIST(패키지), CPU 2코어"
        in collect(write([r | {"data": data} for r in runs]), {})[LESSONS[0]]
    )
    table = collect_results["readme_table"]({LESSONS[0]: {"k": entry}})
    assert "99.00 ± 1.00 %" in table and "60초" in table and "0.9 GB" in table
    assert "넘지 못함" not in table
    runs[1]["results"]["정확도"]["beats_floor"] = False
    entry = collect(write(runs), {})[LESSONS[0]]["MNIST, CPU 2코어"]
    assert "넘지 못함" in collect_results["readme_table"]({LESSONS[0]: {"k": entry}})


def test_nothing_generated_is_committed():
    forbidden = (".pt", ".npz", ".png", ".ipynb", ".part", ".gz")
    ignored = {".git", ".hypothesis", "data", "outputs", ".venv", "tests"}
    files = [p for p in ROOT.rglob("*") if p.suffix in forbidden]
    assert [p for p in files if p.relative_to(ROOT).parts[0] not in ignored] == []
