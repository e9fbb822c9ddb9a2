"""여러 프로세스가 함께 학습하게 합니다(torchrun과 DDP). 프로세스가 하나이면 하는 일이 없습니다.

0번 프로세스는 강의를 모두 실행하고, 나머지는 함께 학습하는 절(`shared=True`)만 실행합니다. 출력하고
저장하는 것은 0번뿐입니다.
"""

from __future__ import annotations

import datetime
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

WAIT = datetime.timedelta(hours=12)  # 나머지는 0번이 앞의 절을 마칠 때까지 기다림
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL", "gloo")  # 오류의 말


@dataclass(frozen=True)
class Team:
    """함께 학습하는 프로세스들입니다. `rank`는 이 프로세스의 번호, `size`는 모두 몇인지입니다."""

    rank: int = 0
    size: int = 1
    store: Any = None

    def tell(self, name: str) -> None:
        """0번이 `name`을 마쳤다고 알립니다. 나머지는 `wait_for`로 기다립니다."""
        if self.size > 1 and self.rank == 0:
            self.store.set(name, "1")

    def wait_for(self, name: str) -> None:
        """0번이 아니면 0번이 `name`을 마칠 때까지 기다립니다. 왜: 같은 파일을 함께 받지 않게 함"""
        if self.rank > 0:
            self.store.wait([name], WAIT)

    def broadcast(self, value: Any) -> Any:
        """0번의 값을 모두가 받습니다."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, batches: Sequence) -> list:
        """0번이 정한 묶음마다 이 프로세스의 몫(rank, rank + size, ...번째)입니다.

        묶음은 텐서나 배열, 또는 그런 것들의 튜플입니다. `size`개가 안 되는 묶음은 모두가 다 봅니다.
        """
        cut = lambda part: part[self.rank :: self.size] if len(part) >= self.size else part  # noqa: E731
        batches = self.broadcast(list(batches))
        return [tuple(map(cut, b)) if isinstance(b, tuple) else cut(b) for b in batches]

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


def join(device: torch.device) -> Team:
    """torchrun이 띄웠으면 다른 프로세스와 만납니다. GPU는 프로세스마다 하나씩 씁니다."""
    size = int(os.environ.get("WORLD_SIZE", 1)) if is_torchrun() else 1
    if size == 1:
        return Team()
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cuda":
        torch.cuda.set_device(local)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    store, rank, size = next(dist.rendezvous("env://", timeout=WAIT))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    if rank > 0:  # 출력과 진행 막대는 0번만. 오류는 모두 알림
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stderr = _NotTerminal(sys.stderr.buffer, "utf-8", "replace", line_buffering=True)
    return Team(rank, size, store)


def is_lost(error: BaseException) -> bool:
    """다른 프로세스가 멈추어 난 오류이면 True입니다."""
    return dist.is_initialized() and any(word in str(error) for word in LOST)


def command(arguments: Sequence[str]) -> list[str]:
    """이 실행을 다시 띄우는 명령입니다."""
    if not is_torchrun():
        return ["python", *arguments]
    count = os.environ["LOCAL_WORLD_SIZE"]
    if count != os.environ["WORLD_SIZE"]:  # 컴퓨터가 여럿
        return ["torchrun", "처음과_같은_옵션", *arguments]
    return ["torchrun", "--standalone", "--nproc-per-node", count, *arguments]
