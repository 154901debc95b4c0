"""The token loop gives what Transformers' generate gives, one token at a time, and can be stopped."""

from itertools import islice
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from chatglm3 import ChatGLM3Tokenizer
from chatglm3.generation import PREFILL_CHUNK, Token, TokenMeter, beam_search, iter_text, iter_tokens
from chatglm3.kv_cache import KVCache
from chatglm3.sampling import Sampling
from tests.chatglm3.fakes import CountingModel

Tiny = tuple[PreTrainedModel, ChatGLM3Tokenizer]
GREEDY = Sampling(do_sample=False, max_new_tokens=24)
PROMPT = [*range(30, 60)]
LONG_PROMPT = [20 + i * i % 400 for i in range(2 * PREFILL_CHUNK + 100)]


class Recorder(LogitsProcessor):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.scores: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        self.ids.append(input_ids[0].tolist())
        self.scores.append(scores.clone())
        return scores


def tokens(model: Any, prompt: list[int] = PROMPT, sampling: Sampling = GREEDY, **options: Any) -> list[int]:
    options = {"stop_token_ids": (), "cache": KVCache(), "processors": LogitsProcessorList()} | options
    return list(iter_tokens(model, prompt, sampling, **options))


def generated(model: Any, prompt: list[int] = PROMPT, **options: Any) -> list[int]:
    """What Transformers' generate gives; without a stop token unless told."""
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": 24, "eos_token_id": None, "do_sample": False} | options
    output = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    return [int(token_id) for token_id in output[0, len(prompt) :]]


# The same tokens as generate


def test_greedy_tokens_are_those_of_generate(tiny: Tiny) -> None:
    assert tokens(tiny[0]) == generated(tiny[0])


def test_a_prompt_read_in_pieces_gives_the_same_tokens(tiny: Tiny) -> None:
    assert tokens(tiny[0], LONG_PROMPT) == generated(tiny[0], LONG_PROMPT)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_that_of_generate(tiny: Tiny, penalty: float) -> None:
    sampling = Sampling(do_sample=False, max_new_tokens=24, repetition_penalty=penalty)
    expected = generated(tiny[0], repetition_penalty=penalty)
    assert tokens(tiny[0], sampling=sampling) == expected != tokens(tiny[0])


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.7, "top_p": 1.0},
        {"temperature": 1.0, "top_p": 0.6},
        {"temperature": 1.0, "top_p": 1.0, "top_k": 5},
        {"temperature": 1.4, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.2},
    ],
)
def test_sampled_tokens_are_those_of_generate(tiny: Tiny, values: dict[str, Any]) -> None:
    torch.manual_seed(1)
    expected = generated(tiny[0], do_sample=True, **{"top_k": 0, **values})
    torch.manual_seed(1)
    assert tokens(tiny[0], sampling=Sampling(max_new_tokens=24, **values)) == expected


@pytest.mark.parametrize("beams", [{"num_beams": 3}, {"num_beams": 4, "length_penalty": 0.2}])
def test_beams_are_those_of_generate(tiny: Tiny, beams: dict[str, Any]) -> None:
    model, tokenizer = tiny
    expected = generated(model, eos_token_id=sorted(tokenizer.stop_token_ids), **beams)
    assert beam_search(model, tokenizer, PROMPT, GREEDY, LogitsProcessorList(), beams) == expected


def test_sampled_beams_are_those_of_generate(tiny: Tiny) -> None:
    model, tokenizer = tiny
    values = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    stop = sorted(tokenizer.stop_token_ids)
    torch.manual_seed(1)
    expected = generated(model, eos_token_id=stop, do_sample=True, num_beams=2, **values)
    torch.manual_seed(1)
    sampling = Sampling(max_new_tokens=24, **values)  # type: ignore[arg-type]
    assert (
        beam_search(model, tokenizer, PROMPT, sampling, LogitsProcessorList(), {"num_beams": 2}) == expected
    )


# Where it ends


def test_the_stop_token_is_the_last_one_yielded(tiny: Tiny) -> None:
    every = tokens(tiny[0])
    stop = every[5]
    assert tokens(tiny[0], stop_token_ids={stop}) == every[: every.index(stop) + 1]


@pytest.mark.parametrize("length", [1, 2, 7])
def test_it_ends_at_the_length_limit(tiny: Tiny, length: int) -> None:
    assert (
        tokens(tiny[0], sampling=Sampling(do_sample=False, max_new_tokens=length)) == tokens(tiny[0])[:length]
    )


def test_a_cancel_ends_it_before_the_next_token_is_computed(tiny: Tiny) -> None:
    model, said = CountingModel(tiny[0]), []
    options: dict[str, Any] = {"stop_token_ids": (), "processors": LogitsProcessorList()}
    cache = KVCache()
    for token_id in iter_tokens(
        model,  # type: ignore[arg-type]
        PROMPT,
        GREEDY,
        cache=cache,
        cancelled=lambda: len(said) == 3,
        **options,
    ):
        said.append(token_id)
    assert said == tokens(tiny[0])[:3]
    assert model.read == [len(PROMPT), 1, 1]


def test_a_cancel_ends_it_between_two_pieces_of_the_prompt(tiny: Tiny) -> None:
    model, cache = CountingModel(tiny[0]), KVCache()
    assert tokens(model, LONG_PROMPT, cache=cache, cancelled=lambda: bool(model.read)) == []
    assert model.read == [PREFILL_CHUNK]
    assert cache.token_ids == LONG_PROMPT[:PREFILL_CHUNK]


def test_what_was_read_before_a_cancel_can_be_used_again(tiny: Tiny) -> None:
    model, cache = CountingModel(tiny[0]), KVCache()
    tokens(model, LONG_PROMPT, cache=cache, cancelled=lambda: bool(model.read))
    assert tokens(tiny[0], LONG_PROMPT, cache=cache) == tokens(tiny[0], LONG_PROMPT)


def test_one_that_is_cancelled_from_the_start_reads_nothing(tiny: Tiny) -> None:
    model = CountingModel(tiny[0])
    assert tokens(model, cancelled=lambda: True) == []
    assert model.read == []


# What is read


def test_the_prompt_is_read_in_pieces_and_then_token_by_token(tiny: Tiny) -> None:
    model = CountingModel(tiny[0])
    tokens(model, LONG_PROMPT, Sampling(do_sample=False, max_new_tokens=3))
    assert model.read == [PREFILL_CHUNK, PREFILL_CHUNK, 100, 1, 1]


def test_the_cache_holds_all_that_was_read(tiny: Tiny) -> None:
    cache = KVCache()
    said = tokens(tiny[0], cache=cache)
    assert cache.token_ids == PROMPT + said[:-1]
    assert cache.get_seq_length() == len(cache.token_ids)


def test_nothing_is_computed_before_it_is_asked_for(tiny: Tiny) -> None:
    model = CountingModel(tiny[0])
    options: dict[str, Any] = {"stop_token_ids": (), "cache": KVCache(), "processors": LogitsProcessorList()}
    list(islice(iter_tokens(model, PROMPT, GREEDY, **options), 2))  # type: ignore[arg-type]
    assert model.read == [len(PROMPT), 1]


def test_processors_see_all_ids_and_the_raw_logits(tiny: Tiny) -> None:
    recorder = Recorder()
    sampling = Sampling(max_new_tokens=2, temperature=3.0, repetition_penalty=2.0)
    said = tokens(tiny[0], sampling=sampling, processors=LogitsProcessorList([recorder]))
    assert recorder.ids == [PROMPT, [*PROMPT, said[0]]]
    with torch.inference_mode():
        logits = tiny[0](torch.tensor([PROMPT])).logits[:, -1]
    torch.testing.assert_close(recorder.scores[0], logits)


# The text


@pytest.mark.parametrize("text", ["Hello, world!", "你好,请介绍一下你自己。", "👩‍🚀 and 🚀", "a\n\n b"])
def test_the_joined_text_is_the_tokenizers(tiny: Tiny, text: str) -> None:
    _, tokenizer = tiny
    ids = tokenizer.encode(text)
    stream = [*ids, tokenizer.eos_token_id]
    joined = "".join(token.text for token in iter_text(stream, tokenizer))
    assert joined.removeprefix(" ") == tokenizer.decode(ids) == text


def test_each_id_passes_with_the_text_that_it_completes(tiny: Tiny) -> None:
    _, tokenizer = tiny
    ids = tokenizer.encode("🚀")[1:]  # its four bytes
    assert [*iter_text(ids, tokenizer)] == [*(Token(i, "") for i in ids[:3]), Token(ids[3], "🚀")]


@pytest.mark.parametrize("special", ["<|assistant|>", "<|user|>", "sop"])
def test_special_tokens_have_no_text(tiny: Tiny, special: str) -> None:
    _, tokenizer = tiny
    token_id = tokenizer.get_command(special)
    assert [*iter_text([token_id], tokenizer)] == [Token(token_id, "")]


def test_a_special_token_ends_a_character_that_is_not_complete(tiny: Tiny) -> None:
    _, tokenizer = tiny
    half, special = tokenizer.encode("🚀")[1:3], tokenizer.assistant_token_id
    texts = [token.text for token in iter_text([*half, special, *tokenizer.encode("a")], tokenizer)]
    assert "".join(texts) == "\ufffd a"


def test_a_stream_that_ends_within_a_character_gives_its_rest(tiny: Tiny) -> None:
    _, tokenizer = tiny
    *_, last = iter_text(tokenizer.encode("🚀")[:-1], tokenizer)
    assert last == Token(None, "\ufffd")


# The meter


def test_the_meter_passes_tokens_on_and_counts_them() -> None:
    meter = TokenMeter()
    assert list(meter.watch([5, 6, 7])) == [5, 6, 7]
    assert (meter.count, meter.last_id) == (3, 7)
    assert 0 < meter.first_token_seconds <= meter.seconds


def test_a_meter_that_saw_nothing_says_so() -> None:
    meter = TokenMeter()
    assert list(meter.watch([])) == []
    assert (meter.count, meter.last_id, meter.seconds) == (0, None, 0.0)
