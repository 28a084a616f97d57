"""How fast models train: pretraining and fine-tuning loops against bare forward, backward and update."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from attiqa.attributes import read_attributes
from attiqa.checkpoint import load_checkpoint
from attiqa.losses import margin_ranking_loss
from attiqa.model import find_weights
from attiqa.nn.backbones import freeze_normalisation
from attiqa.nn.network import AttributeNetwork
from attiqa.options import option
from attiqa.training.distorted import DistortedBatches
from attiqa.training.finetuning import RatedImages, finetune
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import pretrain
from benchmarks.speed_options import Findings, SpeedOptions, Subject
from benchmarks.speed_score import image_files
from benchmarks.timing import Figure, figures_beside
from isp_env.embedded import embedded_photographs


@dataclass(frozen=True, kw_only=True)
class TrainSpeedOptions(SpeedOptions):
    """Flags of ``speed.py train``."""

    model: str = option("attiqa-mini", help="whose network trains: bundled name, file or hub id")
    steps: int = option(4, help="steps of each repeat")
    batch: int = option(24, help="images a step of pretraining, a multiple of 6")
    side: int = option(192, help="side of the crops of pretraining, pixels")
    tuned: int = option(16, help="images of an epoch of fine-tuning, 8 a step")
    crop: int = option(320, help="side of the crops of fine-tuning, pixels; the paper's is 320")


def measure(options: TrainSpeedOptions, device: str) -> Findings:
    """Loops as users run them, each beside the bare steps that they cannot do without."""
    network, _ = load_checkpoint(find_weights(options.model))
    figures = [*_pretraining(options, network, device), *_finetuning(options, network, device)]
    remark = f"The network of {options.model}, float32; no compilation."
    return Findings(figures, [remark])


def _pretraining(options: TrainSpeedOptions, network: AttributeNetwork, device: str) -> list[Figure]:
    names = [str(attribute.distortion) for attribute in read_attributes().attributes]
    pool = PhotographPool(list(embedded_photographs().values()))
    steps = 2 if options.quick else options.steps
    batches = DistortedBatches(
        pool, names, scenes=max(1, options.batch // 6), side=options.side, seed=options.seed
    )
    trained, bare = copy.deepcopy(network), _Bare(copy.deepcopy(network), device)
    images, labels = batches(0).images.to(device), batches(0).labels.to(device)

    def loop() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # the progress bar
            pretrain(trained, batches, steps, device=device)

    def steps_alone() -> None:
        for _ in range(steps):
            bare.step(images, lambda attributes, _: margin_ranking_loss(attributes, labels))

    return figures_beside(
        {"pretrain": loop, "make its batches, on the CPU": lambda: [batches(step) for step in range(steps)]},
        "bare forward, backward, update",
        steps_alone,
        unit="images",
        items=steps * len(images),
        repeats=options.repeats,
        device=device,
    )


def _finetuning(options: TrainSpeedOptions, network: AttributeNetwork, device: str) -> list[Figure]:
    count, batch = (8 if options.quick else options.tuned), 8
    with image_files([], count) as paths, contextlib.redirect_stderr(io.StringIO()):
        rated = RatedImages(paths, np.linspace(0, 1, count), side=options.crop + 20)
    generator = torch.Generator().manual_seed(options.seed)
    crops = rated.random_crops(list(range(count)), options.crop, generator).to(device)
    trained, bare = copy.deepcopy(network).to(device), _Bare(copy.deepcopy(network), device)
    mos = rated.mos.to(device)

    def epoch() -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            finetune(trained, rated, epochs=1, batch=batch, side=options.crop, seed=options.seed)

    def steps_alone() -> None:
        for some in torch.arange(count).split(batch):
            bare.step(crops[some], lambda _, quality, some=some: F.mse_loss(quality, mos[some]))

    return figures_beside(
        {f"fine-tune, {options.crop} crops": epoch},
        "bare forward, backward, update",
        steps_alone,
        unit="images",
        items=count,
        repeats=options.repeats,
        device=device,
    )


class _Bare:
    """Training steps on what is in memory, and nothing else."""

    def __init__(self, network: AttributeNetwork, device: str) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
        freeze_normalisation(self.network)
        self.network.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-6)

    def step(self, images: torch.Tensor, loss: Any) -> None:
        """Forward, backward, update; `loss` takes attributes and quality."""
        value = loss(*self.network(images.contiguous(memory_format=torch.channels_last)))
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.optimizer.step()


SUBJECT = Subject("train", TrainSpeedOptions, measure, "pretraining and fine-tuning, beside bare steps")
