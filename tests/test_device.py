"""장치를 고르는 일입니다. 없는 장치는 있는 것처럼 꾸며서 시험합니다."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from utils import device as devices
from utils.command_line import setting
from utils.errors import UserError
from utils.lesson import Lesson


def pretend(monkeypatch, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, True, ["cuda", "mps", "cpu"]),
        (True, False, ["cuda", "cpu"]),
        (False, True, ["mps", "cpu"]),
        (False, False, ["cpu"]),
    ],
)
def test_fastest_device_first(cuda, mps, expected, monkeypatch):
    pretend(monkeypatch, cuda, mps)
    assert devices.available_devices() == expected
    assert devices.pick_device("auto").type == expected[0]
    for name in ("cuda", "mps", "cpu"):
        if name in expected:
            assert devices.pick_device(name).type == name
        else:
            with pytest.raises(UserError, match=f"{name} 장치를 쓸 수 없습니다.*{expected[0]}"):
                devices.pick_device(name)


@pytest.mark.parametrize(
    ("capabilities", "supported"),
    [
        ({}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ],
)
def test_bfloat16_needs_an_instruction_of_its_own(capabilities, supported, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert devices.supports_bfloat16(torch.device("cpu")) is supported


@pytest.mark.parametrize("emulated", [True, False])
def test_emulated_bfloat16_of_old_gpus_is_not_used(emulated, monkeypatch):
    def supported(including_emulation=True):
        return including_emulation or not emulated

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert devices.supports_bfloat16(torch.device("cuda")) is not emulated
    assert devices.supports_bfloat16(torch.device("mps")) is False


@dataclass(frozen=True)
class Config:
    size: int = setting(1, "크기", low=1)


def start(tmp_path, *flags, gpu=None):
    chapter = Lesson(str(tmp_path / "09_demo.py"), "\n# 9강. 시험용\n", Config(), Config(), gpu=gpu)
    return chapter.start(["--output-dir", str(tmp_path), *flags])


@pytest.mark.parametrize(("bfloat16", "flags"), [(True, []), (True, ["--no-amp"]), (False, [])])
def test_the_run_uses_bfloat16_where_it_is_fast(bfloat16, flags, tmp_path, monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setattr(devices, "supports_bfloat16", lambda device: bfloat16)
    expected = torch.bfloat16 if bfloat16 and not flags else torch.float32
    assert start(tmp_path, *flags).dtype == expected


def test_checks_on_mps_use_float32_and_a_wider_tolerance(tmp_path, monkeypatch):
    pretend(monkeypatch, mps=True)
    run = start(tmp_path)
    assert run.device.type == "mps" and run.dtype == torch.float32
    assert run.exact(1e-9) == (torch.float32, 1e-4) and run.exact(1e-2) == (torch.float32, 1e-2)
    run.device = torch.device("cpu")
    assert run.exact(1e-9) == (torch.float64, 1e-9)


def test_gpu_settings_are_for_cuda(tmp_path, monkeypatch):
    pretend(monkeypatch, cuda=True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "시험용 GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    run = start(tmp_path, gpu=Config(8))
    assert (run.device.type, run.dtype, run.config.size) == ("cuda", torch.bfloat16, 8)
    assert start(tmp_path, "--device", "cpu", gpu=Config(8)).config.size == 1
    assert start(tmp_path, "--preset", "cpu", gpu=Config(8)).config.size == 1
    assert start(tmp_path, "--quick", gpu=Config(8)).config.size == 1


def test_memory_is_measured():
    before = devices.peak_memory_mb()
    block = torch.ones(40_000_000)  # 160 MB
    assert before > 50 and devices.peak_memory_mb() >= before and block.sum() > 0
