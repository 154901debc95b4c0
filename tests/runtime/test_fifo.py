"""The FIFO lock: one holder at a time, in the order of arrival, with known places."""

import threading
from collections.abc import Iterator

import pytest

from runtime.fifo import FifoLock
from runtime.jobs import Cancellation


class Waiter:
    """A thread that queues, records its places, and holds the lock until told to leave."""

    def __init__(self, lock: FifoLock) -> None:
        self.cancellation = Cancellation()
        self.places: list[int] = []
        self.queued = threading.Semaphore(0)  # released at each place
        self.holding = threading.Event()
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(lock,), daemon=True)
        self._thread.start()

    def _run(self, lock: FifoLock) -> None:
        with lock.queue(self.cancellation) as places:
            for place in places:
                self.places.append(place)
                self.queued.release()
            if not self.cancellation():
                self.holding.set()
                assert self.leave.wait(10)

    def finish(self) -> None:
        self.leave.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def three() -> Iterator[list[Waiter]]:
    """A holder and two that wait behind it."""
    lock = FifoLock()
    waiters = [Waiter(lock)]
    assert waiters[0].holding.wait(10)
    for _ in range(2):
        waiters.append(Waiter(lock))
        assert waiters[-1].queued.acquire(timeout=10)
    yield waiters
    for waiter in waiters:
        waiter.finish()


def test_the_first_enters_without_waiting(three: list[Waiter]) -> None:
    assert three[0].places == []
    assert [waiter.holding.is_set() for waiter in three] == [True, False, False]


def test_the_others_follow_in_the_order_of_arrival_and_know_their_places(three: list[Waiter]) -> None:
    three[0].finish()
    assert three[1].holding.wait(10)
    assert three[2].queued.acquire(timeout=10)  # it is told its new place
    three[1].finish()
    assert three[2].holding.wait(10)
    assert (three[1].places, three[2].places) == ([1], [2, 1])


def test_one_that_is_cancelled_leaves_the_queue_and_the_rest_move_up(three: list[Waiter]) -> None:
    three[1].cancellation.request()
    three[1].finish()
    assert not three[1].holding.is_set()
    assert three[2].queued.acquire(timeout=10)
    assert three[2].places == [2, 1]


def test_a_waiter_that_is_cancelled_before_it_queues_does_not_wait() -> None:
    lock = FifoLock()
    cancellation = Cancellation()
    cancellation.request()
    with lock.queue(Cancellation()) as holder, lock.queue(cancellation) as places:
        assert list(holder) == []
        assert list(places) == []


def test_an_exception_inside_gives_the_lock_back() -> None:
    lock = FifoLock()
    with pytest.raises(RuntimeError), lock.queue(Cancellation()):
        raise RuntimeError
    with lock.queue(Cancellation()) as places:
        assert list(places) == []
