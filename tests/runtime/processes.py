"""Functions of the tests in processes of their own, started from one that has imported what they need."""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from typing import Any


def processes() -> ForkServerContext:
    """Where processes come from that share nothing with this one, but need not import PyTorch each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "runtime.chats", "tests.runtime.writers"])
    return context


def run_in_processes(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call the function with each of the arguments, each in a process of its own, all at once."""
    started = [processes().Process(target=function, args=each, daemon=True) for each in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * len(started)
