"""Timing by turns, and tables of the outcome. On a noisy machine only ratios within a run mean much."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

Work = Callable[[], object]


def synchronize() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def seconds(work: Work) -> float:
    """How long some work takes, on the accelerator too."""
    synchronize()
    began = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - began


def take_turns(ways: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """The seconds of each way in each round, after one to warm up; each round begins with another way."""
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(-1, rounds):
        for i in range(len(names)):
            name = names[(round_ + i) % len(names)]
            taken = seconds(ways[name])
            times[name] += [taken] if round_ >= 0 else []
    return times


def ratio(first: Iterable[float], second: Iterable[float]) -> float:
    """The median of the ratios of what was measured together."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def table(*rows: Sequence[object]) -> None:
    """Print a Markdown table, its head first."""
    head, *body = (f"| {' | '.join(map(str, row))} |" for row in rows)
    print("", head, "|" + " --- |" * len(rows[0]), *body, sep="\n", flush=True)
