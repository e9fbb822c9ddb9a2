"""실행의 결과를 기대 결과와 비교해 정상, 의심, 고장을 가리는지 봅니다."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from conftest import LESSONS

from utils import expected
from utils.command_line import option, setting
from utils.data_utils import Provenance
from utils.expected import BROKEN, DOUBTFUL, NORMAL
from utils.lesson import Lesson


def entry(**changes):
    result = {"mean": 0.9, "std": 0.005, "floor_mean": 0.5, "lower_is_better": False}
    made = {"quick": True, "data": "시험", "source": "sample", "device": "CPU 2코어"}
    made |= {"dtype": "float32", "seeds": [0, 1, 2], "results": {"정확도": result}}
    return made | changes


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0.9, NORMAL),
        (0.87, NORMAL),
        (0.93, NORMAL),
        (0.8, DOUBTFUL),
        (0.99, DOUBTFUL),
        (0.65, BROKEN),
        (0.5, BROKEN),
        (0.1, BROKEN),
        (None, BROKEN),
    ],
)
def test_verdicts(value, verdict):
    result = entry()["results"]["정확도"]
    assert expected.judge(value, result) == verdict
    turned = {"mean": -0.9, "std": 0.005, "floor_mean": -0.5, "lower_is_better": True}
    assert expected.judge(value if value is None else -value, turned) == verdict


def test_a_baseline_that_can_not_be_beaten_is_judged_by_the_spread():
    price = {"mean": 1.2532, "std": 0.0004, "floor_mean": 1.256, "lower_is_better": True}
    values = (1.2535, 1.258, 1.28, 3.0)
    assert [expected.judge(v, price) for v in values] == [NORMAL, NORMAL, BROKEN, BROKEN]


def test_the_nearest_entry_is_found():
    entries = {
        "a": entry(),
        "b": entry(device="NVIDIA H100"),
        "c": entry(quick=False),
        "d": entry(data="다른 것"),
    }
    metrics = {"lesson": "x", "quick": True, "data": {"name": "시험", "source": "sample"}}
    metrics |= {"device": "cuda", "device_name": "NVIDIA RTX", "dtype": "bfloat16"}
    assert expected.find(metrics, {"x": entries}) is entries["b"]
    metrics |= {"device": "cpu", "device_name": "CPU 8코어"}
    assert expected.find(metrics, {"x": entries}) is entries["a"]
    assert expected.find(metrics | {"quick": False}, {"x": entries}) is entries["c"]
    assert expected.find(metrics | {"lesson": "y"}, {"x": entries}) is None
    other = metrics | {"data": {"name": "내 자료", "source": "original"}}
    assert expected.find(other, {"x": entries}) is None


@dataclass(frozen=True)
class Config:
    lr: float = setting(0.1, "학습률", above=0)
    predict: str = option("", "파일")


class Dataset:
    provenance = Provenance("시험", "sample", "", "0", 1, 1, 1)
    test_is_taken = True


def run_with(accuracy, tmp_path, monkeypatch, *flags, gpu=None):
    chapter = Lesson(str(tmp_path / "09_demo.py"), "\n# 9강. 시험용\n", Config(), Config(), gpu)
    monkeypatch.setattr(expected, "read", lambda: {"09_demo": {"k": entry(quick=gpu is None)}})

    @chapter.section("9.1", "하나")
    def one(run):
        run.data(lambda **request: Dataset())
        run.floor("다수", 0.5)
        run.result("정확도", accuracy, beats="다수")

    flags = [*flags, "--quick"] if gpu is None else flags
    run = chapter.start(["--device", "cpu", "--output-dir", str(tmp_path), *flags])
    one(run)
    return run.finish()


@pytest.mark.parametrize(
    ("accuracy", "verdict", "words"),
    [
        (0.9, NORMAL, ""),
        (0.8, DOUBTFUL, "--seed"),
        (0.5, BROKEN, "--doctor"),
        (0.99, DOUBTFUL, "섞이지"),
    ],
)
def test_a_run_judges_itself(accuracy, verdict, words, tmp_path, monkeypatch, capsys):
    metrics = run_with(accuracy, tmp_path, monkeypatch)
    text = capsys.readouterr().out
    assert metrics["expected"]["정확도"]["verdict"] == verdict
    assert f"정확도: 평균 90.00 %, 표준편차 0.50 % -> {verdict}" in text and words in text
    written = json.loads((tmp_path / "09_demo" / "metrics.json").read_text(encoding="utf-8"))
    assert written["expected"] == metrics["expected"]
    text.encode("cp949")


def test_the_setting_of_the_gpu_is_not_called_a_changed_one(tmp_path, monkeypatch, capsys):
    metrics = run_with(0.5, tmp_path, monkeypatch, "--preset", "gpu", gpu=Config(lr=0.3))
    assert metrics["expected"] == {}
    assert "GPU 설정(--preset gpu)의 기대 결과가 없어" in capsys.readouterr().out


def test_a_changed_setting_is_not_judged(tmp_path, monkeypatch, capsys):
    assert run_with(0.5, tmp_path, monkeypatch, "--lr", "0.2")["expected"] == {}
    assert "설정을 바꾸어 기대 결과와 비교하지 않았습니다" in capsys.readouterr().out
    assert run_with(0.5, tmp_path, monkeypatch, "--seed", "3")["expected"] != {}


def test_shipped_results_hold_what_the_comparison_needs():
    shipped = expected.read()
    assert set(shipped) == set(LESSONS)
    for name, entries in shipped.items():
        assert {False, True} <= {entry["quick"] for entry in entries.values()}, name
        for found in entries.values():
            assert len(set(found["seeds"])) >= 3
            for result in found["results"].values():
                assert expected.judge(result["mean"], result) == NORMAL
