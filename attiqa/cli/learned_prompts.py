"""``attiqa finetune --method clip-iqa-plus --dataset NAME --root DIR --out RUN``: CLIP-IQA+."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.checkpoint import save_checkpoint
from attiqa.cli.clip_options import ClipModelOptions
from attiqa.cli.finetune import (
    RatedOptions,
    finish,
    load_scores,
    planned_splits,
    readable,
    save_scores,
)
from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.clipiqa import BAD, GOOD
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.learned_prompts import crop_scores, embed_views, fit_prompts, save_prompts
from attiqa.clip.prompted import PromptedNetwork, build_prompted
from attiqa.clip.prompts import named_set, set_record
from attiqa.datasets.registry import load_dataset
from attiqa.errors import InputError, command
from attiqa.options import as_record, option, parse
from attiqa.splits import Split, subset_of_training
from attiqa.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class Options(ClipModelOptions, RatedOptions):
    """Options of `attiqa finetune --method clip-iqa-plus`."""

    model: str = option(
        "RN50-quickgelu", help="open_clip model, folder with its config, or hf-hub:OWNER/NAME"
    )
    prompts: str = option(
        "paper", help="prompt set of the attributes that are reported beside the score, or its file"
    )
    crops: str = option("five", choices=VIEWS, help="what is embedded of each image, and scored afterwards")
    words: int = option(16, help="learnt words in front of the two classes")
    classes: list[str] = option([GOOD, BAD], help="sentences of the good and of the bad class")
    steps: int = option(2000, help="optimiser steps")
    batch: int = option(64, help="crops a step")
    learning_rate: float = option(2e-3, help="peak learning rate of AdamW")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("words", "steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is 1 or more; it is {getattr(self, name)}.")
        if len(self.classes) != 2:
            raise InputError(f"--classes takes two sentences, good and bad; there are {len(self.classes)}.")

    @property
    def pair(self) -> tuple[str, str]:
        """The good and the bad class."""
        good, bad = self.classes
        return good, bad


@command
def main(argv: list[str] | None = None) -> int:
    """Learn prompts on every split, report their test sides; returns the exit code."""
    options = parse(Options, argv, prog="attiqa finetune --method clip-iqa-plus", description=str(__doc__))
    attributes = named_set(options.prompts)
    rated = load_dataset(options.dataset, options.root)
    encoder = options.encoder()
    network = build_prompted(encoder, [options.pair], attributes).to(encoder.device)
    splits, digest = planned_splits(options, rated)
    cache = EmbeddingCache.open(
        options.out / "embeddings", {**encoder.identity, **_window(options, encoder), "positions": False}
    )
    found = embed_views(network.backbone, cache, rated.paths, options.crops, device=encoder.device)
    unreadable = [sentence for _, sentence in found.failures]
    rows = [row for row, path in enumerate(rated.paths) if path in found.digests]
    rated, splits = readable(rated, splits, rows, unreadable)
    vectors = cache.embeddings(found.digests[path] for path in rated.paths)
    vectors = vectors.view(len(rated), -1, encoder.identity["dim"])  # (N, V, D)
    card = {
        "attributes": list(attributes.names),
        "clip": encoder.identity,
        "prompts": {"quality": [[f"[learnt] {side}" for side in options.pair]], **set_record(attributes)},
        "options": as_record(options),
    }
    last = []
    for number, split in enumerate(splits):
        split = subset_of_training(rated, split, options.fraction, options.seed)
        last.append(run_split(options, network, encoder, vectors, rated.unit_mos, split, number, card))
    finish(options, rated, splits, {"last_epoch": last}, digest, encoder.identity["digest"], unreadable)
    return 0


def _window(options: Options, encoder: ClipEncoder) -> dict[str, Any]:
    """What a row of the cache holds: the vectors of all crops of an image, one after the other."""
    count = 5 if options.crops == "five" else 1
    return {"crops": options.crops, "dim": count * encoder.identity["dim"]}


def run_split(
    options: Options,
    network: PromptedNetwork,
    encoder: ClipEncoder,
    vectors: torch.Tensor,
    opinions: NDArray[np.float64],
    split: Split,
    number: int,
    card: dict[str, Any],
) -> NDArray[np.float64]:
    """Learn the prompts of one split and keep them as a model; scores ``(N,)``, NaN where nothing is tested.

    Args:
        options: of the run.
        network: the scorer; its quality pair is replaced.
        encoder: the frozen CLIP.
        vectors: ``(N, V, D)``, each image's crops.
        opinions: ``(N,)`` in [0, 1].
        split: rows of the three sides.
        number: of the split.
        card: what the cards of all splits say.
    """
    folder = options.out / f"split-{number}"
    if (folder / "scores.npz").is_file():
        return load_scores(folder / "scores.npz")["last"]
    seen = vectors[split.train]  # each crop is rated as its image is
    targets = torch.from_numpy(opinions[split.train]).repeat_interleave(seen.shape[1])
    prompts = fit_prompts(
        encoder,
        seen.flatten(0, 1),
        targets,
        length=options.words,
        classes=options.pair,
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    pair = prompts()
    network.quality_pairs.copy_(pair[None])
    scores = np.full(len(vectors), np.nan)
    scores[split.test] = crop_scores(vectors[split.test], pair.cpu(), encoder.logit_scale).numpy()
    summary = f"CLIP-IQA+ (arXiv 2207.12396), its words learnt on {options.dataset}, split {number}"
    name = {"name": "clip-iqa-plus", "summary": summary}
    save_prompts(folder / "prompts.safetensors", prompts, encoder)
    save_checkpoint(folder / "model.safetensors", network, {**name, **card})
    save_scores(folder / "scores.npz", last=scores)
    return scores


if __name__ == "__main__":
    sys.exit(main(None))
