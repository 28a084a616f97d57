"""Label files as plain columns: CSV, Excel, whitespace-separated text. Every complaint is one sentence."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import openpyxl
from numpy.typing import NDArray

from attiqa.errors import InputError

Columns = dict[str, list[str]]


def read_csv(path: Path, required: Sequence[str], *, header: Sequence[str] | None = None) -> Columns:
    """Read a comma-separated file with a header row.

    Args:
        path: UTF-8, with or without a byte-order mark.
        required: columns that must be there; their names are compared without regard to case, and the
            result has them as spelt here. Others keep the file's spelling.
        header: column names of a file that has no header row.

    Raises:
        InputError: the file is missing, not UTF-8 text, lacks a column, or has a row of another length.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _columns(path, csv.reader(file), required, header)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected a CSV file there.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a UTF-8 CSV file ({error}).") from None


def read_excel(path: Path, required: Sequence[str]) -> Columns:
    """Read the first sheet of an ``.xlsx`` file; as `read_csv` otherwise."""
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected an Excel file there.") from None
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        openpyxl.utils.exceptions.InvalidFileException,
    ) as error:
        raise InputError(f"{path} is not an Excel .xlsx file ({error}).") from None
    try:
        rows = [
            ["" if cell is None else str(cell) for cell in row]
            for row in book.worksheets[0].iter_rows(values_only=True)
        ]
        width = max(map(len, rows), default=0)  # files of some writers leave empty cells out at the end
        return _columns(path, (row + [""] * (width - len(row)) for row in rows), required, None)
    finally:
        book.close()


def read_words(path: Path, header: Sequence[str]) -> Columns:
    """Read lines of whitespace-separated words; each line must have as many as `header`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected a text file there.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from None
    return _columns(path, (line.split() for line in lines), header, header)


def numbers(path: Path, columns: Columns, name: str) -> NDArray[np.float64]:
    """The column `name` as finite float64; raises `InputError` with the first line that is no number."""
    values = np.empty(len(columns[name]))
    for row, text in enumerate(columns[name]):
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.nan
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(
            f"{path} has {bad.size} of {len(values)} rows whose {name} is no finite number, the first in "
            f"row {bad[0] + 1}: {columns[name][bad[0]]!r}; mend or remove them."
        )
    return values


def _columns(
    path: Path, rows: Iterable[list[str]], required: Sequence[str], header: Sequence[str] | None
) -> Columns:
    filled = (row for row in rows if any(cell.strip() for cell in row))
    names = list(header) if header is not None else [cell.strip() for cell in next(filled, [])]
    spelling = {name.lower(): name for name in required}
    names = [spelling.get(name.lower(), name) for name in names]
    missing = [name for name in required if name not in names]
    if missing:
        # one "column" that holds them all is a table that another character separates
        hint = " (columns are separated by commas)" if len(names) == 1 and len(required) > 1 else ""
        raise InputError(
            f"{path} lacks the column {', '.join(missing)}; it has {', '.join(names) or 'none'}{hint}."
        )
    table: Columns = {name: [] for name in names}
    for number, row in enumerate(filled, start=1):
        if len(row) != len(names):
            raise InputError(
                f"{path} has {len(row)} values in row {number}; expected {len(names)} ({names})."
            )
        for name, cell in zip(names, row, strict=True):
            table[name].append(cell.strip())
    if not table[names[0]]:
        raise InputError(f"{path} has no rows; expected one for each image.")
    return table


class MissingLabelsError(InputError):
    """None of a dataset's label files is where it should be."""


def find_labels(root: Path, *candidates: str) -> Path:
    """The first of `candidates` (paths below `root`) that exists.

    Raises:
        MissingLabelsError: none does; the sentence names them all.
    """
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise MissingLabelsError(f"{root} holds none of {', '.join(candidates)}.")


def splits_by_code(path: Path, codes: Sequence[str]) -> list[str]:
    """Names of splits as datasets spell them (``training``, ``val``, ``0`` to ``2`` as pyiqa) to ours."""
    known = {"train": "train", "training": "train", "0": "train", "test": "test", "2": "test"}
    known |= {"validation": "validation", "val": "validation", "1": "validation"}
    unknown = sorted({code for code in codes if code.lower() not in known})
    if unknown:
        raise InputError(f"{path} has splits named {', '.join(unknown)}; expected train, validation or test.")
    return [known[code.lower()] for code in codes]
