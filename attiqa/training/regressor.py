"""Fitting the score to few human ratings, in closed form, on hidden layers that are computed once.

Backbone, heads and the regressor's MLP stay as pretraining left them. A fit takes a fraction of a second, so
cross-validation refits it for every fold and chooses its penalty inside the training folds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attiqa.nn.network import Regressor
from attiqa.training.graded import Graded

PSEUDO_SPREAD = 0.15  # standard deviation of pseudo-ratings within a scene, on MOS in [0, 1]
# of photographs beside one rated set: all versions, and each distortion alone; from a scan, see the card
PSEUDO_WEIGHT, SINGLE_WEIGHT = 1.0, 3.0


@dataclass(frozen=True)
class RatedFeatures:
    """Rated images behind a frozen network.

    Attributes:
        hidden: view name to ``(N, V, D)``, the concatenated hidden layers of V crops an image.
        mos: ``(N,)`` in [0, 1].
        groups: ``(N,)`` prompt or source of each image; a group stays on one side of a split.
    """

    hidden: dict[str, torch.Tensor]
    mos: torch.Tensor
    groups: Sequence[str]

    def select(self, chosen: torch.Tensor) -> RatedFeatures:
        """The images where the boolean ``(N,)`` `chosen` is true."""
        groups = [group for group, kept in zip(self.groups, chosen.tolist(), strict=True) if kept]
        return RatedFeatures({k: v[chosen] for k, v in self.hidden.items()}, self.mos[chosen], groups)


def predict(regressor: Regressor, hidden: torch.Tensor) -> torch.Tensor:
    """``(N, V, D)`` to the mean score over the V crops, ``(N,)``."""
    with torch.inference_mode():
        return regressor(hidden).mean(1)


class PseudoRated:
    """Photographs and their distortions, rated by the MLP itself: what a fit must not unlearn.

    Only differences between versions of one photograph count: what pretraining learnt is which version is
    better, not which scene. They enter twice: all versions by their squared error, in which blur and noise
    outweigh the rest, and each distortion alone by its error relative to its own effect, so that a fit
    cannot trade a cast or half a stop, small beside blur, for agreement with a few people. Their share of
    the normal equations is computed once and serves every fold.

    Attributes:
        normal: ``(D + 2, D + 2)`` of all versions.
        moment: ``(D + 2,)``.
        single_normal: the same of distortions that come alone, the mean over distortions.
        single_moment: and its right side.
    """

    def __init__(self, start: Regressor, graded: Graded) -> None:
        """Rate `graded` with the regressor as it stands before any human rating."""
        self.start = start
        flat = graded.hidden.flatten(0, 1)
        self.mean, self.std = flat.mean(0), flat.std(0) + 1e-3
        columns = self.columns(flat).unflatten(0, graded.hidden.shape[:2])
        centred = (columns - columns.mean(1, keepdim=True)).flatten(0, 1)
        scale = PSEUDO_SPREAD / centred[:, -2].std()
        self.normal = centred.T @ centred / len(centred)
        self.moment = scale * self.normal[:, -2]
        lost = columns[:, :1] - columns  # by each version, against the photograph
        self.single_normal = torch.zeros_like(self.normal)
        ends = graded.alone()
        for end in ends:
            rows = lost[end]
            effect = (scale * rows[:, -2]).square().mean()
            weight = PSEUDO_SPREAD**2 / (effect * len(rows) * len(ends))
            self.single_normal += weight * rows.T @ rows
        self.single_moment = scale * self.single_normal[:, -2]

    def columns(self, hidden: torch.Tensor) -> torch.Tensor:
        """The regressors of the fit for ``(M, D)`` hidden layers: standardised, MLP score, one; float64."""
        with torch.inference_mode():
            score = self.start.mlp(hidden)
        standardised = (hidden - self.mean) / self.std
        return torch.cat([standardised, score, torch.ones_like(score)], dim=1).double()


def fit_regressor(
    rated: Sequence[RatedFeatures],
    photographs: PseudoRated,
    *,
    penalty: float,
    pseudo_weight: float = PSEUDO_WEIGHT,
    single_weight: float = SINGLE_WEIGHT,
) -> Regressor:
    """Fit scale, offset and linear path to ratings, while distorted photographs keep their pseudo-ratings.

    Minimises over a, b and w the squared error of ``a * mlp(h) + w . z(h) + b``, z being `hidden`
    standardised over the photographs: its mean over each set, view and crop (sets and views count the same),
    plus `pseudo_weight` times its mean over versions of photographs, there as differences from the
    photograph's mean, plus `single_weight` times its mean over distortions that come alone, there relative
    to the distortion's own effect, plus ``penalty * |w|^2``. The pseudo-rating of a version is the MLP's
    score brought to `PSEUDO_SPREAD`. Our choice.

    Args:
        rated: one or more rated sets.
        photographs: with the regressor as pretraining left it.
        penalty: of the ridge.
        pseudo_weight: of all versions of photographs.
        single_weight: of distortions that come alone.

    Returns:
        A fitted copy of the regressor; its scores are on the scale of the ratings.
    """
    normal = pseudo_weight * photographs.normal + single_weight * photographs.single_normal
    moment = pseudo_weight * photographs.moment + single_weight * photographs.single_moment
    for group in rated:
        for hidden in group.hidden.values():
            columns = photographs.columns(hidden.flatten(0, 1))
            mos = group.mos.repeat_interleave(hidden.shape[1]).double()
            weight = 1 / (len(group.hidden) * len(columns))
            normal = normal + weight * columns.T @ columns
            moment = moment + weight * columns.T @ mos
    # only w is penalised; the jitter keeps a constant MLP solvable
    D = len(photographs.mean)
    ridge = torch.cat([torch.full((D,), penalty), torch.full((2,), 1e-9)]).double()
    solution = torch.linalg.solve(normal + ridge.diag(), moment).float()
    return _assembled(photographs, solution[:D], float(solution[D]), float(solution[D + 1]))


def _assembled(photographs: PseudoRated, weights: torch.Tensor, scale: float, offset: float) -> Regressor:
    fitted = copy.deepcopy(photographs.start).requires_grad_(False).eval()
    weights = weights / photographs.std
    fitted.mlp.get_parameter("2.weight").mul_(scale)
    fitted.mlp.get_parameter("2.bias").mul_(scale).add_(offset - float(weights @ photographs.mean))
    fitted.linear.weight.copy_(weights.unsqueeze(0))
    return fitted
