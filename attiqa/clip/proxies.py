"""What the two proxy tasks of prompt selection look at: distorted photographs, and human attribute scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder
from attiqa.datasets.photographs import read_spaq
from attiqa.datasets.tables import numbers, read_csv
from attiqa.distortions import DISTORTIONS
from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import read_image, to_float
from attiqa.progress import progress_bar
from attiqa.views import short_side

_LONGEST_SHORT_SIDE = 512


def intensity_levels(count: int) -> list[float]:
    """`count` levels from the strongest distortion, -1, to the untouched photograph, 0."""
    if count < 3:
        raise InputError(f"proxy 1 needs at least 3 distortion levels, this is {count}.")
    return [-1 + index / (count - 1) for index in range(count)]


def distorted_embeddings(
    encoder: ClipEncoder,
    cache: EmbeddingCache,
    photographs: Sequence[Path],
    distortions: Sequence[str],
    levels: Sequence[float],
    *,
    crops: str = "centre",
    progress: bool = True,
) -> tuple[dict[str, torch.Tensor], list[tuple[Path, str]]]:
    """Embed each photograph under each distortion at each level; what the cache holds is not computed again.

    Photographs larger than 512 pixels on the short side are shrunk to that before distorting, so that a level
    looks the same whatever the camera; our choice.

    Returns:
        Distortion name to float32 ``(I, L, D)`` over the readable photographs, and the failures.

    Raises:
        InputError: a distortion is unknown, or no photograph could be read.
    """
    unknown = sorted(set(distortions) - DISTORTIONS.keys())
    if unknown:
        raise InputError(f"there is no distortion {unknown[0]!r}; there are {', '.join(DISTORTIONS)}.")
    known = set(cache.digests)
    keys: dict[str, list[str]] = {name: [] for name in distortions}
    failures: list[tuple[Path, str]] = []
    for path in progress_bar(photographs, unit="photograph", desc="distorting", shown=progress):
        try:
            digest = file_digest(path)
            own = {name: [_key(digest, name, level) for level in levels] for name in keys}
            missing = [name for name, wanted in own.items() if not known.issuperset(wanted)]
            image = to_float(read_image(path)) if missing else None
        except (InputError, OSError) as error:
            failures.append((path, str(error)))
            continue
        for name, wanted in own.items():
            keys[name] += wanted
        if image is not None:
            embedded = _embed_levels(encoder, image, missing, levels, int(digest[:8], 16), crops)
            cache.add([bytes.fromhex(key) for name in missing for key in own[name]], embedded)
    cache.refresh()
    if len(failures) == len(photographs):
        raise InputError(f"none of the {len(photographs)} photographs could be read.")
    shape = (-1, len(levels), cache.header["dim"])
    return {name: cache.embeddings(wanted).reshape(shape) for name, wanted in keys.items()}, failures


def _key(digest: str, distortion: str, level: float) -> str:
    return hashlib.sha256(f"{digest} {distortion} {level:.6f}".encode()).hexdigest()


def _embed_levels(
    encoder: ClipEncoder,
    image: torch.Tensor,
    distortions: Sequence[str],
    levels: Sequence[float],
    seed: int,
    crops: str,
) -> torch.Tensor:
    """One photograph (3, H, W) in all its versions: (distortions * L, D)."""
    batch = image[None].to(encoder.device)
    if min(batch.shape[-2:]) > _LONGEST_SHORT_SIDE:
        batch = short_side(batch, _LONGEST_SHORT_SIDE)
    batch = batch.expand(len(levels), -1, -1, -1)
    level = torch.tensor(levels, device=encoder.device, dtype=torch.float32)
    parts = []
    for name in distortions:
        generator = torch.Generator(encoder.device).manual_seed(seed)
        parts.append(encoder.embed_images(DISTORTIONS[name](batch, level, generator), crops))
    return torch.cat(parts)


def read_opinions(source: Path, attributes: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Read human attribute scores, higher is more of the attribute (for noisiness: cleaner).

    Args:
        source: a CSV with a column ``name`` and one for each attribute, or SPAQ as distributed: its folder or
            ``MOS and Image attribute scores.xlsx`` (the sign of its noisiness is checked against MOS).
        attributes: which ones to read.

    Returns:
        Image names, and float64 ``(N, A)``.

    Raises:
        InputError: no such file, a column is missing, a value is no number, or fewer than 3 images.
    """
    if source.suffix.lower() == ".csv":
        table = read_csv(source, ["name", *attributes])
        names = table["name"]
        scores = {attribute: numbers(source, table, attribute) for attribute in attributes}
    else:
        labels = read_spaq(source if source.is_dir() else source.parent)
        names, scores = list(labels.names), labels.extra
        missing = [attribute for attribute in attributes if attribute not in scores]
        if missing:
            raise InputError(
                f"SPAQ did not rate {missing[0]}; it has {', '.join(scores)}. Give a CSV instead."
            )
    if len(names) < 3:
        raise InputError(f"{source} has {len(names)} rated images; a rank correlation needs at least 3.")
    return names, np.stack([scores[attribute] for attribute in attributes], axis=1)
