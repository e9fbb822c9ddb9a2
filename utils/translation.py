"""번역(8강)의 둘레 일: 부분 낱말과 번역 짝, 표준 구현, 재기, 번역하기, 어텐션 그리기."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import visualization as plot
from utils.data_utils import learn_subwords, subword_processor
from utils.device import autocast
from utils.errors import UserError
from utils.lesson import Run, printable
from utils.model_utils import load_weights, read_about

LONGEST = 256  # 번역할 문장의 가장 긴 토큰 수
UNKNOWN, BOS, EOS = 1, 2, 3  # 번호. 0은 빈자리


class Subwords:
    """두 언어가 함께 쓰는 부분 낱말의 번호표입니다(4강 4.1절). 소문자로 바꾸어 자릅니다.

    번호 0은 빈자리, 1은 모름, 2는 시작, 3은 끝입니다. `model`은 `learn_subwords`의 것입니다.
    """

    def __init__(self, model: str) -> None:
        self.model, self.processor = model, subword_processor(model)

    @classmethod
    def from_texts(cls, texts: Iterable[str], size: int, **options: Any) -> Subwords:
        """글에서 BPE로 부분 낱말 `size`개를 배웁니다. `options`는 sentencepiece의 옵션입니다."""
        plan = {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc", "pad_id": 0}
        plan |= {"unk_id": 1, "bos_id": 2, "eos_id": 3, "character_coverage": 1.0} | options
        return cls(learn_subwords([text.lower() for text in texts], size, 10**6, **plan))

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        """글을 번호로 바꿉니다. 시작과 끝은 붙이지 않습니다."""
        return self.processor.encode(text.lower())

    def encode_sentence(self, text: str, most: int) -> list[int]:
        """학습자가 준 문장을 번호로 바꿉니다.

        Raises:
            UserError: 빈 문장이거나 `most`토큰을 넘을 때.
        """
        if not text.strip():
            raise UserError("빈 문장을 주었습니다. 번역할 문장을 따옴표로 묶어 주세요.")
        numbers = self.encode(text) or [1]
        if len(numbers) > most:
            raise UserError(f"문장이 {most}토큰보다 깁니다. 짧은 문장으로 나누어 주세요.")
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """번호를 글로 바꿉니다. 빈자리, 모름, 시작, 끝은 뺍니다."""
        return self.processor.decode([number for number in numbers if number > 3])

    def pieces(self, numbers: Iterable[int]) -> list[str]:
        """번호마다의 부분 낱말입니다. 띄어쓰기는 `_`가 됩니다."""
        return [self.processor.id_to_piece(k).replace("\u2581", "_") for k in numbers]


class Parallel(NamedTuple):
    """번호로 바꾼 번역 짝 N개입니다. 뒤쪽은 빈자리 0으로 채웠습니다."""

    source: Tensor  # (N, S)
    target: Tensor  # (N, T)  시작 y1 y2 ...
    answer: Tensor  # (N, T)  y1 y2 ... 끝

    @property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """원문과 번역문의 토큰 수, 둘 다 (N,)입니다. 번역문에는 끝도 셉니다."""
        return (self.source > 0).sum(dim=1), (self.answer > 0).sum(dim=1)

    def take(self, index: Tensor) -> Parallel:
        """고른 짝의 묶음입니다. 그 가운데 가장 긴 것까지만 남깁니다."""
        rows = Parallel(*(column[index] for column in self))
        S, T = (int(length.max()) for length in rows.lengths)
        return Parallel(rows.source[:, :S], rows.target[:, :T], rows.answer[:, :T])

    def first(self, count: int) -> Parallel:
        """앞의 `count`개입니다."""
        return Parallel(*(column[:count] for column in self))

    def padding_share(self, batches: Iterable[Tensor]) -> float:
        """이렇게 묶을 때 빈자리가 차지하는 비율입니다."""
        parts = [self.take(index) for index in batches]
        cells = sum(part.source.numel() + part.answer.numel() for part in parts)
        return 1 - sum(int(sum(part.lengths).sum()) for part in parts) / cells


def draw_orders(device: torch.device, count: int = 128, T: int = 0) -> tuple[Tensor, Tensor]:
    """차례를 맞히는 문제입니다. 번호와, 1이 2보다 앞이면 자리마다 1인 정답, 둘 다 (count, T)

    번호에는 1과 2가 하나씩 있습니다. T가 0이면 6~12에서 뽑습니다.
    """
    T = T or int(torch.randint(6, 13, ()))
    places = torch.rand(count, T, device=device).argsort(dim=1)[:, :2]
    tokens = torch.randint(3, 12, (count, T), device=device)
    tokens.scatter_(1, places, torch.tensor([1, 2], device=device).expand(count, 2))
    return tokens, (places[:, :1] < places[:, 1:]).long().expand(count, T)


def standard_bpe(words: Counter, merges: int) -> tuple[list[str], Callable[[str], list[str]]]:
    """sentencepiece가 낱말의 횟수에서 배운 BPE의 합친 토막과, 낱말을 자르는 함수입니다."""
    letters = set("".join(words))
    options = {
        "model_type": "bpe",
        "vocab_size": merges + len(letters) + 4,  # 낱말의 첫머리, 모름, 시작, 끝
        "character_coverage": 1.0,
        "normalization_rule_name": "identity",
        "split_by_unicode_script": False,
        "split_by_number": False,
        "max_sentencepiece_length": 64,
    }
    processor = subword_processor(learn_subwords(words.elements(), 0, 10**9, **options))
    joined = [processor.id_to_piece(3 + k) for k in range(merges)]
    return joined, lambda word: processor.encode(word, out_type=str)


def encode_pairs(
    subwords: Subwords, x: Sequence[str], y: Sequence[str], most: int, device: torch.device
) -> Parallel:
    """번역 짝을 번호로 바꾸어 장치에 올립니다. 어느 쪽이든 `most`토큰을 넘는 짝은 뺍니다."""
    pairs = [(subwords.encode(a), subwords.encode(b)) for a, b in zip(x, y, strict=True)]
    pairs = [(a, b) for a, b in pairs if a and max(len(a), len(b)) <= most]
    if not pairs:
        raise UserError(f"{most}토큰까지인 번역 짝이 없습니다. --length를 늘리세요.")
    rows = [[a for a, _ in pairs], [[2, *b] for _, b in pairs], [[*b, 3] for _, b in pairs]]
    pad = nn.utils.rnn.pad_sequence
    return Parallel(*(pad([*map(torch.tensor, part)], True).to(device) for part in rows))


class LibraryAttention(nn.MultiheadAttention):
    """8강과 비교할 nn.MultiheadAttention입니다. 마스크 (B, 1, 1, S)는 True가 '봄'입니다.

    왜: PyTorch의 key_padding_mask는 거꾸로 True가 '보지 않음'입니다.
    """

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """x (B, T, D), memory (B, S, D) -> (B, T, D)"""
        options = {"key_padding_mask": ~mask[:, 0, 0], "need_weights": False}
        return super().forward(x, memory, memory, **options)[0]


class LibraryTransformer(nn.Transformer):
    """8강과 비교할 nn.Transformer입니다. 마스크의 뜻은 `LibraryAttention`과 같습니다."""

    def __init__(self, *args: Any, **options: Any) -> None:
        with warnings.catch_warnings():  # 왜: pre-norm이면 쓰지 않을 빠른 길이 꺼졌다고 경고함
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(*args, **({"batch_first": True} | options))

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """원문 x (B, S, D), 번역문 y (B, T, D) -> (B, T, D)"""
        hidden = {"src_key_padding_mask": ~mask[:, 0, 0], "memory_key_padding_mask": ~mask[:, 0, 0]}
        later = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool, device=y.device).triu(1)
        return super().forward(x, y, tgt_mask=later, **hidden)


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
    rows = subwords.pieces([*target[1:].tolist(), EOS]), subwords.pieces(source.tolist())
    run.figure(
        plot.heat_grid(panels, *rows, "쓸 때 본 곳(교차 어텐션, 세로가 번역문)", heads), name
    )


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
    target = torch.tensor([BOS, *subwords.encode(output)], device=run.device)
    draw_attention(run, subwords, model, source, target, "translate")
    return {"translation": output}
