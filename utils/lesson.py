"""강의 하나를 프로그램으로 실행하는 데 필요한 것: 절 목록, 실행 기록(`Run`), 오류 처리.

강의 파일은 `Config`와 절 함수만 적습니다. 어떤 옵션이 있는지, 무엇을 확인했고 무엇을 주장했는지는
여기에서 한 가지 방식으로 다루므로 여덟 강의가 같은 말로 움직입니다.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils import command_line, distributed, expected
from utils import device as devices
from utils.command_line import KoreanParser
from utils.distributed import Team
from utils.errors import UserError, explain_os_error
from utils.files import write_atomically
from utils.model_utils import Checkpoint
from utils.visualization import save_figure

EPOCH_LABELS = {  # 에폭마다 출력할 때의 이름. 여기 없으면 적힌 이름 그대로
    "train_loss": "학습 손실",
    "train_accuracy": "학습 정확도",
    "val_loss": "검증 손실",
    "val_accuracy": "검증 정확도",
}
ANSWERS = ("predict", "video", "make", "translate")  # 학습하지 않고 답하는 옵션
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
WRITE_FAILED = ("PytorchStreamWriter", "iostream error", "unexpected pos")  # torch.save
_active_run: Run | None = None  # 중단되었을 때 무엇이 저장되어 있는지 run_main이 알기 위한 것


class CheckFailed(AssertionError):
    """직접 만든 것과 표준 구현이 다를 때 납니다."""


# ---------------------------------------------------------------------------------------------
# 강의와 절
# ---------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Section:
    """강의의 한 절입니다.

    `needs`는 먼저 실행할 절의 번호입니다. `shared`이면 torchrun의 프로세스들이 함께 학습합니다.
    """

    number: str
    title: str
    needs: tuple[str, ...]
    shared: bool


class Lesson:
    """강의 하나: 제목, 설정, 절 목록.

    Args:
        file: 강의 파일(`__file__`). 파일 이름이 결과 폴더의 이름이 됩니다.
        header: 강의의 머리말(`__doc__`).
        config: 전체 실행의 설정.
        quick: `--quick`의 설정.
        gpu: CUDA에서 쓸 더 큰 설정. 있으면 `--preset`으로 고를 수 있습니다.
        mixed: bfloat16으로 학습할 장치의 종류. 다른 장치에서는 float32로 학습합니다.
    """

    def __init__(
        self,
        file: str,
        header: str,
        config: Any,
        quick: Any,
        gpu: Any | None = None,
        mixed: tuple[str, ...] = ("cuda", "cpu"),
    ) -> None:
        self.name = Path(file).stem
        self.title = header.strip().splitlines()[0].lstrip("# ")
        self.config, self.quick, self.gpu, self.mixed = config, quick, gpu, mixed
        self.sections: dict[str, Section] = {}

    def section(
        self, number: str, title: str, needs: tuple[str, ...] = (), shared: bool = False
    ) -> Callable:
        """절 함수에 붙이는 표시입니다. 제목을 출력하고, 난수를 다시 맞추고, 시간을 잽니다.

        왜: 절마다 난수를 다시 맞추므로 `--only`로 한 절만 실행해도 수치가 같습니다.
        """

        def decorate(function: Callable) -> Callable:
            self.sections[number] = Section(number, title, needs, shared)

            @functools.wraps(function)
            def wrapper(run: Run, *args: Any, **kwargs: Any) -> Any:
                if number not in run.selected:
                    return None
                print(f"\n== {number} {title} ==", flush=True)
                devices.seed_everything(run.seed)
                start = time.perf_counter()
                run.is_sharing = shared and run.team.size > 1
                run.team.use_threads(run.is_sharing)
                try:
                    result = function(run, *args, **kwargs)
                finally:
                    run.is_sharing = False
                    devices.give_back_memory()
                run.seconds[number] = round(time.perf_counter() - start, 2)
                return result

            return wrapper

        return decorate

    def start(self, argv: list[str] | None = None) -> Run:
        """명령행을 읽어 `Run`을 만듭니다. `--help`, `--list`, `--doctor`는 여기에서 끝납니다."""
        parser = command_line.build_parser(
            self.name, self.title, self.config, self.quick, presets=self.gpu is not None
        )
        args = parser.parse(argv)
        if args.list or args.doctor:
            raise SystemExit(self._tell(args) if distributed.is_first() else 0)
        given = self._given(args)
        config = dataclasses.replace(self._base_config(args), **given)
        selected = self._select(parser, args.only)
        team = self._join(args, given)
        if team.rank > 0:
            selected &= self._with_needs(self._shared(), parser)
        run = Run(self, args, config, selected, team)
        run.is_default = run.settings() == run.settings(self.quick if args.quick else self.config)
        run.is_changed = run.settings() != run.settings(self._base_config(args))
        return run

    def _tell(self, args: argparse.Namespace) -> int:
        """`--list`나 `--doctor`의 답을 출력하고 종료 상태를 돌려줍니다."""
        if args.list:
            print(self.title)
            for section in self.sections.values():
                print(f"  {section.number}  {section.title}")
            return 0
        from utils import doctor  # 왜: 데이터셋을 모두 불러오므로 쓸 때 부름

        return doctor.examine(self.name, args.data_dir, args.output_dir)

    def _given(self, args: argparse.Namespace) -> dict[str, Any]:
        """명령행에 준 `Config`의 칸입니다. 파일이면 있는지 봅니다."""
        given = {}
        for field in dataclasses.fields(self.config):
            value = getattr(args, field.name)
            if value is None:
                continue
            if field.metadata.get("metavar") == "FILE" and not Path(value).is_file():
                flag = field.name.replace("_", "-")
                raise UserError(f"--{flag}: {value} 파일이 없습니다. 경로를 확인하세요.")
            given[field.name] = value
        return given

    def _shared(self) -> list[str]:
        return [section.number for section in self.sections.values() if section.shared]

    def _join(self, args: argparse.Namespace, given: dict[str, Any]) -> Team:
        """torchrun이 띄운 다른 프로세스와 만납니다."""
        team = distributed.join(devices.pick_device(args.device))
        if team.size > 1 and not self._shared():
            raise UserError("이 강의는 프로세스 하나로 실행하세요. torchrun 대신 python을 쓰세요.")
        if team.size > 1 and any(name in given for name in ANSWERS):
            raise UserError("학습한 모델을 쓰는 것은 torchrun 대신 python으로 실행하세요.")
        return team

    def _base_config(self, args: argparse.Namespace) -> Any:
        if args.quick:
            return self.quick
        if self.gpu is None or args.preset == "cpu":
            return self.config
        on_cuda = devices.pick_device(args.device).type == "cuda"
        return self.gpu if args.preset == "gpu" or on_cuda else self.config

    def _select(self, parser: KoreanParser, only: str | None) -> set[str]:
        """`--only`로 고른 절과 그 절이 필요로 하는 절의 번호를 돌려줍니다."""
        if not only:
            return set(self.sections)
        return self._with_needs([number.strip() for number in only.split(",")], parser)

    def _with_needs(self, waiting: list[str], parser: KoreanParser) -> set[str]:
        selected = set()
        while waiting:
            number = waiting.pop()
            if number not in self.sections:
                parser.error(
                    f"--only: {number or '빈 번호'} 절은 없습니다. 절 목록은 --list로 봅니다."
                )
            selected.add(number)
            waiting += [n for n in self.sections[number].needs if n not in selected]
        return selected


# ---------------------------------------------------------------------------------------------
# 실행 기록
# ---------------------------------------------------------------------------------------------
class Run:
    """한 번의 실행입니다. 확인, 판정, 기준선, 결과, 그림을 출력하면서 기록합니다.

    강의가 쓰는 값: `config`, `seed`, `quick`, `resume`, `device`, `dtype`(학습에 쓰는 자료형),
    `folder`(결과 폴더), `data_dir`(데이터 폴더).
    """

    def __init__(
        self,
        lesson: Lesson,
        args: argparse.Namespace,
        config: Any,
        selected: set[str],
        team: Team,
    ) -> None:
        global _active_run
        self.lesson, self.config, self.selected = lesson, config, selected
        self.team, self.is_sharing = team, False  # 지금 절에서 여러 프로세스가 함께 학습하면 True
        self.quick, self.seed, self.resume, self.show = (
            args.quick,
            args.seed,
            args.resume,
            args.show,
        )
        self.device = devices.pick_device(args.device)
        mixed = self.device.type in lesson.mixed and devices.supports_bfloat16(self.device)
        self.dtype = torch.bfloat16 if mixed and not args.no_amp else torch.float32
        if team.rank > 0:
            self._temporary = tempfile.TemporaryDirectory()  # 저장하는 것은 0번뿐
            args.output_dir = Path(self._temporary.name)
        self.folder = _make_folder(args.output_dir / lesson.name)
        self.complete = selected == set(lesson.sections)
        self.is_default = False  # 학습을 바꾸는 설정이 모두 기본값이면 True
        self.is_changed = True  # 학습을 바꾸는 옵션을 하나도 주지 않았으면 False
        self.seconds: dict[str, float] = {}
        self.checkpoint_path: Path | None = None
        self.metrics: dict[str, Any] = {"checks": [], "claims": [], "floors": {}, "results": {}}
        self.metrics |= {"figures": [], "data": None}
        self.data_dir = args.data_dir
        self._request = {"source": args.data, "folder": args.data_dir, "offline": args.quick}
        self._datasets: dict[Callable, Any] = {}
        self._start = time.perf_counter()
        _active_run = self
        devices.reuse_memory()
        if not self.show:
            matplotlib.use("Agg")  # 왜: 화면이 없는 서버와 CI에서도 그림을 저장함
        devices.seed_everything(self.seed)
        self._print_opening()

    def _print_opening(self) -> None:
        print(self.lesson.title)
        dtype = str(self.dtype).removeprefix("torch.")
        print(
            f"장치 {devices.device_name(self.device)}, 학습 자료형 {dtype}, 시드 {self.seed}, "
            f"torch {torch.__version__}, 결과 폴더 {self.folder}"
            + f", 프로세스 {self.team.size}개"
            * (self.team.size > 1)
        )
        if self.quick:
            print("빠른 확인(--quick)입니다. 아래 수치는 동작을 확인하는 값이며 성적이 아닙니다.")
            if self._request["source"] == "auto":
                print("데이터 폴더의 원본은 --data original을 함께 줄 때만 씁니다.")

    # -- 데이터 --------------------------------------------------------------------------------
    def data(self, load: Callable, **options: Any) -> Any:
        """데이터를 처음 필요할 때 한 번 읽고, 무엇을 읽었는지 출력하고 기록합니다.

        Args:
            options: 읽는 함수에 더 줄 것(예: 학습자의 파일 이름).
        """
        key = (load, *options.items())
        if key not in self._datasets:
            name = f"{load.__module__}.{load.__qualname__} {options}"
            self.team.wait_for(name)
            dataset = load(**self._request, **options)
            self.team.tell(name)
            self.metrics["data"] = dataclasses.asdict(dataset.provenance)
            print(f"  [데이터] {dataset.provenance}")
            self._datasets[key] = dataset
        return self._datasets[key]

    # -- 확인과 판정 -----------------------------------------------------------------------------
    def check(self, name: str, ours: Any, reference: Any, atol: float = 1e-6) -> None:
        """직접 만든 값과 표준 구현의 값이 같은지 봅니다.

        Raises:
            CheckFailed: 모양이 다르거나 가장 큰 오차가 `atol`을 넘거나 NaN이 있을 때.
        """
        error = largest_error(ours, reference)
        passed = error <= atol
        self.metrics["checks"].append(
            {"name": name, "max_error": error, "atol": atol, "passed": passed}
        )
        print(f"  [확인] {name}: 최대 오차 {error:.1e} (허용 {atol:.0e})")
        if not passed:
            raise CheckFailed(f"{name}: 최대 오차 {error:.3e}가 허용 범위 {atol:.0e}를 넘었습니다")

    def check_with_gradient(
        self,
        name: str,
        ours: Callable,
        reference: Callable,
        *inputs: Tensor,
        atol: float = 1e-9,
        input_names: Sequence[str] = (),
        together: bool = False,
    ) -> None:
        """두 함수의 순전파와, 실수 입력마다의 기울기를 지금 장치에서 비교합니다.

        `together`이면 기울기를 이어 붙여 한 줄로 비교합니다(매개변수가 수십 개일 때).

        왜: 출력의 합을 미분하면 모든 칸의 기울기가 1이라 틀린 역전파도 맞아 보일 수 있습니다.
        그래서 무작위 가중치를 곱한 뒤 미분합니다. 결과가 여럿이면 첫째만 봅니다. MPS에는 float64가
        없어 float32와 느슨한 `atol`을 씁니다.
        """
        dtype, atol = self.exact(atol)
        results = []
        for function in (ours, reference):
            copies = [x.detach().clone().to(self.device) for x in inputs]
            copies = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in copies]
            output = function(*copies)
            if isinstance(output, tuple):  # nn.LSTM과 nn.MultiheadAttention은 결과가 여럿
                output = output[0]
            weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
            (output * weights.to(output)).sum().backward()
            results.append((output, [x.grad for x in copies if x.requires_grad]))
        (our_output, our_gradients), (reference_output, reference_gradients) = results
        self.check(f"{name}, 순전파", our_output, reference_output, atol)
        count = len(our_gradients)
        if together:
            pair = (
                torch.cat([g.flatten() for g in part])
                for part in (our_gradients, reference_gradients)
            )
            self.check(f"{name}, 기울기 {count}개", *pair, atol)
            return
        names = input_names or ["기울기", *(f"기울기 {i}" for i in range(2, count + 1))][:count]
        # 왜 strict: 이름이나 기울기의 수가 어긋나면 조용히 건너뛰지 않고 오류가 나야 함
        for which, *pair in zip(names, our_gradients, reference_gradients, strict=True):
            self.check(f"{name}, {which}", *pair, atol)

    def check_modules(
        self,
        name: str,
        ours: nn.Module,
        reference: nn.Module,
        *inputs: Tensor,
        atol: float = 1e-9,
        together: bool = False,
    ) -> None:
        """이름이 같은 매개변수를 가진 두 모듈의 순전파, 기울기, 버퍼(이동 평균 따위)를 비교합니다.

        두 모듈에 같은 무작위 값을 넣고 비교합니다. 왜: weight 1과 bias 0으로 비교하면 그것을
        빠뜨린 구현도 같아 보입니다. 복사본을 쓰므로 넘긴 모듈은 변하지 않습니다.
        """
        dtype, tolerance = self.exact(atol)
        ours, reference = (copy.deepcopy(m).to(self.device, dtype) for m in (ours, reference))
        with torch.no_grad():
            for value in ours.parameters():
                value.normal_()
            saved = ours.state_dict().keys()  # persistent=False인 버퍼(마스크 따위)는 뺌
            shared = {key: value for key, value in ours.named_buffers() if key in saved}
            for value in shared.values():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5)  # 분산일 수 있어 양수
        missing, unexpected = reference.load_state_dict(ours.state_dict(), strict=False)
        if unexpected or set(missing) & {key for key, _ in reference.named_parameters()}:
            raise CheckFailed(f"{name}: 매개변수의 이름이 다릅니다({missing}, {unexpected})")
        names = [key for key, _ in ours.named_parameters()]

        def call(module: nn.Module) -> Callable:
            def function(*arguments: Tensor) -> Tensor:
                parameters = dict(zip(names, arguments, strict=False))
                return functional_call(module, parameters, arguments[len(names) :])

            return function

        count = sum(x.is_floating_point() for x in inputs)
        numbers = [""] if count == 1 else range(1, count + 1)
        gradient_names = [f"{key}의 기울기" for key in (*names, *(f"입력{i}" for i in numbers))]
        self.check_with_gradient(
            name,
            *map(call, (ours, reference)),
            *ours.parameters(),
            *inputs,
            atol=atol,
            input_names=gradient_names,
            together=together,
        )
        for key, buffer in shared.items():
            self.check(f"{name}, {key}", buffer, reference.get_buffer(key), tolerance)

    def check_optimizer(
        self, name: str, ours: Callable, reference: Callable, steps: int = 50, atol: float = 1e-9
    ) -> None:
        """두 옵티마이저가 같은 곳에서 출발해 걸음마다 같은 곳을 지나는지 비교합니다.

        Args:
            ours: 매개변수의 목록을 받아 직접 만든 옵티마이저를 내는 함수.
            reference: 같은 목록을 받아 torch.optim의 옵티마이저를 내는 함수.
        """
        dtype, atol = self.exact(atol)
        start, pull = torch.randn(2, 12, generator=torch.Generator().manual_seed(0), dtype=dtype)
        paths = []
        for make in (ours, reference):
            p = start.to(self.device).clone().requires_grad_()
            optimizer, path = make([p]), []
            for _ in range(steps):
                optimizer.zero_grad()
                (p**2 + (pull.to(p) * p).sin()).sum().backward()
                optimizer.step()
                path.append(p.detach().clone())
            paths.append(torch.stack(path))
        self.check(f"{name}, {steps}걸음의 자리와 torch.optim의 차이", *paths, atol)

    def exact(self, atol: float) -> tuple[torch.dtype, float]:
        """지금 장치에서 비교에 쓸 가장 정밀한 자료형과 허용 오차입니다."""
        if self.device.type == "mps":
            return torch.float32, max(atol, 1e-4)
        return torch.float64, atol

    def claim(
        self, text: str, measured: str | Mapping[str, float], holds: bool, unit: str = "%"
    ) -> None:
        """주장, 측정값, 판정을 출력하고 기록합니다. 판정이 '아니오'여도 숨기지 않습니다.

        Args:
            measured: 측정값을 적은 글, 또는 이름마다의 값. 값은 `unit`으로 적습니다.
            unit: `%`이면 0~1의 비율을 백분율로 적습니다.
        """
        holds = bool(holds)
        if isinstance(measured, Mapping):
            measured = (
                percents(measured)
                if unit == "%"
                else ", ".join(f"{name} {value:.4g}{unit}" for name, value in measured.items())
            )
        self.metrics["claims"].append({"claim": text, "measured": measured, "holds": holds})
        print(f"  [판정] {text}\n         측정: {measured} -> {'예' if holds else '아니오'}")

    # -- 기준선과 결과 ---------------------------------------------------------------------------
    def floor(self, name: str, value: float, unit: str = "%") -> None:
        """결과보다 먼저 보여 주는 기준선입니다. `unit`이 `%`이면 0~1의 비율을 받습니다."""
        self.metrics["floors"][name] = _finite(value)
        print(f"  [기준선] {name}: {_format(value, unit)}")

    def result(
        self,
        name: str,
        value: float,
        *,
        beats: str,
        unit: str = "%",
        lower_is_better: bool = False,
        p: float = 0.0,
    ) -> None:
        """기준선 `beats`와 비교한 결과입니다. 기준선을 먼저 출력하지 않았으면 KeyError가 납니다.

        Args:
            p: 검정했다면 그 p값. 0.05 아래라야 넘은 것으로 봅니다.
        """
        floor = self.metrics["floors"][beats]
        beaten = None not in (_finite(value), floor) and bool(
            value < floor if lower_is_better else value > floor
        )
        beaten = beaten and bool(p < 0.05)
        self.metrics["results"][name] = {
            "value": _finite(value),
            "unit": unit,
            "lower_is_better": lower_is_better,
            "floor": beats,
            "beats_floor": beaten,
        }
        verdict = "넘었습니다" if beaten else "넘지 못했습니다"
        print(
            f"  [결과] {name}: {_format(value, unit)} "
            f"(기준선 '{beats}' {_format(floor, unit)}: {verdict})"
        )

    # -- 그림과 파일 ---------------------------------------------------------------------------
    def figure(self, figure: Any, name: str) -> None:
        """그림을 PNG로 저장하고 닫습니다. 글꼴에 없는 글자가 있으면 오류를 냅니다."""
        path = self.folder / f"{name}.png"
        save_figure(figure, path, show=self.show)
        self.metrics["figures"].append(path.name)
        print(f"  [그림] {path}")

    def checkpoint(
        self, *parts: Any, name: str = "checkpoint.pt", chosen: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """이 실행의 설정, 시드, 데이터를 함께 기록하는 체크포인트를 만들고 저장합니다.

        `--resume`이면 먼저 되돌립니다. 끝낸 에폭의 기록은 `checkpoint.history`에 있습니다.

        Args:
            chosen: 실행하면서 고른 설정(예: 탐색이 고른 학습률). 다르면 이어 가지 않습니다.
        """
        identity = self.settings() | {"lesson": self.lesson.name, "seed": self.seed}
        identity |= {"dtype": str(self.dtype)}
        identity |= {"data": self.metrics["data"]["sha256"] if self.metrics["data"] else None}
        identity |= {f"고른 {key}": value for key, value in (chosen or {}).items()}
        if self.checkpoint_path is None and not self.resume:  # 왜: 옛 실행의 것을 이어 가지 않도록
            pattern = "checkpoint*-quick.pt" if self.quick else "checkpoint*.pt"
            for old in self.folder.glob(pattern):
                if self.quick or not old.stem.endswith("-quick"):
                    old.unlink()
        self.checkpoint_path = self.path(name)
        if self.resume and self.is_sharing:
            self.team.copy_file(self.checkpoint_path)
        checkpoint = Checkpoint(self.checkpoint_path, identity, *parts)
        if self.resume:
            checkpoint.restore()
        if self.team.rank == 0:
            checkpoint.save()
        return checkpoint

    # -- 여러 프로세스 ---------------------------------------------------------------------------
    def parallel(self, model: nn.Module) -> nn.Module:
        """학습할 모델입니다. torchrun으로 함께 학습하면 기울기를 평균하는 DDP로 감쌉니다.

        앞의 학습이 남긴 빈 메모리도 돌려줍니다. 왜: 텐서의 크기가 다르면 그 자리를 다시 쓰지 못함
        """
        devices.give_back_memory()
        return self.team.parallel(model) if self.is_sharing else model

    def share(self, batches: Sequence) -> Sequence:
        """torchrun으로 함께 학습하면 묶음마다 이 프로세스의 몫만 남깁니다. 아니면 그대로입니다."""
        return self.team.share(batches) if self.is_sharing else batches

    def weight(self, count: Tensor | int) -> float:
        """`count`개를 평균한 손실에 곱할 수입니다. 함께 학습하지 않으면 1입니다."""
        return self.team.weight(count, self.device) if self.is_sharing else 1.0

    def end_epoch(
        self, checkpoint: Checkpoint, scores: dict[str, float], epochs: int | None = None
    ) -> None:
        """방금 끝난 에폭의 점수를 기록에 더하고, 저장하고, 출력합니다.

        Args:
            epochs: 모두 몇 에폭인지. 없으면 설정의 `epochs`입니다.
        """
        checkpoint.history.append(scores)
        if self.team.rank == 0:
            checkpoint.save()
        parts = [f"{EPOCH_LABELS.get(key, key)} {_score(key, scores[key])}" for key in scores]
        total = epochs or self.config.epochs
        print(f"  에폭 {len(checkpoint.history):2}/{total}: {', '.join(parts)}")
        devices.give_back_memory()

    def settings(self, config: Any = None) -> dict[str, Any]:
        """설정(없으면 이 실행의 것) 가운데 학습 결과를 바꾸는 것만 고른 것입니다."""
        config = config or self.config
        fields = dataclasses.fields(config)
        names = [field.name for field in fields if field.metadata["changes_training"]]
        return {name: getattr(config, name) for name in names}

    def path(self, name: str) -> Path:
        """결과 폴더 안의 파일입니다.

        왜: `--quick`이 전체 실행의 모델을 덮어쓰지 않도록 이름을 다르게 합니다.
        """
        path = self.folder / name
        return path.with_stem(path.stem + "-quick") if self.quick else path

    def finish(self) -> dict[str, Any]:
        """실행을 요약해 출력하고 `metrics.json`에 씁니다. 같은 사전을 돌려줍니다.

        데이터를 둘 넘게 읽었으면 테스트 데이터를 쓴 것, 곧 결과를 잰 것을 기록합니다.
        """
        for dataset in self._datasets.values():
            if dataset.test_is_taken:
                self.metrics["data"] = dataclasses.asdict(dataset.provenance)
        claims = self.metrics["claims"]
        seconds = time.perf_counter() - self._start
        self.metrics = {
            "lesson": self.lesson.name,
            "quick": self.quick,
            "device": self.device.type,
            "device_name": devices.device_name(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "seed": self.seed,
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            "seconds": round(seconds, 2),
            "section_seconds": self.seconds,
            "peak_memory_mb": devices.peak_memory_mb(),
            "config": dataclasses.asdict(self.config),
        } | self.metrics
        self.metrics["expected"] = self._compare()
        print(
            f"\n확인 {len(self.metrics['checks'])}개 통과, 주장 {len(claims)}개 중 "
            f"{sum(claim['holds'] for claim in claims)}개 성립, 그림 "
            f"{len(self.metrics['figures'])}장, {seconds:.1f}초"
        )
        if self.complete and self.team.rank == 0:
            text = json.dumps(self.metrics, ensure_ascii=False, indent=2, allow_nan=False)
            write_atomically(self.folder / "metrics.json", text.encode("utf-8"))
            print(f"기록: {self.folder / 'metrics.json'}")
        else:
            print("일부 절만 실행했으므로 metrics.json은 쓰지 않았습니다.")
        return self.metrics

    def _compare(self) -> dict[str, dict[str, Any]]:
        """기본 설정으로 끝까지 실행했으면 결과를 기대 결과와 비교해 출력합니다."""
        if not self.complete or not self.metrics["results"]:
            return {}
        entry = expected.find(self.metrics, expected.read())
        if entry is None or not self.is_default:
            why = "GPU 설정(--preset gpu)의 기대 결과가 없어"
            if self.is_default:
                why = "이 데이터의 기대 결과가 없어"
            elif self.is_changed:
                why = "설정을 바꾸어"
            print(f"\n  [기대] {why} 기대 결과와 비교하지 않았습니다.")
            return {}
        verdicts = expected.compare(self.metrics, entry)
        seeds = f"시드 {len(entry['seeds'])}개"
        print(f"\n  [기대] {entry['device']}, {entry['dtype']}, {seeds}로 잰 것과 비교합니다.")
        for name, found in verdicts.items():
            unit = self.metrics["results"][name]["unit"]
            mean, std = (_format(found[key], unit) for key in ("mean", "std"))
            print(f"         {name}: 평균 {mean}, 표준편차 {std} -> {found['verdict']}")
        for cause in dict.fromkeys(found["cause"] for found in verdicts.values() if found["cause"]):
            print(f"         {cause}")
        return verdicts


def _score(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else f"{value:.4f}"


def percents(scores: Mapping[str, float], digits: int = 1) -> str:
    """이름마다의 비율을 한 줄로 적습니다. 예: `SGD 83.1 %, Adam 84.0 %`"""
    return ", ".join(f"{name} {100 * score:.{digits}f} %" for name, score in scores.items())


def printable(text: str) -> str:
    """데이터에서 온 글을 한 줄로 잇고, 터미널을 조종하는 글자(예: ESC)를 지웁니다."""
    return "".join(filter(str.isprintable, " ".join(text.split())))


def largest_error(ours: Any, reference: Any) -> float:
    """두 값의 차이 가운데 가장 큰 절댓값입니다. NaN이나 다른 모양은 무한대로 봅니다."""
    ours, reference = _as_float64(ours), _as_float64(reference)
    if ours.shape != reference.shape or ours.numel() == 0:
        return math.inf
    error = (ours - reference).abs().max().item()
    return math.inf if math.isnan(error) else error


def _as_float64(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().cpu().to(torch.float64)
    return torch.from_numpy(np.array(value, dtype=np.float64))


def _finite(value: float) -> float | None:
    """JSON에 없는 nan과 inf를 None으로 바꿉니다. 왜: 값 하나 때문에 기록 전체를 잃지 않게 함"""
    return float(value) if math.isfinite(value) else None


def _format(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "계산할 수 없음"
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.4g}{' ' + unit if unit else ''}"


def _make_folder(folder: Path) -> Path:
    """폴더를 만들고 정말 쓸 수 있는지 파일을 하나 써 봅니다."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"결과 폴더 {folder}에 쓸 수 없습니다({explain_os_error(error)}). "
            "--output-dir로 다른 폴더를 고르세요."
        ) from error
    return folder


# ---------------------------------------------------------------------------------------------
# 실행과 오류
# ---------------------------------------------------------------------------------------------
def run_main(main: Callable[[], Any]) -> NoReturn:
    """`main`을 실행하고 약속한 종료 상태로 끝냅니다: 0 완료, 1 오류, 2 잘못된 옵션, 130 중단."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = _run(main)
    except KeyboardInterrupt:
        if distributed.is_first():
            print(_interrupted(), file=sys.stderr)
        status = 130
    sys.exit(status)


def _run(main: Callable[[], Any]) -> int:
    try:
        main()
        status = 0
    except BrokenPipeError:  # 출력을 `| head`로 받던 쪽이 먼저 끝난 경우
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (UserError, CheckFailed, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_expected(error):
            raise  # 왜: 코드의 잘못은 숨기지 않음
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"\n오류: {_explain(error)}", file=sys.stderr)
        status = 1
    return status


def _explain(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, CheckFailed):
        return f"확인에 실패했습니다. {error}. --device cpu로 실행해 장치의 문제인지 보세요."
    if isinstance(error, OSError):
        data = _active_run and Path(_active_run.data_dir).absolute()
        name = error.filename if isinstance(error.filename, str | bytes) else ""
        path = Path(os.fsdecode(name)).absolute()
        flag = "--data-dir" if data and data in (path, *path.parents) else "--output-dir"
        advice = f"공간과 권한을 확인하거나 {flag}로 다른 폴더를 고르세요."
        return f"{explain_os_error(error)}. {advice}"
    if any(word in str(error) for word in WRITE_FAILED):
        return "파일을 쓰지 못했습니다. 디스크의 공간을 확인하거나 --output-dir로 옮기세요."
    short = any(word in str(error) for word in OUT_OF_MEMORY)
    if distributed.is_lost(error) and not short:
        return f"함께 학습하던 다른 프로세스가 멈추었습니다. {_how_to_resume()}"
    size = getattr(_active_run.config, "batch_size", 0) if _active_run else 0
    smaller = f"--batch-size {size // 2}로" if size > 1 else "--batch-size를 절반으로"
    return f"메모리가 모자랍니다. {smaller} 줄여 다시 실행하세요."


def _is_expected(error: RuntimeError) -> bool:
    """torch는 메모리나 디스크가 모자라거나 다른 프로세스가 멈추면 RuntimeError를 냅니다."""
    words = (*OUT_OF_MEMORY, *WRITE_FAILED)
    known = isinstance(error, torch.OutOfMemoryError) or distributed.is_lost(error)
    return known or any(word in str(error) for word in words)


def _interrupted() -> str:
    saved = _saved()
    state = "이 실행은 아직 저장한 학습이 없습니다."
    if saved:
        state = f"끝낸 에폭까지 {saved}에 저장해 두었습니다."
    return f"\n중단했습니다. {state}\n{_how_to_resume()}"


def _saved() -> Path | None:
    """이 실행이 저장한 체크포인트입니다. 옛 실행의 것은 아닙니다."""
    saved = _active_run.checkpoint_path if _active_run else None
    return saved if saved and saved.exists() else None


def _how_to_resume() -> str:
    resume = bool(_saved()) or "--resume" in sys.argv  # 왜: 저장 전이면 옛 실행의 것을 이어 가게 됨
    arguments = [sys.argv[0], *(a for a in sys.argv[1:] if a != "--resume"), *["--resume"] * resume]
    join = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return f"{'이어서' if resume else '다시'} 실행: {join(distributed.command(arguments))}"
