"""How far long work is, on a terminal and in a log."""

from __future__ import annotations

import io
import sys
import time

import pytest
from tqdm import tqdm

from attiqa import progress
from attiqa.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_is_redrawn_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress_bar(range(3), "counting", mininterval=0, miniters=1)) == [0, 1, 2]
    assert terminal.getvalue().count("\n") == 1
    assert "counting: 100%" in terminal.getvalue().rsplit("\r", 1)[1]


def test_in_a_log_long_work_leaves_lines_and_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with progress_bar(desc="counting", total=4, unit="render") as bar:
        for wait in (0.06, 0.06, 0.06, 0):
            time.sleep(wait)
            bar.update()
    *lines, end = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert all(line.startswith("counting:") and "/4 [" in line for line in (*lines, end))
    assert ["4/4 [" in line for line in (*lines, end)] == [False] * len(lines) + [True]
    assert "\r" not in end


def test_in_a_log_an_end_that_was_told_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    for _ in progress_bar(range(1), "waiting"):
        time.sleep(0.06)
    assert capsys.readouterr().err.count("1/1 [") == 1


def test_in_a_log_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(3), "counting")) == [0, 1, 2]
    assert list(progress_bar(range(3), "counting", shown=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_what_is_written_beside_a_bar_of_lines_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=4, desc="counting") as bar:
        bar.update()
        tqdm.write("a message", file=sys.stderr)
        bar.write("another")
    assert capsys.readouterr() == ("another\n", "a message\n")
