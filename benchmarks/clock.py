"""Times the client's tokens one by one, each beside a step that is its equal without the client."""

import time
from collections.abc import Mapping

from benchmarks.timing import Work, seconds
from runtime.jobs import Cancellation


class Clock(Cancellation):
    """Passed as a stream's cancellation, which is asked before each token; it never asks to stop.

    `steps` has for ranges of the tokens' numbers (from 1) what is timed beside each
    of them, and `pairs` the seconds of both. As they take turns, both meet the same noise.
    """

    def __init__(self, steps: Mapping[range, Work]) -> None:
        super().__init__()
        self.pairs: dict[range, list[tuple[float, float]]] = {numbers: [] for numbers in steps}
        self._steps = steps
        self._token = -1  # that has just ended; the client also asks before it takes the model
        self._began = 0.0

    def __call__(self) -> bool:
        taken = time.perf_counter() - self._began
        for numbers, step in self._steps.items():
            if self._token in numbers:
                self.pairs[numbers].append((taken, seconds(step)))
        self._token += 1
        self._began = time.perf_counter()
        return False
