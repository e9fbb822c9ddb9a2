"""데이터 찾기의 약속: 순서, 내용 확인, 원자적인 내려받기, 테스트는 한 번."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, has_original
from hypothesis import given
from hypothesis import strategies as st

from utils import data_utils
from utils.data_utils import (
    DownloadError,
    Found,
    ImageArrays,
    ImageDataset,
    content_sha256,
    download_file,
    read_idx,
    read_npz,
    search,
    stratified_split,
)
from utils.datasets import mnist
from utils.errors import UserError


def small_arrays(seed: int = 0) -> ImageArrays:
    rng = np.random.default_rng(seed)
    images = lambda n: rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)  # noqa: E731
    labels = lambda n: (np.arange(n) % 10).astype(np.uint8)  # noqa: E731
    return ImageArrays(images(40), labels(40), images(20), labels(20))


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_raw(folder: Path, arrays: ImageArrays) -> Path:
    raw = folder / "MNIST" / "raw"
    for name, array in zip(data_utils.IDX_FILES, arrays, strict=True):
        write_idx(raw / name, array)
    return raw


@pytest.fixture
def known(monkeypatch):
    """작은 배열을 MNIST 원본이라고 여기게 합니다."""
    arrays = small_arrays()
    monkeypatch.setitem(data_utils.KNOWN_CONTENT, content_sha256(*arrays), "MNIST")
    monkeypatch.setattr(mnist, "ImageDataset", lambda n, f, c, v: ImageDataset(n, f, c, 10))
    return arrays


@pytest.mark.parametrize(
    ("source", "offline", "has_local", "network", "expected"),
    [
        ("auto", False, True, True, "local"),
        ("auto", False, False, True, "downloaded"),
        ("auto", False, False, False, "teaching"),
        ("auto", True, True, True, "teaching"),
        ("original", False, True, False, "local"),
        ("original", False, False, True, "downloaded"),
        ("original", True, True, True, "local"),
        ("sample", False, True, True, "teaching"),
        ("original", True, False, True, None),
        ("original", False, False, False, None),
    ],
)
def test_search_order(source, offline, has_local, network, expected):
    def download():
        if not network:
            raise DownloadError("끊김")
        return "downloaded"

    arguments = (lambda: "local" if has_local else None, download, lambda: "teaching")
    if expected is None:
        with pytest.raises(UserError, match="--data-dir"):
            search(source, offline, *arguments)
    else:
        assert search(source, offline, *arguments) == expected


def test_torchvision_layout_gzip_and_keras_layout(known, tmp_path):
    raw = write_raw(tmp_path / "a", known)
    assert mnist.load("original", tmp_path / "a").provenance.source == "original"
    for name in data_utils.IDX_FILES:
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes()))
        (raw / name).unlink()
    assert mnist.load("original", tmp_path / "a", offline=True).x_train.shape == (30, 28, 28)
    (tmp_path / "b").mkdir()
    np.savez(tmp_path / "b" / "mnist.npz", **known._asdict())
    assert mnist.load("auto", tmp_path / "b").provenance.source == "original"


def test_truncated_file_is_refused_by_name(known, tmp_path):
    raw = write_raw(tmp_path, known)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*손상"):
        mnist.load("auto", tmp_path)


def test_fashion_mnist_under_the_name_of_mnist_is_refused(known, tmp_path, monkeypatch):
    other = small_arrays(seed=1)
    write_raw(tmp_path, other)
    with pytest.raises(UserError, match="MNIST 원본과 다릅니다"):
        mnist.load("auto", tmp_path)
    monkeypatch.setitem(data_utils.KNOWN_CONTENT, content_sha256(*other), "Fashion-MNIST")
    with pytest.raises(UserError, match="Fashion-MNIST"):
        mnist.load("auto", tmp_path)


def test_damage_inside_the_compressed_part_is_refused(known, tmp_path):
    """머리는 멀쩡하고 압축한 내용만 깨진 파일은 zlib.error를 냅니다."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(bytes(100))[:10] + b"\xff" * 40)
    with pytest.raises(UserError, match="손상"):
        read_idx(path)
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **known._asdict())
    content = bytearray(path.read_bytes())
    content[60:100] = b"\xff" * 40  # 첫 배열의 이름 뒤
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mnist\.npz"):
        read_npz(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"hello"])
def test_broken_npz_is_refused(content, tmp_path):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"mnist\.npz"):
        mnist.load("auto", tmp_path)


def test_npz_with_pickled_objects_is_refused(tmp_path):
    arrays = {name: np.array([print], dtype=object) for name in ImageArrays._fields}
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(UserError):
        read_npz(tmp_path / "mnist.npz")


@given(st.binary(max_size=200))
def test_read_idx_never_crashes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    try:
        assert read_idx(path).dtype == np.uint8
    except UserError as error:
        assert "손상" in str(error)


def test_digits_are_real_and_learnable_in_shape():
    data = mnist.load("sample", Path("없는 폴더"))
    provenance = data.provenance
    assert provenance.source == "package"
    assert (provenance.num_train, provenance.num_val, provenance.num_test) == (1257, 180, 360)
    assert data.x_train.shape == (1257, 28, 28) and data.y_train.bincount().min() > 100
    border = data.x_train[:, [0, 1, 26, 27]]
    assert border.max() == 0 and data.x_train.max() > 200
    assert provenance.sha256 == mnist.load("sample").provenance.sha256


def test_test_set_is_handed_out_once():
    data = ImageDataset("demo", Found("sample", "", small_arrays()), "0123456789", 10)
    x, y = data.take_test()
    assert len(x) == len(y) == 20
    with pytest.raises(RuntimeError, match="한 번만"):
        data.take_test()


@given(
    st.lists(st.integers(0, 4), min_size=20, max_size=200),
    st.floats(0.1, 0.5),
    st.integers(0, 9),
)
def test_stratified_split(labels, share, seed):
    labels = np.array(labels)
    num = int(share * len(labels))
    kept, held = stratified_split(labels, num, seed)
    assert len(held) == num and sorted([*kept, *held]) == list(range(len(labels)))
    for label in np.unique(labels):
        expected = num * (labels == label).mean()
        assert abs((labels[held] == label).sum() - expected) < 3
    again = stratified_split(labels, num, seed)
    assert all(np.array_equal(a, b) for a, b in zip((kept, held), again, strict=True))


# -- 내려받기: 이 컴퓨터 안에 띄운 서버로 시험합니다 ----------------
CONTENT = b"digits" * 1000


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/stall":
            time.sleep(3)
            return
        if self.path in ("/404", "/403", "/500"):
            self.send_error(int(self.path[1:]))
            return
        if self.path == "/moved":  # 로그인 화면으로 보냄
            self.send_response(302)
            self.send_header("Location", "/html")
            self.end_headers()
            return
        body = {"/html": b"<html>login</html>", "/gzip": gzip.compress(CONTENT)}.get(
            self.path, CONTENT
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/drip":  # 끊기지는 않지만 끝나지도 않음
            for byte in body:
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:  # 받는 쪽이 끊음
                    return
                time.sleep(0.05)
        self.wfile.write(body[:100] if self.path == "/short" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


FAULTS = ["/404", "/403", "/500", "/html", "/moved", "/short", "/stall", "/drip"]


@pytest.mark.parametrize("fault", FAULTS)
def test_download_survives_a_broken_mirror(server, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(data_utils, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(data_utils, "SLOW_SECONDS", 0.5)
    md5 = hashlib.md5(CONTENT).hexdigest()
    path = tmp_path / "new" / "file"
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1"):
        download_file([server + fault], path, md5)
    assert not path.exists() and not list(tmp_path.rglob("*.part"))
    download_file([server + fault, server + "/good"], path, md5)
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["/html", "/moved", "/short"])
def test_wrong_content_is_not_kept_where_no_md5_is_known(server, fault, tmp_path):
    """`check`가 받은 파일을 읽어 봅니다. 틀린 파일을 남기면 다음 실행도 멈춥니다."""
    path = tmp_path / "lines.gz"
    check = lambda part: gzip.decompress(part.read_bytes())  # noqa: E731
    with pytest.raises(DownloadError, match=r"내용이 다름|끊김"):
        download_file([server + fault], path, check=check)
    assert list(tmp_path.iterdir()) == []
    download_file([server + fault, server + "/gzip"], path, check=check)
    assert gzip.decompress(path.read_bytes()) == CONTENT


def test_nobody_listening_is_quick(tmp_path):
    start = time.perf_counter()
    with pytest.raises(DownloadError):
        download_file(["http://127.0.0.1:9/file"], tmp_path / "file", "0" * 32)
    assert time.perf_counter() - start < 5 and list(tmp_path.iterdir()) == []


def test_mnist_is_assembled_from_downloads(server, known, tmp_path, monkeypatch):
    files = {}
    for name, array in zip(data_utils.IDX_FILES, known, strict=True):
        write_idx(tmp_path / name, array)
        files[f"{name}.gz"] = gzip.compress((tmp_path / name).read_bytes())

    def fake(url, part):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(files[url.rsplit("/", 1)[1]])

    monkeypatch.setattr(data_utils, "_download", fake)
    md5 = [hashlib.md5(files[f"{name}.gz"]).hexdigest() for name in data_utils.IDX_FILES]
    monkeypatch.setattr(mnist, "ORIGINAL", replace(mnist.ORIGINAL, md5=tuple(md5)))
    data = mnist.load("auto", tmp_path / "data")
    assert data.provenance.source == "original" and data.provenance.num_train == 30
    monkeypatch.setattr(data_utils, "_download", None)  # 두 번째는 내려받지 않음
    assert mnist.load("auto", tmp_path / "data").provenance.source == "original"


def test_real_mnist_when_present():
    if not has_original(mnist):
        pytest.skip("data에 MNIST 원본이 없습니다")
    provenance = mnist.load("original", ROOT / "data", offline=True).provenance
    assert (provenance.num_train, provenance.num_val, provenance.num_test) == (55000, 5000, 10000)


def test_subwords_are_the_same_in_every_process():
    """글이 5만 개를 넘으면 뽑아 씁니다. 실행마다 번호표가 달라지면 학습을 이어 갈 수 없습니다."""
    code = (
        "from itertools import product\n"
        "from utils.data_utils import learn_subwords\n"
        "letters = product(map(chr, range(97, 136)), repeat=3)\n"
        "texts = [f'{a}{b} {b}{c} {c}{a}' for a, b, c in letters]\n"
        "assert len(texts) > 50000\n"
        "print(learn_subwords(texts, 900, model_type='bpe'))"
    )
    command = [sys.executable, "-c", code]
    done = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True) for _ in range(2)]
    assert done[0].returncode == 0 and len(done[0].stdout) > 1000
    assert done[0].stdout == done[1].stdout
