"""Embedding files into a cache on Ray Data: actors decode and embed, the driver alone writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import build_encoder
from attiqa.clip.folder import Embedded, Pending, Windows
from attiqa.clip.weights import ClipWeights
from attiqa.devices import pick_device
from attiqa.progress import progress_bar
from attiqa.ray_engine import Columns, map_files, start_ray


def embed_files_on_ray(
    found: ClipWeights,
    cache: EmbeddingCache,
    paths: Sequence[Path],
    *,
    crops: str = "centre",
    batch_size: int = 64,
    workers: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Embedded:
    """As `attiqa.clip.folder.embed_files`, on the actors of a Ray cluster.

    Args:
        found: which CLIP the actors load; its file must be seen by every node.
        cache: where the vectors go; the actors skip what it holds at the start.
        paths: image files, seen by every node.
        crops, batch_size, progress: as `embed_files`.
        workers, device: as `attiqa.ray_engine.score_files_on_ray`.
    """
    result = Embedded()
    pending = Pending(cache)
    known = start_ray().put(frozenset(pending.known))
    arguments = {"found": found, "known": known, "crops": crops}
    with progress_bar(total=len(paths), unit="image", desc="embedding", shown=progress) as bar:
        try:
            for rows in map_files(
                paths, _Embedder, arguments, batch=batch_size, workers=workers, device=device
            ):
                result.new += _take(rows, result, pending)
                bar.update(len(rows["path"]))
        finally:  # also on Ctrl-C: what has come back is kept
            pending.flush()
    result.failures.sort()
    return result


def _take(rows: Columns, result: Embedded, pending: Pending) -> int:
    """Sort one batch's rows into the result and the cache; returns how many vectors were new."""
    fresh: dict[bytes, Any] = {}
    for path, digest, error, embedded, vector in zip(*rows.values(), strict=True):
        if error:
            result.failures.append((Path(str(path)), str(error)))
            continue
        result.digests[Path(str(path))] = str(digest)
        key = bytes.fromhex(str(digest))
        if embedded and key not in pending.known:
            fresh[key] = vector
    if fresh:
        pending.add(list(fresh), torch.from_numpy(np.stack(list(fresh.values()))))
    return len(fresh)


class _Embedder:
    """An actor that holds a CLIP and embeds batches of paths."""

    def __init__(self, found: ClipWeights, known: Any, crops: str, device: str) -> None:
        self.encoder = build_encoder(found, pick_device(device))
        self.known: frozenset[bytes] = start_ray().get(known)
        self.crops = crops

    def __call__(self, rows: Columns) -> Columns:
        paths = [Path(str(path)) for path in rows["path"]]
        files = Windows(paths, self.known, self.encoder.preprocess, self.crops)
        items = [files[index] for index in range(len(paths))]
        fresh = [index for index, item in enumerate(items) if item.windows is not None]
        vectors = np.zeros((len(paths), self.encoder.identity["dim"]), dtype=np.float16)
        if fresh:
            windows = torch.stack([item.windows for item in items if item.windows is not None])
            vectors[fresh] = self.encoder.embed_windows(windows).cpu().to(torch.float16).numpy()
        return {
            "path": rows["path"],
            "digest": np.array([item.digest.hex() for item in items]),
            "error": np.array([item.error for item in items]),
            "embedded": np.array([item.windows is not None for item in items]),
            "vector": vectors,
        }
