"""모든 강의가 지키는 약속입니다. 강의 파일이 생기면 저절로 시험합니다."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import LESSONS, ROOT, command, environment, load_lesson, run_lesson

HEADER_FIELDS = "배우는 것,먼저 볼 것,데이터,실행,빠른 확인,기대 결과,확인한 환경".split(",")
COMMON_FLAGS = (
    "--help --quick --device --data --data-dir --output-dir --seed --resume --no-amp --list --only"
).split()
LOOP = ["1) 순전파", "2) 손실", "3) 기울기 비우기", "4) 역전파", "5) 매개변수 갱신"]
# 강의마다 적어도 이만큼은 확인하고, 주장하고, 그려야 함
MINIMUM = {
    "01_pytorch_basics": {"checks": 15, "claims": 6, "figures": 5},
    "02_neural_networks": {"checks": 18, "claims": 10, "figures": 9},
    "03_cnn_image_classification": {"checks": 18, "claims": 9, "figures": 10},
    "04_rnn_text_classification": {"checks": 16, "claims": 8, "figures": 8},
    "05_lstm_sequence_prediction": {"checks": 14, "claims": 8, "figures": 8},
    "06_yolo_object_detection": {"checks": 16, "claims": 7, "figures": 9},
    "07_gan_image_generation": {"checks": 14, "claims": 8, "figures": 9},
    "08_transformer_nlp": {"checks": 18, "claims": 8, "figures": 8},
}
TRAINING = {  # 학습하고 model.pt를 저장하는 절
    "01_pytorch_basics": "1.7,1.9",
    "02_neural_networks": "2.8",
    "03_cnn_image_classification": "3.8",
    "04_rnn_text_classification": "4.8",
    "05_lstm_sequence_prediction": "5.6",
    "06_yolo_object_detection": "6.8",
    "07_gan_image_generation": "7.6",
    "08_transformer_nlp": "8.8",
}
MAY_LOSE = {  # 기준선을 넘지 못해도 되는 결과. 센 기준선이거나(4강) 넘을 수 없는 것임(5강)
    "04_rnn_text_classification": {"테스트 정확도", "기준선과 함께 쓴 테스트 정확도"},
    "05_lstm_sequence_prediction": {"하루 뒤 가격", "구간", "변동성, 다시 배움"},
}
MAY_LOSE_IN_QUICK = MAY_LOSE | {"06_yolo_object_detection": {"mAP@[.5:.95]"}}  # 학습이 짧음
METRICS_KEYS = set(
    "lesson quick device device_name dtype seed versions data seconds section_seconds "
    "peak_memory_mb config checks claims floors results figures expected".split()
)

pytestmark = pytest.mark.parametrize("name", LESSONS)


def source(name: str) -> str:
    return (ROOT / f"{name}.py").read_text(encoding="utf-8")


def test_import_is_silent_and_touches_nothing(name, tmp_path):
    code = (
        "import os, runpy, torch\n"
        "def refuse(*a, **k): raise AssertionError('import 중에 장치를 보았습니다')\n"
        "refuse.__wrapped__ = refuse\n"  # torchvision이 부르지는 않고 속성만 봄
        "torch.cuda.is_available = torch.backends.mps.is_available = refuse\n"
        f"runpy.run_path(r'{ROOT / name}.py', run_name='lesson')\n"
        "assert os.listdir() == [], os.listdir()\n"
    )
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_header_has_every_field(name):
    header = load_lesson(name).__doc__
    assert [field for field in HEADER_FIELDS if f"| {field} |" not in header] == []
    assert f"`python {name}.py --quick`" in header


def test_source_follows_the_skeleton(name):
    text = source(name)
    assert [comment for comment in LOOP if f"# {comment}" not in text] == []
    assert not re.search(r"^[ \t]+# %%", text, re.MULTILINE), "셀 표시는 줄 맨 앞에 있어야 함"
    for ending in ("# ## 정리", "# ## 연습문제", "# ## 더 읽을거리", '# main(["--quick"])'):
        assert ending in text
    headings = re.findall(r"^# ## (\d+\.\d+) (.+)$", text, re.MULTILINE)
    sections = [(s.number, s.title) for s in load_lesson(name).chapter.sections.values()]
    assert headings == sections
    chapters = re.split(r"^# ## (?:\d+\.\d+ |정리)", text, flags=re.MULTILINE)[1:-1]
    for (number, _), chapter in zip(sections, chapters, strict=True):
        beats = ("**왜 필요할까요?**", "# %%\n", "**읽는 법.**", f'section("{number}"')
        assert [beat for beat in beats if beat not in chapter] == [], number


def test_names_stand_in_the_same_order(name):
    """강의 둘을 나란히 놓으면 새로운 것만 다르게 보여야 합니다."""
    text = source(name)
    order = ["class Config:", "epochs: int", "batch_size: int", "lr: float", "QUICK = replace("]
    order += ["chapter = Lesson(", "@chapter.section(", "\ndef main(", "\nif __name__ =="]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "from utils import visualization as plot\n" in text
    main = text[text.index("def main(") :]
    calls = re.findall(r"^    (?:\w+ = )?(section_\w+)\(", main, re.MULTILINE)
    functions = re.findall(r"^def (section_\w+)\(", text, re.MULTILINE)
    assert calls == functions and ("section_result" in calls) and main.count("run.finish()") == 1


def test_help_is_complete_and_korean(name, capsys):
    lesson = load_lesson(name)
    with pytest.raises(SystemExit) as stop:
        lesson.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    flags = ["--" + f.name.replace("_", "-") for f in dataclasses.fields(lesson.Config)]
    assert [flag for flag in COMMON_FLAGS + flags if flag not in text] == []
    assert not re.search(r"usage|options:|show this help|default", text)


def test_list_prints_every_section(name, capsys):
    lesson = load_lesson(name)
    with pytest.raises(SystemExit) as stop:
        lesson.main(["--list"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"{s.number}  {s.title}" in text for s in lesson.chapter.sections.values())


@pytest.mark.slow
def test_quick_run(name, quick_runs):
    done = quick_runs(name)
    assert done.status == 0, done.stderr
    printed = re.findall(r"^== (\d+\.\d+) (.+) ==$", done.stdout, re.MULTILINE)
    assert printed == re.findall(r"^# ## (\d+\.\d+) (.+)$", source(name), re.MULTILINE)
    assert "성적이 아닙니다" in done.stdout and "[데이터]" in done.stdout
    done.stdout.encode("cp949")  # Windows의 한국어 콘솔에 찍을 수 있음


@pytest.mark.slow
def test_quick_metrics(name, quick_runs):
    done = quick_runs(name)
    metrics = done.metrics
    assert set(metrics) == METRICS_KEYS
    assert metrics["lesson"] == name and metrics["quick"] is True and metrics["seed"] == 0
    assert set(metrics["data"]) >= {"name", "source", "sha256", "num_train", "num_val", "num_test"}
    assert metrics["data"]["source"] in ("package", "sample")
    for check in metrics["checks"]:
        assert set(check) == {"name", "max_error", "atol", "passed"}
        assert check["passed"] is True and 0 <= check["max_error"] <= check["atol"]
    for claim in metrics["claims"]:
        assert set(claim) == {"claim", "measured", "holds"} and isinstance(claim["holds"], bool)
    assert metrics["floors"] and metrics["results"]
    for title, result in metrics["results"].items():
        assert result["floor"] in metrics["floors"] and math.isfinite(result["value"])
        assert result["beats_floor"] is True or title in MAY_LOSE_IN_QUICK.get(name, ())
        if not result["lower_is_better"]:
            assert result["value"] > min(metrics["floors"].values())
    for kind, least in MINIMUM[name].items():
        assert len(metrics[kind]) >= least, kind
    for figure in metrics["figures"]:
        assert (done.folder / figure).stat().st_size > 5000
    assert not list(done.folder.glob("*.part"))


@pytest.mark.slow
def test_floor_is_printed_before_the_result(name, quick_runs):
    done = quick_runs(name)
    for result in done.metrics["results"].values():
        floor_at = done.stdout.index(f"[기준선] {result['floor']}")
        assert floor_at < done.stdout.index(f"(기준선 '{result['floor']}'")


@pytest.mark.parametrize(
    "wrong",
    [
        "--epoch 3",
        "--epochs 0",
        "--epochs two",
        "--epochs 2.5",
        "--epochs",
        "--lr -1",
        "--lr nan",
        "--batch-size 0",
        "--device tpu",
        "--data internet",
        "--seed -1",
        "--seed 4294967296",
        "--only 99.9",
        "--only ,",
        "--nonsense",
        "extra",
    ],
)
def test_wrong_arguments(name, wrong, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        load_lesson(name).main([*wrong.split(), "--output-dir", str(tmp_path / "o")])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == "" and captured.err.startswith("오류: ")
    assert captured.err.count("\n") == 1 and wrong.split()[0] in captured.err
    assert not (tmp_path / "o").exists()


def test_main_passes_over_sections_that_were_not_chosen(name, monkeypatch, tmp_path):
    """`--only`로 빠진 절은 None을 돌려줍니다. main은 그것을 다음 절에 그대로 넘겨야 합니다."""
    module = load_lesson(name)
    monkeypatch.setattr(module.chapter, "_select", lambda parser, only: set())
    metrics = module.main(["--quick", "--output-dir", str(tmp_path)])
    assert metrics["checks"] == [] and not (tmp_path / name / "metrics.json").exists()


def test_wrong_flag_in_a_real_process(name, tmp_path):
    done = run_lesson(name, "--quik", output=tmp_path)
    assert done.status == 2 and "--quick" in done.stderr and "Traceback" not in done.stderr


# -- 끊김과 이어 하기 ------------------------------------------------------------------
def start_and_wait(name, *arguments, output, line_start):
    """강의를 띄우고 출력에 `line_start`가 나올 때까지 기다립니다."""
    process = subprocess.Popen(
        command(name, *arguments, "--output-dir", output),
        env=environment(),
        cwd=output,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        # 왜: 시험을 뒤에서(&) 실행하면 Ctrl+C를 무시하는 상태를 물려받음
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line_start in line:
            return process
    raise AssertionError(process.stderr.read())


def weights(folder, name):
    return torch.load(folder / name / "model-quick.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows에는 이 시그널이 없습니다")
def test_stopped_and_resumed_run_ends_with_the_same_weights(name, tmp_path):
    """Ctrl+C, SIGTERM, SIGKILL로 차례로 끊고 이어 갑니다."""
    arguments = ("--quick", "--only", TRAINING[name], "--epochs", "8")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    assert run_lesson(name, *arguments, output=whole).status == 0
    resume = arguments
    for number, line in ((signal.SIGINT, "에폭  1/8"), (signal.SIGTERM, "에폭  3/8")):
        process = start_and_wait(name, *resume, output=stopped, line_start=line)
        process.send_signal(number)
        start = time.perf_counter()
        _, errors = process.communicate(timeout=30)
        assert time.perf_counter() - start < 5
        assert process.returncode == 130 and "Traceback" not in errors
        assert "이어서 실행: python" in errors and errors.rstrip().endswith("--resume")
        assert (stopped / name / "checkpoint-quick.pt").exists()
        assert not list((stopped / name).glob("*.part"))
        resume = (*arguments, "--resume")
    process = start_and_wait(name, *resume, output=stopped, line_start="에폭  5/8")
    process.kill()
    process.communicate()
    assert not (stopped / name / "model-quick.pt").exists()
    done = run_lesson(name, *resume, output=stopped)
    assert done.status == 0 and re.search(r"[5-7] 에폭까지 마친 학습을 이어 갑니다", done.stdout)
    ours, reference = weights(stopped, name), weights(whole, name)
    assert all(torch.equal(ours[key], reference[key]) for key in reference)
    assert not list((stopped / name).glob("*.part"))
