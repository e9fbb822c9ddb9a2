"""4강: 공개된 이름마다 표준 구현과 비교하고, 빈자리와 어휘의 약속을 시험합니다."""

from __future__ import annotations

import dataclasses
import unicodedata

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import give_data, load_lesson, run_lesson
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils import metrics
from utils.data_utils import Corpus, Found, TextDataset, Texts, join_texts
from utils.datasets import reviews
from utils.lesson import CheckFailed, printable

NAME = "04_rnn_text_classification"
lesson = load_lesson(NAME)
seeds = st.integers(0, 10_000)
relaxed = settings(deadline=None, max_examples=25)
cpu = torch.device("cpu")
hangul = st.text(st.sampled_from("가각힣뷁영화좋았다 abcZ09!?"), max_size=30)


def small_dataset(seed: int = 5) -> TextDataset:
    train, test = (
        reviews.write_reviews(1400, seed, False),
        reviews.write_reviews(400, seed + 1, True),
    )
    found = Found("sample", "시험", Texts(*train, *test))
    return TextDataset("작은 리뷰", found, reviews.CLASS_NAMES, 300)


@pytest.fixture
def run(tmp_path):
    flags = ["--quick", "--output-dir", str(tmp_path), "--device", "cpu", "--dataset", "nsmc"]
    run = lesson.chapter.start(flags)
    small = {"small": 400, "texts": 1000, "epochs": 5, "steps": 20, "hidden": 32, "words": 500}
    run.config = dataclasses.replace(run.config, **small)
    give_data(run, reviews.load_nsmc, small_dataset())
    return run


def same(ours, reference, atol=1e-9):
    return ours.shape == reference.shape and torch.allclose(ours, reference, atol=atol, rtol=0)


def corpus_of(lengths) -> Corpus:
    numbers = [torch.randint(1, 50, (length,)).tolist() for length in lengths]
    return join_texts(numbers, torch.arange(len(lengths)) % 2, cpu)


# -- 글과 어휘 -------------------------------------------------------------------------
@given(hangul)
def test_jamo_is_nfd(text):
    assert lesson.split_jamo(text) == unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("unit", ["낱말", "띄어쓰기", "글자", "자모"])
@given(text=hangul)
def test_tokens_do_not_depend_on_the_unicode_form(unit, text):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert lesson.tokenize(composed, unit) == lesson.tokenize(decomposed, unit)
    assert all(lesson.tokenize(composed, unit))


def test_tokenize_by_example():
    assert lesson.tokenize("<소나기>같은 느낌 <3") == ["<", "소나기", ">", "같은", "느낌", "<", "3"]
    text = "<br />It's  GREAT!! &amp; 최고ㅋㅋ 10점"
    words = ["it's", "great", "!", "!", "&", "최고", "ㅋㅋ", "10", "점"]
    assert lesson.tokenize(text) == words
    assert lesson.tokenize(text, "띄어쓰기") == ["it's", "great!!", "&", "최고ㅋㅋ", "10점"]
    assert lesson.tokenize("각 A", "글자") == ["각", " ", "a"]
    assert lesson.tokenize("각", "자모") == list(unicodedata.normalize("NFD", "각"))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1).map(" ".join), min_size=1))
def test_vocabulary(texts):
    vocabulary = lesson.Vocabulary.from_texts(texts, 6)
    words = " ".join(texts).split()
    kept = vocabulary.tokens[2:]
    assert len(vocabulary) == len(kept) + 2 <= 6
    assert all(words.count(word) > 1 for word in kept)
    counts = sorted((words.count(word) for word in set(words)), reverse=True)
    assert [words.count(word) for word in kept] == [n for n in counts[:4] if n > 1]
    for text in texts:
        numbers = vocabulary.encode(text)
        again = vocabulary.decode(numbers)
        pairs = zip(text.split(), again, strict=True)
        assert all(b == (a if a in kept else "<모름>") for a, b in pairs)
    assert vocabulary.encode("") == [1] and 0 not in vocabulary.encode("zz a")


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(1, 12))
def test_last_keeps_the_end_of_every_text(lengths, most):
    corpus = corpus_of(lengths)
    short = corpus.last(most)
    for k, n in enumerate(lengths):
        whole = corpus.flat[corpus.start[k] :][:n]
        assert torch.equal(short.flat[short.start[k] :][: short.length[k]], whole[-most:])


def test_a_small_vocabulary_still_holds_every_letter():
    texts = [chr(ord("가") + k) * 3 for k in range(400)]
    vocabulary = lesson.Vocabulary.from_texts(texts, 100, "부분 낱말")
    assert len(vocabulary) <= 100


def test_subwords_are_learnt_and_read_back():
    texts, _ = reviews.write_reviews(600, 3, False)
    vocabulary = lesson.Vocabulary.from_texts(texts, 400, "부분 낱말")
    again = lesson.Vocabulary(vocabulary.unit, vocabulary.tokens[2:], vocabulary.pieces)
    assert again.encode(texts[0]) == vocabulary.encode(texts[0])
    assert "".join(vocabulary.cut("연기가 좋았다")).replace("_", " ").strip() == "연기가 좋았다"


# -- 묶음 ----------------------------------------------------------------------------
@relaxed
@given(seeds, st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 20))
def test_bucketed_batches_hold_every_text_once(seed, lengths, batch_size):
    torch.manual_seed(seed)
    length = torch.tensor(lengths)
    for shuffle in (True, False):
        batches = lesson.bucketed_batches(length, batch_size, shuffle)
        assert torch.cat(batches).sort().values.tolist() == list(range(len(lengths)))
        step = max(1, int(length.float().mean() / 8))
        width = length + (-length) % step
        limit = int(width.float().mean() * batch_size)
        sizes = [len(index) * int(width[index].max()) for index in batches]
        assert all(n <= limit or len(i) == 1 for n, i in zip(sizes, batches, strict=True))
    runs = [lesson.bucketed_batches(length, batch_size, False) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bucketed_batches_are_full_and_shuffled():
    length = torch.randint(5, 200, (3000,))
    first, second = (lesson.bucketed_batches(length, 32) for _ in range(2))
    shapes = [{(len(i), int(length[i].max())) for i in batches} for batches in (first, second)]
    assert len(shapes[0] | shapes[1]) < len(first) / 2  # 모양이 되풀이되어야 메모리를 다시 씀
    assert len(first) < 1.15 * 3000 / 32
    assert not torch.equal(torch.cat(first), torch.cat(second))


@relaxed
@given(seeds, st.lists(st.integers(1, 12), min_size=2, max_size=12))
def test_padded_batch_is_pad_sequence(seed, lengths):
    torch.manual_seed(seed)
    corpus = corpus_of(lengths)
    index = torch.randperm(len(lengths))[: len(lengths) // 2 + 1]
    rows = [corpus.flat[corpus.start[k] : corpus.start[k] + corpus.length[k]] for k in index]
    tokens, length, y = lesson.padded_batch(corpus, index)
    assert torch.equal(tokens, nn.utils.rnn.pad_sequence(rows, batch_first=True))
    assert length.tolist() == [len(row) for row in rows] and torch.equal(y, corpus.y[index])


# -- 순환 셀 ---------------------------------------------------------------------------
CELLS = [
    (lesson.RNNCell, nn.RNNCell),
    (lesson.GRUCell, nn.GRUCell),
    (lesson.LSTMCell, nn.LSTMCell),
]


@pytest.mark.parametrize(("build", "library"), CELLS)
@relaxed
@given(seed=seeds, batch=st.integers(1, 4), inputs=st.integers(1, 5), hidden=st.integers(1, 5))
def test_cells(build, library, seed, batch, inputs, hidden):
    torch.manual_seed(seed)
    ours, theirs = build(inputs, hidden).double(), library(inputs, hidden).double()
    names = dict(zip(theirs.state_dict(), lesson.CELL_NAMES, strict=True))
    theirs.load_state_dict({key: ours.state_dict()[name] for key, name in names.items()})
    x, h, c = (torch.randn(batch, size).double() for size in (inputs, hidden, hidden))
    state = (h, c) if build is lesson.LSTMCell else h
    results = [cell(x, state) for cell in (ours, theirs)]
    results = [torch.cat(r, dim=1) if isinstance(r, tuple) else r for r in results]
    assert same(*results)
    upstream = torch.randn_like(results[0])
    for y in results:
        (y * upstream).sum().backward()
    for key, name in names.items():
        assert same(ours.get_parameter(name).grad, theirs.get_parameter(key).grad), name


@relaxed
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_backward_through_time(seed, steps, batch):
    torch.manual_seed(seed)
    cell = lesson.RNNCell(3, 4).double()
    x = torch.randn(batch, steps, 3, dtype=torch.float64, requires_grad=True)
    _, h = lesson.unroll(cell, x)
    upstream = torch.randn_like(h)
    h.backward(upstream)
    with torch.no_grad():
        by_hand = lesson.rnn_backward_through_time(cell, x, h, upstream)
    for name, value in by_hand.items():
        assert same(value, x.grad if name == "x" else cell.get_parameter(name).grad), name


@relaxed
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_both_ways_is_the_packed_library(seed, lengths):
    torch.manual_seed(seed)
    both = lesson.BothWays(nn.LSTM, 3, 4).double()
    library = nn.LSTM(3, 4, batch_first=True, bidirectional=True).double()
    pairs = zip(library.state_dict(), both.state_dict().values(), strict=True)
    library.load_state_dict(dict(pairs))
    length = torch.tensor(lengths)
    x = torch.randn(len(lengths), max(lengths), 3, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, length, True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(library(packed)[0], batch_first=True)[0]
    assert same(both(x, length) * lesson.mask_of(length, max(lengths))[..., None], expected)


@relaxed
@given(seeds, st.floats(0.1, 10))
def test_clip_grad_norm(seed, most):
    torch.manual_seed(seed)
    ours, theirs = ([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))] for _ in "ab")
    for a, b in zip(ours, theirs, strict=True):
        a.grad = 3 * torch.randn_like(a)
        b.grad = a.grad.clone()
    size = lesson.clip_grad_norm(ours, most)
    assert size == pytest.approx(float(nn.utils.clip_grad_norm_(theirs, most)), rel=1e-5)
    assert all(same(a.grad, b.grad, 1e-6) for a, b in zip(ours, theirs, strict=True))


def test_state_gradients_shrink_with_the_matrix():
    """tanh가 거의 곧은 곳에서는 U가 r * 단위행렬일 때 한 걸음에 꼭 r배가 됩니다."""
    cell = lesson.RNNCell(2, 3).double()
    cell.state.weight.data = 0.5 * torch.eye(3, dtype=torch.float64)
    for value in (cell.input.bias, cell.state.bias):
        value.data.zero_()
    norms = lesson.state_gradients(cell, 1e-4 * torch.randn(4, 6, 2, dtype=torch.float64))
    assert np.allclose(np.divide(norms[:-1], norms[1:]), 0.5, atol=1e-4)


# -- 임베딩과 풀링 ----------------------------------------------------------------------
@relaxed
@given(seeds, st.integers(1, 6), st.integers(1, 5))
def test_skip_gram_is_binary_cross_entropy(seed, batch, noises):
    torch.manual_seed(seed)
    model = lesson.SkipGram(20, 4)
    nn.init.normal_(model.context.weight)
    center, near = torch.randint(20, (2, batch))
    noise = torch.randint(20, (batch, noises))
    v = model.center(center)[:, None]
    scores = (v * model.context(torch.cat([near[:, None], noise], dim=1))).sum(dim=2)
    target = torch.zeros_like(scores)
    target[:, 0] = 1
    expected = F.binary_cross_entropy_with_logits(scores, target, reduction="sum") / batch
    assert same(model(center, near, noise), expected, 1e-5)


def test_skip_gram_learns_who_stands_together():
    """주제 50개에 낱말이 넷씩이고, 한 주제의 낱말 스무 개가 이어져 나오는 글입니다."""
    torch.manual_seed(0)
    topics = torch.randint(50, (3000, 1))
    model = lesson.SkipGram(200, 16)
    lesson.fit_skip_gram(model, (4 * topics + torch.randint(4, (3000, 20))).flatten(), 200)
    groups = [str(word // 4) for word in range(200)]
    trained = metrics.separation(model.center.weight.detach(), groups)
    assert trained > 0.3 > metrics.separation(torch.randn(200, 16), groups) + 0.2


KINDS = ["RNN", "GRU", "LSTM", "양방향 LSTM", "합성곱", "임베딩만"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", ["마지막", "평균", "최대", "어텐션"])
def test_padding_changes_no_score(kind, pool):
    torch.manual_seed(0)
    model = lesson.TextClassifier(50, kind, pool, 8).double().eval()
    tokens, length, _ = lesson.padded_batch(corpus_of([7, 3, 5]), torch.arange(3))
    wide = F.pad(tokens, (0, 4))
    assert same(model(tokens, length), model(wide, length), 1e-6)
    alone = torch.cat(
        [model(tokens[k : k + 1, :n], length[k : k + 1]) for k, n in enumerate(length)]
    )
    assert same(model(tokens, length), alone, 1e-6)


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_classifier_reads_the_last_state_of_the_library(kind):
    torch.manual_seed(0)
    model = lesson.TextClassifier(50, kind, "마지막", 8).double().eval()
    tokens, length, _ = lesson.padded_batch(corpus_of([7, 3, 5]), torch.arange(3))
    x = model.embedding(tokens)
    packed = nn.utils.rnn.pack_padded_sequence(x, length, True, enforce_sorted=False)
    _, last = model.encoder(packed)
    last = last[0] if kind == "LSTM" else last
    assert same(model(tokens, length), model.output(last[0]))


def test_filled_forgets_the_length():
    corpus = corpus_of([7, 3, 5])
    filled = lesson.filled(corpus)
    tokens, length, y = lesson.padded_batch(filled, torch.arange(3))
    assert torch.equal(tokens, lesson.padded_batch(corpus, torch.arange(3))[0])
    assert length.tolist() == [7, 7, 7] and torch.equal(y, corpus.y)


@relaxed
@given(seeds, st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_attention_weights(seed, lengths):
    torch.manual_seed(seed)
    pool, length = lesson.AttentionPool(4), torch.tensor(lengths)
    h, mask = torch.randn(len(lengths), 8, 4), lesson.mask_of(length, 8)
    weights = pool.weights(h, mask)
    assert same(weights.sum(dim=1), torch.ones(len(lengths)), 1e-6)
    assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()
    value = pool.score(torch.tanh(pool.project(h)))[..., 0].masked_fill(~mask, -torch.inf)
    assert same(weights, value.softmax(dim=1), 1e-6)
    one_by_one = [(weights[k, :n, None] * h[k, :n]).sum(dim=0) for k, n in enumerate(lengths)]
    assert same(pool(h, mask), torch.stack(one_by_one), 1e-6)


# -- 기준선과 대조 문장 -------------------------------------------------------------------
@pytest.mark.parametrize("dataset", ["imdb", "nsmc"])
def test_contrast_pairs_have_the_same_letters_and_opposite_answers(dataset):
    texts, answers = reviews.contrast_set(dataset)
    assert len(texts) == len(set(texts)) == len(answers) == 100
    for a, b in zip(texts[::2], texts[1::2], strict=True):
        assert a != b and sorted(a) == sorted(b)
    assert answers[::2].sum() == 0 and answers[1::2].all()


def test_bag_of_words_learns_words():
    texts, y = ["great film"] * 20 + ["awful film"] * 20, torch.tensor([1] * 20 + [0] * 20)
    for tokenize in (lesson.tokenize, None):
        bag = metrics.bag_of_words(tokenize).fit(texts, y)
        assert bag.score(["a great one", "so awful"], [1, 0]) == 1


def test_log_probability_adds_up():
    texts, y = ["great film"] * 20 + ["awful film"] * 20, torch.tensor([1] * 20 + [0] * 20)
    for tokenize in (lesson.tokenize, None):
        bag = metrics.bag_of_words(tokenize).fit(texts, y)
        found = metrics.log_probability(bag, ["great", "awful", "new"])
        assert same(found.exp().sum(dim=1), torch.ones(3, dtype=torch.float64), 1e-6)
        assert found.argmax(dim=1).tolist()[:2] == [1, 0]


def test_separation_is_high_for_groups_that_point_apart():
    vectors = torch.tensor([[1.0, 0.1], [1, -0.1], [-0.1, 1], [0.1, 1]])
    assert metrics.separation(vectors, list("가가나나")) > 0.9
    assert metrics.separation(vectors, list("가나가나")) < 0


def test_printable_is_one_line_without_terminal_codes():
    assert printable("좋다\n  ★\u2028naïve \x1b[31m\U0001f600\x07") == "좋다 ★ naïve [31m\U0001f600"


# -- 과정의 규칙과 확인 ------------------------------------------------------------------
def test_test_labels_change_nothing_but_the_test_figures(run):
    outcomes = []
    for permute in (False, True):
        torch.manual_seed(0)
        data = small_dataset()
        if permute:
            texts, y = data._test
            data._test = texts, y[torch.randperm(len(y))]
        give_data(run, reviews.load_nsmc, data)
        run.metrics |= {"checks": [], "claims": [], "floors": {}, "results": {}, "figures": []}
        trained = lesson.section_training(run)
        weights = torch.cat([p.detach().flatten() for p in trained[1].parameters()])
        before = [claim["measured"] for claim in run.metrics["claims"]]
        lesson.section_result(run, trained)
        outcomes.append((weights, before, run.metrics["results"]["테스트 정확도"]["value"]))
    (weights_a, claims_a, score_a), (weights_b, claims_b, score_b) = outcomes
    assert torch.equal(weights_a, weights_b) and claims_a == claims_b and score_a != score_b
    vocabulary, model, bag, mix = trained  # 함께 쓸 때의 배수는 검증 데이터의 정답으로만 배움
    texts, y = data.x_val[: run.config.texts], data.y_val[: run.config.texts]
    val = lesson.join_texts(map(vocabulary.encode, texts), y, run.device)
    scores = lesson.predict_logits(run, model, val.last(run.config.length)).double()
    scores = scores, metrics.log_probability(bag, texts)
    log_odds = torch.hstack([score[:, 1:] - score[:, :1] for score in scores])
    probability = torch.special.expit(log_odds @ torch.from_numpy(mix.coef_[0]))
    slope = log_odds.T @ (probability - y.double()) + torch.from_numpy(mix.coef_[0])  # C = 1
    assert slope.abs().max() < 1e-2 * log_odds.abs().sum(dim=0).max()


def test_validation_words_are_unknown(run):
    """검증 데이터에만 있는 낱말은 어휘에 없어야 합니다."""
    data = small_dataset()
    data.x_val = ["처음보는낱말"] * len(data.x_val)
    vocabulary, _, val = lesson.prepare(run, data, "낱말", 400)
    assert "처음보는낱말" not in vocabulary.index and (val.flat == 1).all()


def gru_with_early_reset(self, x, h):
    r, z, n = self.input(x).chunk(3, dim=1)
    r_h, z_h, _ = self.state(h).chunk(3, dim=1)
    last = self.state.weight.chunk(3)[2], self.state.bias.chunk(3)[2]
    z = torch.sigmoid(z + z_h)
    return (1 - z) * torch.tanh(n + F.linear(torch.sigmoid(r + r_h) * h, *last)) + z * h


def lstm_without_output_gate(self, x, state):
    h, c = state
    i, f, g, _ = (self.input(x) + self.state(h)).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.tanh(c), c


def backward_without_time(cell, x, h, gradient):
    return right_backward(cell, x, h, gradient) | {"x": gradient * 0 @ cell.input.weight}


def turned_with_the_padding(self, x, length):
    return torch.cat([self.forth(x)[0], self.back(x.flip(1))[0].flip(1)], dim=2)


def weights_over_the_padding(self, h, mask):
    return self.score(torch.tanh(self.project(h)))[..., 0].softmax(dim=1)


right_backward = lesson.rnn_backward_through_time
MUTATIONS = [
    (lesson.GRUCell, "forward", gru_with_early_reset, "section_cells"),
    (lesson.LSTMCell, "forward", lstm_without_output_gate, "section_cells"),
    (lesson, "rnn_backward_through_time", backward_without_time, "section_cells"),
    (lesson.BothWays, "forward", turned_with_the_padding, "section_cells"),
    (lesson, "clip_grad_norm", lambda parameters, most: 1.0, "section_vanishing"),
    (lesson.AttentionPool, "weights", weights_over_the_padding, "section_models"),
    (lesson, "split_jamo", lambda text: text, "section_text"),
]


@pytest.mark.parametrize(("owner", "name", "wrong", "section"), MUTATIONS)
def test_checks_catch_mutations(owner, name, wrong, section, run, monkeypatch):
    inputs = [lesson.section_text(run)] if section == "section_models" else []
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(CheckFailed):
        getattr(lesson, section)(run, *inputs)


# -- 실행 전체 -----------------------------------------------------------------------
@pytest.mark.slow
def test_quick_learning_band(quick_runs):
    done = quick_runs(NAME)
    results, floors = done.metrics["results"], done.metrics["floors"]
    assert results["테스트 정확도"]["value"] > floors["가장 많은 클래스만 답하기"] + 0.15
    assert 0.75 < floors["TF-IDF 로지스틱 회귀"] < 0.95
    assert done.metrics["data"]["source"] == "package" and done.metrics["data"]["name"] == "IMDB"


@pytest.mark.slow
def test_claims_hold_at_full_size(tmp_path):
    """`--quick`은 판정하기에 짧습니다. 걸음과 글을 늘리면 글의 주장이 성립해야 합니다."""
    run = lesson.chapter.start(["--data", "sample", "--output-dir", str(tmp_path)])
    ready = lesson.section_text(run)
    lesson.section_embedding(run, ready)
    lesson.section_batches(run, ready)
    lesson.section_vanishing(run)
    assert [c["claim"] for c in run.metrics["claims"] if not c["holds"]] == []


@pytest.mark.slow
def test_predict_in_both_languages(quick_runs, tmp_path):
    folder = quick_runs(NAME).folder.parent
    done = run_lesson(NAME, "--quick", "--predict", "what an awful film", output=folder)
    assert done.status == 0 and "%" in done.stdout and "근거 낱말" in done.stdout
    done = run_lesson(NAME, "--quick", "--predict", "연기가 훌륭했다", output=tmp_path)
    assert (
        done.status == 1
        and "--dataset nsmc --quick 옵션" in done.stderr
        and "Traceback" not in done.stderr
    )
    flags = "--quick --dataset nsmc --only 4.8".split()
    assert run_lesson(NAME, *flags, output=tmp_path).status == 0
    done = run_lesson(NAME, "--quick", "--predict", "연기가 훌륭했다", output=tmp_path)
    assert done.status == 0 and "긍정" in done.stdout and "훌륭" in done.stdout
