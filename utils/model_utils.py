"""모델을 세고, 저장하고, 이어서 학습하게 합니다."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import UserError
from utils.files import write_atomically


def count_parameters(model: nn.Module) -> int:
    """학습되는 매개변수의 수를 셉니다."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_multiplications(model: nn.Module, x: Tensor) -> int:
    """순전파 한 번의 곱셈 수입니다. PyTorch의 계수기는 곱셈과 덧셈을 따로 세므로 2로 나눕니다."""
    from torch.utils.flop_counter import FlopCounterMode  # 왜: 쓰는 강의에서만 불러옴

    shapes = copy.deepcopy(model).to("meta").eval()  # 왜: 모양만 따라가므로 계산하지 않음
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shapes(x.to("meta"))
    return counter.get_total_flops() // 2


def fuse(model: nn.Module, fuse_pair: Callable) -> nn.Module:
    """모델의 복사본에서, 합성곱 다음에 배치 정규화가 오는 짝을 모두 `fuse_pair`로 합칩니다."""
    model = copy.deepcopy(model).eval()
    for block in model.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1:
            first, second = block[0], block[1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                block[0], block[1] = fuse_pair(first, second), nn.Identity()
    return model


def print_stages(stages: Iterable[Tensor], images: Tensor) -> None:
    """단계마다 특징 맵 (1, C, H, W)의 모양, 스트라이드, 수용 영역을 출력합니다(3강 3.3절).

    Args:
        images: `stages`를 계산한 입력 (1, S, S, 3). 기울기를 구할 수 있어야 합니다.
    """
    for x in stages:
        middle = x[0, :, x.shape[2] // 2, x.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, images, retain_graph=True)
        rows = gradient[0].abs().sum(dim=(1, 2)).nonzero()  # 기울기가 0이 아닌 줄
        field = int(rows.max() - rows.min()) + 1
        stride = images.shape[1] // x.shape[2]
        print(f"  스트라이드 {stride:2}: 모양 {tuple(x.shape)}, 수용 영역 {field}픽셀")


def output_gradients(model: nn.Module, x: Tensor, y: Tensor, kernel: int = 0) -> list[float]:
    """계층마다 출력의 기울기의 크기입니다. 훅으로 출력을 모읍니다(2강 2.1절).

    Args:
        kernel: 0이면 완전연결 계층을, 아니면 커널의 한 변이 이것인 합성곱을 봅니다.
    """
    kind = nn.Conv2d if kernel else nn.Linear
    layers = [m for m in model.modules() if isinstance(m, kind)]
    layers = [m for m in layers if not kernel or m.kernel_size == (kernel, kernel)]
    outputs: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _, __, out: outputs.append(out)) for m in layers]
    loss = F.cross_entropy(model.train()(x), y)
    for hook in hooks:
        hook.remove()
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, outputs)]


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """모든 기울기를 한 벡터로 본 길이가 `max_norm`을 넘지 않게 줄입니다(2강 2.7절).

    Returns:
        줄이기 전의 길이.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = torch.sqrt(sum(g.square().sum() for g in gradients))
    for g in gradients:
        g *= (max_norm / (length + 1e-6)).clamp(max=1.0)
    return length


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, d: float) -> None:
    """`average`의 매개변수와 배치 정규화의 통계를 `model` 쪽으로 조금 옮깁니다(6강 6.8절).

    평균 = d * 평균 + (1 - d) * 매개변수
    """
    pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
    for old, new in pairs:
        old.copy_(old.lerp(new, 1 - d) if old.is_floating_point() else new)


@dataclass
class Optimizer:
    """옵티마이저의 공통 부분입니다(1강 1.5절). 갱신 규칙은 물려받은 클래스의 `update`가 정합니다.

    `step`은 매개변수 `p`마다 `update(p, g, m, s)`를 부릅니다. `g`는 기울기이고, `m`과 `s`는 모양이
    `p`와 같은 기억할 텐서로 0에서 시작합니다. `time`은 지금이 몇 번째 걸음인지입니다.
    """

    parameters: Iterable[Tensor]
    lr: float

    def __post_init__(self) -> None:
        self.parameters, self.time = list(self.parameters), 0
        self.memory = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def zero_grad(self) -> None:
        """기울기를 비웁니다."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """한 걸음 갱신합니다."""
        self.time += 1
        for p, (m, s) in zip(self.parameters, self.memory, strict=True):
            self.update(p, p.grad, m, s)


def save_weights(path: Path, model: nn.Module, **about: Any) -> None:
    """학습을 마친 모델의 가중치를 저장합니다.

    `about`은 모델을 다시 만드는 데 필요한 것(너비, 클래스 이름 따위)이며 옆의 `.json`에 적습니다.
    왜: 예측할 때 학습할 때의 옵션을 다시 주지 않아도 됩니다.
    """
    _write(path, model.state_dict())
    if about:
        text = json.dumps(about, ensure_ascii=False, indent=2)
        write_atomically(path.with_suffix(".json"), text.encode("utf-8"))


def _not_trained(path: Path, how: str = "") -> UserError:
    text = f"학습한 모델이 없습니다: {path}. 먼저 {how}강의를 끝까지 한 번 실행하세요."
    if path.with_name(f"{path.stem}-quick.pt").exists():
        text += " --quick으로 학습한 모델을 쓰려면 --quick도 함께 주세요."
    return UserError(text)


def read_about(path: Path, how: str = "") -> dict[str, Any]:
    """`save_weights`가 가중치 옆에 적어 둔 것을 읽습니다. `how`는 없을 때 알려 줄 옵션입니다.

    Raises:
        UserError: 없거나 손상되었을 때.
    """
    try:
        return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_trained(path, how) from error


def load_weights(path: Path, model: nn.Module) -> None:
    """`save_weights`로 저장한 가중치를 `model`에 넣습니다.

    Raises:
        UserError: 파일이 없거나 손상되었거나 다른 모델의 것일 때.
    """
    if not path.exists():
        raise _not_trained(path)
    state = _read(path)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"이 모델의 가중치가 아닙니다: {path}. 강의를 다시 실행하세요.") from error


class Checkpoint:
    """학습을 정확히 이어 가는 데 필요한 것을 모두 담은 파일입니다.

    담는 것: 모델, 옵티마이저, 학습률 일정, 난수 상태(Python, NumPy, torch CPU와 장치), 에폭마다의
    기록(`history`), 그리고 다른 설정의 체크포인트를 거르기 위한 `identity`.

    Args:
        path: 파일 경로.
        identity: 설정, 시드, 데이터를 나타내는 사전. 하나라도 다르면 이어 가지 않습니다.
        parts: 상태를 저장할 것들. 모델, 옵티마이저, 학습률 일정이며 몇 개여도 됩니다.
    """

    def __init__(self, path: Path, identity: dict, *parts: Any) -> None:
        self.path, self.identity, self.parts = path, identity, parts
        self.history: list[dict[str, float]] = []

    def save(self) -> None:
        """지금 상태를 저장합니다. 저장하다 끊겨도 앞선 체크포인트가 남습니다."""
        state = {"parts": [part.state_dict() for part in self.parts], "history": self.history}
        _write(self.path, state | {"identity": self.identity, "rng": _rng_state()})

    def restore(self) -> None:
        """저장된 상태와 `history`를 되돌립니다. 파일이 없으면 그대로 둡니다.

        Raises:
            UserError: 파일이 손상되었거나 다른 설정으로 만든 것일 때.
        """
        if not self.path.exists():
            print(f"  저장된 학습이 없어 처음부터 학습합니다: {self.path}")
            return
        state = _read(self.path)
        self._refuse_other_identity(state.get("identity"))
        try:
            for part, saved in zip(self.parts, state["parts"], strict=True):
                part.load_state_dict(saved)
            _set_rng_state(state["rng"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.path}: 지금의 모델과 맞지 않는 체크포인트입니다. --resume 없이 실행하세요."
            ) from error
        self.history = state["history"]
        print(f"  {self.path}에서 {len(self.history)} 에폭까지 마친 학습을 이어 갑니다.")

    def _refuse_other_identity(self, saved: dict | None) -> None:
        if not isinstance(saved, dict):
            raise UserError(f"체크포인트가 아닙니다: {self.path}. 지우고 --resume 없이 실행하세요.")
        names = [n for n in {**self.identity, **saved} if self.identity.get(n) != saved.get(n)]
        if names:
            pairs = ", ".join(f"{n} {saved.get(n)} -> {self.identity.get(n)}" for n in names)
            raise UserError(
                f"{self.path}: 다른 설정으로 학습한 체크포인트입니다({pairs}). "
                "그때와 같은 옵션을 주거나, --resume 없이 처음부터 실행하세요."
            )


class Album:
    """에폭마다 한 장씩 모은 것입니다. 체크포인트의 `parts`에 넣으면 이어 할 때 되살아납니다."""

    def __init__(self) -> None:
        self.pages: list[tuple[np.ndarray, ...]] = []

    def add(self, page: Iterable[np.ndarray]) -> None:
        """배열의 묶음 하나를 더합니다."""
        self.pages.append(tuple(page))

    def state_dict(self) -> dict[str, list]:
        """저장할 상태입니다. 체크포인트에는 텐서만 넣을 수 있습니다."""
        return {"pages": [tuple(map(torch.from_numpy, page)) for page in self.pages]}

    def load_state_dict(self, state: dict[str, list]) -> None:
        """`state_dict`가 낸 것을 되돌립니다."""
        self.pages = [tuple(part.numpy() for part in page) for page in state["pages"]]


def _write(path: Path, state: dict) -> None:
    # 왜: torch.save가 디스크에 바로 쓰면 공간이 모자랄 때 원인을 알 수 없는 오류가 납니다.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _read(path: Path) -> dict:
    """주의: `weights_only=True`라야 파일에 숨은 코드가 실행되지 않습니다."""
    content = io.BytesIO(path.read_bytes())
    try:
        damaged = zipfile.ZipFile(content).testzip()  # torch.load는 검사합(CRC)을 보지 않음
        if damaged:
            raise zipfile.BadZipFile(damaged)
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise UserError(
            f"{path} 파일이 손상되었습니다. 지우고 --resume 없이 다시 실행하세요."
        ) from error


def _rng_state() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def _set_rng_state(state: dict[str, Any]) -> None:
    name, keys, position, has_gauss, gauss = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        count = torch.cuda.device_count()  # 왜: 저장할 때보다 GPU가 적을 수 있음
        torch.cuda.set_rng_state_all(state["cuda"][:count])
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
