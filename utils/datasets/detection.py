"""물체 검출 데이터: COCO, YOLO, Pascal VOC 형식의 폴더와 코드로 그린 거리 장면.

형식은 폴더의 모양으로 알아봅니다. 잘못된 레이블은 멈추지 않고 세어서 알려 줍니다.

    COCO   annotations/*.json                  상자는 (왼쪽, 위, 너비, 높이) 픽셀
    YOLO   images/**와 labels/**/*.txt          상자는 (중심 x, 중심 y, 너비, 높이), 0~1의 비율
    VOC    Annotations/*.xml과 JPEGImages/      상자는 (x1, y1, x2, y2) 픽셀
"""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from utils.data_utils import DownloadError, Found, Provenance, TestOnce, read_image, search
from utils.datasets.street import VERSION, write_street
from utils.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
COCO_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")  # 이름 파일이 없는 YOLO 폴더(coco128 따위)의 번호 순서


class Photo(NamedTuple):
    """사진 한 장의 경로와 정답입니다. 사진은 쓸 때 읽습니다."""

    path: Path
    boxes: np.ndarray  # (n, 4) xyxy, 원래 사진의 픽셀
    labels: np.ndarray  # (n,) 클래스의 차례
    crowd: np.ndarray  # (n,) 무리를 한 상자로 묶은 것이면 True (COCO의 iscrowd)

    def read(self) -> np.ndarray:
        """사진 (H, W, 3)을 읽습니다."""
        return read_image(self.path, color=True)


class Example(NamedTuple):
    """레터박스로 크기를 맞춘 사진과 정답입니다."""

    image: np.ndarray  # (S, S, 3) uint8
    boxes: np.ndarray  # (n, 4)
    labels: np.ndarray  # (n,)


class Detections(NamedTuple):
    """사진 한 장에서 찾은 것입니다. 점수의 순서입니다."""

    boxes: np.ndarray  # (n, 4)
    labels: np.ndarray  # (n,)
    scores: np.ndarray  # (n,)


def collate(examples: Sequence[Example], device: torch.device) -> list[Tensor]:
    """사진 (B, S, S, 3), 상자 (B, M, 4), 클래스 (B, M)로 묶습니다.

    M은 가장 많은 물체의 수에 1을 더한 것이고(물체가 하나도 없어도 됨), 빈자리의 클래스는 -1입니다.
    """
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    boxes = pad([F.pad(torch.from_numpy(one.boxes), (0, 0, 0, 1)) for one in examples])
    labels = [F.pad(torch.from_numpy(one.labels), (0, 1), value=-1) for one in examples]
    images = torch.from_numpy(np.stack([one.image for one in examples]))
    return [t.to(device) for t in (images, boxes, pad(labels, padding_value=-1))]


class Labels(NamedTuple):
    """읽은 데이터: 클래스 이름, 나눔마다의 사진, 종류마다의 잘못된 레이블의 수."""

    names: list[str]
    splits: dict[str, list[Photo]]
    problems: Counter


class DetectionDataset(TestOnce):
    """물체 검출 데이터입니다. `train`과 `val`은 `Photo`의 목록이고 테스트는 한 번만 꺼냅니다.

    나눔이 모자라면 시드 0으로 나눕니다. 테스트가 없으면 검증 데이터를 테스트로 쓰고, 검증이
    없으면 학습 데이터의 15 %를 뗍니다. 왜: COCO의 테스트 정답은 공개되어 있지 않습니다.
    """

    def __init__(self, name: str, source: str, detail: str, labels: Labels) -> None:
        splits = {part: list(labels.splits.get(part, ())) for part in ("train", "val", "test")}
        if not splits["train"]:
            splits["train"], splits["val"] = splits["val"], []
        if not splits["test"]:
            splits["test"], splits["val"] = splits["val"], []
        for part in ("test", "val"):
            if not splits[part]:
                splits["train"], splits[part] = take_share(splits["train"], 0.15)
        self.class_names, self.problems = tuple(labels.names), labels.problems
        self.train, self.val, self._test = splits["train"], splits["val"], (splits["test"],)
        for part, photos in splits.items():
            if not sum(len(photo.boxes) for photo in photos):
                raise UserError(
                    f"{detail}: {part} 사진에 상자가 하나도 없습니다. 사진이 몇 장인지, 레이블의 "
                    "이름이 사진의 이름과 같은지 보세요."
                )
        sizes = [len(splits[part]) for part in ("train", "val", "test")]
        self.provenance = Provenance(name, source, detail, digest(splits), *sizes)

    def take_test(self) -> list[Photo]:
        """테스트 사진을 한 번만 내줍니다."""
        return super().take_test()[0]


def take_share(photos: list[Photo], share: float) -> tuple[list[Photo], list[Photo]]:
    """사진의 일부를 시드 0으로 떼어, 남은 것과 뗀 것을 돌려줍니다. 뗀 것은 적어도 한 장입니다."""
    order = np.random.default_rng(0).permutation(len(photos))
    count = max(1, round(share * len(photos)))
    return [photos[k] for k in order[count:]], [photos[k] for k in order[:count]]


def digest(splits: dict[str, list[Photo]]) -> str:
    """나눔, 사진의 이름과 크기(바이트), 상자와 클래스의 sha256입니다."""
    total = hashlib.sha256()
    for part, photos in splits.items():
        for photo in photos:
            head = f"{part}/{photo.path.name}/{photo.path.stat().st_size}"
            total.update(head.encode() + photo.boxes.tobytes() + photo.labels.tobytes())
    return total.hexdigest()


def load(
    source: str = "auto", folder: Path = Path("data"), offline: bool = False, scenes: int = 1600
) -> DetectionDataset:
    """검출 데이터를 찾습니다. 인자의 뜻은 `mnist.load`와 같습니다.

    Args:
        folder: 바로 아래에 `annotations`, `labels`, `Annotations` 가운데 하나가 있는 폴더.
        scenes: 원본이 아닐 때 그릴 학습 장면의 수. 검증은 8분의 1, 테스트는 4분의 1입니다.

    Raises:
        UserError: 폴더가 어느 형식인지 알아볼 수 없거나 레이블을 읽을 수 없을 때.
    """
    found = search(source, offline, partial(read_folder, folder), no_download, lambda: None)
    if found is not None:
        report(found.arrays.problems)
        return DetectionDataset(folder.resolve().name, *found)
    drawn = folder / f"street-{scenes}-v{VERSION}"
    counts = {"train": scenes, "val": scenes // 8, "test": scenes // 4}
    if not drawn.exists():
        write_street(drawn, counts)
    labels = read_coco(drawn)
    sizes = {part: len(photos) for part, photos in labels.splits.items()}
    if labels.problems or sizes != counts:
        raise UserError(f"{drawn}의 내용이 손상되었습니다. 지우고 다시 실행하세요.")
    return DetectionDataset("거리 장면", "sample", "OpenCV로 그린 장면, 사진이 아님", labels)


def simple_photo(photos: Sequence[Photo]) -> Photo:
    """물체가 2~8개이고 중심이 서로 먼 사진 가운데, 가장 작은 물체가 가장 큰 것입니다.

    그런 사진이 없으면 물체가 있는 첫 사진입니다.
    """

    def score(photo: Photo) -> float:
        sides = photo.boxes[:, 2:] - photo.boxes[:, :2]
        center = photo.boxes[:, :2] + sides / 2
        apart = np.abs(center[:, None] - center).max(axis=2) / np.maximum(sides.max(), 1)
        near = (apart < 0.5).sum() > len(center)  # 자신과의 거리는 0
        return 0.0 if near or not 2 <= len(center) <= 8 or photo.crowd.any() else float(sides.min())

    return max((photo for photo in photos if len(photo.boxes)), key=score)


def no_download() -> Found:
    """어떤 데이터를 쓸지는 학습자가 정하므로 내려받지 않습니다."""
    raise DownloadError("COCO, YOLO, VOC 형식의 폴더가 있으면 --data-dir로 주세요")


def report(problems: Counter) -> None:
    """잘못된 레이블을 종류마다 세어 알립니다."""
    if problems:
        counts = ", ".join(f"{what} {count:,}개" for what, count in problems.most_common())
        print(f"  잘못된 레이블을 고치거나 뺐습니다: {counts}")


def read_folder(folder: Path) -> Found | None:
    """형식을 알아보고 읽습니다. 검출 데이터가 아니면 None입니다."""
    readers = {"COCO": read_coco, "VOC": read_voc, "YOLO": read_yolo}
    for kind, looks_like in LAYOUTS.items():
        if looks_like(folder):
            labels = readers[kind](folder)
            if not labels.names:
                raise UserError(
                    f"{folder}: {kind} 형식이지만 클래스가 없습니다. 클래스의 이름을 적어 주세요."
                )
            return Found("original", f"{folder}, {kind} 형식", labels)
    if any((folder / name).exists() for name in ("images", "labels", "annotations", "JPEGImages")):
        raise UserError(
            f"{folder}: 검출 데이터의 형식을 알아볼 수 없습니다. COCO(annotations/*.json), "
            "YOLO(images와 labels), VOC(Annotations와 JPEGImages) 가운데 하나여야 합니다."
        )
    inner = [path for path in folder.glob("*/") if any(look(path) for look in LAYOUTS.values())]
    inner = [path for path in inner if not path.name.startswith("street-")]
    if len(inner) == 1:
        print(f"  {folder}에는 없지만 {inner[0]}에 있습니다. 쓰려면 --data-dir {inner[0]}")
    return None


LAYOUTS = {
    "COCO": lambda folder: any((folder / "annotations").glob("*.json")),
    "VOC": lambda folder: any((folder / "Annotations").glob("*.xml")),
    "YOLO": lambda folder: bool(yolo_folders(folder)),
}


def clean_boxes(
    boxes: Sequence[Sequence[float]], width: int, height: int, problems: Counter
) -> tuple[np.ndarray, np.ndarray]:
    """xyxy 상자를 그림 안으로 자르고, 쓸 수 없는 것을 세어 뺍니다.

    Returns:
        남은 상자 (m, 4)와, 남은 것이 True인 (n,).
    """
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    finite = np.isfinite(boxes).all(axis=1)
    positive = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    limits = np.array([width, height, width, height])
    clipped = np.clip(np.nan_to_num(boxes), 0, limits)
    inside = positive & (clipped[:, 2] - clipped[:, 0] >= 1) & (clipped[:, 3] - clipped[:, 1] >= 1)
    moved = inside & (np.abs(clipped - np.nan_to_num(boxes)).max(axis=1, initial=0) > 1)
    counts = {
        "크기가 0 이하인 상자": len(boxes) - positive.sum(),
        "그림 밖의 상자": positive.sum() - inside.sum(),
        "그림 밖으로 나가 자른 상자": moved.sum(),
    }
    problems.update({what: int(count) for what, count in counts.items() if count})
    return clipped[inside], inside


def upright_size(image: Image.Image) -> tuple[int, int]:
    """`read_image`가 읽었을 때의 (너비, 높이)입니다. 눕혀 찍은 사진은 세워 읽습니다(EXIF)."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def image_size(path: Path | None, problems: Counter) -> tuple[int, int] | None:
    """그림의 (너비, 높이)입니다. 없거나 그림이 아니면 세고 None을 돌려줍니다."""
    if path is None or not path.is_file():
        problems["없는 그림"] += 1
        return None
    try:
        with Image.open(path) as image:
            size = upright_size(image)
            image.draft(None, (1, 1))  # JPEG는 가장 작게 풀어 빠름
            image.load()  # 파일이 도중에 끊겼는지 봄
        return size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        problems["읽을 수 없는 그림"] += 1
        return None


def make_photo(
    path: Path | None, rows: Sequence[tuple[int, Sequence[float], bool]], problems: Counter
) -> Photo | None:
    """(클래스, xyxy, crowd)의 목록에서 사진 하나를 만듭니다. 그림을 읽을 수 없으면 None입니다."""
    size = image_size(path, problems)
    if size is None:
        return None
    boxes, kept = clean_boxes([box for _, box, _ in rows], *size, problems)
    labels, crowd = (np.array([row[k] for row in rows], kind) for k, kind in ((0, int), (2, bool)))
    return Photo(path, boxes.astype(np.float32), labels[kept], crowd[kept])


def image_index(folder: Path) -> dict[str, Path]:
    """폴더 안의 모든 그림을, 폴더에서 본 경로로 찾게 합니다. 이름이 하나뿐이면 이름으로도 찾습니다.

    왜: train과 val에 이름이 같은 다른 사진이 있으면, 이름만으로는 남의 사진을 쓰게 됩니다.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    drawn = {path for path in paths if path.relative_to(folder).as_posix().startswith("street-")}
    paths = [path for path in paths if path not in drawn or path.parent == folder]
    times = Counter(path.name for path in paths)
    found = {path.name: path for path in paths if times[path.name] == 1}
    return found | {path.relative_to(folder).as_posix(): path for path in paths}


def read_text(path: Path) -> str:
    """글 파일을 읽습니다. UTF-8이 아니면 Windows의 한국어(cp949)로 봅니다.

    Raises:
        UserError: 둘 다 아닐 때.
    """
    for encoding in ("utf-8-sig", "cp949"):
        try:
            return path.read_text(encoding=encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path}: 글자를 읽을 수 없습니다. UTF-8로 저장하세요.")


def image_files(path: Path) -> list[Path]:
    """그림 파일 하나, 또는 폴더 바로 아래의 그림 파일들입니다.

    Raises:
        UserError: 폴더에 그림이 하나도 없을 때.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"{path} 폴더에 사진이 없습니다. PNG나 JPEG 파일이 든 폴더를 주세요.")
    return found


def fits(path: Path, split: str) -> bool:
    """경로의 폴더에 다른 나눔의 이름이 없으면 True입니다. 왜: 남의 나눔에서 사진을 가져오지 않게"""
    words = [part for part in ("train", "val", "test") if part in path.parent.as_posix().lower()]
    return not words or split in words


def split_of(text: str) -> str:
    """파일이나 폴더의 이름에서 나눔을 알아냅니다. 알 수 없으면 train입니다."""
    return next((part for part in ("val", "test") if part in text.lower()), "train")


# ---------------------------------------------------------------------------------------------
# 세 가지 형식
# ---------------------------------------------------------------------------------------------
def read_coco(folder: Path) -> Labels:
    """COCO 형식의 폴더를 읽습니다. 나눔은 JSON 파일의 이름(train, val, test)에서 알아냅니다."""
    images, problems, splits, names = image_index(folder), Counter(), defaultdict(list), {}
    paths = sorted((folder / "annotations").glob("*.json"))  # 원본에는 captions 따위도 있음
    for path in [p for p in paths if p.name.startswith("instances")] or paths:
        try:
            content = json.loads(read_text(path))
            names |= {row["id"]: str(row["name"]) for row in content["categories"]}
            listed = {row["id"]: str(row["file_name"]) for row in content["images"]}
            rows = list(content["annotations"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: COCO의 JSON이 아닙니다. images, annotations, categories를 넣어 주세요."
            ) from error
        split = split_of(path.stem)
        order = {number: k for k, number in enumerate(names)}
        by_image = defaultdict(list)
        for row in rows:
            try:
                left, top, width, height = (float(value) for value in row["bbox"])
                label, image_id = order.get(row["category_id"]), row["image_id"]
                known = image_id in listed
            except (KeyError, TypeError, ValueError):
                problems["읽을 수 없는 줄"] += 1
                continue
            if label is None or not known:
                problems["모르는 클래스" if label is None else "없는 그림의 상자"] += 1
                continue
            box = (left, top, left + width, top + height)
            by_image[image_id].append((label, box, bool(row.get("iscrowd", 0))))
        part = path.stem.split("_")[-1]  # 예: instances_train2017의 train2017
        for number, name in listed.items():
            near = [f"{top}{kind}/{name}" for top in ("", "images/") for kind in (part, split)]
            near += [f"images/{name}", name]
            found = (images[key] for key in near if key in images)
            file = next((path for path in found if fits(path.relative_to(folder), split)), None)
            splits[split].append(make_photo(file, by_image[number], problems))
    return Labels(list(names.values()), drop_missing(splits), problems)


def drop_missing(splits: dict[str, list[Photo | None]]) -> dict[str, list[Photo]]:
    """읽을 수 없는 사진을 뺍니다."""
    return {part: [p for p in photos if p is not None] for part, photos in splits.items()}


def read_voc(folder: Path) -> Labels:
    """Pascal VOC 형식의 폴더를 읽습니다. 나눔은 ImageSets/Main의 txt에 적혀 있습니다."""
    problems, splits, raw = Counter(), defaultdict(list), {}
    for path in sorted((folder / "Annotations").glob("*.xml")):
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError):
            problems["읽을 수 없는 XML"] += 1
            continue
        raw[path.stem] = list(voc_rows(root, problems))
    names = sorted({name for rows in raw.values() for name, _ in rows})
    images = image_index(folder / "JPEGImages")
    by_stem = {Path(name).stem: path for name, path in images.items()}
    split_by_stem = read_voc_splits(folder / "ImageSets" / "Main")
    for stem, rows in raw.items():
        rows = [(names.index(name), box, False) for name, box in rows]
        split = split_by_stem.get(stem, "train")
        splits[split].append(make_photo(by_stem.get(stem), rows, problems))
    return Labels(names, drop_missing(splits), problems)


def voc_rows(root: ElementTree.Element, problems: Counter) -> Iterator[tuple[str, list[float]]]:
    """XML에서 (클래스 이름, xyxy)를 하나씩 꺼냅니다. VOC의 픽셀 번호는 1에서 시작합니다."""
    for thing in root.iter("object"):
        try:
            x1, y1, x2, y2 = (
                float(thing.find(f"bndbox/{key}").text) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            yield thing.find("name").text.strip(), [x1 - 1, y1 - 1, x2, y2]
        except (AttributeError, TypeError, ValueError):
            problems["읽을 수 없는 줄"] += 1


def read_voc_splits(folder: Path) -> dict[str, str]:
    """`train.txt`, `val.txt`, `test.txt`에서 사진 이름마다의 나눔을 읽습니다."""
    found = {}
    for part in ("train", "val", "test"):
        path = folder / f"{part}.txt"
        for line in read_text(path).splitlines() if path.exists() else ():
            found[line.split()[0] if line.split() else ""] = part
    return found


def read_yolo(folder: Path) -> Labels:
    """YOLO 형식의 폴더를 읽습니다. 레이블은 사진과 이름이 같고 `labels` 아래에 있습니다."""
    names, problems, splits = read_yolo_names(folder), Counter(), defaultdict(list)
    expected = {}
    for top in yolo_folders(folder):
        for path in sorted(set(image_index(top / "images").values())):
            label_path = top / "labels" / path.relative_to(top / "images").with_suffix(".txt")
            problems["이름이 같은 그림"] += label_path in expected
            expected[label_path] = path
        problems["없는 그림의 레이블"] += len(set((top / "labels").rglob("*.txt")) - set(expected))
    for label_path, path in expected.items():
        size = image_size(path, Counter())
        text = read_text(label_path) if label_path.exists() else ""
        rows = yolo_rows(text, names, size or (1, 1), problems)
        splits[split_of(path.relative_to(folder).parent.as_posix())].append(
            make_photo(path, list(rows), problems)
        )
    return Labels(names, drop_missing(splits), +problems)


def yolo_folders(folder: Path) -> list[Path]:
    """`images`와 `labels`가 함께 있는 폴더들: 폴더 자신, 없으면 아래의 train, valid, test입니다."""
    parts = ("train", "valid", "val", "test")
    places = [folder] if (folder / "images").is_dir() else [folder / part for part in parts]
    return [p for p in places if (p / "images").is_dir() and (p / "labels").is_dir()]


def yolo_rows(
    text: str, names: list[str], size: tuple[int, int], problems: Counter
) -> Iterator[tuple[int, list[float], bool]]:
    """`클래스 x y 너비 높이`의 줄마다 (클래스, xyxy 픽셀, False)를 꺼냅니다."""
    width, height = size
    for line in filter(str.strip, text.splitlines()):
        try:
            number, x, y, w, h = (float(word) for word in line.split())
        except ValueError:
            problems["읽을 수 없는 줄"] += 1
            continue
        if number not in range(len(names)):
            problems["모르는 클래스"] += 1
            continue
        box = [(x - w / 2) * width, (y - h / 2) * height]
        yield int(number), [*box, (x + w / 2) * width, (y + h / 2) * height], False


def read_yolo_names(folder: Path) -> list[str]:
    """클래스 이름을 *.yaml의 names, classes.txt의 차례로 찾습니다. 없으면 COCO의 80개로 봅니다."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            names = (yaml.safe_load(read_text(path)) or {}).get("names")
            if isinstance(names, dict):  # 번호: 이름
                names = [names[number] for number in range(len(names))]
            if names and not isinstance(names, list):
                raise TypeError("목록이 아님")
        except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: names를 읽을 수 없습니다. 이름을 차례대로 목록으로 적으세요."
            ) from error
        if names:
            return [str(name) for name in names]
    listed = folder / "classes.txt"
    if listed.exists():
        return [line.strip() for line in read_text(listed).splitlines() if line.strip()]
    print(f"  {folder}에 클래스 이름(*.yaml, classes.txt)이 없어 COCO의 80개로 봅니다.")
    return list(COCO_NAMES)
