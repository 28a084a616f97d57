"""How fast files are scored: against the network's bare forward on the same images in memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import attiqa
from attiqa.errors import InputError
from attiqa.images import list_images, read_image, to_float
from attiqa.model import QualityModel
from attiqa.options import option
from attiqa.scoring import score_files
from attiqa.views import VIEWS, look
from benchmarks.speed_options import Findings, SpeedOptions, Subject
from benchmarks.timing import figures_beside
from isp_env.embedded import embedded_photographs

# width and height of the JPEGs that are written where no --images are given: a usual size of photographs
# on the web, on which decoding weighs as much as it does there
_WRITTEN_SIZE = (500, 375)
_WRITTEN, _QUICK = 48, 12


@dataclass(frozen=True, kw_only=True)
class ScoreSpeedOptions(SpeedOptions):
    """Flags of ``speed.py score``."""

    images: list[Path] = option([], help="image files and folders (default: embedded photographs as JPEG)")
    model: str = option("attiqa-mini", help="bundled name, file or hub id")
    view: str = option("whole", help="what the model sees of an image", choices=VIEWS)
    batch: int = option(16, help="images in one forward pass")
    workers: int = option(2, help="threads that decode")


def measure(options: ScoreSpeedOptions, device: str) -> Findings:
    """Files against the bare forward, a batch in memory against it, and decoding against Pillow's own."""
    model = attiqa.load(options.model, device=device)
    with image_files(options.images, _QUICK if options.quick else _WRITTEN) as paths:
        batches = _bare_batches(model, paths, options)
        images = [to_float(read_image(path))[None] for path in paths]
        shared: dict[str, Any] = {"unit": "images", "items": len(paths), "repeats": options.repeats}
        view, batch, workers = options.view, options.batch, options.workers
        runs = {
            f"score files, view {view}": lambda: list(
                score_files(model, paths, crops=view, batch=batch, workers=workers)
            ),
            "score images in memory, one by one": lambda: [model.score(image, view) for image in images],
        }
        decoding = {
            "decode and cut, one thread": lambda: [look(to_float(read_image(p))[None], view) for p in paths]
        }
        figures = [
            *figures_beside(runs, "bare forward", lambda: _forward(model, batches), device=device, **shared),
            *figures_beside(decoding, "Pillow's decoding", lambda: [_decode(p) for p in paths], **shared),
        ]
    return Findings(figures, [f"{len(paths)} files, {options.batch} a batch, {options.workers} decoders."])


@contextlib.contextmanager
def image_files(given: list[Path], most: int) -> Iterator[list[Path]]:
    """The images that were named, or `most` JPEGs of embedded photographs, which go afterwards."""
    if given:
        yield list_images(given)
        return
    photographs = list(embedded_photographs().values())
    with tempfile.TemporaryDirectory(prefix="attiqa-speed-") as folder:
        paths = []
        for number in range(most):
            with Image.open(photographs[number % len(photographs)]) as opened:
                picture = opened.convert("RGB").resize(_WRITTEN_SIZE)
            paths.append(Path(folder) / f"{number:03d}.jpg")
            picture.rotate(number % 7, resample=Image.Resampling.BILINEAR).save(
                paths[-1], quality=90, icc_profile=None
            )
        yield paths


def _bare_batches(model: QualityModel, paths: list[Path], options: ScoreSpeedOptions) -> list[torch.Tensor]:
    """What the network gets to see, on its device, in the batches that scoring forms."""
    cuts: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
    for path in paths:
        cut = look(to_float(read_image(path))[None], options.view)[0]
        cuts[cut.shape].append(cut)
    batches = []
    for same in cuts.values():
        for first in range(0, len(same), options.batch):
            crops = torch.cat(same[first : first + options.batch]).to(model.device)
            batches.append(crops.contiguous(memory_format=torch.channels_last))
    if min(min(batch.shape[-2:]) for batch in batches) < 32:
        raise InputError("the images are too small to time a network on; give some of 64 pixels or more.")
    return batches


def _forward(model: QualityModel, batches: list[torch.Tensor]) -> None:
    with torch.inference_mode():
        for batch in batches:
            model.network.outputs(model.network.backbone(batch))


def _decode(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")


SUBJECT = Subject("score", ScoreSpeedOptions, measure, "scoring image files, beside the bare forward")
