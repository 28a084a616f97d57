"""How fast images are labelled by CLIP: embedding, scoring from the cache, ranking prompt pairs."""

from __future__ import annotations

import itertools
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from scipy.stats import spearmanr

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder, Preprocess
from attiqa.clip.folder import embed_files
from attiqa.clip.labels import antonym_differences
from attiqa.images import read_image
from attiqa.options import option
from attiqa.ranks import spearman_differences, spearman_matrix
from benchmarks.speed_options import Findings, SpeedOptions, Subject
from benchmarks.speed_score import image_files
from benchmarks.tables import markdown, number
from benchmarks.timing import Figure, figures_beside, in_turns

_ATTRIBUTES = 5
_ADJECTIVES = 50  # on either side of an attribute: 2500 pairs
_RANKED_SETS = (200, 1000, 11_125)  # images; the last is all of SPAQ
_LOOPED = 25  # pairs that SciPy ranks one by one, for its time a pair


@dataclass(frozen=True, kw_only=True)
class LabelSpeedOptions(SpeedOptions):
    """Flags of ``speed.py label``."""

    images: list[Path] = option([], help="image files and folders (default: embedded photographs as JPEG)")
    model: str = option("ViT-B-16-quickgelu", help="open_clip architecture; its weights are drawn at random")
    count: int = option(12, help="images to embed where none are named")
    batch: int = option(8, help="images in one forward pass")
    cached: int = option(100_000, help="embeddings that are scored from the cache")
    pairs: int = option(2_500, help="prompt pairs that are ranked")
    ranked: int = option(2_000, help="images that each prompt pair ranks")


def measure(options: LabelSpeedOptions, device: str) -> Findings:
    """Embedding against the bare forward, products against bandwidth, ranks against a bare sort."""
    encoder = random_encoder(options.model, device, options.seed)
    figures = [*_embedding(options, encoder, device), *_from_cache(options, device)]
    remark = f"{options.model} with random weights, whose speed is that of trained ones."
    table, ratios = _beside_scipy(options)
    return Findings(figures, [remark, table], {"pair_selection": ratios})


def random_encoder(model: str, device: str, seed: int) -> ClipEncoder:
    """An encoder of the architecture, for timing alone."""
    torch.manual_seed(seed)
    muted = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip would say that there are no weights
    try:
        network = open_clip.create_model(model, load_weights=False, pretrained_text=False)
    finally:
        logging.disable(muted)
    config = open_clip.get_model_preprocess_cfg(network)
    size = config["size"] if isinstance(config["size"], int) else config["size"][0]
    preprocess = Preprocess(
        size,
        tuple(config["mean"]),
        tuple(config["std"]),
        config["interpolation"],
        config["resize_mode"],
    )
    identity = {"model": model, "pretrained": "random", "digest": f"seed {seed}", "activation": "timing"}
    return ClipEncoder(network, open_clip.get_tokenizer(model), preprocess, identity, device)


def _embedding(options: LabelSpeedOptions, encoder: ClipEncoder, device: str) -> list[Figure]:
    with (
        image_files(options.images, 4 if options.quick else options.count) as paths,
        tempfile.TemporaryDirectory(prefix="attiqa-speed-") as folder,
    ):
        windows = torch.cat([encoder.preprocess.windows(read_image(path)[None]) for path in paths])[:, 0]
        pixels = encoder.preprocess.normalise(windows.to(encoder.device))
        numbers = itertools.count()

        def label() -> None:
            cache = EmbeddingCache.open(
                Path(folder) / str(next(numbers)), {**encoder.identity, "crops": "centre"}
            )
            embed_files(encoder, cache, paths, batch_size=options.batch, progress=False)

        def forward() -> None:
            with torch.inference_mode():
                for batch in pixels.split(options.batch):
                    encoder.model.encode_image(batch, normalize=True)

        return figures_beside(
            {"embed files into a new cache": label},
            "bare forward",
            forward,
            unit="images",
            items=len(paths),
            repeats=options.repeats,
            device=device,
        )


def _from_cache(options: LabelSpeedOptions, device: str) -> list[Figure]:
    generator = torch.Generator().manual_seed(options.seed)
    count = options.cached // 10 if options.quick else options.cached
    embeddings = torch.randn(count, 512, generator=generator).to(device)
    positive, negative = torch.randn(2, _ATTRIBUTES, 512, generator=generator).to(device)
    copy = torch.empty_like(embeddings)
    pairs = options.pairs // 10 if options.quick else options.pairs
    scores = torch.randn(pairs, options.ranked, generator=generator).numpy()
    levels = torch.randn(options.ranked, generator=generator).numpy()
    products = figures_beside(
        {
            f"score {_ATTRIBUTES} attributes of embeddings in memory": lambda: antonym_differences(
                embeddings, positive, negative
            )
        },
        "bandwidth: a copy of them",
        lambda: copy.copy_(embeddings),
        unit="images",
        items=count,
        repeats=options.repeats,
        device=device,
    )
    ranks = figures_beside(
        {
            f"rank {options.ranked} images by a prompt pair (SROCC), on the CPU": lambda: spearman_matrix(
                scores, levels
            )
        },
        "NumPy's sort of the scores",
        lambda: np.sort(scores, axis=-1),
        unit="pairs",
        items=pairs,
        repeats=options.repeats,
    )
    return [*products, *ranks]


def _times_faster(count: int, options: LabelSpeedOptions) -> dict[str, Any]:
    """Both ways to rank `count` images by every pair of one attribute, in turns."""
    random = np.random.default_rng(options.seed)
    high, low = random.normal(0.25, 0.02, (2, _ADJECTIVES, count)).astype(np.float32)
    opinions = np.round(random.uniform(1, 5, count), 2)
    timings = in_turns(
        {
            "one pass": lambda: spearman_differences(high, low, opinions),
            "SciPy": lambda: [spearmanr(high[p] - low[p], opinions) for p in range(_LOOPED)],
        },
        options.repeats,
    )
    ours = np.array(timings["one pass"].seconds) / _ADJECTIVES**2
    theirs = np.array(timings["SciPy"].seconds) / _LOOPED
    first, median, third = np.quantile(theirs / ours, [0.25, 0.5, 0.75]).tolist()
    return {
        "images": count,
        "microseconds_a_pair": 1e6 * ours.min(),
        "scipy_microseconds_a_pair": 1e6 * theirs.min(),
        "times_faster": median,
        "quartiles": [first, third],
    }


def _beside_scipy(options: LabelSpeedOptions) -> tuple[str, list[dict[str, Any]]]:
    """All 2500 pairs of an attribute in one pass beside a loop of `scipy.stats.spearmanr`."""
    found = [_times_faster(count, options) for count in _RANKED_SETS]
    rows = [
        [
            str(row["images"]),
            number(row["microseconds_a_pair"], 1),
            number(row["scipy_microseconds_a_pair"], 0),
            f"{row['times_faster']:.0f} [{row['quartiles'][0]:.0f}, {row['quartiles'][1]:.0f}]",
        ]
        for row in found
    ]
    head = ["SROCC of 2500 prompt pairs: images", "microseconds a pair, best", "SciPy's loop", "times faster"]
    return markdown(head, rows), found


SUBJECT = Subject("label", LabelSpeedOptions, measure, "CLIP labels: embedding, cached products, ranking")
