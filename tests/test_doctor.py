"""`--doctor`가 무엇을 보고, 틀린 장치와 빠진 것을 알아채는지 봅니다."""

from __future__ import annotations

import sys
from collections import namedtuple
from importlib import metadata

import pytest
import torch
from conftest import LESSONS, load_lesson, run_lesson

from utils import doctor, visualization
from utils.errors import UserError


def levels(findings):
    return [finding.level for finding in findings]


def test_everything_is_looked_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_reaches", lambda host: False)
    status = doctor.examine(LESSONS[0], tmp_path / "data", tmp_path / "out")
    text = capsys.readouterr().out
    names = (
        "Python,패키지의 판,연산 장치,CPU float64의 차이,bfloat16,한글 글꼴,데이터 폴더,결과 폴더"
    )
    names += ",메모리,CPU,네트워크,데이터"
    assert [name for name in names.split(",") if name not in text] == []
    assert status == 0 and "문제 0개" in text and "닿지 않아도 강의는 실행됩니다" in text
    assert list(tmp_path.iterdir()) == []  # 살피기만 하고 만들지 않음
    text.encode("cp949")


@pytest.mark.slow
def test_in_a_real_process(tmp_path, monkeypatch):
    monkeypatch.setenv("NETWORK_IS_DOWN", "1")
    done = run_lesson(LESSONS[-1], "--doctor", "--data-dir", tmp_path, output=tmp_path)
    assert done.status == 0 and "살핀 결과" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_has_the_flag(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda *args: asked.append(args) or 0)
    with pytest.raises(SystemExit) as stop:
        load_lesson(name).main(["--doctor", "--data-dir", str(tmp_path)])
    assert stop.value.code == 0 and asked[0][:2] == (name, tmp_path)


@pytest.mark.parametrize("which", range(len(doctor.OPERATIONS)))
def test_a_wrong_device_is_a_problem(which, monkeypatch):
    """장치의 float32 계산이 1 % 틀린 것을 흉내 냅니다."""
    monkeypatch.setattr(doctor.devices, "available_devices", lambda: ["cpu"])
    title, build, shape, call = doctor.OPERATIONS[which]
    wrong = lambda m, x: call(m, x) * (1.01 if x.dtype == torch.float32 else 1)  # noqa: E731
    assert levels(doctor.check_numbers()) == [doctor.GOOD]
    monkeypatch.setattr(doctor, "OPERATIONS", ((title, build, shape, wrong),))
    assert levels(doctor.check_numbers()) == [doctor.BAD]


def test_a_wrong_gradient_and_nan_are_problems(monkeypatch):
    title, build, shape, call = doctor.OPERATIONS[0]

    def no_gradient(module, x):
        y = call(module, x)
        return y.detach() + 0 * y if x.dtype == torch.float32 else y

    nan = lambda m, x: call(m, x) * (float("nan") if x.dtype == torch.float32 else 1)  # noqa: E731

    def missing(module, x):
        raise NotImplementedError("이 장치에 없는 연산")

    monkeypatch.setattr(doctor.devices, "available_devices", lambda: ["cpu"])
    for wrong in (no_gradient, nan, missing):
        monkeypatch.setattr(doctor, "OPERATIONS", ((title, build, shape, wrong),))
        assert levels(doctor.check_numbers()) == [doctor.BAD]


def test_the_module_is_not_moved_between_devices():
    """MPS에서 CPU의 float64로 바로 바꾸면 틀리는 판이 있어, 늘 처음의 모듈을 복사합니다."""
    _, build, shape, call = doctor.OPERATIONS[0]
    module = build()
    doctor.relative_error(module, torch.randn(shape), call, torch.device("cpu"))
    assert {(p.dtype, p.grad) for p in module.parameters()} == {(torch.float32, None)}


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ((3, 10, 9), doctor.BAD),
        ((3, 11, 3), doctor.BAD),
        ((3, 14, 9), doctor.GOOD),
        ((3, 12, 0), doctor.GOOD),
        ((3, 99, 0), doctor.NOTE),
    ],
)
def test_python_versions(version, level, monkeypatch):
    monkeypatch.setattr(sys, "version_info", version)
    assert levels(doctor.check_python()) == [level]


def test_missing_and_old_packages_are_named(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "tqdm":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "pandas" else real(name)

    assert doctor.BAD not in levels(doctor.check_packages())
    monkeypatch.setattr(metadata, "version", version)
    finding = next(iter(doctor.check_packages()))
    assert finding.level == doctor.BAD and "pip install" in finding.advice
    assert "tqdm 없음" in finding.value and "pandas 1.0(필요: >=2.2.2)" in finding.value


def test_torch_and_torchvision_that_do_not_fit(monkeypatch):
    import torchvision

    def nms(*args):
        raise RuntimeError("operator torchvision::nms does not exist\n...")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    assert any("한 명령으로" in finding.advice for finding in doctor.check_packages())


def test_no_font(monkeypatch):
    def missing():
        raise UserError("한글 글꼴이 없습니다.")

    monkeypatch.setattr(visualization, "korean_font", missing)
    assert levels(doctor.check_font()) == [doctor.BAD]


def test_disk(tmp_path, monkeypatch):
    assert levels(doctor.check_disk(tmp_path, tmp_path / "a" / "b")) == [doctor.GOOD] * 2
    (tmp_path / "file").write_text("폴더가 아님")
    found = list(doctor.check_disk(tmp_path, tmp_path / "file" / "x"))
    assert levels(found) == [doctor.GOOD, doctor.BAD] and "--output-dir" in found[1].advice
    usage = namedtuple("usage", "total used free")(10**12, 0, 10**8)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert levels(doctor.check_disk(tmp_path, tmp_path)) == [doctor.NOTE] * 2


def test_memory_load_and_network(monkeypatch):
    memory = namedtuple("memory", "available")
    for free, level in ((10**12, doctor.GOOD), (10**8, doctor.NOTE)):
        monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda free=free: memory(free))
        assert levels(doctor.check_memory(LESSONS[0])) == [level]
    for busy, level in ((3.0, doctor.GOOD), (80.0, doctor.NOTE)):
        monkeypatch.setattr(doctor.psutil, "cpu_percent", lambda interval, busy=busy: busy)
        assert levels(doctor.check_load()) == [level]
    monkeypatch.setattr(doctor, "_reaches", lambda host: True)
    assert levels(doctor.check_network()) == [doctor.GOOD]


def test_data_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(doctor.PLACES, "Fashion-MNIST", ("FashionMNIST/raw",))
    (tmp_path / "mnist.npz").touch()
    (tmp_path / "multi30k").mkdir()
    (finding,) = doctor.check_data(tmp_path)
    assert "원본: MNIST, Multi30k" in finding.value and "CIFAR-10" in finding.advice


def test_gpu_that_torch_can_not_use(monkeypatch):
    monkeypatch.setattr(doctor.devices, "available_devices", lambda: ["cpu"])
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert levels(doctor.check_devices()) == [doctor.GOOD, doctor.NOTE]
