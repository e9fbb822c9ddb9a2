"""강의의 명령행: `Config`의 칸이 옵션이 되고, 도움말과 오류가 한국어로 나옵니다."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from utils import device as devices

DATA_SOURCES = ("auto", "original", "sample")


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    multiple: int | None = None,
    choices: Iterable[str] = (),
) -> Any:
    """`Config`의 한 칸입니다. 기본값, 한국어 설명, 허용 범위가 그대로 명령행 옵션이 됩니다.

    Args:
        low: 이 값 이상이어야 합니다.
        above: 이 값보다 커야 합니다.
        below: 이 값보다 작아야 합니다.
        multiple: 이 값의 배수여야 합니다.
        choices: 이 가운데 하나여야 합니다.
    """
    limits = {"low": low, "above": above, "below": below, "multiple": multiple}
    limits["choices"] = tuple(choices)
    metadata = {"help": help, "limits": limits, "changes_training": True}
    return dataclasses.field(default=default, metadata=metadata)


def option(default: Any, help: str, *, metavar: str = "FILE") -> Any:
    """`Config`의 한 칸이지만 학습 결과를 바꾸지 않는 것(예: 예측할 파일)입니다."""
    metadata = {"help": help, "limits": {}, "changes_training": False, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def _parse_value(text: str, kind: type, limits: dict[str, Any]) -> Any:
    """글자로 받은 값을 `kind`로 바꾸고 범위를 확인합니다."""
    choices = limits.get("choices")
    if choices:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{', '.join(choices)} 가운데 하나를 주세요")
        return text
    if kind not in (int, float):
        if not text.strip():
            raise argparse.ArgumentTypeError("빈 값 대신 값을 하나 주세요")
        return kind(text)
    word = "정수" if kind is int else "수"
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}를 주세요") from None
    rules = [
        (math.isfinite(value), f"유한한 {word}"),
        (limits.get("low") is None or value >= limits["low"], f"{limits.get('low')} 이상의 {word}"),
        (
            limits.get("above") is None or value > limits["above"],
            f"{limits.get('above')}보다 큰 {word}",
        ),
        (
            limits.get("below") is None or value < limits["below"],
            f"{limits.get('below')}보다 작은 {word}",
        ),
        (
            not limits.get("multiple") or value % limits["multiple"] == 0,
            f"{limits.get('multiple')}의 배수",
        ),
    ]
    for holds, meaning in rules:
        if not holds:
            raise argparse.ArgumentTypeError(f"{meaning}를 주세요")
    return value


class _KoreanFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)

    def add_usage(self, usage, actions, groups, prefix=None) -> None:
        super().add_usage(usage, actions, groups, "사용법: ")


class KoreanParser(argparse.ArgumentParser):
    """오류를 한국어 한 문장으로 알리고 종료 상태 2로 끝내는 argparse입니다."""

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """옵션을 읽습니다. 모르는 옵션이면 가장 비슷한 이름을 알려 주고 끝냅니다."""
        try:
            args, unknown = self.parse_known_args(argv)
        except argparse.ArgumentError as error:
            self._stop(error)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            hint = f" 혹시 {near[0]} 입니까?" if near else ""
            self.error(f"알 수 없는 옵션 {unknown[0]} 입니다.{hint}")
        return args

    def _stop(self, error: argparse.ArgumentError) -> NoReturn:
        reason = error.message if _has_hangul(error.message) else "값을 하나 주세요"
        self.error(f"{error.argument_name}: {reason}.")

    def error(self, message: str) -> NoReturn:
        """오류 한 문장을 출력하고 종료 상태 2로 끝냅니다."""
        print(f"오류: {message} 모든 옵션은 --help로 볼 수 있습니다.", file=sys.stderr)
        raise SystemExit(2)


def _has_hangul(text: str) -> bool:
    return any("가" <= letter <= "힣" for letter in text)


def _common_flags(parser: argparse.ArgumentParser) -> None:
    def flag(name: str, help: str, **kwargs: Any) -> None:
        group.add_argument(name, help=help, **kwargs)

    def choice(names: tuple[str, ...]) -> dict[str, Any]:
        parse = functools.partial(_parse_value, kind=str, limits={"choices": names})
        return {"type": parse, "metavar": "{" + ",".join(names) + "}", "default": "auto"}

    seed_type = functools.partial(_parse_value, kind=int, limits={"low": 0, "below": 2**32})
    data_dir = os.environ.get("DL_TUTORIAL_DATA", "data")
    group = parser.add_argument_group("공통 옵션")
    group.add_argument("-h", "--help", action="help", help="이 도움말을 보여 주고 끝냅니다")
    flag("--quick", "작은 설정으로 전체를 빠르게 확인합니다 (네트워크 없음)", action="store_true")
    flag("--device", "연산 장치 (기본 auto: CUDA, MPS, CPU 순서)", **choice(devices.DEVICE_NAMES))
    flag("--data", "데이터 출처 (기본 auto: 원본이 없으면 패키지나 표본)", **choice(DATA_SOURCES))
    flag("--data-dir", f"데이터 폴더 (기본 {data_dir})", type=Path, default=data_dir, metavar="DIR")
    flag("--output-dir", "결과 폴더 (기본 outputs)", type=Path, default="outputs", metavar="DIR")
    flag("--seed", "난수 시드 (기본 0)", type=seed_type, default=0, metavar="N")
    flag("--resume", "저장된 체크포인트에서 학습을 이어 갑니다", action="store_true")
    flag("--no-amp", "bfloat16을 쓰지 않고 float32로 계산합니다", action="store_true")
    flag("--show", "그림을 저장하면서 창으로도 엽니다", action="store_true")
    flag("--list", "절 목록을 보여 주고 끝냅니다", action="store_true")
    flag("--doctor", "이 컴퓨터에서 실행할 수 있는지 살피고 끝냅니다", action="store_true")
    text = functools.partial(_parse_value, kind=str, limits={})
    flag("--only", "이 절만 실행합니다 (예: 1.1,1.3)", type=text, metavar="절[,절]")
    flag("--debug", "오류가 나면 자세한 추적을 보여 줍니다", action="store_true")


def _config_flags(
    parser: argparse.ArgumentParser, config: Any, quick: Any
) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("이 강의의 옵션")
    for field in dataclasses.fields(config):
        default, quick_default = getattr(config, field.name), getattr(quick, field.name)
        kind = str if default is None else type(default)
        limits = field.metadata["limits"]
        shown = f" (기본 {default}" if default not in (None, "") else ""
        if shown:
            shown += f", --quick {quick_default})" if quick_default != default else ")"
        if limits.get("choices"):
            metavar = "{" + ",".join(limits["choices"]) + "}"
        else:
            metavar = field.metadata.get("metavar", "N" if kind is int else "X")
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            type=functools.partial(_parse_value, kind=kind, limits=limits),
            default=None,
            metavar=metavar,
            help=field.metadata["help"] + shown,
        )
    return group


def _preset_flag(group: argparse._ArgumentGroup) -> None:
    names = ("auto", "cpu", "gpu")
    parse = functools.partial(_parse_value, kind=str, limits={"choices": names})
    text = "설정 묶음 (기본 auto: CUDA이면 gpu). 따로 준 옵션이 먼저입니다"
    group.add_argument(
        "--preset", type=parse, metavar="{" + ",".join(names) + "}", default="auto", help=text
    )


def build_parser(
    name: str, title: str, config: Any, quick: Any, *, presets: bool = False
) -> KoreanParser:
    """강의 `name`의 명령행을 만듭니다. `config`의 칸마다 옵션이 하나씩 생깁니다.

    Args:
        quick: `--quick`의 설정. 도움말에 함께 적습니다.
        presets: CUDA용 설정이 따로 있어 `--preset`을 두면 True.
    """
    parser = KoreanParser(
        prog=f"python {name}.py",
        description=title,
        formatter_class=_KoreanFormatter,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    _common_flags(parser)
    group = _config_flags(parser, config, quick)
    if presets:
        _preset_flag(group)
    return parser
