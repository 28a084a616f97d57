"""How fast raws become full-resolution pictures: against LibRaw's own decoding and rendering."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rawpy
import torch
from PIL import Image

from attiqa.errors import InputError
from attiqa.options import option
from benchmarks.speed_options import Findings, SpeedOptions, Subject
from benchmarks.timing import Figure, figures_beside
from isp_env.embedded import write_embedded_scenes
from isp_env.frame import RawFrame
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import read_raw
from isp_env.sources import RawFolder

_WRITTEN_SIZE = (480, 640)  # height and width of the raws that are made of embedded photographs
_FILES, _QUICK_FILES = 8, 2


@dataclass(frozen=True, kw_only=True)
class ExportSpeedOptions(SpeedOptions):
    """Flags of ``speed.py export``."""

    raws: Path | None = option(None, help="folder of raws (default: the embedded scenes)", metavar="DIR")


def measure(options: ExportSpeedOptions, device: str) -> Findings:
    """Decoding and rendering at full resolution, both against what LibRaw takes for its own picture."""
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        inputs = (
            [options.raws]
            if options.raws
            else write_embedded_scenes(folder, options.seed, raws_a_scene=2, size=_WRITTEN_SIZE)[0]
        )
        paths = _camera_raws(inputs)[: _QUICK_FILES if options.quick else _FILES]
        return _figures(options, paths, device)


def _camera_raws(inputs: list[Path]) -> list[Path]:
    """The files that LibRaw can render: photographs among them have nothing to be compared with."""
    paths = []
    for path in RawFolder(inputs).paths:
        try:
            _libraw(path)
        except rawpy.LibRawError:
            continue
        paths.append(path)
    if not paths:
        raise InputError(
            f"{inputs[0]} holds no camera raw that LibRaw can render; give --raws a folder of them."
        )
    return paths


def _figures(options: ExportSpeedOptions, paths: list[Path], device: str) -> Findings:
    space = ParameterSpace(TUNE_PARAMETERS)
    pipeline = Pipeline(space)
    half = space.to_physical(torch.full((1, len(space)), 0.5))[0]
    frames = [_to(read_raw(path), device) for path in paths]
    megapixels = sum(frame.image[0].numel() for frame in frames) / 1e6
    neutral = space.neutral_values(1)[0]

    def write(pixels: np.ndarray) -> None:
        Image.fromarray(np.ascontiguousarray(pixels)).save(target, quality=95)

    def export(frame: RawFrame, path: Path) -> None:
        image = pipeline.render_full(_to(read_raw(path), device), half)
        write((image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy())

    def libraw_export() -> None:
        for path in paths:
            with rawpy.imread(str(path)) as raw:
                write(raw.postprocess())

    runs: dict[str, Callable[[RawFrame, Path], Any]] = {
        "decode": lambda frame, path: read_raw(path),
        "render, neutral": lambda frame, path: pipeline.render_full(frame, neutral),
        "render, default parameters at half": lambda frame, path: pipeline.render_full(frame, half),
    }
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        target = Path(folder) / "picture.jpg"
        pairs = list(zip(frames, paths, strict=True))

        def beside(limit_name: str, limit: Callable[[], Any], runs: Mapping[str, Any]) -> list[Figure]:
            return figures_beside(
                {name: functools.partial(_over, run, pairs) for name, run in runs.items()},
                limit_name,
                limit,
                unit="Mpixel",
                items=megapixels,
                repeats=options.repeats,
                device=device,
            )

        figures = beside("LibRaw's postprocess", lambda: [_libraw(path) for path in paths], runs)
        whole = {"decode, render at half, write a JPEG": export}
        figures += beside("LibRaw's default postprocess and a JPEG", libraw_export, whole)
    sizes = ", ".join(sorted({f"{f.image.shape[2]}x{f.image.shape[1]}" for f in frames}))
    remark = (
        f"{len(paths)} raws ({sizes}), {megapixels:.1f} Mpixel. LibRaw unpacks, demosaics (PPG, as here) and "
        "renders to 16 bits with the camera's balance: the picture before any enhancement. Its default, "
        "which whole exports stand beside, is AHD, 8 bits, daylight balance and automatic brightness."
    )
    return Findings(figures, [remark])


def _over(run: Callable[[RawFrame, Path], Any], pairs: list[tuple[RawFrame, Path]]) -> None:
    for frame, path in pairs:
        run(frame, path)


def _to(frame: RawFrame, device: str) -> RawFrame:
    return replace(
        frame,
        image=frame.image.to(device),
        white_balance=frame.white_balance.to(device),
        color_matrix=frame.color_matrix.to(device),
    )


def _libraw(path: Path) -> np.ndarray:
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_bps=16,
            demosaic_algorithm=rawpy.DemosaicAlgorithm.PPG,
        )


SUBJECT = Subject("export", ExportSpeedOptions, measure, "full-resolution renders, beside LibRaw's own")
