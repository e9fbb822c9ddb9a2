"""체크포인트의 약속: 정확히 이어지고, 손상되면 말하고, 숨은 코드를 실행하지 않습니다."""

from __future__ import annotations

import errno
import os
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from utils import files
from utils.errors import UserError
from utils.files import write_atomically
from utils.model_utils import (
    Checkpoint,
    count_multiplications,
    count_parameters,
    load_weights,
    read_about,
    save_weights,
)

IDENTITY = {"lr": 0.1, "epochs": 3, "lesson": "demo"}


def make(path, identity=IDENTITY):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 100)
    return Checkpoint(path, identity, model, optimizer, scheduler), model, optimizer, scheduler


def train(model, optimizer, scheduler, steps):
    for _ in range(steps):
        noise = random.random() + np.random.rand() + torch.rand(1)
        loss = (model(torch.randn(3, 4)) * noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


def test_resumed_training_is_identical(tmp_path):
    checkpoint, *parts = make(tmp_path / "c.pt")
    random.seed(1)
    np.random.seed(1)
    train(*parts, steps=5)
    checkpoint.history = [{"loss": 1.5}]
    checkpoint.save()
    train(*parts, steps=5)
    expected = parts[0].weight.detach().clone()
    again, *parts = make(tmp_path / "c.pt")
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    again.restore()
    assert again.history == [{"loss": 1.5}]
    train(*parts, steps=5)
    assert torch.equal(parts[0].weight, expected)


def test_without_a_file_training_starts_anew(tmp_path, capsys):
    checkpoint, *_ = make(tmp_path / "c.pt")
    checkpoint.restore()
    assert checkpoint.history == [] and "처음부터" in capsys.readouterr().out


def damage_truncate(content):
    return content[: len(content) // 2]


def damage_flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_flip, lambda c: b"", lambda c: b"hello", lambda c: c[10:]]
)
def test_damaged_checkpoint_is_refused(damage, tmp_path):
    checkpoint, *_ = make(tmp_path / "c.pt")
    checkpoint.save()
    (tmp_path / "c.pt").write_bytes(damage((tmp_path / "c.pt").read_bytes()))
    with pytest.raises(UserError, match=r"c\.pt"):
        checkpoint.restore()


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    make(tmp_path / "c.pt")[0].save()
    with pytest.raises(UserError, match=r"lr 0\.1 -> 0\.2"):
        make(tmp_path / "c.pt", {**IDENTITY, "lr": 0.2})[0].restore()
    save_weights(tmp_path / "w.pt", nn.Linear(4, 2))
    with pytest.raises(UserError, match="체크포인트가 아닙니다"):
        make(tmp_path / "w.pt")[0].restore()


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    make(tmp_path / "c.pt")[0].save()
    checkpoint, *_ = make(tmp_path / "c.pt")
    checkpoint.parts = (nn.Linear(9, 2), *checkpoint.parts[1:])
    with pytest.raises(UserError, match="맞지 않는"):
        checkpoint.restore()


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_hidden_code_does_not_run(writer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if writer == "pickle":
        (tmp_path / "c.pt").write_bytes(pickle.dumps({"model": Attack()}))
    else:
        torch.save({"model": Attack()}, tmp_path / "c.pt")
    with pytest.raises(UserError):
        make(tmp_path / "c.pt")[0].restore()
    with pytest.raises(UserError):
        load_weights(tmp_path / "c.pt", nn.Linear(4, 2))
    assert not (tmp_path / "attacked").exists()


def test_full_disk_keeps_the_previous_file(tmp_path, monkeypatch):
    checkpoint, *_ = make(tmp_path / "c.pt")
    checkpoint.history = [{"epoch": 1}]
    checkpoint.save()
    before = (tmp_path / "c.pt").read_bytes()

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        checkpoint.history.append({"epoch": 2})
        checkpoint.save()
    assert (tmp_path / "c.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_resuming_with_fewer_gpus_sets_only_theirs(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(1), torch.ones(1)])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    make(tmp_path / "c.pt")[0].save()
    make(tmp_path / "c.pt")[0].restore()
    assert given == [torch.zeros(1)]


def test_interrupt_while_writing_leaves_no_part(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a" / "file", b"content")
    assert list((tmp_path / "a").iterdir()) == []


def test_what_builds_the_model_is_kept_beside_the_weights(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(UserError, match="학습한 모델이 없습니다"):
        read_about(path)
    save_weights(path, nn.Linear(2, 1), width=2, names=("고양이", "개"))
    assert read_about(path) == {"width": 2, "names": ["고양이", "개"]}


def test_model_of_a_quick_run_is_pointed_out(tmp_path):
    save_weights(tmp_path / "model-quick.pt", nn.Linear(2, 1))
    with pytest.raises(UserError, match="--quick도 함께"):
        load_weights(tmp_path / "model.pt", nn.Linear(2, 1))


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path / "w.pt", nn.Linear(4, 2))
    model = nn.Linear(4, 2)
    load_weights(tmp_path / "w.pt", model)
    with pytest.raises(UserError, match="가중치가 아닙니다"):
        load_weights(tmp_path / "w.pt", nn.Linear(5, 2))
    with pytest.raises(UserError, match="없습니다"):
        load_weights(tmp_path / "missing.pt", model)


def test_counting_multiplications_leaves_the_model_alone():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 4 * 4, 5)).train()
    x = torch.zeros(2, 2, 6, 6)
    assert count_multiplications(model, x) == 2 * (3 * 4 * 4 * 2 * 9 + 48 * 5)
    assert model.training and next(model.parameters()).device.type == "cpu"


def test_count_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    assert count_parameters(model) == 3 * 4 + 4 + 4 * 2
