"""여러 프로세스가 함께 학습하게 합니다(torchrun과 DDP). 프로세스가 하나이면 하는 일이 없습니다.

0번 프로세스는 강의를 모두 실행하고, 나머지는 함께 학습하는 절(`shared=True`)만 실행합니다. 출력하고
저장하는 것은 0번뿐입니다.
"""

from __future__ import annotations

import datetime
import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError

WAIT = datetime.timedelta(hours=12)  # 나머지는 0번이 앞의 절을 마칠 때까지 기다림
LOST = ("Connection closed by peer", "Connection reset by peer", "failed to recv", "NCCL", "gloo")


@dataclass(frozen=True)
class Team:
    """함께 학습하는 프로세스들입니다. `rank`는 이 프로세스의 번호, `size`는 모두 몇인지입니다."""

    rank: int = 0
    size: int = 1
    store: Any = None
    local: int = 0  # 이 컴퓨터 안에서의 번호
    here: int = 1  # 이 컴퓨터에 있는 프로세스의 수
    group: str = "0"  # 컴퓨터의 번호

    def tell(self, name: str) -> None:
        """`name`을 마쳤다고 알립니다. 나머지는 `wait_for`로 기다립니다."""
        if self.rank == 0 and self.size > 1:
            self.store.set(name, "1")
        if self.local == 0 and self.size > 1:
            self.store.set(f"{name} {self.group}", "1")

    def wait_for(self, name: str) -> None:
        """앞선 프로세스가 `name`을 마칠 때까지 기다립니다. 왜: 같은 파일을 함께 받지 않게 함

        컴퓨터마다 첫째는 0번을, 나머지는 그 첫째를 기다립니다.
        """
        name = name if self.local == 0 else f"{name} {self.group}"
        while self.rank > 0 and not self.store.check([name]):  # 왜: wait는 Ctrl+C를 받지 못함
            time.sleep(0.2)

    def use_threads(self, sharing: bool) -> None:
        """함께 학습할 때는 CPU의 코어를 나눠 쓰고, 0번이 혼자 할 때는 모두 씁니다."""
        if self.size > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // (self.here if sharing else 1)))

    def broadcast(self, value: Any) -> Any:
        """0번의 값을 모두가 받습니다."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, batches: Sequence) -> list:
        """0번이 정한 묶음마다 이 프로세스의 몫(rank, rank + size, ...번째)입니다.

        묶음은 텐서나 배열, 또는 그런 것들의 튜플입니다. `size`개가 안 되는 묶음은 모두가 다 봅니다.
        """
        # 왜: 나눈 텐서는 저장할 때 원래의 것을 통째로 담고, GPU의 텐서는 보낸 GPU에 놓임
        pack = lambda part: part.cpu().clone() if isinstance(part, Tensor) else part  # noqa: E731
        cut = lambda part: part[self.rank :: self.size] if len(part) >= self.size else part  # noqa: E731
        each = lambda f, b: tuple(map(f, b)) if isinstance(b, tuple) else f(b)  # noqa: E731
        packed = [each(pack, batch) for batch in batches]
        batches, seed = self.broadcast((packed, int(torch.randint(2**31, ()))))
        if self.rank > 0:  # 왜: 난수가 같으면 프로세스마다 같은 증강과 드롭아웃을 씀
            torch.manual_seed(seed + self.rank)
        return [each(cut, batch) for batch in batches]

    def weight(self, count: Tensor | int, device: torch.device) -> float:
        """이 프로세스가 `count`개를 평균한 손실에 곱할 수입니다.

        왜: DDP는 기울기를 프로세스의 수로 나누므로, 몫의 크기가 다르면 전체의 평균과 달라집니다.
        """
        total = torch.tensor(float(count), device=device)
        dist.all_reduce(total)
        return float(count) * self.size / total.item()

    def parallel(self, model: nn.Module) -> nn.Module:
        """순전파를 부를 모델입니다. 역전파가 끝나면 기울기가 프로세스들의 평균이 됩니다."""
        return DistributedDataParallel(model)

    def copy_file(self, path: Path) -> None:
        """0번의 파일을 나머지의 같은 이름에도 둡니다. 없으면 그대로입니다."""
        content = path.read_bytes() if self.rank == 0 and path.exists() else None
        content = self.broadcast(content)
        if self.rank > 0 and content is not None:
            path.write_bytes(content)


class _NotTerminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return False


def is_torchrun() -> bool:
    """torchrun이 띄운 프로세스이면 True입니다."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """0번 프로세스이거나 혼자이면 True입니다. `join`을 부르기 전에도 쓸 수 있습니다."""
    return not is_torchrun() or os.environ.get("RANK", "0") == "0"


def join(device: torch.device) -> Team:
    """torchrun이 띄웠으면 다른 프로세스와 만납니다. GPU는 프로세스마다 하나씩 씁니다."""
    size = int(os.environ.get("WORLD_SIZE", 1)) if is_torchrun() else 1
    if size == 1:
        return Team()
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "mps":
        raise UserError("MPS는 여러 프로세스로 학습하지 못합니다. --device cpu를 주세요.")
    if device.type == "cuda":
        if here > torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise UserError(f"GPU가 {count}개입니다. --nproc-per-node를 {count}로 하세요.")
        torch.cuda.set_device(local)
    store, rank, size = next(dist.rendezvous("env://", timeout=WAIT))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    if rank > 0:  # 출력과 진행 막대는 0번만. 오류는 모두 알림
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stderr = _NotTerminal(sys.stderr.buffer, "utf-8", "replace", line_buffering=True)
    return Team(rank, size, store, local, here, os.environ.get("GROUP_RANK", "0"))


def is_lost(error: BaseException) -> bool:
    """다른 프로세스가 멈추어 난 오류이면 True입니다."""
    known = isinstance(error, dist.DistError) or any(word in str(error) for word in LOST)
    return dist.is_initialized() and known


def command(arguments: Sequence[str]) -> list[str]:
    """이 실행을 다시 띄우는 명령입니다."""
    if not is_torchrun():
        return ["python", *arguments]
    count = os.environ["LOCAL_WORLD_SIZE"]
    if count != os.environ["WORLD_SIZE"]:  # 컴퓨터가 여럿
        return ["torchrun", "처음과_같은_옵션", *arguments]
    return ["torchrun", "--standalone", "--nproc-per-node", count, *arguments]
