"""A bounded cache of decoded previews on disk, keyed by content.

Several processes may share a folder, and any of them may be killed at any moment: an entry appears by one
rename or not at all, and one that vanishes or cannot be read is a miss. Entries are safetensors files, so
reading one runs no code. When the folder outgrows its bound, the entries that were used least recently go.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest, is_abandoned, write_text

_SUFFIX = ".safetensors"
_SETTLED_SECONDS = 2.0  # a file changed more recently may change again within its time stamp

Entry = tuple[dict[str, Tensor], dict[str, str]]


def default_folder() -> Path:
    """``$ATTIQA_CACHE``, else ``attiqa`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("ATTIQA_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attiqa"


class PreviewCache:
    """Named tensors with a few strings, by key.

    Args:
        folder: made at the first write; processes that name the same one share it. None: `default_folder`.
        max_bytes: bound of all entries together; it may be passed by a few per cent before old ones go.
    """

    def __init__(self, folder: str | Path | None = None, max_bytes: int = 4 * 2**30) -> None:
        if max_bytes < 1:
            raise InputError(f"the preview cache needs room: max_bytes is {max_bytes}.")
        self.folder = Path(folder) if folder is not None else default_folder() / "previews"
        self.max_bytes = max_bytes
        self._unaccounted = max_bytes  # so that the first write looks at what others left

    def key(self, digest: str, **settings: str | int | None) -> str:
        """The key of what was made, with `settings`, of a file of this digest."""
        return hashlib.sha256(json.dumps([digest, settings], sort_keys=True).encode()).hexdigest()

    def load(self, key: str) -> Entry | None:
        """The entry, or None where there is none that can be read."""
        path = self.folder / (key + _SUFFIX)
        try:
            with safe_open(path, framework="pt") as file:
                entry = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
            os.utime(path)  # the time of last use
        except (FileNotFoundError, RuntimeError):
            return None  # the latter from torch, which opens it once more: another process was faster
        except (SafetensorError, OSError):
            path.unlink(missing_ok=True)
            return None
        return entry

    def store(self, key: str, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Write an entry and, where the bound is passed, drop the least recently used."""
        path = self.folder / (key + _SUFFIX)
        with atomic_path(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
            self._unaccounted += temporary.stat().st_size  # once in its place, another process may drop it
        if self._unaccounted > self.max_bytes // 20:
            self._evict()
            self._unaccounted = 0

    def digest(self, path: Path, check: Callable[[Path], None]) -> str:
        """SHA-256 of a file that has passed `check`, remembered by path, size and time of change.

        Args:
            path: the file.
            check: raises where the file is of no use; not called again for a file that has passed.
        """
        status = path.stat()
        stamp = json.dumps([str(path.absolute()), status.st_size, status.st_mtime_ns])
        memo = self.folder / "digests" / hashlib.sha256(stamp.encode()).hexdigest()
        try:
            if len(known := memo.read_text()) == 64:
                return known
        except OSError:
            pass  # not seen yet
        check(path)
        digest = file_digest(path)
        if time.time() - status.st_mtime > _SETTLED_SECONDS:
            write_text(memo, digest)
        return digest

    def _evict(self) -> None:
        """Delete the entries unused for longest until nine tenths of the bound are kept."""
        used = []
        for path in self.folder.glob("*" + _SUFFIX):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process was faster
            if path.name.startswith(".") and not is_abandoned(status.st_mtime):
                continue  # another process is writing it
            used.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in used)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(used):
            path.unlink(missing_ok=True)
            total -= size
            if total <= 0.9 * self.max_bytes:
                return
