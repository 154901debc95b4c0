"""First come, first served: a lock whose waiters know their place."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.jobs import Cancellation


class FifoLock:
    """Lets one holder in at a time, in the order of arrival.

    with lock.queue(cancellation) as places:
        for place in places:   # 1 is next; ends when it is our turn, or at a cancel
            ...
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()  # the holder first

    @contextmanager
    def queue(self, cancellation: Cancellation) -> Iterator[Iterator[int]]:
        ticket = object()
        cancellation.on_request(self._wake)
        with self._changed:
            self._queue.append(ticket)
        try:
            yield self._places(ticket, cancellation)
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _places(self, ticket: object, cancellation: Cancellation) -> Iterator[int]:
        told = 0
        while True:
            with self._changed:
                while (place := self._queue.index(ticket)) == told > 0 and not cancellation():
                    self._changed.wait()
            if place == 0 or cancellation():
                return
            told = place
            yield place

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
