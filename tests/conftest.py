"""모든 시험이 함께 쓰는 것: 강의 목록, 강의 불러오기, 강의 실행하기, 네트워크 막기."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(path.stem for path in ROOT.glob("0[1-9]_*.py"))
NO_NETWORK = Path(__file__).parent / "no_network"
sys.path.insert(0, str(NO_NETWORK))
import sitecustomize  # noqa: E402, F401  # 왜: 이 프로세스의 네트워크도 막음

settings.register_profile("suite", deadline=None)  # 왜: 함께 도는 시험 때문에 느려질 수 있음
settings.load_profile("suite")
if "PYTEST_XDIST_WORKER" in os.environ:  # 왜: 시험 둘이 코어를 하나씩 써야 서로 기다리지 않음
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def load_lesson(name: str) -> ModuleType:
    """강의 파일을 모듈로 불러옵니다. 한 번 불러온 것은 다시 씁니다."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def has_original(dataset: ModuleType) -> bool:
    """`data/`에 이 데이터셋의 원본이 있는지 봅니다."""
    return dataset.ORIGINAL.read(ROOT / "data") is not None


def give_data(run, load, dataset) -> None:
    """강의가 `run.data(load)`로 읽을 데이터를 미리 넣어 둡니다. 시험이 작은 데이터를 쓰게 함"""
    run._datasets[(load,)] = dataset


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / f"{name}.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(NO_NETWORK), "PYTHONIOENCODING": "utf-8"}


@dataclass
class Finished:
    """끝난 실행의 종료 상태, 출력, 시간, 기록입니다."""

    status: int
    stdout: str
    stderr: str
    seconds: float
    folder: Path

    @property
    def metrics(self) -> dict:
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))


def run_lesson(name: str, *arguments: str, output: Path, cwd: Path | None = None) -> Finished:
    """강의를 따로 띄운 프로세스에서 네트워크 없이 실행합니다."""
    start = time.perf_counter()
    done = subprocess.run(
        command(name, *arguments, "--output-dir", output),
        env=environment(),
        cwd=cwd or output,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )
    seconds = time.perf_counter() - start
    return Finished(done.returncode, done.stdout, done.stderr, seconds, output / name)


@pytest.fixture(scope="session")
def quick_runs(tmp_path_factory):
    """강의마다 `--quick`을 한 번만 실행하고 결과를 나눠 씁니다.

    시험을 나누어 도는 프로세스들(pytest-xdist)도 한 폴더의 결과를 함께 씁니다.
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def get(name: str) -> Finished:
        output = root / f"quick-{name}"
        record = output / "finished.json"
        with FileLock(root / f"{name}.lock"):
            if not record.exists():
                output.mkdir(exist_ok=True)
                done = run_lesson(name, "--quick", output=output)
                fields = [done.status, done.stdout, done.stderr, done.seconds]
                record.write_text(json.dumps(fields), encoding="utf-8")
        return Finished(*json.loads(record.read_text(encoding="utf-8")), output / name)

    return get
