"""사진과 동영상에서 찾은 것을 그리고, 동영상을 한 장씩 읽고 씁니다(OpenCV)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from utils import visualization as plot
from utils.data_utils import read_image
from utils.datasets.detection import image_files
from utils.errors import UserError
from utils.lesson import printable


def is_webcam(source: str) -> bool:
    """숫자이면 웹캠의 번호입니다."""
    return source.isascii() and source.isdigit()


def frame_rate(source: str) -> float:
    """동영상 파일의 1초 장수입니다. 웹캠이거나 적혀 있지 않으면 25입니다."""
    if is_webcam(source):
        return 25.0
    capture = cv2.VideoCapture(source)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return rate if 1 <= rate <= 240 else 25.0


def frames(source: str) -> Iterator[np.ndarray]:
    """동영상 파일이나 웹캠(숫자로 된 번호)에서 RGB (H, W, 3)를 한 장씩 냅니다.

    웹캠은 Ctrl+C로 멈출 때까지 읽습니다.

    Raises:
        UserError: 열 수 없거나 한 장도 없을 때.
    """
    webcam = is_webcam(source)
    if not webcam and not Path(source).is_file():
        raise UserError(f"{source} 파일이 없습니다. 동영상의 경로를 확인하세요.")
    capture, count = cv2.VideoCapture(int(source) if webcam else source), 0
    try:
        while True:
            good, frame = capture.read()
            if not good:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not count:
        what = f"{source}번 웹캠을" if webcam else f"{source} 파일을 동영상으로"
        raise UserError(f"{what} 읽을 수 없습니다. MP4 파일이나 연결된 웹캠의 번호를 주세요.")


class Writer:
    """mp4 파일에 RGB (H, W, 3)를 한 장씩 씁니다. 크기는 첫 장에서 정합니다.

    다 쓴 뒤에 이름을 바꾸므로 도중에 오류가 나도 반쯤 쓴 파일이 남지 않습니다. Ctrl+C로 멈추면
    그때까지 쓴 것을 남깁니다.
    """

    def __init__(self, path: Path, rate: float = 25.0) -> None:
        self.path, self.rate, self.writer = path, rate, None
        self.part = path.with_name(path.stem + ".part.mp4")

    def __enter__(self) -> Writer:
        return self

    def write(self, frame: np.ndarray) -> None:
        """한 장을 씁니다. 크기가 첫 장과 다르면 맞춥니다."""
        if self.writer is None:
            height, width = (side // 2 * 2 for side in frame.shape[:2])  # mp4는 짝수여야 함
            self.size = width, height
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.part), code, self.rate, (width, height))
            if not self.writer.isOpened():
                raise UserError(f"{self.path}에 동영상을 쓸 수 없습니다. 폴더와 이름을 확인하세요.")
        if frame.shape[1::-1] != self.size:
            frame = cv2.resize(frame, self.size)
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.writer is None:
            return
        self.writer.release()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)


def annotate(source: str, target: Path, look: Callable, names: Sequence[str]) -> int:
    """동영상의 장마다 찾은 것을 그린 동영상을 쓰고, 장수를 돌려줍니다. 인자는 아래와 같습니다."""
    count = 0
    try:
        with Writer(target, frame_rate(source)) as writer:
            for frame in tqdm(frames(source), leave=False, disable=None):
                writer.write(plot.draw_boxes(frame, *look(frame), names=names))
                count += 1
    except KeyboardInterrupt:
        if not (count and is_webcam(source)):  # 왜: 웹캠은 Ctrl+C로 끝내는 것이 정상임
            raise
    return count


def answer(run: Any, look: Callable, names: Sequence[str]) -> dict[str, Any]:
    """`--predict`의 사진이나 `--video`의 동영상에서 찾습니다. 인자는 `show_photos`와 같습니다."""
    if run.config.predict:
        return show_photos(run, Path(run.config.predict), look, names)
    target = Path(run.config.out) if run.config.out else run.path("video.mp4")
    count = annotate(run.config.video, target, look, names)
    print(f"  {target}에 {count}장을 저장했습니다.")
    return {"frames": count}


def show_photos(run: Any, path: Path, look: Callable, names: Sequence[str]) -> dict[str, list]:
    """사진 한 장이나 폴더의 사진마다 찾은 것을 출력하고 그립니다.

    Args:
        look: 사진 (H, W, 3)에서 (상자, 클래스, 점수)를 찾는 함수.
        names: 클래스 번호마다의 이름.
    """
    results, images = {}, []
    for file in image_files(path):
        image = read_image(file, color=True)
        boxes, labels, scores = look(image)
        boxes = boxes.clip(0, np.tile(image.shape[1::-1], 2))  # 사진 밖으로 나간 것은 자름
        results[str(file)] = [names[k] for k in labels]
        print(f"  {printable(str(file))}: 물체 {len(labels)}개")
        for box, label, score in zip(boxes, labels, scores, strict=True):
            print(f"    {printable(names[label])} {score:.2f} {box.round().astype(int).tolist()}")
        images.append(plot.draw_boxes(image, boxes, labels, scores, names=names))
    titles = [plot.drawable(Path(file).name[:24]) for file in results]
    columns = min(3, len(images))
    run.figure(plot.image_grid(images[:12], titles, columns, "내 사진", side=4.0), "predict")
    return results


def write_pan(image: np.ndarray, path: Path, count: int) -> None:
    """사진 (H, W, 3) 위를 움직이며 조금씩 확대하는 `count`장의 동영상을 만듭니다."""
    height, width = image.shape[:2]
    with Writer(path) as writer:
        for k in range(count):
            zoom = 1 + 0.3 * k / count
            shift = (1 - zoom) * np.array([width, height]) * (0.5 + 0.4 * np.sin(k / 10))
            matrix = np.column_stack([np.diag([zoom, zoom]), shift])
            writer.write(cv2.warpAffine(image, matrix, (width, height)))
