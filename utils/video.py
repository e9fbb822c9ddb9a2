"""동영상을 한 장씩 읽고 씁니다(OpenCV)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from utils.errors import UserError


def frames(source: str) -> Iterator[np.ndarray]:
    """동영상 파일이나 웹캠(숫자로 된 번호)에서 RGB (H, W, 3)를 한 장씩 냅니다.

    웹캠은 Ctrl+C로 멈출 때까지 읽습니다.

    Raises:
        UserError: 열 수 없거나 한 장도 없을 때.
    """
    if not source.isdigit() and not Path(source).is_file():
        raise UserError(f"{source} 파일이 없습니다. 동영상의 경로를 확인하세요.")
    capture, count = cv2.VideoCapture(int(source) if source.isdigit() else source), 0
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
        what = f"{source}번 웹캠을" if source.isdigit() else f"{source}을(를) 동영상으로"
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
        if self.writer is None:
            height, width = frame.shape[:2]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.part), code, self.rate, (width, height))
            if not self.writer.isOpened():
                raise UserError(f"{self.path}에 동영상을 쓸 수 없습니다. 폴더와 이름을 확인하세요.")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.writer is None:
            return
        self.writer.release()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.part.replace(self.path)
        else:
            self.part.unlink(missing_ok=True)


def write_pan(image: np.ndarray, path: Path, count: int) -> None:
    """사진 (H, W, 3) 위를 움직이며 조금씩 확대하는 `count`장의 동영상을 만듭니다."""
    height, width = image.shape[:2]
    with Writer(path) as writer:
        for k in range(count):
            zoom = 1 + 0.3 * k / count
            shift = (1 - zoom) * np.array([width, height]) * (0.5 + 0.4 * np.sin(k / 10))
            matrix = np.column_stack([np.diag([zoom, zoom]), shift])
            writer.write(cv2.warpAffine(image, matrix, (width, height)))
