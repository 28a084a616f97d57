"""Where a run's raws come from, and which of them are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import list_images
from isp_env.embedded import write_embedded_scenes
from isp_env.frame import FrameSource, RawFrame
from isp_env.photographs import write_scene
from isp_env.sources import RawFolder

HELD_OUT_SHARE = 0.25  # of a user's own files
RAWS_A_PHOTOGRAPH = 2  # each with another crop, camera and error to mend
# of the few embedded photographs: with fewer and less various ones a policy learns them by heart (TRIALS.md)
TRAINING_RAWS, STUDY_RAWS, HELD_OUT_RAWS = 48, 12, 6

Failures = list[tuple[Path, str]]


class Subset:
    """Some frames of a source, in the order of `indices`; a `FrameSource` itself."""

    def __init__(self, source: FrameSource, indices: Sequence[int]) -> None:
        self._source, self._indices = source, list(indices)

    @property
    def names(self) -> Sequence[str]:
        """One name a frame."""
        return [self._source.names[index] for index in self._indices]

    def frame(self, index: int, short_side: int) -> RawFrame:
        """Frame ``indices[index]`` of the source."""
        return self._source.frame(self._indices[index], short_side)

    def libraw_auto(self, index: int, short_side: int) -> torch.Tensor:
        """LibRaw's automatic render of that frame."""
        return self._source.libraw_auto(self._indices[index], short_side)


@dataclass(frozen=True)
class Scenes:
    """The raws of one run.

    Attributes:
        training: frames to learn from.
        held_out: frames to judge by.
        scene_of: the scene of each frame by name, where several raws share one.
        alone: there is only one raw, which serves as both.
        failures: path and sentence of each file that was skipped.
    """

    training: FrameSource
    held_out: FrameSource
    scene_of: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    failures: Failures = field(default_factory=list)

    def clusters(self, names: Sequence[str]) -> list[str]:
        """The scene of each of `names`; a frame without one is its own."""
        return [self.scene_of.get(name, name) for name in names]

    def describe(self) -> list[str]:
        """What a user should know, in sentences."""
        lines = [f"skipped: {sentence}" for _, sentence in self.failures]
        if self.alone:
            return [
                *lines,
                f"{self.training.names[0]} is the only raw: there is no held-out set, and the table shows "
                "the raw that was trained on.",
            ]
        scenes = sorted(set(self.clusters(self.held_out.names)))
        named = f" ({', '.join(scenes)})" if len(scenes) <= 12 else ""
        return [
            *lines,
            f"{len(self.training.names)} raws to train on; held out: {len(self.held_out.names)} raws of "
            f"{len(scenes)} other scenes{named}.",
        ]


def embedded_scenes(folder: Path, seed: int) -> Scenes:
    """The scenes inside installed packages, written to `folder` as DNGs and read back as any camera's."""
    training, held_out = write_embedded_scenes(
        folder, seed, TRAINING_RAWS, held_out_raws=HELD_OUT_RAWS, study_raws=STUDY_RAWS
    )
    scene_of = {path.stem: path.stem.rpartition("-")[0] for path in (*training, *held_out)}
    return Scenes(RawFolder(training), RawFolder(held_out), scene_of)


def photograph_scenes(inputs: Sequence[Path], folder: Path, seed: int) -> Scenes:
    """Photographs turned into raws (`isp_env.unprocess`) in `folder`; a quarter of them is held out.

    Raises:
        InputError: none of them can be read.
    """
    photographs = list_images(list(inputs))
    generator = torch.Generator().manual_seed(seed)
    written: list[list[Path]] = []
    failures: Failures = []
    for number, path in enumerate(tqdm(photographs, "unprocessing photographs", delay=2.0, disable=None)):
        try:
            name = f"{path.stem}-{number:05d}"
            written.append(write_scene(folder, name, path, RAWS_A_PHOTOGRAPH, generator=generator))
        except InputError as error:
            failures.append((path, str(error)))
    if not written:
        raise InputError(f"none of {len(photographs)} photographs can be read; the first: {failures[0][1]}")
    training, held_out = split([str(number) for number in range(len(written))], seed)
    scene_of = {raw.stem: raws[0].stem for raws in written for raw in raws}
    sources = [
        RawFolder([raw for number in numbers for raw in written[number]])
        for numbers in (training, held_out or training)
    ]
    return Scenes(sources[0], sources[1], scene_of, alone=not held_out, failures=failures)


def raw_scenes(inputs: Sequence[Path], seed: int) -> Scenes:
    """A user's raws, split by file; copies of a file stay together.

    Raises:
        InputError: nothing was found, or none of it can be read.
    """
    source = RawFolder(inputs)
    training, held_out = split([file_digest(path) for path in source.paths], seed)
    failures = list(source.failures)
    if not held_out:
        return Scenes(source, source, alone=True, failures=failures)
    return Scenes(Subset(source, training), Subset(source, held_out), failures=failures)


def split(contents: Sequence[str], seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the items to train on and of those held out: a quarter, at least one; equals stay together.

    A single content leaves nothing to hold out.
    """
    different = sorted(set(contents))
    count = max(1, round(HELD_OUT_SHARE * len(different))) if len(different) > 1 else 0
    order = np.random.default_rng(seed).permutation(len(different))
    chosen = {different[number] for number in order[:count]}
    training = [number for number, content in enumerate(contents) if content not in chosen]
    return training, [number for number, content in enumerate(contents) if content in chosen]
