"""The score before any human rating: a photograph above its versions, each error told from its layers alone.

Pretraining ranks strong and mixed distortions of crops. What a camera gets wrong is milder, comes alone, and
is seen at the whole view: half a stop, a slight cast. The backbone stays as it is, its layers are computed
once, and the MLP of the score learns the order of such versions in seconds. All of it is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from attiqa.distortions import DISTORTIONS, distort
from attiqa.nn.network import AttributeNetwork, Regressor
from attiqa.progress import progress_bar
from attiqa.training.distorted import random_levels, severity_order
from attiqa.training.photographs import PhotographPool, random_window
from attiqa.views import whole

SINGLES = 2  # versions with one distortion alone, for each end of its range
MIXTURES = 14  # versions with several
MILDEST, STRONGEST = 0.1, 0.6  # of the levels of a distortion that comes alone
NEAREST = 0.1  # versions that differ by less than this sum of levels have no order


@dataclass(frozen=True)
class Graded:
    """Versions of photographs behind a frozen network.

    Attributes:
        hidden: ``(S, V, D)``, the concatenated hidden layers of V versions of S photographs; the first
            version is the photograph itself.
        levels: ``(S, V, K)``, signed, in the order of `attiqa.distortions.DISTORTIONS`.
    """

    hidden: torch.Tensor
    levels: torch.Tensor

    def alone(self) -> list[torch.Tensor]:
        """For each end of each distortion's range, the boolean ``(S, V)`` of versions that have it alone."""
        single = (self.levels != 0).sum(-1) == 1
        ends = [(k, sign) for k in range(self.levels.shape[-1]) for sign in (-1, 1)]
        masks = [single & (self.levels[..., k].sign() == sign) for k, sign in ends]
        return [mask for mask in masks if mask.any()]


def graded_layers(network: AttributeNetwork, photographs: PhotographPool, seed: int) -> Graded:
    """Show the frozen network graded versions of each photograph, at the whole view of a random window."""
    generator = torch.Generator().manual_seed(seed)
    hidden, levels = [], []
    for index in progress_bar(range(len(photographs)), "layers of graded photographs", unit="photo"):
        image = whole(random_window(photographs.image(index), generator))
        drawn = graded_levels(generator)
        columns = {name: drawn[:, k] for k, name in enumerate(DISTORTIONS)}
        versions = distort(image.repeat(len(drawn), 1, 1, 1), columns, generator)
        hidden.append(network.hidden(versions).clone())
        levels.append(drawn)
    return Graded(torch.stack(hidden), torch.stack(levels))


def graded_levels(generator: torch.Generator) -> torch.Tensor:
    """Levels ``(V, K)`` of the versions of one photograph: itself, one distortion at a time, mixtures."""
    K = len(DISTORTIONS)
    rows = [torch.zeros(K)]
    for k, distortion in enumerate(DISTORTIONS.values()):
        for sign in (-1.0, 1.0) if distortion.two_sided else (-1.0,):
            for draw in torch.rand(SINGLES, generator=generator).tolist():
                row = torch.zeros(K)
                row[k] = sign * (MILDEST + (STRONGEST - MILDEST) * draw)
                rows.append(row)
    mixtures = random_levels(MIXTURES, generator)
    mixtures = mixtures * (torch.rand(mixtures.shape, generator=generator) < 0.4)
    return torch.cat([torch.stack(rows), mixtures])


def train_order(
    regressor: Regressor,
    graded: Graded,
    *,
    epochs: int = 20,
    photographs: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Train the regressor's MLP from scratch, in place, to put the milder of two versions above the other.

    Pairs of one photograph whose order is certain (`severity_order`) enter a logistic loss; AdamW, cosine,
    weight decay 1 and a fifth of the inputs dropped, because the layers of one photograph in 45 versions are
    easily learnt by heart.

    Args:
        regressor: its MLP is replaced, its linear path is not looked at.
        graded: layers of training photographs.
        epochs: passes over the photographs.
        photographs: in a batch, each with all of its versions.
        learning_rate: its peak.
        seed: of initial weights, order and dropout.
    """
    mean, std = graded.hidden.flatten(0, 1).mean(0), graded.hidden.flatten(0, 1).std(0) + 1e-3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in regressor.mlp:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
        mlp = regressor.mlp.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(mlp.parameters(), lr=learning_rate, weight_decay=1.0)
        batches = epochs * len(graded.hidden) // photographs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(batches, 1))
        better = torch.stack([_order(levels) for levels in graded.levels])
        for _ in range(batches):
            chosen = torch.randperm(len(graded.hidden))[:photographs]
            layers = F.dropout((graded.hidden[chosen] - mean) / std, 0.2)
            scores = mlp(layers).squeeze(-1)
            gaps = scores.unsqueeze(2) - scores.unsqueeze(1)
            loss = F.softplus(-3.0 * gaps[better[chosen]]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    regressor.requires_grad_(False).eval()
    _absorb_standardisation(regressor, mean, std)


def _order(levels: torch.Tensor) -> torch.Tensor:
    """Boolean ``(V, V)``: the row's version is better than the column's."""
    return severity_order(levels, torch.zeros(len(levels)), NEAREST) > 0


def _absorb_standardisation(regressor: Regressor, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Make the MLP, trained on standardised layers, take them as they are."""
    weight, bias = regressor.mlp.get_parameter("0.weight"), regressor.mlp.get_parameter("0.bias")
    weight.div_(std)
    bias.sub_(weight @ mean)
