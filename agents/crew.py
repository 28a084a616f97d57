"""Exports by several processes: files share nothing, and one process keeps few cores busy."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import takewhile
from math import ceil
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

import torch

from agents.enhancer import Enhancer
from agents.products import TOGETHER, Job, Outcome, Products, outcomes
from attiqa.threads import limit_threads

IN_HAND = 2  # shares that each other process is given at once, so that it never waits for this one
WORTH = 16  # files, for which another process is worth the seconds of its start
MEMORY = 4 * 2**30  # bytes a process may want: 1.8 GB with files of 12 megapixels, more with larger ones

_HAS_MASKS = hasattr(signal, "pthread_sigmask")  # Windows has none
_AT_WORK: list[tuple[Enhancer, Event]] = []  # in each process of a crew, its own; the event is for all


class Crew:
    """Processes that export, each with a policy of its own at work; see `agents.exporting.export`.

    This one is one of them, and at work while others start.

    Args:
        load: makes an enhancer; pickled for the other processes.
        enhancer: what it makes, for this one.
        workers: how many; 0 for as many as cores, memory and the number of files suggest.
    """

    def __init__(self, load: Callable[[], Enhancer], enhancer: Enhancer, workers: int = 0) -> None:
        self._load, self._enhancer, self._workers = load, enhancer, workers

    def __call__(self, jobs: Sequence[Job], products: Products) -> Generator[Outcome, None, None]:
        """Export files, and tell of each what became of it; of several processes, in no order."""
        workers = min(self._workers or fitting(len(jobs), self._enhancer.device), len(jobs))
        left = list(jobs)
        if workers > 1:
            left = yield from self._shared(jobs, products, workers)
        if left:
            yield from outcomes(self._enhancer, left, products)

    def _shared(
        self, jobs: Sequence[Job], products: Products, workers: int
    ) -> Generator[Outcome, None, list[Job]]:
        """Share files among processes, this one being one; returns those that are left where others ended by
        themselves."""
        left = list(jobs)
        threads = torch.get_num_threads()
        each = max(1, threads // workers)
        context = get_context("spawn")
        stop, others = context.Event(), set(active_children())
        pool = ProcessPoolExecutor(
            workers - 1, mp_context=context, initializer=_begin, initargs=(self._load, each, stop)
        )
        given: dict[Future[list[Outcome]], Sequence[Job]] = {}
        try:
            torch.set_num_threads(each)
            while left or given:
                while left and len(given) < IN_HAND * (workers - 1):
                    share = left[: _share(len(left), workers)]
                    with _uninterrupted():  # which processes inherit until `_begin`
                        given[pool.submit(_export, share, products)] = share
                    del left[: len(share)]
                if left:
                    own = left[: _share(len(left), workers)]
                    yield from outcomes(self._enhancer, own, products)
                    del left[: len(own)]
                else:
                    wait(given, return_when=FIRST_COMPLETED)
                for done in [future for future in given if future.done()]:
                    yield from done.result()
                    del given[done]
        except BrokenProcessPool:
            print(
                "a process of the export ended by itself, perhaps for want of memory: one exports what is "
                "left. Fewer --workers want less.",
                file=sys.stderr,
            )
        finally:
            torch.set_num_threads(threads)
            stop.set()  # what waits in the pool's own queue is past cancelling
            if _HAS_MASKS:
                _interrupt_all(set(active_children()) - others)
            pool.shutdown(wait=True, cancel_futures=True)
        return [job for share in (*given.values(), left) for job in share]


def _share(left: int, workers: int) -> int:
    """How many files are done next by one process: fewer towards the end, where others wait for the last, but
    not so few that looking together saves nothing."""
    return min(TOGETHER, max(TOGETHER // 2, left // (2 * workers)), ceil(left / workers))


def fitting(files: int, device: str) -> int:
    """How many processes suit so many files: one where an accelerator does the work."""
    if torch.device(device).type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), files // WORTH, _memory() // MEMORY))


def _memory() -> int:
    """Bytes of the machine; where it does not say, as many as anybody wants."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back, where the system can."""
    if not _HAS_MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt_all(processes: Iterable[BaseProcess]) -> None:
    """Send Ctrl-C, which ends what is at work in processes of `_begin`, and nothing else."""
    for process in processes:
        if process.pid:  # 0 would be all processes of this group
            with suppress(ProcessLookupError):  # it ended just now
                os.kill(process.pid, signal.SIGINT)


def _begin(load: Callable[[], Enhancer], threads: int, stop: Event) -> None:
    """Make ready a process, which is interrupted at work alone, and ends with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _HAS_MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_threads(threads)
    _AT_WORK[:] = [(load(), stop)]


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _export(jobs: Sequence[Job], products: Products) -> list[Outcome]:
    ((enhancer, stop),) = _AT_WORK
    if stop.is_set():
        return []
    signal.signal(signal.SIGINT, _interrupt)
    try:
        return list(takewhile(lambda outcome: not stop.is_set(), outcomes(enhancer, jobs, products)))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    """Once: what is done about it must not be interrupted again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
