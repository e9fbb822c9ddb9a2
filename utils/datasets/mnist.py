"""손글씨 숫자: MNIST 원본, 없으면 scikit-learn에 든 숫자 1,797장.

MNIST는 LeCun, Cortes, Burges가 NIST의 손글씨에서 만든 28x28 회색조 이미지 70,000장입니다.
scikit-learn의 digits는 UCI 저장소의 손글씨 숫자 8x8이며 실제로 사람이 쓴 글씨입니다.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from utils.data_utils import (
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
from utils.errors import UserError

CLASS_NAMES = tuple("0123456789")
SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
FASHION_MNIST_SHA256 = "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MD5 = {  # 압축된 파일의 md5 (torchvision.datasets.MNIST와 같음)
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}


def load(source: str = "auto", folder: Path = Path("data"), offline: bool = False) -> ImageDataset:
    """손글씨 숫자 데이터를 찾아 학습, 검증, 테스트로 나눕니다.

    Args:
        source: `auto`, `original`, `sample`. 뜻은 `data_utils.search`를 보세요.
        folder: 원본을 찾고 내려받는 폴더.
        offline: True이면 네트워크를 쓰지 않습니다.
    """
    raw = folder / "MNIST" / "raw"
    found = search(
        source,
        offline,
        local=lambda: _read_local(folder, raw),
        download=lambda: _download(raw),
        teaching=_read_digits,
    )
    name, num_val = ("MNIST", 5000) if found.source == "original" else ("digits", 180)
    return ImageDataset(name, found, CLASS_NAMES, num_val)


def _read_local(folder: Path, raw: Path) -> Found | None:
    """torchvision이 남긴 폴더나 Keras의 mnist.npz를 읽습니다."""
    files = [next((f for f in (raw / n, raw / f"{n}.gz") if f.exists()), None) for n in MD5]
    if all(files):
        return _checked(raw, ImageArrays(*(read_idx(file) for file in files)))
    if any(files):
        print(f"  {raw}에 MNIST 파일 4개 가운데 일부가 없습니다.")
    archive = folder / "mnist.npz"
    return _checked(archive, read_npz(archive)) if archive.exists() else None


def _download(raw: Path) -> Found:
    for name, md5 in MD5.items():
        path = raw / f"{name}.gz"
        if not path.exists() and not (raw / name).exists():
            download_file([mirror + path.name for mirror in MIRRORS], path, md5)
    files = [raw / n if (raw / n).exists() else raw / f"{n}.gz" for n in MD5]
    return _checked(raw, ImageArrays(*(read_idx(file) for file in files)))


def _checked(path: Path, arrays: ImageArrays) -> Found:
    """왜: 이름만 같고 내용이 다른 파일로 학습하면 아무 오류 없이 엉뚱한 결과가 나옵니다."""
    digest = content_sha256(*arrays)
    if digest == FASHION_MNIST_SHA256:
        raise UserError(
            f"{path}의 내용은 MNIST가 아니라 Fashion-MNIST입니다. 옮기고 다시 실행하세요."
        )
    if digest != SHA256:
        raise UserError(f"{path}의 내용이 MNIST 원본과 다릅니다. 지우고 다시 실행하세요.")
    return Found("original", str(path), arrays)


def _read_digits() -> Found:
    """scikit-learn의 digits를 20x20으로 키우고 둘레에 4픽셀을 더해 28x28로 만듭니다.

    주의: 글씨를 쓴 사람이 학습과 테스트에 함께 있을 수 있어, 처음 보는 사람의 글씨보다 쉽습니다.
    """
    package = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    with gzip.open(Path(package) / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    small = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8) / 16
    large = F.interpolate(small, size=(20, 20), mode="bicubic", align_corners=False).clamp(0, 1)
    x = F.pad(large, (4, 4, 4, 4)).mul(255).round().to(torch.uint8).squeeze(1).numpy()
    y = table[:, 64].astype(np.uint8)
    train, test = stratified_split(y, num_held_out=360)
    arrays = ImageArrays(x[train], y[train], x[test], y[test])
    return Found("package", "scikit-learn의 digits, 8x8을 28x28로 확대", arrays)
