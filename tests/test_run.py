"""`Run`의 약속: 확인은 틀리면 멈추고, 판정은 숨기지 않고, 기준선 없는 결과는 없습니다."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from utils import lesson as lesson_module
from utils.command_line import option, setting
from utils.errors import UserError
from utils.lesson import CheckFailed, Lesson, largest_error, run_main
from utils.visualization import new_figure


@dataclass(frozen=True)
class Config:
    epochs: int = setting(3, "에폭", low=1)
    lr: float = setting(0.1, "학습률", above=0)
    kind: str = setting("a", "종류", choices=("a", "b"))
    predict: str = option("", "파일")


def make_lesson(tmp_path):
    chapter = Lesson(str(tmp_path / "09_demo.py"), "\n# 9강. 시험용\n", Config(), Config(epochs=1))
    calls = []

    @chapter.section("9.1", "하나")
    def one(run):
        calls.append(("9.1", torch.rand(1).item()))
        return "model"

    @chapter.section("9.2", "둘", needs=("9.1",))
    def two(run, model):
        calls.append(("9.2", torch.rand(1).item()))

    @chapter.section("9.3", "셋")
    def three(run):
        calls.append(("9.3", torch.rand(1).item()))

    def main(argv):
        run = chapter.start([*argv, "--output-dir", str(tmp_path / "out"), "--device", "cpu"])
        two(run, one(run))
        three(run)
        return run.finish()

    return chapter, calls, main


@pytest.fixture
def run(tmp_path):
    chapter, _, _ = make_lesson(tmp_path)
    return chapter.start(["--output-dir", str(tmp_path / "out"), "--device", "cpu"])


def test_check_passes_and_is_recorded(run, capsys):
    run.check("같음", torch.tensor([1.0, 2.0]), np.array([1.0, 2.0 + 1e-8]), atol=1e-6)
    assert run.metrics["checks"][0]["passed"] and "[확인] 같음" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        ([1.0, 2.0], [1.0, 2.1]),
        ([1.0, float("nan")], [1.0, float("nan")]),
        ([[1.0, 2.0]], [1.0, 2.0]),
        ([1.0], [1.0, 1.0]),
        ([], []),
        ([float("inf")], [1.0]),
    ],
)
def test_check_raises_when_different(run, ours, reference):
    with pytest.raises(CheckFailed):
        run.check("다름", torch.tensor(ours), torch.tensor(reference), atol=1e-3)
    assert run.metrics["checks"][-1]["passed"] is False


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(1e-3, 10))
def test_largest_error_finds_one_wrong_entry(values, shift):
    wrong = list(values)
    wrong[len(wrong) // 2] += shift
    assert largest_error(values, values) == 0
    assert largest_error(values, wrong) == pytest.approx(shift, rel=1e-3)


def test_gradient_check_catches_a_wrong_backward(run):
    class WrongSquare(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, gradient):
            return gradient  # 2x를 빠뜨림

    x = torch.randn(5)
    run.check_with_gradient("제곱", lambda t: t * t, lambda t: t**2, x)
    with pytest.raises(CheckFailed, match="기울기"):
        run.check_with_gradient("틀린 제곱", WrongSquare.apply, lambda t: t**2, x)


def test_gradient_check_sees_a_permuted_gradient(run):
    """합만 미분하면 놓치는 오류: 기울기의 칸이 서로 바뀐 경우입니다."""

    class Flipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.flip(0)

    with pytest.raises(CheckFailed):
        run.check_with_gradient("뒤집힌 기울기", Flipped.apply, lambda t: t.clone(), torch.randn(5))


def test_gradient_check_does_not_skip_unnamed_gradients(run):
    x, w = torch.randn(3), torch.randn(3)
    run.check_with_gradient("곱", lambda a, b: a * b, lambda a, b: b * a, x, w)
    assert [c["name"] for c in run.metrics["checks"]] == [
        "곱, 순전파",
        "곱, 기울기",
        "곱, 기울기 2",
    ]
    with pytest.raises(ValueError, match="zip"):
        run.check_with_gradient(
            "곱", lambda a, b: a * b, lambda a, b: b * a, x, w, input_names=["하나"]
        )


class Shift(nn.Module):
    """평균을 빼고 버퍼에 적는 모듈입니다. `wrong`이면 버퍼를 잘못 고칩니다."""

    def __init__(self, wrong=False):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("seen", torch.zeros(3))
        self.wrong = wrong

    def forward(self, x):
        self.seen += x.detach().mean(dim=0) * (2 if self.wrong else 1)
        return x - x.mean(dim=0) + self.bias


def test_module_check_sees_parameters_and_buffers(run):
    class NoBias(Shift):
        def forward(self, x):
            return super().forward(x) - self.bias.detach()

    run.check_modules("같은 모듈", Shift(), Shift(), torch.randn(4, 3))
    with pytest.raises(CheckFailed, match="seen"):
        run.check_modules("틀린 버퍼", Shift(wrong=True), Shift(), torch.randn(4, 3))
    with pytest.raises(CheckFailed, match="순전파"):  # bias가 0이면 드러나지 않는 오류
        run.check_modules("빠진 bias", NoBias(), Shift(), torch.randn(4, 3))
    with pytest.raises(CheckFailed, match="이름"):
        run.check_modules("다른 이름", Shift(), nn.Linear(3, 3), torch.randn(4, 3))


class Product(nn.Bilinear):
    """입력이 둘, 결과가 여럿이고 비교하지 않을 버퍼가 있는 모듈입니다."""

    def __init__(self, sign=1):
        super().__init__(3, 2, 4)
        self.register_buffer("mask", torch.full((4,), sign), persistent=False)

    def forward(self, a, b):
        return super().forward(a, b) * self.mask, None


def test_module_check_takes_several_inputs_and_tuples(run):
    inputs = torch.randn(5, 3), torch.randn(5, 2)
    run.check_modules("여러 입력", Product(), nn.Bilinear(3, 2, 4), *inputs)
    names = [check["name"] for check in run.metrics["checks"]]
    assert "여러 입력, 입력2의 기울기" in names and len(names) == 5
    with pytest.raises(CheckFailed):
        run.check_modules("틀린 부호", Product(-1), nn.Bilinear(3, 2, 4), *inputs)


def test_optimizer_check_sees_a_wrong_step(run):
    right = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    run.check_optimizer("모멘텀", right, right)
    with pytest.raises(CheckFailed):
        run.check_optimizer("모멘텀", partial(torch.optim.SGD, lr=0.1, momentum=0.8), right)


def test_claim_writes_values_by_name(run):
    run.claim("비율", {"가": 0.5, "나": 0.25}, holds=True)
    run.claim("배수", {"가": 2.0}, holds=True, unit="배")
    measured = [claim["measured"] for claim in run.metrics["claims"]]
    assert measured == ["가 50.0 %, 나 25.0 %", "가 2배"]


def test_false_claim_is_printed_and_recorded(run, capsys):
    run.claim("틀린 주장", measured="3 > 5", holds=np.bool_(False))
    assert run.metrics["claims"] == [{"claim": "틀린 주장", "measured": "3 > 5", "holds": False}]
    assert "아니오" in capsys.readouterr().out


def test_result_needs_its_floor_first(run):
    with pytest.raises(KeyError):
        run.result("정확도", 0.9, beats="없는 기준선")
    run.floor("다수", 0.5)
    run.result("정확도", 0.4, beats="다수")
    assert run.metrics["results"]["정확도"]["beats_floor"] is False
    run.floor("오차", 2.0, unit="원")
    run.result("모델의 오차", 1.0, beats="오차", unit="원", lower_is_better=True)
    assert run.metrics["results"]["모델의 오차"]["beats_floor"] is True


def test_a_diverged_result_keeps_the_record(run, capsys):
    run.floor("당혹도", 30.0, unit="")
    run.result("모델의 당혹도", float("inf"), beats="당혹도", unit="", lower_is_better=True)
    result = run.metrics["results"]["모델의 당혹도"]
    assert result["value"] is None and result["beats_floor"] is False
    assert "계산할 수 없음" in capsys.readouterr().out
    assert run.finish()["floors"] == {"당혹도": 30.0}


def test_a_new_run_does_not_leave_old_checkpoints(tmp_path):
    chapter, _, _ = make_lesson(tmp_path)

    def checkpoint(*flags):
        run = chapter.start([*flags, "--output-dir", str(tmp_path / "out"), "--device", "cpu"])
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
        run.checkpoint(model, optimizer, scheduler)
        return run.folder

    folder = checkpoint()
    for name in ("checkpoint_2.pt", "checkpoint-quick.pt"):
        (folder / name).write_bytes(b"old")
    checkpoint("--resume")
    assert len(list(folder.glob("*.pt"))) == 3
    checkpoint()
    assert {path.name for path in folder.glob("*.pt")} == {"checkpoint.pt", "checkpoint-quick.pt"}
    assert (folder / "checkpoint-quick.pt").read_bytes() == b"old"
    checkpoint("--quick")
    assert (folder / "checkpoint-quick.pt").read_bytes() != b"old"


def test_figure_with_a_missing_glyph_is_refused(run):
    figure, ax = new_figure()
    ax.set_title("숫자와 \U00013000")  # 어느 글꼴에도 없는 이집트 상형 문자
    with pytest.raises(UserWarning, match="Glyph"):
        run.figure(figure, "broken")
    figure, ax = new_figure()
    ax.set_title("한글 제목")
    run.figure(figure, "fine")
    assert (run.folder / "fine.png").exists() and run.metrics["figures"] == ["fine.png"]


def test_finish_writes_the_same_metrics(tmp_path):
    _, _, main = make_lesson(tmp_path)
    metrics = main(["--lr", "0.5"])
    text = (tmp_path / "out" / "09_demo" / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == metrics
    assert metrics["config"] == {"epochs": 3, "lr": 0.5, "kind": "a", "predict": ""}
    assert set(metrics["section_seconds"]) == {"9.1", "9.2", "9.3"}


def test_only_runs_what_it_needs_with_the_same_numbers(tmp_path, capsys):
    _, everything, main = make_lesson(tmp_path)
    main([])
    folder = tmp_path / "out" / "09_demo"
    before = (folder / "metrics.json").read_bytes()
    _, only, main = make_lesson(tmp_path)
    main(["--only", "9.2"])
    assert only == everything[:2]
    assert (folder / "metrics.json").read_bytes() == before, "일부 실행이 기록을 덮어씀"
    _, only, main = make_lesson(tmp_path)
    main(["--only", "9.3"])
    assert only == everything[2:]


def test_quick_and_flags_make_the_config(tmp_path):
    chapter, _, _ = make_lesson(tmp_path)
    start = lambda *argv: chapter.start([*argv, "--output-dir", str(tmp_path)]).config  # noqa: E731
    assert start() == Config()
    assert start("--quick") == Config(epochs=1)
    assert start("--quick", "--epochs", "7", "--kind", "b") == replace(Config(), epochs=7, kind="b")


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path):
    _, _, main = make_lesson(tmp_path)
    with pytest.raises(UserError, match=r"--predict: .*없음\.png 파일이 없습니다"):
        main(["--predict", str(tmp_path / "없음.png")])


COUNT_FAULTS = """
import resource, sys, torch
from utils.device import reuse_memory
if sys.argv[1] == "reuse":
    reuse_memory()
for count in (30, 10):  # 처음에는 새로 받아 쌓음
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.ones(20_000_000)  # 80 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again():
    """큰 텐서를 다시 받을 때 운영체제가 쪽을 새로 채우지 않아야 합니다(glibc)."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc가 아니어서 할당기를 조정하지 않습니다")
    faults = []
    for how in ("reuse", "default"):  # 왜: 할당기의 상태는 프로세스의 것이라 새 프로세스에서 잼
        code = [sys.executable, "-c", COUNT_FAULTS, how]
        done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
        faults.append(int(done.stdout))
    assert faults[0] < faults[1] / 2


GIVE_BACK = """
import psutil, torch
from utils.device import give_back_memory, reuse_memory
reuse_memory()
used = lambda: psutil.Process().memory_info().rss / 2**20
kept = [torch.ones(20_000_000) for _ in range(4)]  # 320 MB
last = torch.ones(10)  # 힙의 끝에 남아, 저절로 줄어들지 못하게 함
del kept
before = used()
for above in (100_000, 100):  # MB. 100 GB를 넘지 않았으므로 처음에는 쥐고 있어야 함
    give_back_memory(above)
    print(before - used())
"""


def test_free_memory_is_given_back():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("glibc가 아니어서 할당기를 조정하지 않습니다")
    code = [sys.executable, "-c", GIVE_BACK]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    too_small, enough = map(float, done.stdout.split())
    assert abs(too_small) < 50 and enough > 250


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "naïve 🙂 ★ 좋다"), ("cp949", "na?ve ? ★ 좋다")]
)
def test_letters_the_console_lacks_become_question_marks(encoding, shown):
    """Windows에서 파이프로 이으면 한국어 코드(cp949)입니다. 멈추지 않아야 합니다."""
    code = "from utils.lesson import printable, run_main\n"
    code += "run_main(lambda: print(printable('na\\u00efve \\U0001f642 ★ 좋다')))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode(encoding).strip() == shown


def test_quick_says_how_to_use_own_data(tmp_path, capsys):
    """`--quick --data-dir 내자료`는 내 자료를 읽지 않으므로, 읽게 하는 방법을 말해야 합니다."""
    _, _, main = make_lesson(tmp_path)
    advice = "데이터 폴더의 원본은 --data original을 함께 줄 때만 씁니다."
    for source, shown in (("auto", True), ("original", False), ("sample", False)):
        main(["--quick", "--data", source])
        assert (advice in capsys.readouterr().out) == shown, source


def test_quick_does_not_touch_the_full_model(tmp_path):
    chapter, _, _ = make_lesson(tmp_path)
    full = chapter.start(["--output-dir", str(tmp_path)])
    quick = chapter.start(["--output-dir", str(tmp_path), "--quick"])
    assert full.path("model.pt") != quick.path("model.pt")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (None, 0, ""),
        (UserError("이렇게 하세요."), 1, "오류: 이렇게 하세요."),
        (CheckFailed("다름"), 1, "확인에 실패했습니다"),
        (OSError(28, "No space left on device", "x.pt"), 1, "디스크에 남은 공간이 없습니다"),
        (PermissionError(13, "Permission denied", "x.pt"), 1, "권한이 없습니다"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "--batch-size를 절반으로"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "--batch-size"),
        (RuntimeError("MPS backend out of memory"), 1, "--batch-size"),
        (KeyboardInterrupt(), 130, "다시 실행: python 09_demo.py --lr 0.1\n"),
    ],
)
def test_exit_status(error, status, words, capsys, monkeypatch):
    def main():
        if error:
            raise error

    monkeypatch.setattr("sys.argv", ["09_demo.py", "--lr", "0.1"])
    monkeypatch.setattr(lesson_module, "_active_run", None)
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    captured = capsys.readouterr()
    assert stop.value.code == status and words in captured.err
    assert "Traceback" not in captured.err


def test_the_advice_after_ctrl_c_continues_only_this_run(capsys, monkeypatch, tmp_path):
    """옛 실행의 체크포인트가 있어도 저장하기 전에 끊기면 --resume을 권하지 않습니다."""

    def interrupted(*flags, train):
        def main():
            chapter, _, _ = make_lesson(tmp_path)
            run = chapter.start(["--output-dir", str(tmp_path), *flags])
            if train:
                run.checkpoint()
            raise KeyboardInterrupt

        monkeypatch.setattr("sys.argv", ["09_demo.py", *flags])
        with pytest.raises(SystemExit):
            run_main(main)
        return capsys.readouterr().err

    assert interrupted(train=True).endswith("이어서 실행: python 09_demo.py --resume\n")
    error = interrupted(train=False)
    assert "저장한 학습이 없습니다" in error and error.endswith("다시 실행: python 09_demo.py\n")
    assert interrupted("--resume", train=False).endswith(
        "이어서 실행: python 09_demo.py --resume\n"
    )


def test_debug_shows_the_traceback(capsys, monkeypatch):
    def main():
        raise UserError("고치세요.")

    monkeypatch.setattr("sys.argv", ["09_demo.py", "--debug"])
    with pytest.raises(SystemExit):
        run_main(main)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("shapes do not match")])
def test_a_bug_is_not_hidden(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        run_main(main)


def test_out_of_memory_names_the_batch_size_to_try(capsys, monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Sized:
        batch_size: int = setting(128, "묶음", low=1)

    chapter = Lesson(str(tmp_path / "09_demo.py"), "\n# 9강. 시험용\n", Sized(), Sized())

    def main():
        chapter.start(["--output-dir", str(tmp_path), "--batch-size", "96"])
        torch.empty(10**15)  # 정말로 받아 봄

    monkeypatch.setattr("sys.argv", ["09_demo.py"])
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    errors = capsys.readouterr().err
    assert stop.value.code == 1 and "--batch-size 48로 줄여" in errors


def test_missing_device_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chapter, _, _ = make_lesson(tmp_path)
    with pytest.raises(UserError, match="--device"):
        chapter.start(["--device", "cuda", "--output-dir", str(tmp_path)])


def test_unwritable_output_says_what_to_do(tmp_path):
    chapter, _, _ = make_lesson(tmp_path)
    (tmp_path / "file").write_text("폴더가 아님")
    with pytest.raises(UserError, match="--output-dir"):
        chapter.start(["--output-dir", str(tmp_path / "file")])
