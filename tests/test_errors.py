"""What every command shares: sentences and exit codes, files that appear whole or not at all."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from attiqa.cli.main import main
from attiqa.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, command
from attiqa.files import check_writable, printable, write_text


@command
def _speaks(argv: list[str] | None = None) -> int:
    print("a line")
    return EXIT_OK


def test_a_reader_that_has_seen_enough_is_no_error_now_nor_when_python_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert _speaks([]) == EXIT_OK
        output.flush()  # as Python does at its end


def test_a_file_that_cannot_be_made_is_named_as_the_user_named_it(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def writes(argv: list[str] | None = None) -> int:
        write_text("/proc/table.csv", "")
        return EXIT_OK

    assert writes([]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("error: /proc/table.csv: ")
    assert "can folders be made there?" in said  # what mends it


def test_a_result_that_could_not_be_written_is_known_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "table.json")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(OSError, match=r"table\.csv"):
        check_writable("/proc/table.csv")


def test_ctrl_c_while_a_command_is_imported_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["score"]) == EXIT_INTERRUPTED


def test_names_of_files_are_printable_on_one_line() -> None:
    assert printable(Path("a b/ü.png")) == "a b/ü.png"
    assert printable(os.fsdecode(b"x\xff\ny.png")) == "x\\udcff\\ny.png"
