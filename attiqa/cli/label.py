"""``attiqa label IMAGES --out CACHE``: CLIP embeddings into a cache, attribute scores into a table."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attiqa.attributes import AttributeSet
from attiqa.cli.clip_options import ClipOptions
from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder, build_encoder
from attiqa.clip.folder import Embedded, embed_files
from attiqa.clip.labels import antonym_differences, text_pairs
from attiqa.clip.prompts import named_set, set_record
from attiqa.clip.ray_folder import embed_files_on_ray
from attiqa.devices import pick_device
from attiqa.errors import InputError, command
from attiqa.files import NAME_ERRORS, atomic_path, write_json
from attiqa.images import list_images
from attiqa.options import option, parse
from attiqa.ray_engine import ENGINES, start_ray

_ROWS = 65536


@dataclass(frozen=True, kw_only=True)
class LabelOptions(ClipOptions):
    """Options of `attiqa label`."""

    images: list[Path] = option(help="image files and folders", positional=True)
    out: Path = option(help="the cache folder; a cache that exists is continued", metavar="CACHE")
    prompts: str = option("paper", help="named prompt set, or a file that `attiqa prompts select` wrote")
    engine: str = option(
        "local",
        choices=ENGINES,
        help="ray: on the actors of a Ray cluster (extra ray), for very large sets; --workers counts them",
    )


@command
def main(argv: list[str] | None = None) -> int:
    """Embed, score, write ``scores.csv`` (path, digest, ``s_pos - s_neg`` per attribute) into the cache."""
    options = parse(
        LabelOptions,
        argv,
        prog="attiqa label",
        description="Label images by attribute with CLIP antonym prompts (ATTIQA, Eq. 1 and 2). "
        "One embedding an image is kept, so other prompts on the same images cost nothing.",
    )
    attributes = named_set(options.prompts)
    paths = list_images(options.images)
    if options.engine == "ray":
        start_ray()
    found = options.find()
    # on Ray, the actors have the devices; this process embeds the prompts
    encoder = build_encoder(found, "cpu" if options.engine == "ray" else pick_device(options.device))
    cache = options.open_cache(options.out, encoder)
    if options.engine == "ray":
        embedded = embed_files_on_ray(found, cache, paths, device=options.device, **options.embedding)
    else:
        embedded = embed_files(encoder, cache, paths, **options.embedding)
    report_failures(embedded.failures)
    if not embedded.digests:
        raise InputError(f"none of the {len(paths)} files could be read; see the lines above.")
    kept = [path for path in paths if path in embedded.digests]
    write_scores(options.out, kept, embedded, cache, encoder, attributes)
    print(_summary(embedded, options.out))
    return 0


def report_failures(failures: Sequence[tuple[Path, str]]) -> None:
    """One line a broken file, on stderr."""
    for _, sentence in failures:
        print(f"skipped: {sentence}", file=sys.stderr)


def write_scores(
    folder: Path,
    paths: Sequence[Path],
    embedded: Embedded,
    cache: EmbeddingCache,
    encoder: ClipEncoder,
    attributes: AttributeSet,
) -> None:
    """Write ``scores.csv`` and, beside it, ``scores.json``: the prompts and the encoder that made it."""
    positive, negative = (side.cpu() for side in text_pairs(encoder, attributes))
    with (
        atomic_path(folder / "scores.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors=NAME_ERRORS) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "digest", *attributes.names])
        for start in range(0, len(paths), _ROWS):
            part = paths[start : start + _ROWS]
            digests = [embedded.digests[path] for path in part]
            scores: torch.Tensor = antonym_differences(cache.embeddings(digests), positive, negative)
            for path, digest, row in zip(part, digests, scores.tolist(), strict=True):
                writer.writerow([path, digest, *(f"{value:.9g}" for value in row)])
    write_json(folder / "scores.json", {"encoder": cache.header, "prompts": set_record(attributes)})


def _summary(embedded: Embedded, folder: Path) -> str:
    done = len(embedded.digests)
    return (
        f"{done} images labelled: {embedded.new} embedded now, {done - embedded.new} known before or copies, "
        f"{len(embedded.failures)} unreadable; scores in {folder / 'scores.csv'}"
    )
