"""Jobs: work on a thread of its own, and the request to stop it."""

import logging
import subprocess
import sys

import pytest

from runtime.jobs import Cancellation, Job


def test_a_job_publishes_its_states_and_is_done_at_the_end() -> None:
    job = Job[int](lambda job: job.publish(job.state + 1), 41, "count").start()
    assert job.wait(5)
    assert (job.state, job.done, job.error) == (42, True, None)


def test_a_job_that_fails_is_done_and_keeps_its_error(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Job[None]) -> None:
        raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        job = Job[None](fail, None, "failing").start()
        assert job.wait(5)
    assert isinstance(job.error, RuntimeError)
    assert "failing" in caplog.text


def test_stopping_a_job_is_seen_by_its_work() -> None:
    seen: list[bool] = []

    def work(job: Job[None]) -> None:
        job.stop()
        seen.append(job.cancellation())

    Job[None](work, None, "stopped").start().wait(5)
    assert seen == [True]


def test_a_cancellation_calls_back_when_it_is_requested_and_only_once() -> None:
    calls: list[str] = []
    cancellation = Cancellation()
    cancellation.on_request(lambda: calls.append("called"))
    assert not cancellation()
    cancellation.request()
    cancellation.request()
    assert cancellation()
    assert calls == ["called"]


def test_a_callback_that_comes_after_the_request_is_called_at_once() -> None:
    calls: list[str] = []
    cancellation = Cancellation()
    cancellation.request()
    cancellation.on_request(lambda: calls.append("called"))
    assert calls == ["called"]


def test_the_end_of_the_process_stops_its_jobs() -> None:
    program = """
from runtime.jobs import Job
import threading

def work(job):
    stopped = threading.Event()
    job.cancellation.on_request(stopped.set)
    job.publish("waiting")
    stopped.wait()
    print("ended in order")

job = Job(work, "new", "waiting").start()
while job.state != "waiting":
    pass
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended in order\n", "")
