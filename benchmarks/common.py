"""What the doors of this folder share: options, loading of scorers, and the table of where they come from."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attiqa.datasets.rated import RatedSet
from attiqa.devices import pick_device
from attiqa.errors import InputError
from attiqa.metrics import srocc
from attiqa.options import option
from attiqa.peers import load_peer
from attiqa.views import VIEWS
from benchmarks.scorers import ScoreColumn, Scorer, model_scorer
from benchmarks.scoring import default_cache, score_files
from benchmarks.tables import markdown

QUICK_DRAWS = 100
QUICK_NOTE = "A quick look with few draws and splits, not a result."


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Which scorers take part, and where their scores and the record go."""

    model: list[str] = option(
        ["attiqa-mini"], help="quality models: bundled names, files, hub ids; none for none"
    )
    view: str = option("whole", help="what a quality model sees of an image", choices=VIEWS)
    peers: list[str] = option(
        [], help="nima-technical, nima-aesthetic, niqe, brisque (from --peer-weights), or any pyiqa metric"
    )
    peer_weights: Path | None = option(
        None, help="folder with the offline peers' parameter files", metavar="DIR"
    )
    device: str = option("auto", help="where models run: cpu, cuda, cuda:1, mps; auto takes a GPU if any")
    cache: Path = option(
        default_cache(), help="scores of earlier runs, by model and image digest", metavar="DIR"
    )
    out: Path | None = option(
        None, help="folder of record, tables and pictures (default: runs/benchmarks/NAME)", metavar="DIR"
    )
    repeats: int = option(1000, help="bootstrap draws")
    seed: int = option(0, help="of bootstrap and splits")
    batch_size: int = option(16, help="images of one size that are scored together")
    workers: int = option(2, help="threads that decode ahead")
    quick: bool = option(False, help=f"{QUICK_DRAWS} bootstrap draws: to see that all runs, not for a result")

    def __post_init__(self) -> None:
        # the record then says what was used
        object.__setattr__(self, "device", str(pick_device(self.device)))
        if self.quick:
            object.__setattr__(self, "repeats", min(self.repeats, QUICK_DRAWS))
        for name in ("repeats", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is 1 or more; it is {getattr(self, name)}.")
        if self.peer_weights is not None and not self.peer_weights.is_dir():
            raise InputError(f"--peer-weights {self.peer_weights} is not a folder.")

    def folder(self, name: str) -> Path:
        """Where this run writes."""
        return self.out if self.out is not None else Path("runs") / "benchmarks" / name


def load_scorers(options: ScoringOptions) -> tuple[list[Scorer], list[tuple[str, str]]]:
    """The scorers that the options name, and (name, sentence) for each that could not be had.

    One that is missing does not stop the others; its sentence is printed and kept in the record.
    """
    loaders = [
        (name, lambda name: model_scorer(name, options.device, options.view))
        for name in options.model
        if name != "none"
    ]
    loaders += [
        (name, lambda name: load_peer(name, options.peer_weights, options.device)) for name in options.peers
    ]
    scorers, missing = [], []
    for name, load in loaders:
        try:
            scorers.append(load(name))
        except InputError as error:
            missing.append((name, str(error)))
            print(f"left out: {error}", file=sys.stderr)
    names = [scorer.name for scorer in scorers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two scorers are called {', '.join(twice)}; give their files different names.")
    return scorers, missing


def origins(columns: Sequence[ScoreColumn], missing: Sequence[tuple[str, str]]) -> str:
    """A table that says for each scorer where its numbers come from, then what was left out and why."""
    rows = []
    for column in columns:
        better = "lower" if column.lower_is_better else "higher"
        rows.append([column.name, column.kind, column.origin, better, column.digest[:12]])
    table = markdown(["scorer", "numbers are", "from", "better", "digest"], rows)
    return "\n".join([table, *(f"\nLeft out, {name}: {reason}" for name, reason in missing)])


def report_failures(columns: Sequence[ScoreColumn], most: int = 5) -> list[str]:
    """A paragraph for each scorer that counts and shows what could not be scored."""
    paragraphs = []
    for column in columns:
        count = len(column.failures)
        if count:
            lines = [f"{column.name}: {count} of {column.values.size} images have no score:", ""]
            lines += [f"- {reason}" for _, reason in column.failures[:most]]
            lines += [f"- ... and {count - most} more; record.json has them all."] if count > most else []
            paragraphs.append("\n".join(lines))
    return paragraphs


def set_notes(rated: RatedSet) -> list[str]:
    """What is missing of a dataset, what its loader assumed, and what explains its ratings too easily."""
    notes = [f"{note}." for note in rated.notes]
    if rated.missing:
        notes.append(f"{len(rated.missing)} listed images are not on disk, such as {rated.missing[0]}.")
    if "height" in rated.extra:  # then a model that sees no more than the size of a picture does well
        with contextlib.suppress(InputError):
            alone = srocc(rated.extra["height"].astype(float), rated.mos)
            notes.append(f"the height of the image alone has SROCC {alone:.3f} with its rating.")
    return notes


def score_all(scorers: Sequence[Scorer], paths: Sequence[Path], options: ScoringOptions) -> list[ScoreColumn]:
    """Every scorer on every image, from the cache where it has been before."""
    return [
        score_files(scorer, paths, options.cache, batch_size=options.batch_size, workers=options.workers)
        for scorer in scorers
    ]
