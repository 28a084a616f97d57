"""Files: atomic writes, content digests, JSON."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attiqa.errors import InputError

# how Python holds the bytes of a file's name that are no UTF-8 (PEP 383): tables that list files keep them
NAME_ERRORS = "surrogateescape"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends without an error.

    A reader, a crash or a full disk sees the old file or the new one, never half of one. The temporary
    name keeps the suffix, because image and array writers choose their format by it. What the operating
    system refuses is an `OSError` that names `path`, also where a writer calls it otherwise, as safetensors
    does.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        yield temporary
        # mkstemp makes files private; give them the mode that open() would have
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except Exception as error:
        number = _refusal(error, str(temporary))
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise the `OSError` of writing `path`, before the work whose result it is to hold; makes its folder."""
    _beside(Path(path)).unlink()


def _beside(path: Path) -> Path:
    """A new, empty file in the folder of `path`, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    return Path(name)


def _refusal(error: Exception, temporary: str) -> int | None:
    """The number of what the system refused, where the error does not tell it with a file that users know."""
    if not isinstance(error, OSError):
        wrapped = re.search(r"\(os error (\d+)\)", str(error))  # how Rust's standard library words it
        return int(wrapped[1]) if wrapped else None
    # errors of other libraries, such as ssl's, have numbers of their own
    is_systems = error.errno is not None and error.strerror == os.strerror(error.errno)
    return error.errno if is_systems and error.filename in (None, temporary) else None


def is_abandoned(modified: float) -> bool:
    """Whether something unfinished, last written at `modified` (seconds since 1970), has no writer any more.

    A process that was killed leaves such files; nobody takes an hour between two writes (our choice).
    """
    return time.time() - modified > 3600.0


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8; names of files that are not keep their bytes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=NAME_ERRORS)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` atomically, indented; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def printable(path: str | Path) -> str:
    """A path on one line of any terminal: line breaks and bytes that are no UTF-8 are escaped."""
    escaped = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return escaped.replace("\n", "\\n").replace("\r", "\\r")


def read_json(path: str | Path, what: str = "a JSON file") -> Any:
    """Read JSON; `what` names the file's role in the error sentence."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected {what} there.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); expected {what}.") from None


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
