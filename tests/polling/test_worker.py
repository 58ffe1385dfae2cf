"""The thread of a worker: how it ends, and how an error leaves it."""

from __future__ import annotations

import threading

from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.polling.worker import WorkerThread, as_failure


def test_stop_wakes_it_and_waits_for_its_end() -> None:
    done: list[bool] = []

    def work() -> None:
        worker.wake.wait(30)
        done.append(worker.is_stopping())

    worker = WorkerThread(work, lambda _: None)
    worker.start()
    worker.stop()
    assert done == [True]
    assert not worker.thread.is_alive()
    worker.stop()


def test_it_may_stop_itself() -> None:
    ended = threading.Event()

    def work() -> None:
        worker.stop()
        ended.set()

    worker = WorkerThread(work, lambda _: None)
    worker.start()
    assert ended.wait(30)


def test_what_it_raises_is_reported() -> None:
    failed: list[TcptopError] = []

    def work() -> None:
        raise KeyError("x")

    worker = WorkerThread(work, failed.append)
    worker.start()
    worker.thread.join(30)
    assert [error.message for error in failed] == ["KeyError: 'x'"]


def test_an_error_that_was_foreseen_stays_what_it_is() -> None:
    error = Failed("gone", "look")
    assert as_failure(error) is error
