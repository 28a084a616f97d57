"""What a model card reports: cross-validation beside peers, cross-talk, preferences, speed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attiqa.attributes import read_attributes
from attiqa.datasets.rated import RatedSet
from attiqa.images import list_images, read_image, to_float
from attiqa.metrics import srocc
from attiqa.model import QualityModel
from attiqa.nn.network import AttributeNetwork, Regressor
from attiqa.rewards.calibration import Calibration, fit_calibration
from attiqa.training.agreement import cross_talk, pristine_preference
from attiqa.training.crossvalidation import agreement, nested_predictions
from attiqa.training.regressor import PseudoRated, RatedFeatures, predict
from attiqa.views import resize, whole

Assess = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

PAIR_GAP = 0.5  # on the five-point scale: the published same-prompt pairs
LOWER_IS_BETTER = {"BRISQUE", "ILNIQE", "NIQE"}


def sources(start: str) -> list[dict[str, str]]:
    """The training data with origin and licence, as the sources state them."""
    listed = [
        {
            "what": "photos/imagenet_sample: 334 photographs without labels, 306 of them for training",
            "source": "imagenet-sample-images",
            "licence": "ImageNet terms",
        },
        {
            "what": "human/avt_ai: mean quality of 69 generated images",
            "source": "AVT-AI-Image-Dataset (Goering et al., QoMEX 2023)",
            "licence": "GPL-3.0",
        },
        {
            "what": "human/avt_quality: MOS of 85 encoded images",
            "source": "AVT image_quality_test (Goering et al., QUEX 2023)",
            "licence": "GPL-3.0",
        },
    ]
    if start != "none":
        listed.insert(
            0, {"what": f"{start} as start", "source": "Keras applications weights", "licence": "BSD-style"}
        )
    return listed


def cross_validation_table(
    rated: dict[str, RatedSet], features: dict[str, RatedFeatures], pseudo: PseudoRated, data: Path
) -> dict[str, Any]:
    """Out-of-fold agreement with people for each rated set and view, beside peers and baselines.

    Regressor and penalty are refitted without each group (prompt or source); ``before_ratings`` is the score
    as pretraining left it, which has seen no rating at all.
    """
    table: dict[str, Any] = {}
    sets = list(features.values())
    for which, name in enumerate(features):
        own, groups = rated[name], rated[name].groups
        rows: dict[str, Any] = {}
        for view, scores in nested_predictions(sets, which, pseudo).items():
            rows[f"attiqa ({view} view, out of fold)"] = agreement(scores.numpy(), own.mos, groups, PAIR_GAP)
            untouched = predict(pseudo.start, features[name].hidden[view]).numpy()
            rows[f"before_ratings ({view} view)"] = agreement(untouched, own.mos, groups, PAIR_GAP)
        rows |= _baselines(own, data)
        table[name] = {"images": len(own), "folds": f"one {own.grouping} each", "rows": rows}
    return table


def zero_shot_table(
    name: str,
    regressor: Regressor,
    rated: dict[str, RatedSet],
    features: dict[str, RatedFeatures],
    data: Path,
) -> dict[str, Any]:
    """Agreement with people of the model `name`, which saw no rating of theirs, beside peers."""
    table: dict[str, Any] = {}
    for which, own in rated.items():
        rows = {
            f"{name} ({view} view, zero-shot)": agreement(
                predict(regressor, hidden).numpy(), own.mos, own.groups, PAIR_GAP
            )
            for view, hidden in features[which].hidden.items()
        }
        rows |= _baselines(own, data)
        table[which] = {
            "images": len(own),
            "intervals": f"by bootstrap over each {own.grouping}",
            "rows": rows,
        }
    return table


def _baselines(rated: RatedSet, data: Path) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    if "height" in rated.extra:
        height = rated.extra["height"].astype(float)
        rows["image height alone"] = agreement(height, rated.mos, rated.groups, PAIR_GAP)
    peers = data / "human" / rated.name.replace("-", "_") / "published_peer_scores.csv"
    return rows | (_peer_rows(peers, rated) if peers.is_file() else {})


def _peer_rows(path: Path, rated: RatedSet) -> dict[str, Any]:
    with open(path, newline="", encoding="utf-8") as file:
        by_key = {row["image_key"]: row for row in csv.DictReader(file)}
    rows = [by_key[str(name).removesuffix(".webp")] for name in rated.names]
    result = {}
    for peer in sorted(rows[0].keys() - {"image_key"}):
        sign = -1 if peer in LOWER_IS_BETTER else 1
        scores = sign * np.array([float(row[peer]) for row in rows])
        result[f"{peer} (published scores)"] = agreement(scores, rated.mos, rated.groups, PAIR_GAP)
    return result


def measurements(network: AttributeNetwork, data: Path) -> dict[str, Any]:
    """Everything that is measured on photographs which took no part in training, at the whole view.

    Args:
        network: trained, on the CPU.
        data: the folder with ``photos/kodak24`` and ``fivek``.
    """
    assess = assessor(network)
    names = read_attributes().names
    kodak = [view_of(path) for path in list_images([data / "photos" / "kodak24"])]
    talk = cross_talk(assess, kodak, names)
    return {
        "attribute_agreement": {
            "photographs": "kodak24, distorted at the whole view, 11 levels over each distortion's range",
            "rows": "head", "columns": "distortion", "names": list(names),
            "mean_per_image_srocc": _rounded(talk["srocc"]),
            "swing_relative_to_own_distortion": _rounded(talk["swing"]),
        },
        "pristine_preferred": {
            "photographs": "kodak24; share that scores above its distorted version, by strength",
            "rates": pristine_preference(assess, kodak),
        },
        "fivek_expert_c_preferred_to_input": _expert_preference(assess, data / "fivek"),
        "bfloat16": _bfloat16_effect(network, kodak),
    }  # fmt: skip


def assessor(network: AttributeNetwork) -> Assess:
    """Images ``(B, 3, H, W)`` to quality ``(B,)`` and attributes ``(B, K)``, both float32, as they are."""

    def assess(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            attributes, quality = network(images.contiguous(memory_format=torch.channels_last))
            return quality.float(), attributes.float()

    return assess


def view_of(path: Path) -> torch.Tensor:
    """A photograph as the reward sees it: float32 ``(3, H, W)``, about 224 x 224 pixels."""
    return whole(to_float(read_image(path)).unsqueeze(0))[0]


def _rounded(values: torch.Tensor) -> Any:
    return [[round(float(v), 4) for v in row] for row in values] if values.ndim == 2 else [
        round(float(v), 4) for v in values
    ]  # fmt: skip


def _expert_preference(assess: Assess, fivek: Path) -> dict[str, Any]:
    wins, total = 0, 0
    for path in list_images([fivek / "expertC"]):
        before, after = (assess(view_of(p).unsqueeze(0))[0] for p in (fivek / "input" / path.name, path))
        wins, total = wins + int(after > before), total + 1
    return {"scenes": total, "wins": wins, "note": "a check after training; never used for choices"}


def _bfloat16_effect(network: AttributeNetwork, photographs: Sequence[torch.Tensor]) -> dict[str, Any]:
    """Rank agreement of bfloat16 with float32 scores, and images a second of both, on 224 x 224 images."""
    side = 224
    images = torch.cat([resize(photograph.unsqueeze(0), side, side) for photograph in photographs])
    images = images.contiguous(memory_format=torch.channels_last)
    scores, rates = {}, {}
    for name, enabled in (("float32", False), ("bfloat16", True)):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                scores[name] = network(images)[1].float().numpy()
            seconds.append(time.perf_counter() - start)
        rates[name] = round(len(images) / min(seconds), 1)
    return {
        "srocc_with_float32": round(srocc(scores["bfloat16"], scores["float32"]), 5),
        "largest_difference": round(float(np.abs(scores["bfloat16"] - scores["float32"]).max()), 5),
        "images_per_second_224px": rates,
        "threads": torch.get_num_threads(),
    }


def held_out_calibration(model: QualityModel, photographs: Sequence[torch.Tensor]) -> Calibration:
    """z-scores of score and attributes over photographs ``(3, H, W)`` that took no part in training."""
    assessed = [model.assess(photograph.unsqueeze(0)) for photograph in photographs]
    attributes = torch.cat([values for _, values in assessed]).numpy()
    scores = {"score": torch.cat([score for score, _ in assessed]).numpy()}
    scores |= {name: attributes[:, k] for k, name in enumerate(model.attribute_names)}
    return fit_calibration(scores, source="held-out photographs of photos/imagenet_sample, whole view")
