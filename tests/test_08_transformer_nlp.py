"""8강: 공개된 이름마다 표준 구현과 비교하고, 새는 마스크와 BLEU 아닌 BLEU를 막습니다."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from functools import partial
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import metrics
from utils.data_utils import Found
from utils.datasets import captions
from utils.errors import UserError
from utils.lesson import CheckFailed
from utils.translation import (
    LibraryAttention,
    LibraryTransformer,
    Parallel,
    Subwords,
    encode_pairs,
    standard_bpe,
)

NAME = "08_transformer_nlp"
lesson = load_lesson(NAME)
seeds = st.integers(0, 10_000)
relaxed = settings(deadline=None, max_examples=25)
cpu = torch.device("cpu")
rows = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=1, max_size=6)


def small_pairs(num: int = 300, test: list[str] | None = None) -> captions.Pairs:
    x, y = captions.write_captions(num + 40, 0, False)
    hidden = captions.write_captions(20, 1, True)
    if test is not None:
        hidden = test, test
    lists = captions.PairLists(x[:num], y[:num], x[num:], y[num:], *hidden)
    return captions.Pairs("시험", Found("sample", "시험", lists), ("영어", "한국어"))


def prepare(run, pairs):
    run._datasets[(captions.load, ("pair", "de-en"), ("parallel", ""))] = pairs
    return run


@pytest.fixture
def run(tmp_path):
    run = lesson.chapter.start(["--quick", "--output-dir", str(tmp_path), "--device", "cpu"])
    small = {"small": 100, "pairs": 300, "epochs": 1, "steps": 8, "hidden": 32, "words": 200}
    run.config = dataclasses.replace(run.config, **small)
    return prepare(run, small_pairs())


def same(ours, reference, atol=1e-9):
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def real_mask(lengths, S):
    return (torch.tensor(lengths)[:, None] > torch.arange(S))[:, None, None]


def tiny(words=30, kind=None, **options):
    torch.manual_seed(0)
    return (kind or lesson.Translator)(words, 16, 32, 2, **options).double().eval()


def random_pairs(lengths) -> Parallel:
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    source = [torch.randint(4, 30, (S,)) for S, _ in lengths]
    target = [torch.randint(4, 30, (T - 1,)) for _, T in lengths]
    ends = torch.tensor([lesson.BOS]), torch.tensor([lesson.EOS])
    y = pad([torch.cat([ends[0], row]) for row in target])
    return Parallel(pad(source), y, pad([torch.cat([row, ends[1]]) for row in target]))


# -- 어텐션 ---------------------------------------------------------------------------
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 9))
@relaxed
def test_attention_equals_loops_and_torch(seed, T, S, D):
    torch.manual_seed(seed)
    q, k, v = double(T, D), double(S, D), double(S, 3)
    ours, weights = lesson.scaled_dot_product_attention(q, k, v)
    assert same(ours, lesson.attention_by_loops(q, k, v))
    assert same(ours, F.scaled_dot_product_attention(q[None], k[None], v[None])[0])
    assert same(weights.sum(dim=1), torch.ones(T, dtype=torch.float64))


@given(seeds, st.floats(0, 1))
@relaxed
def test_masked_attention_has_no_nan_even_in_blind_rows(seed, share):
    torch.manual_seed(seed)
    q, k, v = (double(2, 4, 5).requires_grad_() for _ in range(3))
    mask = torch.rand(2, 4, 4) < share
    ours, weights = lesson.scaled_dot_product_attention(q, k, v, mask)
    assert same(ours, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    assert (weights[~mask] == 0).all()
    ours.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@given(st.integers(1, 8), st.integers(0, 8))
def test_causal_mask(T, start):
    mask = lesson.causal_mask(T, start)
    assert mask.shape == (T, start + T)
    for t, s in product(range(T), range(start + T)):
        assert mask[t, s] == (s <= start + t)


@given(seeds, st.sampled_from([(8, 1), (8, 2), (12, 3), (16, 4)]))
@relaxed
def test_multi_head_attention_equals_torch(seed, plan):
    torch.manual_seed(seed)
    ours = lesson.MultiHeadAttention(*plan).double()
    library = LibraryAttention(*plan, batch_first=True).double()
    library.load_state_dict(ours.state_dict())
    x, memory, mask = double(3, 4, plan[0]), double(3, 6, plan[0]), real_mask([6, 1, 3], 6)
    assert same(ours(x, memory, mask), library(x, memory, mask))
    assert ours.weights.shape == (3, plan[1], 4, 6) and not ours.weights.requires_grad


# -- 자리와 계층 ----------------------------------------------------------------------
@given(st.integers(1, 40), st.integers(1, 8))
def test_positions_by_the_formula(T, half):
    P = lesson.sinusoidal_positions(T, 2 * half)
    for t, i in product((0, T - 1), range(half)):
        angle = t * 10000 ** (-2 * i / (2 * half))
        assert P[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-4)
        assert P[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-4)


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_and_transformer_equal_torch(norm_first):
    torch.manual_seed(0)
    x, y, mask = double(2, 5, 8), double(2, 4, 8), real_mask([5, 2], 5)
    ours = lesson.Transformer(8, 2, 3, 16, 0.0, norm_first).double()
    library = LibraryTransformer(8, 2, 3, 3, 16, 0.0, batch_first=True, norm_first=norm_first)
    library = library.double()
    library.load_state_dict(ours.state_dict())
    assert same(ours(x, y, mask), library(x, y, mask))
    layer = nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=norm_first)
    mine = lesson.DecoderLayer(8, 2, 16, 0.0, norm_first).double()
    layer.double().load_state_dict(mine.state_dict())
    later = ~lesson.causal_mask(4)
    theirs = layer(y, x, tgt_mask=later, memory_key_padding_mask=~mask[:, 0, 0])
    assert same(mine(y, x, lesson.causal_mask(4), mask), theirs)


@given(seeds, st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_future_tokens_change_nothing_before(seed, t):
    torch.manual_seed(seed)
    source, target = (torch.randint(4, 30, (2, 7)) for _ in range(2))
    assert lesson.moved_before(tiny(), source, target, t) == 0
    leaky = tiny()
    leaky.decode = lambda y, memory, mask: leaky.transformer.decoder(
        leaky.embed(y), memory, None, mask
    )
    assert lesson.moved_before(leaky, source, target, t) > 1e-6


@given(seeds, st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_padding_changes_nothing(seed, S, T):
    torch.manual_seed(seed)
    source, target, model = torch.randint(4, 30, (2, 6)), torch.randint(4, 30, (2, 5)), tiny()
    longer = model(F.pad(source, (0, S)), F.pad(target, (0, T)))
    assert same(longer[:, :5], model(source, target))


def test_embedding_is_shared_by_all_three():
    model = tiny()
    names = [name for name, _ in model.named_parameters() if "transformer" not in name]
    assert names == ["embedding.weight"] and "positions" not in model.state_dict()


# -- 부분 낱말 ------------------------------------------------------------------------
@given(st.lists(st.text("abcd", min_size=1, max_size=6), min_size=2, max_size=12))
@relaxed
def test_bpe_pieces_join_back_to_the_word(words):
    joined = lesson.train_bpe(Counter([*words, "abcd"]), 3)
    assert len(joined) == len(set(joined)) == 3
    for word in words:
        pieces = lesson.apply_bpe(word, joined)
        assert "".join(pieces) == lesson.SPACE + word
        assert all(piece in joined or len(piece) == 1 for piece in pieces)


def test_bpe_by_example():
    words = Counter({"low": 5, "lower": 2, "newest": 6, "widest": 3})
    joined = lesson.train_bpe(words, 4)
    assert joined == ["es", "est", "lo", "low"]
    assert lesson.apply_bpe("lowest", joined) == [lesson.SPACE, "low", "est"]


@given(st.lists(st.text("ab하1.", min_size=1, max_size=7), min_size=1, max_size=9))
@settings(deadline=None, max_examples=15)
def test_bpe_equals_sentencepiece(texts):
    words = Counter([*texts, "aaaa", "하하하", "ab.1"])
    ours, (theirs, cut) = lesson.train_bpe(words, 4), standard_bpe(words, 4)
    assert ours == theirs
    assert all(lesson.apply_bpe(word, ours) == cut(word) for word in words)


def test_subwords_come_from_training_text_alone(tmp_path):
    """테스트 문장을 아무 글로나 바꾸어도 번호표와 모델이 같습니다."""
    states = []
    for name, test in (("a", None), ("b", ["zzz qqq 뷁뷁"] * 20)):
        run = lesson.chapter.start(["--quick", "--output-dir", str(tmp_path / name)])
        small = {"pairs": 300, "epochs": 1, "hidden": 32, "words": 200}
        run.config = dataclasses.replace(run.config, **small)
        ready = lesson.section_subwords(prepare(run, small_pairs(test=test)))
        subwords, model = lesson.section_training(run, ready)
        states.append((subwords.model, model.state_dict()))
    (first, ours), (second, theirs) = states
    assert first == second and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_subwords_read_back_and_long_pairs_are_left_out():
    pairs = small_pairs()
    subwords = Subwords.from_texts([*pairs.x_train, *pairs.y_train], 300)
    assert subwords.decode([2, *subwords.encode("A Man"), 3, 0, 0]) == "a man"
    assert subwords.encode("STRASSE straße")  # 모르는 글자가 있어도 멈추지 않음
    data = encode_pairs(subwords, pairs.x_train, pairs.y_train, 20, cpu)
    assert 0 < len(data.source) <= 300 and data.source.shape[1] <= 20
    assert (data.target[:, 0] == lesson.BOS).all()
    ends = data.answer.gather(1, data.lengths[1][:, None] - 1)
    assert (ends == lesson.EOS).all()
    assert torch.equal(data.target[:, 1:][data.answer[:, :-1] > 3], data.answer[data.answer > 3])
    with pytest.raises(UserError, match="--length"):
        encode_pairs(subwords, pairs.x_train, pairs.y_train, 1, cpu)


# -- 손실, 일정, 묶음 -----------------------------------------------------------------
@given(seeds, st.floats(0, 0.9))
@relaxed
def test_label_smoothing_ignores_padding(seed, e):
    torch.manual_seed(seed)
    logits, answer = double(3, 5, 7), torch.randint(0, 7, (3, 5))
    answer[0, 0] = 5
    flat = logits.flatten(0, 1), answer.flatten()
    library = F.cross_entropy(*flat, label_smoothing=e, ignore_index=lesson.PAD)
    assert same(lesson.label_smoothing_loss(logits, answer, e), library)
    logits[answer == lesson.PAD] = 1e3
    assert same(lesson.label_smoothing_loss(logits, answer, e), library)


@given(st.integers(1, 500), st.integers(2, 512))
def test_noam_peaks_at_the_end_of_warmup(warmup, size):
    rates = [lesson.noam_schedule(t, size, warmup) for t in range(1, 3 * warmup + 2)]
    assert max(rates) == rates[warmup - 1] == pytest.approx((size * warmup) ** -0.5)


@given(st.integers(1, 300))
def test_factors_stay_between_zero_and_one(total):
    for factor in (lesson.one_cycle, lesson.noam):
        values = [factor(t, total) for t in range(total)]
        assert min(values) > 0 and max(values) <= 1 + 1e-9
    assert lesson.one_cycle(total, total) == 0


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(2, 20)), min_size=2, max_size=40), seeds)
@relaxed
def test_token_batches(lengths, seed):
    torch.manual_seed(seed)
    data = random_pairs(lengths)
    most = sum(S + T for S, T in lengths) / len(lengths) * 4
    for shuffle in (True, False):
        batches = lesson.token_batches(data, 4, shuffle)
        assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
        for index in batches:
            tokens = [sum(lengths[k]) for k in index.tolist()]
            assert sum(tokens) <= most + max(tokens)


def test_measure_is_the_mean_over_tokens(run):
    data, model = random_pairs([(3, 5), (7, 2), (1, 9)]), tiny().float()
    loss = hits = count = 0
    for source, target, answer in zip(*data, strict=True):
        source, answer = source[source > 0], answer[answer > 0]
        logits = model(source[None], target[None, : len(answer)])[0]
        loss += F.cross_entropy(logits, answer, reduction="sum").item()
        hits, count = hits + (logits.argmax(1) == answer).sum().item(), count + len(answer)
    found = lesson.measure(run, model, data, "val_")
    assert found["val_loss"] == pytest.approx(loss / count, rel=1e-4)
    assert found["val_accuracy"] == pytest.approx(hits / count)


# -- BLEU -----------------------------------------------------------------------------
@given(st.lists(st.tuples(*[st.lists(st.sampled_from("abcd"), max_size=9)] * 2), min_size=1))
@relaxed
def test_bleu_equals_sacrebleu(pairs):
    outputs = [output for output, _ in pairs]
    references = [reference or ["a"] for _, reference in pairs]
    for smooth in (True, False):
        theirs = metrics.token_bleu(outputs, references, smooth)
        assert lesson.corpus_bleu(outputs, references, smooth) == pytest.approx(theirs, abs=1e-6)


def test_bleu_by_example():
    cat = "the cat is on the mat .".split()
    found = lesson.ngram_statistics(["the"] * 7, cat)
    assert (found[2], found[3]) == (2, 7)  # 논문의 예. 두 번까지만 셈
    assert lesson.corpus_bleu([cat], [cat]) == pytest.approx(100)
    assert lesson.corpus_bleu([cat[:6]], [cat]) == pytest.approx(100 * math.exp(1 - 7 / 6))
    assert lesson.corpus_bleu([[]], [cat]) == 0


def test_korean_is_cut_into_letters():
    bleu = metrics.standard_bleu(True)
    assert metrics.bleu_tokens(bleu, ["남자가 A를."]) == [[*"남자가a를."]]
    assert bleu.corpus_score(["남자"], [["남자"]]).score >= 0
    assert "tok:char" in str(bleu.get_signature()) and "case:lc" in str(bleu.get_signature())
    assert metrics.bleu_tokens(metrics.standard_bleu(False), ["A man."]) == [["a", "man", "."]]


# -- 디코딩 ---------------------------------------------------------------------------
@given(seeds)
@settings(deadline=None, max_examples=10)
def test_cache_gives_the_same_tokens(seed):
    torch.manual_seed(seed)
    model, source = tiny(), F.pad(torch.randint(4, 30, (3, 6)), (0, 2))
    slow = lesson.greedy_decode(model, source, 12, cached=False, stop=False)
    assert torch.equal(lesson.greedy_decode(model, source, 12, stop=False), slow)
    assert slow.shape == (3, 12)


def every_sentence(model, source, words: int, most: int, alpha: float) -> list[int]:
    """끝이 있거나 `most`토큰인 모든 문장을 채점해 가장 좋은 것을 찾습니다."""
    found = {}
    for numbers in product(range(words), repeat=most):
        length = numbers.index(lesson.EOS) + 1 if lesson.EOS in numbers else most
        found[numbers[:length]] = 0.0
    for sentence in found:
        row = torch.tensor([sentence])
        logits = model(source, F.pad(row, (1, 0), value=lesson.BOS)[:, :-1])
        total = logits.log_softmax(dim=2).gather(2, row[..., None]).sum().item()
        found[sentence] = total / ((5 + len(sentence)) / 6) ** alpha
    best = list(max(found, key=found.get))
    return best + [lesson.PAD] * (most - len(best))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_wide_beam_finds_the_best_of_all_sentences(seed, alpha):
    torch.manual_seed(seed)
    model = lesson.Translator(5, 16, 32, 1).double().eval()
    nn.init.normal_(model.embedding.weight)
    source = torch.tensor([[4, 1, 4]])
    with torch.inference_mode():
        best = every_sentence(model, source, 5, 3, alpha)
    assert lesson.beam_search(model, source, 3, width=125, alpha=alpha)[0].tolist() == best


@given(seeds)
@settings(deadline=None, max_examples=10)
def test_narrow_beam_is_greedy_and_rows_do_not_mix(seed):
    torch.manual_seed(seed)
    model, source = tiny(), torch.randint(4, 30, (4, 5))
    nn.init.normal_(model.embedding.weight)
    greedy = lesson.greedy_decode(model, source, 9)
    narrow = lesson.beam_search(model, source, 9, width=1, alpha=0)
    assert torch.equal(narrow[:, : greedy.shape[1]], greedy)
    whole = lesson.beam_search(model, source, 9)
    alone = torch.cat([lesson.beam_search(model, row[None], 9) for row in source])
    assert torch.equal(whole, alone)


@given(seeds, st.integers(1, 12), st.floats(0.05, 1))
@relaxed
def test_filters_keep_the_smallest_head(seed, top_k, top_p):
    torch.manual_seed(seed)
    logits = double(3, 12)
    kept = lesson.filter_logits(logits, top_k=top_k).isfinite()
    assert (kept.sum(dim=1) == top_k).all()
    kept = lesson.filter_logits(logits, top_p=top_p).isfinite()
    p = logits.softmax(dim=1)
    for row, chosen in zip(p, kept, strict=True):
        assert row[chosen].sum() >= top_p - 1e-9
        assert row[chosen].sum() - row[chosen].min() < top_p + 1e-9  # 하나라도 빼면 모자람
        assert chosen.all() or row[chosen].min() >= row[~chosen].max()
    hot = lesson.filter_logits(logits, temperature=2.0)
    assert same(hot.softmax(dim=1), (logits / 2).softmax(dim=1))


# -- IBM 모델 1과 기준선 ---------------------------------------------------------------
def ibm_by_loops(sources, targets, rounds: int) -> dict[tuple[int, int], float]:
    pairs = [([0, *source], target) for source, target in zip(sources, targets, strict=True)]
    p = {(s, t): 1.0 for a, b in pairs for s in a for t in b}
    for _ in range(rounds):
        count, mass = Counter(), Counter()
        for a, b in pairs:
            for t in b:
                total = sum(p[s, t] for s in a)
                for s in a:
                    count[s, t] += p[s, t] / total
                    mass[s] += p[s, t] / total
        p = {(s, t): value / mass[s] for (s, t), value in count.items()}
    return p


words = st.lists(st.integers(1, 6), min_size=1, max_size=5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6), st.integers(1, 4))
@relaxed
def test_ibm_model1_equals_loops_and_never_gets_worse(pairs, rounds):
    sources, targets = zip(*pairs, strict=True)
    table, history = lesson.ibm_model1(sources, targets, 7, rounds)
    by_loops = ibm_by_loops(sources, targets, rounds)
    assert table.nnz <= len(by_loops)
    for (s, t), value in by_loops.items():
        assert table[s, t] == pytest.approx(value, abs=1e-9)
    assert all(b >= a - 1e-9 for a, b in pairwise(history))


def test_ibm_model1_finds_the_words_of_a_tiny_language():
    x = ["red car", "blue car", "red house", "blue house", "red dog"]
    y = ["빨간 차", "파란 차", "빨간 집", "파란 집", "빨간 개"]
    (sources, names), (targets, answers) = metrics.number_words(x), metrics.number_words(y)
    best = lesson.ibm_model1(sources, targets, 9)[0].argmax(axis=1)
    table = {name: answers[best[k]] for k, name in enumerate(names)}
    assert [table[word] for word in ("red", "blue", "car", "house")] == ["빨간", "파란", "차", "집"]


def test_nearest_translation():
    x, y = ["a red car", "two dogs run", "a blue house"], ["차", "개", "집"]
    assert metrics.nearest_translations(x, y, ["the dogs run", "house"]) == ["개", "집"]


def test_bootstrap_and_by_length():
    rows = np.array([[1.0, 1], [0, 1]] * 50)
    low, high = metrics.bootstrap(lambda total: total[0] / total[1], rows)
    assert 0.35 < low < 0.5 < high < 0.65
    counts = np.array([[1, 5], [2, 1], [3, 9], [4, 3], [5, 7], [6, 2]])
    found = metrics.by_length(lambda total: total[0], {"a": counts})["a"]
    assert found == {"1~2토큰": 8, "3~5토큰": 5, "7~9토큰": 8}


# -- 확인이 잡는 실수 ------------------------------------------------------------------
def without_scale(q, k, v, mask=None):
    return right_attention(q * q.shape[-1] ** 0.5, k, v, mask)


def blind_rows_see_everything(q, k, v, mask=None):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1) @ v, scores.softmax(-1)


def one_too_many(T, start=0, device=None):
    return torch.ones(T, start + T, dtype=torch.bool, device=device).tril(start + 1)


def heads_mixed(self, x):
    return x.unflatten(2, (-1, self.heads)).movedim(3, 1)


def padding_is_seen(self, source):
    mask = torch.ones_like(source, dtype=torch.bool)[:, None, None]
    return self.transformer.encoder(self.embed(source), mask), mask


def loss_with_padding(logits, answer, e=0.1):
    return F.cross_entropy(logits.flatten(0, -2), answer.flatten(), label_smoothing=e)


def without_clipping(output, reference):
    numbers = right_statistics(output, reference)
    numbers[2] = sum(token in reference for token in output)
    return numbers


def without_the_short_penalty(statistics, smooth=True):
    return right_bleu([1e9, *statistics[1:]], smooth)


def no_embedding_start(self, tokens, start=0):
    return right_embed(self, tokens, 0)


def sines_then_cosines(T, D):
    return torch.cat(right_positions(T, D).view(T, -1, 2).unbind(dim=2), dim=1)


right_attention, right_bleu = lesson.scaled_dot_product_attention, lesson.bleu_score
right_statistics, right_embed = lesson.ngram_statistics, lesson.Translator.embed
right_positions = lesson.sinusoidal_positions
MUTATIONS = [
    (lesson, "scaled_dot_product_attention", without_scale, "section_attention"),
    (lesson, "scaled_dot_product_attention", blind_rows_see_everything, "section_attention"),
    (lesson, "causal_mask", one_too_many, "section_transformer"),
    (lesson.MultiHeadAttention, "split", heads_mixed, "section_heads"),
    (lesson, "sinusoidal_positions", sines_then_cosines, "section_positions"),
    (lesson.EncoderLayer, "wrap", lambda self, x, norm, f: norm(f(x)), "section_transformer"),
    (lesson.Translator, "encode", padding_is_seen, "section_transformer"),
    (lesson, "apply_bpe", lambda word, joined: [lesson.SPACE, *word], "section_subwords"),
    (lesson, "label_smoothing_loss", loss_with_padding, "section_preparation"),
    (lesson, "ngram_statistics", without_clipping, "section_bleu"),
    (lesson, "bleu_score", without_the_short_penalty, "section_bleu"),
    (lesson.Translator, "embed", no_embedding_start, "section_decoding"),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "section"), MUTATIONS)
def test_checks_catch_mutations(owner, name, wrong, section, run, monkeypatch):
    inputs = []
    if section in ("section_preparation", "section_decoding"):
        inputs = [lesson.section_subwords(run)]
    if section == "section_decoding":
        inputs = [lesson.section_training(run, *inputs)]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run, *inputs)


# -- 실행 전체 -----------------------------------------------------------------------
@pytest.mark.slow
def test_quick_learning_band(quick_runs):
    done = quick_runs(NAME)
    results, floors = done.metrics["results"], done.metrics["floors"]
    assert results["테스트 번역"]["value"] > max(floors.values()) + 5
    assert floors["원문 그대로"] < floors[lesson.GLOSS] < floors["가장 비슷한 학습 문장"]
    assert "tok:char" in done.stdout and done.metrics["data"]["source"] == "sample"
    held = {claim["claim"]: claim["holds"] for claim in done.metrics["claims"]}
    assert any("인과 마스크" in claim and holds for claim, holds in held.items())


@pytest.mark.slow
def test_translate(quick_runs, tmp_path):
    folder = quick_runs(NAME).folder.parent
    text = "A man is reading a book in the park."
    done = run_lesson(NAME, "--quick", "--translate", text, output=folder)
    assert done.status == 0 and "남자" in done.stdout
    assert (folder / NAME / "translate.png").stat().st_size > 5000
    for wrong, status, words in (("  ", 2, "빈 값"), ("man " * 2000, 1, "토큰보다")):
        done = run_lesson(NAME, "--quick", "--translate", wrong, output=folder)
        assert done.status == status and words in done.stderr and "Traceback" not in done.stderr
    done = run_lesson(NAME, "--quick", "--translate", "🙂 뷁 \u2028 é", output=folder)
    assert done.status == 0 and "Traceback" not in done.stderr
    done = run_lesson(NAME, "--translate", text, output=tmp_path)
    assert done.status == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_parallel_file_trains(tmp_path):
    x, y = captions.write_captions(400, 3, False)
    lines = "\n".join(f"{a}\t{b}\t출처" for a, b in zip(x, y, strict=True))
    (tmp_path / "짝.tsv").write_text(lines, encoding="utf-8")
    flags = "--quick --only 8.8 --epochs 1 --parallel".split()
    done = run_lesson(NAME, *flags, tmp_path / "짝.tsv", output=tmp_path)
    assert done.status == 0 and "짝.tsv" in done.stdout, done.stderr
    done = run_lesson(NAME, *flags, tmp_path / "없음.tsv", output=tmp_path)
    assert done.status == 1 and "없음.tsv" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_claims_hold_at_full_size(tmp_path, monkeypatch):
    """`--quick`은 판정하기에 짧습니다. 걸음을 늘리면 글의 주장이 성립해야 합니다."""

    def processor_seconds(function, device, repeats):  # 왜: 함께 도는 시험에 흔들리지 않게 함
        function()
        seconds = []
        for _ in range(3):  # 왜 가장 작은 것: 다른 프로그램은 시간을 늘리기만 함
            start = time.process_time()
            function()
            seconds.append(time.process_time() - start)
        return min(seconds)

    monkeypatch.setattr(lesson, "median_seconds", processor_seconds)
    run = lesson.chapter.start(["--data", "sample", "--output-dir", str(tmp_path)])
    run.config = dataclasses.replace(run.config, hidden=128, width=256, small=1000)
    lesson.section_attention(run)
    lesson.section_layers(run)
    lesson.section_positions(run)
    lesson.section_transformer(run)
    lesson.section_preparation(run, lesson.section_subwords(run))
    failed = [c["claim"] for c in run.metrics["claims"] if not c["holds"]]
    assert [claim for claim in failed if "모르는" not in claim] == []  # 만든 글에는 거의 없음
