"""Scoring image files: decoded ahead by threads, cached by (scorer, image), not stopped by a bad file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import read_image, to_float
from attiqa.progress import progress_bar
from attiqa.scoring import read_ahead
from benchmarks.scorers import ScoreColumn, Scorer, one_line

# peers look at whole images: 400 MB of float32 a batch, and some keep a dozen copies of it
_BATCH_PIXELS = 32_000_000


def default_cache() -> Path:
    """Where scores are kept between runs: ``$XDG_CACHE_HOME/attiqa/scores``."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "attiqa" / "scores"


class ScoreCache:
    """Scores of one scorer on disk, keyed by image content; a line each, appended as they are made.

    A killed run leaves whole lines and at most one torn one, which the next run drops. Two processes may
    append to one file: a batch of lines is far shorter than what the system appends in one piece.
    """

    def __init__(self, folder: Path, scorer_digest: str) -> None:
        self.path = folder / f"{scorer_digest[:32]}.csv"
        self._known: dict[str, float] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                image, _, value = line.partition(",")
                # the closing semicolon tells a whole line from one torn in the middle of its number
                if len(image) == 64 and value.endswith(";"):
                    self._known[image] = float(value[:-1])

    def get(self, image_digest: str) -> float | None:
        """The score of that image, where it is known."""
        return self._known.get(image_digest)

    def add(self, scores: dict[str, float]) -> None:
        """Keep scores by image digest, at once."""
        self._known.update(scores)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            # a fresh line first: the last one may be torn
            file.write("".join(f"\n{image},{value!r};" for image, value in scores.items()))


def score_files(
    scorer: Scorer,
    paths: Sequence[Path],
    cache_folder: Path,
    *,
    batch_size: int = 16,
    workers: int = 2,
) -> ScoreColumn:
    """Score image files; what cannot be read or scored is NaN with its reason, and never stops the rest.

    Args:
        scorer: what to score with.
        paths: image files; a file that stands twice is scored once.
        cache_folder: holds the scores of earlier runs, and those of this one.
        batch_size: consecutive images of one size share a batch of at most this many.
        workers: threads that read and decode ahead.
    """
    cache = ScoreCache(cache_folder, scorer.digest)
    reasons: dict[Path, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    todo = [path for path, digest in digests.items() if cache.get(digest) is None]
    decoded = read_ahead(todo, read_image, workers, 2 * workers)
    progress = progress_bar(decoded, scorer.name, total=len(todo), shown=bool(todo))
    for batch in _batches(progress, batch_size, reasons):
        cache.add({digests[path]: value for path, value in _score(scorer, batch, reasons).items()})
    values = [cache.get(digests[path]) for path in paths]
    return ScoreColumn(
        name=scorer.name,
        digest=scorer.digest,
        origin=scorer.origin,
        lower_is_better=scorer.lower_is_better,
        values=np.array([np.nan if value is None else value for value in values]),
        failures=[(str(path), reasons[path]) for path in digests if path in reasons],
        card=scorer.card,
    )


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""  # reading the image says what is wrong with it


def _batches(
    decoded: Iterable[tuple[Path, torch.Tensor | InputError]], batch_size: int, reasons: dict[Path, str]
) -> Iterator[dict[Path, torch.Tensor]]:
    """Groups of consecutive images (uint8) of one size; sentences on unreadable ones go to `reasons`."""
    batch: dict[Path, torch.Tensor] = {}
    for path, image in decoded:
        if isinstance(image, InputError):
            reasons[path] = str(image)
            continue
        most = min(batch_size, max(1, _BATCH_PIXELS // image[0].numel()))
        if batch and (len(batch) >= most or next(iter(batch.values())).shape != image.shape):
            yield batch
            batch = {}
        batch[path] = image
    if batch:
        yield batch


def _score(scorer: Scorer, batch: dict[Path, torch.Tensor], reasons: dict[Path, str]) -> dict[Path, float]:
    """Finite scores of a batch; when the batch fails, its images are tried one by one to find the culprit."""
    try:
        with torch.inference_mode():
            images = to_float(torch.stack(list(batch.values())))
            scores = scorer.score(images).double().cpu().reshape(-1).tolist()
    except Exception as error:  # a peer's code may raise anything
        if len(batch) > 1:
            alone = [_score(scorer, {path: image}, reasons) for path, image in batch.items()]
            return {path: value for scores in alone for path, value in scores.items()}
        reasons.update({path: f"{scorer.name} cannot score {path} ({one_line(error)})." for path in batch})
        return {}
    found = dict(zip(batch, scores, strict=True))
    for path, value in found.items():
        if not np.isfinite(value):
            reasons[path] = f"{scorer.name} gives {value} for {path}."
    return {path: value for path, value in found.items() if np.isfinite(value)}
