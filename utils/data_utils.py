"""데이터를 찾고, 내려받고, 내용을 확인하고, 나누는 공통 도구입니다.

데이터는 항상 같은 순서로 찾습니다: 1) 이미 있는 원본 2) 내려받은 원본 3) pip 패키지에 든 실제
데이터 4) 코드로 만든 표본. 어떤 데이터를 어떻게 읽는지는 `utils/datasets/`의 파일이 정합니다.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import os
import ssl
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from utils.errors import UserError

TIMEOUT_SECONDS = 5  # 이만큼 아무것도 오지 않으면 다음 곳으로 넘어감
SLOW_SECONDS, SLOW_BYTES = 30, 1000  # 이만큼 지나도 1초에 이만큼을 못 받으면 넘어감


# ---------------------------------------------------------------------------------------------
# 데이터와 그 출처
# ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Provenance:
    """어떤 데이터를 썼는지의 기록입니다. `source`는 original, package, sample 가운데 하나입니다."""

    name: str
    source: str
    detail: str
    sha256: str
    num_train: int
    num_val: int
    num_test: int

    def __str__(self) -> str:
        kinds = {
            "original": "원본",
            "package": "패키지에 든 실제 데이터",
            "sample": "코드로 만든 표본",
        }
        counts = f"학습 {self.num_train:,} / 검증 {self.num_val:,} / 테스트 {self.num_test:,}"
        return f"{self.name} [{kinds[self.source]}: {self.detail}] {counts}"


class ImageArrays(NamedTuple):
    """uint8 이미지 (N, H, W) 또는 (N, H, W, 3)와 uint8 레이블 (N,)입니다."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


class Texts(NamedTuple):
    """글의 목록과 uint8 레이블 (N,)입니다."""

    x_train: list[str]
    y_train: np.ndarray
    x_test: list[str]
    y_test: np.ndarray


class Found(NamedTuple):
    """찾은 데이터와 그 출처입니다."""

    source: str
    detail: str
    arrays: ImageArrays | Texts


class TrainVal(NamedTuple):
    """장치에 올린 학습 데이터 (`x`, `y`)와 검증 데이터 (`x_val`, `y_val`)입니다."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor


class TestOnce:
    """테스트 데이터를 한 번만 내주는 것, 데이터셋의 공통 부분입니다."""

    __test__ = False  # 왜: 이름이 Test로 시작해 pytest가 시험으로 봄
    _test: tuple | None

    @property
    def test_is_taken(self) -> bool:
        """테스트 데이터를 이미 꺼냈으면 True입니다."""
        return self._test is None

    def take_test(self) -> tuple:
        """테스트 데이터와 레이블을 한 번만 내줍니다.

        왜: 테스트 점수를 보고 모델을 고르면 그 점수는 더 이상 처음 보는 데이터의 점수가 아닙니다.

        Raises:
            RuntimeError: 두 번째로 부를 때.
        """
        if self._test is None:
            raise RuntimeError(
                "테스트 데이터는 한 번만 쓸 수 있습니다. 선택은 검증 데이터로 하세요."
            )
        test, self._test = self._test, None
        return test


class ImageDataset(TestOnce):
    """메모리에 올린 이미지 분류 데이터입니다.

    `x_train`, `x_val`은 uint8 텐서 (N, H, W)이고 `y_train`, `y_val`은 int64 텐서 (N,)입니다.
    테스트 데이터는 `take_test()`로 한 번만 꺼낼 수 있습니다.
    """

    def __init__(self, name: str, found: Found, class_names: Sequence[str], num_val: int) -> None:
        x_train, y_train, x_test, y_test = found.arrays
        train, val = stratified_split(y_train, num_val)
        self.class_names = tuple(class_names)
        self.x_train, self.y_train = _tensors(x_train[train], y_train[train])
        self.x_val, self.y_val = _tensors(x_train[val], y_train[val])
        self._test: tuple[Tensor, Tensor] | None = _tensors(x_test, y_test)
        sizes = (len(train), len(val), len(y_test))
        digest = content_sha256(*found.arrays)
        self.provenance = Provenance(name, found.source, found.detail, digest, *sizes)

    def on(
        self, device: torch.device, num_train: int | None = None, num_val: int | None = None
    ) -> TrainVal:
        """학습 데이터와 검증 데이터를 장치에 올립니다. 수를 주면 앞에서부터 그만큼만 올립니다."""
        train, val = (self.x_train, self.y_train), (self.x_val, self.y_val)
        parts = [t[:num_train] for t in train] + [t[:num_val] for t in val]
        return TrainVal(*(part.to(device) for part in parts))


class TextDataset(TestOnce):
    """글 분류 데이터입니다. 글은 `str`의 목록이고 레이블은 int64 텐서 (N,)입니다.

    검증 데이터는 학습 데이터에서 떼고, 같은 글이 두 번 나오면 모두 학습 쪽에 둡니다.

    Raises:
        UserError: 어느 부분이든 한 클래스가 10분의 1보다 적을 때. 한 클래스뿐이면 늘 100 %입니다.
    """

    def __init__(self, name: str, found: Found, class_names: Sequence[str], num_val: int) -> None:
        texts, labels, x_test, y_test = found.arrays
        rng = np.random.default_rng(0)  # 왜: 원본은 글자나 레이블의 순서라, 앞부분만 쓰면 치우침
        train, val = map(rng.permutation, split_texts(texts, labels, num_val))
        test = rng.permutation(len(y_test))
        for which, part in (("학습", labels[train]), ("검증", labels[val]), ("테스트", y_test)):
            shares = np.bincount(part, minlength=len(class_names)) / max(1, len(part))
            if shares.min() < 0.1:
                text = f"{name}의 {which} 데이터가 한 클래스에 치우쳐 있습니다({shares})."
                raise UserError(f"{text} 지우고 다시 받거나 --data sample을 주세요.")
        self.class_names = tuple(class_names)
        self.x_train, self.y_train = _texts(texts, labels, train)
        self.x_val, self.y_val = _texts(texts, labels, val)
        self._test = _texts(x_test, y_test, test)
        whole = "\0".join([*texts, *x_test]).encode()
        digest = content_sha256(np.frombuffer(whole, np.uint8), labels, y_test)
        sizes = (len(train), len(val), len(y_test))
        self.provenance = Provenance(name, found.source, found.detail, digest, *sizes)

    def first(self, count: int, most: int) -> tuple[list[str], Tensor, list[str], Tensor]:
        """`most`글자까지인 글을 앞에서부터 학습 `count`편, 검증 `count // 2`편까지 꺼냅니다."""
        parts = []
        for x, y, n in ((self.x_train, self.y_train, count), (self.x_val, self.y_val, count // 2)):
            short = [k for k, text in enumerate(x) if len(text) <= most][:n]
            parts += [[x[k] for k in short], y[short]]
        return tuple(parts)


def _texts(texts: Sequence[str], labels: np.ndarray, index: np.ndarray) -> tuple[list, Tensor]:
    return [texts[i] for i in index], torch.from_numpy(labels[index].astype(np.int64))


class Corpus(NamedTuple):
    """번호로 바꾼 글 N편입니다. 한 줄로 이어 붙이고 글마다 시작과 길이를 적습니다."""

    flat: Tensor  # (토큰의 수,)
    start: Tensor  # (N,)
    length: Tensor  # (N,)
    y: Tensor  # (N,)

    def first(self, count: int) -> Corpus:
        """앞의 `count`편입니다."""
        return Corpus(self.flat, *(column[:count] for column in self[1:]))

    def last(self, most: int) -> Corpus:
        """글마다 뒤의 `most`토큰만 남깁니다. 왜: 리뷰의 결론은 대개 끝에 있습니다."""
        length = self.length.clamp(max=most)
        return self._replace(start=self.start + self.length - length, length=length)


def join_texts(encoded: Iterable[list[int]], y: Tensor, device: torch.device) -> Corpus:
    """글마다의 번호 목록(빈 것이 없어야 함)을 이어 붙여 장치에 올립니다."""
    arrays = [np.array(numbers, np.int64) for numbers in encoded]
    length = torch.tensor([len(numbers) for numbers in arrays])
    flat = torch.from_numpy(np.concatenate(arrays))
    return Corpus(*(t.to(device) for t in (flat, length.cumsum(0) - length, length, y)))


def split_texts(
    texts: Sequence[str], labels: np.ndarray, num_held_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """한 번만 나오는 글에서 `num_held_out`개를 떼어, 남은 번호와 뗀 번호를 돌려줍니다.

    왜: 같은 글이 학습과 검증에 함께 있으면 외운 것을 맞힌 것까지 점수가 됩니다.
    """
    count = Counter(texts)
    once = np.flatnonzero([count[text] == 1 for text in texts])
    _, held = stratified_split(labels[once], num_held_out)
    return np.setdiff1d(np.arange(len(texts)), once[held]), once[held]


def _tensors(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(np.int64))


def iterate_batches(
    x: Tensor, y: Tensor, batch_size: int, shuffle: bool = False, drop_last: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """메모리에 있는 텐서에서 묶음을 차례로 꺼냅니다(1강 1.6절).

    `shuffle`이면 순서를 섞고, `drop_last`이면 다 차지 않은 마지막 묶음을 버립니다. 데이터가 묶음
    하나보다 적으면 버리지 않습니다.
    """
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    for index in order.to(x.device).split(batch_size):
        if drop_last and len(index) < batch_size <= len(x):
            return
        yield x[index], y[index]


def plain_loader(images: Tensor, labels: Tensor, batch_size: int) -> Iterable:
    """흔한 방식의 DataLoader입니다. 사진 (N, 32, 32, 3)을 한 장씩 PIL로 뒤집고 자릅니다."""
    from torchvision.transforms import v2  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

    steps = [v2.ToPILImage(), v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4)]
    change = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    photos, answers = images.cpu().numpy(), labels.cpu()

    class Photos(Dataset):
        def __len__(self) -> int:
            return len(photos)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            return change(photos[i]), answers[i]

    return DataLoader(Photos(), batch_size)


def plain_text_loader(
    pairs: Sequence[tuple[str, Tensor]], encode: Callable[[str], list[int]], batch_size: int
) -> DataLoader:
    """흔한 방식의 DataLoader입니다. 글을 꺼낼 때마다 번호로 바꾸고, 한 편씩 빈자리를 채웁니다.

    (글, 정답)의 목록에서 무작위로 뽑은 묶음 (번호 (B, T), 길이 (B,), 정답 (B,))을 냅니다.
    """

    def collate(batch: Sequence[tuple[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        rows = [torch.tensor(encode(text)) for text, _ in batch]
        length = torch.tensor([len(row) for row in rows])
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return padded, length, torch.stack([label for _, label in batch])

    return DataLoader(pairs, batch_size, shuffle=True, collate_fn=collate)


def learn_subwords(texts: Iterable[str], size: int, most: int = 50000, **options: Any) -> str:
    """sentencepiece가 글에서 배운 부분 낱말 `size`개의 모델을 base64 글자로 돌려줍니다.

    Args:
        most: 쓸 글의 최대 수.
        options: sentencepiece의 옵션. 아래에서 정한 것도 바꿀 수 있습니다.
    """
    from sentencepiece import SentencePieceTrainer

    texts, model = list(texts), io.BytesIO()
    count = min(most, len(texts))
    texts = [texts[k * len(texts) // count] for k in range(count)]  # 고르게 띄엄띄엄
    letters = len(set("".join(texts)))  # 왜: 나온 글자보다 적으면 sentencepiece가 멈춤
    defaults = {
        "vocab_size": max(size, letters + 100),
        "hard_vocab_limit": False,  # 왜: 글이 적으면 `size`개를 채우지 못함
        "normalization_rule_name": "nmt_nfkc_cf",
        "input_sentence_size": 0,  # 왜: sentencepiece가 뽑으면 실행마다 결과가 다름
        "num_threads": 1,  # 왜: 스레드가 여럿이면 실행마다 결과가 조금 다름
        "minloglevel": 2,
    }
    given = defaults | options
    SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, **given)
    return base64.b64encode(model.getvalue()).decode()


def subword_processor(model: str) -> Any:
    """`learn_subwords`의 모델을 읽은 sentencepiece의 처리기입니다."""
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=base64.b64decode(model))


def subword_cutter(model: str) -> Callable[[str], list[str]]:
    """`learn_subwords`의 모델로 글을 부분 낱말로 자르는 함수입니다. 띄어쓰기는 `_`가 됩니다."""
    processor = subword_processor(model)
    return lambda text: [p.replace("\u2581", "_") for p in processor.encode(text, out_type=str)]


def stratified_split(
    labels: np.ndarray, num_held_out: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """클래스 비율을 지키며 `num_held_out`개를 떼어 냅니다. 시드가 같으면 늘 같은 나눔입니다.

    Returns:
        남은 것의 번호와 떼어 낸 것의 번호. 둘 다 오름차순입니다.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = (np.arange(len(members)) + rng.random()) / len(members)  # 클래스 안의 순위
    by_rank = np.argsort(rank, kind="stable")
    return np.sort(by_rank[num_held_out:]), np.sort(by_rank[:num_held_out])


def content_sha256(*arrays: np.ndarray) -> str:
    """배열들의 바이트를 이어 붙인 sha256입니다. 파일 형식이 달라도 내용이 같으면 같습니다."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------
# 네 단계로 찾기
# ---------------------------------------------------------------------------------------------
class DownloadError(Exception):
    """어느 곳에서도 내려받지 못했을 때 납니다."""


# 왜: OSError를 모두 잡으면 디스크가 꽉 찬 것까지 네트워크의 문제로 보임
NETWORK_ERRORS = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
    DownloadError,
)


def search(
    source: str,
    offline: bool,
    local: Callable[[], Found | None],
    download: Callable[[], Found],
    teaching: Callable[[], Found],
) -> Found:
    """원본(있는 것, 내려받은 것), 교육용 데이터의 순서로 찾습니다.

    Args:
        source: `auto`, `original`, `sample`.
        offline: True이면 네트워크를 쓰지 않습니다. `auto`는 곧바로 교육용 데이터를 씁니다.
        local: 1단계. 원본이 없으면 None을 돌려주고, 있는데 손상되었으면 UserError를 냅니다.
        download: 2단계. 실패하면 DownloadError를 냅니다.
        teaching: 3, 4단계. 네트워크 없이 늘 성공합니다.

    Raises:
        UserError: `original`인데 구하지 못했거나, 원본이 손상되었을 때.
    """
    wants_original = source == "original" or (source == "auto" and not offline)
    found = local() if wants_original else None
    if found is None and wants_original and not offline:
        try:
            found = download()
        except DownloadError as error:
            print(f"  원본을 내려받지 못했습니다({error}).")
    if found is None and source == "original":
        network = "네트워크를 쓰지 않는 --quick을 빼거나" if offline else "네트워크를 확인하거나"
        raise UserError(
            f"원본 데이터가 없습니다. {network} --data-dir로 원본이 있는 폴더를 주세요. "
            "네트워크 없이 하려면 --data sample을 주세요."
        )
    return found or teaching()


def download_file(
    urls: Sequence[str],
    path: Path,
    md5: str = "",
    check: Callable[[Path], object] | None = None,
) -> None:
    """여러 곳을 차례로 시도해 내려받고 내용을 확인합니다. 반쯤 받거나 틀린 파일은 남기지 않습니다.

    md5가 맞는 파일이 이미 있으면 다시 받지 않습니다.

    Args:
        check: md5를 모를 때, 받은 파일을 읽어 보고 틀리면 UserError나 ValueError를 내는 함수.
            왜: 로그인 화면(HTML)을 받아 두면 다음 실행도 그 파일 때문에 멈춥니다.

    Raises:
        DownloadError: 모든 곳에서 실패했을 때.
    """
    if md5 and path.exists() and _md5(path) == md5:
        return
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in urls:
        try:
            _download(url, part)
            if md5 and _md5(part) != md5:
                raise DownloadError("내용이 다름")
            if check:
                check(part)
            os.replace(part, path)
            return
        except NETWORK_ERRORS as error:
            reasons.append(f"{url.split('/')[2]}: {getattr(error, 'reason', error)}")
        except (UserError, ValueError, EOFError, zlib.error, gzip.BadGzipFile):
            reasons.append(f"{url.split('/')[2]}: 내용이 다름")
        finally:
            part.unlink(missing_ok=True)
    raise DownloadError("; ".join(reasons))


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _download(url: str, part: Path) -> None:
    start = time.monotonic()
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        expected = int(response.headers.get("Content-Length") or 0)
        part.parent.mkdir(parents=True, exist_ok=True)  # 왜: 실패했을 때 빈 폴더를 남기지 않음
        bar = tqdm(total=expected or None, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with bar, open(part, "wb") as file:
            while block := response.read1(1 << 16):  # 왜 read1: 온 만큼만 받고 돌아옴
                file.write(block)
                bar.update(len(block))
                seconds = time.monotonic() - start
                if seconds > SLOW_SECONDS and file.tell() < SLOW_BYTES * seconds:
                    raise DownloadError("너무 느림")
            if expected and file.tell() != expected:
                raise DownloadError("도중에 끊김")


# ---------------------------------------------------------------------------------------------
# 파일 형식
# ---------------------------------------------------------------------------------------------
def read_idx(path: Path) -> np.ndarray:
    """MNIST의 IDX 파일을 uint8 배열로 읽습니다. 이름이 .gz로 끝나면 압축을 풉니다.

    형식: 0, 0, 자료형(8 = uint8), 차원 수, 차원마다 4바이트 크기(빅 엔디언), 값.

    Raises:
        UserError: 손상되었거나 크기가 맞지 않을 때.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if raw[:3] != b"\x00\x00\x08":
            raise ValueError("IDX 형식이 아닙니다")
        start = 4 + 4 * raw[3]
        shape = np.frombuffer(raw[4:start], ">u4").astype(int)
        return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()
    except (ValueError, IndexError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} 파일이 손상되었습니다. 지우고 다시 실행하세요.") from error


def read_npz(path: Path) -> ImageArrays:
    """Keras와 같은 이름(`x_train` 등)의 배열 네 개를 담은 .npz를 읽습니다.

    Raises:
        UserError: 손상되었거나 필요한 배열이 없을 때.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return ImageArrays(*(archive[name].astype(np.uint8) for name in ImageArrays._fields))
    except (ValueError, KeyError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        names = ", ".join(ImageArrays._fields)
        raise UserError(
            f"{path}에서 배열 네 개({names})를 읽지 못했습니다. 지우고 다시 실행하세요."
        ) from error


def read_image(path: Path, color: bool = False) -> np.ndarray:
    """그림 파일을 uint8 회색조 (H, W) 또는 RGB (H, W, 3)로 읽습니다.

    왜: cv2.imread는 Windows에서 한글이 든 경로를 열지 못하므로 바이트로 읽어 풉니다.

    Raises:
        UserError: 파일이 없거나 그림이 아닐 때.
    """
    if not path.is_file():
        raise UserError(f"{path} 파일이 없습니다. 그림 파일의 경로를 확인하세요.")
    content = np.frombuffer(path.read_bytes(), np.uint8)
    mode = cv2.IMREAD_COLOR_RGB if color else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(content, mode) if content.size else None
    if image is None:
        raise UserError(f"그림 파일이 아닙니다: {path}. PNG나 JPEG 파일을 주세요.")
    return image


def jitter_color(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """사진 (H, W, 3)의 대비, 채널마다의 색조, 밝기를 바꿉니다(3강 3.6절).

    값 256개의 표를 만들어 한 번에 바꿉니다.
    """
    gain = 1 + rng.uniform(-0.25, 0.25) + rng.uniform(-0.08, 0.08, 3)
    table = (np.arange(256)[:, None] - 128) * gain + 128 + rng.uniform(-20, 20)
    return cv2.LUT(image, table.clip(0, 255).astype(np.uint8)[None])


def center_square(image: np.ndarray, size: int) -> np.ndarray:
    """가운데를 정사각형으로 잘라 (size, size, 3)으로 줄이거나 늘립니다."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=method)


# ---------------------------------------------------------------------------------------------
# IDX 파일 네 개로 나누어 주는 데이터셋 (MNIST, Fashion-MNIST)
# ---------------------------------------------------------------------------------------------
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
KNOWN_CONTENT = {
    "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16": "MNIST",
    "ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f": "Fashion-MNIST",
    "80387ddb9a0edf3fc4a964ee3770296169bb26a651050df20035579673099660": "CIFAR-10",
}


@dataclass(frozen=True)
class IdxOriginal:
    """원본을 찾고 내려받는 곳입니다.

    Args:
        name: `KNOWN_CONTENT`에 있는 이름. 내용의 sha256이 이것과 같아야 합니다.
        folders: 데이터 폴더 안에서 원본을 찾는 곳. 내려받은 것은 첫째에 둡니다. 절대 경로도 됩니다.
        archive: Keras와 같은 .npz의 이름.
        mirrors: 내려받을 곳들.
        md5: 압축된 `IDX_FILES` 네 개의 md5.
    """

    name: str
    folders: tuple[str, ...]
    archive: str
    mirrors: tuple[str, ...]
    md5: tuple[str, ...]

    def read(self, data_dir: Path) -> Found | None:
        """이미 있는 원본을 읽습니다. 없으면 None입니다."""
        for folder in (data_dir / name for name in self.folders):
            files = [_existing(folder, name) for name in IDX_FILES]
            if all(files):
                return self._checked(folder, ImageArrays(*map(read_idx, files)))
            if any(files):
                print(f"  {folder}에 {self.name} 파일 4개 가운데 일부가 없습니다.")
        archive = data_dir / self.archive
        return self._checked(archive, read_npz(archive)) if archive.exists() else None

    def download(self, data_dir: Path) -> Found:
        """없는 파일만 내려받은 뒤 읽습니다."""
        folder = data_dir / self.folders[0]
        for name, md5 in zip(IDX_FILES, self.md5, strict=True):
            if not _existing(folder, name):
                urls = [f"{mirror}{name}.gz" for mirror in self.mirrors]
                download_file(urls, folder / f"{name}.gz", md5)
        files = [_existing(folder, name) for name in IDX_FILES]
        return self._checked(folder, ImageArrays(*map(read_idx, files)))

    def _checked(self, path: Path, arrays: ImageArrays) -> Found:
        """왜: 이름만 같고 내용이 다른 파일로 학습하면 오류 없이 엉뚱한 결과가 나옵니다."""
        content = KNOWN_CONTENT.get(content_sha256(*arrays))
        if content is None:
            raise UserError(f"{path}의 내용이 {self.name} 원본과 다릅니다. 지우고 다시 실행하세요.")
        if content != self.name:
            raise UserError(f"{path}의 내용은 {content}입니다. {self.name} 자리에서 옮기세요.")
        return Found("original", str(path), arrays)


def _existing(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.exists()), None)
