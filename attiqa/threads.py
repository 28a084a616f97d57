"""Threads: how many a computation takes, and those that prepare images beside it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from attiqa.errors import InputError

THREADS = (
    "CPU threads; 0 takes all cores. Where others compute on the machine too, 1 is faster: threads of one "
    "computation wait for each other"
)


def limit_threads(count: int) -> None:
    """Let torch compute in `count` threads; 0 changes nothing.

    Raises:
        InputError: a negative number.
    """
    if count < 0:
        raise InputError(f"--threads must not be negative; got {count}.")
    if count:
        torch.set_num_threads(count)


def thread_pool(workers: int) -> ThreadPoolExecutor:
    """Threads in each of which torch computes alone.

    By default every thread that calls torch gets a team of OpenMP threads of its own. With more of them than
    processors GNU's OpenMP lets waiting threads sleep, also those of the network: its forward pass on two
    cores then took 1.4 times as long, even while the others were idle.

    Args:
        workers: how many, at least 1.
    """
    count = torch.get_num_threads()
    ready = threading.Barrier(workers + 1)
    pool = ThreadPoolExecutor(workers, initializer=_compute_alone)
    for _ in range(workers):  # each waits, so that each is a thread of its own
        pool.submit(ready.wait)
    ready.wait()
    torch.set_num_threads(count)  # what threads that start from now on take; those above keep theirs
    return pool


def _compute_alone() -> None:
    torch.get_num_threads()  # settles this thread's number, which would otherwise be done, and undone, later
    torch.set_num_threads(1)
