"""물체 검출 데이터와 동영상: 그린 장면, 세 가지 형식, 잘못된 레이블, 나눔, 동영상의 읽고 쓰기."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from utils import metrics, video
from utils.data_utils import read_image
from utils.datasets import detection, street
from utils.datasets.detection import DetectionDataset, Example, Labels, Photo
from utils.errors import UserError

CPU = torch.device("cpu")
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def write_image(path: Path, width: int = 100, height: int = 80) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 60)).save(path)
    return path


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def by_name(labels: Labels, split: str = "train") -> dict[str, Photo]:
    return {photo.path.stem: photo for photo in labels.splits[split]}


def paths(*parts: list[Photo]) -> list[Path]:
    return [photo.path for part in parts for photo in part]


# -- 그린 장면 -------------------------------------------------------------------------
@pytest.fixture(scope="module", autouse=True)
def grain():
    """배경의 얼룩을 한 번만 만들어 이 파일의 시험이 나눠 씁니다."""
    made = street.make_grain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(street, "make_grain", lambda: made)
        yield made


@pytest.fixture(scope="module")
def scenes(grain):
    return [street.draw_scene(index, 0, grain) for index in range(60)]


def test_a_scene_depends_on_its_number_and_seed_only(scenes, grain):
    again, other = street.draw_scene(3, 0, grain), street.draw_scene(3, 1, grain)
    assert all(np.array_equal(a, b) for a, b in zip(scenes[3], again, strict=True))
    assert not np.array_equal(scenes[3][0], other[0])
    assert not np.array_equal(scenes[3][0], scenes[4][0])


def test_scenes_hold_one_to_eight_objects_inside_the_image(scenes):
    for image, boxes, labels in scenes:
        assert image.shape == (256, 256, 3) and image.dtype == np.uint8 and image.std() > 5
        assert 1 <= len(boxes) == len(labels) <= 8
        assert boxes.min() >= 0 and boxes.max() <= 256
        assert (boxes[:, 2:] - boxes[:, :2] > 1).all()
    everything = np.concatenate([labels for *_, labels in scenes])
    assert set(everything) == set(range(len(street.CATEGORIES)))


def test_later_objects_hide_at_most_half_of_an_earlier_one(scenes):
    for _, boxes, _ in scenes:
        hidden = np.zeros(len(boxes))
        for k in range(1, len(boxes)):
            hidden[:k] += street.covered_share(boxes[k], boxes[:k])
        assert hidden.max() <= 0.5


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("size", [12, 20, 40, 80, 160])
def test_boxes_surround_what_is_drawn(kind, size, monkeypatch):
    """검은 바탕에 흰색으로만 그려, 반 넘게 칠해진 픽셀을 상자와 비교합니다."""
    monkeypatch.setattr(street, "rgb", lambda *_: (255.0, 255.0, 255.0))
    for seed in range(12):
        rng, image = np.random.default_rng(seed), np.zeros((256, 256, 3), np.uint8)
        squeeze, angle = rng.uniform(street.SQUEEZES[kind], 1), rng.normal(0, street.TILTS[kind])
        brush = street.Brush(image, rng.uniform(120, 136, 2), size, squeeze, angle)
        street.PAINTERS[kind](rng, brush)
        rows, columns = np.nonzero(image.max(axis=2) > 127)
        drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose([*brush.low, *brush.high], drawn, atol=2)


def test_written_scenes_are_real_coco(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools가 없습니다")
    street.write_street(tmp_path / "거리", {"train": 5, "val": 2})
    with contextlib.redirect_stdout(io.StringIO()):
        api = coco.COCO(tmp_path / "거리" / "annotations" / "instances_train.json")
    assert {row["id"]: row["name"] for row in api.cats.values()} == {
        13: "stop sign",
        10: "traffic light",
        85: "clock",
        37: "sports ball",
        38: "kite",
        60: "donut",
    }
    labels = detection.read_coco(tmp_path / "거리")
    assert not labels.problems and [len(labels.splits[k]) for k in ("train", "val")] == [5, 2]
    for number, photo in enumerate(labels.splits["train"], 1):
        rows = api.loadAnns(api.getAnnIds(imgIds=number))
        expected = np.array([row["bbox"] for row in rows], np.float64)
        expected[:, 2:] += expected[:, :2]
        np.testing.assert_allclose(photo.boxes, expected, atol=0.02)
        names = [api.cats[row["category_id"]]["name"] for row in rows]
        assert [labels.names[k] for k in photo.labels] == names
        assert photo.path.name == api.imgs[number]["file_name"] and not photo.crowd.any()


def test_read_boxes_are_the_drawn_ones(tmp_path, scenes):
    street.write_street(tmp_path / "거리", {"train": 4})
    labels = detection.read_coco(tmp_path / "거리")
    for (image, boxes, kinds), photo in zip(scenes, labels.splits["train"], strict=False):
        np.testing.assert_allclose(photo.boxes, boxes, atol=0.02)
        assert photo.labels.tolist() == kinds.tolist()
        assert np.abs(photo.read().astype(int) - image).mean() < 5  # JPEG로 잃은 만큼만 다름


def test_interrupted_writing_leaves_no_finished_folder(tmp_path, monkeypatch):
    whole, drawn = street.draw_scene, []

    def interrupted(*arguments):
        drawn.append(arguments)
        if len(drawn) > 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(street, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        street.write_street(tmp_path / "거리", {"train": 9})
    assert len(drawn) == 4 and not list(tmp_path.iterdir())
    monkeypatch.setattr(street, "draw_scene", whole)
    street.write_street(tmp_path / "거리", {"train": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["거리"]
    assert len(list((tmp_path / "거리" / "train").iterdir())) == 2
    modes = {path.stat().st_mode for path in (tmp_path / "거리", tmp_path / "거리" / "train")}
    assert len(modes) == 1  # 임시 폴더의 좁은 권한이 남지 않음


# -- 찾기와 테스트 한 번 ---------------------------------------------------------------
def drawn_folder(folder: Path, scenes: int) -> Path:
    return folder / f"street-{scenes}-v{street.VERSION}"


def test_scenes_are_drawn_once_and_the_test_is_handed_out_once(tmp_path, monkeypatch):
    first = detection.load("sample", tmp_path, scenes=16)
    monkeypatch.setattr(detection, "write_street", lambda *_: pytest.fail("다시 그렸습니다"))
    again = detection.load("sample", tmp_path, scenes=16)
    origin = again.provenance
    assert origin == first.provenance and origin.source == "sample" and len(origin.sha256) == 64
    test = again.take_test()
    assert (origin.num_train, origin.num_val, origin.num_test) == (16, 2, 4)
    assert (len(again.train), len(again.val), len(test)) == (16, 2, 4)
    assert again.class_names == tuple(street.CATEGORIES) and again.test_is_taken
    with pytest.raises(RuntimeError):
        again.take_test()


def test_a_different_label_changes_the_hash(tmp_path):
    first = detection.load("sample", tmp_path, scenes=8).provenance.sha256
    path = drawn_folder(tmp_path, 8) / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0]["bbox"][2] -= 1
    path.write_text(json.dumps(content), encoding="utf-8")
    assert detection.load("sample", tmp_path, scenes=8).provenance.sha256 != first


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train/000008.jpg", None),
        ("train/000002.jpg", None),  # 이름이 같은 그림이 test에만 남음
        ("train/000008.jpg", b""),
        ("annotations/instances_val.json", None),
        ("annotations/instances_test.json", b"{"),
        ("annotations/instances_train.json", b"\xff"),
    ],
)
def test_a_damaged_drawn_folder_is_refused(file, content, tmp_path):
    detection.load("sample", tmp_path, scenes=8)
    path = drawn_folder(tmp_path, 8) / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    reasons = r"-8-v\d+의 내용이 손상되었습니다\. 지우고", "COCO의 JSON이 아닙", "글자를 읽을 수 없"
    with pytest.raises(UserError, match="|".join(reasons)):
        detection.load("sample", tmp_path, scenes=8)


def test_scenes_of_another_version_are_drawn_anew(tmp_path, monkeypatch):
    detection.load("sample", tmp_path, scenes=8)
    monkeypatch.setattr(detection, "VERSION", 99)
    detection.load("sample", tmp_path, scenes=8)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {drawn_folder(tmp_path, 8).name, "street-8-v99"}


def test_without_a_folder_the_scenes_are_used_and_told(tmp_path, capsys):
    assert detection.load("auto", tmp_path, scenes=8).provenance.source == "sample"
    assert "--data-dir" in capsys.readouterr().out
    with pytest.raises(UserError, match="원본 데이터가 없습니다"):
        detection.load("original", tmp_path, offline=True)


# -- 그림과 글 파일 --------------------------------------------------------------------
def test_bare_names_find_images_only_when_unique(tmp_path):
    kept = ["train/a.jpg", "val/a.jpg", "val/b.PNG", "거리/street-2/d.jpg"]
    for name in (*kept, "street-8/b.jpg", "street-8-v1/train/c.jpg"):
        write_image(tmp_path / name)
    write_text(tmp_path / "train/글.txt", "글")
    expected = {name: name for name in kept} | {"b.PNG": kept[2], "d.jpg": kept[3]}
    found = detection.image_index(tmp_path)
    assert found == {name: tmp_path / file for name, file in expected.items()}


def test_photos_named_like_the_drawn_folder_are_kept(tmp_path):
    path = write_image(tmp_path / "images/street-1.jpg")
    write_text(tmp_path / "labels/street-1.txt", "0 0.5 0.5 0.2 0.4")
    labels = detection.read_yolo(tmp_path)
    assert not labels.problems and paths(labels.splits["train"]) == [path]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_photos_have_the_size_they_are_read_with(turn, suffix, tmp_path):
    path, exif = tmp_path / "images" / f"a.{suffix}", Image.Exif()
    path.parent.mkdir()
    exif[0x0112] = turn
    Image.new("RGB", (100, 80)).save(path, exif=exif)
    write_text(tmp_path / "labels/a.txt", "0 0.5 0.5 1 1")
    height, width = read_image(path, color=True).shape[:2]
    assert (width, height) == ((80, 100) if turn >= 5 else (100, 80))
    assert detection.image_size(path, Counter()) == (width, height)
    (photo,) = detection.read_yolo(tmp_path).splits["train"]
    assert photo.boxes.tolist() == [[0, 0, width, height]]
    upright = photo._replace(path=tmp_path / "b.png", boxes=np.array([[0, 0, 100, 80]]))
    Image.new("RGB", (100, 80)).save(upright.path)
    boxes, _, _ = metrics.AverageBox([upright])(photo)  # 사진을 가득 채우는 상자를 배움
    assert boxes.tolist() == [[0, 0, width, height]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
def test_truncated_images_are_counted(suffix, tmp_path):
    path, problems = tmp_path / f"a.{suffix}", Counter()
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    Image.fromarray(noise).save(path)
    assert detection.image_size(path, problems) == (100, 80) and not problems
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert detection.image_size(path, problems) is None
    assert problems == {"읽을 수 없는 그림": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_texts_saved_on_windows_are_read(encoding, tmp_path):
    write_image(tmp_path / "images/가.jpg")
    write_coco(tmp_path, [thing()], ["가.jpg"])
    (json_path,) = (tmp_path / "annotations").iterdir()
    write_text(json_path, json_path.read_text(encoding="utf-8"), encoding)
    labels = detection.read_coco(tmp_path)
    assert labels.names == ["칫솔", "자동차"] and set(by_name(labels)) == {"가"}
    write_text(tmp_path / "labels/가.txt", "0 0.5 0.5 0.2 0.4  \n", encoding)
    for file, text in (("classes.txt", "고양이\n개\n"), ("data.yaml", "names: [고양이, 개]")):
        write_text(tmp_path / file, text, encoding)
        labels = detection.read_yolo(tmp_path)
        assert labels.names == ["고양이", "개"] and not labels.problems
        assert by_name(labels)["가"].labels.tolist() == [0]
    write_text(tmp_path / "val.txt", "가\n나  1\n", encoding)
    assert detection.read_voc_splits(tmp_path) == {"가": "val", "나": "val"}


def test_unknown_encodings_are_refused(tmp_path):
    write_text(tmp_path / "classes.txt", "고양이", "utf-16")
    with pytest.raises(UserError, match=r"classes\.txt: 글자를 읽을 수 없습니다"):
        detection.read_yolo_names(tmp_path)


# -- YOLO ------------------------------------------------------------------------------
def test_yolo_boxes_splits_and_backgrounds(tmp_path):
    for name in ("train2017/a", "train2017/빈 사진", "val/b", "test/c"):
        write_image(tmp_path / "images" / f"{name}.png")
    write_text(tmp_path / "labels/train2017/a.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n")
    write_text(tmp_path / "labels/val/b.txt", "0 0.25 0.75 0.5 0.5\n")
    write_text(tmp_path / "classes.txt", "고양이\n개\n")
    labels = detection.read_yolo(tmp_path)
    assert labels.names == ["고양이", "개"] and not labels.problems
    assert {part: len(photos) for part, photos in labels.splits.items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }
    photo, background = by_name(labels)["a"], by_name(labels)["빈 사진"]
    np.testing.assert_allclose(photo.boxes, [[40, 24, 60, 56], [0, 0, 20, 16]], atol=1e-4)
    assert photo.boxes.dtype == np.float32 and photo.labels.tolist() == [1, 0]
    assert background.boxes.shape == (0, 4) and len(background.labels) == 0
    np.testing.assert_allclose(by_name(labels, "val")["b"].boxes, [[0, 40, 50, 80]], atol=1e-4)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("data.yaml", "path: .\nnames: [고양이, 개]\n", ["고양이", "개"]),
        ("data.yaml", "names:\n  0: 고양이\n  1: 개\n", ["고양이", "개"]),
        ("data.yaml", "names: {2: 소, 0: 고양이, 1: 개}\n", ["고양이", "개", "소"]),
        ("내 것.yml", "nc: 2\nnames: ['1', 2]\n", ["1", "2"]),
        ("classes.txt", "고양이 \n \n개\n", ["고양이", "개"]),
        ("data.yaml", "nc: 2\n", list(detection.COCO_NAMES)),
    ],
)
def test_yolo_names(file, content, expected, tmp_path):
    write_text(tmp_path / file, content)
    assert detection.read_yolo_names(tmp_path) == expected


def test_yolo_without_names_is_told_to_be_coco(tmp_path, capsys):
    names = detection.read_yolo_names(tmp_path)
    assert len(names) == len(set(names)) == 80 and (names[0], names[79]) == ("person", "toothbrush")
    assert "COCO의 80개" in capsys.readouterr().out
    assert set(street.CATEGORIES) <= set(names)


@pytest.mark.parametrize(
    "text",
    [
        *("names: [고양이", "- 고양이", "names: 고양이", "names: 2"),
        *("names: {1: 고양이, 2: 개}", "names: {고양이: 0}"),
    ],
)
def test_unreadable_yaml_is_refused(text, tmp_path):
    write_text(tmp_path / "data.yaml", text)
    with pytest.raises(UserError, match=r"data\.yaml: names를 읽을 수 없습니다"):
        detection.read_yolo_names(tmp_path)


def test_yolo_splits_may_be_the_outer_folders(tmp_path):
    for part, box in (("train", "0.2 0.4"), ("valid", "0.4 0.2"), ("test", "0.2 0.2")):
        write_image(tmp_path / part / "images/a.jpg")
        write_text(tmp_path / part / "labels/a.txt", f"0 0.5 0.5 {box}")
    write_text(tmp_path / "valid/labels/없음.txt", "0 0.5 0.5 1 1")
    write_text(tmp_path / "data.yaml", "train: ../train/images\nnames: [개]")
    found = detection.read_folder(tmp_path)
    assert found.detail.endswith("YOLO 형식") and found.arrays.names == ["개"]
    boxes = {part: photo.boxes.tolist() for part, (photo,) in found.arrays.splits.items()}
    assert list(boxes) == ["train", "val", "test"]
    np.testing.assert_allclose(boxes["train"], [[40, 24, 60, 56]], atol=1e-4)
    np.testing.assert_allclose(boxes["val"], [[30, 32, 70, 48]], atol=1e-4)
    np.testing.assert_allclose(boxes["test"], [[40, 32, 60, 48]], atol=1e-4)
    assert found.arrays.problems == {"없는 그림의 레이블": 1}


def test_images_that_share_a_label_are_counted(tmp_path):
    for name in ("a.jpg", "a.bmp", "b.jpg", "val/a.jpg"):
        write_image(tmp_path / "images" / name)
    write_text(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.4")
    labels = detection.read_yolo(tmp_path)
    assert labels.problems == {"이름이 같은 그림": 1}
    assert set(by_name(labels)) == {"a", "b"} and len(labels.splits["train"]) == 2
    assert set(by_name(labels, "val")) == {"a"}


def test_broken_yolo_labels_are_counted(tmp_path, capsys):
    good = "0 0.5 0.5 0.2 0.4\n"
    broken = [
        *("1 0.95 0.5 0.2 0.4", "0 2 2 0.1 0.1"),  # 걸친 것, 밖에 있는 것
        *("0 0.5 0.5 0 0.2", "0 0.5 0.5 -0.2 0.2", "0 nan 0.5 0.2 0.2", "0 inf 0.5 0.2 0.2"),
        *("2 0.5 0.5 0.2 0.2", "-1 0.5 0.5 0.2 0.2", "0.5 0.5 0.5 0.2 0.2", "nan 0 0 1 1"),
        *("0 0.5 0.5 0.2", "0 0.5 0.5 0.2 0.2 0.9", "개 0.5 0.5 0.2 0.2"),
    ]
    write_text(tmp_path / "classes.txt", "고양이\n개\n")
    write_image(tmp_path / "images/a.png")
    write_text(tmp_path / "labels/a.txt", good + "\n".join(broken) + "\n" + good)
    write_text(tmp_path / "images/b.jpg", "그림이 아닙니다")
    write_text(tmp_path / "labels/b.txt", good)
    write_text(tmp_path / "labels/val/없음.txt", good)
    labels = detection.read_yolo(tmp_path)
    assert labels.problems == {
        "그림 밖으로 나가 자른 상자": 1,
        "그림 밖의 상자": 1,
        "크기가 0 이하인 상자": 4,
        "모르는 클래스": 4,
        "읽을 수 없는 줄": 3,
        "읽을 수 없는 그림": 1,
        "없는 그림의 레이블": 1,
    }
    (photo,) = labels.splits["train"]
    same = [40, 24, 60, 56]
    np.testing.assert_allclose(photo.boxes, [same, [85, 24, 100, 56], same], atol=1e-4)
    assert photo.labels.tolist() == [0, 1, 0] and not photo.crowd.any()
    detection.report(labels.problems)
    told = capsys.readouterr().out
    assert all(f"{what} {count}개" in told for what, count in labels.problems.items())


def test_nothing_is_reported_when_nothing_is_wrong(capsys):
    detection.report(Counter())
    assert capsys.readouterr().out == ""


@given(st.data())
def test_yolo_text_gives_the_boxes_it_was_written_from(data):
    width, height = data.draw(st.integers(2, 3000)), data.draw(st.integers(2, 3000))
    boxes, lines, labels = [], [], []
    for _ in range(data.draw(st.integers(0, 5))):
        x1, y1 = (data.draw(st.integers(0, side - 1)) for side in (width, height))
        x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
        boxes.append([x1, y1, x2, y2])
        labels.append(data.draw(st.integers(0, 2)))
        center, size = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height), (x2 - x1, y2 - y1)
        lines.append(
            f"{labels[-1]} {center[0]!r} {center[1]!r} {size[0] / width} {size[1] / height}"
        )
    problems = Counter()
    rows = list(detection.yolo_rows("\n".join(lines), list("abc"), (width, height), problems))
    found = np.array([box for _, box, _ in rows]).reshape(-1, 4)
    np.testing.assert_allclose(found, np.reshape(boxes, (-1, 4)), atol=1e-8)
    assert [label for label, *_ in rows] == labels and not problems


@given(st.lists(st.lists(st.floats(), min_size=4, max_size=4), max_size=6))
def test_boxes_that_remain_lie_inside_and_the_others_are_counted(boxes):
    problems = Counter()
    clean, kept = detection.clean_boxes(boxes, 100, 80, problems)
    assert clean.shape == (kept.sum(), 4) and len(kept) == len(boxes)
    assert (clean >= 0).all() and (clean <= [100, 80, 100, 80]).all()
    assert (clean[:, 2:] - clean[:, :2] >= 1).all()
    dropped = problems["크기가 0 이하인 상자"] + problems["그림 밖의 상자"]
    assert dropped == len(boxes) - len(clean)


# -- VOC -------------------------------------------------------------------------------
def write_voc(folder: Path, name: str, things: list[tuple], image: bool = True) -> None:
    objects = [f"<object><name>{what}</name>{BOX.format(*box)}</object>" for what, *box in things]
    text = f"<annotation>{''.join(objects)}</annotation>"
    write_text(folder / "Annotations" / f"{name}.xml", text)
    if image:
        write_image(folder / "JPEGImages" / f"{name}.jpg")


def test_voc_boxes_names_and_splits(tmp_path):
    write_voc(tmp_path, "a", [("하늘", 1, 1, 20, 30), ("개", 11, 21, 100, 80)])
    for name in ("b", "c", "d", "e"):
        write_voc(tmp_path, name, [("바다", 5, 5, 20, 30)])
    for part, text in (("train", "a\n\nb\n"), ("val", "c  1\n"), ("test", "d\n")):
        write_text(tmp_path / "ImageSets/Main" / f"{part}.txt", text)
    labels = detection.read_voc(tmp_path)
    assert labels.names == ["개", "바다", "하늘"] and not labels.problems
    stems = {part: [photo.path.stem for photo in p] for part, p in labels.splits.items()}
    assert stems == {"train": ["a", "b", "e"], "val": ["c"], "test": ["d"]}
    photo = labels.splits["train"][0]
    assert photo.boxes.tolist() == [[0, 0, 20, 30], [10, 20, 100, 80]]
    assert photo.labels.tolist() == [2, 0]


def test_broken_voc_labels_are_counted(tmp_path, capsys):
    things = [
        *(("개", 11, 21, 30, 40), ("개", 91, 11, 120, 20), ("개", 300, 11, 320, 20)),
        *(("개", 31, 11, 30, 20), ("개", 31, 11, 10, 20), ("개", "nan", 11, 40, 20)),
        *(("개", "왼쪽", 1, 2, 3), ("고양이", 1, 1, 9, 9)),
    ]
    write_voc(tmp_path, "a", things)
    write_voc(tmp_path, "b", [("개", 1, 1, 9, 9)], image=False)
    write_voc(tmp_path, "c", [("개", 1, 1, 9, 9)], image=False)
    write_text(tmp_path / "JPEGImages/c.jpg", "그림이 아닙니다")
    write_text(tmp_path / "Annotations/d.xml", "<annotation><object>")
    write_text(
        tmp_path / "Annotations/e.xml", "<annotation><object><name>개</name></object></annotation>"
    )
    write_image(tmp_path / "JPEGImages/e.jpg")
    labels = detection.read_voc(tmp_path)
    assert labels.problems == {
        "크기가 0 이하인 상자": 3,
        "그림 밖으로 나가 자른 상자": 1,
        "그림 밖의 상자": 1,
        "읽을 수 없는 줄": 2,
        "없는 그림": 1,
        "읽을 수 없는 그림": 1,
        "읽을 수 없는 XML": 1,
    }
    assert labels.names == ["개", "고양이"] and set(by_name(labels)) == {"a", "e"}
    photo = by_name(labels)["a"]
    assert photo.boxes.tolist() == [[10, 20, 30, 40], [90, 10, 100, 20], [0, 0, 9, 9]]
    assert photo.labels.tolist() == [0, 0, 1]
    detection.report(labels.problems)
    assert "크기가 0 이하인 상자 3개" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["x-unknown", "euc-kr", "utf-16"])
def test_voc_xml_of_an_unknown_encoding_is_counted(encoding, tmp_path):
    for name in ("a", "b"):
        write_voc(tmp_path, name, [("dog", 1, 1, 9, 9)])
    path = tmp_path / "Annotations" / "a.xml"
    content = path.read_text(encoding="utf-8")
    write_text(path, f'<?xml version="1.0" encoding="{encoding}"?>{content}')
    labels = detection.read_voc(tmp_path)
    assert labels.problems == {"읽을 수 없는 XML": 1} and set(by_name(labels)) == {"b"}


# -- COCO ------------------------------------------------------------------------------
def write_coco(folder: Path, annotations: list, files: list[str], part: str = "train") -> None:
    content = {
        "images": [{"id": 10 + k, "file_name": name} for k, name in enumerate(files)],
        "categories": [{"id": 90, "name": "칫솔"}, {"id": 3, "name": "자동차"}],
        "annotations": annotations,
    }
    text = json.dumps(content, ensure_ascii=False)
    write_text(folder / "annotations" / f"instances_{part}2017.json", text)


def thing(bbox=(10, 20, 30, 40), category_id=90, image_id=10, **more) -> dict:
    return {"bbox": bbox, "category_id": category_id, "image_id": image_id, **more}


def test_coco_category_numbers_and_crowds(tmp_path):
    rows = [thing(iscrowd=0), thing((0, 0, 100, 80), 3, iscrowd=1), thing((1, 2, 3, 4), 3)]
    write_coco(tmp_path, rows, ["a.png", "빈 사진.png"])
    write_coco(tmp_path, [thing()], ["b.png"], "val")
    for name in ("train2017/a", "train2017/빈 사진", "val2017/b"):
        write_image(tmp_path / f"{name}.png")
    labels = detection.read_coco(tmp_path)
    photo = by_name(labels)["a"]
    assert labels.names == ["칫솔", "자동차"] and not labels.problems
    assert photo.boxes.tolist() == [[10, 20, 40, 60], [0, 0, 100, 80], [1, 2, 4, 6]]
    assert photo.labels.tolist() == [0, 1, 1] and photo.crowd.tolist() == [False, True, False]
    assert by_name(labels)["빈 사진"].boxes.shape == (0, 4)
    assert set(by_name(labels, "val")) == {"b"}


@pytest.mark.parametrize(
    "place", [".", "train", "train2017", "images", "images/train", "images/train2017", "깊은/곳"]
)
def test_coco_images_are_found_wherever_they_are(place, tmp_path):
    path = write_image(tmp_path / place / "a.jpg")
    for name in ("a.jpg", path.relative_to(tmp_path).as_posix()):
        write_coco(tmp_path, [thing()], [name])
        labels = detection.read_coco(tmp_path)
        assert not labels.problems and paths(labels.splits["train"]) == [path]


def test_a_name_that_may_mean_another_photo_is_not_used(tmp_path):
    for name in ("가/a.jpg", "나/a.jpg", "나/b.jpg", "street-8-v1/c.jpg"):
        write_image(tmp_path / name)
    write_coco(tmp_path, [], ["a.jpg", "다/b.jpg", "c.jpg", "b.jpg"])
    labels = detection.read_coco(tmp_path)
    assert labels.problems == {"없는 그림": 3}
    assert paths(labels.splits["train"]) == [tmp_path / "나/b.jpg"]


@pytest.mark.parametrize("place", ["{}", "{}2017", "images/{}", "images/{}2017"])
def test_coco_splits_may_use_the_same_file_names(place, tmp_path):
    for part, width in (("train", 100), ("val", 60)):
        write_image(tmp_path / place.format(part) / "1.jpg", width)
        write_coco(tmp_path, [thing()], ["1.jpg"], part)
    labels = detection.read_coco(tmp_path)
    widths = [labels.splits[part][0].read().shape[1] for part in ("train", "val")]
    assert widths == [100, 60]


def test_coco_json_other_than_the_instances_is_left_alone(tmp_path):
    write_coco(tmp_path, [thing()], ["a.jpg"])
    write_image(tmp_path / "train2017/a.jpg")
    captions = write_text(tmp_path / "annotations/captions_train2017.json", '{"images": []}')
    assert set(by_name(detection.read_coco(tmp_path))) == {"a"}
    captions.unlink()
    (path,) = (tmp_path / "annotations").iterdir()
    path.rename(path.with_name("train2017.json"))  # instances가 하나도 없으면 모두 읽음
    assert set(by_name(detection.read_coco(tmp_path))) == {"a"}


def test_coco_names_may_be_numbers(tmp_path):
    content = {"images": [{"id": 1, "file_name": 7}], "annotations": []}
    content["categories"] = [{"id": 1, "name": 3}]
    write_text(tmp_path / "annotations/train.json", json.dumps(content))
    labels = detection.read_coco(tmp_path)
    assert labels.names == ["3"] and labels.problems == {"없는 그림": 1}


def test_broken_coco_labels_are_counted(tmp_path, capsys):
    rows = [
        *(thing(), thing((90, 10, 30, 20), 3), thing((300, 10, 30, 20))),
        *(thing((10, 10, 0, 5)), thing((10, 10, -5, 5)), thing((float("nan"), 1, 5, 5))),
        *(thing(category_id=1), thing(image_id=99), thing((1, 2, 3)), thing(None), thing("abcd")),
        *({"image_id": 10}, "글자", thing((5, 5, 10, 10), 3)),
        *(thing(image_id=[10]), thing(category_id={})),
    ]
    rows += [thing(image_id=11), thing(image_id=12)]
    write_coco(tmp_path, rows, ["a.png", "없음.png", "글.jpg"])
    write_image(tmp_path / "train/a.png")
    write_text(tmp_path / "train/글.jpg", "그림이 아닙니다")
    labels = detection.read_coco(tmp_path)
    assert labels.problems == {
        "그림 밖으로 나가 자른 상자": 1,
        "그림 밖의 상자": 1,
        "크기가 0 이하인 상자": 3,
        "모르는 클래스": 1,
        "없는 그림의 상자": 1,
        "읽을 수 없는 줄": 7,
        "없는 그림": 1,
        "읽을 수 없는 그림": 1,
    }
    (photo,) = labels.splits["train"]
    assert photo.boxes.tolist() == [[10, 20, 40, 60], [90, 10, 100, 30], [5, 5, 15, 15]]
    assert photo.labels.tolist() == [0, 1, 1]
    detection.report(labels.problems)
    assert "읽을 수 없는 줄 7개" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"images": [], "categories": [{"id": 1}]}'])
def test_a_json_that_is_not_coco_is_refused(text, tmp_path):
    write_text(tmp_path / "annotations/train.json", text)
    with pytest.raises(UserError, match="COCO의 JSON이 아닙니다"):
        detection.read_coco(tmp_path)


# -- 나눔 ------------------------------------------------------------------------------
def make_photos(folder: Path, part: str, count: int, boxes: int = 1) -> list[Photo]:
    found = []
    for k in range(count):
        path = write_text(folder / part / f"{k:03}.jpg", "x" * k)
        box, zeros = np.ones((boxes, 4), np.float32), np.zeros(boxes, int)
        found.append(Photo(path, box, zeros, zeros > 0))
    return found


def make_dataset(folder: Path, **counts: int) -> DetectionDataset:
    splits = {part: make_photos(folder, part, count) for part, count in counts.items()}
    return DetectionDataset("시험", "original", "시험", Labels(["개"], splits, Counter()))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 20, "val": 4, "test": 3}, (20, 4, 3)),
        ({"train": 20, "val": 4}, (17, 3, 4)),  # 검증이 테스트가 되고 학습의 15 %가 검증이 됨
        ({"train": 20, "test": 4}, (17, 3, 4)),
        ({"train": 100}, (72, 13, 15)),
        ({"val": 100}, (72, 13, 15)),
        ({"train": 3}, (1, 1, 1)),
    ],
)
def test_missing_splits_are_cut_off_without_overlap(counts, expected, tmp_path):
    data, again = make_dataset(tmp_path, **counts), make_dataset(tmp_path, **counts)
    test = data.take_test()
    assert (len(data.train), len(data.val), len(test)) == expected
    assert paths(data.train, data.val, test) == paths(again.train, again.val, again.take_test())
    assert len(set(paths(data.train, data.val, test))) == sum(counts.values())
    assert data.provenance == again.provenance
    if "train" in counts and len(counts) > 1:  # 주어진 나눔은 섞이지 않음
        assert {path.parent.name for path in paths(data.train)} == {"train"}
        assert {path.parent.name for path in paths(test)} == {"test" if "test" in counts else "val"}


@given(st.integers(2, 300), st.floats(0.01, 0.6))
def test_a_share_is_deterministic_and_disjoint(count, share):
    rest, taken = detection.take_share(list(range(count)), share)
    assert sorted([*rest, *taken]) == list(range(count))
    assert len(taken) == max(1, round(share * count))
    assert (rest, taken) == detection.take_share(list(range(count)), share)


def test_a_split_without_boxes_is_refused(tmp_path):
    splits = {"train": make_photos(tmp_path, "train", 5), "val": make_photos(tmp_path, "val", 2)}
    splits["test"] = make_photos(tmp_path, "test", 3, boxes=0)
    with pytest.raises(UserError, match="test 사진에 상자가 하나도 없습니다"):
        DetectionDataset("시험", "original", "시험", Labels(["개"], splits, Counter()))


# -- 폴더의 모양 -----------------------------------------------------------------------
def test_the_layout_is_recognised(tmp_path, capsys):
    for kind in ("COCO", "VOC", "YOLO"):
        (tmp_path / kind).mkdir()
    write_coco(tmp_path / "COCO", [thing()], ["a.png"])
    write_image(tmp_path / "COCO/a.png")
    write_voc(tmp_path / "VOC", "a", [("개", 1, 1, 9, 9)])
    write_image(tmp_path / "YOLO/images/a.png")
    write_text(tmp_path / "YOLO/labels/a.txt", "0 0.5 0.5 0.2 0.2\n9 9 9 9 9")
    for kind in ("COCO", "VOC", "YOLO"):
        found = detection.read_folder(tmp_path / kind)
        assert found.source == "original" and found.detail.endswith(f"{kind} 형식")
        assert len(found.arrays.splits["train"][0].boxes) == 1


def test_an_original_folder_is_loaded_and_its_problems_told(tmp_path, capsys):
    folder = tmp_path / "내 데이터"
    write_text(folder / "classes.txt", "개\n")
    for k in range(10):
        write_image(folder / f"images/{k}.png")
        write_text(folder / f"labels/{k}.txt", "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n")
    data = detection.load("original", folder, offline=True)
    assert data.provenance.name == "내 데이터" and data.provenance.source == "original"
    assert data.class_names == ("개",) and data.problems == {"모르는 클래스": 10}
    assert "모르는 클래스 10개" in capsys.readouterr().out
    assert not list(folder.glob("street-*"))


def test_folders_that_are_not_detection_data(tmp_path, capsys):
    assert detection.read_folder(tmp_path) is None
    assert detection.read_folder(tmp_path / "없음") is None
    assert capsys.readouterr().out == ""
    write_image(tmp_path / "images/a.png")
    with pytest.raises(UserError, match="형식을 알아볼 수 없습니다"):
        detection.read_folder(tmp_path)
    (tmp_path / "Annotations").mkdir()
    write_text(tmp_path / "Annotations/a.xml", "<annotation></annotation>")
    with pytest.raises(UserError, match="클래스가 없습니다"):
        detection.read_folder(tmp_path)


@pytest.mark.parametrize("kind", ["COCO", "VOC", "YOLO"])
def test_the_only_folder_inside_is_hinted_at(kind, tmp_path, capsys):
    def make(folder):
        if kind == "COCO":
            write_coco(folder, [thing()], ["a.jpg"])
        elif kind == "VOC":
            write_voc(folder, "a", [("개", 1, 1, 9, 9)])
        else:
            write_image(folder / "images/a.jpg")
            write_text(folder / "labels/a.txt", "0 0.5 0.5 0.2 0.2")

    (tmp_path / "그 밖").mkdir()
    make(tmp_path / "street-8-v1")
    assert detection.read_folder(tmp_path) is None
    assert capsys.readouterr().out == ""  # 그려 둔 장면은 원본이 아님
    make(tmp_path / "혈구")
    assert detection.read_folder(tmp_path) is None
    assert f"--data-dir {tmp_path / '혈구'}" in capsys.readouterr().out
    make(tmp_path / "혈구 2")
    assert detection.read_folder(tmp_path) is None
    assert capsys.readouterr().out == ""  # 둘이면 어느 것인지 알 수 없음


def test_image_files(tmp_path):
    with pytest.raises(UserError, match="사진이 없습니다"):
        detection.image_files(tmp_path)
    expected = [write_image(tmp_path / name) for name in ("a.PNG", "b.jpg")]
    write_text(tmp_path / "c.txt", "글")
    assert detection.image_files(tmp_path) == expected
    assert detection.image_files(expected[0]) == expected[:1]


# -- 내려받은 데이터 -------------------------------------------------------------------
def original(folder: str) -> DetectionDataset:
    if detection.read_folder(ROOT / "data" / folder) is None:
        pytest.skip(f"data/{folder}에 원본이 없습니다")
    return detection.load("original", ROOT / "data" / folder, offline=True)


def test_coco128():
    data = original("coco128")
    photos = [*data.train, *data.val, *data.take_test()]
    assert not data.problems and data.class_names == tuple(detection.COCO_NAMES)
    assert len(set(paths(photos))) == 128 and (len(data.train), len(data.val)) == (93, 16)
    assert sum(len(photo.boxes) for photo in photos) == 929
    assert sum(not len(photo.boxes) for photo in photos) == 2
    people = sum((photo.labels == 0).sum() for photo in photos)
    assert people == 254


def test_bccd():
    data = original("bccd/BCCD")
    test = data.take_test()
    assert not data.problems and data.class_names == ("Platelets", "RBC", "WBC")
    assert (len(data.train), len(data.val), len(test)) == (205, 87, 72)
    labels = np.concatenate([photo.labels for photo in [*data.train, *data.val, *test]])
    assert np.bincount(labels).tolist() == [361, 4155, 372]


# -- 묶기 ------------------------------------------------------------------------------
def example(count: int) -> Example:
    image = np.full((8, 8, 3), count, np.uint8)
    return Example(image, np.full((count, 4), count, np.float32), np.arange(count))


@pytest.mark.parametrize("counts", [(2, 0, 3), (0, 0), (1,)])
def test_collate_pads_with_minus_one(counts):
    images, boxes, labels = detection.collate([example(count) for count in counts], CPU)
    slots = max(counts) + 1
    assert images.shape == (len(counts), 8, 8, 3) and images.dtype == torch.uint8
    assert boxes.shape == (len(counts), slots, 4) and boxes.dtype == torch.float32
    assert labels.shape == (len(counts), slots) and labels.dtype == torch.int64
    for k, count in enumerate(counts):
        assert labels[k].tolist() == [*range(count), *[-1] * (slots - count)]
        assert (boxes[k, :count] == count).all() and (boxes[k, count:] == 0).all()


# -- 동영상 ----------------------------------------------------------------------------
def write_video(path: Path, count: int = 12) -> Path:
    with video.Writer(path) as writer:
        for k in range(count):
            frame = np.full((48, 64, 3), 20 * k, np.uint8)
            frame[..., 0] = 200  # 빨강이 파랑과 바뀌지 않는지 봄
            writer.write(frame)
    return path


def test_written_frames_are_read_back(tmp_path):
    found = list(video.frames(str(write_video(tmp_path / "동영상.mp4"))))
    assert len(found) == 12 and {frame.shape for frame in found} == {(48, 64, 3)}
    for k, frame in enumerate(found):
        assert np.abs(frame.mean(axis=(0, 1)) - [200, 20 * k, 20 * k]).max() < 12
    assert [path.name for path in tmp_path.iterdir()] == ["동영상.mp4"]


@pytest.mark.parametrize("first", [(48, 64), (49, 65), (49, 64), (48, 65)])
def test_frames_are_made_even_and_of_one_size(first, tmp_path):
    with video.Writer(tmp_path / "a.mp4") as writer:
        for k, shape in enumerate((first, (96, 128), (31, 17), first)):
            writer.write(np.full((*shape, 3), 60 * k, np.uint8))
    found = list(video.frames(str(tmp_path / "a.mp4")))
    assert [frame.shape for frame in found] == [(48, 64, 3)] * 4
    for k, frame in enumerate(found):
        assert np.abs(frame.astype(int) - 60 * k).mean() < 12


def test_an_error_while_writing_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), video.Writer(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        assert [path.name for path in tmp_path.iterdir()] == ["a.part.mp4"]
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_keeps_the_earlier_file(tmp_path):
    before = write_video(tmp_path / "a.mp4").read_bytes()
    with pytest.raises(ZeroDivisionError), video.Writer(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        raise ZeroDivisionError
    assert (tmp_path / "a.mp4").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_ctrl_c_keeps_what_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), video.Writer(tmp_path / "a.mp4") as writer:
        for _ in range(3):
            writer.write(np.zeros((48, 64, 3), np.uint8))
        raise KeyboardInterrupt
    assert len(list(video.frames(str(tmp_path / "a.mp4")))) == 3


def find_nothing(frame):
    return np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)


def test_an_annotated_video_keeps_its_speed(tmp_path):
    with video.Writer(tmp_path / "a.mp4", rate=50.0) as writer:
        for _ in range(5):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    assert video.annotate(str(tmp_path / "a.mp4"), tmp_path / "b.mp4", find_nothing, ["차"]) == 5
    assert video.frame_rate(str(tmp_path / "b.mp4")) == 50
    assert video.frame_rate("0") == 25


def test_ctrl_c_ends_a_webcam_but_interrupts_a_file(tmp_path, monkeypatch):
    def three_frames(source):
        for _ in range(3):
            yield np.zeros((48, 64, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "frames", three_frames)
    target = tmp_path / "b.mp4"
    assert video.annotate("0", target, find_nothing, ["차"]) == 3 and target.exists()
    with pytest.raises(KeyboardInterrupt):
        video.annotate("없음.mp4", target, find_nothing, ["차"])


def test_videos_that_cannot_be_read_or_written_are_refused(tmp_path):
    for name in (str(tmp_path / "없음.mp4"), "²", "１"):  # 숫자처럼 보이는 글자는 웹캠이 아님
        with pytest.raises(UserError, match="파일이 없습니다"):
            list(video.frames(name))
    path = write_text(tmp_path / "글.mp4", "동영상이 아닙니다")
    with pytest.raises(UserError, match="동영상으로 읽을 수 없습니다"):
        list(video.frames(str(path)))
    with pytest.raises(UserError, match="쓸 수 없습니다"):
        write_video(tmp_path / "없는 폴더" / "a.mp4")


def test_annotate_draws_on_every_frame(tmp_path):
    source, target = write_video(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    box, seen = np.array([[8.0, 8.0, 40.0, 40.0]]), []

    def look(frame):
        seen.append(frame.shape)
        return box, np.array([0]), np.array([0.9])

    assert video.annotate(str(source), target, look, ["개"]) == 12
    found = list(video.frames(str(target)))
    assert len(found) == 12 and seen == [(48, 64, 3)] * 12
    assert max(frame.std(axis=(0, 1)).max() for frame in video.frames(str(source))) < 10
    assert min(frame.std(axis=(0, 1)).max() for frame in found) > 10


def test_annotate_of_a_missing_video_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="파일이 없습니다"):
        video.annotate(str(tmp_path / "없음.mp4"), tmp_path / "b.mp4", None, [])
    assert not list(tmp_path.iterdir())


def test_a_pan_has_the_asked_length_and_moves(tmp_path, scenes):
    video.write_pan(scenes[0][0], tmp_path / "a.mp4", 6)
    found = list(video.frames(str(tmp_path / "a.mp4")))
    assert len(found) == 6 and found[0].shape == (256, 256, 3)
    assert np.abs(found[0].astype(int) - found[-1]).mean() > 2
