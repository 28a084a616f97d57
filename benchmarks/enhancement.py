"""Enhancers against experts: fidelity to them, their agreement with one another, wins under a judge."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from attiqa.errors import InputError
from attiqa.fidelity import FIDELITY
from attiqa.images import IMAGE_SUFFIXES, read_image, to_float
from attiqa.metrics import bootstrap_interval
from attiqa.threads import thread_pool
from benchmarks.significance import pairs_needed, sign_test, wilson_interval

# exports of one scene differ by a pixel or two; a larger difference of shape is another crop
_ASPECT_TOLERANCE = 0.015
_EXPERT_FOLDER = re.compile(r"(?:expert|tiff16)_?([a-e])", re.IGNORECASE)
_EXPERT_FILE = re.compile(r"(.+)_([A-E])")

Images = dict[str, Path]  # scene -> file
# float32 (3, H, W) display sRGB, twice, of one size -> number
Metrics = Mapping[str, Callable[[torch.Tensor, torch.Tensor], float]]

PLAIN_METRICS: Metrics = {name: metric for name, (metric, _) in FIDELITY.items()}
LOWER_IS_BETTER = {name for name, (_, lower) in FIDELITY.items() if lower} | {"lpips"}


@dataclass(frozen=True)
class Comparison:
    """One method's picture of one scene against one expert's.

    Attributes:
        values: metric name -> value.
        resized: whether the picture had to be brought to the expert's size.
    """

    method: str
    scene: str
    expert: str
    values: dict[str, float]
    resized: bool


def list_scenes(folder: Path) -> Images:
    """The images directly in `folder`, by file name without suffix; raises `InputError` for duplicates."""
    scenes: Images = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in scenes:
                raise InputError(
                    f"{folder} holds {path.stem} twice: {scenes[path.stem].name} and {path.name}."
                )
            scenes[path.stem] = path
    if not scenes:
        raise InputError(f"{folder} holds no image; expected one file a scene.")
    return scenes


def find_experts(folder: Path) -> dict[str, Images]:
    """Experts' renditions in `folder`: folders expertA ... (or tiff16_a ...), or files NAME_A.jpg ..."""
    experts: dict[str, Images] = {}
    for path in sorted(folder.iterdir()):
        named = _EXPERT_FOLDER.fullmatch(path.name)
        if named and path.is_dir():
            experts[named[1].upper()] = list_scenes(path)
        suffixed = _EXPERT_FILE.fullmatch(path.stem)
        if suffixed and path.suffix.lower() in IMAGE_SUFFIXES:
            experts.setdefault(suffixed[2], {})[suffixed[1]] = path
    return experts


def match_size(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Bring ``(3, H, W)`` display sRGB to the reference's size; refuses another shape of picture."""
    (height, width), (wanted_height, wanted_width) = image.shape[-2:], reference.shape[-2:]
    if (height, width) == (wanted_height, wanted_width):
        return image
    if abs(width / height * wanted_height / wanted_width - 1) > _ASPECT_TOLERANCE:
        raise InputError(
            f"{width}x{height} is another shape of picture than the reference's "
            f"{wanted_width}x{wanted_height}; is it cropped or turned?"
        )
    size = (wanted_height, wanted_width)
    return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def compare(
    method: str,
    outputs: Images,
    experts: Mapping[str, Images],
    workers: int = 2,
    metrics: Metrics = PLAIN_METRICS,
) -> tuple[list[Comparison], list[tuple[str, str]]]:
    """Every scene of `outputs` against every expert who rendered it.

    Returns:
        the comparisons, and (scene, sentence) for each scene that could not be compared.
    """
    jobs = [(scene, expert) for scene in outputs for expert in sorted(experts) if scene in experts[expert]]
    failures = [
        (scene, f"{method}: no expert rendered {scene}.")
        for scene in outputs
        if not any(scene in images for images in experts.values())
    ]

    def run(job: tuple[str, str]) -> Comparison | tuple[str, str]:
        scene, expert = job
        try:
            image, reference = (
                # peers made their outputs from the numbers in FiveK's files, whatever profile those carry
                to_float(read_image(path, profiles=False))
                for path in (outputs[scene], experts[expert][scene])
            )
            matched = match_size(image, reference)
            values = {name: metric(matched, reference) for name, metric in metrics.items()}
        except InputError as error:
            return scene, f"{method}, {scene} against expert {expert}: {error}"
        return Comparison(method, scene, expert, values, matched is not image)

    with thread_pool(workers) as pool:
        results = list(pool.map(run, jobs))
    return (
        [result for result in results if isinstance(result, Comparison)],
        failures + [result for result in results if isinstance(result, tuple)],
    )


def summarise(comparisons: Sequence[Comparison], *, repeats: int, seed: int) -> list[dict[str, Any]]:
    """A row for each method and expert, then, where experts are several, their mean and the best one."""
    rows = []
    for method in dict.fromkeys(item.method for item in comparisons):
        mine = [item for item in comparisons if item.method == method]
        by_expert = {
            expert: {item.scene: item.values for item in mine if item.expert == expert}
            for expert in sorted({item.expert for item in mine})
        }
        for expert, scenes in by_expert.items():
            rows.append(_row(method, f"expert {expert}", scenes, repeats, seed))
        if len(by_expert) > 1:
            for label, pick_best in (("mean of experts", False), ("best expert", True)):
                rows.append(_row(method, label, _across_experts(by_expert, pick_best), repeats, seed))
    return rows


def gain_over(
    base: Sequence[Comparison], other: Sequence[Comparison], *, repeats: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Mean difference `other` minus `base` a metric, on the scenes and experts that both have."""
    before = {(item.scene, item.expert): item.values for item in base}
    shared = [item for item in other if (item.scene, item.expert) in before]
    gains = {}
    for name in shared[0].values if shared else PLAIN_METRICS:
        values = [item.values[name] - before[item.scene, item.expert][name] for item in shared]
        gains[name] = _mean(values, repeats, seed) | {"scenes": len({item.scene for item in shared})}
    return gains


def experts_agreement(
    experts: Mapping[str, Images], *, repeats: int, seed: int, metrics: Metrics = PLAIN_METRICS
) -> list[dict[str, Any]]:
    """Each expert against every other: what a person reaches, and so the ceiling of an enhancer."""
    rows = []
    for name in sorted(experts):
        others = {other: images for other, images in experts.items() if other != name}
        comparisons, _ = compare(f"expert {name}", experts[name], others, metrics=metrics)
        if comparisons:
            by_expert = {
                other: {item.scene: item.values for item in comparisons if item.expert == other}
                for other in sorted(others)
            }
            scenes = _across_experts(by_expert, pick_best=False)
            rows.append(_row(f"expert {name}", "mean of the others", scenes, repeats, seed))
    return rows


def win_rate(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, Any]:
    """How often a judge rates our picture of a scene above theirs; ties count for neither.

    Returns:
        wins, losses, ties, scenes without a score, the rate with Wilson's interval, the sign test's p-value,
        and how many comparisons a true rate like this one needs to show at the 5 % level with 80 % power.
    """
    scenes = sorted(scene for scene in ours if scene in theirs)
    gaps = np.array([ours[scene] - theirs[scene] for scene in scenes])
    unscored = int((~np.isfinite(gaps)).sum())
    gaps = gaps[np.isfinite(gaps)]
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    decided = wins + losses
    return {
        "wins": wins,
        "losses": losses,
        "ties": int((gaps == 0).sum()),
        "unscored": unscored,
        "rate": wins / decided if decided else None,
        "interval": wilson_interval(wins, decided) if decided else None,
        "p_value": sign_test(wins, losses),
        "pairs_needed": pairs_needed(wins / decided) if decided else None,
    }


def _across_experts(
    by_expert: Mapping[str, Mapping[str, dict[str, float]]], pick_best: bool
) -> dict[str, dict[str, float]]:
    """One value a scene and metric: the mean over the experts who rendered it, or the best of them."""
    scenes = sorted(set(itertools.chain.from_iterable(by_expert.values())))
    merged: dict[str, dict[str, float]] = {}
    for scene in scenes:
        values = [renditions[scene] for renditions in by_expert.values() if scene in renditions]
        merged[scene] = {}
        for name in values[0]:
            found = [value[name] for value in values]
            best = min(found) if name in LOWER_IS_BETTER else max(found)
            merged[scene][name] = best if pick_best else float(np.mean(found))
    return merged


def _row(
    method: str, against: str, scenes: Mapping[str, dict[str, float]], repeats: int, seed: int
) -> dict[str, Any]:
    names = next(iter(scenes.values()))
    metrics = {name: _mean([values[name] for values in scenes.values()], repeats, seed) for name in names}
    return {"method": method, "against": against, "scenes": len(scenes), "metrics": metrics}


def _mean(values: Sequence[float], repeats: int, seed: int) -> dict[str, Any]:
    """Mean with its bootstrap interval over scenes; no interval below three of them."""
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return {"mean": None, "interval": None}
    interval = None
    if len(finite) > 2:
        interval = bootstrap_interval(
            lambda x: float(np.mean(x)), np.array(finite), repeats=repeats, seed=seed
        )
    return {"mean": float(np.mean(finite)), "interval": interval}
