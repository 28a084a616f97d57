"""Makes the CLIP test instrument: ``python -m tests.make_clip_instrument``, minutes on one core.

It is a test instrument and no quality model: a small open_clip model that has seen five photographs, distorted
in five ways, with captions such as "blurry, colorless image". Its captions use some of the bundled adjectives
of each attribute and never the others, so that what prompt selection ought to find is known.

How often a caption speaks of an attribute's low end follows the distortion: an image at level -0.7 of
sharpness is "blurry" in seven captions of ten. The loss is CLIP's contrastive one over a batch of images and
captions, with the share of each caption's truth as its target, since in a batch many captions suit an image.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from attiqa.attributes import read_attributes
from attiqa.clip.prompts import Pool, Pools, read_pools
from attiqa.distortions import distort
from attiqa.errors import command
from attiqa.files import atomic_path, file_digest, write_json
from attiqa.images import list_images, read_image, to_float
from attiqa.options import as_record, option, parse
from attiqa.views import short_side
from tests.clip_instrument_photographs import SIDE, training_photographs

FOLDER = Path(__file__).parent / "clip_instrument"
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    # open_clip's own vocabulary, so that the standard tokenizer serves; a narrow table keeps the file small
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 12, "heads": 2, "layers": 1},
    "quick_gelu": False,
}
TEMPLATES = ("{} image", "{} image", "{} photograph", "a {} picture")
SHORT_SIDES = (96, 112, 128, 160, 192, 256)
UNTOUCHED = 0.35  # share of the levels that are zero: proxy 1 changes one attribute and leaves the others
CERTAINTY = 0.96  # captions err in 2 % even at the ends, so that no target is zero


@dataclass(frozen=True)
class Options:
    """Command line; the defaults made the committed file."""

    photographs: list[Path] = option(
        [], help="to learn from, in place of those that installed packages carry", positional=True
    )
    out: Path = option(FOLDER, help="folder for weights, configuration and card", metavar="DIR")
    steps: int = option(600, help="optimiser steps")
    batch: int = option(96, help="images, and captions, a step")
    learning_rate: float = option(3e-3, help="peak of the one-cycle schedule")
    seed: int = option(0, help="of weights, crops, levels and captions")


@dataclass(frozen=True)
class Words:
    """The adjectives of one attribute that captions use."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def caption_words(pools: Pools, tokenizer: Any) -> dict[str, Words]:
    """Every second adjective of which no token occurs in any other; those between stay unseen.

    Words that share a token (`Blurred`, `Motion-blurred`), or stand in two attributes' lists (`Crisp`), are
    left out because seeing the one would teach the other.
    """
    everything = [word for pool in pools.pools for word in (*pool.positive, *pool.negative)]
    uses: dict[int, int] = {}
    for word in everything:
        for token in set(tokenizer.encode(word)):
            uses[token] = uses.get(token, 0) + 1

    def own(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word for word in words if all(uses[token] == 1 for token in tokenizer.encode(word)))[::2]

    return {pool.name: Words(own(pool.positive), own(pool.negative)) for pool in pools.pools}


class Scenes:
    """Photographs at several scales; crops of them, distorted."""

    def __init__(self, paths: Sequence[Path], distortions: Sequence[str], seed: int) -> None:
        photographs = [to_float(read_image(path))[None] for path in paths]
        self.scaled = [[short_side(image, side)[0] for side in SHORT_SIDES] for image in photographs]
        self.distortions = list(distortions)
        self.choices = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images ``(B, 3, 64, 64)``, display sRGB in [0, 1], and their levels ``(B, A)`` in [-1, 0]."""
        images = torch.stack([self._crop() for _ in range(count)])
        levels = -torch.rand(count, len(self.distortions), generator=self.generator)
        levels *= torch.rand(levels.shape, generator=self.generator) >= UNTOUCHED
        mixed = distort(images, dict(zip(self.distortions, levels.T, strict=True)), self.generator)
        return mixed, levels

    def _crop(self) -> torch.Tensor:
        image = self.choices.choice(self.choices.choice(self.scaled))
        y, x = (self.choices.randrange(length - SIDE + 1) for length in image.shape[1:])
        crop = image[:, y : y + SIDE, x : x + SIDE].rot90(self.choices.randrange(4), (1, 2))
        # other hues, the same sharpness, contrast and saturation: five photographs have few colours
        return crop[torch.tensor(self.choices.sample(range(3), 3))]


class Captions:
    """Sentences of one or two attributes' adjectives."""

    def __init__(self, words: Sequence[Words], seed: int) -> None:
        self.words = words
        self.choices = random.Random(seed)

    def draw(self, count: int) -> tuple[list[str], torch.Tensor]:
        """Sentences, and the sides that they take: ``(C, A)``, 1 for high, -1 for low, 0 unsaid."""
        texts = []
        sides = torch.zeros(count, len(self.words))
        for row in range(count):
            said = self.choices.sample(range(len(self.words)), self.choices.choice((1, 1, 2)))
            adjectives = []
            for attribute in said:
                high = self.choices.random() < 0.5
                sides[row, attribute] = 1 if high else -1
                words = self.words[attribute]
                adjectives.append(self.choices.choice(words.positive if high else words.negative))
            texts.append(self.choices.choice(TEMPLATES).format(", ".join(adjectives)))
        return texts, sides


def truth(levels: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """How probable each caption is for each image: ``(B, A)`` levels, ``(C, A)`` sides, to ``(B, C)``."""
    high = 0.5 + CERTAINTY * (levels[:, None] + 0.5)  # (B, 1, A)
    shares = torch.where(sides > 0, high, torch.where(sides < 0, 1 - high, torch.ones_like(high)))
    return shares.prod(dim=2)


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: Any, shares: torch.Tensor) -> Any:
    """CLIP's symmetric cross entropy with soft targets; unit vectors ``(B, D)`` and ``(C, D)``."""
    logits = scale * images @ texts.T
    by_image = F.cross_entropy(logits, shares / shares.sum(1, keepdim=True))
    by_text = F.cross_entropy(logits.T, (shares / shares.sum(0)).T)
    return (by_image + by_text) / 2


def train(
    model: Any, tokenizer: Any, scenes: Scenes, captions: Captions, options: Options
) -> list[float]:
    """Train in place; returns the losses."""
    preprocess = open_clip.get_model_preprocess_cfg(model)
    mean, std = (torch.tensor(preprocess[key]).view(3, 1, 1) for key in ("mean", "std"))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    losses = []
    model.train()
    for step in range(options.steps):
        pixels, levels = scenes.draw(options.batch)
        texts, sides = captions.draw(options.batch)
        images = model.encode_image((pixels - mean) / std, normalize=True)
        sentences = model.encode_text(tokenizer(texts), normalize=True)
        loss = contrastive_loss(images, sentences, model.logit_scale.exp(), truth(levels, sides))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=4.6052)  # 100, as CLIP
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1} of {options.steps}: loss {sum(losses[-50:]) / 50:.4f}", flush=True)
    return losses


@torch.no_grad()
def forget_unused_tokens(model: Any, tokenizer: Any, pools: Pools) -> None:
    """Zero the rows of tokens that no bundled adjective has, so that the file packs to a few hundred kB.

    Adjectives that no caption used keep their random rows: to the instrument they are words without meaning.
    """
    sentences = [template.format("") for template in (*TEMPLATES, pools.template.format(adjective=""))]
    words = [word for pool in pools.pools for word in (*pool.positive, *pool.negative)]
    used = set(tokenizer([*sentences, *words, ","]).flatten().tolist())
    unused = torch.ones(model.vocab_size, dtype=torch.bool)
    unused[list(used)] = False
    model.token_embedding.weight[unused] = 0


def write_instrument(folder: Path, model: Any, card: dict[str, Any]) -> None:
    """Write the folder that open_clip and ``--model`` read, and the card."""
    state = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    weights = folder / "open_clip_model.safetensors"
    with atomic_path(weights) as temporary:
        save_file(state, temporary)
    write_json(folder / "open_clip_config.json", {"model_cfg": CONFIG, "preprocess_cfg": {}})
    write_json(folder / "card.json", card | {"digest": file_digest(weights)})


@command
def main(argv: list[str] | None = None) -> int:
    """Make the instrument; returns the exit code."""
    options = parse(Options, argv, prog="python -m tests.make_clip_instrument", description=str(__doc__))
    started = time.process_time()
    pools = read_pools()
    tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
    words = caption_words(pools, tokenizer)
    paths = list_images(options.photographs) if options.photographs else training_photographs()
    names = read_attributes().names
    scenes = Scenes(paths, names, options.seed)
    captions = Captions([words[name] for name in names], options.seed)
    torch.manual_seed(options.seed)
    model = open_clip.CLIP(**CONFIG)
    losses = train(model, tokenizer, scenes, captions, options)
    forget_unused_tokens(model, tokenizer, pools)
    card = {
        "name": "clip_instrument",
        "summary": "A test instrument for prompt selection, and no quality model: do not score images with it.",
        "words": {name: {"positive": own.positive, "negative": own.negative} for name, own in words.items()},
        "photographs": [path.name for path in paths],
        "last_losses": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        "cpu_minutes": round((time.process_time() - started) / 60, 1),
        "options": as_record(options) | {"out": "DIR"},
        "command": "python -m tests.make_clip_instrument",
        "versions": {name: metadata.version(name) for name in ("torch", "open_clip_torch", "numpy")},
    }
    write_instrument(options.out, model, card)
    print(f"{options.out}: {card['cpu_minutes']} CPU minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(None))
