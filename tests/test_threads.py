"""Threads beside a network: each computes alone, and the caller keeps its own number of threads."""

import threading

import pytest
import torch

from attiqa.errors import InputError
from attiqa.threads import limit_threads, thread_pool


def test_threads_of_a_pool_compute_alone_and_others_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gate = threading.Barrier(3)
        with thread_pool(3) as pool:
            counts = list(pool.map(lambda _: (gate.wait(timeout=10), torch.get_num_threads())[1], range(3)))
            later: list[int] = []
            other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
            other.start()
            other.join()
        assert counts == [1, 1, 1]
        assert later == [2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_results_come_in_order_and_exceptions_arrive():
    with thread_pool(2) as pool:
        assert list(pool.map(lambda value: value**2, range(5))) == [0, 1, 4, 9, 16]
        assert isinstance(pool.submit(lambda: 1 / 0).exception(), ZeroDivisionError)


def test_a_negative_number_of_threads_is_refused_and_none_changes_nothing() -> None:
    before = torch.get_num_threads()
    with pytest.raises(InputError, match="--threads must not be negative; got -1"):
        limit_threads(-1)
    limit_threads(0)
    assert torch.get_num_threads() == before
    try:
        limit_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
