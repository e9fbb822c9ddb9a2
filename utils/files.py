"""파일을 쓰다가 끊겨도 반쯤 쓰인 파일이 남지 않게 합니다."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """옆의 `.part` 파일에 모두 쓴 뒤 이름을 바꿉니다. 실패하면 원래 파일이 그대로 남습니다.

    왜: 이름 바꾸기는 한 번에 일어나므로, 전원이 꺼져도 옛 파일이나 새 파일 가운데 하나만 남습니다.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(path)  # 왜: 쓰다가 공간이 모자란 오류에는 이름이 없음
        raise
