"""How fast raws become full-resolution pictures: against LibRaw's own decoding and rendering."""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import rawpy
import torch
from PIL import Image

from attiqa.errors import InputError
from attiqa.options import option
from benchmarks.exports import export
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
_COPIES = 4
_LIBRAW_EXPORT = "LibRaw's default postprocess and a JPEG"

Run: TypeAlias = Callable[[RawFrame, Path], Any]


@dataclass(frozen=True, kw_only=True)
class ExportSpeedOptions(SpeedOptions):
    """Flags of ``speed.py export``."""

    raws: Path | None = option(None, help="folder of raws (default: the embedded scenes)", metavar="DIR")
    run: list[Path] = option(
        [], help="policies with which agents/export.py exports them, from its start to its end", metavar="RUN"
    )


def measure(options: ExportSpeedOptions, device: str) -> Findings:
    """Decoding and rendering at full resolution, both against what LibRaw takes for its own picture."""
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        inputs = (
            [options.raws]
            if options.raws
            else write_embedded_scenes(folder, options.seed, raws_a_scene=2, size=_WRITTEN_SIZE)[0]
        )
        paths = _camera_raws(inputs)[: _QUICK_FILES if options.quick else _FILES]
        found = _figures(options, paths, device)
        return replace(found, figures=[*found.figures, *_commands(options, paths, device)])


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
    pipeline, half = _at_half()
    frames = [_to(read_raw(path), device) for path in paths]
    neutral = pipeline.space.neutral_values(1)[0]
    largest = max(zip(frames, paths, strict=True), key=lambda pair: pair[0].image.numel())

    def whole(frame: RawFrame, path: Path) -> None:
        _export(path, pipeline, half, device, target)

    def libraw_export(frame: RawFrame, path: Path) -> None:
        _libraw_export(path, target)

    runs: dict[str, Run] = {
        "decode": lambda frame, path: read_raw(path),
        "render, neutral": lambda frame, path: pipeline.render_full(frame, neutral),
        "render, default parameters at half": lambda frame, path: pipeline.render_full(frame, half),
    }
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        target = Path(folder) / "picture.jpg"
        pairs = list(zip(frames, paths, strict=True))

        def beside(
            limit_name: str, limit: Run, runs: Mapping[str, Run], pairs: list[tuple[RawFrame, Path]] = pairs
        ) -> list[Figure]:
            return figures_beside(
                {name: functools.partial(_over, run, pairs) for name, run in runs.items()},
                limit_name,
                functools.partial(_over, limit, pairs),
                unit="Mpixel",
                items=_megapixels([frame for frame, _ in pairs]),
                repeats=options.repeats,
                device=device,
            )

        figures = beside("LibRaw's postprocess", lambda frame, path: _libraw(path), runs)
        figures += beside(_LIBRAW_EXPORT, libraw_export, {"decode, render at half, write a JPEG": whole})
        alone = f"the same, {largest[1].name} alone"
        figures += beside(_LIBRAW_EXPORT, libraw_export, {alone: whole}, [largest])
        peak = _peak_memory(largest[1], device, target)
    sizes = ", ".join(sorted({f"{f.image.shape[2]}x{f.image.shape[1]}" for f in frames}))
    remark = (
        f"{len(paths)} raws ({sizes}), {_megapixels(frames):.1f} Mpixel. LibRaw unpacks, demosaics (PPG, as "
        "here) and renders to 16 bits with the camera's balance: the picture before any enhancement. Its "
        "default, which whole exports stand beside, is AHD, 8 bits, daylight balance, automatic brightness. "
        f"{largest[1].name} ({_megapixels([largest[0]]):.1f} Mpixel), exported so by a process of its own, "
        f"takes {peak:.2f} GiB of memory at its peak, all that the process loads included."
    )
    return Findings(figures, [remark])


def _commands(options: ExportSpeedOptions, paths: list[Path], device: str) -> list[Figure]:
    """Whole exports by the command, of each file several times, so that its start weighs less."""
    if not options.run:
        return []
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        source, target = Path(folder) / "raws", Path(folder) / "picture.jpg"
        source.mkdir()
        for path in paths:
            for number in range(_COPIES):
                shutil.copyfile(path, source / f"{path.stem}-{number}{path.suffix}")
        copies = sorted(source.iterdir())
        where = ["--overwrite", "--device", device, "--threads", str(options.threads)]
        return figures_beside(
            {
                f"agents/export.py, {run.name}": functools.partial(
                    export, run, source, Path(folder) / "out", *where
                )
                for run in options.run
            },
            _LIBRAW_EXPORT,
            functools.partial(_each, copies, target),
            unit="file",
            items=len(copies),
            repeats=options.repeats,
            device=device,
        )


def _megapixels(frames: list[RawFrame]) -> float:
    return sum(frame.image[0].numel() for frame in frames) / 1e6


def _at_half() -> tuple[Pipeline, torch.Tensor]:
    """The pipeline and its default parameters, each half-way to its upper end."""
    space = ParameterSpace(TUNE_PARAMETERS)
    return Pipeline(space), space.to_physical(torch.full((1, len(space)), 0.5))[0]


def _export(path: Path, pipeline: Pipeline, values: torch.Tensor, device: str, target: Path) -> None:
    image = pipeline.render_full(_to(read_raw(path), device), values)
    _write((image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy(), target)


def _write(pixels: np.ndarray, target: Path) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, quality=95)


def _peak_memory(path: Path, device: str, target: Path) -> float:
    """GiB of resident memory that a new process comes to while it exports a raw."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_export_alone, path, device, target).result()


def _export_alone(path: Path, device: str, target: Path) -> float:
    _export(path, *_at_half(), device, target)
    if sys.platform == "darwin":
        import resource  # which Windows lacks

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    # Linux's getrusage knows no less than what the parent process had when it started this one
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def _over(run: Run, pairs: list[tuple[RawFrame, Path]]) -> None:
    for frame, path in pairs:
        run(frame, path)


def _to(frame: RawFrame, device: str) -> RawFrame:
    return replace(
        frame,
        image=frame.image.to(device),
        white_balance=frame.white_balance.to(device),
        color_matrix=frame.color_matrix.to(device),
    )


def _each(paths: list[Path], target: Path) -> None:
    for path in paths:
        _libraw_export(path, target)


def _libraw_export(path: Path, target: Path) -> None:
    with rawpy.imread(str(path)) as raw:
        _write(raw.postprocess(), target)


def _libraw(path: Path) -> np.ndarray:
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(
            use_camera_wb=True,
            no_auto_bright=True,
            output_bps=16,
            demosaic_algorithm=rawpy.DemosaicAlgorithm.PPG,
        )


SUBJECT = Subject("export", ExportSpeedOptions, measure, "full-resolution renders, beside LibRaw's own")
