"""Embedding files into a cache: decode in workers, embed in batches, keep what is done at every moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder, Preprocess
from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import read_image
from attiqa.progress import progress_bar

_SHARD_ROWS = 1024
_SHARD_SECONDS = 60.0


class Item(NamedTuple):
    """One file as a worker hands it on; `windows` is missing where the cache has it, or where it failed."""

    position: int
    digest: bytes
    windows: torch.Tensor | None
    error: str


@dataclass
class Embedded:
    """What became of the files.

    Attributes:
        digests: hexadecimal content digest of each readable path.
        new: how many embeddings were computed by this call.
        failures: (path, sentence) of each unreadable file.
    """

    digests: dict[Path, str] = field(default_factory=dict)
    new: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


class Windows(Dataset[Item]):
    """Files to windows, skipping the decoding of what the cache already has."""

    def __init__(
        self, paths: Sequence[Path], known: frozenset[bytes], preprocess: Preprocess, crops: str
    ) -> None:
        self.paths, self.known, self.preprocess, self.crops = paths, known, preprocess, crops

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        path = self.paths[index]
        try:
            digest = bytes.fromhex(file_digest(path))
            if digest in self.known:
                return Item(index, digest, None, "")
            windows = self.preprocess.windows(read_image(path)[None], self.crops)[0]
            return Item(index, digest, windows, "")
        except (InputError, OSError) as error:
            return Item(index, b"", None, str(error))


class Pending:
    """Embeddings on their way to the cache; full or old enough, they become a shard."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache
        self._keys: list[bytes] = []
        self._vectors: list[torch.Tensor] = []
        self._since = time.monotonic()
        self.known = {bytes.fromhex(digest) for digest in cache.digests}

    def add(self, keys: Sequence[bytes], vectors: torch.Tensor) -> None:
        """Take vectors ``(N, D)`` for `keys`."""
        self._keys += keys
        self._vectors.append(vectors)
        self.known.update(keys)
        if len(self._keys) >= _SHARD_ROWS or time.monotonic() - self._since > _SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is held, and look at what other writers have added meanwhile."""
        if self._keys:
            self._cache.add(self._keys, torch.cat(self._vectors))
        self._keys, self._vectors = [], []
        self.known.update(self._cache.refresh())
        self._since = time.monotonic()


def embed_files(
    encoder: ClipEncoder,
    cache: EmbeddingCache,
    paths: Sequence[Path],
    *,
    crops: str = "centre",
    batch_size: int = 64,
    workers: int = 0,
    progress: bool = True,
) -> Embedded:
    """Bring `paths` into `cache`; resumable, and shared with whoever else fills the same cache.

    Files are taken in a random order, so that two writers with one list meet different files first and skip
    what the other has done. A file is known by its content: a copy or a renamed file is not embedded again.

    Args:
        encoder: the model; it must be the one that the cache's header names.
        cache: where the vectors go.
        paths: image files.
        crops: as `Preprocess.windows`.
        batch_size: images that go through the network together.
        workers: decoding processes; 0 decodes in this one.
        progress: show a progress bar.
    """
    result = Embedded()
    pending = Pending(cache)
    order = np.random.default_rng().permutation(len(paths)).tolist()
    dataset = Windows(paths, frozenset(pending.known), encoder.preprocess, crops)
    loader = DataLoader(dataset, batch_size=None, sampler=order, num_workers=workers)
    with progress_bar(total=len(paths), unit="image", desc="embedding", shown=progress) as bar:
        try:
            for items in _groups(loader, batch_size, bar):
                for item in items:
                    path = paths[item.position]
                    if item.error:
                        result.failures.append((path, item.error))
                    else:
                        result.digests[path] = item.digest.hex()
                result.new += _embed(encoder, pending, items)
        finally:  # also on Ctrl-C: what is embedded is kept
            pending.flush()
    result.failures.sort()
    return result


def _groups(loader: DataLoader[Item], batch_size: int, bar: tqdm) -> Iterator[list[Item]]:
    """Group items so that each group has `batch_size` images to embed, however many are known already."""
    group: list[Item] = []
    undone = 0
    for item in loader:
        bar.update()
        group.append(item)
        undone += item.windows is not None
        if undone == batch_size or len(group) == 16 * batch_size:
            yield group
            group, undone = [], 0
    yield group


def _embed(encoder: ClipEncoder, pending: Pending, items: list[Item]) -> int:
    fresh: dict[bytes, torch.Tensor] = {
        item.digest: item.windows
        for item in items
        if item.windows is not None and item.digest not in pending.known
    }
    if fresh:
        pending.add(list(fresh), encoder.embed_windows(torch.stack(list(fresh.values()))))
    return len(fresh)
