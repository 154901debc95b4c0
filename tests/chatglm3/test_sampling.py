"""Sampling parameters are checked, and mean what they mean to Transformers' generate."""

import math
from typing import Any

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from chatglm3.sampling import Sampling, choose, logits_processors

OUT_OF_RANGE = {
    "max_new_tokens": [0, -1],
    "top_p": [0, -0.1, 1.01],
    "temperature": [-0.1],
    "repetition_penalty": [0, -1],
    "top_k": [-1],
}
NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OUT_OF_RANGE.items() for value in values + NOT_FINITE],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*, not {value}"):
        Sampling(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"max_new_tokens": 1},
        {"top_p": 1},
        {"top_p": 1e-6},
        {"temperature": 0},
        {"temperature": 1000},
        {"repetition_penalty": 1e-3},
        {"top_k": 0},
    ],
)
def test_values_at_the_edge_are_accepted(values: dict[str, Any]) -> None:
    assert Sampling(**values)


@pytest.mark.parametrize("values", [{"temperature": 0}, {"do_sample": False}])
def test_greedy_takes_the_likeliest_token_and_needs_no_processors(values: dict[str, Any]) -> None:
    sampling = Sampling(**values)
    assert sampling.greedy
    assert not logits_processors(sampling)
    assert choose(torch.tensor([[1.0, 3.0, 2.0]]), sampling.greedy).tolist() == [1]


def test_greedy_still_obeys_the_repetition_penalty() -> None:
    processors = logits_processors(Sampling(do_sample=False, repetition_penalty=1.2))
    assert [type(each) for each in processors] == [RepetitionPenaltyLogitsProcessor]


def test_processors_stand_in_the_order_of_generate() -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, top_k=40, repetition_penalty=1.1)
    assert [type(each) for each in logits_processors(sampling)] == [
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    ]


def test_values_that_change_nothing_cost_nothing() -> None:
    assert not logits_processors(Sampling(temperature=1, top_p=1, top_k=0, repetition_penalty=1))


def test_whole_numbers_are_as_good_as_fractions() -> None:
    whole = logits_processors(Sampling(temperature=2, top_p=1, repetition_penalty=2))
    fractions = logits_processors(Sampling(temperature=2.0, top_p=1.0, repetition_penalty=2.0))
    assert [vars(each) for each in whole] == [vars(each) for each in fractions]


def test_a_forbidden_token_is_never_sampled() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([[0.0, -math.inf, 0.0]]).expand(200, 3)
    assert set(choose(scores, greedy=False).tolist()) == {0, 2}


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-40])
def test_a_tiny_temperature_is_as_good_as_greedy(temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=0.8)
    ids = torch.zeros(1, 1, dtype=torch.long)
    scores = logits_processors(sampling)(ids, torch.tensor([[10.0, 30.0, 20.0]]))  # type: ignore[arg-type]
    assert choose(scores, sampling.greedy).tolist() == [1]
