"""Cross-validation of the score on small rated sets: every fold refits the regressor and its penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.metrics import bootstrap_interval, plcc, srocc
from attiqa.nn.network import AttributeNetwork
from attiqa.progress import progress_bar
from attiqa.training.regressor import PseudoRated, RatedFeatures, fit_regressor, predict
from attiqa.views import five_crops, look

PENALTIES = (0.003, 0.03, 0.3)
INNER_FOLDS = 4

View = Callable[[torch.Tensor], torch.Tensor]


def native_crops(side: int) -> View:
    """Five `side` crops at native resolution: neither scaling nor size can tell images apart."""
    return lambda images: five_crops(images, side)


def named_view(name: str) -> View:
    """A view of `attiqa.views.look` by name."""
    return lambda images: look(images, name)


def rated_features(network: AttributeNetwork, rated: RatedSet, views: dict[str, View]) -> RatedFeatures:
    """Show every image of a rated set to the frozen network, in each of `views`."""
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in views}
    for path in progress_bar(rated.paths, desc=f"features of {rated.name}", unit="image"):
        image = to_float(read_image(path)).unsqueeze(0)
        for name, view in views.items():
            columns[name].append(network.hidden(view(image)[0]))
    hidden = {name: torch.stack(crops).clone() for name, crops in columns.items()}
    return RatedFeatures(hidden, torch.from_numpy(rated.unit_mos).float(), [str(g) for g in rated.groups])


def group_folds(groups: Sequence[str], folds: int | None = None) -> Iterator[torch.Tensor]:
    """Boolean masks ``(N,)`` of held-out images; groups stay whole. ``None``: one group a fold."""
    names = sorted(set(groups))
    for fold in range(folds or len(names)):
        held_out = set(names[fold :: folds or len(names)])
        yield torch.tensor([group in held_out for group in groups])


def out_of_fold(
    sets: Sequence[RatedFeatures], which: int, photographs: PseudoRated, penalty: float,
    folds: int | None = None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Predictions ``(N,)`` a view for set `which`, each by a fit without the image's group.

    The other sets are in every fit: they share no image with it.
    """
    own = sets[which]
    predictions = {view: torch.zeros(len(own.mos)) for view in own.hidden}
    for held_out in group_folds(own.groups, folds):
        training = [own.select(~held_out) if index == which else other for index, other in enumerate(sets)]
        fitted = fit_regressor(training, photographs, penalty=penalty)
        for view, hidden in own.hidden.items():
            predictions[view][held_out] = predict(fitted, hidden[held_out])
    return predictions


def chosen_penalty(sets: Sequence[RatedFeatures], photographs: PseudoRated) -> float:
    """The penalty with the best mean SROCC over sets and views, by folds within `sets` alone."""

    def quality(penalty: float) -> float:
        values = []
        for which, group in enumerate(sets):
            found = out_of_fold(sets, which, photographs, penalty, INNER_FOLDS)
            values += [srocc(scores, group.mos) for scores in found.values()]
        return float(np.mean(values))

    return max(PENALTIES, key=quality)


def nested_predictions(
    sets: Sequence[RatedFeatures], which: int, photographs: PseudoRated
) -> dict[str, torch.Tensor]:
    """As `out_of_fold`, one group a fold, with the penalty chosen anew inside each fold's training images."""
    own = sets[which]
    predictions = {view: torch.zeros(len(own.mos)) for view in own.hidden}
    for held_out in progress_bar(list(group_folds(own.groups)), desc="cross-validation", unit="fold"):
        training = [own.select(~held_out) if index == which else other for index, other in enumerate(sets)]
        penalty = chosen_penalty(training, photographs)
        fitted = fit_regressor(training, photographs, penalty=penalty)
        for view, hidden in own.hidden.items():
            predictions[view][held_out] = predict(fitted, hidden[held_out])
    return predictions


def agreement(scores: NDArray[Any], mos: NDArray[Any], groups: NDArray[Any], gap: float) -> dict[str, Any]:
    """SROCC and PLCC with 95 % intervals (groups resampled whole), and how often pairs agree within a group.

    Args:
        scores: ``(N,)``, higher is better.
        mos: ``(N,)``.
        groups: ``(N,)`` prompt or source.
        gap: pairs of one group count where their MOS differ by at least this much.
    """
    accuracy, pairs = pair_accuracy(scores, mos, groups, gap)
    return {
        "srocc": round(srocc(scores, mos), 4),
        "srocc_ci95": [round(end, 4) for end in bootstrap_interval(srocc, scores, mos, clusters=groups)],
        "plcc": round(plcc(scores, mos), 4),
        "plcc_ci95": [round(end, 4) for end in bootstrap_interval(plcc, scores, mos, clusters=groups)],
        "within_group_pair_accuracy": round(accuracy, 4),
        "within_group_pairs": pairs,
    }


def pair_accuracy(
    scores: NDArray[Any], mos: NDArray[Any], groups: NDArray[Any], gap: float
) -> tuple[float, int]:
    """Share of within-group pairs, `gap` or more apart in MOS, that `scores` order as people do; how many."""
    difference = mos[:, None] - mos[None, :]
    counted = (groups[:, None] == groups[None, :]) & (difference >= gap - 1e-9)
    if not counted.any():
        raise InputError(f"no two images of one group differ by {gap:g} or more in MOS.")
    return float((scores[:, None] > scores[None, :])[counted].mean()), int(counted.sum())
