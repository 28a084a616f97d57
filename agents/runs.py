"""Run folders: what a training run leaves on disk, and where.

::

    RUN/
      config.json              all that is needed to repeat the run, versions included
      metrics.csv              one row a rollout
      tensorboard/             the same as events
      start/                   the policy that --start named
      checkpoint.safetensors   the whole state, for --resume
      policy.safetensors       the policy alone, with its card policy.json
      summary.json             the held-out table
      report.png               the learning curve, and scenes before and after
"""

from __future__ import annotations

import csv
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json, write_json

CONFIG = "config.json"
METRICS = "metrics.csv"
CHECKPOINT = "checkpoint.safetensors"
SUMMARY = "summary.json"
REPORT = "report.png"
TENSORBOARD = "tensorboard"
SLOPES = "slopes"
START = "start"

STEP = "time/total_timesteps"
_PACKAGES = ("attiqa", "torch", "stable-baselines3", "gymnasium", "numpy", "rawpy", "kornia", "cma")


def new_run(out: Path | None, config: dict[str, Any]) -> Path:
    """Create a run folder with its `config`; None makes ``runs/DATE-TIME`` below the current directory.

    Raises:
        InputError: `out` exists already; nothing is ever overwritten.
    """
    if out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folders = (Path("runs") / (stamp + suffix) for suffix in ["", *(f"-{n}" for n in range(2, 1000))])
        out = next(folder for folder in folders if not folder.exists())
    check_new(out)
    out.mkdir(parents=True)
    write_json(out / CONFIG, config)
    return out


def check_new(out: Path) -> None:
    """Raise `InputError` where `out` exists: nothing is ever overwritten."""
    if out.exists():
        raise InputError(
            f"{out} exists already; choose another --out, or continue that run with --resume {out}."
        )


def read_config(run: Path) -> dict[str, Any]:
    """The config of an existing run; `InputError` where there is none."""
    if not run.is_dir():
        raise InputError(f"{run} is not a folder; expected a run of agents/train_isp.py.")
    config = read_json(run / CONFIG, "the config of a training run")
    if not isinstance(config, dict) or not isinstance(config.get("options"), dict):
        raise InputError(f"{run / CONFIG} is no config of a training run: it has no options.")
    return config


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


class MetricsFile(KVWriter):
    """``metrics.csv``: one row a dump, flushed at once; columns are added as they appear.

    Args:
        path: the file; rows up to `keep_until` steps are kept, later ones are dropped (a resumed run
            writes them again).
        keep_until: the step that the run continues from.
    """

    def __init__(self, path: Path, keep_until: int = 0) -> None:
        self.path = path
        rows = [row for row in read_metrics(path) if float(row[STEP]) <= keep_until] if keep_until else []
        self._columns = list(rows[0]) if rows else []
        self._rewrite(rows)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Append one row; called by SB3's logger."""
        row = {
            key: value
            for key, value in key_values.items()
            if isinstance(value, int | float) or _is_number(value)
        }
        if set(row) - set(self._columns):
            earlier = read_metrics(self.path)
            self._columns += sorted(set(row) - set(self._columns))
            self._rewrite(earlier)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def close(self) -> None:
        """Nothing stays open between rows."""

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; an unfinished last line (a killed process) is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row.get(STEP)]


def run_logger(run: Path, keep_until: int = 0) -> Logger:
    """SB3's logger over metrics.csv and tensorboard events; a resumed run continues both."""
    return Logger(
        str(run), [MetricsFile(run / METRICS, keep_until), TensorBoardOutputFormat(str(run / TENSORBOARD))]
    )


def command_line() -> list[str]:
    """How this process was called, for the record."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, str)
