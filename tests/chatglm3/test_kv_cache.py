"""Kept keys and values are those of the tokens, and prompts take over what they share with them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from chatglm3 import ChatGLM3Tokenizer
from chatglm3.generation import iter_tokens
from chatglm3.kv_cache import GROWTH, GrowingLayer, KVCache, PrefixCaches, shared_prefix
from chatglm3.sampling import Sampling
from tests.chatglm3.fakes import CountingModel

UNBOUNDED = 10**9

# A question with its answer, and three prompts that begin like both.
FIRST = [*range(20, 60)]
PROMPTS = {"continued": [*range(60, 75)], "regenerated": [], "edited": [*range(90, 99)]}


def states(token_ids: list[int]) -> torch.Tensor:
    """Keys or values by which one can tell the tokens: [1, 2, length, 4]."""
    return torch.tensor(token_ids, dtype=torch.float32)[None, None, :, None].expand(1, 2, -1, 4)


def filled(token_ids: list[int]) -> KVCache:
    cache = KVCache()
    cache.update(states(token_ids), -states(token_ids), 0)
    cache.token_ids = list(token_ids)
    return cache


def holds(cache: KVCache, token_ids: list[int]) -> bool:
    """Whether a cache's tokens, keys and values are those of these ids."""
    if not token_ids:
        return not cache.token_ids and cache.get_seq_length() == 0
    [layer] = cache.growing_layers
    return (
        cache.token_ids == token_ids
        and torch.equal(layer.keys, states(token_ids))
        and torch.equal(layer.values, -states(token_ids))
    )


# A layer


@given(st.lists(st.integers(-400, 400), max_size=12))
def test_a_growing_layer_is_a_dynamic_layer(steps: list[int]) -> None:
    """Each step appends as many tokens, or removes as many if it is negative."""
    growing, dynamic = GrowingLayer(), DynamicLayer()
    for step in steps:
        new = torch.randn(1, 2, max(step, 0), 4)
        for layer in (growing, dynamic):
            if step > 0:
                layer.update(new, -new)
            else:
                layer.crop(max(step, -layer.get_seq_length()))
        assert growing.get_seq_length() == dynamic.get_seq_length()
        if growing.is_initialized:
            assert torch.equal(growing.keys, dynamic.keys)
            assert torch.equal(growing.values, dynamic.values)


def test_a_new_token_is_written_in_place() -> None:
    layer = GrowingLayer()
    layer.update(states([1]), states([1]))
    places = {layer.update(states([i]), states([i]))[0].data_ptr() for i in range(GROWTH)}
    assert len(places) == 1


def test_a_layer_is_copied_ever_more_seldom_as_it_grows() -> None:
    layer, places = GrowingLayer(), set()
    for i in range(20_000):
        places.add(layer.update(states([i]), states([i]))[0].data_ptr())
    assert len(places) < 25


def test_a_layers_copy_has_memory_of_its_own() -> None:
    layer = GrowingLayer()
    layer.update(states([1, 2, 3]), states([1, 2, 3]))
    copy = layer.copy(2)
    copy.update(states([9]), states([9]))
    assert torch.equal(layer.keys, states([1, 2, 3]))
    assert torch.equal(copy.keys, states([1, 2, 9]))


def test_the_spare_room_counts_as_memory() -> None:
    layer = GrowingLayer()
    assert layer.nbytes == 0
    layer.update(states([1]), states([1]))
    assert layer.nbytes == 2 * (1 + GROWTH) * 2 * 4 * 4


# One cache


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ([], [], 0),
        ([1, 2], [], 0),
        ([1, 2], [1, 2], 2),
        ([1, 2, 3], [1, 9, 3], 1),
        ([1], [1, 2], 1),
        ([1], [2], 0),
    ],
)
def test_the_shared_prefix_of_two_sequences(first: list[int], second: list[int], shared: int) -> None:
    assert shared_prefix(first, second) == shared_prefix(second, first) == shared


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4]),
        ([1, 2, 9, 9], [1, 2]),
        ([1, 2, 3, 4], [1, 2, 3]),  # the logits after the last token are needed
        ([1], []),
        ([9], []),
    ],
)
def test_a_cache_is_cut_back_to_what_it_shares_with_a_prompt(prompt: list[int], kept: list[int]) -> None:
    cache = filled([1, 2, 3, 4])
    assert cache.keep_prefix_of(prompt) == len(kept)
    assert holds(cache, kept)


def test_an_empty_cache_shares_nothing() -> None:
    assert KVCache().keep_prefix_of([1, 2, 3]) == 0


# Several caches


def test_the_cache_with_the_longest_shared_prefix_is_taken() -> None:
    caches = PrefixCaches(UNBOUNDED)
    for token_ids in ([1, 2], [1, 2, 3, 4], [1, 2, 3]):
        caches.keep(filled(token_ids))
    assert holds(caches.take([1, 2, 3, 4, 5]), [1, 2, 3, 4])
    assert holds(caches.take([1, 2, 3, 4, 5]), [1, 2, 3])


def test_a_taken_cache_is_its_takers_alone() -> None:
    caches = PrefixCaches(UNBOUNDED)
    caches.keep(filled([1, 2, 3]))
    assert caches.take([1, 2, 3, 4]) is not caches.take([1, 2, 3, 4])
    assert caches.nbytes == 0


def test_a_prompt_that_shares_nothing_gets_an_empty_cache_and_takes_none() -> None:
    caches = PrefixCaches(UNBOUNDED)
    caches.keep(filled([1, 2, 3]))
    assert holds(caches.take([7, 8]), [])
    assert holds(caches.take([1, 2, 3, 4]), [1, 2, 3])


def test_another_conversations_cache_is_copied_and_not_cut() -> None:
    caches = PrefixCaches(UNBOUNDED)
    caches.keep(filled([1, 2, 3, 4, 5, 6, 7]))
    branch = caches.take([1, 2, 3, 90, 91])
    branch.update(states([90]), -states([90]), 0)
    assert holds(branch, [1, 2, 3]) is False  # it was written to,
    assert holds(caches.take([1, 2, 3, 4, 5, 6, 7, 8]), [1, 2, 3, 4, 5, 6, 7])  # and the other was not


def test_a_copied_beginning_is_what_the_prompt_shares() -> None:
    caches = PrefixCaches(UNBOUNDED)
    caches.keep(filled([1, 2, 3, 4, 5, 6, 7]))
    assert holds(caches.take([1, 2, 3, 90, 91]), [1, 2, 3])
    assert holds(caches.take([1, 2, 3]), [1, 2])


def test_beyond_the_bound_the_least_recently_used_goes_first() -> None:
    one = filled([1, 1]).nbytes
    caches = PrefixCaches(2 * one)
    caches.keep(filled([1, 1]))
    caches.keep(filled([2, 2]))
    caches.keep(caches.take([1, 1, 1]))
    caches.keep(filled([3, 3]))
    assert caches.nbytes == 2 * one
    assert [len(caches.take([i, i, i]).token_ids) for i in (1, 2, 3)] == [2, 0, 2]


def test_a_bound_of_zero_keeps_nothing() -> None:
    caches = PrefixCaches(0)
    caches.keep(filled([1, 2, 3]))
    assert (caches.nbytes, caches.take([1, 2, 3, 4]).token_ids) == (0, [])


def test_clearing_lets_go_of_all() -> None:
    caches = PrefixCaches(UNBOUNDED)
    caches.keep(filled([1, 2, 3]))
    caches.clear()
    assert (caches.nbytes, caches.take([1, 2, 3, 4]).token_ids) == (0, [])


# With a model


def answer(model: PreTrainedModel, prompt_ids: list[int], cache: KVCache) -> list[int]:
    sampling = Sampling(do_sample=False, max_new_tokens=24)
    options = {"stop_token_ids": (), "cache": cache, "processors": LogitsProcessorList()}
    return list(iter_tokens(model, prompt_ids, sampling, **options))  # type: ignore[arg-type]


@pytest.fixture
def caches(tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer]) -> PrefixCaches:
    """The caches after the first answer."""
    caches, cache = PrefixCaches(UNBOUNDED), KVCache()
    answer(tiny[0], FIRST, cache)
    caches.keep(cache)
    return caches


@pytest.fixture(params=PROMPTS)
def prompt(request: pytest.FixtureRequest, tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer]) -> list[int]:
    """The next prompt: after the first answer, the same once more, or with another end."""
    said = answer(tiny[0], FIRST, KVCache()) if request.param == "continued" else []
    kept = FIRST[:30] if request.param == "edited" else FIRST
    return [*kept, *said, *PROMPTS[request.param]]


def test_an_answer_is_the_same_with_what_was_kept(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer], caches: PrefixCaches, prompt: list[int]
) -> None:
    cache = caches.take(prompt)
    assert len(cache.token_ids) >= 30
    assert answer(tiny[0], prompt, cache) == answer(tiny[0], prompt, KVCache())


def test_only_the_new_tokens_of_a_prompt_are_read(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer], caches: PrefixCaches, prompt: list[int]
) -> None:
    model, cache = CountingModel(tiny[0]), caches.take(prompt)
    known = len(cache.token_ids)
    answer(model, prompt, cache)  # type: ignore[arg-type]
    assert model.read == [len(prompt) - known] + [1] * 23


def test_two_conversations_in_turn_do_not_disturb_each_other(
    tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer],
) -> None:
    caches, prompts = PrefixCaches(UNBOUNDED), [[*range(20, 40), 50], [*range(20, 40), 60]]
    for _ in range(3):
        for i, prompt in enumerate(prompts):
            cache = caches.take(prompt)
            said = answer(tiny[0], prompt, cache)
            caches.keep(cache)
            assert said == answer(tiny[0], prompt, KVCache())
            prompts[i] = [*prompt, *said, 70 + i]
