"""QualiCLIP (Agnolucci, Galteri and Bertini, arXiv 2403.11176): CLIP's image encoder learns what degrades.

What its abstract, its method figure and its released scorer say is built as they say it: pairs of overlapping
crops under L growing degradations, three margin ranking losses on their similarity to antonym prompts, frozen
texts, no positional embedding, quality as the mean share over the prompt pairs. Margins, the averaging of the
terms, the list of degradations and the schedule are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from attiqa.clip.prompted import PromptedNetwork
from attiqa.distortions import DISTORTIONS
from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.nn.network import QualityNetwork
from attiqa.ranks import spearman_matrix
from attiqa.training.distorted import LabelledBatch
from attiqa.training.loop import BatchSource, train
from attiqa.training.processes import Processes
from attiqa.training.store import Entry
from attiqa.views import whole

# antonym pairs of the authors' released scorer
PAIRS = (
    ("Good photo.", "Bad photo."),
    ("Good picture.", "Bad picture."),
    ("High-quality image.", "Low-quality image."),
    ("High-resolution image.", "Low-resolution image."),
    ("Sharp image.", "Blurry image."),
    ("Sharp edges.", "Blurry edges."),
    ("Noise-free image.", "Noisy image."),
)
CONSISTENCY_MARGIN = 0.0025  # our choice
RANK_MARGIN = 0.0675  # our choice


def crop_pair_loss(
    similarities: torch.Tensor,
    consistency_margin: float = CONSISTENCY_MARGIN,
    rank_margin: float = RANK_MARGIN,
) -> torch.Tensor:
    """``L_cons + L_pos + L_neg``: the three margin losses of QualiCLIP, each a mean over its terms.

    ``L_cons``: both crops of a level are about as similar to a prompt. ``L_pos``: a crop is more similar to
    the good prompt than the same crop at every stronger level. ``L_neg``: and less similar to the bad one.
    Ranking within each crop and over all pairs of levels, with one margin, is our choice.

    Args:
        similarities: ``(S, L, 2, P, 2)``: scenes, levels from mild to strong, crops, pairs, good and bad.
        consistency_margin: difference between crops that costs nothing.
        rank_margin: by how much the milder level must lead.
    """
    apart = (similarities[:, :, 0] - similarities[:, :, 1]).abs()
    consistency = (apart - consistency_margin).clamp(min=0).mean()
    mild, strong = torch.triu_indices(similarities.shape[1], similarities.shape[1], offset=1)
    lead = similarities[:, mild] - similarities[:, strong]  # (S, pairs, 2, P, 2)
    positive = (rank_margin - lead[..., 0]).clamp(min=0).mean()
    negative = (rank_margin + lead[..., 1]).clamp(min=0).mean()
    return consistency + positive + negative


def fine_tune(
    network: PromptedNetwork,
    batches: BatchSource,
    steps: int,
    *,
    levels: int,
    learning_rate: float = 1e-6,
    weight_decay: float = 0.01,
    warmup: int = 50,
    precision: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    state_every: int = 200,
    report: Callable[[int, float], None] | None = None,
    processes: Processes | None = None,
) -> list[float]:
    """Train the image tower in place; prompts, and batch norms' statistics (our choice), stay.

    Args:
        network: as `build_prompted` returns it, already on `device`.
        batches: as `CropPairBatches` gives them.
        steps: number of optimiser steps (AdamW with a cosine: our choice).
        levels: of the batches.
        learning_rate, weight_decay, warmup: of AdamW and its schedule; our choice.
        precision: ``torch.bfloat16`` for autocast.
        device, state, state_every, report, processes: see `attiqa.training.loop.train`.

    Returns:
        The loss of every step made by this call.
    """
    device = torch.device(device)
    together = processes or Processes()
    # no dropout and fixed batch statistics: what trains is the function that will score
    network.eval().to(device)
    learning = [
        value.requires_grad_()
        for name, value in network.backbone.named_parameters()
        if not name.endswith("positional_embedding")
    ]

    def objective(images: torch.Tensor, _: LabelledBatch) -> torch.Tensor:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            features = network.backbone(images)
        found = together.gathered(network.similarities(features.float()))
        return crop_pair_loss(found.view(-1, levels, 2, *found.shape[1:]))

    losses = train(
        network,
        learning,
        batches,
        objective,
        steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup=warmup,
        device=device,
        state=state,
        state_every=state_every,
        report=report,
        processes=together,
    )
    network.requires_grad_(False)
    return losses


def level_agreement(
    network: QualityNetwork, entries: Sequence[Entry], steps: int = 6, most: int = 24
) -> dict[str, float]:
    """Mean per-image SROCC of the score with the level of each distortion, from its worst end to none.

    Args:
        network: on the CPU.
        entries: held-out photographs; the first `most` are looked at, at the whole view.
        steps: levels from -1 to 0.
        most: photographs.
    """
    levels = torch.linspace(-1, 0, steps)
    total = dict.fromkeys(DISTORTIONS, 0.0)
    count = 0
    for number, entry in enumerate(entries[:most]):
        try:
            image = whole(to_float(entry.read()).unsqueeze(0))
        except (InputError, OSError):
            continue
        count += 1
        versions = image.expand(steps, -1, -1, -1)
        for name, distortion in DISTORTIONS.items():
            generator = torch.Generator().manual_seed(number)
            with torch.inference_mode():
                quality = network(distortion(versions, levels, generator))[1]
            # a score that never moves follows nothing
            total[name] += float(np.nan_to_num(spearman_matrix(quality.numpy(), levels)))
    return {name: round(value / count, 4) for name, value in total.items()} if count else {}
