"""얼굴 데이터: 그린 얼굴, CelebA의 폴더, 사진이 든 폴더, 남겨 둔 배열."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.datasets import faces
from utils.datasets.faces import ATTRIBUTES, FaceDataset, Faces
from utils.errors import UserError

IMAGE, LABEL = (
    np.arange(64 * 64 * 3, dtype=np.uint8).reshape(1, 64, 64, 3),
    np.ones((1, 1), np.uint8),
)
NAMES = ("Smiling", "Male", "Always", "Eyeglasses", "Never")  # 시험에 쓰는 CelebA의 속성


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """왜: 작은 행렬에서는 스레드끼리 기다리는 시간이 더 깁니다."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drawn():
    return faces.draw_faces(150, 0)


def flipped(table: np.ndarray, attributes: np.ndarray, name: str) -> np.ndarray:
    """속성 하나만 바꿔 그린 것과의 픽셀 차이 (N, 64, 64)입니다."""
    change = attributes.copy()
    if name.endswith("_Hair"):  # 머리색은 하나뿐이라 다음 색으로 바꿈
        change[:, 2:6] = np.roll(change[:, 2:6], 1, axis=1)
    else:
        change[:, ATTRIBUTES.index(name)] ^= 1
    before, after = (faces.paint_faces(table, rows).astype(int) for rows in (attributes, change))
    return np.abs(after - before).max(axis=3)


# -- 그린 얼굴 -------------------------------------------------------------------------
def test_a_face_depends_on_its_number_and_seed_only(drawn):
    images, attributes = drawn
    assert images.shape == (150, 64, 64, 3) and attributes.shape == (150, len(ATTRIBUTES))
    assert images.dtype == attributes.dtype == np.uint8
    for start, count in ((0, 1), (63, 3), (149, 1), (40, 77)):  # 묶음의 크기와 자리가 다름
        again = faces.draw_faces(count, 0, start)
        assert np.array_equal(again[0], images[start : start + count])
        assert np.array_equal(again[1], attributes[start : start + count])
    assert not np.array_equal(faces.draw_faces(1, 1)[0], images[:1])
    assert len(np.unique(images.reshape(150, -1), axis=0)) == 150
    assert [len(part) for part in faces.draw_faces(0, 0)] == [0, 0]


def test_attributes_have_their_shares():
    attributes = faces.choose_attributes(faces.random_table(4000, 0))
    share = dict(zip(ATTRIBUTES, attributes.mean(axis=0), strict=True))
    expected = dict(zip(ATTRIBUTES[2:6], faces.HAIR_SHARES, strict=True))
    expected |= {"Smiling": 0.5, "Eyeglasses": 0.3, "Wearing_Hat": 0.25, "Bangs": 0.4}
    expected |= {"Pale_Skin": 0.3, "Mouth_Slightly_Open": 0.35, "Mustache": 0.25}
    assert share == pytest.approx(expected, abs=0.03)
    assert set(attributes[:, 2:6].sum(axis=1)) == {1}  # 머리색은 하나
    smiling, is_open = attributes[:, 0] == 1, attributes[:, ATTRIBUTES.index("Mouth_Slightly_Open")]
    assert is_open[smiling].mean() == pytest.approx(0.5, abs=0.03)
    assert is_open[~smiling].mean() == pytest.approx(0.2, abs=0.03)
    rest = np.corrcoef(np.delete(attributes, [2, 3, 4, 5, 9], axis=1).T) - np.eye(6)
    assert np.abs(rest).max() < 0.06  # 나머지는 서로 독립


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_is_visible(name):
    table = faces.random_table(64, 3)
    difference = flipped(table, faces.choose_attributes(table), name)
    changed = (difference > 20).sum(axis=(1, 2))
    assert np.quantile(changed, 0.1) >= 30
    if name == "Bangs":  # 주의: 갈색 머리가 갈색 피부와 같은 색이면 앞머리가 보이지 않음
        brown = faces.choose_attributes(table)[:, ATTRIBUTES.index("Brown_Hair")]
        changed = changed[brown == 0]
    assert changed.min() >= 20
    assert np.median(changed) < 64 * 64 / 2  # 배경은 그대로


def test_a_small_part_of_the_picture_is_drawn_in_the_middle(drawn):
    """이목구비를 가운데만의 판에 그려도 잘리지 않습니다."""
    table = faces.random_table(300, 7)
    attributes = faces.choose_attributes(table)
    attributes[:, [ATTRIBUTES.index(name) for name in ("Eyeglasses", "Smiling", "Mustache")]] = 1
    whole, part = (faces.Portrait(table, attributes) for _ in range(2))
    for face in (whole, part):
        face.image[:] = 0
        face.hair, face.strands = face.hair + 100, 1
    for draw in (faces.draw_eyes, faces.draw_mouth, faces.draw_glasses):
        draw(whole)
    middle = part.middle()
    for draw in (faces.draw_eyes, faces.draw_mouth, faces.draw_glasses):
        draw(middle)
    assert np.abs(whole.image - part.image).max() < 1


# -- 데이터셋 --------------------------------------------------------------------------
def test_the_drawn_dataset(tmp_path):
    data, again = (faces.load("sample", tmp_path, faces=96) for _ in range(2))
    assert not list(tmp_path.iterdir())  # 적으면 파일로 남기지 않음
    assert data.attribute_names == tuple(faces.KOREAN.values())
    x, y = data.take_test()
    for images, labels, size in ((data.x_train, data.y_train, 96), (x, y, 24)):
        assert images.shape == (size, 64, 64, 3) and labels.shape == (size, 11)
        assert images.dtype == labels.dtype == torch.uint8
    assert len(data.x_val) == len(data.y_val) == 12
    parts = torch.cat([data.x_train, data.x_val, x]).reshape(132, -1)
    assert len(parts.unique(dim=0)) == 132  # 나눔이 겹치지 않음
    assert data.provenance == again.provenance
    assert str(data.provenance).startswith("그린 얼굴 [코드로 만든 표본: NumPy로 그린 얼굴")


def test_test_images_are_taken_once(tmp_path):
    data = faces.load("sample", tmp_path, faces=80)
    assert not data.test_is_taken
    data.take_test()
    assert data.test_is_taken
    with pytest.raises(RuntimeError, match="한 번만"):
        data.take_test()


def test_a_small_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="검증 사진이 9장"):
        faces.load("sample", tmp_path, faces=79)
    for k, part in enumerate(("학습", "검증", "테스트")):
        sizes = [9 if i == k else 10 for i in range(3)]
        arrays = [a for n in sizes for a in faces.draw_faces(n, 0)]
        with pytest.raises(UserError, match=f"{part} 사진이 9장"):
            FaceDataset("시험", "sample", "시험", Faces(*arrays, np.array(ATTRIBUTES)))


def test_nothing_is_downloaded(tmp_path, capsys):
    data = faces.load("auto", tmp_path / "없음", faces=80)
    assert data.provenance.source == "sample" and "비상업적 연구용" in capsys.readouterr().out
    faces.load("auto", tmp_path, offline=True, faces=80)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="원본 데이터가 없습니다"):
        faces.load("original", tmp_path, offline=True)


# -- CelebA ----------------------------------------------------------------------------
def write_photo(path: Path, value: int, width: int = 20, height: int = 24, grey=False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width) if grey else (height, width, 3), value, np.uint8)
    _, content = cv2.imencode(path.suffix, image)
    path.write_bytes(content.tobytes())
    return path


def write_celeba(root: Path, count: int = 90) -> np.ndarray:
    """사진 k의 밝기는 k이고, 나눔은 섞여 있습니다. 속성 (count, 5)를 돌려줍니다."""
    labels = np.random.default_rng(0).integers(0, 2, (count, len(NAMES)))
    labels[:, NAMES.index("Always")], labels[:, NAMES.index("Never")] = 1, 0
    head, rows, partition = [str(count), " ".join(NAMES)], [], []
    for k, row in enumerate(labels):
        name = f"{k + 1:06}.jpg"
        write_photo(root / "img_align_celeba" / name, k)
        rows.append(f"{name} " + " ".join(f"{2 * value - 1:2}" for value in row))
        partition.append(f"{name} {(0, 0, 1, 2)[k % 4]}")
    for name, lines in zip(faces.CELEBA_FILES, (head + rows, partition), strict=True):
        (root / name).write_text("\n".join(lines) + "\n")
    return labels


def brightness(images: torch.Tensor) -> list[int]:
    return images.float().mean(dim=(1, 2, 3)).round().int().tolist()


@pytest.mark.parametrize("inside", [True, False])
def test_celeba_is_read_with_its_split_and_attributes(inside, tmp_path):
    labels = write_celeba(tmp_path / "celeba")
    folder = tmp_path if inside else tmp_path / "celeba"
    data = faces.load("original", folder, offline=True)
    assert data.provenance.name == "CelebA" and data.provenance.source == "original"
    assert data.attribute_names == ("웃음", "Male", "안경")  # 값이 하나뿐인 속성은 뺌
    x, y = data.take_test()
    parts = ((data.x_train, data.y_train, (0, 1)), (data.x_val, data.y_val, (2,)), (x, y, (3,)))
    for images, answers, remainders in parts:
        numbers = [k for k in range(90) if k % 4 in remainders]
        assert brightness(images) == numbers
        assert np.array_equal(answers.numpy(), labels[numbers][:, [0, 1, 3]])


def test_celeba_is_cut_to_the_asked_size(tmp_path):
    write_celeba(tmp_path, 170)
    data = faces.load("original", tmp_path, offline=True, faces=80)
    assert [len(part) for part in (data.x_train, data.x_val, data.take_test()[0])] == [80, 10, 20]
    assert brightness(data.x_train[:3]) == [0, 1, 4]  # 앞에서부터


def test_missing_and_broken_celeba_photos_are_left_out(tmp_path, capsys):
    labels = write_celeba(tmp_path)
    (tmp_path / "img_align_celeba/000001.jpg").unlink()
    (tmp_path / "img_align_celeba/000002.jpg").write_bytes(b"")
    data = faces.load("original", tmp_path, offline=True)
    assert brightness(data.x_train)[:2] == [4, 5]
    assert data.y_train[0].tolist() == labels[4, [0, 1, 3]].tolist()
    assert "읽을 수 없는 사진 1장을 뺐습니다" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list_attr_celeba.txt", ""),
        ("list_attr_celeba.txt", "90\nSmiling Male\n000001.jpg 1 1\n"),
        ("list_attr_celeba.txt", "90\nSmiling Male\n" + "000001.jpg\n" * 90),
        ("list_eval_partition.txt", "000001.jpg\n"),
        ("list_eval_partition.txt", "000001.jpg 7\n"),
    ],
)
def test_broken_celeba_lists_are_refused(name, content, tmp_path):
    write_celeba(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="CelebA의 목록"):
        faces.load("original", tmp_path, offline=True)


def test_celeba_without_its_lists_is_a_folder_of_photos(tmp_path, capsys):
    write_celeba(tmp_path)
    (tmp_path / "list_attr_celeba.txt").unlink()
    data = faces.load("original", tmp_path, offline=True)
    assert data.attribute_names[0] == "성분 1" and data.provenance.num_train == 62
    assert "list_attr_celeba.txt 파일이 없습니다" in capsys.readouterr().out


# -- 사진이 든 폴더 --------------------------------------------------------------------
def write_album(folder: Path, count: int, form: str = "{}.png") -> list[Path]:
    """크기와 밝기가 저마다 다른 회색조 사진입니다."""
    rng, found = np.random.default_rng(0), []
    for k in range(count):
        width, height = rng.integers(1, 100, 2).tolist()
        found.append(write_photo(folder / form.format(k), k % 250, width, height, grey=True))
    return found


def test_a_folder_of_grey_photos(tmp_path):
    folder = tmp_path / "가족 사진"
    write_album(folder, 240)
    for k, (width, height) in enumerate(((1, 1), (1, 90), (90, 1), (3000, 2))):
        write_photo(folder / f"좁은 {k}.PNG", 250 + k, width, height)
    data = faces.load("original", folder, offline=True)
    assert data.provenance.name == "가족 사진" and "속성은 주성분의 크고 작음" in str(
        data.provenance
    )
    assert data.attribute_names == tuple(f"성분 {k}" for k in range(1, 9))
    x, y = data.take_test()
    assert [len(part) for part in (data.x_train, data.x_val, x)] == [172, 24, 48]
    assert y.shape == (48, 8) and set(y.unique().tolist()) == {0, 1}
    assert (data.y_train.float().mean(dim=0)[:1] - 0.5).abs() <= 0.02  # 중앙값으로 나눔
    assert (x[..., 0] == x[..., 2]).all()


def test_photos_one_level_below(tmp_path):
    write_album(tmp_path, 80, "s{0}/{0}.pgm")
    write_album(tmp_path, 3, "s1/깊은 곳/{}.png")
    data = faces.load("original", tmp_path, offline=True, faces=80)
    assert data.provenance.num_train == 54
    write_album(tmp_path, 70)  # 바로 아래에 있으면 그것만
    assert faces.load("original", tmp_path, offline=True, faces=80).provenance.num_train == 46


@pytest.mark.parametrize(("count", "sizes"), [(60, (38, 10, 12)), (110, (77, 11, 22))])
def test_the_split_of_a_folder(count, sizes, tmp_path):
    write_album(tmp_path, count, "{:03}.png")  # 이름의 순서가 밝기의 순서
    data = faces.load("original", tmp_path, offline=True)
    test = data.take_test()[0]
    assert tuple(map(len, (data.x_train, data.x_val, test))) == sizes
    together = shade(torch.cat([data.x_train, data.x_val, test]))
    assert sorted(together) == list(range(count))
    assert shade(data.x_train) != sorted(shade(data.x_train))


def shade(images: torch.Tensor) -> list[int]:
    return images[:, 32, 32, 0].tolist()


def test_a_large_folder_is_cut(tmp_path):
    write_album(tmp_path, 200, "{:03}.png")
    data = faces.load("original", tmp_path, offline=True, faces=80)
    assert data.provenance.num_train + data.provenance.num_val + data.provenance.num_test == 110
    assert max(shade(data.x_train)) > 150  # 섞은 뒤에 자름


@pytest.mark.parametrize("count", [1, 59])
def test_too_few_photos_are_refused(count, tmp_path):
    write_album(tmp_path, count)
    with pytest.raises(UserError, match=f"사진이 {count}장입니다.*60장 이상"):
        faces.load("auto", tmp_path)


def test_few_photos_below_are_not_an_album(tmp_path):
    write_album(tmp_path, 59, "아래/{}.png")
    assert faces.load("auto", tmp_path, faces=80).provenance.source == "sample"


def test_broken_photos_are_counted(tmp_path, capsys):
    paths = write_album(tmp_path, 63)
    for path, content in zip(paths, (b"", b"text", paths[2].read_bytes()[:20]), strict=False):
        path.write_bytes(content)
    (tmp_path / "폴더.png").mkdir()
    data = faces.load("original", tmp_path, offline=True)
    assert data.provenance.num_train == 38
    assert "읽을 수 없는 사진 3장을 뺐습니다" in capsys.readouterr().out
    paths[3].write_bytes(b"")
    with pytest.raises(UserError, match="사진이 59장입니다"):
        faces.load("original", tmp_path, offline=True)


# -- 주성분의 부호 ---------------------------------------------------------------------
@pytest.fixture(scope="module")
def mixed(drawn):
    return drawn[0], np.arange(150) % 3 > 0  # 셋에 둘이 학습


def test_component_signs_use_the_training_images_only(mixed):
    images, is_train = mixed
    signs, changed = faces.component_signs(images, is_train), images.copy()
    changed[~is_train] = 255 - changed[~is_train]
    again = faces.component_signs(changed, is_train)
    assert signs.shape == (150, 8) and signs.dtype == np.uint8
    assert np.array_equal(signs[is_train], again[is_train])
    assert not np.array_equal(signs[~is_train], again[~is_train])
    assert (signs[is_train].mean(axis=0) == 0.5).all()


def test_component_signs_follow_the_definition(mixed):
    images, is_train = mixed
    small = np.stack([cv2.resize(one, (16, 16), interpolation=cv2.INTER_AREA) for one in images])
    small = torch.from_numpy(small.reshape(150, -1)).double()
    train = small[is_train] - small[is_train].mean(dim=0)
    _, vectors = torch.linalg.eigh(train @ train.T)  # 왜: (100, 100)이 (768, 768)보다 빠름
    components = train.T @ vectors.flip(1)[:, :8]
    values = ((small - small[is_train].mean(dim=0)) @ components).numpy()
    expected = values > np.median(values[is_train], axis=0)
    agree = (faces.component_signs(images, is_train) == expected).mean(axis=0)
    assert (np.maximum(agree, 1 - agree) > 0.98).all()  # 부호는 뒤집힐 수 있음


# -- 남겨 둔 배열 ----------------------------------------------------------------------
def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("faces-*"))


def forbid(*_):
    raise AssertionError("다시 만들면 안 됩니다")


def test_the_second_run_reads_the_cache(tmp_path, monkeypatch):
    write_album(tmp_path, 90)
    first = faces.load("original", tmp_path, offline=True)
    assert [path.suffix for path in caches(tmp_path)] == [".npz"]
    with monkeypatch.context() as patch:
        patch.setattr(faces, "decode", forbid)
        again = faces.load("original", tmp_path, offline=True)
    assert again.provenance == first.provenance and torch.equal(again.y_val, first.y_val)
    assert again.attribute_names == first.attribute_names
    faces.load("original", tmp_path, offline=True, faces=50)
    write_album(tmp_path, 1, "새 사진 {}.png")
    assert faces.load("original", tmp_path, offline=True).provenance != first.provenance
    assert len(caches(tmp_path)) == 3


def test_celeba_is_cached_too(tmp_path, monkeypatch):
    write_celeba(tmp_path / "celeba")
    first = faces.load("original", tmp_path, offline=True)
    monkeypatch.setattr(faces, "decode", forbid)
    again = faces.load("original", tmp_path, offline=True)
    assert again.provenance == first.provenance and again.attribute_names == first.attribute_names
    assert len(caches(tmp_path)) == 1


def small_faces() -> Faces:
    return Faces(*(array for _ in range(3) for array in (IMAGE, LABEL)), np.array(["속성"]))


def npz(**arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"zip", npz(**small_faces()._asdict())[:5000], npz(x_train=[1])]
)
def test_a_damaged_cache_is_made_again(content, tmp_path, capsys):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    made = faces.cached(path, small_faces)
    assert np.array_equal(made.x_train, small_faces().x_train)
    assert "손상되어 다시 만듭니다" in capsys.readouterr().out
    assert np.array_equal(faces.cached(path, forbid).x_test, made.x_test)
    assert capsys.readouterr().out == ""


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_cache_with_changed_bytes_is_never_a_traceback(data):
    content = bytearray(npz(**small_faces()._asdict()))
    near = st.integers(0, 200) | st.integers(len(content) - 700, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(near)] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(content)
        assert isinstance(faces.cached(path, small_faces), Faces)


def test_objects_are_not_unpickled(tmp_path, capsys):
    path = tmp_path / "a.npz"
    path.write_bytes(npz(**(small_faces()._asdict() | {"names": np.array([{}], object)})))
    faces.cached(path, small_faces)
    assert "손상되어" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_still_used(tmp_path, monkeypatch, capsys):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied", str(path))

    write_album(tmp_path, 60)
    monkeypatch.setattr(faces, "write_atomically", refuse)
    assert faces.load("original", tmp_path, offline=True).provenance.num_train == 38
    assert not caches(tmp_path) and capsys.readouterr().out == ""


def test_many_drawn_faces_are_kept(tmp_path, monkeypatch):
    drawing = faces.draw_faces
    monkeypatch.setattr(faces, "draw_faces", lambda count, seed: drawing(min(count, 20), seed))
    first = faces.load("sample", tmp_path / "새 폴더", faces=2001)
    name = f"faces-drawn-2001-v{faces.VERSION}.npz"
    assert [path.name for path in caches(tmp_path / "새 폴더")] == [name]
    monkeypatch.setattr(faces, "draw_faces", forbid)
    again = faces.load("sample", tmp_path / "새 폴더", faces=2001)
    assert again.provenance == first.provenance


def test_shrinking_averages_the_cells():
    whole = faces.load("sample", Path("없음"), True, faces=80)
    small = faces.load("sample", Path("없음"), True, faces=80, size=32)
    assert small.x_train.shape == (80, 32, 32, 3) and small.x_train.dtype == torch.uint8
    mean = whole.x_val.double().view(-1, 32, 2, 32, 2, 3).mean(dim=(2, 4))
    assert (small.x_val.double() - mean).abs().max() <= 0.5
    assert small.provenance == whole.provenance and small.take_test()[0].shape[1:] == (32, 32, 3)
    assert not Path("없음").exists()


def test_copies_of_a_photo_are_left_out(tmp_path, capsys):
    for path in write_album(tmp_path, 70, "{:03}.png"):
        (tmp_path / f"{path.stem} (1).png").write_bytes(path.read_bytes())
    data = faces.load("original", tmp_path, offline=True)
    together = torch.cat([data.x_train, data.x_val, data.take_test()[0]])
    assert sorted(shade(together)) == list(range(70))
    assert "내용이 같은 사진 70장" in capsys.readouterr().out


def test_a_folder_of_one_photo_is_refused(tmp_path):
    photo = write_album(tmp_path, 1)[0].read_bytes()
    for k in range(80):
        (tmp_path / f"copy {k}.png").write_bytes(photo)
    with pytest.raises(UserError, match="사진이 1장입니다"):
        faces.load("original", tmp_path, offline=True)


def test_a_changed_photo_of_the_same_size_is_read_again(tmp_path):
    paths = write_album(tmp_path, 62, "{:03}.png")
    before = faces.load("original", tmp_path, offline=True)
    old = paths[0].stat()
    content = bytearray(paths[1].read_bytes())
    paths[0].write_bytes(bytes(content) + bytes(max(0, old.st_size - len(content))))
    after = faces.load("original", tmp_path, offline=True)
    assert after.provenance.num_train != before.provenance.num_train or not torch.equal(
        after.x_train, before.x_train
    )
