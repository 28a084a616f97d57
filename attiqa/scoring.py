"""Scoring image files of any size and number: decoded ahead by threads, batched by shape."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch

from attiqa.errors import InputError
from attiqa.images import list_images, read_image, to_float
from attiqa.model import QualityModel
from attiqa.threads import thread_pool
from attiqa.views import look

# crops wait for others of their shape until this many pixels do: 0.4 GB of float32
_WAITING_PIXELS = 32_000_000

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class ScoredImage:
    """What became of one file.

    Attributes:
        path: as it was given.
        score: quality, higher is better; NaN if there is an error.
        attributes: in the order of the model's `attribute_names`; empty if there is an error.
        error: one sentence, empty if all went well.
    """

    path: Path
    score: float
    attributes: tuple[float, ...]
    error: str = ""


def score_files(
    model: QualityModel,
    paths: Sequence[Path],
    *,
    crops: str = "whole",
    batch: int = 32,
    workers: int | None = None,
) -> Iterator[ScoredImage]:
    """Score image files in order, as a stream.

    Threads decode and resize ahead while the network runs; a network on the CPU has all cores, so there they
    take turns. Crops of one shape share a forward pass, and the model's results do not depend on who shares
    it, so neither do these.

    Args:
        model: as `attiqa.load` returns it.
        paths: image files.
        crops: how the model looks at an image: ``whole``, ``five``, ``centre`` or ``full``
            (`attiqa.views.look`); a score is the mean over its crops.
        batch: at most this many images share a forward pass.
        workers: threads that decode; ``None`` takes one for each processor.

    Yields:
        one result for each path; a file that cannot be read is a result with an error.
    """
    if batch < 1 or (workers is not None and workers < 1):
        raise InputError(f"batch and workers must be at least 1; they are {batch} and {workers}.")
    workers = workers or os.cpu_count() or 1
    # whole files can be hundreds of megabytes once decoded; crops are small
    ahead = 2 * workers if crops == "full" else max(4 * workers, 2 * batch)
    prepared = read_ahead(
        paths,
        lambda path: look(to_float(read_image(path))[None], crops)[0],
        workers,
        ahead,
        overlap=model.device.type != "cpu",
    )
    buckets = _Buckets(model, batch)
    ready: dict[int, ScoredImage] = {}
    following = 0
    for position, (path, cut) in enumerate(prepared):
        if isinstance(cut, torch.Tensor):
            ready.update(buckets.add(position, path, cut))
        else:
            ready[position] = ScoredImage(path, float("nan"), (), str(cut))
        while following in ready:
            yield ready.pop(following)
            following += 1
    ready.update(buckets.flush())
    yield from (ready[position] for position in sorted(ready))


def read_ahead(
    paths: Iterable[Path],
    prepare: Callable[[Path], Prepared],
    workers: int,
    ahead: int,
    overlap: bool = True,
) -> Iterator[tuple[Path, Prepared | InputError]]:
    """Run `prepare` on each path in threads; yields in order, errors as values.

    Args:
        paths: files.
        prepare: what is run.
        workers: threads.
        ahead: at most so many paths are prepared early.
        overlap: whether threads go on while the caller works on what was yielded. If not, `ahead` paths are
            prepared to the end, then the caller has all of them and the processor.
    """

    def safely(path: Path) -> Prepared | InputError:
        try:
            return prepare(path)
        except InputError as error:
            return error
        except Exception as error:  # decoders raise whatever a broken file makes them stumble over
            return InputError(f"{path} cannot be read ({type(error).__name__}: {error}).")

    remaining = iter(paths)
    waiting: deque[tuple[Path, Future[Prepared | InputError]]] = deque()
    pool = thread_pool(workers)

    def submit(count: int) -> None:
        waiting.extend((path, pool.submit(safely, path)) for path in islice(remaining, count))
        if not overlap:
            wait(future for _, future in waiting)

    try:
        submit(ahead)
        while waiting:
            path, future = waiting.popleft()
            result = future.result()
            if overlap:
                submit(1)
            yield path, result
            if not waiting:
                submit(ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Buckets:
    """Crops that wait for others of their shape, to share a forward pass."""

    def __init__(self, model: QualityModel, batch: int) -> None:
        self.model = model
        self.batch = batch
        self._waiting: dict[torch.Size, list[tuple[int, Path, torch.Tensor]]] = defaultdict(list)
        self._pixels = 0
        self._count = 0

    def add(self, position: int, path: Path, crops: torch.Tensor) -> dict[int, ScoredImage]:
        """Add the crops ``(V, 3, h, w)`` of one image; returns what this made ready, by position."""
        bucket = self._waiting[crops.shape]
        bucket.append((position, path, crops))
        self._pixels += crops[:, 0].numel()
        self._count += 1
        if len(bucket) >= self.batch:
            return self._score(crops.shape)
        # rows come out in order, so one image of a rare shape would hold back all that follow
        full = self._pixels >= _WAITING_PIXELS or self._count >= 4 * self.batch
        return self.flush() if full else {}

    def flush(self) -> dict[int, ScoredImage]:
        """Score all that wait."""
        results: dict[int, ScoredImage] = {}
        for shape in list(self._waiting):
            results.update(self._score(shape))
        return results

    def _score(self, shape: torch.Size) -> dict[int, ScoredImage]:
        positions, paths, crops = zip(*self._waiting.pop(shape), strict=True)
        count, views, *size = len(crops), *shape
        self._pixels -= count * views * size[1] * size[2]
        self._count -= count
        # in the order of memory that the network asks for, which spares it a copy
        batch = torch.empty((count * views, *size), memory_format=torch.channels_last)
        torch.cat(crops, out=batch)
        # each crop is an image that is already cut: looked at in full
        quality, attributes = self.model.assess(batch, "full")
        quality = quality.view(count, views).mean(dim=1)
        attributes = attributes.view(count, views, -1).mean(dim=1)
        rows = zip(positions, paths, quality.tolist(), attributes.tolist(), strict=True)
        return {position: ScoredImage(path, score, tuple(row)) for position, path, score, row in rows}


def expand_inputs(inputs: Sequence[Path]) -> list[Path]:
    """Files and folders (recursively) to a list of files without repeats.

    A named file that does not exist stays in the list: its result says so, and the others are scored.

    Raises:
        InputError: nothing at all was found.
    """
    found: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            try:
                found.update(dict.fromkeys(list_images([path])))
            except InputError:
                continue  # an empty folder among others
        else:
            found[path] = None
    return list(found) or list_images(list(inputs))
