"""How the next token is chosen: the parameters, checked, and Transformers' processors for them."""

import math
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

# Below, dividing by it would overflow; the likeliest token has all the probability anyway.
MIN_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of one answer.

    A temperature of 0, like `do_sample=False`, means greedy. `top_k` of 0 means
    all tokens. Raises ValueError, in a sentence, for a value out of range.
    """

    max_new_tokens: int = 256
    do_sample: bool = True
    top_p: float = 0.8
    temperature: float = 0.8
    repetition_penalty: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _check("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0")
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")

    @property
    def greedy(self) -> bool:
        return not self.do_sample or self.temperature < MIN_TEMPERATURE


def _check(name: str, value: float, valid: bool, range_: str) -> None:
    if not (math.isfinite(value) and valid):
        raise ValueError(f"{name} must be {range_}, not {value}.")


def logits_processors(sampling: Sampling) -> LogitsProcessorList:
    """Transformers' processors for these parameters, in the order in which `generate` applies them."""
    processors = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if sampling.greedy:
        return processors
    if sampling.temperature != 1:
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    return processors


def choose(scores: torch.Tensor, greedy: bool) -> torch.Tensor:
    """The next token of each row of processed scores [batch, vocabulary]: [batch]."""
    if greedy:
        return scores.argmax(dim=-1)
    return torch.multinomial(scores.softmax(dim=-1), num_samples=1).squeeze(-1)
