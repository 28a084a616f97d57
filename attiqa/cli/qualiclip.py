"""``attiqa pretrain --method qualiclip IMAGES --out RUN``: CLIP's image encoder learns from degradation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attiqa.attributes import AttributeSet
from attiqa.checkpoint import save_checkpoint
from attiqa.cli.clip_options import ClipModelOptions
from attiqa.clip.prompted import build_prompted
from attiqa.clip.prompts import named_set, set_record
from attiqa.devices import pick_device
from attiqa.distortions import DISTORTIONS
from attiqa.errors import InputError, command
from attiqa.model import PRECISIONS
from attiqa.nn.network import QualityNetwork
from attiqa.options import as_record, claim, option, parse
from attiqa.training.crop_pairs import CropPairBatches, Photographs
from attiqa.training.processes import Processes
from attiqa.training.qualiclip import PAIRS, fine_tune, level_agreement
from attiqa.training.store import Entry, divided, list_entries


@dataclass(frozen=True, kw_only=True)
class PretrainClipOptions(ClipModelOptions):
    """Options of every method that trains a CLIP scorer on photographs alone."""

    images: list[Path] = option(
        help="pristine photographs: files, folders and WebDataset .tar shards", positional=True
    )
    out: Path = option(help="run folder; a run found there is continued exactly", metavar="RUN")
    model: str = option(
        "RN50-quickgelu", help="open_clip model, folder with its config, or hf-hub:OWNER/NAME"
    )
    prompts: str = option(
        "paper", help="prompt set of the attributes that are reported beside the score, or its file"
    )
    side: int = option(224, help="side of the crops in pixels")
    validation: float = option(0.05, help="share of the images that is held out to measure agreement")
    workers: int = option(2, help="decoding threads")
    seed: int = option(0, help="of crops, order and new weights")

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise InputError(f"--validation {self.validation:g} is no share; give a number from 0 up to 1.")
        for name, least in (("side", 32), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {least} or more; it is {getattr(self, name)}.")

    def material(self) -> tuple[AttributeSet, list[Entry], list[Entry]]:
        """The attributes' prompts, and training and held-out photographs."""
        return named_set(self.prompts), *divided(list_entries(self.images), self.validation, self.seed)


@dataclass(frozen=True, kw_only=True)
class Options(PretrainClipOptions):
    """Options of `attiqa pretrain --method qualiclip`."""

    steps: int = option(10000, help="optimiser steps; 0 writes CLIP as it is, asked the same questions")
    scenes: int = option(16, help="photographs a step, over all processes")
    levels: int = option(
        5, help="strengths of degradation; a step sees twice as many crops of each photograph"
    )
    kinds: int = option(1, help="degradations at once")
    degradations: list[str] = option(list(DISTORTIONS), help="which ones are drawn from", metavar="NAME")
    learning_rate: float = option(1e-6, help="peak learning rate of AdamW")
    precision: str = option("float32", help="of the forward pass", choices=tuple(PRECISIONS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0 or self.scenes < 1:
            raise InputError(
                f"--steps is 0 or more and --scenes 1 or more; they are {self.steps} and {self.scenes}."
            )


@command
def main(argv: list[str] | None = None) -> int:
    """Fine-tune and write ``RUN/model.safetensors`` with its card; returns the exit code."""
    options = parse(Options, argv, prog="attiqa pretrain --method qualiclip", description=str(__doc__))
    processes = Processes.start(on_cpu=options.device == "cpu")
    attributes, training, held_out = options.material()
    batches = CropPairBatches(
        training,
        scenes=options.scenes,
        levels=options.levels,
        kinds=options.kinds,
        degradations=options.degradations,
        side=options.side,
        seed=options.seed,
        workers=options.workers,
        processes=processes,
    )
    encoder = options.encoder()
    network = build_prompted(encoder, PAIRS, attributes)
    claim(options.out, options, free=("device", "workers"), write=processes.is_first)
    losses = fine_tune(
        network,
        batches,
        options.steps,
        levels=options.levels,
        learning_rate=options.learning_rate,
        precision=PRECISIONS[options.precision],
        device=pick_device(options.device),
        state=options.out / "state.safetensors",
        processes=processes,
    )
    if processes.is_first:
        card = {
            "name": options.out.name,
            "attributes": list(attributes.names),
            "summary": "QualiCLIP (arXiv 2403.11176), trained on degraded crops; no human rating was seen",
            "clip": encoder.identity,
            "prompts": {"quality": [list(pair) for pair in PAIRS], **set_record(attributes)},
            "last_loss": losses[-1] if losses else None,
            "options": as_record(options),
        }
        finish(options.out, network, card, held_out, batches.photographs)
    return 0


def finish(
    out: Path,
    network: QualityNetwork,
    card: dict[str, Any],
    held_out: Sequence[Entry],
    photographs: Photographs,
) -> None:
    """Name what could not be read, measure, write the model with its card, and print the agreement."""
    for sentence in photographs.failures.values():
        print(f"skipped: {sentence}", file=sys.stderr)
    agreement = level_agreement(network.cpu(), held_out)
    written = save_checkpoint(out / "model.safetensors", network, {**card, "validation_srocc": agreement})
    for name, value in agreement.items():
        print(f"{name:<14} held-out SROCC {value:+.3f}")
    print(f"{out / 'model.safetensors'}: digest {written['digest'][:12]}")


if __name__ == "__main__":
    sys.exit(main(None))
