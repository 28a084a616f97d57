"""``attiqa pretrain IMAGES --out RUN``: heads learn to rank images as labels do (section 3.4)."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from attiqa.attributes import AttributeSet, read_attributes
from attiqa.checkpoint import save_checkpoint
from attiqa.devices import pick_device
from attiqa.errors import InputError, command
from attiqa.images import to_float
from attiqa.metrics import srocc
from attiqa.nn.backbones import calibrate_normalisation
from attiqa.nn.network import AttributeNetwork, build_network
from attiqa.options import as_record, chosen, claim, option, parse
from attiqa.training.agreement import cross_talk
from attiqa.training.distorted import DistortedBatches
from attiqa.training.labelled import LabelledBatches
from attiqa.training.loop import BatchSource
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import LOSSES, pretrain
from attiqa.training.processes import Processes
from attiqa.training.store import Entry, divided, list_entries, read_labels
from attiqa.views import whole

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# what trains -> module with its own options and `main`; "attiqa" is this one
METHODS = {"attiqa": "", "qualiclip": "attiqa.cli.qualiclip", "sfd-iqa": "attiqa.cli.sfd"}


@dataclass(frozen=True)
class Options:
    """Options of `attiqa pretrain`."""

    images: list[Path] = option(
        help="image files, folders (ImageNet's layout too) and WebDataset .tar shards", positional=True
    )
    out: Path = option(help="run folder; a run found there is continued exactly", metavar="RUN")
    method: str = option(
        "attiqa", choices=tuple(METHODS), help="what is trained; `--method NAME --help` lists its options"
    )
    labels: str = option(
        "distortion",
        help="'distortion' (levels of graded distortions), or a CSV with path and one column an attribute, "
        "such as attiqa label writes (CACHE/scores.csv)",
    )
    attributes: Path | None = option(None, help="attribute file; the paper's five by default", metavar="FILE")
    backbone: str = option("resnet50", help="torchvision network")
    start: Path | None = option(
        None, help="torchvision weights (safetensors); from scratch by default", metavar="FILE"
    )
    stem_stride: int | None = option(None, help="stride of the first convolution")
    levels: int = option(1, help="stages of the backbone that are pooled")
    hidden: int = option(512, help="width of each head's hidden layer")
    steps: int = option(10000, help="optimiser steps")
    batch: int = option(48, help="images a step, over all processes; a multiple of 6 for distortion labels")
    side: int = option(224, help="side of the crops in pixels")
    learning_rate: float = option(3e-4, help="peak learning rate of AdamW")
    loss: str = option("ranking", help="margin ranking, or the L2 ablation", choices=tuple(LOSSES))
    quality_weight: float = option(0.0, help="weight of quality-ordered pairs (distortion labels only)")
    validation: float = option(0.05, help="share of the images that is held out to measure label agreement")
    precision: str = option("float32", help="of the forward pass", choices=tuple(PRECISIONS))
    compile: bool = option(False, help="run the network through torch.compile")
    workers: int = option(2, help="decoding threads")
    device: str = option("auto", help="where to train: auto, cpu, cuda")
    seed: int = option(0, help="of weights, crops and order")

    def __post_init__(self) -> None:
        if self.labels == "distortion" and self.batch % 6:
            raise InputError(
                f"--batch {self.batch} is no multiple of 6: each photograph comes in six versions."
            )
        if self.labels != "distortion" and self.quality_weight:
            raise InputError(
                "--quality-weight needs --labels distortion; a table says nothing about quality."
            )
        if not 0 <= self.validation < 1:
            raise InputError(f"--validation {self.validation:g} is no share; give a number from 0 up to 1.")
        for name, least in (("steps", 1), ("batch", 1), ("side", 32), ("hidden", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {least} or more; it is {getattr(self, name)}.")
        if self.stem_stride is not None and self.stem_stride < 1:
            raise InputError(f"--stem-stride is 1 or more; it is {self.stem_stride}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Train and write ``RUN/model.safetensors`` with its card; returns the exit code."""
    method, argv = chosen(
        sys.argv[1:] if argv is None else argv, "--method", tuple(METHODS), "attiqa pretrain"
    )
    if METHODS[method]:
        return int(importlib.import_module(METHODS[method]).main(argv))
    options = parse(Options, argv, prog="attiqa pretrain", description=str(__doc__))
    processes = Processes.start(on_cpu=options.device == "cpu")
    attributes = read_attributes(options.attributes)
    entries = list_entries(options.images)
    torch.manual_seed(options.seed)
    network = build_network(
        options.backbone,
        attributes=len(attributes.names),
        hidden=options.hidden,
        levels=options.levels,
        stem_stride=options.stem_stride,
        start=options.start,
    )
    # after the network, whose options are checked in no time: decoding may take hours
    material = prepared(options, attributes, entries, processes)
    batches = material.batches
    if options.start is not None and options.stem_stride is not None:
        calibrate_normalisation(network.backbone, [batches(10**6 + index).images for index in range(8)])
    claim(options.out, options, free=("device", "workers"), write=processes.is_first)
    losses = pretrain(
        network,
        batches,
        options.steps,
        learning_rate=options.learning_rate,
        loss=options.loss,
        quality_weight=options.quality_weight,
        frozen_statistics=options.start is not None,
        precision=PRECISIONS[options.precision],
        device=pick_device(options.device),
        state=options.out / "state.safetensors",
        compiled=options.compile,
        processes=processes,
    )
    if processes.is_first:
        report_failures(material.failures())
        finish(options, attributes, network, losses, material.validate(network.cpu()))
    return 0


class Material(NamedTuple):
    """What a run trains on, and what measures how well it follows held-out labels.

    Attributes:
        batches: of the training images.
        validate: SROCC of each attribute with its labels on held-out images.
        failures: sentences on training images that could not be read.
    """

    batches: BatchSource
    validate: Callable[[AttributeNetwork], dict[str, float]]
    failures: Callable[[], Iterable[str]]


def prepared(
    options: Options, attributes: AttributeSet, entries: list[Entry], processes: Processes
) -> Material:
    """The material of the chosen label source."""
    if options.labels != "distortion":
        return labelled_material(options, attributes, entries, processes)
    unlabelled = [a.name for a in attributes.attributes if a.distortion is None]
    if unlabelled:
        raise InputError(f"no distortion labels {', '.join(unlabelled)}; give --labels a table of scores.")
    training, held_out = divided(entries, options.validation, options.seed)
    names = [str(attribute.distortion) for attribute in attributes.attributes]
    pool = PhotographPool(training, progress=processes.is_first)
    distorted = DistortedBatches(
        pool, names, scenes=options.batch // 6, side=options.side, seed=options.seed, processes=processes
    )
    return Material(
        distorted,
        lambda network: distortion_agreement(network, held_out, names, attributes.names),
        lambda: [sentence for _, sentence in pool.failures],
    )


def labelled_material(
    options: Options, attributes: AttributeSet, entries: list[Entry], processes: Processes
) -> Material:
    """Images with labels from a table; those without take no part."""
    labelled, labels = read_labels(Path(options.labels), entries, attributes.names)
    if len(labelled) < len(entries) and processes.is_first:
        print(f"{len(labelled)} of {len(entries)} images have a row in {options.labels}", file=sys.stderr)
    row = {entry.key: index for index, entry in enumerate(labelled)}
    training, held_out = divided(labelled, options.validation, options.seed)
    batches = LabelledBatches(
        training,
        labels[[row[entry.key] for entry in training]],
        batch=options.batch,
        side=options.side,
        seed=options.seed,
        workers=options.workers,
        processes=processes,
    )
    checked = labels[[row[entry.key] for entry in held_out]]
    return Material(
        batches,
        lambda network: label_agreement(network, held_out, checked, attributes.names),
        lambda: batches.failures.values(),
    )


def report_failures(sentences: Iterable[str]) -> None:
    """One line a broken file, on stderr."""
    for sentence in sentences:
        print(f"skipped: {sentence}", file=sys.stderr)


def readable(entries: Sequence[Entry]) -> Iterator[tuple[int, torch.Tensor]]:
    """The whole view ``(1, 3, H, W)`` of each entry that can be read, by its place; the others are named."""
    for index, entry in enumerate(entries):
        try:
            yield index, whole(to_float(entry.read()).unsqueeze(0))
        except (InputError, OSError) as error:
            report_failures([str(error)])


def label_agreement(
    network: AttributeNetwork, entries: list[Entry], labels: torch.Tensor, names: tuple[str, ...]
) -> dict[str, float]:
    """SROCC of each head with its labels on held-out images, of those heads for which it is defined."""
    rows, scores = [], []
    with torch.inference_mode():
        for index, image in readable(entries):
            rows.append(index)
            scores.append(network(image)[0][0])
    agreement: dict[str, float] = {}
    if not rows:
        return agreement
    predicted, expected = torch.stack(scores), labels[rows]
    for k, name in enumerate(names):
        known = ~expected[:, k].isnan()
        with contextlib.suppress(InputError):  # too few images, or all of one label
            agreement[name] = round(srocc(predicted[known, k].numpy(), expected[known, k].numpy()), 4)
    return agreement


def distortion_agreement(
    network: AttributeNetwork, held_out: list[Entry], distortions: list[str], names: tuple[str, ...]
) -> dict[str, float]:
    """Mean per-image SROCC of each head with the level of its distortion on held-out images."""

    def assess(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            attributes, quality = network(images)
        return quality, attributes

    photographs = [image[0] for _, image in readable(held_out[:24])]
    if not photographs:
        return {}
    # a head that never moves follows nothing
    diagonal = cross_talk(assess, photographs, distortions)["srocc"].diagonal().nan_to_num()
    return {name: round(float(value), 4) for name, value in zip(names, diagonal, strict=True)}


def finish(
    options: Options,
    attributes: AttributeSet,
    network: AttributeNetwork,
    losses: list[float],
    agreement: dict[str, float],
) -> None:
    """Write the model with its card and print how well held-out labels are followed."""
    card: dict[str, Any] = {
        "name": options.out.name,
        "attributes": list(attributes.names),
        "summary": f"ATTIQA pretraining on labels from {options.labels}; the score is not fitted to ratings",
        "validation_srocc": agreement,
        "last_loss": losses[-1] if losses else None,
        "options": as_record(options),
    }
    written = save_checkpoint(options.out / "model.safetensors", network, card)
    for name, value in agreement.items():
        print(f"{name:<14} held-out SROCC {value:+.3f}")
    print(f"{options.out / 'model.safetensors'}: digest {written['digest'][:12]}")


if __name__ == "__main__":
    sys.exit(main(None))
