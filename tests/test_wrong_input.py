"""잘못 준 것은 모두 한국어 한 문장으로 끝나고, 할 일을 알려 주고, 아무것도 잃지 않습니다."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import pickle
import re
import tarfile

import cv2
import numpy as np
import pytest
from conftest import LESSONS, load_lesson

from utils.datasets import captions, prices
from utils.lesson import run_main

ADVICE = re.compile("세요|--help|입니까")
SECTION = dict(
    zip(LESSONS, "1.6 2.1 3.1 4.1 5.1 6.2 7.4 8.6".split(), strict=True)
)  # 데이터를 읽음


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def table(count: int = 700, **changes: str) -> bytes:
    """가격표 CSV. `changes`는 열을 통째로 바꿉니다."""
    frame = prices.make_prices(count, seed=1).reset_index().astype(str)
    frame.columns = ["date", "open", "high", "low", "close", "volume"]
    for column, value in changes.items():
        frame[column] = value
    return frame.to_csv(index=False).encode()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def tar(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Bomb:
    """pickle을 풀면 코드가 실행되는 것입니다. 실행되면 시험이 끝나 버립니다."""

    def __reduce__(self):
        return exec, ("import os; os._exit(99)",)


def coco(**changes) -> bytes:
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 64} for k in range(9)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 20, 20]}],
        "categories": [{"id": 1, "name": "공"}],
    }
    return json.dumps(content | changes).encode()


images = {"x_train": np.zeros((9, 28, 28)), "y_train": np.zeros(9), "x_test": np.zeros((9, 28, 28))}
lines = lambda n: "\n".join(f"word {k}\t낱말 {k}" for k in range(n)).encode()  # noqa: E731
FILES = {  # 이름 -> 내용. 폴더 이름이 같은 것은 한 데이터 폴더
    "empty.png": b"",
    "text.png": "숫자 7".encode(),
    "cut.png": png(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))[:900],
    "pixel.png": png(np.zeros((1, 1), np.uint8)),
    "blank.png": png(np.full((60, 60), 200, np.uint8)),
    "bomb.png": pickle.dumps(Bomb()),
    "long/line.txt": b"word " * 20000,
    "not_video.mp4": b"0" * 5000,
    "garbage.pt": b"0" * 5000,
    "bomb.pt": pickle.dumps(Bomb()),
    # 1강, 2강: IDX와 npz
    "idx_short/MNIST/raw/train-images-idx3-ubyte": b"\0\0\x08\x03" + b"\0" * 5,
    **{
        f"idx_short/MNIST/raw/{name}": b"\0\0\x08\x01\0\0\0\x01\0"
        for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    },
    "npz_text/mnist.npz": b"hello",
    "npz_text/fashion_mnist.npz": b"hello",
    "npz_text/cifar10.npz": b"hello",
    "npz_other/mnist.npz": npz(**images, y_test=np.zeros(9)),
    "npz_other/fashion_mnist.npz": npz(**images, y_test=np.zeros(9)),
    "npz_other/cifar10.npz": npz(**images, y_test=np.zeros(9)),
    "npz_few/mnist.npz": npz(**images),
    "npz_few/fashion_mnist.npz": npz(**images),
    "npz_few/cifar10.npz": npz(**images),
    "npz_bomb/mnist.npz": npz(x_train=np.array([Bomb()], object)),
    "npz_bomb/fashion_mnist.npz": npz(x_train=np.array([Bomb()], object)),
    "npz_bomb/cifar10.npz": npz(x_train=np.array([Bomb()], object)),
    "cifar_bomb/cifar-10-batches-py/data_batch_1": pickle.dumps(Bomb()),
    # 4강
    "imdb_cache/imdb.json.gz": b"hello",
    "imdb_keys/imdb.json.gz": gzip.compress(b"{}"),
    "imdb_tar/aclImdb_v1.tar.gz": b"hello" * 100,
    "imdb_outside/aclImdb_v1.tar.gz": tar("aclImdb/../../../train/pos/1.txt", b"good"),
    "imdb_few/aclImdb/train/pos/1_9.txt": b"good",
    "nsmc_html/nsmc/ratings_train.txt": b"<html>login</html>",
    "nsmc_html/nsmc/ratings_test.txt": b"<html>login</html>",
    "nsmc_bytes/nsmc/ratings_train.txt": bytes(range(256)) * 20,
    "nsmc_bytes/nsmc/ratings_test.txt": bytes(range(256)) * 20,
    "nsmc_few/nsmc/ratings_train.txt": "id\tdocument\tlabel\n1\t좋다\t1".encode(),
    "nsmc_few/nsmc/ratings_test.txt": "id\tdocument\tlabel\n1\t좋다\t1".encode(),
    # 5강
    "empty.csv": b"",
    "header.csv": b"date,open,high,low,close,volume\n",
    "one.csv": table(1),
    "few.csv": table(90),
    "nan.csv": table(close="nan", open="nan", high="nan", low="nan"),
    "word.csv": table(close="비쌈"),
    "negative.csv": table(close="-5", low="-6"),
    "zero.csv": table(close="0"),
    "infinite.csv": table(close="inf"),
    "date.csv": table(date="언젠가"),
    "columns.csv": b"a,b\n1,2\n",
    "no_close.csv": re.sub(rb"close", b"other", table()),
    "binary.csv": bytes(range(256)) * 40,
    "quote.csv": b'date,open,high,low,close,volume\n"1,2,3\n',
    "ragged.csv": b"date,open,high,low,close,volume\n1,2\n1,2,3,4,5,6,7,8,9\n",
    # 6강
    "coco_broken/annotations/a.json": b"{",
    "coco_list/annotations/a.json": b"[1, 2]",
    "coco_empty/annotations/a.json": coco(images=[], annotations=[]),
    "coco_no_files/annotations/a.json": coco(),
    "coco_no_keys/annotations/a.json": b'{"info": {}}',
    "yolo_empty/images/.keep": b"",
    "yolo_empty/labels/.keep": b"",
    "yolo_text/images/a.jpg": "사진 아님".encode(),
    "yolo_text/labels/a.txt": b"0 0.5 0.5 0.2 0.2",
    "voc_empty/Annotations/a.xml": b"<annotation>",
    "voc_empty/JPEGImages/.keep": b"",
    # 7강
    "faces_text/a.jpg": "사진 아님".encode(),
    **{f"faces_few/{k}.png": png(np.full((64, 64, 3), 4 * k, np.uint8)) for k in range(20)},
    **{f"faces_same/{k}.png": png(np.full((64, 64, 3), 99, np.uint8)) for k in range(80)},
    "celeba_few/celeba/list_attr_celeba.txt": b"1\nSmiling\na.jpg 1\n",
    "celeba_few/celeba/list_eval_partition.txt": b"a.jpg 0\n",
    "celeba_few/celeba/img_align_celeba/.keep": b"",
    "celeba_broken/celeba/list_attr_celeba.txt": b"",
    "celeba_broken/celeba/list_eval_partition.txt": b"",
    "celeba_broken/celeba/img_align_celeba/.keep": b"",
    # 8강
    "few.tsv": lines(20),
    "plain.txt": b"one line without a tab\n" * 90,
    "same.tsv": b"Go.\tgo\n" * 500,
    "cp949.tsv": lines(80).decode().encode("cp949"),
    "short.txt": b"line\n" * 79,
    "good.txt": b"line\n" * 80,
    "broken.tsv.gz": gzip.compress(lines(300))[:-40],
    "long.tsv": b"\n".join(b"%d " % k + b"word " * 2000 + b"\t" + b"w " * 2000 for k in range(70)),
    **{
        f"multi_html/multi30k/{part}.{language}.gz": b"<html>"
        for part in captions.MULTI30K_SIZES
        for language in ("de", "en")
    },
    **{
        f"multi_few/multi30k/{part}.{language}": b"a line\n"
        for part in captions.MULTI30K_SIZES
        for language in ("de", "en")
    },
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("틀린 것")
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "nothing").mkdir()
    return root


def invoke(name, arguments, folder, monkeypatch, capsys):
    """강의를 실행해 종료 상태와 오류 출력을 얻습니다. 실제 실행처럼 `run_main`을 거칩니다."""
    lesson = load_lesson(name)
    arguments = [*map(str, arguments), "--output-dir", str(folder)]
    monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: lesson.main(arguments))
    return stop.value.code, capsys.readouterr().err


def assert_one_sentence(status, errors):
    assert status in (1, 2), errors
    said = [line for line in errors.splitlines() if line.strip()]
    assert len(said) == 1 and said[0].startswith("오류: "), errors
    assert re.search("[가-힣]", errors) and ADVICE.search(errors), errors
    assert "Traceback" not in errors and "Error(" not in errors


# -- 옵션의 값: Config의 칸마다 틀린 값을 만듦 ---------------------------------------------------
def wrong_values(field) -> list[str]:
    limits, kind = field.metadata["limits"], type(field.default)
    if limits.get("choices"):
        return ["없는것"]
    if kind is str:
        return ["", "   "]
    values = ["많이", "nan", "1e999"]
    if limits.get("low") is not None:
        values.append(str(limits["low"] - 1))
    if limits.get("above") is not None:
        values.append(str(limits["above"]))
    if limits.get("below") is not None:
        values.append(str(limits["below"]))
    if limits.get("multiple"):
        values.append(str(4 * limits["multiple"] + 1))
    return [*values, "2.5"] if kind is int else values


OPTIONS = [
    (name, f"--{field.name.replace('_', '-')}={value}")
    for name in LESSONS
    for field in dataclasses.fields(load_lesson(name).Config)
    for value in wrong_values(field)
]


@pytest.mark.parametrize(("name", "flag"), OPTIONS)
def test_values_out_of_range(name, flag, tmp_path, monkeypatch, capsys):
    status, errors = invoke(name, [flag], tmp_path / "o", monkeypatch, capsys)
    assert_one_sentence(status, errors)
    assert status == 2 and flag.split("=")[0] in errors and not (tmp_path / "o").exists()


# -- 파일과 폴더 ------------------------------------------------------------------------------
ORIGINAL = "--quick --data original --data-dir"  # 네트워크 없이 이 폴더의 원본만
CASES = [  # 강의의 번호와 옵션. {이름}은 FILES의 파일이나 그 폴더
    *[(n, f"{ORIGINAL} {{nothing}}") for n in (1, 2, 3, 4, 7, 8)],
    *[(n, f"{ORIGINAL} {{empty.png}}") for n in (1, 2, 3, 4, 6, 7, 8)],
    *[(n, "--quick --resume --only 99.1") for n in range(1, 9)],
    *[
        (n, f"{ORIGINAL} {{{folder}}}")
        for n, folders in {
            1: "idx_short npz_text npz_other npz_few npz_bomb",
            2: "npz_text npz_other npz_few npz_bomb",
            3: "npz_text npz_other npz_few npz_bomb cifar_bomb",
            4: "imdb_cache imdb_keys imdb_tar imdb_outside imdb_few",
            6: "nothing coco_broken coco_list coco_empty coco_no_files coco_no_keys yolo_empty "
            "yolo_text voc_empty",
            7: "faces_text faces_few faces_same celeba_few celeba_broken",
            8: "multi_html multi_few",
        }.items()
        for folder in folders.split()
    ],
    *[(4, f"--dataset nsmc {ORIGINAL} {{{f}}}") for f in ("nsmc_html", "nsmc_bytes", "nsmc_few")],
    *[
        (n, f"--quick --predict {{{file}}}")
        for n in (1, 3)
        for file in ("missing.png", "nothing", "text.png", "blank.png", "bomb.png")
    ],
    (4, "--quick --predict 좋은영화"),
    (4, "--quick --dataset nsmc --predict 좋은영화"),
    (6, "--quick --predict {missing.png}"),
    (6, "--quick --video {missing.mp4}"),
    (6, "--quick --video 7"),
    (7, "--quick --make 웃음"),
    (8, "--quick --translate hello"),
    *[
        (3, f"--quick --only 3.10 --pretrained {{{file}}}")
        for file in ("missing.pt", "nothing", "garbage.pt", "bomb.pt", "empty.png")
    ],
    *[
        (5, f"--quick --csv {{{file}}}")
        for file in (
            "missing.csv nothing empty.csv header.csv one.csv few.csv date.csv columns.csv "
            "no_close.csv binary.csv quote.csv ragged.csv zero.csv negative.csv infinite.csv "
            "word.csv"
        ).split()
    ],
    (5, "--quick --csv {nan.csv} --ticker A"),
    (5, "--quick --ticker ../x"),
    (5, "--quick --ticker 없는종목"),
    (5, "--quick --window 900"),
    (5, "--quick --horizon 400"),
    (5, "--quick --data sample --ticker A"),
    (5, "--quick --data original"),
    *[
        (8, f"--quick --parallel {{{file}}}")
        for file in (
            "missing.tsv nothing empty.png few.tsv plain.txt same.tsv cp949.tsv broken.tsv.gz "
            "long.tsv"
        ).split()
    ],
    (8, "--quick --parallel {good.txt},{short.txt}"),
    (8, "--quick --parallel {good.txt},{good.txt},{good.txt}"),
    (8, "--quick --parallel {good.txt},{missing.txt}"),
    (8, "--quick --data sample --parallel {few.tsv}"),
]


@pytest.mark.parametrize(("number", "flags"), CASES)
def test_wrong_files(number, flags, files, tmp_path, monkeypatch, capsys):
    name = LESSONS[number - 1]
    fill = lambda word: re.sub(r"\{(.+?)\}", lambda m: str(files / m[1]), word)  # noqa: E731
    arguments = [fill(word) for word in flags.split()]
    if "--only" not in arguments:
        imdb = number == 4 and "imdb" in flags  # 4.1절은 NSMC를 먼저 읽음
        arguments += ["--only", "4.8" if imdb else SECTION[name]]
    before = sorted((path, path.stat().st_size) for path in files.rglob("*"))
    status, errors = invoke(name, arguments, tmp_path, monkeypatch, capsys)
    assert_one_sentence(status, errors)
    assert sorted((path, path.stat().st_size) for path in files.rglob("*")) == before
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize("name", LESSONS)
def test_output_that_can_not_be_written(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("폴더가 아님", encoding="utf-8")
    status, errors = invoke(name, ["--quick"], tmp_path / "file", monkeypatch, capsys)
    assert_one_sentence(status, errors)
    assert "--output-dir" in errors and (tmp_path / "file").read_text(encoding="utf-8")


# -- 학습한 모델에 주는 잘못된 것 ---------------------------------------------------------------
ANSWERS = [
    (1, ["--predict", "{empty.png}"]),
    (1, ["--predict", "{cut.png}"]),
    (1, ["--predict", "{pixel.png}"]),
    (1, ["--predict", "{blank.png}"]),
    (3, ["--predict", "{text.png}"]),
    (3, ["--predict", "{bomb.png}"]),
    (4, ["--predict", " \n\t "]),
    (6, ["--predict", "{nothing}"]),
    (6, ["--predict", "{text.png}"]),
    (6, ["--predict", "{missing.png}"]),
    (6, ["--video", "{not_video.mp4}"]),
    (6, ["--video", "{missing.mp4}"]),
    (7, ["--make", "없는속성"]),
    (7, ["--make", ","]),
    (7, ["--make", "웃음,,안경"]),
    (8, ["--translate", "  "]),
    (8, ["--translate", "word " * 20000]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "flags"), ANSWERS, ids=range(len(ANSWERS)))
def test_wrong_questions(number, flags, files, quick_runs, monkeypatch, capsys):
    name = LESSONS[number - 1]
    folder = quick_runs(name).folder.parent
    arguments = [re.sub(r"^\{(.+?)\}$", lambda m: str(files / m[1]), word) for word in flags]
    status, errors = invoke(name, ["--quick", *arguments], folder, monkeypatch, capsys)
    assert_one_sentence(status, errors)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["🙂", "word " * 20000, "\u2028뷁\u0301", "a" * 100_000, "!!! ... ~~~"],
    ids=["emoji", "long", "strange", "one word", "marks"],
)
def test_strange_sentences_are_answered(text, quick_runs, monkeypatch, capsys):
    """이상하지만 틀리지 않은 글입니다. 4강은 글자를 몰라도 답하거나 한 문장으로 거절합니다."""
    name = LESSONS[3]
    folder = str(quick_runs(name).folder.parent)
    monkeypatch.setattr("sys.argv", [f"{name}.py"])
    with pytest.raises(SystemExit) as stop:
        run_main(
            lambda: load_lesson(name).main(["--quick", "--predict", text, "--output-dir", folder])
        )
    captured = capsys.readouterr()
    assert stop.value.code in (0, 1) and "Traceback" not in captured.err
    "".join(set(captured.out) - set(text)).encode("cp949")  # 물은 글의 글자는 그대로 보임


def test_there_are_enough_cases():
    assert len(CASES) + len(ANSWERS) >= 120 and len(OPTIONS) >= 120
