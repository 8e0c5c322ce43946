"""Day 53 · Chat data, the loss on answers, packing, and what fine-tuning changes."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from days.day52.made import gguf_bytes, small_llama
from days.day53 import base as base_module
from days.day53 import own, real
from days.day53.base import base
from days.day53.run import PROMPTS, measure, one_line, right_call
from days.day53.solve import Speaker
from days.day53.tuned import Recipe as Tuned
from days.day53.tuned import tasks as tuned_tasks
from days.day53.tuned import tuned
from days.harness import UsageError
from llm.data import tasks
from llm.data.download import TextError
from llm.data.tasks import Task
from llm.data.text import Corpus
from llm.functions.pick import pick, pick_vjp
from llm.generate.cache import KVCache
from llm.generate.decode import decode
from llm.generate.pretrained import load
from llm.generate.template import ChatTemplate, Message
from llm.grad.check import check_pair
from llm.grad.tensor import no_grad
from llm.models.gpt import GPT, GPTConfig
from llm.models.llama import Llama, LlamaConfig
from llm.tokens.fast_bpe import FastBPE
from llm.train.adam import AdamW
from llm.train.loop import fit
from llm.train.schedule import Constant
from llm.tune import chat, jsonl, packing, sft
from llm.tune.pretrained import trainable

SPECIALS = (chat.START, chat.END)


@cache
def tokenizer():
    return FastBPE.train("the user and the assistant. " * 20, 270, specials=SPECIALS)


def talk(*contents, system=None):
    """Messages that alternate, the user first."""
    roles = ["user", "assistant"] * len(contents)
    head = [Message("system", system)] if system else []
    return head + [Message(role, text) for role, text in zip(roles, contents)]


def gpt(seed=0, T=40, V=None):
    config = GPTConfig(V or tokenizer().vocab_size, T, 24, 2, 3, rotary=True)
    return GPT(config, np.random.default_rng(seed))


def llama(seed=0, T=40):
    config = LlamaConfig(tokenizer().vocab_size, T, 24, 2, 3, 1, 40)
    return Llama(config, np.random.default_rng(seed))


def stirred(model, rng):
    """Weights large enough that attention matters."""
    for p in model.named_parameters().values():
        p.data += (0.3 * rng.standard_normal(p.shape)).astype(p.dtype)
    return model


# ---- tasks


def test_each_task_is_solved_by_its_answer_and_by_no_other():
    rng = np.random.default_rng(0)
    for task in tasks.sums(200, rng) + tasks.calculator_tasks(200, rng):
        assert tasks.correct(task, task.answer)
        assert tasks.correct(task, f" It is {task.answer}. Not 7")
        assert not tasks.correct(task, str(int(task.answer) + 1))
        assert not tasks.correct(task, "")
        assert not tasks.correct(task, "none")
        a, sign, b = task.prompt.removeprefix("What is ").rstrip("?= ").split()
        values = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}
        assert int(task.answer) == values[sign] and values[sign] >= 0


def test_sums_have_both_signs_and_all_numbers_up_to_the_largest():
    drawn = tasks.sums(2000, np.random.default_rng(0), largest=5)
    numbers = {int(w) for t in drawn for w in t.prompt.split() if w.isdigit()}
    assert numbers == set(range(6))
    assert {t.prompt.split()[1] for t in drawn} == {"+", "-"}
    assert {t.family for t in drawn} == {"sum"}
    numbers = [int(w) for t in tasks.sums(3000, np.random.default_rng(0))
               for w in t.prompt.split() if w.isdigit()]
    assert max(numbers) == 99
    numbers = [int(w.strip("?")) for t in tasks.calculator_tasks(9000, np.random.default_rng(0))
               for w in t.prompt.split() if w.strip("?").isdigit()]
    assert max(numbers) == 999


def test_story_tasks_ask_what_the_story_tells():
    drawn = tasks.story_tasks(400, np.random.default_rng(0))
    told = [t for t in drawn if t.family == "story"]
    asked = [t for t in drawn if t.family == "question"]
    assert len(told) + len(asked) == 400 and 60 < len(told) < 140
    assert all(tasks.correct(t, t.answer) for t in drawn)
    assert all(tasks.correct(t, t.answer + ".") for t in asked)
    assert not any(tasks.correct(t, "") or tasks.correct(t, "I do not know") for t in drawn)
    for question in ("Who lives in", "Where does", "What colour", "What does", "Who is"):
        assert sum(t.prompt.split("\n")[1].startswith(question) for t in asked) > 20
    for t in asked:
        story, question = t.prompt.split("\n")
        words = [w for w in t.answer.split() if w not in ("a", "in")]
        assert all(word in story for word in words)


def test_a_story_answer_needs_the_hero_and_the_toy():
    task = Task("Tell a story about a fox named Rufus and a red kite.",
                "Once upon a time there was a shy fox named Rufus. He lived in an old mill. He had "
                "a fine red kite.", "story")
    assert tasks.correct(task, task.answer)
    assert tasks.correct(task, task.answer.replace("shy", "kind").replace("an old mill",
                                                                          "a hollow oak"))
    for old, new in (("fox", "hare"), ("Rufus", "Tom"), ("red", "blue"), ("kite", "boat"),
                     ("lived", "was"), ("kite.", "kite")):
        assert not tasks.correct(task, task.answer.replace(old, new))
    assert not tasks.correct(task, task.answer + " One")


def test_the_calculator_computes_calls_and_nothing_else():
    assert tasks.calculate("calc: 374 * 58") == "21692"
    assert tasks.calculate(" calc: 5 - 8\n") == "-3"
    assert tasks.calculate("calc: -2 + 3") == "1"
    for text in ("374 * 58", "calc: 2 / 3", "calc: 2 ** 3", "calc: __import__('os')", "",
                 "calc: 2 + 3 + 4", "calc: 2 + 3 is"):
        assert tasks.calculate(text) is None


def test_a_calculator_task_takes_four_turns():
    task = Task("What is 374 * 58?", "21692", "calculator")
    assert tasks.turns(task) == [
        ("user", "What is 374 * 58?"), ("assistant", "calc: 374 * 58"),
        ("user", "result: 21692"), ("assistant", "It is 21692.")]
    assert tasks.turns(Task("1 + 1 =", "2", "sum")) == [("user", "1 + 1 ="), ("assistant", "2")]


def test_no_content_is_on_both_sides_of_the_split():
    rng = np.random.default_rng(1)
    drawn = tasks.sums(3000, rng) + tasks.story_tasks(1500, rng) + tasks.calculator_tasks(500, rng)
    train, test = tasks.split(drawn)
    assert len(train) + len(test) == len(drawn)
    assert 0.07 < len(test) / len(drawn) < 0.13
    assert not {t.prompt for t in train} & {t.prompt for t in test}
    pairs = lambda side: {tuple(sorted(t.prompt.split())) for t in side if t.family == "sum"}
    assert not pairs(train) & pairs(test)                         # 45 + 37 is 37 + 45
    stories = lambda side: {t.prompt.split("\n")[0] for t in side if t.family == "question"}
    assert not stories(train) & stories(test)
    again = tasks.split(tasks.sums(3000, np.random.default_rng(2)))
    assert not {t.prompt for t in train} & {t.prompt for t in again[1]}      # of other seeds too
    assert tasks.split(drawn, 0)[1] == [] and tasks.split(drawn, 1)[0] == []
    assert len(tasks.split(drawn, 0.5)[1]) > 0.4 * len(drawn)


def test_same_seed_same_tasks_and_impossible_wishes_are_refused():
    for make in (tasks.sums, tasks.story_tasks, tasks.calculator_tasks):
        assert make(9, np.random.default_rng(3)) == make(9, np.random.default_rng(3))
        assert make(9, np.random.default_rng(3)) != make(9, np.random.default_rng(4))
        assert make(0, np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match="-1 tasks"):
        tasks.sums(-1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="up to -2"):
        tasks.sums(1, np.random.default_rng(0), largest=-2)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            tasks.split([], share)


# ---- chat


def test_a_conversation_by_hand():
    """The note's example: 'ok' is learned and the end token, nothing else."""
    t = FastBPE.from_merges([], "gpt2", SPECIALS)                       # bytes, then 256 and 257
    ids, mask = chat.example(t, talk("hi", "ok"))
    assert ids.tolist() == [256, *b"user\nhi", 257, *b"\n", 256, *b"assistant\nok", 257]
    assert ids[mask].tolist() == [*b"ok", 257] and mask.sum() == 3 and len(ids) == 24
    inputs, targets = sft.shifted(ids, mask)
    assert len(inputs) == 23 and np.flatnonzero(targets != -100).tolist() == [20, 21, 22]
    assert inputs[20] == ord("\n") and targets[20] == ord("o")          # who predicts the first


def test_the_mask_counts_the_assistants_tokens_and_an_end_for_each_turn():
    t = tokenizer()
    messages = talk("What is 374 * 58?", "calc: 374 * 58", "result: 21692", "It is 21692.",
                    system="Be brief.")
    ids, mask = chat.example(t, messages)
    answers = [m.content for m in messages if m.role == "assistant"]
    assert mask.sum() == sum(len(t.encode(a)) + 1 for a in answers)
    assert t.decode(ids[mask]) == "".join(a + chat.END for a in answers)
    assert mask[-1] and ids.dtype == np.int32 and mask.dtype == bool and mask.shape == ids.shape


def test_what_is_rendered_reads_back_as_the_same_messages():
    for messages in (talk("hi", "ok"), talk("a", "b", "c", "d", system="s"),
                     talk("a\n\nb <|im_end|> <|im_start|>user\nx", "é\n{{ 7 }}", "x", "y")):
        ids, _ = chat.example(tokenizer(), messages)
        assert chat.read_back(tokenizer(), ids) == messages
    with pytest.raises(ValueError, match="begins with"):
        chat.read_back(tokenizer(), ids[1:])
    with pytest.raises(ValueError, match="begins with"):
        chat.read_back(tokenizer(), ids[:0])
    start, end = (tokenizer().specials[s] for s in SPECIALS)
    for wrong in ([start, *tokenizer().encode("user"), end],
                  [start, *tokenizer().encode("user\nx"), end, end],
                  [start, *tokenizer().encode("user\nx"), end, *tokenizer().encode("more")]):
        with pytest.raises(ValueError, match="the turn at token 0"):
            chat.read_back(tokenizer(), wrong)


def test_a_prompt_is_the_beginning_of_its_example():
    messages = talk("hi there", "ok", system="s")
    ids, mask = chat.example(tokenizer(), messages)
    prompt = chat.prompt_ids(tokenizer(), messages[:-1])
    assert np.array_equal(ids[:len(prompt)], prompt) and mask.argmax() == len(prompt)
    assert tokenizer().decode(prompt).endswith("<|im_start|>assistant\n")


def test_another_template_may_add_words_of_its_own():
    template = ChatTemplate("{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
                            "{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}"
                            "{{ '<|im_start|>' + m['role'] + '\n' }}"
                            "{{ m['content'] + '<|im_end|>\n' }}"
                            "{% endfor %}{% if add_generation_prompt %}"
                            "{{ '<|im_start|>assistant\n' }}{% endif %}")
    ids, mask = chat.example(tokenizer(), talk("hi", "ok"), template)
    assert tokenizer().decode(ids).startswith("<|im_start|>system\nBe kind<|im_end|>\n")
    assert tokenizer().decode(ids[mask]) == "ok<|im_end|>"
    assert chat.read_back(tokenizer(), ids)[0] == Message("system", "Be kind")
    assert tokenizer().decode(chat.prompt_ids(tokenizer(), talk("hi"), template)).startswith(
        "<|im_start|>system\nBe kind")


def test_messages_out_of_order_or_empty_are_refused():
    t = tokenizer()
    u, a, s = Message("user", "x"), Message("assistant", "y"), Message("system", "z")
    for messages, what in (([a], "message 0 is from 'assistant'"), ([u, u, a], "message 1"),
                           ([u, a, a], "message 2"), ([u, s, a], "message 1 is from 'system'"),
                           ([s, a], "message 1 is from 'assistant'"), ([u], "end with 'user'"),
                           ([], "end with 'nothing'"), ([s], "end with 'system'"),
                           ([u, Message("assistant", " \n")], "message 1, from 'assistant', is "
                                                              "empty"),
                           ([Message("user", ""), a], "message 0, from 'user', is empty")):
        with pytest.raises(ValueError, match=what):
            chat.example(t, messages)
    with pytest.raises(ValueError, match="end with 'assistant': wanted 'user'"):
        chat.prompt_ids(t, [u, a])


def test_a_tokenizer_without_the_special_tokens_is_refused():
    plain = FastBPE.train("abc " * 9, 256)
    half = FastBPE.from_merges([], "gpt2", [chat.START])
    for t, what in ((plain, r"im_start\|> and no <\|im_end"), (half, r"token <\|im_end\|>, so"),
                    (object(), "no special token")):
        for call in (chat.example, chat.prompt_ids):
            with pytest.raises(ValueError, match=what):
                call(t, talk("hi", "ok") if call is chat.example else talk("hi"))


def test_an_answer_whose_spaces_change_the_prompt_or_a_template_without_ends_is_refused():
    blank = FastBPE.train("a\n\n\n\nb" * 20, 270, specials=SPECIALS)      # has a token "\n\n"
    with pytest.raises(ValueError, match="strip"):
        chat.example(blank, talk("hi", "\n\n\nok"))
    assert chat.example(blank, talk("hi", "ok\n\n"))[1].sum() == 4
    with pytest.raises(ValueError, match="message 1"):
        chat.example(tokenizer(), talk("hi", "ok"), ChatTemplate(
            "{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}"))


def test_a_task_becomes_the_messages_that_solve_it():
    task = Task("What is 2 * 3?", "6", "calculator")
    assert [m.role for m in chat.conversation(task)] == ["user", "assistant"] * 2
    assert chat.conversation(task)[2] == Message("user", "result: 6")


# ---- pick


def test_pick_moves_rows_and_gradients():
    x = np.arange(12.0).reshape(2, 3, 2)
    out, saved = pick(x, np.array([[4, -1], [0, 5]]))
    assert out.tolist() == [[[8, 9], [0, 0]], [[0, 1], [10, 11]]]
    dx, none = pick_vjp(np.ones((2, 2, 2)), *saved)
    assert dx.tolist() == [[[1, 1], [0, 0], [0, 0]], [[0, 0], [1, 1], [1, 1]]] and none is None
    rng = np.random.default_rng(0)
    for shape, index in (((2, 3, 4), [[5, -1, 0], [2, 3, -1]]), ((4, 3), [3, 1]), ((3, 2), []),
                         ((1, 1), [0])):
        x = rng.standard_normal(shape)
        check_pair(pick, pick_vjp, x, np.array(index, int), rng=rng)
        x32 = x.astype(np.float32)
        out, saved = pick(x32, np.array(index, int))
        assert out.dtype == np.float32 and pick_vjp(out, *saved)[0].dtype == np.float32
    for index, what in (([6], "rows 6 … 6"), ([-2], "rows -2"), ([1, 1], "row 1 is picked twice")):
        with pytest.raises(ValueError, match=what):
            pick(np.zeros((2, 3, 2)), np.array(index))


# ---- batches


def examples(n, rng, longest=30):
    """n made examples: ids of any kind, the last part is the answer."""
    made = []
    for _ in range(n):
        size = int(rng.integers(3, longest))
        mask = np.arange(size) >= rng.integers(1, size)
        made.append((rng.integers(0, tokenizer().vocab_size, size).astype(np.int32), mask))
    return made


def test_targets_are_the_masked_tokens_one_step_later():
    rng = np.random.default_rng(0)
    for ids, mask in examples(50, rng):
        inputs, targets = sft.shifted(ids, mask)
        assert np.array_equal(inputs, ids[:-1]) and inputs.dtype == targets.dtype == np.int32
        for t in range(len(inputs)):
            assert targets[t] == (ids[t + 1] if mask[t + 1] else -100)
    with pytest.raises(ValueError, match="none is the assistant's"):
        sft.shifted(np.arange(4), [True, False, False, False])
    with pytest.raises(ValueError, match=r"ids \(4,\) and mask \(3,\)"):
        sft.shifted(np.arange(4), [True, True, True])
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        sft.shifted([[1, 2]], [[True, True]])


def test_batches_hold_every_example_once_a_round_and_count_every_answer_token():
    rng = np.random.default_rng(1)
    made = examples(20, rng)
    wanted = sorted(tuple(sft.shifted(*one)[1][sft.shifted(*one)[1] != -100]) for one in made)
    batches = sft.padded_batches(made, 5, 30, np.random.default_rng(0))
    got, width = [], []
    for _, (inputs, targets, index) in zip(range(4), batches):
        assert index is None and inputs.shape == targets.shape
        width.append(inputs.shape[1])
        got += [tuple(row[row != -100]) for row in targets]
    assert sorted(got) == wanted and len(set(width)) > 1
    lengths = [len(one[0]) - 1 for one in made]
    assert max(width) == max(lengths)

    packed = sft.packed_batches(made, 2, 40, np.random.default_rng(0))
    got = []
    while len(got) < 20:
        inputs, targets, index = next(packed)
        assert inputs.shape == targets.shape == (2, 40)
        for where in index:
            where = where[where >= 0]
            assert (np.diff(where) == 1).all() and where[0] // 40 == where[-1] // 40
            row = targets.reshape(-1)[where]
            got.append(tuple(row[row != -100]))
        outside = np.setdiff1d(np.arange(80), index)
        assert (targets.reshape(-1)[outside] == -100).all()
    assert sorted(got[:20]) == wanted or len(got) > 20
    assert not set(wanted) - set(got)


def test_rounds_differ_and_seeds_repeat():
    made = examples(12, np.random.default_rng(2))
    for make in (sft.padded_batches, sft.packed_batches):
        one, two = (make(made, 3, 40, np.random.default_rng(0)) for _ in range(2))
        firsts = [next(one)[0] for _ in range(8)]
        for first, (inputs, *_) in zip(firsts, two):
            assert np.array_equal(first, inputs)
        assert len({f.tobytes() for f in firsts}) > 4


def test_filling_rows_by_hand():
    assert packing.fill([5, 4, 3, 3], 8) == [[0, 2], [1, 3]]
    assert packing.fill([5, 4, 3, 3], 8, order=[1, 2, 3, 0]) == [[1, 2], [3, 0]]
    assert packing.fill([8, 8], 8) == [[0], [1]]
    assert packing.fill([], 8) == []
    for wrong in (0, 9):
        with pytest.raises(ValueError, match=f"example 1 has {wrong} tokens"):
            packing.fill([1, wrong], 8)
    index = packing.borders_of([[0, 2], [1]], [2, 3, 1], 4)
    assert index.tolist() == [[0, 1, -1], [2, -1, -1], [4, 5, 6]]


def test_bad_examples_are_told_apart_before_training():
    rng = np.random.default_rng(0)
    long = [examples(1, rng)[0], (np.zeros(42, np.int32), np.ones(42, bool))]
    for make in (sft.padded_batches, sft.packed_batches):
        with pytest.raises(ValueError, match="example 1 has 42 tokens, and the window has room "
                                             "for 40"):
            next(make(long, 2, 40, rng))
        next(make(long, 2, 41, rng))                                     # just fits
        with pytest.raises(ValueError, match="no examples"):
            next(make([], 2, 40, rng))
    with pytest.raises(ValueError, match="no examples"):
        next(sft.endless(0, rng))


# ---- packing


@pytest.mark.parametrize("make", [gpt, llama])
def test_a_packed_example_has_the_logits_it_has_alone(make):
    rng = np.random.default_rng(3)
    model = stirred(make(), rng)
    made = examples(9, rng, 20)
    alone = [model(sft.shifted(*one)[0][None]).data[0] for one in made]
    names = list(model.state_dict())
    borders = packing.pack_attention(model)
    assert list(model.state_dict()) == names
    lengths = [len(one[0]) - 1 for one in made]
    rows = packing.fill(lengths, 40)
    assert max(map(len, rows)) > 1
    inputs = np.zeros((len(rows), 40), np.int32)
    index = packing.borders_of(rows, lengths, 40)
    order = [i for row in rows for i in row]
    for where, i in zip(index, order):
        inputs.reshape(-1)[where[where >= 0]] = made[i][0][:-1]
    with borders(index):
        logits = model(inputs).data.reshape(-1, tokenizer().vocab_size)
    for where, i in zip(index, order):
        assert np.allclose(logits[where[where >= 0]], alone[i], atol=2e-5)
    assert borders.index is None
    assert np.allclose(model(made[0][0][None, :-1]).data[0], alone[0], atol=1e-6)
    mixed = model(inputs).data.reshape(-1, tokenizer().vocab_size)      # without borders
    late = index[[k for k, i in enumerate(order) if i == rows[0][1]][0]]
    assert not np.allclose(mixed[late[late >= 0]], alone[rows[0][1]], atol=1e-2)


@pytest.mark.parametrize("make", [gpt, llama])
def test_changing_one_example_leaves_the_others_logits_bit_for_bit(make):
    rng = np.random.default_rng(4)
    model = stirred(make(), rng)
    borders = packing.pack_attention(model)
    inputs = rng.integers(0, 250, (2, 40))
    index = packing.borders_of([[0, 1, 2], [3, 4]], [12, 15, 10, 20, 20], 40)
    with borders(index), no_grad():
        before = model(inputs).data.reshape(80, -1)
        for where in index:
            changed = inputs.copy()
            changed.reshape(-1)[where[where >= 0]] += 3
            after = model(changed).data.reshape(80, -1)
            mine = np.isin(np.arange(80), where)
            assert np.array_equal(before[~mine], after[~mine])
            assert (before[mine] != after[mine]).any(axis=1).all()


def test_the_gradient_of_a_packed_batch_is_that_of_its_examples():
    rng = np.random.default_rng(5)
    made = examples(7, rng, 18)
    one, other = stirred(gpt(), np.random.default_rng(6)), stirred(gpt(), np.random.default_rng(6))
    borders = packing.pack_attention(one)
    lengths = [len(e[0]) - 1 for e in made]
    B = len(packing.fill(lengths, 40, np.random.default_rng(0).permutation(7)))
    batch = next(sft.packed_batches(made, B, 40, np.random.default_rng(0)))        # one round
    assert B < 7 and len(batch[2]) == 7
    value, count = sft.sft_loss(one, borders)(batch)
    value.backward()
    inputs, targets = sft.stack([sft.shifted(*e) for e in made], max(lengths))
    plain = other.loss(inputs, targets)
    plain.backward()
    assert np.isclose(value.data, plain.data, atol=1e-5)
    assert count == (targets != -100).sum()
    theirs = other.named_parameters()
    for name, p in one.named_parameters().items():
        assert np.allclose(p.grad, theirs[name].grad, atol=1e-4), name


def test_packing_refuses_what_it_cannot_do():
    learned = GPT(GPTConfig(270, 40, 24, 2, 3), np.random.default_rng(0))
    with pytest.raises(ValueError, match="learned positions"):
        packing.pack_attention(learned)
    model = gpt()
    batch = next(sft.packed_batches(examples(5, np.random.default_rng(0)), 2, 40,
                                    np.random.default_rng(0)))
    with pytest.raises(ValueError, match="knows no borders"):
        sft.sft_loss(model)(batch)
    borders = packing.pack_attention(model)
    with pytest.raises(ValueError, match="ids of shape"), borders(batch[2]):
        model(np.zeros((1, 41), int))
    assert borders.index is None                        # also after an error


# ---- the loss


@pytest.mark.parametrize("make", [gpt, llama])
def test_the_loss_is_cross_entropy_of_the_answers_and_nothing_else(make):
    rng = np.random.default_rng(7)
    model = stirred(make(), rng)
    inputs, targets, _ = next(sft.padded_batches(examples(6, rng), 6, 30, rng))
    value, count = sft.answer_loss(model, inputs, targets)
    kept = targets != -100
    logits = model(inputs).data.astype(np.float64)[kept]
    expected = np.log(np.exp(logits).sum(-1)) - logits[np.arange(kept.sum()), targets[kept]]
    assert count == kept.sum() and np.isclose(value.data, expected.mean(), rtol=1e-5)
    assert np.isclose(value.data, model.loss(inputs, targets).data, rtol=1e-5)
    same, n = sft.sft_loss(model)((inputs, targets, None))
    assert same.data == value.data and n == count


def test_tokens_of_the_user_give_no_gradient_to_the_head_but_are_read():
    model = gpt()
    inputs, targets = np.array([[1, 2, 3, 4]]), np.array([[-100, -100, 9, -100]])
    sft.answer_loss(model, inputs, targets)[0].backward()
    grad = model.embed.table.grad
    assert grad[9].any() and (grad[[1, 2, 3]] != 0).all(axis=1).all()
    later = gpt()
    sft.answer_loss(later, np.array([[1, 2, 3, 77]]), targets)[0].backward()
    assert np.allclose(grad, later.embed.table.grad)     # what stands behind the answer is nothing


def test_evaluate_is_the_mean_over_all_answer_tokens():
    rng = np.random.default_rng(8)
    model, made = stirred(gpt(), rng), examples(7, rng)
    total = [sft.answer_loss(model, *sft.stack([sft.shifted(*one)], 30)) for one in made]
    expected = sum(float(v.data) * n for v, n in total) / sum(n for _, n in total)
    for B in (1, 3, 32):
        assert np.isclose(sft.evaluate(model, made, B), expected, rtol=1e-5)


# ---- real weights


def opened(tmp_path, **options):
    made = small_llama(np.random.default_rng(0), **options)
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes(*made[:2]))
    return load(path), made[2]


@pytest.mark.parametrize("tied", [True, False])
def test_a_real_model_trains_from_its_own_weights(tmp_path, tied):
    model, weights = opened(tmp_path, tied=tied)
    llama = trainable(model)
    ids = np.arange(5, 25)
    expected = decode(model.arch, model.weights(), ids, KVCache(model.arch))
    assert np.allclose(llama(ids[None]).data[0], expected, atol=1e-4)
    assert llama.config.T == 64 and trainable(model, 16).config.T == 16
    assert trainable(model, 1).config.T == 1
    assert (llama.head is None) == tied
    state = llama.for_inference()[1]
    assert state.keys() == weights.keys()
    for name, array in state.items():
        assert array.dtype == np.float32 and np.allclose(array, weights[name], atol=1e-6), name
    batch = next(sft.packed_batches([chat.example(model.tokenizer, talk("hi", "the the"))] * 3, 1,
                                    64, np.random.default_rng(0)))
    loss = sft.sft_loss(llama, packing.pack_attention(llama))
    parameters = llama.named_parameters()
    run = fit(parameters, loss, iter([batch] * 8), AdamW(parameters), Constant(3e-3), steps=8)
    assert run.losses[-1] < 0.5 * run.losses[0]
    with pytest.raises(ValueError, match="T 65: this model was made for 1 … 64"):
        trainable(model, 65)
    with pytest.raises(ValueError, match="T -1"):
        trainable(model, -1)


def test_a_file_that_is_no_llama_of_ours_is_refused(tmp_path):
    model, _ = opened(tmp_path)
    for change in ({"norm": "layer"}, {"feed_forward": "gelu"}, {"rotary": None}, {"D": 8}):
        with pytest.raises(ValueError, match="is no Llama"):
            trainable(replace(model, arch=replace(model.arch, **change)))
    with pytest.raises(ValueError, match="other arrays than a Llama: .*qkv.b"):
        trainable(opened(tmp_path, biases=True)[0])


def test_packing_twice_packs_once():
    model = gpt()
    packing.pack_attention(model)
    names = list(model.state_dict())
    borders = packing.pack_attention(model)
    assert list(model.state_dict()) == names
    assert model.get("blocks.1.mix.inner").borders is borders


# ---- the reader's own examples


def written(tmp_path, *lines):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return path


def test_three_kinds_of_lines_are_read(tmp_path):
    path = written(tmp_path, '{"instruction": "Add.", "input": "1 1", "output": "2", "id": 3}', "",
                   '{"instruction": "Hi", "output": "Ho"}', '{"instruction": "a", "input": "", '
                   '"output": "b"}', '{"instruction": "a", "input": null, "output": "b"}\r')
    assert jsonl.read_jsonl(path) == [talk("Add.\n1 1", "2"), talk("Hi", "Ho"), talk("a", "b"),
                                      talk("a", "b")]
    assert [n for n, _ in jsonl.numbered(path, "instruction")] == [1, 3, 4, 5]
    turns = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant")]
    path = written(tmp_path, b"\xef\xbb\xbf" + json.dumps({"messages": turns}).encode())
    assert jsonl.read_jsonl(path) == jsonl.read_jsonl(path, "chat") == [talk("u", "a", system="s")]
    path = written(tmp_path, '{"prompt": "p", "chosen": "c", "rejected": "r"}')
    assert jsonl.read_jsonl(path) == [("p", "c", "r")]
    assert jsonl.read_jsonl(path, "preference")[0].chosen == "c"


GOOD = '{"instruction": "a", "output": "b"}'


@pytest.mark.parametrize("line, what", [
    ("{", "not JSON at character 2"),
    (b"\xff", "not UTF-8"),
    ("[1]", "a JSON list where an object"),
    ('{"instruction": "a"}', "no field 'output'"),
    ('{"instruction": "a", "output": 7}', "'output' is 7, not a string"),
    ('{"instruction": "a", "output": " "}', "'output' is empty"),
    ('{"instruction": "", "output": "b"}', "'instruction' is empty"),
    ('{"instruction": "a", "input": [], "output": "b"}', "'input' is"),
    ('{"instruction": "a", "output": "\\ud800"}', "half of a surrogate"),
    ("[" * 100_000, "nested too deep|not JSON"),
])
def test_a_bad_line_is_told_by_its_number(tmp_path, line, what):
    path = written(tmp_path, GOOD, "", line)
    with pytest.raises(TextError, match=f"mine.jsonl, line 3: .*({what})") as told:
        jsonl.read_jsonl(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("messages, what", [
    ('"x"', "no list of objects"), ("[1]", "no list of objects"),
    ('[{"role": "user"}]', "message 0 has no 'content'"),
    ('[{"content": "x"}]', "message 0 has no 'role'"),
    ('[{"role": "king", "content": "x"}]', "not from 'king'"),
    ('[{"role": "assistant", "content": "x"}]', "message 0 is from 'assistant'"),
    ('[{"role": "user", "content": "x"}]', "wanted 'assistant' as the last"),
    ("[]", "wanted 'assistant' as the last"),
    ('[{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]', "'content' is e"),
])
def test_a_bad_conversation_is_told_by_its_line(tmp_path, messages, what):
    path = written(tmp_path, f'{{"messages": {messages}}}')
    with pytest.raises(TextError, match=f"line 1: .*{what}"):
        jsonl.read_jsonl(path)


def test_files_that_hold_no_examples_are_told(tmp_path):
    with pytest.raises(TextError, match="cannot read .*: No such file"):
        jsonl.read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(TextError, match="cannot read"):
        jsonl.read_jsonl(tmp_path)
    for lines in ((), ("", " ")):
        with pytest.raises(TextError, match="has no examples"):
            jsonl.read_jsonl(written(tmp_path, *lines))
    for line in ('{"a": 1}', "[]", "7"):
        with pytest.raises(TextError, match="line 1: no example of a known kind.*'prompt' and"):
            jsonl.read_jsonl(written(tmp_path, line))
    with pytest.raises(ValueError, match="kind 'csv'"):
        jsonl.read_jsonl(written(tmp_path, GOOD), "csv")
    with pytest.raises(TextError, match="line 2: no field 'prompt'"):
        jsonl.read_jsonl(written(tmp_path, '{"prompt": "p", "chosen": "c", "rejected": "r"}', GOOD))


# ---- the models of the day, and its run


def test_the_base_has_single_digits_the_roles_as_tokens_and_no_sum_of_the_test():
    t = base(True)
    words = t.tokenizer
    assert set(words.specials) == set(SPECIALS) and words.vocab_size == t.config.V
    assert len(words.encode("3745")) == 4 and len(words.encode("user")) == 1
    assert len(words.encode("assistant")) == 1
    assert not any(any(c.isdigit() for c in words.decode([i])) for i in range(256, t.config.V))
    assert list(t.texts) == ["shakespeare", "stories", "arithmetic"]
    lines = [line.rpartition("=")[0] + "=" for line in t.texts["arithmetic"][0].splitlines()]
    asked = {task.prompt for task in tuned_tasks(Tuned(stories=0))[1] if task.family == "sum"}
    assert len(lines) > 1000 and not asked & set(lines)
    first, _, second, *_ = lines[0].split()
    assert t.texts["arithmetic"][0].splitlines()[0].endswith(
        str(eval(lines[0].rstrip("= "))))                # noqa: S307 - our own line


def test_kept_models_come_back_as_they_were_and_damaged_ones_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_CACHE", str(tmp_path))
    monkeypatch.setattr(base_module.job, "load_corpus",
                        lambda source, recipe: Corpus("plays", "To be, or not to be. 7\n" * 900))
    recipe = replace(base_module.Recipe.small(), steps=3, stories=20, sums=200)
    first = base_module.base(recipe=recipe)
    path, = tmp_path.glob("gpt-base-*")
    again = base_module.base(recipe=recipe)
    for name, array in first.model.state_dict().items():
        assert np.array_equal(array, again.model.state_dict()[name])
    assert np.array_equal(first.tokenizer.encode("to be 12"), again.tokenizer.encode("to be 12"))
    assert again.tokenizer.specials == first.tokenizer.specials
    path.write_bytes(path.read_bytes()[:1000])
    third = base_module.base(recipe=recipe)
    assert np.array_equal(third.model.embed.table.data, first.model.embed.table.data)
    assert base_module.name_of("base", [recipe], first.texts) == path.name
    other = replace(recipe, seed=1)
    assert base_module.name_of("base", [other], first.texts) != path.name
    assert base_module.name_of("base", [recipe], {"a": ("b", "c")}) != path.name


def test_no_task_of_a_test_is_learned_under_any_seed():
    learned, asked, few = set(), set(), {"sums": 4000, "stories": 600, "calculator": 900}
    for seed in range(3):
        train, test = tuned_tasks(Tuned(seed=seed, **few))
        learned |= {tasks.content(t) for t in train}
        asked |= {tasks.content(t) for t in test}
        assert {t.family for t in test} == {"sum", "calculator", "question", "story"}
    assert len(asked) > 200 and not learned & asked


def test_tuning_starts_from_the_base_and_leaves_it_alone():
    before = base(True)
    one, two = tuned(True), tuned(True, 1)
    state = before.model.state_dict()
    assert list(one.model.state_dict()) == list(state)
    assert not np.array_equal(one.model.embed.table.data, before.model.embed.table.data)
    assert not np.array_equal(one.model.embed.table.data, two.model.embed.table.data)
    assert [row[0] for row in one.curve] == list(range(0, 43, 6))
    assert one.curve[-1][1] < one.curve[0][1] - 0.5      # answers are learned …
    assert one.curve[-1][2] > one.curve[0][2] + 0.1      # … and Shakespeare is forgotten
    assert type(one.model.get("blocks.0.mix.inner")).__name__ == "MultiHeadAttention"


def test_the_run_answers_the_models_call_and_the_model_goes_on():
    class Scripted(Speaker):
        def __init__(self, *lines):
            self.lines, self.asked = list(lines), []

        def answer(self, messages, n=60):
            self.asked.append([m.content for m in messages])
            return self.lines.pop(0)

    task = Task("What is 37 * 45?", "1665", "calculator")
    speaker = Scripted("calc: 37 * 45", "It is 1665.")
    assert [m.content for m in speaker.solve(task)] == [
        "What is 37 * 45?", "calc: 37 * 45", "result: 1665", "It is 1665."]
    assert speaker.asked[1] == ["What is 37 * 45?", "calc: 37 * 45", "result: 1665"]
    assert Scripted("calc: 37 * 45", "It is 1665.").accuracy([task]) == 1
    assert Scripted("calc: 37 * 46", "It is 1702.").accuracy([task]) == 0
    assert len(Scripted("I do not know").solve(task)) == 2
    assert right_call(Scripted("calc: 37 * 45", "?"), task)
    assert not right_call(Scripted("calc: 45 * 37", "?"), task)


def test_a_speaker_says_what_the_model_would_and_stops_at_the_end_token():
    t = tuned(True)
    speaker, messages = Speaker.of(t), talk("Who is Lily?")
    said = speaker.answer(messages, 12)
    ids = chat.prompt_ids(t.tokenizer, messages).tolist()
    for _ in range(12):
        i = int(t.model(np.array([ids])).data[0, -1].argmax())
        if i == t.tokenizer.specials[chat.END]:
            break
        ids.append(i)
    start = len(chat.prompt_ids(t.tokenizer, messages))
    assert said == t.tokenizer.decode(ids[start:])


def test_the_format_that_smollm_learns_is_one_line_of_five_facts():
    made = real.facts(30, np.random.default_rng(0))
    for story, line in made:
        found = json.loads(line.content)
        assert tuple(found) == ("name", "kind", "home", "colour", "toy") and real.form(line.content)
        assert all(value in story.content for value in found.values())
    text = made[0][1].content
    for wrong in ("", "x", "7", "[]", text + " ", text[:-1], text.replace("name", "who"), "{}"):
        assert not real.form(wrong)
    train, test = real.apart(40, 10, np.random.default_rng(0))
    assert len(train) == 40 and len(test) == 10
    assert not {m[0].content for m in train} & {m[0].content for m in test}


def test_your_own_file_is_learned_from(tmp_path, capsys):
    lines = [json.dumps({"instruction": f"Say {w}.", "output": w}) for w in "abcdefghijkl"]
    path = written(tmp_path, *lines, json.dumps({"instruction": "x" * 300, "output": "y"}))
    own.learn(base(True), path, 4, 0)
    out, err = capsys.readouterr()
    assert "11 examples learned; on 1 others" in " ".join(err.split())
    assert "1 of 13 examples are left out" in err and "line 13" in err
    assert "Say j." in out
    own.learn(base(True), written(tmp_path, *lines[:3]), 1, 0)       # too few for a test of others
    assert "3 examples learned; on the same 3:" in " ".join(capsys.readouterr().err.split())
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    long = {"instruction": "x" * 300, "output": "y"}
    for record, what in ((pair, "line 1: two answers"), (long, "no example fits")):
        with pytest.raises(UsageError, match=what):
            own.learn(base(True), written(tmp_path, json.dumps(record)), 4, 0)
    with pytest.raises(UsageError, match="--steps 0"):
        own.learn(base(True), path, 0, 0)


def test_texts_are_made_fit_for_a_table():
    assert one_line("a\nb|c") == "a / b¦c" and one_line("") == "(nothing)"
    assert one_line("x" * 141) == "x" * 140 + " …" and one_line("x" * 140) == "x" * 140


def test_the_headline_more_answers_known_and_less_of_shakespeare():
    result = measure(fast=True, seed=0)
    assert [row[0] for row in result.solved] == ["sum", "calculator", "question", "story"]
    plays = result.lost[0]
    assert plays[0] == "shakespeare" and min(plays[2:]) > plays[1]
    assert all(curve[-1][1] < curve[0][1] for curve in result.curves)
    padded, packed = result.packing
    assert packed[2] > 0.8 > padded[2]                   # the share of a row that is filled
    assert [row[0] for row in result.samples] == list(map(one_line, PROMPTS)) and len(PROMPTS) == 8
    assert result.counts[1] < 0.5 * result.counts[0] and result.real == {}
