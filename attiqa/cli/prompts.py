"""``attiqa prompts list | show | select``: the prompt sets, and choosing one's own by the two proxy tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import NDArray

from attiqa.cli.clip_options import ClipOptions
from attiqa.cli.label import report_failures
from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.folder import embed_files
from attiqa.clip.prompts import Pools, named_set, read_pools, set_names, set_record
from attiqa.clip.proxies import distorted_embeddings, intensity_levels, read_opinions
from attiqa.clip.selection import PairTable, distortion_srocc, human_srocc
from attiqa.clip.selection_report import write_selection
from attiqa.datasets.rated import ImageFinder
from attiqa.errors import InputError, command
from attiqa.images import list_images
from attiqa.options import option, parse

_USAGE = """usage: attiqa prompts list            the prompt sets that come with attiqa
       attiqa prompts show NAME       one of them, a set of your own, or `adjectives`: the candidates
       attiqa prompts select ...      choose pairs by distortion levels and human scores (see --help)"""


@dataclass(frozen=True, kw_only=True)
class SelectOptions(ClipOptions):
    """Options of `attiqa prompts select`."""

    photographs: list[Path] = option(
        [], help="clean photographs for proxy 1 (distortion levels); none leaves it out", positional=True
    )
    out: Path = option(help="folder for the tables, heat maps and sets", metavar="DIR")
    human: Path | None = option(
        None,
        help="human attribute scores for proxy 2: SPAQ's folder, or a CSV of name and attributes",
        metavar="PATH",
    )
    human_images: Path | None = option(
        None, help="folder of the images that --human names, where they do not lie beside it", metavar="DIR"
    )
    adjectives: Path | None = option(
        None, help="candidate adjectives instead of the bundled ones", metavar="FILE"
    )
    cache: Path | None = option(
        None,
        help="embedding cache to use and fill (as `attiqa label` makes); default: in --out",
        metavar="DIR",
    )
    levels: int = option(6, help="distortion levels of proxy 1, the untouched photograph among them")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.photographs and self.human is None:
            raise InputError("give photographs (proxy 1), or --human scores (proxy 2), or both.")


@command
def main(argv: list[str] | None = None) -> int:
    """Run ``list``, ``show`` or ``select``."""
    argv = sys.argv[1:] if argv is None else argv
    match argv:
        case ["list"]:
            for name in set_names():
                pairs = (f"{a.positive}/{a.negative}" for a in named_set(name).attributes)
                print(f"{name:<8}  {', '.join(pairs)}")
        case ["show", "adjectives"]:
            _show_adjectives(read_pools())
        case ["show", name]:
            print(json.dumps(set_record(named_set(name)), indent=2))
        case ["select", *rest]:
            return select(rest)
        case ["-h"] | ["--help"]:
            print(_USAGE)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2
    return 0


def select(argv: list[str]) -> int:
    """Judge every pair of every pool, write what `write_selection` says, print the choice."""
    options = parse(
        SelectOptions,
        argv,
        prog="attiqa prompts select",
        description="Choose one antonym pair an attribute out of its adjectives (ATTIQA, section 3.3).",
    )
    pools = read_pools(options.adjectives)
    levels = intensity_levels(options.levels)
    photographs = list_images(options.photographs) if options.photographs else []
    attributes = [pool.name for pool in pools.pools]
    opinions = read_opinions(options.human, attributes) if options.human else None
    unproxied = [pool.name for pool in pools.pools if not (pool.distortion and photographs)]
    if unproxied and opinions is None:
        raise InputError(f"{unproxied[0]} has no distortion, so it needs --human scores with its column.")
    encoder = options.encoder()
    cache = options.open_cache(options.cache or options.out / "embeddings", encoder)
    rated, scores = _proxy_2(options, attributes, opinions, encoder, cache)
    distorted = _proxy_1(options, pools, photographs, encoder, cache, levels)
    tables = []
    for pool in pools.pools:
        texts = [
            encoder.embed_texts(pools.sentences(words)).cpu() for words in (pool.positive, pool.negative)
        ]
        images = distorted.get(pool.distortion or "")
        table = PairTable(
            pool,
            None if images is None else distortion_srocc(images, levels, *texts),
            human_srocc(rated, scores[pool.name], *texts) if pool.name in scores else None,
        )
        tables.append(table)
    write_selection(options.out, pools, tables)
    for table in tables:
        positive, negative = table.pick(table.strategies[0])
        best = table.objective(table.strategies[0]).max()
        print(f"{table.pool.name:<14} {positive} / {negative}  ({table.strategies[0]} SROCC {best:.3f})")
    print(f"the chosen set is {options.out / 'prompts.json'}; use it as `attiqa label --prompts`")
    return 0


def _proxy_1(
    options: SelectOptions,
    pools: Pools,
    paths: Sequence[Path],
    encoder: ClipEncoder,
    cache: EmbeddingCache,
    levels: Sequence[float],
) -> dict[str, torch.Tensor]:
    """Embeddings (I, L, D) of the photographs at every level, by distortion."""
    distortions = sorted({pool.distortion for pool in pools.pools if pool.distortion})
    if not distortions or not paths:
        return {}
    images, failures = distorted_embeddings(encoder, cache, paths, distortions, levels, crops=options.crops)
    report_failures(failures)
    return images


def _proxy_2(
    options: SelectOptions,
    attributes: Sequence[str],
    opinions: tuple[list[str], NDArray] | None,
    encoder: ClipEncoder,
    cache: EmbeddingCache,
) -> tuple[torch.Tensor, dict[str, NDArray]]:
    """Embeddings (N, D) of the rated images that are there, and (N,) scores by attribute."""
    if options.human is None or opinions is None:
        return torch.empty(0), {}
    names, scores = opinions
    folder = options.human if options.human.is_dir() else options.human.parent
    finder = ImageFinder([options.human_images] if options.human_images else [folder / "TestImage", folder])
    paths = [finder.find(name) for name in names]
    there = [path for path in paths if path is not None]
    if len(there) < 3:
        raise InputError(
            f"{options.human_images or folder} holds {len(there)} of the {len(names)} images that "
            f"{options.human} rates; at least 3 are needed: name their folder with --human-images."
        )
    embedded = embed_files(encoder, cache, there, **options.embedding)
    report_failures(embedded.failures)
    found = [(row, path) for row, path in enumerate(paths) if path is not None and path in embedded.digests]
    rows = [row for row, _ in found]
    print(f"proxy 2: {len(rows)} of {len(names)} rated images are used", file=sys.stderr)
    images = cache.embeddings(embedded.digests[path] for _, path in found)
    return images, {attribute: scores[rows, column] for column, attribute in enumerate(attributes)}


def _show_adjectives(pools: Pools) -> None:
    print(f"template: {pools.template}\nquery: {pools.query}")
    for pool in pools.pools:
        for side, words in (("positive", pool.positive), ("negative", pool.negative)):
            print(f"\n{pool.name}, {side} ({len(words)}): {', '.join(words)}")
