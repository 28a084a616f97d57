"""What must not be left half done ends first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from attiqa.interrupts import held_back


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What runs in the background of a shell ignores interrupts from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_end_and_is_not_lost() -> None:
    done = []

    def work() -> None:
        with held_back():
            interrupt()
            done.append(sum(range(1000)))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [499500]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whoever_handles_interrupts_goes_on_to() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with held_back():
            interrupt()
            assert seen == []
        interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] * 2


def test_other_threads_and_ignored_interrupts_are_left_alone() -> None:
    handlers = []

    def elsewhere() -> None:
        with held_back():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back():
            handlers.append(signal.getsignal(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert handlers == [before, signal.SIG_IGN]
