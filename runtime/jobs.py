"""Work on a thread of its own, which pages watch but do not run.

A page's script is stopped at any widget and on every dropped connection; a job
is not. Its thread alone replaces `state`, whole; pages only read it. It makes no
Streamlit call.
"""

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

State = TypeVar("State")

# How long the end of the process waits for its jobs to notice that they are stopped.
SECONDS_TO_END = 5.0

logger = logging.getLogger(__name__)


class Cancellation:
    """A request to stop, made once and from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requested = False
        self._callbacks: list[Callable[[], None]] = []

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._requested

    def request(self) -> None:
        with self._lock:
            self._requested = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call back when the request is made; at once if it has been made."""
        with self._lock:
            if not self._requested:
                self._callbacks.append(callback)
                return
        callback()


class Job(Generic[State]):
    """Runs `work(job)` on a daemon thread, which publishes its states as it goes.

    `work` turns its own failures into states; what it lets escape is logged and
    kept in `error`, so that a watcher never waits for a thread that has died.
    """

    def __init__(self, work: "Callable[[Job[State]], None]", initial: State, name: str) -> None:
        self.state = initial
        self.error: BaseException | None = None
        self.cancellation = Cancellation()
        self._work = work
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Job[State]":
        _started.add(self)
        self._thread.start()
        return self

    def publish(self, state: State) -> None:
        """Replace the state; only `work` calls this."""
        self.state = state

    def stop(self) -> None:
        """Ask the work to end early."""
        self.cancellation.request()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        return self._done.wait(timeout)

    def _run(self) -> None:
        try:
            self._work(self)
        except BaseException as error:
            logger.exception("The job %s failed", self._thread.name)
            self.error = error
        finally:
            self._done.set()


_started: WeakSet[Job[Any]] = WeakSet()


@atexit.register
def _stop_all() -> None:
    """A daemon thread that the interpreter's end finds inside PyTorch would abort the process."""
    running = [job for job in _started if not job.done]
    for job in running:
        job.stop()
    for job in running:
        job.wait(SECONDS_TO_END)
