"""torchrun으로 프로세스 둘을 띄웁니다. 기울기, 결과, 이어 하기, 한쪽이 죽었을 때를 봅니다."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import LESSONS, ROOT, environment
from test_lessons import TRAINING

SHARED = [LESSONS[k - 1] for k in (3, 4, 6, 8)]
pytestmark = pytest.mark.slow


def torchrun(script, *arguments) -> list[str]:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    return [*launch, str(script), *map(str, arguments)]


def run_together(script, *arguments, cwd):
    return subprocess.run(
        torchrun(script, *arguments),
        env=environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


GRADIENTS = """
import copy, sys
import torch
sys.path[:0] = [r"{root}", r"{root}/tests"]
from conftest import load_lesson
from utils import distributed

team = distributed.join(torch.device("cpu"))
torch.manual_seed(0)
images, labels = torch.randint(0, 255, (16, 32, 32, 3), dtype=torch.uint8), torch.randint(10, (16,))
net = load_lesson("03_cnn_image_classification").CifarNet(8).double().eval()  # 통계는 고정
x = images.permute(0, 3, 1, 2).double() / 255
yolo = load_lesson("06_yolo_object_detection")
detector = yolo.TinyYOLO(3, 8).double().eval()
photos, grid = torch.rand(5, 64, 64, 3).double(), yolo.make_grid(64)
boxes = torch.tensor([[8.0, 8, 40, 40], [20, 4, 60, 60]]).double().expand(5, 2, 4)
kinds = torch.tensor([[0, 1], [2, -1], [-1, -1], [1, -1], [0, 2]])  # -1은 빈자리
sentences = load_lesson("08_transformer_nlp").Translator(30, 16, 32, 1, 0.0).double()
source, target = torch.randint(4, 30, (5, 6)), torch.randint(4, 30, (5, 7))  # 3 + 2로 나뉨
source[3:, 4:] = target[1:, 3:] = 0


def loss_of_images(model, index, weight):
    return weight(len(index)) * torch.nn.functional.cross_entropy(model(x[index]), labels[index])


def loss_of_tokens(model, index, weight):
    real = target[index] != 0
    logits = model(source[index], target[index], real)
    loss = torch.nn.functional.cross_entropy(logits, target[index][real])
    return weight(real.sum()) * loss


def by_center(*arguments):
    owner, t = yolo.assign_by_center(*arguments)
    return owner, t.double()


def loss_of_boxes(model, index, weight):
    answers = boxes[index], kinds[index], grid, by_center
    losses = yolo.detection_loss(model(photos[index]), *answers)
    return weight(losses[3].sum().clamp(min=1)) * (losses[0] + 5 * losses[1])


plans = (net, loss_of_images, 16), (detector, loss_of_boxes, 5), (sentences, loss_of_tokens, 5)
for model, loss_of, count in plans:
    whole, index = copy.deepcopy(model), torch.arange(count)
    loss_of(whole, index, lambda n: 1.0).backward()
    (mine,) = team.share([index])
    parallel = team.parallel(model)
    loss_of(parallel, mine, lambda n: team.weight(n, torch.device("cpu"))).backward()
    pairs = zip(model.parameters(), whole.parameters(), strict=True)
    gaps = [(a.grad - b.grad).abs().max() for a, b in pairs if a.requires_grad]
    largest = max(p.grad.abs().max() for p in whole.parameters() if p.requires_grad)
    assert 0 < len(mine) < count and largest > 1e-4
    print("GAP", float(max(gaps)), flush=True)
"""


def test_averaged_gradient_is_that_of_one_process(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS.format(root=ROOT), encoding="utf-8")
    done = run_together(script, cwd=tmp_path)
    gaps = [float(gap) for gap in re.findall(r"GAP (\S+)", done.stdout)]
    assert len(gaps) == 3 and max(gaps) < 1e-6, done.stderr  # 0번만 출력함


TRAIN = """
import sys
import numpy as np
import torch
import torch.distributed as dist
sys.path[:0] = [r"{root}", r"{root}/tests"]
from conftest import load_lesson
from utils import distributed

kept, weights, seeds = [], [], []
wrap, weigh, build = distributed.Team.parallel, distributed.Team.weight, np.random.default_rng
distributed.Team.parallel = lambda team, model: kept.append(model) or wrap(team, model)
distributed.Team.weight = lambda team, *a: weights.append(weigh(team, *a)) or weights[-1]
np.random.default_rng = lambda seed=None: seeds.append(seed) or build(seed)
load_lesson("{name}").main(sys.argv[1:])
sums = torch.stack([p.detach().double().sum() for p in kept[0].parameters()])
both = [torch.zeros_like(sums) for _ in range(2)]
dist.all_gather(both, sums)
assert torch.equal(*both), "두 프로세스의 모델이 다름"
if "{name}" != "03_cnn_image_classification":  # 몫의 개수가 아니라 그 속의 것을 평균하는 강의
    assert any(weight != 1 for weight in weights), "몫의 크기를 보지 않음"
if "{name}" == "06_yolo_object_detection":  # NumPy로 증강하는 강의
    lists = [None, None]
    dist.all_gather_object(lists, [seed for seed in seeds if isinstance(seed, list)][-1])
    assert lists[0] != lists[1], "두 프로세스의 증강이 같음"
print("SAME", flush=True)
"""


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_train_one_model(name, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN.format(root=ROOT, name=name), encoding="utf-8")
    flags = ["--quick", "--only", TRAINING[name], "--output-dir", tmp_path]
    done = run_together(script, *flags, cwd=tmp_path)
    assert done.returncode == 0 and "SAME" in done.stdout, done.stderr
    assert "프로세스 2개" in done.stdout
    epochs = re.findall(r"에폭 +(\d+)/(\d+)", done.stdout)
    assert [int(k) for k, _ in epochs] == list(range(1, int(epochs[0][1]) + 1))  # 한 번씩만 출력함
    assert torch.load(tmp_path / name / "model-quick.pt", weights_only=True)


def weights(folder: Path, name: str) -> dict:
    return torch.load(folder / name / "model-quick.pt", weights_only=True)


def start_until(line, *arguments, cwd):
    process = subprocess.Popen(
        torchrun(*arguments),
        env=environment(),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    for text in process.stdout:
        if line in text:
            return process
    raise AssertionError(process.stderr.read())


def test_stopped_and_resumed_together(tmp_path):
    name = SHARED[0]
    flags = ["--quick", "--only", TRAINING[name], "--epochs", "5"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir(), part.mkdir()
    script = ROOT / f"{name}.py"
    assert run_together(script, *flags, "--output-dir", whole, cwd=whole).returncode == 0
    process = start_until("에폭  2/5", script, *flags, "--output-dir", part, cwd=part)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "이어서 실행: torchrun --standalone" in errors
    done = run_together(script, *flags, "--output-dir", part, "--resume", cwd=part)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[2-4] 에폭까지 마친 학습을 이어 갑니다", done.stdout)
    ours, reference = weights(part, name), weights(whole, name)
    assert all(torch.equal(ours[key], reference[key]) for key in reference)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc이 없습니다")
def test_a_killed_process_ends_the_others(tmp_path):
    name = SHARED[0]
    flags = ["--quick", "--only", TRAINING[name], "--epochs", "300", "--output-dir", tmp_path]
    process = start_until("에폭  2/", ROOT / f"{name}.py", *flags, cwd=tmp_path)
    os.kill(max(children(process.pid)), signal.SIGKILL)
    start = time.perf_counter()
    _, errors = process.communicate(timeout=90)
    assert time.perf_counter() - start < 45 and process.returncode != 0
    assert "이어서 실행: torchrun" in errors
    assert "Traceback" not in errors.split("오류:")[0].split("중단했습니다")[0]


def test_a_lesson_for_one_process_says_so(tmp_path):
    done = run_together(
        ROOT / f"{LESSONS[0]}.py", "--quick", "--output-dir", tmp_path, cwd=tmp_path
    )
    assert done.returncode != 0 and "프로세스 하나로 실행하세요" in done.stderr
