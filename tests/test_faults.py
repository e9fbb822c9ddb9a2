"""디스크가 꽉 차거나 읽기 전용일 때입니다. 작은 tmpfs를 붙여 정말로 그렇게 만듭니다(Linux)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import LESSONS, ROOT, command, environment

MOUNT = "unshare -rm sh -c".split()


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = [*MOUNT, "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_mount(), reason="tmpfs를 붙일 권한이 없습니다(unshare)"),
]


def run_on_tmpfs(folder, options, before, name, *arguments):
    """`folder`에 tmpfs를 붙이고 `before`와 강의를 실행합니다. 끝에 폴더의 목록을 냅니다."""
    folder.mkdir()
    lesson = shlex.join(command(name, *arguments))
    mount = f"mount -t tmpfs -o {options} tmpfs {shlex.quote(str(folder))}"
    script = (
        f"{mount} && {before} {lesson}; status=$?; find {shlex.quote(str(folder))}; exit $status"
    )
    return subprocess.run(
        [*MOUNT, script],
        env=environment(),
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_told(done, words):
    assert done.returncode == 1 and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and ".part" not in done.stdout
    assert done.stderr.count("오류:") == 1


@pytest.mark.parametrize("kilobytes", [40, 300])
def test_full_output(kilobytes, tmp_path):
    """40 kB에서는 첫 그림이, 300 kB에서는 그림 몇 장 뒤에 막힙니다."""
    output = tmp_path / "out"
    flags = ["--quick", "--output-dir", output]
    done = run_on_tmpfs(output, f"size={kilobytes}k", "", LESSONS[0], *flags)
    assert_told(done, "디스크에 남은 공간이 없습니다")
    assert "--output-dir" in done.stderr


WRITE_TWICE = """
import sys
from pathlib import Path
from utils.files import write_atomically
path = Path(sys.argv[1]) / "model.pt"
write_atomically(path, b"first" * 1000)
try:
    write_atomically(path, b"second" * 100_000)
except OSError as error:
    assert error.filename == str(path) and "공간" not in str(error)
    assert path.read_bytes() == b"first" * 1000 and [*path.parent.iterdir()] == [path]
    print("KEPT")
"""


def test_a_file_that_does_not_fit_keeps_the_previous_one(tmp_path):
    mount = f"mount -t tmpfs -o size=200k tmpfs {shlex.quote(str(tmp_path))}"
    code = shlex.join([sys.executable, "-c", WRITE_TWICE, str(tmp_path)])
    done = subprocess.run(
        [*MOUNT, f"{mount} && {code}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "KEPT\n", done.stderr


def test_read_only_output(tmp_path):
    output = tmp_path / "out"
    flags = ["--quick", "--output-dir", output]
    done = run_on_tmpfs(output, "ro", "", LESSONS[0], *flags)
    assert_told(done, "읽기 전용입니다")


@pytest.mark.parametrize("options", ["size=200k", "ro"])
def test_data_that_can_not_be_written(options, tmp_path):
    """6강은 그린 장면을 파일로 두어야 하고, 7강은 두지 못해도 실행됩니다."""
    words = "읽기 전용입니다" if options == "ro" else "디스크에 남은 공간이 없습니다"
    for number, section in ((6, "6.2"), (7, "7.4")):
        data = tmp_path / f"data{number}"
        flags = ["--quick", "--only", section, "--output-dir", tmp_path / "out"]
        done = run_on_tmpfs(data, options, "", LESSONS[number - 1], *flags, "--data-dir", data)
        if number == 6:
            assert_told(done, words)
            assert "--data-dir" in done.stderr
        else:
            assert done.returncode == 0 and ".part" not in done.stdout, done.stderr
