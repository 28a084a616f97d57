"""What a judge's card adds to `attiqa.training.card`: agreement with its labels, independence, cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from attiqa.distortions import DISTORTIONS
from attiqa.images import to_float
from attiqa.metrics import srocc
from attiqa.nn.network import AttributeNetwork
from attiqa.training.agreement import Assess, graded
from attiqa.training.scene_statistics import RatedVersions, consensus_order

CHANCE = 0.5


def label_agreement(
    network: AttributeNetwork, rated: RatedVersions, measures: Sequence[str], ranks: torch.Tensor
) -> dict[str, Any]:
    """How the score follows scene statistics on photographs that took no part in training.

    Args:
        network: trained.
        rated: versions of held-out photographs.
        measures: names of the statistics.
        ranks: ``(P, V, M)``, see `RatedVersions.ranks`.

    Returns:
        SROCC with each measure and with their mean rank, and the share of agreed pairs that the score orders
        alike, within a photograph and across photographs.
    """
    scores = version_scores(network, rated)
    known = ~ranks.isnan().any(-1)
    mean = ranks.mean(-1)
    result: dict[str, Any] = {
        f"srocc_{name}": round(srocc(scores[known].numpy(), ranks[known][:, k].numpy()), 4)
        for k, name in enumerate(measures)
    }
    result["srocc_mean_rank"] = round(srocc(scores[known].numpy(), mean[known].numpy()), 4)
    photograph = torch.arange(len(scores)).repeat_interleave(scores.shape[1])
    beats = consensus_order(ranks.flatten(0, 1)) > 0
    agreed = scores.flatten().unsqueeze(1) > scores.flatten().unsqueeze(0)
    same = photograph.unsqueeze(1) == photograph.unsqueeze(0)
    for where, pairs in (("within_a_photograph", beats & same), ("across_photographs", beats & ~same)):
        result[f"pairs_{where}"] = int(pairs.sum())
        result[f"accuracy_{where}"] = round(float(agreed[pairs].float().mean()), 4)
    return result


def version_scores(network: AttributeNetwork, rated: RatedVersions) -> torch.Tensor:
    """The network's scores of all versions, ``(P, V)``."""
    with torch.inference_mode():
        scores = [network(to_float(versions))[1] for versions in rated.images]
    return torch.stack(scores).float().clone()


def scale_score(network: AttributeNetwork, rated: RatedVersions, ranks: torch.Tensor) -> None:
    """Bring the score, in place, to the scale of mean ranks: about 0 (bad) to 1 (excellent), order unchanged.

    Raises:
        RuntimeError: the score does not rise with the ranks; training has failed.
    """
    scores, mean = version_scores(network, rated).flatten(), ranks.mean(-1).flatten()
    known = ~mean.isnan()
    scores, mean = scores[known].double(), mean[known].double()
    slope = float(
        ((scores - scores.mean()) * (mean - mean.mean())).sum() / (scores - scores.mean()).square().sum()
    )
    if not slope > 0:
        raise RuntimeError(f"the score falls as its labels rise (slope {slope:.3g}); nothing was learnt.")
    offset = float(mean.mean() - slope * scores.mean())
    with torch.no_grad():
        network.regressor.mlp.get_parameter("2.weight").mul_(slope)
        network.regressor.mlp.get_parameter("2.bias").mul_(slope).add_(offset)


def independence(
    assess: Assess,
    other: Assess,
    sets: Mapping[str, Sequence[torch.Tensor]],
    graded_on: Sequence[torch.Tensor],
) -> dict[str, Any]:
    """How far two models say the same.

    Args:
        assess: one of them.
        other: the other.
        sets: by name: images ``(3, H, W)`` that both score.
        graded_on: photographs that are distorted; along each distortion both scores make a curve.

    Returns:
        SROCC of the two scores over each set, and the mean SROCC of the curves.
    """
    found: dict[str, Any] = {}
    for name, images in sets.items():
        ours, theirs = (
            torch.cat([model(i.unsqueeze(0))[0] for i in images]).cpu() for model in (assess, other)
        )
        found[name] = round(srocc(ours.numpy(), theirs.numpy()), 4)
    curves = {}
    for name in DISTORTIONS:
        values = []
        for index, photograph in enumerate(graded_on):
            versions = graded(photograph, name, 11, seed=index)[0]
            values.append(srocc(assess(versions)[0].cpu().numpy(), other(versions)[0].cpu().numpy()))
        curves[name] = round(sum(values) / len(values), 4)
    return {"srocc_over_images": found, "mean_srocc_along_a_distortion_of_kodak24": curves}


def relative_cost(assess: Assess, other: Assess, images: torch.Tensor, repeats: int = 5) -> float:
    """CPU time of one model's pass over ``(B, 3, H, W)`` as a share of the other's, the best of `repeats`."""

    def seconds(model: Assess) -> float:
        times = []
        for _ in range(repeats):
            start = time.process_time()
            model(images)
            times.append(time.process_time() - start)
        return min(times)

    seconds(assess), seconds(other)  # the first passes allocate
    return round(seconds(assess) / seconds(other), 3)


def weaknesses(table: Mapping[str, Any], preferred: Mapping[str, Mapping[str, float]], own: str) -> list[str]:
    """A sentence for each thing that the model `own` does no better than chance.

    Args:
        table: of `attiqa.training.card.zero_shot_table`.
        preferred: of `attiqa.training.agreement.pristine_preference`.
        own: the beginning of the model's rows in `table`.
    """
    found = []
    for name, part in table.items():
        for row, values in part["rows"].items():
            low, high = values["srocc_ci95"]
            if row.startswith(own) and low <= 0:
                worse = "worse than chance" if high < 0 else "no better than chance, by its interval"
                found.append(
                    f"{name}, {row}: SROCC {values['srocc']:+.2f} [{low:+.2f}, {high:+.2f}], {worse}"
                )
    for end, rates in preferred.items():
        for strength, rate in rates.items():
            if rate <= CHANCE:
                found.append(f"kodak24: only {rate:.0%} of photographs score above their {end} at {strength}")
    return found
