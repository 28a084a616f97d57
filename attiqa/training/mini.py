"""The recipe of the bundled model ``attiqa-mini``: ``python -m attiqa.training.mini --data DIR --out DIR``.

Pretraining on distorted photographs (attributes by Eq. 3, 4 of arXiv 2406.01020, with distortion levels as
labels; quality by pairs of known order), then the score is fitted to human ratings, cross-validated, measured
on photographs that took no part, and written with its card. No CLIP takes part. Ctrl-C loses at most a
hundred steps: the same command goes on from there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attiqa.attributes import read_attributes
from attiqa.errors import command
from attiqa.model import PRECISIONS
from attiqa.nn.backbones import calibrate_normalisation
from attiqa.nn.network import AttributeNetwork, build_network
from attiqa.options import as_record, option, parse
from attiqa.training.bundled import divided_photographs, rated_sets, versions, write_model
from attiqa.training.card import cross_validation_table, measurements, sources
from attiqa.training.crossvalidation import (
    View,
    chosen_penalty,
    named_view,
    native_crops,
    rated_features,
)
from attiqa.training.distorted import DistortedBatches
from attiqa.training.graded import graded_layers, train_order
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import pretrain
from attiqa.training.regressor import PSEUDO_WEIGHT, SINGLE_WEIGHT, PseudoRated, fit_regressor

VIEWS: dict[str, dict[str, View]] = {
    "avt-ai": {"whole": named_view("whole"), "five": named_view("five"), "native320": native_crops(320)},
    "avt-quality": {"native144": native_crops(144), "whole": named_view("whole")},
}


@dataclass(frozen=True)
class Options:
    """Command line of the recipe; the defaults are what the bundled model was made with."""

    data: Path = option(help="folder with photos/, human/, fivek/ and weights/", metavar="DIR")
    out: Path = option(help="folder for attiqa-mini.safetensors and its card", metavar="DIR")
    name: str = option("attiqa-mini", help="name of the model and of its files")
    backbone: str = option("densenet121", help="torchvision network")
    start: str = option(
        "weights/densenet121_imagenet_fp16.safetensors",
        help="ImageNet weights below --data; 'none' starts from scratch",
        metavar="FILE",
    )
    levels: int = option(4, help="stages of the backbone that are pooled")
    stem_stride: int = option(4, help="stride of the first convolution")
    hidden: int = option(128, help="width of each head's hidden layer, and of the regressor's")
    steps: int = option(800, help="pretraining steps")
    scenes: int = option(8, help="photographs a batch; each comes in six versions")
    side: int = option(192, help="side of the training crops in pixels")
    learning_rate: float = option(3e-4, help="peak learning rate of AdamW")
    seed: int = option(0, help="of initial weights, crops and levels")
    precision: str = option("bfloat16", help="of pretraining", choices=("float32", "bfloat16"))


@command
def main(argv: list[str] | None = None) -> int:
    """Make the model; returns the exit code."""
    options = parse(Options, argv, prog="python -m attiqa.training.mini", description=str(__doc__))
    photographs, held_out = divided_photographs(options.data)
    training = PhotographPool(photographs, progress=True)
    network = pretrained(options, training)
    rated = rated_sets(options.data, VIEWS)
    features = {name: rated_features(network, rated[name], VIEWS[name]) for name in VIEWS}
    graded = graded_layers(network, training, options.seed + 7)
    train_order(network.regressor, graded, seed=options.seed)
    pseudo = PseudoRated(network.regressor, graded)
    table = cross_validation_table(rated, features, pseudo, options.data)
    everything = list(features.values())
    penalty = chosen_penalty(everything, pseudo)
    network.regressor = fit_regressor(everything, pseudo, penalty=penalty)
    card = {
        "name": options.name,
        "attributes": list(read_attributes().names),
        "summary": (
            "ATTIQA network (arXiv 2406.01020) pretrained on distortion levels instead of CLIP labels: no "
            "CLIP model took part. Attributes rank images; the score is about 0 (bad) to 1 (excellent)."
        ),
        "training_data": sources(options.start),
        "protocol": protocol(options, penalty, len(training), len(held_out)),
        "cross_validation": table,
        **measurements(network, options.data),
        "options": as_record(options) | {"data": "DIR", "out": "DIR"},
        "command": f"python -m attiqa.training.mini --data DIR --out DIR --name {options.name}",
        "versions": versions(("torch", "torchvision", "numpy", "attiqa")),
    }
    write_model(options.out / f"{options.name}.safetensors", network, card, held_out)
    return 0


def pretrained(options: Options, photographs: PhotographPool) -> AttributeNetwork:
    """The network after pretraining; a saved run in the output folder is continued."""
    names = read_attributes().names
    batches = DistortedBatches(
        photographs, names, scenes=options.scenes, side=options.side, seed=options.seed
    )
    torch.manual_seed(options.seed)
    network = build_network(
        options.backbone,
        attributes=len(names),
        hidden=options.hidden,
        regressor_hidden=options.hidden,
        levels=options.levels,
        stem_stride=options.stem_stride,
        start=None if options.start == "none" else options.data / options.start,
    )
    # steps that training will never reach, so that these batches are no training batches
    calibrate_normalisation(network.backbone, [batches(10**6 + index).images for index in range(8)])
    pretrain(
        network,
        batches,
        options.steps,
        learning_rate=options.learning_rate,
        quality_weight=1.0,
        frozen_statistics=options.start != "none",
        precision=PRECISIONS[options.precision],
        state=options.out / f"{options.name}-run" / "state.safetensors",
        state_every=100,
    )
    return network.requires_grad_(False).eval()


def protocol(options: Options, penalty: float, training: int, held_out: int) -> dict[str, Any]:
    """What was done, for the card."""
    views = "; ".join(f"{name} {', '.join(shown)}" for name, shown in VIEWS.items())
    return {
        "pretraining": (
            f"{options.steps} steps of AdamW, cosine from {options.learning_rate:g}, batches of "
            f"{options.scenes} photographs x 6 versions at {options.side} px, distorted at the network's "
            "input scale; margin ranking (0.1) over all in-batch pairs for each attribute, plus weight 1.0 x "
            "margin ranking of pairs of one photograph whose quality order is certain (our addition)"
        ),
        "order": (
            "the score's MLP, retrained on the frozen layers of 45 versions of each training photograph at "
            "the whole view, milder distortions, most of them alone, to put the milder version above"
        ),
        "photographs": {"training": training, "validation_and_calibration": held_out},
        "score": (
            "scale, offset and a linear path from the heads' hidden layers, fitted in closed form to the "
            f"human ratings (views: {views}) with penalty {penalty:g}, and with weight "
            f"{PSEUDO_WEIGHT:g} to pseudo-ratings of distorted photographs and {SINGLE_WEIGHT:g} to those of "
            "each distortion alone, relative to its own effect, so that a photograph stays above its over- "
            "and under-exposed, miscoloured, over-processed, blurred, noisy and compressed versions"
        ),
        "never_trained_on": ["photos/kodak24", "fivek"],
        "choices": (
            "the weights of the pseudo-ratings trade agreement with people against a natural look; they "
            "were chosen by a scan of cross-validated ratings and of validation photographs, beside which "
            "the preferences on kodak24 were read. Take those figures, and the cross-validated ones, as "
            "slightly optimistic"
        ),
        "brightness": "ordered from dark to bright, overexposure being brighter still: no quality order",
    }


if __name__ == "__main__":
    sys.exit(main(None))
