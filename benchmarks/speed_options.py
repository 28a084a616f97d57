"""What the subjects of the speed benchmark share: flags, devices, the report and the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from attiqa.devices import pick_device
from attiqa.errors import InputError
from attiqa.files import write_text
from attiqa.options import as_record, option
from benchmarks.common import QUICK_NOTE
from benchmarks.records import write_record
from benchmarks.timing import Figure, figures_table

QUICK_REPEATS = 2


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """Flags of every subject."""

    device: str = option("all", help="cpu, cuda, ...; all: the CPU, and a GPU where there is one")
    threads: int = option(torch.get_num_threads(), help="threads of torch on the CPU")
    repeats: int = option(5, help="repeats of each figure, in turns with its limit")
    quick: bool = option(False, help=f"{QUICK_REPEATS} repeats of less work: to see that all runs")
    seed: int = option(0, help="of whatever is drawn")
    out: Path | None = option(
        None, help="folder of record and report (default: runs/benchmarks/speed-SUBJECT)", metavar="DIR"
    )

    def __post_init__(self) -> None:
        for name in ("threads", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is 1 or more; it is {getattr(self, name)}.")
        if self.quick:
            object.__setattr__(self, "repeats", min(self.repeats, QUICK_REPEATS))

    @property
    def devices(self) -> list[str]:
        """Where to measure."""
        if self.device == "all":
            return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        return [str(pick_device(self.device))]


@dataclass(frozen=True)
class Findings:
    """What one subject found on one device.

    Attributes:
        figures: rates beside limits.
        remarks: what has to be said of them.
        more: further JSON values for the record.
    """

    figures: Sequence[Figure]
    remarks: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One subcommand.

    Attributes:
        name: of the subcommand.
        options: its flags.
        measure: measures on one device.
        about: a line of help.
    """

    name: str
    options: type[SpeedOptions]
    measure: Callable[[Any, str], Findings]
    about: str


def run_subject(subject: Subject, options: SpeedOptions, argv: Sequence[str]) -> Path:
    """Measure on every device, print the tables, write the record; returns its path."""
    torch.set_num_threads(options.threads)
    found = {device: subject.measure(options, device) for device in options.devices}
    parts = [f"## Speed: {subject.name}", _machine(options)]
    for device, findings in found.items():
        parts += [figures_table(f"{subject.name}, {_device_name(device)}", findings.figures)]
        parts += findings.remarks
    text = "\n\n".join([*parts, *([QUICK_NOTE] if options.quick else [])])
    print(text)
    folder = options.out or Path("runs") / "benchmarks" / f"speed-{subject.name}"
    write_text(folder / "report.md", text + "\n")
    content = {
        "options": as_record(options),
        "devices": {
            device: {"figures": [item.record() for item in findings.figures], **findings.more}
            for device, findings in found.items()
        },
        "report": text,
    }
    path = write_record(folder, f"speed-{subject.name}", ["benchmarks/speed.py", *argv], content)
    print(f"\nrecord: {path}")
    return path


def _machine(options: SpeedOptions) -> str:
    no_gpu = "" if torch.cuda.is_available() else "; no GPU was at hand"
    return (
        f"{options.threads} threads on the CPU{no_gpu}. Each figure and its limit took turns, "
        f"{options.repeats} each: the best rate, the interquartile range over the median, and the share of "
        "the limit's rate, median and quartiles of the turns. On a busy machine shares hold and rates do not."
    )


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device.upper()
