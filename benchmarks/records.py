"""Records: what was run, where, with what, and what came out, as JSON beside its tables and pictures."""

from __future__ import annotations

import csv
import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
RECORD_NAME = "record.json"

_PACKAGES = ("attiqa", "torch", "torchvision", "numpy", "scipy", "scikit-image", "pyiqa", "ai-edge-litert")


def environment() -> dict[str, Any]:
    """When, on what machine, with which versions and which commit."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": commit(),
    }


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, and the GPU where there is one."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
    }


def commit() -> str:
    """The checkout's commit; "-dirty" where the working tree differs, "unknown" outside git."""
    try:
        sha = _git("rev-parse", "HEAD")
        return f"{sha}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else sha
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_record(folder: Path, benchmark: str, command: Sequence[str], content: Mapping[str, Any]) -> Path:
    """Write ``record.json`` into `folder`: the environment, the command line, then `content`.

    NaN and infinity become null, which is what JSON has for "not defined"; folders of this machine are named
    as `portable` does.
    """
    path = folder / RECORD_NAME
    record = {"benchmark": benchmark, "command": list(command), **environment(), **content}
    write_json(path, portable(plain(record)))
    return path


def command_line(script: str, argv: Sequence[str] | None) -> list[str]:
    """What was typed: the script and its arguments, those of the process where `argv` is None."""
    return [script, *(sys.argv[1:] if argv is None else argv)]


def portable(value: Any) -> Any:
    """JSON values whose strings name no folder of this machine.

    The folder of data (``ATTIQA_DATA``, else ``../shared/data``) becomes ``$ATTIQA_DATA``, the checkout and
    the working directory ``.``, the home folder ``~``, and that of temporary files ``$TMPDIR``.
    """
    if isinstance(value, Mapping):
        return {portable(key): portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    if isinstance(value, str):
        for folder, name in _places():
            value = re.sub(rf"{re.escape(folder)}(?=[/\s'\"),.;:]|$)", name, value)
    return value


def _places() -> list[tuple[str, str]]:
    """Folders and what stands for them, the longest first: one may lie in another."""
    data = Path(os.environ.get("ATTIQA_DATA", ROOT.parent / "shared" / "data"))
    named = {Path(tempfile.gettempdir()): "$TMPDIR", Path.home(): "~", Path.cwd(): ".", ROOT: "."}
    places = {str(path.absolute()): name for path, name in (named | {data: "$ATTIQA_DATA"}).items()}
    places |= {str(Path(path).resolve()): name for path, name in places.items()}
    return sorted(((p, name) for p, name in places.items() if p != "/"), key=lambda one: -len(one[0]))


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """All records below `folder`, by the name of the folder that each lies in."""
    found = sorted(folder.rglob(RECORD_NAME))
    if not found:
        raise InputError(f"no {RECORD_NAME} lies below {folder}; run a benchmark with --out there first.")
    return {str(path.parent.relative_to(folder)): read_json(path, "a benchmark record") for path in found}


def write_items(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write per-item values as CSV, one column a key; numbers keep all their digits, NaN is empty."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of one table have one length; these have {lengths}")
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 of a sorted list of names: identifies a split or a set of items."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def plain(value: Any) -> Any:
    """`value` with NumPy scalars, arrays, paths and undefined numbers turned to what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else value


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional extra that is not installed took no part
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
