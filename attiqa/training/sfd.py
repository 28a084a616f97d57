"""Training SFD-IQA's scorer against a super-resolution network (Dong et al., CVPR 2025, arXiv 2503.19295).

The abstract says who plays: a super-resolution network on one side; on the other a discriminator of CLIP's
middle features (Feat-D) and a learnt pair of prompts on its output (LPP), both telling its images from
photographs. Networks, losses' form and weights, the factor of 4 and the schedule are inferred, our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from attiqa.clip.clipiqa import BAD, GOOD
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.labels import antonym_differences
from attiqa.clip.learned_prompts import LearnedPrompts
from attiqa.clip.sfd import SfdNetwork
from attiqa.losses import finite
from attiqa.progress import progress_bar
from attiqa.threads import thread_pool
from attiqa.training.crop_pairs import Photographs, overlapping_crops
from attiqa.training.distorted import LabelledBatch
from attiqa.training.loop import BatchSource, StateClock, cosine_rate, upcoming
from attiqa.training.state import load_state, save_state
from attiqa.training.store import Entry
from attiqa.views import resize

FACTOR = 4  # of super-resolution
ADVERSARIAL_WEIGHT = 0.05  # of either critic, beside the pixels' mean absolute error


class CropBatches:
    """Random crops of photographs at their own resolution; batch `step` depends on seed and step alone."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        batch: int = 16,
        side: int = 224,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        self.photographs = Photographs(entries)
        self.batch, self.side, self.seed = batch, side, seed
        self.pool = thread_pool(workers)

    def __call__(self, step: int) -> LabelledBatch:
        """Images ``(batch, 3, side, side)``, without labels ``(batch, 0)``."""
        images = torch.stack(list(self.pool.map(self._crop, [step] * self.batch, range(self.batch))))
        return LabelledBatch(images, torch.empty(self.batch, 0))

    def _crop(self, step: int, place: int) -> torch.Tensor:
        number = (self.seed * 1_000_003 + step) * 1_000_003 + place
        generator = torch.Generator().manual_seed(number)
        first = int(torch.randint(len(self.photographs), (1,), generator=generator))
        return overlapping_crops(self.photographs.read(first), self.side, generator)[0]


class SuperResolver(nn.Module):
    """Residual blocks and pixel shuffling onto a bilinear enlargement: ``(B, 3, h, w)`` to 4 times the size.

    Batch norms are left out, as in EDSR (Lim et al., CVPRW 2017).
    """

    def __init__(self, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(nn.Conv2d(width, 3 * FACTOR**2, 3, padding=1), nn.PixelShuffle(FACTOR))

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        """Display sRGB in, display sRGB in [0, 1] out."""
        features = self.first(small)
        for block in self.blocks:
            features = features + block(features)
        height, width = small.shape[-2:]
        return (resize(small, FACTOR * height, FACTOR * width) + self.last(features)).clamp(0, 1)


class PromptPair(nn.Module):
    """LPP: a good and a bad sentence, each with learnt words of its own before CLIP-IQA's (our choice)."""

    def __init__(self, encoder: ClipEncoder, length: int) -> None:
        super().__init__()
        self.good = LearnedPrompts(encoder, length, (GOOD, BAD))
        self.bad = LearnedPrompts(encoder, length, (GOOD, BAD))

    def forward(self) -> torch.Tensor:
        """Unit vectors ``(2, D)``, the good side first."""
        return torch.stack([self.good()[0], self.bad()[1]])


def train_against_super_resolution(
    network: SfdNetwork,
    prompts: PromptPair,
    resolver: SuperResolver,
    batches: BatchSource,
    steps: int,
    *,
    learning_rate: float = 1e-4,
    warmup: int = 50,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    state_every: int = 200,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train the critics of `network` and the resolver in turns; at the end the pair goes into `network`.

    Args:
        network: as `build_sfd` returns it; its discriminator learns, CLIP stays as it is.
        prompts, resolver: the other players, trained in place.
        batches: photographs, ``(B, 3, side, side)``, with a side that is a multiple of 4.
        steps: each is one step of the critics and one of the resolver.
        learning_rate, warmup: of Adam's and the cosine's, both sides alike.
        device: where all of them run.
        state: file that holds the run; found at the start, it is continued.
        state_every: steps between writes of `state`.
        report: called with (steps made, critics' loss) after every step.

    Returns:
        The critics' loss of every step made by this call; ``2 log 2`` is a draw.
    """
    network.eval().requires_grad_(False).to(device)
    players = nn.ModuleDict(
        {"discriminator": network.backbone.discriminator, "prompts": prompts, "resolver": resolver}
    ).to(device)
    critics = [*players["discriminator"].parameters(), *players["prompts"].parameters()]
    maker = list(resolver.parameters())
    optimizer = torch.optim.AdamW([*critics, *maker], lr=learning_rate, betas=(0.5, 0.9), weight_decay=0.0)
    first = load_state(state, players, optimizer) if state and state.exists() else 0
    losses: list[float] = []
    clock = StateClock(steps, state_every)
    bar = progress_bar(
        upcoming(batches, first, steps, device), total=steps, initial=first, desc="pretraining", unit="step"
    )
    for step, batch in enumerate(bar, start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * cosine_rate(step, steps, warmup)
        photographs = batch.images.to(device)
        height, width = photographs.shape[-2:]
        made = resolver(resize(photographs, height // FACTOR, width // FACTOR))

        _only(critics, maker)
        loss = _verdict(network, prompts, photographs, 1.0) + _verdict(network, prompts, made.detach(), 0.0)
        _step(optimizer, loss)

        _only(maker, critics)
        pixels = F.l1_loss(made, photographs)
        _step(optimizer, pixels + ADVERSARIAL_WEIGHT * _verdict(network, prompts, made, 1.0))

        losses.append(finite(loss, step) / 2)
        bar.set_postfix(critics=f"{losses[-1]:.3f}", pixels=f"{float(pixels.detach()):.3f}", refresh=False)
        if state and clock.due(step + 1):
            save_state(state, players, optimizer, step + 1)
        if report:
            report(step + 1, losses[-1])
    with torch.no_grad():
        network.prompt_pair.copy_(prompts())
    players.requires_grad_(False)
    return losses


def _verdict(network: SfdNetwork, prompts: PromptPair, images: torch.Tensor, truth: float) -> torch.Tensor:
    """Cross-entropy of both critics with `truth`, 1 for photographs: of each position, and of each image."""
    logits, vectors = network.backbone.parts(images)
    positive, negative = prompts()[:, None]
    share = network.logit_scale * antonym_differences(vectors, positive, negative)[:, 0]
    by_features = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))
    return by_features + F.binary_cross_entropy_with_logits(share, torch.full_like(share, truth))


def _only(learning: Sequence[nn.Parameter], resting: Sequence[nn.Parameter]) -> None:
    """Let one side learn; the optimiser passes over parameters that have no gradient."""
    for parameter in learning:
        parameter.requires_grad_(True)
    for parameter in resting:
        parameter.requires_grad_(False)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
