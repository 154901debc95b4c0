"""What a token costs late in a long answer, compared with early: in the client, and in attention alone."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from benchmarks.clock import Clock
from benchmarks.subject import GREEDY, Subject
from benchmarks.timing import Work, ratio, table, take_turns
from chatglm3.kv_cache import KVCache

EARLY, LATE, WINDOW = 200, 2000, 20  # tokens are timed around these numbers, ± WINDOW


@torch.inference_mode()
def single_step(model: PreTrainedModel, cache: Any, length: int) -> Work:
    """A forward pass for one token after `length` others; it leaves the cache as it was."""
    ids = torch.randint(100, model.config.vocab_size - 100, (1, length), device=model.device)
    model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def step() -> None:
        logits = model(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        int(logits[:, -1].argmax())
        cache.crop(-1)

    return step


def growth(subject: Subject, rounds: int) -> float:
    """How much more the time per token grows with the answer's length in the client than in attention."""
    model, prompt = subject.model, len(subject.prompt_ids)
    caches: dict[str, Callable[[], Any]] = {
        "KVCache": KVCache,
        "DynamicCache": partial(DynamicCache, config=model.config),
    }
    steps = {
        f"{name} {number}": single_step(model, new(), prompt + number)
        for name, new in caches.items()
        for number in (EARLY, LATE)
    }
    alone = take_turns(steps, 3 * WINDOW)
    windows = {number: range(number - WINDOW, number + WINDOW + 1) for number in (EARLY, LATE)}
    clocks = [Clock({windows[n]: steps[f"KVCache {n}"] for n in windows}) for _ in range(rounds)]
    for clock in clocks:
        subject.run_client(LATE + 2 * WINDOW, cancellation=clock, **GREEDY)
    early, late = (
        list(zip(*(pair for clock in clocks for pair in clock.pairs[window]), strict=True))
        for window in windows.values()
    )
    rows = {
        "client": (early[0], late[0]),
        "bare forward, between the client's tokens": (early[1], late[1]),
        **{f"bare forward, {name}": (alone[f"{name} {EARLY}"], alone[f"{name} {LATE}"]) for name in caches},
    }
    medians = [(name, *map(statistics.median, times)) for name, times in rows.items()]
    table(
        ("time per token", "growth", f"ms at token {EARLY}", f"ms at token {LATE}"),
        *((name, f"{b / a:.2f}", f"{1e3 * a:.1f}", f"{1e3 * b:.1f}") for name, a, b in medians),
    )
    return ratio(*late) / ratio(*early)
