"""``attiqa pretrain --method sfd-iqa IMAGES --out RUN``: critics of super-resolved images become a score."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

from attiqa.cli.qualiclip import PretrainClipOptions, finish
from attiqa.clip.prompts import set_record
from attiqa.clip.sfd import build_sfd
from attiqa.devices import pick_device
from attiqa.errors import InputError, command
from attiqa.options import as_record, claim, option, parse
from attiqa.training.processes import Processes
from attiqa.training.sfd import (
    FACTOR,
    CropBatches,
    PromptPair,
    SuperResolver,
    train_against_super_resolution,
)


@dataclass(frozen=True, kw_only=True)
class Options(PretrainClipOptions):
    """Options of `attiqa pretrain --method sfd-iqa`."""

    steps: int = option(10000, help="of the critics, and of the super-resolution network")
    batch: int = option(16, help="photographs a step")
    learning_rate: float = option(1e-4, help="peak learning rate of either side")
    hidden: int = option(128, help="width of the feature discriminator")
    words: int = option(16, help="learnt words of each prompt")
    width: int = option(32, help="width of the super-resolution network")
    blocks: int = option(4, help="residual blocks of the super-resolution network")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch", "hidden", "width", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is 1 or more; it is {getattr(self, name)}.")
        if self.side % FACTOR:
            raise InputError(
                f"--side is a multiple of {FACTOR}, the factor of super-resolution; it is {self.side}."
            )


@command
def main(argv: list[str] | None = None) -> int:
    """Train and write ``RUN/model.safetensors`` with its card; returns the exit code."""
    options = parse(Options, argv, prog="attiqa pretrain --method sfd-iqa", description=str(__doc__))
    if Processes.start(on_cpu=options.device == "cpu").count > 1:
        raise InputError("--method sfd-iqa trains in one process; start it without a launcher.")
    attributes, training, held_out = options.material()
    crops = CropBatches(
        training, batch=options.batch, side=options.side, seed=options.seed, workers=options.workers
    )
    encoder = options.encoder()
    torch.manual_seed(options.seed)
    network = build_sfd(encoder, attributes, options.hidden)
    claim(options.out, options, free=("device", "workers"))
    losses = train_against_super_resolution(
        network,
        PromptPair(encoder, options.words),
        SuperResolver(options.width, options.blocks),
        crops,
        options.steps,
        learning_rate=options.learning_rate,
        device=pick_device(options.device),
        state=options.out / "state.safetensors",
    )
    card = {
        "name": options.out.name,
        "attributes": list(attributes.names),
        "summary": "after the description of SFD-IQA (CVPR 2025, arXiv 2503.19295): no human rating was seen",
        "clip": encoder.identity,
        "prompts": set_record(attributes),
        "last_loss": losses[-1] if losses else None,
        "options": as_record(options),
    }
    finish(options.out, network, card, held_out, crops.photographs)
    return 0


if __name__ == "__main__":
    sys.exit(main(None))
