"""번역 데이터: Multi30k 읽기와 내려받기, 학습자의 파일, 조사, 만든 캡션의 약속을 시험합니다."""

from __future__ import annotations

import gzip
import re
import unicodedata
from itertools import chain
from random import Random

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from utils.data_utils import DownloadError, Found
from utils.datasets import captions
from utils.datasets.captions import PairLists, Pairs, load, particle_accuracy
from utils.errors import UserError


def sentences(part: str, language: str) -> list[str]:
    return [f"{language} {part} {i}" for i in range(captions.MULTI30K_SIZES[part])]


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_multi30k(root, ending=".gz"):
    for part in captions.MULTI30K_SIZES:
        for language in ("de", "en"):
            path = root / "multi30k" / f"{part}.{language}{ending}"
            write_lines(path, sentences(part, language))


def refuse(urls, path, md5="", check=None):
    raise DownloadError("막힘")


# -- 데이터셋 --------------------------------------------------------------------------
def dataset(train=("하나 둘", "셋"), val=("넷",), test=("다섯",)) -> Pairs:
    lists = PairLists(*(list(part) for part in (train, train, val, val, test, test)))
    return Pairs("시험", Found("original", "시험", lists), ("원문", "번역문"))


def test_test_sentences_are_handed_out_once():
    data = dataset()
    assert data.take_test() == (["다섯"], ["다섯"]) and data.test_is_taken
    with pytest.raises(RuntimeError):
        data.take_test()


def test_digest_covers_every_sentence_and_its_part():
    digests = [
        dataset(),
        dataset(train=("하나 둘", "삼")),
        dataset(val=("사",)),
        dataset(test=("오",)),
        dataset(train=("하나 둘",), val=("셋", "넷")),
        dataset(train=("하나", "둘 셋")),
        dataset(train=("하나", "하나"), val=("하나",), test=("하나",)),
        dataset(train=("하나",), val=("하나", "하나"), test=("하나",)),
    ]
    digests = [data.provenance.sha256 for data in digests]
    assert len(set(digests)) == 8 and digests[0] == dataset().provenance.sha256


def test_korean_means_more_than_half_of_the_targets():
    assert dataset(train=("하나", "둘", "three")).korean
    assert not dataset(train=("하나", "two")).korean
    assert not dataset(train=("one", "two", "셋")).korean


# -- Multi30k --------------------------------------------------------------------------
@pytest.mark.parametrize("ending", [".gz", ""])
def test_multi30k_is_read_in_both_directions(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "download_file", refuse)
    write_multi30k(tmp_path, ending)
    german, english = (
        load("original", tmp_path),
        load("auto", tmp_path, pair="en-de"),
    )
    assert german.x_train == english.y_train == sentences("train", "de")
    assert german.y_val == english.x_val == sentences("val", "en")
    assert german.languages == ("독일어", "영어") and english.languages == ("영어", "독일어")
    assert german.provenance.source == "original" and not german.korean
    sizes = (german.provenance.num_train, german.provenance.num_val, german.provenance.num_test)
    assert sizes == tuple(captions.MULTI30K_SIZES.values()) == (29000, 1014, 1000)
    assert german.provenance.sha256 != english.provenance.sha256
    x, y = german.take_test()
    assert (y, x) == english.take_test() and x == sentences("test_2016_flickr", "de")


def test_multi30k_sentences_are_cleaned_and_blank_pairs_dropped(tmp_path):
    write_multi30k(tmp_path)
    lines = sentences("val", "de")
    lines[:3] = ["  zwei \u00a0 Ma\u0308nner\tda\r", " ", "eine\u2028Frau"]
    write_lines(tmp_path / "multi30k" / "val.de.gz", lines)
    data = load("original", tmp_path, offline=True)
    assert data.x_val[:3] == ["zwei M\u00e4nner da", "eine Frau", "de val 3"]
    assert data.y_val[:3] == ["en val 0", "en val 2", "en val 3"]
    assert data.provenance.num_val == len(data.x_val) == len(data.y_val) == 1013


@pytest.mark.parametrize("name", ["train.de", "val.en", "test_2016_flickr.en"])
def test_multi30k_with_missing_or_extra_lines_is_refused(name, tmp_path):
    write_multi30k(tmp_path)
    part, language = name.split(".")
    for lines in (sentences(part, language)[:-1], [*sentences(part, language), ""]):
        write_lines(tmp_path / "multi30k" / f"{name}.gz", lines)
        for pair in ("de-en", "en-de"):
            with pytest.raises(UserError, match=rf"{name}\.gz의 줄 수가 .*지우고 다시 실행"):
                load("auto", tmp_path, pair=pair)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:200] + bytes(100) + raw[300:],
        lambda raw: b"<html>404</html>",
        lambda raw: gzip.compress(gzip.decompress(raw) + b"\xff"),
    ],
    ids=["half", "damaged", "page", "not-utf8"],
)
def test_damaged_multi30k_is_refused(break_it, tmp_path):
    write_multi30k(tmp_path)
    path = tmp_path / "multi30k" / "val.de.gz"
    path.write_bytes(break_it(path.read_bytes()))
    with pytest.raises(UserError, match=r"val\.de\.gz: .*지우고 다시 실행"):
        load("original", tmp_path)


def test_partial_multi30k_without_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(captions, "download_file", refuse)
    write_multi30k(tmp_path)
    (tmp_path / "multi30k" / "val.en.gz").unlink()
    data = load("auto", tmp_path)
    assert data.provenance.name == "만든 캡션(영한)" and data.provenance.source == "sample"
    assert "내려받지 못했습니다" in capsys.readouterr().out
    with pytest.raises(UserError, match="원본 데이터가 없습니다"):
        load("original", tmp_path)
    with pytest.raises(UserError, match="de-fr"):
        load("auto", tmp_path, pair="de-fr")


@pytest.mark.parametrize("whole", [True, False], ids=["right", "short"])
def test_only_missing_files_are_downloaded(whole, tmp_path, monkeypatch):
    asked = []

    def serve(urls, path, check):
        asked.append(path.name)
        assert [url.split("/")[2] for url in urls] == [
            "raw.githubusercontent.com",
            "cdn.jsdelivr.net",
        ]
        assert all(url.endswith(f"/data/task1/raw/{path.name}") for url in urls)
        part, language, _ = path.name.split(".")
        write_lines(path, sentences(part, language)[not whole :])

    monkeypatch.setattr(captions, "download_file", serve)
    write_lines(tmp_path / "multi30k" / "train.de", sentences("train", "de"))
    write_lines(tmp_path / "multi30k" / "train.en.gz", sentences("train", "en"))
    if whole:
        data = load("auto", tmp_path, pair="en-de")
        assert data.provenance.source == "original" and data.x_val == sentences("val", "en")
    else:
        with pytest.raises(UserError, match="줄 수가"):
            load("auto", tmp_path, pair="en-de")
    held_out = ("val", "test_2016_flickr")
    assert sorted(asked) == sorted(f"{p}.{code}.gz" for p in held_out for code in ("de", "en"))


@pytest.mark.skipif(not (ROOT / "data" / "multi30k").exists(), reason="Multi30k의 원본이 없음")
def test_real_multi30k_is_aligned():
    data = load("original", ROOT / "data", offline=True)
    x, y = data.take_test()
    assert x[0].startswith("Ein Mann mit einem orangefarbenen Hut")
    assert y[0].startswith("A man in an orange hat") and len(data.x_train) == 29000


# -- 학습자의 파일 ---------------------------------------------------------------------
def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"Sentence {i}", f"문장 {i}") for i in range(count)]


def write_tabs(path, pairs, extra=""):
    write_lines(path, ["\t".join(pair) + extra for pair in pairs])


def all_pairs(data: Pairs) -> dict[str, list[tuple[str, str]]]:
    parts = (data.x_train, data.y_train), (data.x_val, data.y_val), data.take_test()
    names = ("train", "val", "test")
    return {n: [*zip(*part, strict=True)] for n, part in zip(names, parts, strict=True)}


@pytest.mark.parametrize("name", ["kor.txt", "kor.txt.gz", "kor,eng.tsv"])
def test_tab_separated_file(name, tmp_path):
    path = tmp_path / name
    write_tabs(path, numbered(200), "\tCC-BY 2.0 (France) Attribution: tatoeba.org #1\r")
    data = load(folder=tmp_path, offline=True, parallel=str(path))
    assert data.languages == ("원문", "번역문") and data.korean
    assert data.provenance.name == name and data.provenance.detail == str(path)
    assert data.provenance.source == "original"
    parts = all_pairs(data)
    assert [len(part) for part in parts.values()] == [160, 20, 20]
    assert sorted([*chain(*parts.values())]) == sorted(numbered(200))
    # 짧은 문장부터 적힌 파일이어도 앞부분이 치우치지 않음
    numbers = [int(x.split()[1]) for x, _ in parts["train"][:40]]
    assert 60 < sum(numbers) / 40 < 140


def test_two_aligned_files(tmp_path):
    pairs = numbered(100)
    pairs[7] = ("Sentence 7", " ")
    first, second = tmp_path / "a.en", tmp_path / "b.ko.gz"
    write_lines(first, [x for x, _ in pairs])
    write_lines(second, [y for _, y in pairs])
    data = load("original", offline=True, parallel=f"{first}, {second}")
    assert data.provenance.name == "a.en, b.ko.gz"
    parts = all_pairs(data)
    assert sorted([*chain(*parts.values())]) == sorted(set(numbered(100)) - {numbered(100)[7]})


def test_own_file_may_have_a_mark_blank_lines_and_decomposed_letters(tmp_path):
    path = tmp_path / "own.txt"
    rows = [f"{x}\t{unicodedata.normalize('NFD', y)}" for x, y in numbered(80)]
    text = "\ufeff" + "\r\n\r\n".join([*rows, "줄바꿈\u2028없음\t하나", "한 열뿐"])
    path.write_bytes(text.encode())
    pairs = [*chain(*all_pairs(load(parallel=str(path))).values())]
    assert sorted(pairs) == sorted([*numbered(80), ("줄바꿈 없음", "하나")])


def test_held_out_sentences_appear_nowhere_else(tmp_path):
    pairs = numbered(300)
    pairs += [(f"SENTENCE {i}", f"다른 번역 {i}") for i in range(60)]
    pairs += [(f"other source {i}", f"문장 {i}") for i in range(60, 120)]
    pairs += [("same", "SAME"), ("문장 5", "역방향"), *numbered(50)]  # 뒤의 50쌍은 똑같은 짝
    path = tmp_path / "own.tsv"
    write_tabs(path, pairs)
    parts = all_pairs(load(parallel=str(path)))
    assert [len(part) for part in parts.values()] == [338, 42, 42]
    for name in ("val", "test"):
        held = {text.casefold() for pair in parts[name] for text in pair}
        rest = [pair for other, part in parts.items() if other != name for pair in part]
        assert len(held) == 84 and not held & {t.casefold() for pair in rest for t in pair}
    again = all_pairs(load(parallel=str(path)))
    assert again == parts


def test_at_most_a_thousand_pairs_are_held_out(tmp_path):
    write_tabs(tmp_path / "own.tsv", numbered(11000))
    parts = all_pairs(load(parallel=str(tmp_path / "own.tsv")))
    assert [len(part) for part in parts.values()] == [9000, 1000, 1000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "파일이 없습니다"),
        ("문장 하나\t하나\n".encode("cp949") * 80, "UTF-8"),
        ("\n".join(f"{x} {y}" for x, y in numbered(80)).encode(), "80줄 가운데 0줄에만"),
        (b"a\tb\n" * 30 + b"c\n" * 50, "80줄 가운데 30줄에만"),
        ("\n".join(f"{x}\t{y}" for x, y in numbered(59)).encode(), "59개입니다.*60개 이상"),
        (b"Go.\tgo\n" * 500, "1개입니다.*60개 이상"),
        ("\n".join(f"{x}\t  " for x, _ in numbered(80)).encode(), "0개입니다"),
        (
            "\n".join(f"{i}\t{x}\t{i}\t{y}" for i, (x, y) in enumerate(numbered(80))).encode(),
            "번호",
        ),
        ("\n".join(f"{x}\t같은 번역" for x, _ in numbered(80)).encode(), "짝이 0개.*16개가 필요"),
        (b"", "0개입니다"),
    ],
)
def test_unusable_own_file_is_named_with_the_reason(content, message, tmp_path):
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"own\.txt.*{message}"):
        load(parallel=str(path))


def test_other_unusable_own_files(tmp_path):
    good, short, broken = tmp_path / "good.txt", tmp_path / "short.txt", tmp_path / "broken.gz"
    write_lines(good, ["줄"] * 80)
    write_lines(short, ["줄"] * 79)
    write_tabs(broken, numbered(300))
    broken.write_bytes(broken.read_bytes()[:-30])
    for parallel, message in (
        (f"{good},{short}", r"good\.txt 80줄, .*short\.txt 79줄"),
        (f"{good},{good},{good}", "두 개"),
        (f"{good},{tmp_path / 'none.txt'}", r"none\.txt: 파일이 없습니다"),
        (str(broken), r"broken\.gz: 압축이 손상"),
        (str(tmp_path), "폴더입니다"),
        (f"{good},{tmp_path}", "폴더입니다"),
    ):
        with pytest.raises(UserError, match=message):
            load(parallel=parallel)
    with pytest.raises(UserError, match="--data sample"):
        load("sample", parallel=str(good))


# -- 조사 ------------------------------------------------------------------------------
@given(st.text("가나다", max_size=2), st.integers(ord("가"), ord("힣")).map(chr))
def test_particles_of_every_syllable(head, last):
    letters = unicodedata.normalize("NFD", last)  # 자모로 풀면 받침이 있을 때 셋
    has_final, is_rieul = len(letters) == 3, letters[2:] == "\u11af"
    for kind in captions.PARTICLES:
        after_final, after_vowel = kind.split("/")
        is_closed = has_final and not (kind == "으로/로" and is_rieul)
        expected = after_final if is_closed else after_vowel
        assert captions.with_particle(head + last, kind) == head + last + expected


def test_particles_of_words():
    made = [captions.with_particle(*pair) for pair in (
        ("사과", "을/를"), ("책", "을/를"), ("고양이", "과/와"), ("곰", "과/와"), ("강", "으로/로"),
        ("호텔", "으로/로"), ("바다", "으로/로"), ("물", "은/는"), ("개", "이/가"),
    )]  # fmt: skip
    expected = "사과를 책을 고양이와 곰과 강으로 호텔로 바다로 물은 개가"
    assert made == expected.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("남자가 사과를 먹고 있다.", (1.0, 2)),
        ("남자가 사과을 먹고 있다.", (0.5, 2)),
        ("호텔로 강으로, '바다로' 가고 있다.", (1.0, 3)),
        ("호텔으로 강로 바다으로", (0.0, 3)),
        ("고양이와 개가 고양이 개", (1.0, 2)),
        ("고양이이 사과과 사과", (0.0, 2)),
        ("개 두 마리이 책 세 권이", (0.5, 2)),
        ("젊은 사람은 작은 방을 보는", (0.0, 0)),
        ("", (0.0, 0)),
    ],
)
def test_particle_accuracy_counts_nouns_of_the_grammar(text, expected):
    assert particle_accuracy(text.split("|")) == expected


def test_longest_noun_is_matched(monkeypatch):
    monkeypatch.setattr(captions, "KOREAN_NOUNS", {"강", "강가"})
    assert particle_accuracy(["강가 강가로 강가으로 강이"]) == (2 / 3, 3)


# -- 만든 캡션 -------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sample() -> dict[str, list[tuple[str, str]]]:
    data = load("sample")
    assert data.korean and data.languages == ("영어", "한국어")
    assert (
        data.provenance.name == "만든 캡션(영한)" and "실제 캡션이 아님" in data.provenance.detail
    )
    assert data.provenance.sha256 == load("auto", offline=True).provenance.sha256
    return all_pairs(data)


def words(pairs, side: int) -> set[str]:
    return {word.strip(".,").lower() for pair in pairs for word in pair[side].split()}


def test_sample_has_distinct_sentences_and_known_words(sample):
    assert [len(part) for part in sample.values()] == [10000, 1000, 1000]
    everything = [*chain(*sample.values())]
    assert len({x for x, _ in everything}) == 12000
    for name in ("val", "test"):
        for side in (0, 1):
            assert words(sample[name], side) <= words(sample["train"], side)
    assert len(words(everything, 0)) > 250 and len(words(everything, 1)) > 300


def test_written_captions_follow_the_seed():
    first = captions.write_captions(300, 3, unseen=False)
    assert first == captions.write_captions(300, 3, unseen=False)
    assert first[0] == captions.write_captions(400, 3, unseen=False)[0][:300]
    assert len(set(first[0]) & set(captions.write_captions(300, 4, unseen=False)[0])) < 30


FORMS = [line.split("|") for line in captions.FORMS.strip().split("\n")]


def test_translation_is_a_function_of_the_english():
    """왜: 겹치는 문장을 뺀 결과에서는 한 영어에 한국어가 둘인 것이 보이지 않습니다."""
    rng, known = Random(0), {}
    for i in range(30000):
        caption = captions._compose(rng, *FORMS[i % len(FORMS)][1:])
        assert known.setdefault(caption.english, caption.korean) == caption.korean
    assert len(known) < 28000  # 다시 나와 비교한 영어가 2,000개를 넘음


def plain(text: str) -> str:
    """관사 a, an과 대문자, 마침표를 뺀 영어입니다."""
    return re.sub(r"\ban? ", "", text.lower().rstrip("."))


def test_every_test_sentence_holds_a_combination_never_seen(sample, monkeypatch):
    """문장을 짓는 함수를 엿보아, 문장마다 틀에 적힌 칸끼리의 짝을 적어 둡니다."""
    links = {english: link.split() for link, english, _ in FORMS}
    linked, compose = {}, captions._compose

    def spy(rng, english, korean):
        made = compose(rng, english, korean)
        if english in links:
            names = [part.name for part in made.parts]
            linked[plain(made.english)] = {
                (names[int(i)], names[int(j)]) for i, j in links[english]
            }
        return made

    monkeypatch.setattr(captions, "_compose", spy)
    load("sample")
    pairs = {name: [linked[plain(x)] for x, _ in part] for name, part in sample.items()}
    seen = set().union(*pairs["train"], *pairs["val"])
    assert all(found - seen for found in pairs["test"])
    unseen = set().union(*pairs["test"]) - seen
    assert len(seen) > 2000 and len(unseen) > 300
    # 왜: 이름이 늘 다르면 위의 시험이 뜻 없이 통과함. 남긴 짝의 두 쪽은 따로따로 학습에 나옴
    assert {a for a, _ in unseen} <= {a for a, _ in seen}
    new = {b for _, b in unseen} - {b for _, b in seen}
    assert all(" and " in b for b in new) and len(new) < 20  # 목적어가 둘인 것은 가짓수가 많음


def test_unseen_places_are_new_for_the_person(sample):
    """짝의 이름을 쓰지 않고 글만 보아, 사람과 일, 사람과 장소 가운데 하나가 처음인지 봅니다."""
    pattern = r"(?:two|three|four|five|several) (?:\w+ )?(\w+) are (\w+) ((?:in|on|at) the \w+)\."

    def counted(part):
        return [m.groups() for x, _ in part if (m := re.fullmatch(pattern, x.lower()))]

    train, test = counted(sample["train"] + sample["val"]), counted(sample["test"])
    seen = {pair for who, deed, place in train for pair in ((who, deed), (who, place))}
    assert len(train) > 1000 and len(test) > 100
    assert all({(who, deed), (who, place)} - seen for who, deed, place in test)


@pytest.mark.parametrize(
    ("english", "korean"),
    [
        (r"toward the hotel", "호텔로"),
        (r"toward the river", "강으로"),
        (r"toward the school", "학교로"),
        (r"playing the violin", "바이올린을 켜고"),
        (r"playing the guitar", "기타를 치고"),
        (r"are playing (in|on)", "놀고 있다"),
        (r"washing socks", "양말을 빨고"),
        (r"washing a cup", "컵을 씻고"),
        (r"while listening to music", "음악을 들으면서"),
        (r"putting on a helmet", "헬멧을 쓰고"),
        (r"in a red coat", "빨간 코트를 입은"),
        (r"with a knife", "칼로"),
        (r"Two (\w+ )?sheep are", "양 두 마리가"),
        (r"three (\w+ )?books on the desk", "책상 위에 .*책 세 권이 있다"),
        (r"Several (\w+ )?police officers", "경찰관 여러 명이"),
        (r"(choosing|preparing) an egg and", "달걀과"),
        (r"gives an? \w+ to the (\w+ )?teacher", "선생님에게 .*[을를] 준다"),
        (r"^A (\w+ )?dog and a (\w+ )?cat are", "^(\\w+ )?개와 (\\w+ )?고양이가"),
        (r"^The boy is .*, but the", "^남자아이는 .* 있지만 "),
    ],
)
def test_translations(english, korean, sample):
    chosen = [y for part in sample.values() for x, y in part if re.search(english, x)]
    assert chosen and all(re.search(korean, y) for y in chosen)


def test_english_grammar_and_korean_endings(sample):
    for x, y in [*chain(*sample.values())]:
        assert re.fullmatch(r"[A-Z][a-z]*(,? [a-z]+)+\.", x) and re.fullmatch(
            r"([가-힣]+ )+[가-힣]*다\.", y
        )
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", x)
        assert not re.search(r"\b(two|three|four|five|several) (?!.*(s|men|women|sheep|deer)\b)", x)


def test_references_have_only_right_particles(sample):
    targets = [y for part in sample.values() for _, y in part]
    share, count = particle_accuracy(targets)
    assert share == 1.0 and count > 2 * len(targets)
    assert sum(particle_accuracy([y])[1] == 0 for y in targets) < 0.01 * len(targets)
    swap = {"을": "를", "를": "을"}
    swapped = [re.sub(r"[을를]\b", lambda m: swap[m.group()], y) for y in targets]
    wrong, same = particle_accuracy(swapped)
    marked = sum(len(re.findall(r"[을를]\b", y)) for y in targets)
    assert same == count and wrong == pytest.approx(1 - marked / count) and wrong < 0.8


def test_lexicon_mixes_final_consonants_and_vowels():
    endings = [(ord(noun[-1]) - ord("가")) % 28 for noun in captions.KOREAN_NOUNS]
    assert 0.35 < sum(e > 0 for e in endings) / len(endings) < 0.65 and endings.count(8) > 5
    assert len(endings) > 120
