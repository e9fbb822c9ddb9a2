"""`--doctor`: 이 컴퓨터에서 강의를 실행할 수 있는지 살피고, 무엇을 하면 되는지 알려 줍니다."""

from __future__ import annotations

import copy
import http.client
import math
import platform
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
import torch
from packaging.requirements import Requirement
from torch import Tensor, nn

from utils import device as devices
from utils import expected, visualization
from utils.datasets import captions, cifar10, fashion_mnist, mnist, reviews
from utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11, 4), (3, 14))  # 시험하거나 설치를 확인한 판. 3.11.4부터 tarfile에 filter가 있음
INSTALL = "python -m pip install -r requirements.txt -c constraints.txt를 실행하세요."
GOOD, NOTE, BAD = "정상", "참고", "문제"
TOLERANCE = 0.005  # 가장 큰 값에 비교한 오차. TF32의 오차가 약 0.001이고, 틀린 계산은 1에 가까움
NETWORK_SECONDS = 3
MIN_DISK_GB = 2  # CIFAR-10의 압축과 푼 것, 모델, 그림
PLACES = {  # 데이터와, 데이터 폴더에서 원본을 두는 곳
    "MNIST": (*mnist.ORIGINAL.folders, mnist.ORIGINAL.archive),
    "Fashion-MNIST": (*fashion_mnist.ORIGINAL.folders, fashion_mnist.ORIGINAL.archive),
    "CIFAR-10": (cifar10.ORIGINAL.folder, cifar10.ORIGINAL.npz),
    "IMDB": ("imdb.json.gz", "aclImdb_v1.tar.gz", "aclImdb"),
    "NSMC": ("nsmc",),
    "CelebA": ("celeba",),
    "Multi30k": ("multi30k",),
}
HOSTS = (
    *mnist.ORIGINAL.mirrors,
    *fashion_mnist.ORIGINAL.mirrors,
    *cifar10.HOSTS,
    *reviews.IMDB_HOSTS,
    *reviews.NSMC_HOSTS,
    *captions.MULTI30K_HOSTS,
)


class Finding(NamedTuple):
    """살핀 것 하나입니다. `level`이 '문제'이면 강의를 제대로 실행할 수 없습니다."""

    level: str
    name: str
    value: str
    advice: str = ""


def examine(lesson: str, data_dir: Path, output_dir: Path) -> int:
    """모두 살펴 출력합니다.

    Returns:
        종료 상태. 문제가 있으면 1, 없으면 0입니다.
    """
    print("이 컴퓨터를 살핍니다(--doctor). 10초쯤 걸립니다.")
    count = {GOOD: 0, NOTE: 0, BAD: 0}
    parts = (
        check_python(),
        check_packages(),
        check_devices(),
        check_numbers(),
        check_bfloat16(),
        check_font(),
        check_disk(data_dir, output_dir),
        check_memory(lesson),
        check_load(),
        check_network(),
        check_data(data_dir),
    )
    for finding in (finding for part in parts for finding in part):
        count[finding.level] += 1
        print(f"  [{finding.level}] {finding.name}: {finding.value}", flush=True)
        if finding.advice:
            print(f"         {finding.advice}")
    summary = ", ".join(f"{level} {number}개" for level, number in count.items())
    print(f"살핀 결과: {summary}")
    return 1 if count[BAD] else 0


def check_python() -> Iterator[Finding]:
    """Python의 판입니다."""
    low, high = PYTHONS
    here = sys.version_info[:3]
    value = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    wanted = "~".join(".".join(map(str, version)) for version in PYTHONS)
    if here < low:
        yield Finding(BAD, "Python", value, f"Python {wanted}을 설치하고 venv를 새로 만드세요.")
    elif here[:2] > high:
        yield Finding(NOTE, "Python", value, f"시험한 판은 {wanted}입니다.")
    else:
        yield Finding(GOOD, "Python", value)


def check_packages() -> Iterator[Finding]:
    """requirements.txt의 패키지가 있고 판이 맞는지, torch와 torchvision이 맞는 짝인지 봅니다."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    wrong = []
    for package in needed:
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{package.name} 없음")
            continue
        if not package.specifier.contains(version, prereleases=True):
            wrong.append(f"{package.name} {version}(필요: {package.specifier})")
    shown = ("torch", "torchvision", "numpy", "matplotlib")
    versions = [f"{name} {metadata.version(name)}" for name in shown if _installed(name)]
    if wrong:
        yield Finding(BAD, "패키지", ", ".join(wrong), INSTALL)
    yield Finding(GOOD, "패키지의 판", ", ".join(versions))
    try:
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
    except (ImportError, RuntimeError, AttributeError) as error:
        advice = "둘 다 지우고(pip uninstall torch torchvision) 한 명령으로 함께 설치하세요."
        yield Finding(BAD, "torch와 torchvision의 짝", _first_line(error), advice)


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def check_devices() -> Iterator[Finding]:
    """쓸 수 있는 연산 장치입니다."""
    names = devices.available_devices()
    shown = [devices.device_name(torch.device(name)) for name in names]
    if "cuda" in names:
        free, total = (part / 1e9 for part in torch.cuda.mem_get_info())
        shown[0] += f" (메모리 {total:.0f} GB 가운데 {free:.0f} GB 남음)"
    yield Finding(GOOD, "연산 장치", f"{', '.join(shown)}. --device auto는 {names[0]}를 씁니다")
    if names == ["cpu"] and shutil.which("nvidia-smi"):
        advice = "CUDA용 torch를 설치하세요. README의 '시작하기'에 방법이 있습니다."
        yield Finding(NOTE, "NVIDIA GPU", "GPU는 있지만 이 torch는 쓰지 못합니다", advice)


# 연산 하나: 이름, 모듈, 입력의 모양, 모듈을 부르는 방법
OPERATIONS: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...], Callable], ...] = (
    ("합성곱", lambda: nn.Conv2d(8, 16, 3, stride=2, padding=1), (4, 8, 17, 17), lambda m, x: m(x)),
    ("LSTM", lambda: nn.LSTM(8, 16, 2, batch_first=True), (4, 12, 8), lambda m, x: m(x)[0]),
    (
        "어텐션",
        lambda: nn.MultiheadAttention(16, 4, batch_first=True),
        (4, 10, 16),
        lambda m, x: m(x, x, x)[0],
    ),
    ("배치 정규화", lambda: nn.BatchNorm2d(8), (4, 8, 9, 9), lambda m, x: m(x)),
)


def check_numbers() -> Iterator[Finding]:
    """장치의 float32 계산을 CPU의 float64와 비교합니다. 순전파와 기울기의 가장 큰 오차입니다."""
    for name in devices.available_devices():
        errors = {}
        for title, build, shape, call in OPERATIONS:
            torch.manual_seed(0)
            module, x = build(), torch.randn(shape)
            try:
                errors[title] = relative_error(module, x, call, torch.device(name))
            except (RuntimeError, NotImplementedError, TypeError) as error:
                print(f"  {name}에서 {title}을 계산하지 못했습니다: {_first_line(error)}")
                errors[title] = math.inf
        value = ", ".join(f"{title} {error:.0e}" for title, error in errors.items())
        if max(errors.values()) <= TOLERANCE:
            yield Finding(GOOD, f"{name}의 계산과 CPU float64의 차이", value)
            continue
        advice = "이 장치의 계산을 믿을 수 없습니다. torch와 드라이버를 갱신하거나 "
        advice += "--device cpu로 실행하세요."
        yield Finding(BAD, f"{name}의 계산과 CPU float64의 차이", value, advice)


def relative_error(module: nn.Module, x: Tensor, call: Callable, device: torch.device) -> float:
    """결과와 기울기마다 가장 큰 오차를 그 기준의 가장 큰 값으로 나눈 것 가운데 가장 큰 것입니다."""
    places = (device, torch.float32), (torch.device("cpu"), torch.float64)
    ours, reference = (_forward_and_gradients(module, x, call, *place) for place in places)
    ratios = [(a - b).abs().max() / b.abs().max() for a, b in zip(ours, reference, strict=True)]
    worst = torch.stack(ratios).max().item()  # NaN이 하나라도 있으면 NaN
    return math.inf if math.isnan(worst) else worst


def _forward_and_gradients(
    module: nn.Module, x: Tensor, call: Callable, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    # 왜 복사: MPS로 옮긴 것을 CPU의 float64로 바로 바꾸면 오류가 나거나 값이 틀리는 판이 있음
    module = copy.deepcopy(module).to(dtype).to(device)
    x = x.detach().to(dtype).to(device).requires_grad_()
    y = call(module, x)
    weights = torch.linspace(-1, 2, y.numel()).reshape(y.shape)  # 왜: 모두 1이면 놓치는 오류가 있음
    (y * weights.to(y)).sum().backward()
    results = [y, x.grad, *(p.grad for p in module.parameters())]
    return [result.detach().cpu().to(torch.float64) for result in results]


def check_bfloat16() -> Iterator[Finding]:
    """bfloat16 행렬곱이 float32보다 얼마나 빠른지 잽니다."""
    device = torch.device(devices.available_devices()[0])
    side = 4096 if device.type == "cuda" else 256  # 왜: 흉내만 내는 CPU에서는 백 배 느림
    seconds = []
    try:
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.randn(side, side, device=device).to(dtype)
            seconds.append(devices.median_seconds(lambda a=a: a @ a, device))
    except (RuntimeError, TypeError) as error:
        yield Finding(NOTE, f"{device.type}의 bfloat16", _first_line(error), "float32를 씁니다.")
        return
    used = "bfloat16" if devices.supports_bfloat16(device) else "float32"
    value = f"행렬곱이 float32의 {seconds[0] / seconds[1]:.2g}배 빠르기. 강의는 {used}를 씁니다"
    slow = used == "bfloat16" and seconds[0] < seconds[1]
    advice = "이 장치에서는 --no-amp가 더 빠를 수 있습니다." if slow else ""
    yield Finding(NOTE if slow else GOOD, f"{device.type}의 bfloat16", value, advice)


def check_font() -> Iterator[Finding]:
    """그림에 쓸 한글 글꼴입니다."""
    try:
        yield Finding(GOOD, "한글 글꼴", visualization.korean_font())
    except UserError as error:
        yield Finding(BAD, "한글 글꼴", "없음", str(error))


def check_disk(data_dir: Path, output_dir: Path) -> Iterator[Finding]:
    """데이터와 결과를 둘 폴더의 남은 공간과 쓰기 권한입니다."""
    for name, flag, folder in (
        ("데이터 폴더", "--data-dir", Path(data_dir)),
        ("결과 폴더", "--output-dir", Path(output_dir)),
    ):
        places = (folder.absolute(), *folder.absolute().parents)
        there = next((place for place in places if place.exists()), None)
        advice = f"다른 폴더를 {flag}로 고르세요."
        if there is None or not there.is_dir() or not _writable(there):
            yield Finding(BAD, name, f"{folder}: 쓸 수 없습니다", advice)
            continue
        free = shutil.disk_usage(there).free / 1e9
        if free < MIN_DISK_GB:
            advice = f"{MIN_DISK_GB} GB 넘게 비우거나 {advice}"
            yield Finding(NOTE, name, f"{folder}: 남은 공간 {free:.1f} GB", advice)
        else:
            yield Finding(GOOD, name, f"{folder}: 남은 공간 {free:.0f} GB")


def _writable(folder: Path) -> bool:
    probe = folder / f".doctor-{time.time_ns()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def check_memory(lesson: str) -> Iterator[Finding]:
    """남은 메모리가 이 강의의 전체 실행에 넉넉한지 봅니다."""
    free = psutil.virtual_memory().available / 1e9
    entries = expected.read().get(lesson, {}).values()
    need = max((e["peak_memory_mb"] for e in entries if not e["quick"]), default=0) / 1000
    value = f"남은 메모리 {free:.1f} GB"
    value += f", 이 강의의 전체 실행이 쓴 것 {need:.1f} GB" if need else ""
    if free < need:
        yield Finding(NOTE, "메모리", value, "다른 프로그램을 끝내거나 --batch-size를 줄이세요.")
    else:
        yield Finding(GOOD, "메모리", value)


def check_load() -> Iterator[Finding]:
    """다른 프로그램이 CPU를 얼마나 쓰고 있는지 잽니다."""
    busy = psutil.cpu_percent(interval=0.5)
    value = f"{psutil.cpu_count()}코어, torch의 스레드 {torch.get_num_threads()}개, "
    value += f"다른 프로그램이 쓰는 몫 {busy:.0f} %"
    if busy > 30:
        advice = "다른 프로그램을 끝내세요. 함께 쓰면 학습이 몇 배 느려질 수 있습니다."
        yield Finding(NOTE, "CPU", value, advice)
    else:
        yield Finding(GOOD, "CPU", value)


def check_network(urls: Sequence[str] = HOSTS) -> Iterator[Finding]:
    """데이터를 내려받을 곳에 닿는지 봅니다. 응답이 404여도 닿은 것입니다."""
    hosts = sorted({urlsplit(url).netloc for url in urls})
    with ThreadPoolExecutor(len(hosts)) as pool:
        reached = dict(zip(hosts, pool.map(_reaches, hosts), strict=True))
    missing = [host for host in hosts if not reached[host]]
    if not missing:
        yield Finding(GOOD, "네트워크", f"데이터를 둔 {len(hosts)}곳에 모두 닿습니다")
        return
    advice = "닿지 않아도 강의는 실행됩니다. 원본 대신 패키지의 데이터나 만든 표본을 씁니다."
    value = f"{len(hosts)}곳 가운데 {len(missing)}곳에 닿지 않습니다({', '.join(missing)})"
    yield Finding(NOTE, "네트워크", value, advice)


def _reaches(host: str) -> bool:
    request = urllib.request.Request(f"https://{host}/", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False


def check_data(data_dir: Path) -> Iterator[Finding]:
    """데이터 폴더에 원본이 있는지 봅니다. 내용은 강의가 읽을 때 확인합니다."""
    found = [name for name, places in PLACES.items() if _any_exists(Path(data_dir), places)]
    missing = [name for name in PLACES if name not in found]
    value = f"{data_dir}에 있는 원본: {', '.join(found) or '없음'}"
    rest = f"없는 것({', '.join(missing)})은 내려받거나 교육용 데이터를 씁니다."
    yield Finding(GOOD, "데이터", value, rest if missing else "")


def _any_exists(folder: Path, places: Sequence[str]) -> bool:
    return any((folder / place).exists() for place in places if place)
