"""The table of scores on disk: a CSV that says what made it, grows row by row, and can be resumed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from attiqa.errors import InputError
from attiqa.files import NAME_ERRORS, write_text
from attiqa.model import QualityModel
from attiqa.scoring import ScoredImage

_MARK = "# attiqa score: "


def score_protocol(model: QualityModel, crops: str) -> str:
    """What decides a score besides the image: the model's name and digest, and what it sees."""
    return f"model {model.card.get('name', 'unnamed')}, digest {model.digest}, crops {crops}"


class ScoreTable:
    """A CSV of scores: a comment line with the protocol, a header, a row for each image.

    Rows are appended as they come and flushed, so that a killed run keeps what it did. Opening an existing
    table of the same protocol resumes it: whole rows without an error stay, the others are done again.
    `done` holds the score of each path that has one.
    """

    def __init__(self, path: Path, protocol: str, attributes: Sequence[str]) -> None:
        """Open or create the table at `path`.

        Raises:
            InputError: the file is no such table, or was written under another protocol.
        """
        self.path = path
        self.columns = ["path", "score", *attributes, "error"]
        self._head = f"{_MARK}{protocol}\n" + _line(self.columns)
        kept = self._read() if path.exists() and path.stat().st_size else []
        self.done = {row[0]: float(row[1]) for row in kept}
        write_text(path, self._head + "".join(map(_line, kept)))
        self._file = open(  # noqa: SIM115  (closed in __exit__)
            path, "a", encoding="utf-8", errors=NAME_ERRORS, newline=""
        )

    def __enter__(self) -> ScoreTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, results: Iterable[ScoredImage]) -> None:
        """Append rows, at once."""
        for result in results:
            row = as_row(result, len(self.columns) - 3)
            self._file.write(_line(row))
            if not result.error:
                self.done[row[0]] = float(row[1])  # as a resumed run reads it
        self._file.flush()

    def _read(self) -> list[list[str]]:
        # newlines as they are: a file's name may hold a carriage return
        with open(self.path, encoding="utf-8", errors=NAME_ERRORS, newline="") as file:
            text = file.read()
        if not text.startswith(_MARK):
            raise InputError(f"{self.path} is not a table of scores; give another file to --csv.")
        if not text.startswith(self._head):
            found = text.splitlines()[0][:200]
            raise InputError(
                f"{self.path} was not written by this model and protocol: expected the line "
                f"{self._head.splitlines()[0]!r}, found {found!r}; give another file to --csv."
            )
        # the last line of a killed run may be torn: only lines that end are rows
        whole = text[len(self._head) : text.rfind("\n") + 1]
        rows = csv.reader(io.StringIO(whole, newline=""))
        return [row for row in rows if len(row) == len(self.columns) and not row[-1]]


def as_row(result: ScoredImage, attributes: int) -> list[str]:
    """One row of text: path, score, attributes, error; nine digits give a float32 back exactly."""
    if result.error:
        return [str(result.path), *[""] * (attributes + 1), result.error]
    return [str(result.path), *(f"{value:.9g}" for value in (result.score, *result.attributes)), ""]


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # so that both are quoted in names
    return buffer.getvalue().removesuffix("\r\n") + "\n"
