"""CLIP-IQA+ (Wang, Chan and Loy, AAAI 2023, arXiv 2207.12396): CLIP-IQA with words learned from human scores.

The words in front of "Good photo." and "Bad photo." are free vectors (CoOp, Zhou et al., IJCV 2022). CLIP
stays frozen: image embeddings are computed once, and a step is two sentences through the text tower.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.clipiqa import BAD, GOOD
from attiqa.clip.embedding import ClipEncoder
from attiqa.clip.folder import Embedded, Pending
from attiqa.clip.labels import antonym_differences
from attiqa.clip.prompted import PromptedTower
from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest
from attiqa.images import read_image, to_float
from attiqa.losses import finite
from attiqa.nn.backbones import pad_to_minimum
from attiqa.progress import progress_bar
from attiqa.scoring import read_ahead
from attiqa.views import look


class LearnedPrompts(nn.Module):
    """CoOp: context vectors in front of the class words, one context for both classes.

    Attributes:
        context: ``(M, W)``, the learned words in the text tower's embedding space.
    """

    def __init__(
        self, encoder: ClipEncoder, length: int = 16, classes: tuple[str, str] = (GOOD, BAD)
    ) -> None:
        """Start from small random words, as CoOp does; `length` 16 is CLIP-IQA+'s."""
        super().__init__()
        text = encoder.model
        if not hasattr(text, "token_embedding"):
            raise InputError("learned prompts need a CLIP with its own text tower, not a wrapped one.")
        room = text.context_length - int(encoder.tokenize(classes).count_nonzero(dim=1).max())
        if not 1 <= length <= room:
            raise InputError(f"a context of {length} words does not fit this model; it takes 1 to {room}.")
        self._clip: list[Any] = [text]  # in a list: the frozen CLIP is no part of this module's state
        self.tokens = encoder.tokenize([" ".join(["X"] * length + [name]) for name in classes])
        width = text.token_embedding.weight.shape[1]
        self.context = nn.Parameter(0.02 * torch.randn(length, width, device=encoder.device))

    def forward(self) -> torch.Tensor:
        """Embed the two prompts: unit vectors ``(2, D)``, positive first."""
        text = self._clip[0]
        words = text.token_embedding(self.tokens)  # (2, T, W)
        length = len(self.context)
        words = torch.cat([words[:, :1], self.context.expand(2, -1, -1), words[:, 1 + length :]], dim=1)
        x = text.transformer(words + text.positional_embedding, attn_mask=text.attn_mask)
        ends = text.ln_final(x)[torch.arange(2, device=x.device), self.tokens.argmax(dim=1)]
        return F.normalize(ends @ text.text_projection, dim=-1)


def fit_prompts(
    encoder: ClipEncoder,
    embeddings: torch.Tensor,
    opinions: torch.Tensor,
    *,
    length: int = 16,
    classes: tuple[str, str] = (GOOD, BAD),
    steps: int = 2000,
    batch: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> LearnedPrompts:
    """Train CLIP-IQA+: the prompts whose score is nearest to the human scores, in squared error.

    Args:
        encoder: the frozen CLIP.
        embeddings: `ClipIqa.embed` of the rated images, ``(N, D)``; computed once, for CLIP does not change.
        opinions: ``(N,)`` human scores mapped to [0, 1].
        length: learned words.
        classes: the sentences behind them, the good one first.
        steps, batch, learning_rate: of AdamW with a cosine; our choice (the paper uses SGD at 2e-3).
        seed: of the initial words and the batches.
    """
    if len(embeddings) != len(opinions) or not len(opinions):
        raise InputError(
            f"{len(embeddings)} embeddings and {len(opinions)} scores: expected one score an image."
        )
    if not (opinions >= 0).all() or not (opinions <= 1).all():
        raise InputError("human scores must be mapped to [0, 1] before prompts are fitted to them.")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prompts = LearnedPrompts(encoder, length, classes)
    embeddings, opinions = embeddings.to(encoder.device).float().clone(), opinions.to(encoder.device).float()
    optimizer = torch.optim.AdamW(prompts.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in progress_bar(range(steps), desc="learning words", unit="step"):
        rows = torch.randint(len(opinions), (min(batch, len(opinions)),), generator=generator)
        positive, negative = prompts()[:, None]
        difference = antonym_differences(embeddings[rows], positive, negative)[:, 0]
        loss = F.mse_loss(torch.sigmoid(encoder.logit_scale * difference), opinions[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        finite(loss, step)
    return prompts.requires_grad_(False)


def embed_views(
    tower: PromptedTower,
    cache: EmbeddingCache,
    paths: Sequence[Path],
    view: str,
    *,
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Embedded:
    """Bring the crops of image files into `cache`: one row an image, the crops' unit vectors in a line.

    Every minute what was embedded is on disk; what the cache has is not embedded again.

    Args:
        tower: on `device`.
        cache: made for this tower and view; its ``dim`` is that of all crops together.
        paths: image files.
        view: as `attiqa.views.look`.
        device: where the tower runs.
        workers: threads that decode; ``None`` takes one for each processor.

    Raises:
        InputError: none of the files could be read.
    """
    result, pending = Embedded(), Pending(cache)
    workers = workers or os.cpu_count() or 1

    def prepared(path: Path) -> tuple[bytes, torch.Tensor | None]:
        digest = bytes.fromhex(file_digest(path))
        if digest in pending.known:
            return digest, None
        return digest, look(to_float(read_image(path))[None], view)[0]

    overlap = torch.device(device).type != "cpu"
    images = read_ahead(paths, prepared, workers, 4 * workers, overlap=overlap)
    try:
        for path, image in progress_bar(images, total=len(paths), desc="embedding", unit="image"):
            if isinstance(image, InputError):
                result.failures.append((path, str(image)))
                continue
            digest, crops = image
            result.digests[path] = digest.hex()
            if crops is not None and digest not in pending.known:
                with torch.inference_mode():
                    vectors = tower(pad_to_minimum(crops).to(device)).cpu()
                pending.add([digest], vectors.flatten()[None])
                result.new += 1
    finally:  # also on Ctrl-C: what is embedded is kept
        pending.flush()
    if not result.digests:
        raise InputError(f"none of {len(paths)} rated images could be read; {result.failures[0][1]}")
    return result


def crop_scores(vectors: torch.Tensor, pair: torch.Tensor, logit_scale: float) -> torch.Tensor:
    """Mean share of the good side over the crops ``(N, V, D)``, for `pair` ``(2, D)``: ``(N,)`` in [0, 1]."""
    positive, negative = pair[:, None]
    difference = antonym_differences(vectors.flatten(0, 1), positive, negative)[:, 0]
    return torch.sigmoid(logit_scale * difference).view(vectors.shape[:2]).mean(dim=1)


def save_prompts(path: Path, prompts: LearnedPrompts, encoder: ClipEncoder) -> None:
    """Write the learned words as safetensors, with the digest of the CLIP that they belong to."""
    with atomic_path(path) as temporary:
        save_file(
            {"context": prompts.context.detach().cpu()}, temporary, {"clip": encoder.identity["digest"]}
        )


def load_prompts(path: Path, encoder: ClipEncoder) -> LearnedPrompts:
    """Read learned words back; they are refused under another CLIP than they were learned with."""
    try:
        with safe_open(path, framework="pt") as file:
            context, made_with = file.get_tensor("context"), (file.metadata() or {}).get("clip")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} does not hold learned prompts ({error}).") from None
    if made_with != encoder.identity["digest"]:
        raise InputError(f"{path} was learned with another CLIP (digest {made_with}); load that one.")
    prompts = LearnedPrompts(encoder, len(context)).requires_grad_(False)
    prompts.context.copy_(context)
    return prompts
