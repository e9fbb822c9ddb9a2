"""번역(8강)의 둘레 일: 재기, 문장 번역하기, 어텐션 꺼내 그리기, 틀린 번역 보여 주기."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import visualization as plot
from utils.data_utils import Parallel, Subwords
from utils.device import autocast
from utils.lesson import Run, printable
from utils.model_utils import load_weights, read_about

LONGEST = 256  # 번역할 문장의 가장 긴 토큰 수
UNKNOWN, BEGIN, END = 1, 2, 3


def translate(
    run: Run, subwords: Subwords, model: nn.Module, texts: Sequence[str], decode: Callable
) -> list[str]:
    """문장들을 길이가 비슷한 것끼리 64개씩 묶어 번역합니다. 너무 긴 뒤쪽은 버립니다.

    Args:
        decode: `decode(model, 번호 (B, S), 가장 긴 토큰 수)`가 번역문의 번호 (B, T)를 냅니다.
    """
    rows = [torch.tensor((subwords.encode(text) or [UNKNOWN])[:LONGEST]) for text in texts]
    order, outputs = sorted(range(len(rows)), key=lambda k: len(rows[k])), {}
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        source = nn.utils.rnn.pad_sequence([rows[k] for k in chosen], True).to(run.device)
        with autocast(run.device, run.dtype):
            tokens = decode(model.eval(), source, min(LONGEST, 2 * source.shape[1] + 10))
        outputs |= zip(chosen, map(subwords.decode, tokens.tolist()), strict=True)
    return [outputs[k] for k in range(len(rows))]


@torch.inference_mode()
def measure(run: Run, model: nn.Module, data: Parallel, name: str = "") -> dict[str, float]:
    """교사 강요로 잰 토큰마다의 교차 엔트로피와 정확도입니다. 스무딩은 쓰지 않습니다.

    묶음의 평균을 평균 내지 않고 전체의 합을 토큰 수로 나눕니다.
    """
    model.eval()
    loss = right = count = 0.0
    for index in sum(data.lengths).argsort().split(2 * run.config.batch_size):
        source, target, answer = data.take(index)
        with autocast(run.device, run.dtype):
            logits = model(source, target).float()[answer > 0]
        answer = answer[answer > 0]
        loss += F.cross_entropy(logits, answer, reduction="sum").item()
        right += (logits.argmax(dim=1) == answer).sum().item()
        count += len(answer)
    return {f"{name}loss": loss / count, f"{name}accuracy": right / count}


@torch.inference_mode()
def attention_weights(model: nn.Module, source: Tensor, target: Tensor) -> dict[str, np.ndarray]:
    """원문 (S,)과 번역문 (T,)의 가중치입니다. `model`은 8강의 `Translator`입니다.

    Returns:
        인코더 (계층, 머리, S, S), 디코더 (계층, 머리, T, T), 교차 (계층, 머리, T, S).
    """
    model(source[None], target[None])
    encoder, decoder = model.transformer.encoder.layers, model.transformer.decoder.layers
    layers = {
        "인코더": [layer.self_attn for layer in encoder],
        "디코더": [layer.self_attn for layer in decoder],
        "교차": [layer.multihead_attn for layer in decoder],
    }
    stacks = {name: torch.stack([m.weights[0] for m in part]) for name, part in layers.items()}
    return {name: weights.float().cpu().numpy() for name, weights in stacks.items()}


def head_names(layers: int, heads: int) -> list[str]:
    """`1층 머리 1`부터의 이름입니다."""
    return [f"{k + 1}층 머리 {h + 1}" for k in range(layers) for h in range(heads)]


def draw_attention(
    run: Run, subwords: Subwords, model: nn.Module, source: Tensor, target: Tensor, name: str
) -> None:
    """교차 어텐션을 계층과 머리마다 그립니다. 세로는 번역문, 가로는 원문입니다.

    왜: 60토큰이 넘으면 그림이 몇 GB가 되므로 그리지 않습니다.
    """
    if max(len(source), len(target)) > 60:
        print("  60토큰이 넘어 어텐션은 그리지 않습니다.")
        return
    maps = attention_weights(model, source, target)["교차"]  # (L, H, T, S)
    layers, heads, T, S = maps.shape
    panels = dict(zip(head_names(layers, heads), maps.reshape(-1, T, S), strict=True))
    rows = subwords.pieces([*target[1:].tolist(), END]), subwords.pieces(source.tolist())
    run.figure(plot.heat_grid(panels, *rows, "쓸 때 본 곳(교차 어텐션)", heads), name)


def print_wrong(sources: Sequence[str], answers: Sequence[str], outputs: Sequence[str]) -> None:
    """글자까지 정답과 같은 번역의 비율과, 다른 것 세 개를 출력합니다."""
    rows = [*zip(sources, answers, outputs, strict=True)]
    wrong = [row for row in rows if row[1].lower() != row[2]]
    share = 100 - 100 * len(wrong) / len(rows)
    print(f"  정답과 글자까지 같은 번역 {share:.1f} %. 다른 것의 보기:")
    for row in wrong[:3]:
        for name, text in zip(("원문", "정답", "번역"), row, strict=True):
            print(f"    {name}: {printable(text)[:150]}")


def translate_sentence(run: Run, build: Callable, decode: Callable) -> dict[str, str]:
    """저장한 번역기로 `--translate`의 문장을 번역하고 어디를 보고 썼는지 그립니다.

    Args:
        build: `build(번호의 수, *크기)`가 8강의 `Translator`를 만듭니다.
        decode: `translate`에 주는 것과 같습니다.
    """
    text, about = run.config.translate, read_about(run.path("model.pt"))
    subwords = Subwords(about["pieces"])
    source = torch.tensor(subwords.encode_sentence(text, LONGEST), device=run.device)
    model = build(len(subwords), *about["sizes"]).to(run.device).eval()
    load_weights(run.path("model.pt"), model)
    output = translate(run, subwords, model, [text], decode)[0]
    print(f"  {printable(output)}")
    target = torch.tensor([BEGIN, *subwords.encode(output)], device=run.device)
    draw_attention(run, subwords, model, source, target, "translate")
    return {"translation": output}
