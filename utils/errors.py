"""학습자가 스스로 고칠 수 있는 오류를 나타냅니다."""

from __future__ import annotations

import errno


class UserError(Exception):
    """무엇이 잘못되었고 무엇을 하면 되는지 한국어 한 문장으로 담는 오류입니다.

    `lesson.run_main`이 이 문장만 출력하고 종료 상태 1로 끝냅니다.
    """


def explain_os_error(error: OSError) -> str:
    """파일 오류의 원인을 한국어로 옮깁니다."""
    reasons = {
        errno.ENOSPC: "디스크에 남은 공간이 없습니다",
        errno.EDQUOT: "디스크 할당량을 다 썼습니다",
        errno.EACCES: "권한이 없습니다",
        errno.EPERM: "권한이 없습니다",
        errno.EROFS: "읽기 전용입니다",
        errno.ENOTDIR: "폴더가 아니라 파일입니다",
        errno.EEXIST: "같은 이름의 파일이 있습니다",
        errno.ENOENT: "파일이 없습니다",
        errno.EISDIR: "파일이 아니라 폴더입니다",
    }
    reason = reasons.get(error.errno, error.strerror or str(error))
    return f"{error.filename}: {reason}" if error.filename else reason
