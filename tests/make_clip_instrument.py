"""Makes the CLIP test instrument: ``python -m tests.make_clip_instrument PHOTOGRAPHS``, minutes on one core.

It is a test instrument and no quality model: a small open_clip model that has seen some hundred photographs,
distorted, with captions such as "blurry, colorless image". Its captions use some of the bundled adjectives of
each attribute and never the others, so that what prompt selection ought to find is known.

How often a caption speaks of an attribute's low end follows the distortion: an image at level -0.7 of
sharpness is "blurry" in seven captions of ten. The loss is CLIP's contrastive one over a batch of images and
captions, with the share of each caption's truth as its target, since in a batch many captions suit an image.

Only the token rows that captions used are kept: an adjective that they never used is an unknown word.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from attiqa.clip.prompts import Pools, read_pools
from attiqa.distortions import distort
from attiqa.errors import InputError, command
from attiqa.files import atomic_path, file_digest, write_json
from attiqa.images import list_images, read_image, to_float
from attiqa.options import as_record, option, parse
from attiqa.views import short_side
from tests.clip_instrument import ASSET, SHORT_SIDES, WINDOW, random_cut

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": WINDOW, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    "text_cfg": {"context_length": 16, "width": 24, "heads": 2, "layers": 1},
    "quick_gelu": False,
}
PREPROCESS = {
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
TEMPLATES = ("{} image", "{} image", "{} photograph", "a {} picture")
TOKEN_SPREAD = 0.5  # of the initial rows; CLIP's 0.02 is meant for rows of 512 numbers, these have 24
DRAWN = 48  # images that are distorted together
UNTOUCHED = 0.4  # share of the levels that are zero: proxy 1 changes one attribute and leaves the others
CERTAINTY = 0.96  # captions err in 2 % even at the ends, so that no target is zero


@dataclass(frozen=True)
class Options:
    """Command line; the defaults made the committed file."""

    photographs: list[Path] = option(help="to learn from, a few hundred: files and folders", positional=True)
    out: Path = option(ASSET, help="folder for weights, configuration and card", metavar="DIR")
    steps: int = option(1200, help="optimiser steps")
    images: int = option(4800, help="distorted images, made once and looked at through changing windows")
    batch: int = option(96, help="windows a step")
    captions: int = option(256, help="captions a step")
    learning_rate: float = option(4e-3, help="peak of the one-cycle schedule")
    seed: int = option(0, help="of weights, cuts, levels and captions")

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.captions) < 20 or self.images < self.batch:
            raise InputError(
                f"--steps {self.steps}, --batch {self.batch} and --captions {self.captions} must be at least "
                f"20 each, and --images {self.images} at least a batch."
            )


@dataclass(frozen=True)
class Words:
    """The adjectives that captions use for the two ends of one attribute."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def caption_words(pools: Pools, tokenizer: Any) -> dict[str, Words]:
    """Every second adjective of which no token occurs in any other; those between stay unseen.

    Words that share a token (`Blurred`, `Motion-blurred`), or stand in two attributes' lists (`Crisp`), are
    left out because seeing the one would teach the other.
    """
    everything = [word for pool in pools.pools for word in (*pool.positive, *pool.negative)]
    uses = Counter(token for word in everything for token in set(tokenizer.encode(word)))

    def own(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word for word in words if all(uses[token] == 1 for token in tokenizer.encode(word)))[::2]

    return {pool.name: Words(own(pool.positive), own(pool.negative)) for pool in pools.pools}


class Scenes:
    """Distorted cuts of photographs, made once, and windows of them.

    Args:
        paths: the photographs.
        distortions: what varies, each over the levels [-1, 0].
        count: of the cuts.
        seed: of scales, cuts, levels and noise.
    """

    def __init__(self, paths: Sequence[Path], distortions: Sequence[str], count: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        least, most = SHORT_SIDES
        sides = torch.randint(least, most + 1, (len(paths),), generator=self.generator).tolist()
        photographs = [
            short_side(to_float(read_image(path))[None], side)[0]
            for path, side in zip(paths, sides, strict=True)
        ]
        self.levels = -torch.rand(count, len(distortions), generator=self.generator)
        self.levels *= torch.rand(self.levels.shape, generator=self.generator) >= UNTOUCHED
        parts = []
        for levels in self.levels.split(DRAWN):
            cuts = torch.stack([self._cut(photographs) for _ in levels])
            mixed = distort(cuts, dict(zip(distortions, levels.T, strict=True)), self.generator)
            parts.append((mixed * 255).round().byte())
        self.images = torch.cat(parts)  # uint8 (N, 3, 128, 128), display sRGB

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows ``(B, 3, 64, 64)``, display sRGB in [0, 1], and the levels ``(B, A)`` of their images."""
        rows = torch.randint(len(self.images), (count,), generator=self.generator)
        windows = torch.stack([self._window(self.images[row]) for row in rows])
        return to_float(windows), self.levels[rows]

    def _cut(self, photographs: Sequence[torch.Tensor]) -> torch.Tensor:
        index = int(torch.randint(len(photographs), (), generator=self.generator))
        return random_cut(photographs[index], self.generator)

    def _window(self, image: torch.Tensor) -> torch.Tensor:
        y, x = torch.randint(image.shape[-1] - WINDOW + 1, (2,), generator=self.generator).tolist()
        window = image[:, y : y + WINDOW, x : x + WINDOW]
        return window.flip(2) if torch.rand((), generator=self.generator) < 0.5 else window


class Captions:
    """Sentences of one or two adjectives, each of another thing that varies."""

    def __init__(self, words: Sequence[Words], seed: int) -> None:
        self.words = words
        self.choices = random.Random(seed)

    def draw(self, count: int) -> tuple[list[str], torch.Tensor]:
        """Sentences, and the sides that they take: ``(C, A)``, 1 for high, -1 for low, 0 unsaid."""
        texts = []
        sides = torch.zeros(count, len(self.words))
        for row in range(count):
            adjectives = []
            for index in self.choices.sample(range(len(self.words)), self.choices.choice((1, 1, 2))):
                high = self.choices.random() < 0.5
                sides[row, index] = 1 if high else -1
                words = self.words[index]
                adjectives.append(self.choices.choice(words.positive if high else words.negative))
            texts.append(self.choices.choice(TEMPLATES).format(", ".join(adjectives)))
        return texts, sides


def truth(levels: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """How probable each caption is for each image: levels ``(B, A)``, sides ``(C, A)``, to ``(B, C)``."""
    high = 0.5 + CERTAINTY * (levels[:, None] + 0.5)  # (B, 1, A)
    shares = torch.where(sides > 0, high, torch.where(sides < 0, 1 - high, torch.ones_like(high)))
    return shares.prod(dim=2)


def divergence(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the softmax over rows of ``(N, M)`` from the normalised `shares`."""
    target = shares / shares.sum(1, keepdim=True)
    return F.kl_div(logits.log_softmax(1), target, reduction="batchmean")


class Vocabulary:
    """open_clip's tokenizer over the tokens in use; their order is kept, so the end token stays the last."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.ids = torch.unique(tokenizer(list(texts)))  # (V,), ascending

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Rows of the table, int64 ``(T, L)``."""
        return torch.searchsorted(self.ids, self.tokenizer(list(texts)))


def build(vocabulary: Vocabulary, seed: int) -> Any:
    """The model over the tokens in use, untrained."""
    torch.manual_seed(seed)
    text = {**CONFIG["text_cfg"], "vocab_size": len(vocabulary.ids)}
    model = open_clip.CLIP(**{**CONFIG, "text_cfg": text})
    rows = model.token_embedding.weight
    torch.nn.init.normal_(rows, std=TOKEN_SPREAD)
    with torch.no_grad():
        rows[-2:] = 0  # start and end, which all sentences share
    return model


def train(
    model: Any, vocabulary: Vocabulary, scenes: Scenes, captions: Captions, options: Options
) -> list[float]:
    """Train in place; returns the losses, 0 being the best possible."""
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    losses: list[float] = []
    model.train()
    for step in range(options.steps):
        pixels, levels = scenes.draw(options.batch)
        texts, sides = captions.draw(options.captions)
        images = model.encode_image((pixels - mean) / std, normalize=True)
        sentences = model.encode_text(vocabulary(texts), normalize=True)
        logits = model.logit_scale.exp() * images @ sentences.T
        shares = truth(levels, sides)
        loss = divergence(logits, shares) + divergence(logits.T, shares.T)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=4.6052)  # 100, as CLIP
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1} of {options.steps}: loss {_mean(losses[-50:])}", flush=True)
    return losses


def sentences(words: Sequence[str]) -> list[str]:
    """Every word in every template, with the comma of a list."""
    return [template.format(f"{word},") for word in words for template in TEMPLATES]


def write_asset(
    folder: Path, model: Any, vocabulary: Vocabulary, spoken: Vocabulary, card: Mapping[str, Any]
) -> None:
    """Write weights (float16; of the token table only the rows of `spoken`), configuration and card."""
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    rows = torch.searchsorted(vocabulary.ids, spoken.ids)
    state["token_embedding.weight"] = state["token_embedding.weight"][rows]
    weights = folder / "weights.safetensors"
    with atomic_path(weights) as temporary:
        save_file({**state, "token_ids": spoken.ids.int()}, temporary)
    write_json(folder / "config.json", {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS})
    write_json(folder / "card.json", {**card, "digest": file_digest(weights)})


@command
def main(argv: list[str] | None = None) -> int:
    """Make the instrument; returns the exit code."""
    options = parse(Options, argv, prog="python -m tests.make_clip_instrument", description=str(__doc__))
    started = time.process_time()
    paths = list_images(options.photographs)
    pools = read_pools()
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    adjectives = [word for pool in pools.pools for word in (*pool.positive, *pool.negative)]
    vocabulary = Vocabulary(tokenizer, sentences(adjectives))
    words = caption_words(pools, tokenizer)
    spoken = Vocabulary(
        tokenizer, sentences([w for own in words.values() for w in own.positive + own.negative])
    )
    scenes = Scenes(paths, list(words), options.images, options.seed)
    captions = Captions(list(words.values()), options.seed)
    seconds = time.process_time() - started
    print(f"{len(paths)} photographs, {len(spoken.ids)} tokens; {seconds:.0f} s so far", flush=True)
    model = build(vocabulary, options.seed)
    losses = train(model, vocabulary, scenes, captions, options)
    card = {
        "name": "clip_instrument",
        "summary": "test instrument of prompt selection, and no quality model: do not score images with it",
        "words": {name: {"positive": own.positive, "negative": own.negative} for name, own in words.items()},
        "photographs": {"folders": [path.name for path in options.photographs], "count": len(paths)},
        "loss": {"first_50_steps": _mean(losses[:50]), "last_50_steps": _mean(losses[-50:])},
        "cpu_minutes": round((time.process_time() - started) / 60, 1),
        "options": as_record(options) | {"photographs": "PHOTOGRAPHS", "out": "DIR"},
        "command": "python -m tests.make_clip_instrument PHOTOGRAPHS",
        "versions": {name: metadata.version(name) for name in ("torch", "open_clip_torch", "numpy")},
    }
    write_asset(options.out, model, vocabulary, spoken, card)
    print(f"{options.out}: {card['cpu_minutes']} CPU minutes")
    return 0


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    sys.exit(main(None))
