"""Training images by key, from folders, files and WebDataset shards, and their labels from tables."""

from __future__ import annotations

import csv
import io
import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import NAME_ERRORS
from attiqa.images import IMAGE_SUFFIXES, decode_image, list_images


@dataclass(frozen=True)
class Entry:
    """One image: a file, or a stretch of an uncompressed tar shard.

    Attributes:
        key: the file's path, or ``shard.tar/member``.
        path: the file or the shard.
        offset, size: where the member lies in its shard; a size of -1 is the whole file.
    """

    key: str
    path: Path
    offset: int = 0
    size: int = -1

    def read(self) -> torch.Tensor:
        """uint8 ``(3, H, W)``, display sRGB; raises `InputError` for what cannot be decoded."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return decode_image(io.BytesIO(file.read(self.size)), self.key)


def list_entries(inputs: Sequence[Path]) -> list[Entry]:
    """Expand files, folders (ImageNet's class folders too) and WebDataset shards (``.tar``) into entries.

    Shards are indexed once and then read at random, so that a step's images do not depend on those before
    it and a run resumes exactly.
    """
    entries: list[Entry] = []
    for path in map(Path, inputs):
        shards = sorted(path.rglob("*.tar")) if path.is_dir() else [path] if path.suffix == ".tar" else []
        for shard in shards:
            entries += _members(shard)
        if not shards:
            entries += [Entry(str(file), file) for file in list_images([path])]
    return entries


def _members(shard: Path) -> list[Entry]:
    try:
        with tarfile.open(shard, "r:") as archive:
            found = [
                Entry(f"{shard}/{member.name}", shard, member.offset_data, member.size)
                for member in archive
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
            ]
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{shard} is not a readable, uncompressed tar shard ({error}).") from None
    if not found:
        raise InputError(f"{shard} holds no image; expected WebDataset members such as 000001.jpg.")
    return found


def read_labels(
    path: Path, entries: Sequence[Entry], names: Sequence[str]
) -> tuple[list[Entry], torch.Tensor]:
    """Match a table of scores with images.

    Args:
        path: CSV with a ``path`` column and one column an attribute, such as ``attiqa label`` writes; a row
            belongs to the image whose key ends in its path. An empty cell is unknown.
        entries: the images.
        names: the attribute columns.

    Returns:
        the labelled images, and float32 ``(N, K)`` labels, NaN where unknown.

    Raises:
        InputError: a column is missing, a cell is no number, or no row matches an image.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors=NAME_ERRORS) as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; expected a table such as attiqa label writes.") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file ({error}).") from None
    missing = [name for name in ("path", *names) if name not in columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]!r}; it needs path, {', '.join(names)}, separated "
            f"by commas, and has {', '.join(columns)[:200] or 'none'}."
        )
    if not rows:
        raise InputError(f"{path} has no rows; expected one for each image.")
    try:
        table = {row["path"]: [float(row[name] or "nan") for name in names] for row in rows}
    except ValueError as error:
        raise InputError(f"{path} holds a cell that is no number ({error}).") from None
    endless = [name for name, row in table.items() if any(map(math.isinf, row))]
    if endless:
        raise InputError(f"{path} holds an infinite label, for {endless[0]}; leave unknown cells empty.")
    tails = {tuple(Path(name).parts): values for name, values in table.items()}
    lengths = sorted({len(tail) for tail in tails}, reverse=True)
    kept, labels = [], []
    for entry in entries:
        parts = Path(entry.key).parts
        found = next((tails[parts[-n:]] for n in lengths if parts[-n:] in tails), None)
        if found is not None:
            kept.append(entry)
            labels.append(found)
    if not kept:
        raise InputError(f"no row of {path} names one of the {len(entries)} images, as {entries[0].key}.")
    return kept, torch.tensor(labels)


def divided(entries: Sequence[Entry], share: float, seed: int) -> tuple[list[Entry], list[Entry]]:
    """Training and held-out images, at random: the share of the latter is `share`."""
    order = np.random.default_rng(seed).permutation(len(entries))
    count = round(share * len(entries))
    held_out = set(order[:count].tolist())
    return (
        [entry for index, entry in enumerate(entries) if index not in held_out],
        [entries[index] for index in sorted(held_out)],
    )
