"""번역 데이터: Multi30k(독일어와 영어), 학습자의 번역 짝 파일, 문법으로 만든 영한 캡션."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from utils.data_utils import Found, Provenance, TestOnce, content_sha256, download_file, search
from utils.errors import UserError

MULTI30K_SIZES = {"train": 29000, "val": 1014, "test_2016_flickr": 1000}
MULTI30K_HOSTS = (
    "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/",
    "https://cdn.jsdelivr.net/gh/multi30k/dataset@master/data/task1/raw/",
)
LANGUAGES = {"de-en": ("독일어", "영어"), "en-de": ("영어", "독일어")}
HANGUL = re.compile("[가-힣]")
MIN_PAIRS = 60  # 이보다 적으면 검증과 테스트가 여섯 쌍도 되지 않음


class PairLists(NamedTuple):
    """학습, 검증, 테스트의 원문과 번역문입니다."""

    x_train: list[str]
    y_train: list[str]
    x_val: list[str]
    y_val: list[str]
    x_test: list[str]
    y_test: list[str]


class Pairs(TestOnce):
    """번역 데이터입니다. `x`는 원문, `y`는 번역문의 목록(str)이고 같은 번호끼리 짝입니다.

    `languages`는 두 언어의 이름이고, `korean`은 번역문의 절반 넘게 한글이 있으면 True입니다(BLEU를
    글자로 셉니다). 테스트의 (원문, 번역문)은 `take_test()`로 한 번만 꺼낼 수 있습니다.
    """

    def __init__(self, name: str, found: Found, languages: tuple[str, str]) -> None:
        lists: PairLists = found.arrays
        self.x_train, self.y_train, self.x_val, self.y_val = lists[:4]
        self._test: tuple[list[str], list[str]] | None = lists[4:]
        self.languages = languages
        self.korean = 2 * sum(bool(HANGUL.search(y)) for y in self.y_train) > len(self.y_train)
        whole = "\n".join("\0".join(part) for part in lists).encode()
        digest, sizes = content_sha256(np.frombuffer(whole, np.uint8)), map(len, lists[::2])
        self.provenance = Provenance(name, found.source, found.detail, digest, *sizes)


def load(
    source: str = "auto",
    folder: Path = Path("data"),
    offline: bool = False,
    pair: str = "de-en",
    parallel: str = "",
) -> Pairs:
    """번역 짝을 찾습니다. `parallel`이 있으면 그 파일을, 없으면 Multi30k를 씁니다.

    Multi30k는 사진 설명을 옮긴 짝입니다(Elliott 외 2016). 구하지 못하면 만든 캡션을 씁니다.

    Args:
        source, folder, offline: 뜻은 `mnist.load`와 같습니다.
        pair: Multi30k의 방향. `de-en` 또는 `en-de`.
        parallel: 탭으로 나눈 파일 하나, 또는 줄마다 짝인 파일 둘(`원문,번역문`). `.gz`도 됩니다.

    Raises:
        UserError: 파일을 읽을 수 없거나, 내용이 원본과 다르거나, 쓸 수 있는 짝이 모자랄 때.
    """
    if parallel and source == "sample":
        raise UserError("--data sample은 만든 문장을 씁니다. --parallel과 함께 주지 마세요.")
    if parallel:
        return _read_parallel(parallel)
    if pair not in LANGUAGES:
        raise UserError(f"--pair에는 de-en이나 en-de를 주세요({pair}: 없는 방향).")
    local, download = (partial(f, folder / "multi30k", pair) for f in (_read, _download))
    found = search(source, offline, local, download, _write_sample)
    if found.source == "sample":
        return Pairs("만든 캡션(영한)", found, ("영어", "한국어"))
    return Pairs(f"Multi30k({pair})", found, LANGUAGES[pair])


def _lines(path: Path, advice: str) -> list[str]:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        # 왜 split: splitlines는 글 안에 든 U+2028 같은 글자에서도 줄을 나눔
        return content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: UTF-8로 적은 글이 아닙니다. {advice}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: 압축이 손상되었습니다. {advice}") from error


def _clean(rows: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """빈칸을 하나로 줄이고 한쪽이 빈 짝을 뺍니다."""
    # 왜 NFC: macOS에서 온 한글은 자모가 풀려 있기도 해, 눈에 같은 낱말이 다른 낱말이 됨
    pairs = [[" ".join(unicodedata.normalize("NFC", s).split()) for s in row[:2]] for row in rows]
    return [tuple(pair) for pair in pairs if all(pair)]


def _existing(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / f"{name}.gz", folder / name) if file.exists()), None)


def _read(folder: Path, pair: str) -> Found | None:
    parts, advice = [], "지우고 다시 실행하세요."
    for part, size in MULTI30K_SIZES.items():
        paths = [_existing(folder, f"{part}.{language}") for language in pair.split("-")]
        if not all(paths):
            return None
        sides = [_lines(path, advice) for path in paths]
        for path, num in zip(paths, map(len, sides), strict=True):
            if num != size:
                raise UserError(f"{path}의 줄 수가 {num:,}입니다(원본은 {size:,}). {advice}")
        parts += map(list, zip(*_clean([*zip(*sides, strict=True)]), strict=True))
    return Found("original", str(folder), PairLists(*parts))


def _count_lines(part: str, path: Path) -> None:
    """압축을 풀어 줄 수를 셉니다. 원본과 다르면 ValueError를 냅니다."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n")
    if len(lines) != MULTI30K_SIZES[part]:
        raise ValueError(f"{len(lines)}줄")


def _download(folder: Path, pair: str) -> Found:
    for part, language in product(MULTI30K_SIZES, pair.split("-")):
        if _existing(folder, f"{part}.{language}") is None:
            name = f"{part}.{language}.gz"
            check = partial(_count_lines, part)
            download_file([host + name for host in MULTI30K_HOSTS], folder / name, check=check)
    return _read(folder, pair)


def _read_parallel(parallel: str) -> Pairs:
    whole = Path(parallel).exists()  # 왜: 이름에 쉼표가 든 파일 하나일 수 있음
    paths = [Path(parallel)] if whole else [Path(name.strip()) for name in parallel.split(",")]
    for path in paths:
        if path.is_dir() or not path.exists():
            problem = "파일이 아니라 폴더입니다" if path.is_dir() else "파일이 없습니다"
            raise UserError(f"{path}: {problem}. --parallel에 번역 짝이 든 파일을 주세요.")
    sides = [_lines(path, "UTF-8로 저장한 온전한 파일을 주세요.") for path in paths]
    counts = ", ".join(f"{path} {len(side):,}줄" for path, side in zip(paths, sides, strict=True))
    if len(paths) > 2 or len({*map(len, sides)}) > 1:
        raise UserError(f"줄마다 짝이 되는, 줄 수가 같은 파일 두 개를 주세요({counts}).")
    rows = _split_tabs(paths[0], sides[0]) if len(paths) == 1 else [*zip(*sides, strict=True)]
    pairs, detail = list(dict.fromkeys(_clean(rows))), ", ".join(map(str, paths))
    if len(pairs) < MIN_PAIRS:
        raise UserError(f"{detail}: 번역 짝이 {len(pairs)}개입니다. {MIN_PAIRS}개 이상 주세요.")
    found = Found("original", detail, _split(pairs, detail))
    return Pairs(", ".join(path.name for path in paths), found, ("원문", "번역문"))


def _split_tabs(path: Path, lines: list[str]) -> list[list[str]]:
    """왜: 형식이 다른 파일을 그대로 받으면 오류 없이 엉뚱한 것을 배웁니다."""
    lines = [line for line in lines if line.strip()]
    rows = [row for row in (line.split("\t") for line in lines) if len(row) > 1]
    if 2 * len(rows) < len(lines):
        raise UserError(
            f"{path}: {len(lines):,}줄 가운데 {len(rows):,}줄에만 탭으로 나눈 두 열이 있습니다. "
            "줄마다 원문, 탭, 번역문의 차례로 적으세요."
        )
    if 2 * sum(row[0].strip().isdigit() for row in rows) > len(rows):
        raise UserError(f"{path}: 첫 열이 번호입니다. 원문과 번역문의 열만 남기세요.")
    return rows


def _split(pairs: Sequence[tuple[str, str]], name: str) -> PairLists:
    """두 문장이 모두 한 번만 나오는 짝에서 검증과 테스트를 10분의 1씩, 많아야 1,000쌍씩 뗍니다."""
    # 왜: 같은 원문의 다른 번역이 학습에 있으면 외운 것이 점수가 됨. 대문자와 소문자는 같게 봄
    count = Counter(text.casefold() for pair in pairs for text in pair)
    order = np.random.default_rng(0).permutation(len(pairs))  # 왜: 흔히 짧은 문장부터 적혀 있음
    once = [i for i in order if all(count[text.casefold()] == 1 for text in pairs[i])]
    size = min(1000, len(pairs) // 10)
    if len(once) < 2 * size:
        raise UserError(
            f"{name}: 두 문장이 모두 한 번만 나오는 짝이 {len(once):,}개입니다. 검증과 테스트에 "
            f"{2 * size:,}개가 필요하니 서로 다른 문장을 더 넣으세요."
        )
    held = {*once[: 2 * size]}
    parts = [i for i in order if i not in held], once[:size], once[size : 2 * size]
    return PairLists(*([pairs[i][side] for i in part] for part in parts for side in (0, 1)))


# ---------------------------------------------------------------------------------------------
# 만든 캡션: 조사, 낱말, 문법
# ---------------------------------------------------------------------------------------------
PARTICLES = ("은/는", "이/가", "을/를", "과/와", "으로/로")  # 받침 뒤의 꼴/모음 뒤의 꼴
KIND_OF = {form: kind for kind in PARTICLES for form in kind.split("/")}


def with_particle(noun: str, kind: str) -> str:
    """한글로 끝나는 명사에 받침에 맞는 조사를 붙입니다. `kind`는 `PARTICLES` 가운데 하나입니다.

    주의: '으로/로'는 ㄹ 받침 뒤에서도 '로'입니다(호텔로).
    """
    final = (ord(noun[-1]) - ord("가")) % 28  # 음절은 초성, 중성, 종성(28가지)의 차례로 놓임
    after_final, after_vowel = kind.split("/")
    return noun + (after_vowel if final == 0 or (final, kind) == (8, "으로/로") else after_final)


def particle_accuracy(sentences: Sequence[str]) -> tuple[float, int]:
    """조사가 받침에 맞는 비율과 센 조사의 수입니다. 하나도 없으면 (0.0, 0)입니다.

    띄어 쓴 낱말(앞뒤의 문장 부호는 뗌)이 문법의 명사나 단위(명, 마리 등)에 은/는, 이/가, 을/를,
    과/와, 으로/로 하나를 붙인 것이면 셉니다. 틀린 꼴(사과을)도 세고, 명사 자체(사과)는 빼며, 명사와
    조사의 종류가 그 자리에 맞는지는 보지 않습니다.
    """
    right = total = 0
    for word in (word.strip(".,!?\"'") for text in sentences for word in text.split()):
        # 왜 긴 쪽부터: '사과'는 '사'에 '과'가 붙은 것이 아니라 명사 하나임
        noun = next((n for n in (word, word[:-1], word[:-2]) if n in KOREAN_NOUNS), word)
        if kind := KIND_OF.get(word[len(noun) :]):
            right, total = right + (with_particle(noun, kind) == word), total + 1
    return (right / total if total else 0.0), total


# 영어/한국어. 밑줄은 띄어쓰기이고, = 뒤는 -s가 아닌 복수(비우면 관사도 복수도 없음)
NOUNS = """
PERSON: man=men/남자 woman=women/여자 boy/남자아이 girl/여자아이 student/학생 teacher/선생님
doctor/의사 nurse/간호사 cook/요리사 police_officer/경찰관 firefighter/소방관 farmer/농부
singer/가수 soldier/군인 tourist/관광객 DRINK: water=/물 milk=/우유 coffee=/커피 tea=/차 juice=/주스
ANIMAL: dog/개 cat/고양이 horse/말 sheep=sheep/양 rabbit/토끼 bear/곰 duck/오리 deer=deer/사슴
VEHICLE: car/자동차 bicycle/자전거 bus=buses/버스 truck/트럭 taxi/택시 motorcycle/오토바이
FOOD: apple/사과 orange/오렌지 banana/바나나 egg/달걀 cake/케이크 peach=peaches/복숭아 carrot/당근
potato=potatoes/감자 GOAL: the_river/강 the_lake/호수 the_mountain/산 the_sea/바다 the_hotel/호텔
MEAL: bread=/빵 corn=/옥수수 rice=/밥 SHOES: boots=/장화 socks=/양말 FLOWER: flower/꽃 rose/장미
THING: ball/공 doll/인형 cup/컵 key/열쇠 ring/반지 coin/동전 clock/시계 towel/수건 hammer/망치
bag/가방 basket/바구니 umbrella/우산 camera/카메라 pencil/연필 pen/펜 brush=brushes/붓
knife=knives/칼 box=boxes/상자 BOOK: book/책 magazine/잡지 novel/소설 dictionary=dictionaries/사전
SEAT: chair/의자 table/탁자 bed/침대 sofa/소파 desk/책상 bench=benches/벤치
COAT: coat/코트 shirt/셔츠 jacket/재킷 sweater/스웨터 vest/조끼 HAT: hat/모자 helmet/헬멧
OTHER: letter/편지 newspaper/신문 movie/영화 song/노래 poem/시 music=/음악 television=/텔레비전
photo/사진 picture/그림 map/지도 paper=/종이 window/창문 door/문 butterfly/나비 the_guitar=/기타
the_piano=/피아노 the_drum=/북 the_violin=/바이올린 the_cello=/첼로 the_trumpet=/트럼펫
LANDMARK: house/집 tree/나무 store/가게 fountain/분수 statue/동상 gate/대문
OUTDOOR: in_the_park/공원 in_the_garden/정원 in_the_forest/숲 in_the_yard/마당 in_the_field/들판
on_the_beach/해변 on_the_street/거리 on_the_farm/농장 on_the_hill/언덕 on_the_bridge/다리
INDOOR: in_the_kitchen/부엌 in_the_library/도서관 in_the_hospital/병원 in_the_office/사무실
in_the_classroom/교실 in_the_cafe/카페 at_the_station/역 at_the_market/시장 at_the_school/학교
"""
# 영어/한국어, 또는 동사의 영어/목적어/한국어 어간, 영어/목적어/도구/한국어 어간
WORDS = """
DOING: running/달리고 walking/걷고 sleeping/자고 resting/쉬고 playing/놀고 yawning/하품하고
DEED: laughing/웃고 crying/울고 dancing/춤추고 working/일하고 waiting/기다리고 resting/쉬고
walking/걷고 exercising/운동하고 STAYING: sitting/앉아 standing/서 lying/누워 hiding/숨어
MOTION: walking/걸어가고 running/달려가고 heading/향하고 BESIDE: next_to/옆 in_front_of/앞 behind/뒤
NUMBER: two/두 three/세 four/네 five/다섯 several/여러 AROUND: on/위 under/아래 next_to/옆
COLOR: red/빨간 blue/파란 yellow/노란 green/초록색 white/하얀 black/검은 brown/갈색 pink/분홍색
TRAIT: / / / / / tall/키가_큰 short/키가_작은 kind/친절한 tired/지친 happy/행복한 busy/바쁜
LOOK: / / / / / big/큰 small/작은 hungry/배고픈 cute/귀여운 white/하얀 black/검은 brown/갈색
ACT: eating/FOOD+MEAL/먹 drinking/DRINK/마시 reading/BOOK+letter+newspaper/읽 singing/song/부르
buying/FOOD+BOOK+FLOWER+COAT+HAT/사 selling/FOOD+BOOK+FLOWER+COAT+HAT/팔 baking/bread+cake+potato/굽
taking/photo/찍 watching/movie+television/보 kicking/ball/차 listening_to/music+song/듣
washing/apple+carrot+cup/씻 washing/shirt+sweater+socks/빨 making/doll+basket+chair+cake/만들
throwing/ball/던지 picking_up/coin+key+ring/줍 opening/door+window/열 petting/dog+cat+horse/쓰다듬
looking_for/THING/찾 putting_on/COAT/입 putting_on/HAT/쓰 putting_on/SHOES/신
carrying/SEAT+box+basket/나르 holding/umbrella+bag+FLOWER/들
playing/the_guitar+the_piano+the_drum/치 playing/the_violin+the_cello/켜 playing/the_trumpet/불
RIDE: riding/bicycle+motorcycle+horse/타 driving/car+bus+truck+taxi/몰
TREAT: eating/FOOD+MEAL/먹 drinking/water+milk/마시 chasing/ball+butterfly/쫓
WHILE: eating/FOOD+MEAL/먹으면서 drinking/DRINK/마시면서 reading/BOOK+letter+newspaper/읽으면서
watching/movie+television/보면서 listening_to/music+song/들으면서 singing/song/부르면서
GIFT: gives/FOOD+BOOK+FLOWER+key/준다 shows/photo+map+ring+doll/보여_준다 sells/FOOD+HAT+clock/판다
throws/ball+apple/던진다 lends/BOOK+pen/빌려준다 brings/DRINK+chair+newspaper/가져다준다
TOOL: cutting/bread+cake+paper/knife/자르 writing/letter+poem/pen/쓰 cleaning/window+table/towel/닦
drawing/picture+map+FLOWER/pencil+brush/그리 fixing/bicycle+clock+camera/hammer/고치
"""
# 종류|영어|한국어. 영어의 칸은 {종류+종류나 명사.꼴}, 한국어의 칸은 {영어 칸의 번호:조사}
RULES = """
SOMEONE|a {TRAIT} {PERSON}|{0} {1}
SOMEONE|a {TRAIT} {PERSON} {WEAR}|{2} {0} {1}
WEAR|in a {COLOR} {COAT}|{0} {1:을/를} 입은
WEAR|in a {COLOR} {HAT}|{0} {1:을/를} 쓴
WEAR|in {COLOR} {SHOES}|{0} {1:을/를} 신은
BEAST|a {LOOK} {ANIMAL}|{0} {1}
NEAR|{BESIDE} the {LANDMARK}|{1} {0}
LARGE|a {COLOR} {VEHICLE+SEAT}|{0} {1}
PEOPLE|{NUMBER} {TRAIT} {PERSON.s}|{1} {2} {0} 명
BEASTS|{NUMBER} {LOOK} {ANIMAL.s}|{1} {2} {0} 마리
THINGS|{NUMBER} {COLOR} {BOOK.s}|{1} {2} {0} 권
THINGS|{NUMBER} {COLOR} {FLOWER.s}|{1} {2} {0} 송이
THINGS|{NUMBER} {FOOD+THING.s}|{1} {0} 개
ACT|choosing {FOOD.a} and {FLOWER+HAT.a}|{0:과/와} {1:을/를} 고르
ACT|preparing {FOOD.a} and {MEAL+DRINK.a}|{0:과/와} {1:을/를} 준비하
"""
# 처음 보는 짝이 되는 칸 두 개의 번호|영어|한국어
FORMS = """
01 02|{SOMEONE} is {ACT} {OUTDOOR+INDOOR}|{0:이/가} {2}에서 {1}고 있다
01 02|{PEOPLE} are {DEED} {OUTDOOR+INDOOR}|{0:이/가} {2}에서 {1} 있다
01|{SOMEONE} is {TOOL}|{0:이/가} {1}고 있다
01 02|{SOMEONE} is {DEED} while {WHILE}|{0:이/가} {2} {1} 있다
01 23|{SOMEONE} is {ACT} and {SOMEONE} is {ACT}|{0:은/는} {1}고 {2:은/는} {3}고 있다
01 23|{PERSON.the} is {DEED}, but {SOMEONE.the} is {DEED}|{0:은/는} {1} 있지만 {2:은/는} {3} 있다
01 21|{SOMEONE.the} {GIFT} to {SOMEONE.the}|{0:이/가} {2}에게 {1}
01 02|{SOMEONE} is {RIDE} toward {OUTDOOR+GOAL.the}|{0:이/가} {1}고 {2:으로/로} 가고 있다
01 02|{SOMEONE+BEAST} is {MOTION} toward {INDOOR+GOAL.the}|{0:이/가} {2:으로/로} {1} 있다
01 02|{BEAST} is {TREAT} {OUTDOOR}|{0:이/가} {2}에서 {1}고 있다
01 02|{PEOPLE+BEASTS} are {DOING} {OUTDOOR}|{0:이/가} {2}에서 {1} 있다
03 13|{BEAST} and {BEAST} are {STAYING} {NEAR}|{0:과/와} {1:이/가} {3}에 {2} 있다
01|there is {SOMEONE+BEAST+LARGE} {NEAR}|{1}에 {0:이/가} 있다
02|there are {THINGS} {AROUND} the {SEAT}|{2} {1}에 {0:이/가} 있다
"""
MODIFIERS = "NUMBER COLOR TRAIT LOOK WEAR".split()  # 짝의 이름에 들지 않음


class _Phrase(NamedTuple):
    english: str
    korean: str
    name: str  # 꾸미는 말을 뺀 영어
    parts: list[_Phrase]

    def __format__(self, kind: str) -> str:
        return with_particle(self.korean, kind) if kind else self.korean


def _read_grammar() -> tuple[dict[str, list[list[str]]], set[str]]:
    """종류나 명사마다 고를 수 있는 [영어, 한국어]와, 조사가 붙는 한국어 낱말입니다."""
    choices, nouns = defaultdict(list), set("명 마리 권 송이 개".split())
    for word in (NOUNS + WORDS).split():
        if word.endswith(":"):
            kind = word[:-1]
            continue
        english, *objects, korean = word.replace("_", " ").split("/")
        if objects:
            english, korean = f"{english} {{{objects[0]}.a}}", f"{{0:을/를}} {korean}"
        if len(objects) > 1:
            english, korean = f"{english} with a {{{objects[1]}}}", f"{{1:으로/로}} {korean}"
        choices[kind].append([english, korean])
        if f"{kind}:" in NOUNS:
            choices[english.partition("=")[0]] = [[english, korean]]
            nouns.add(korean)
    for kind, *rule in (line.split("|") for line in RULES.strip().split("\n")):
        choices[kind].append(rule)
    return choices, nouns


CHOICES, KOREAN_NOUNS = _read_grammar()


@cache
def _slots(english: str) -> tuple[str, list[tuple[list[list[str]], str, bool]]]:
    """칸을 비운 영어와, 칸마다 고를 수 있는 것, 꼴, 꾸미는 말인지입니다."""
    slots = []
    for kinds, form in re.findall(pattern := r"{([A-Za-z+ ]+)\.?(\w*)}", english):
        choices = [choice for kind in kinds.split("+") for choice in CHOICES[kind]]
        slots.append((choices, form, kinds in MODIFIERS))
    return re.sub(pattern, "{}", english), slots


def _compose(rng: Random, english: str, korean: str) -> _Phrase:
    """영어의 칸을 채우고, 같은 조각들로 한국어를 만듭니다."""
    frame, slots = _slots(english)
    if not slots:
        return _Phrase(english, korean, english, [])
    parts = [_choose(rng, *slot) for slot in slots]
    english, name = (frame.format(*[part[column] for part in parts]) for column in (0, 2))
    return _Phrase(*(" ".join(t.split()) for t in (english, korean.format(*parts), name)), parts)


def _choose(rng: Random, choices: list[list[str]], form: str, is_modifier: bool) -> _Phrase:
    whole, korean, name, parts = _compose(rng, *rng.choice(choices))
    english, equals, plural = whole.partition("=")
    name = "" if is_modifier else name.partition("=")[0].removeprefix("a ")
    if form == "the":
        english = "the " + re.sub("^(a|the|.. the) ", "", english)
    elif form == "s":
        english = plural or f"{english}s"
    elif form == "a" and (plural or not equals):
        english = f"a {english}"
    return _Phrase(english, korean, name, parts)


def write_captions(num: int, seed: int, unseen: bool) -> tuple[list[str], list[str]]:
    """서로 다른 영어 문장 `num`개와 그 번역을 만듭니다. 번역은 영어 문장이 정합니다.

    사람과 하는 일, 사람과 장소 같은 짝의 5분의 1은 `unseen`일 때만 나오고, 그때는 문장마다 하나
    이상 있습니다. 낱말 하나하나는 다른 쪽에도 나옵니다.
    """
    rng, captions, forms = Random(seed), {}, FORMS.strip().split("\n")
    while len(captions) < num:
        links, *rule = forms[len(captions) % len(forms)].split("|")
        whole = _compose(rng, *rule)
        names = [part.name for part in whole.parts]
        pairs = [f"{names[int(i)]}, {names[int(j)]}" for i, j in links.split()]
        # 왜 crc32: 파이썬의 hash는 실행마다 달라 나눔이 바뀜
        held = any(zlib.crc32(pair.encode()) % 5 == 0 for pair in pairs)
        if held == unseen and len({*names}) == len(names):
            english = re.sub(r"\ba (?=[aeiou])", "an ", whole.english)
            captions[f"{english[0].upper()}{english[1:]}."] = f"{whole.korean}."
    return [*captions], [*captions.values()]


def _write_sample() -> Found:
    x, y = write_captions(11000, 0, False)
    parts = x[:10000], y[:10000], x[10000:], y[10000:], *write_captions(1000, 1, True)
    return Found("sample", "문법으로 만든 문장, 실제 캡션이 아님", PairLists(*parts))
