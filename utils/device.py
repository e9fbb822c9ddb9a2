"""연산 장치를 고르고, 혼합 정밀도와 난수를 준비합니다."""

from __future__ import annotations

import ctypes
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import psutil
import torch

from utils.errors import UserError

DEVICE_NAMES = ("auto", "cuda", "mps", "cpu")


def available_devices() -> list[str]:
    """쓸 수 있는 장치 이름을 빠른 것부터 돌려줍니다."""
    devices = []
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def pick_device(name: str = "auto") -> torch.device:
    """`auto`이면 CUDA, MPS, CPU 순서로 고르고, 아니면 그 장치가 있는지 확인합니다.

    Raises:
        UserError: 이름을 아는 장치이지만 이 컴퓨터에서 쓸 수 없을 때.
    """
    devices = available_devices()
    if name == "auto":
        return torch.device(devices[0])
    if name not in devices:
        raise UserError(
            f"이 컴퓨터에서는 {name} 장치를 쓸 수 없습니다. "
            f"--device {devices[0]} 또는 --device auto로 실행하세요."
        )
    return torch.device(name)


def supports_bfloat16(device: torch.device) -> bool:
    """bfloat16 행렬곱을 하드웨어가 직접 계산하면 True를 돌려줍니다.

    왜: CPU에 전용 명령이 없으면 bfloat16은 흉내만 내므로 float32보다 느립니다.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """순전파를 `dtype`으로 계산하는 문맥입니다. float32이면 아무 일도 하지 않습니다."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def seed_everything(seed: int) -> None:
    """Python, NumPy, torch(CPU와 장치)의 난수를 모두 같은 시드에서 시작합니다."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def reuse_memory(on: bool = True) -> None:
    """돌려준 메모리를 운영체제에 내주지 않고 다음 걸음에 다시 씁니다(glibc를 쓰는 Linux).

    왜: 수십 MB짜리 텐서를 걸음마다 새로 받으면 운영체제가 쪽마다 0을 채우느라, 2코어 CPU에서 CNN
    학습이 10 % 넘게 느려집니다. 대신 메모리를 더 씁니다. `on`이 False이면 기본에 가깝게 32 MB가
    넘는 것을 내줍니다.
    """
    mallopt = _allocator("mallopt")
    if mallopt is None:
        return
    mapped, threshold, trim = -4, -3, -1  # malloc.h의 M_MMAP_MAX, M_MMAP_THRESHOLD 따위
    mallopt(threshold, 32 << 20)
    mallopt(mapped, 0 if on else 65536)
    mallopt(trim, 2**31 - 1 if on else 64 << 20)


def give_back_memory(above_mb: int = 0) -> None:
    """이 프로세스의 메모리가 `above_mb`를 넘었으면, 쥐고 있던 빈 메모리를 돌려줍니다(glibc)."""
    trim = _allocator("malloc_trim")
    if trim and psutil.Process().memory_info().rss > above_mb << 20:
        trim(0)


def _allocator(name: str) -> Callable[[int], int] | None:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None  # macOS와 Windows의 메모리 할당기에는 이런 함수가 없음


def synchronize(device: torch.device) -> None:
    """장치가 맡은 계산을 마칠 때까지 기다립니다. 시간을 재기 전에 부릅니다."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def median_seconds(function: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """한 번 예열한 뒤 `repeats`번 실행한 시간의 중앙값(초)을 돌려줍니다."""
    return statistics.median(latencies(function, device, repeats))


def latencies(function: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """한 번 예열한 뒤 `repeats`번 실행한 시간(초)을 모두 돌려줍니다."""
    function()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def device_name(device: torch.device) -> str:
    """장치를 사람이 읽는 말로 적습니다. 예: `CPU 2코어`, `NVIDIA H200`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU(MPS)" if device.type == "mps" else f"CPU {os.cpu_count()}코어"


def peak_memory_mb() -> float:
    """이 프로세스가 가장 많이 쓴 메모리(MB)입니다."""
    try:
        import resource
    except ImportError:  # Windows
        return round(psutil.Process().memory_info().peak_wset / 1024**2, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)
