"""A folder of image embeddings keyed by content: sharded, memory-mapped, safe under a kill and two writers.

Layout: ``header.json`` says which encoder made the vectors; ``shards/*.npy`` are structured arrays of
(SHA-256, float16 vector). A shard is written under a temporary name and renamed, so it is whole or absent;
every writer makes shards of its own under random names, so writers never wait for one another. The same key
in two shards is harmless: its vectors are equal, and the first is read.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json, write_json

_FORMAT = 1
_HEADER = "header.json"


class _Index(NamedTuple):
    """Where each distinct key lies: sorted keys, and for each its shard and the row there."""

    keys: NDArray[np.bytes_]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]


class EmbeddingCache:
    """Embeddings on disk; `open` makes or joins one.

    Attributes:
        folder: where it lies.
        header: encoder, crops and whatever else decides the vectors.
    """

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self.folder = folder
        self.header = header
        self._shards: dict[str, NDArray[Any]] = {}
        self._index: _Index | None = None
        self.refresh()

    @classmethod
    def open(cls, folder: str | Path, identity: dict[str, Any] | None = None) -> EmbeddingCache:
        """Open a cache; with `identity` (an encoder's, and the crops) make it where there is none.

        Raises:
            InputError: there is no cache, or another encoder made it.
        """
        folder = Path(folder)
        path = folder / _HEADER
        if identity is None:
            header = read_json(path, "an embedding cache's header")
        else:
            header = {"format": _FORMAT, **identity}
            if path.exists():
                _check_same(folder, read_json(path, "an embedding cache's header"), header)
            else:
                write_json(path, header)
        if not isinstance(header, dict) or header.get("format") != _FORMAT or "dim" not in header:
            raise InputError(f"{path} is not the header of an embedding cache of format {_FORMAT}.")
        return cls(folder, header)

    def __len__(self) -> int:
        """The number of distinct keys."""
        return len(self._indexed().keys)

    @property
    def digests(self) -> list[str]:
        """All keys, as hexadecimal SHA-256, sorted."""
        return [key.hex() for key in _padded(self._indexed().keys)]

    def refresh(self) -> list[bytes]:
        """Take in the shards that this or another process has added since; returns their keys."""
        added: list[bytes] = []
        for path in sorted((self.folder / "shards").glob("[!.]*.npy")):
            if path.name not in self._shards:
                self._shards[path.name] = self._map(path)
                added += _padded(self._shards[path.name]["digest"])
                self._index = None
        return added

    def add(self, keys: Sequence[bytes], embeddings: torch.Tensor) -> None:
        """Write one shard: 32-byte `keys` and their unit vectors ``(N, D)``, stored as float16."""
        if not keys:
            return
        shard = np.empty(len(keys), dtype=_row_type(self.header["dim"]))
        shard["digest"] = keys
        shard["embedding"] = embeddings.cpu().to(torch.float16).numpy()
        with atomic_path(self.folder / "shards" / f"{uuid.uuid4().hex}.npy") as temporary:
            np.save(temporary, shard, allow_pickle=False)

    def embeddings(self, digests: Iterable[str]) -> torch.Tensor:
        """The vectors of the given hexadecimal keys, float32 ``(N, D)``, in that order.

        Raises:
            InputError: some are not in the cache.
        """
        wanted = np.array([bytes.fromhex(digest) for digest in digests], dtype="S32")
        index = self._indexed()
        at = np.searchsorted(index.keys, wanted)
        at[at == len(index.keys)] = 0
        missing = int((index.keys[at] != wanted).sum()) if len(index.keys) else len(wanted)
        if missing:
            raise InputError(
                f"{missing} of {len(wanted)} images are not in the cache {self.folder}; "
                "run `attiqa label` on them."
            )
        out = np.empty((len(wanted), self.header["dim"]), dtype=np.float32)
        for number, shard in enumerate(self._shards.values()):
            rows = np.flatnonzero(index.shard[at] == number)
            out[rows] = shard["embedding"][index.row[at[rows]]]
        return torch.from_numpy(out)

    def _indexed(self) -> _Index:
        if self._index is None:
            shards = list(self._shards.values())
            none = np.empty(0, dtype=np.int64)
            keys = np.concatenate([np.empty(0, dtype="S32"), *(shard["digest"] for shard in shards)])
            shard = np.concatenate([none, *(np.full(len(rows), i) for i, rows in enumerate(shards))])
            row = np.concatenate([none, *(np.arange(len(rows)) for rows in shards)])
            keys, first = np.unique(keys, return_index=True)
            self._index = _Index(keys, shard[first], row[first])
        return self._index

    def _map(self, path: Path) -> NDArray[Any]:
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it and run the command again.") from None
        if shard.dtype != _row_type(self.header["dim"]):
            raise InputError(
                f"{path} holds {shard.dtype} and not this cache's rows; delete it and run again."
            )
        return shard


def _row_type(dim: int) -> np.dtype[Any]:
    return np.dtype([("digest", "S32"), ("embedding", "<f2", (dim,))])


def _padded(keys: NDArray[np.bytes_]) -> list[bytes]:
    """Whole digests: NumPy strips a byte string's trailing zeros."""
    return [bytes(key).ljust(32, b"\0") for key in keys]


def _check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if different:
        key = "digest" if different == ["digest"] else next(key for key in different if key != "digest")
        raise InputError(
            f"the cache {folder} was made with {key} {found.get(key)!r} and not {wanted.get(key)!r}; "
            "give another --out or the options that it was made with."
        )
