"""리뷰 데이터: 나누기, 원본의 세 가지 자리, 패키지, 만든 문장의 약속을 시험합니다."""

from __future__ import annotations

import gzip
import re
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.data_utils import Found, TextDataset, Texts, split_texts
from utils.datasets import reviews
from utils.errors import UserError


def found(x_train, y_train, x_test=("좋다", "나쁘다"), y_test=(1, 0)) -> Found:
    labels = np.array(y_train, np.uint8), np.array(y_test, np.uint8)
    return Found("sample", "시험", Texts(list(x_train), labels[0], list(x_test), labels[1]))


@given(st.lists(st.sampled_from("abcdefghij"), min_size=4, max_size=40), st.integers(0, 6))
def test_texts_that_repeat_stay_on_one_side(texts, num_held_out):
    labels = np.array([ord(text) % 2 for text in texts])
    train, held = split_texts(texts, labels, num_held_out)
    assert sorted([*train, *held]) == list(range(len(texts)))
    assert not {texts[i] for i in train} & {texts[i] for i in held}
    once = sum(texts.count(text) == 1 for text in texts)
    assert len(held) == min(num_held_out, once)


def test_one_class_is_refused_before_training():
    texts = [f"글 {i}" for i in range(40)]
    TextDataset("시험", found(texts, [0, 1] * 20), reviews.CLASS_NAMES, 10)
    with pytest.raises(UserError, match="한 클래스에 치우쳐"):
        TextDataset("시험", found(texts, [1] * 40), reviews.CLASS_NAMES, 10)


def test_test_texts_are_handed_out_once():
    data = TextDataset(
        "시험", found([f"글 {i}" for i in range(40)], [0, 1] * 20), reviews.CLASS_NAMES, 10
    )
    texts, labels = data.take_test()
    assert sorted(zip(texts, labels.tolist(), strict=True)) == [("나쁘다", 0), ("좋다", 1)]
    with pytest.raises(RuntimeError):
        data.take_test()


def test_first_takes_short_texts_in_order():
    texts = [f"{'긴 ' * (i % 3)}글 {i}" for i in range(60)]
    data = TextDataset("시험", found(texts, [0, 1] * 30), reviews.CLASS_NAMES, 20)
    x, y, x_val, y_val = data.first(8, 5)
    expected = [k for k, text in enumerate(data.x_train) if len(text) <= 5][:8]
    assert x == [data.x_train[k] for k in expected] and torch.equal(y, data.y_train[expected])
    assert len(x_val) == len(y_val) <= 4 and max(map(len, x + x_val)) <= 5


# -- IMDB ------------------------------------------------------------------------------
def write_acl_imdb(root, size):
    for part in ("train", "test"):
        for kind in ("neg", "pos", "unsup"):
            folder = root / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            for i in range(size // 2):
                text = "같은 글" if i == 0 and kind == "pos" else f"{part} {kind} {i} naïve"
                (folder / f"{i}_7.txt").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("place", ["folder", "archive"])
def test_imdb_original_is_read_once_into_a_cache(place, tmp_path, monkeypatch):
    monkeypatch.setattr(reviews, "IMDB_SIZE", 20)
    write_acl_imdb(tmp_path, 20)
    if place == "archive":
        with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as file:
            file.add(tmp_path / "aclImdb", "aclImdb")
    first = reviews._read_imdb(tmp_path)
    texts = first.arrays
    assert len(texts.x_train) == len(texts.x_test) == 20 and "함께 있는 글 1편" in first.detail
    assert texts.y_train.sum() == 10 and "train pos 3 naïve" in texts.x_train
    assert all(("pos" in t or t == "같은 글") == y for t, y in zip(*texts[:2], strict=True))
    again = reviews._read_imdb(tmp_path)
    assert "imdb.json.gz" in again.detail and again.arrays.x_test == texts.x_test


def test_incomplete_imdb_and_broken_cache_are_refused(tmp_path):
    write_acl_imdb(tmp_path, 20)
    with pytest.raises(UserError, match="25,000편씩이 아닙니다"):
        reviews._read_imdb(tmp_path)
    broken = gzip.compress(bytes(100))[:10] + b"\xff" * 40  # 압축한 내용만 깨짐
    for content in (b"\x1f\x8b broken", broken, gzip.compress(b"[1, 2]")):
        (tmp_path / "imdb.json.gz").write_bytes(content)
        with pytest.raises(UserError, match="손상되었습니다"):
            reviews._read_imdb(tmp_path)


def test_imdb_in_a_folder_that_is_read_only_is_used(tmp_path, monkeypatch):
    def refused(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(reviews, "IMDB_SIZE", 20)
    monkeypatch.setattr(reviews, "write_atomically", refused)
    write_acl_imdb(tmp_path, 20)
    assert len(reviews._read_imdb(tmp_path).arrays.x_train) == 20


def test_the_package_is_read_where_a_long_has_32_bits(monkeypatch):
    """Windows의 Python 3.13까지는 csv의 한도가 32비트입니다."""
    whole = reviews.csv.field_size_limit

    def limit(size):
        if size >= 2**31:
            raise OverflowError("Python int too large to convert to C long")
        return whole(size)

    monkeypatch.setattr(reviews.csv, "field_size_limit", limit)
    assert len(reviews._read_package().arrays.x_test) == 2500


def test_truncated_imdb_archive_is_refused(tmp_path):
    write_acl_imdb(tmp_path / "source", 400)
    archive = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "source" / "aclImdb", "aclImdb")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError, match="손상되었습니다"):
        reviews._read_imdb(tmp_path)


def test_packaged_reviews_are_real_and_split_without_leaks():
    data = reviews.load_imdb("sample", offline=True)
    assert data.provenance.source == "package"
    test, labels = data.take_test()
    assert (len(data.x_train), len(data.x_val), len(test)) == (20000, 2500, 2500)
    parts = [set(data.x_train), set(data.x_val), set(test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert abs(labels.float().mean() - 0.5) < 0.02
    for part in (data.y_train, data.y_val, labels):  # 앞부분만 써도 두 클래스가 고루 있음
        assert 0.35 < part[:200].float().mean() < 0.65


# -- NSMC ------------------------------------------------------------------------------
def write_nsmc(root, rows):
    (root / "nsmc").mkdir(exist_ok=True)
    for part in ("train", "test"):
        text = "\n".join(["id\tdocument\tlabel", *rows]) + "\n"
        (root / "nsmc" / f"ratings_{part}.txt").write_text(text, encoding="utf-8")


def test_nsmc_drops_blank_reviews_and_refuses_broken_rows(tmp_path, monkeypatch):
    assert reviews._read_nsmc(tmp_path) is None
    rows = ["1\t재미\u2028있다\t1", "2\t\t0", "3\t  \t1", "4\t별로\t0"]
    write_nsmc(tmp_path, rows)
    with pytest.raises(UserError, match="손상되었습니다"):  # 150,000편이 아님
        reviews._read_nsmc(tmp_path)
    monkeypatch.setattr(reviews, "NSMC_SIZES", {"train": 4, "test": 4})
    texts = reviews._read_nsmc(tmp_path).arrays
    assert texts.x_train == ["재미\u2028있다", "별로"] and texts.y_train.tolist() == [1, 0]
    monkeypatch.setattr(reviews, "NSMC_SIZES", {"train": 1, "test": 1})
    for broken in ("1\t재미있다", "1\t재미있다\t9", "1\t재미\t있다\t1"):
        write_nsmc(tmp_path, [broken])
        with pytest.raises(UserError, match="손상되었습니다"):
            reviews._read_nsmc(tmp_path)


def test_written_reviews_are_deterministic_and_hold_back_pairs():
    texts, labels = reviews.write_reviews(2000, 3, unseen=False)
    again, _ = reviews.write_reviews(2000, 3, unseen=False)
    others, _ = reviews.write_reviews(2000, 4, unseen=True)
    assert texts == again and abs(labels.mean() - 0.5) < 0.01

    def last_pair(text):
        clause = re.split(r"지만|고(?=[ 가-힣])", text.replace(" ", ""))[-1]
        subject = next(s for s in reviews.SUBJECTS if clause.startswith(s))
        stems = {form: w for w in reviews.GOOD + reviews.BAD for form in w.split("/")}
        form = max((form for form in stems if form in clause), key=len)
        return subject, stems[form]

    seen, unseen = {last_pair(t) for t in texts}, {last_pair(t) for t in others}
    assert len(seen) > 250 and len(unseen) > 60 and not seen & unseen


@pytest.mark.parametrize(
    ("text", "label"),
    [("지루하지 않았", 1), ("훌륭하지 않았", 0), ("지루할 줄 알았는데 아니었", 1)],
)
def test_negation_and_broken_expectation_turn_the_label(text, label):
    texts, labels = reviews.write_reviews(4000, 0, unseen=False)
    chosen = [
        int(y)
        for t, y in zip(texts, labels, strict=True)
        if t.split("지만 ")[-1].split("고 ")[-1].find(text) >= 0 and "지만" not in t
    ]
    assert len(chosen) > 3 and set(chosen) == {label}
