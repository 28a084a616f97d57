"""Fine-tuning to MOS (section 3.5): short side 340, random 320 crops, five crops at test."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.losses import finite
from attiqa.nn.backbones import freeze_normalisation
from attiqa.nn.network import AttributeNetwork
from attiqa.progress import progress_bar
from attiqa.scoring import read_ahead
from attiqa.training.loop import cosine_rate
from attiqa.training.pixels import stored_pixels
from attiqa.training.state import load_state, save_state
from attiqa.views import CROP_SIDE, SHORT_SIDE, five_crops, short_side


class RatedImages:
    """Rated photographs, uint8 at a short side of 340: decoded and resized once for all epochs."""

    def __init__(
        self,
        paths: Sequence[Path],
        mos: NDArray[np.float64],
        side: int = SHORT_SIDE,
        folder: Path | None = None,
    ) -> None:
        """Read `paths`; what cannot be read is left out and kept in `failures`.

        Args:
            paths: image files.
            mos: ``(N,)`` in [0, 1].
            side: length of the short side.
            folder: where the pixels are kept in a file (`attiqa.training.pixels`), for sets that are larger
                than memory: FLIVE takes 18 GB. None keeps them in memory.
        """
        self.images: list[torch.Tensor] = []
        self.failures: list[tuple[Path, str]] = []
        self.rows: list[int] = []

        def reduced(path: Path) -> torch.Tensor:
            image = short_side(to_float(read_image(path)).unsqueeze(0), side)[0]
            return (image * 255).round().clamp(0, 255).to(torch.uint8)

        def decoded() -> Iterator[torch.Tensor | InputError]:
            workers = os.cpu_count() or 1
            images = read_ahead(paths, reduced, workers, 4 * workers)
            for _, image in progress_bar(images, total=len(paths), desc="decoding", unit="image"):
                yield image

        found = decoded() if folder is None else stored_pixels(folder, paths, side, decoded)
        for row, (path, image) in enumerate(zip(paths, found, strict=True)):
            if isinstance(image, InputError):
                self.failures.append((path, str(image)))
                continue
            self.images.append(image)
            self.rows.append(row)
        if not self.images:
            raise InputError(f"none of {len(paths)} rated images could be read; {self.failures[0][1]}")
        self.mos = torch.from_numpy(np.asarray(mos)[self.rows]).float()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: NDArray[np.int64]) -> RatedImages:
        """Some of the images, by position; the pixels are shared."""
        chosen = copy.copy(self)
        chosen.images = [self.images[row] for row in rows.tolist()]
        chosen.rows = [self.rows[row] for row in rows.tolist()]
        chosen.mos = self.mos[torch.from_numpy(rows)]
        return chosen

    def random_crops(self, rows: Sequence[int], side: int, generator: torch.Generator) -> torch.Tensor:
        """One random `side` crop of each image, mirrored half the time: ``(B, 3, side, side)`` in [0, 1]."""
        crops = []
        for row in rows:
            image = self.images[row]
            top, left, mirror = torch.rand(3, generator=generator).tolist()
            y, x = (int(part * (n - side + 1)) for part, n in zip((top, left), image.shape[1:], strict=True))
            crop = image[:, y : y + side, x : x + side]
            crops.append(crop.flip(2) if mirror < 0.5 else crop)
        return to_float(torch.stack(crops))

    def five_crop_scores(self, network: AttributeNetwork, side: int = CROP_SIDE) -> NDArray[np.float64]:
        """The score of every image, averaged over five crops, ``(N,)``; the paper's test protocol."""
        device = next(network.parameters()).device
        scores = []
        with torch.inference_mode():
            for image in self.images:
                crops = five_crops(to_float(image).unsqueeze(0).to(device), side)[0]
                scores.append(float(network(crops.contiguous(memory_format=torch.channels_last))[1].mean()))
        return np.array(scores)


def finetune(
    network: AttributeNetwork,
    images: RatedImages,
    *,
    epochs: int = 100,
    batch: int = 16,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    frozen_backbone: bool = False,
    side: int = CROP_SIDE,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    state: Path | None = None,
    after_epoch: Callable[[int], None] | None = None,
) -> list[float]:
    """Fit `network` to ratings in place: the regressor and, unless frozen, everything below it.

    The heads' last layers are not used by the score (section 3.5) and stay as they are. AdamW, cosine
    schedule by step, squared error on MOS in [0, 1], batch norms' statistics fixed: our choice.

    Args:
        network: pretrained, on its device.
        images: the training side.
        epochs, batch, learning_rate, weight_decay: as usual.
        frozen_backbone: linear probing (Table 6): only the regressor learns.
        side: of the random crops.
        seed: of order and crops; each epoch has its own generator, so a resumed run goes on exactly.
        precision: ``torch.bfloat16`` for autocast.
        state: file that holds the run, written after each epoch; found at the start, it is continued.
        after_epoch: called with the number of epochs made.

    Returns:
        The mean loss of each epoch made by this call.
    """
    if epochs < 1 or batch < 1:
        raise InputError(f"expected epochs and batch of 1 or more; got {epochs} and {batch}.")
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)
    learning = list((network.regressor if frozen_backbone else network).parameters())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=weight_decay)
    per_epoch = -(-len(images) // batch)
    first = load_state(state, network, optimizer) // per_epoch if state and state.exists() else 0
    losses = []
    upcoming = range(first, epochs)
    for epoch in progress_bar(upcoming, "fine-tuning", initial=first, total=epochs, unit="epoch"):
        network.train()
        freeze_normalisation(network)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for index, rows in enumerate(order.split(batch)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * cosine_rate(epoch * per_epoch + index, epochs * per_epoch, 1)
            crops = images.random_crops(rows.tolist(), side, generator).to(device)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                _, quality = network(crops.contiguous(memory_format=torch.channels_last))
            loss = F.mse_loss(quality.float(), images.mos[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += finite(loss, epoch * per_epoch + index) * len(rows)
        losses.append(total / len(images))
        network.eval()
        if after_epoch:  # before the state: a run that is killed in here looks at this epoch again
            after_epoch(epoch + 1)
        if state:
            save_state(state, network, optimizer, (epoch + 1) * per_epoch)
    network.eval()
    return losses
