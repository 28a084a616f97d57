"""Where a run's raws come from, and which of them are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.images import list_images
from attiqa.progress import progress_bar
from isp_env.embedded import write_embedded_scenes
from isp_env.frame import FrameSource, RawFrame
from isp_env.perturbed import PerturbedSource
from isp_env.photographs import CAREFUL, HURRIED, MANY_SCENES, NATURAL_SCENES, Variety, write_scene
from isp_env.sources import RawFolder

HELD_OUT_SHARE = 0.25  # of a user's own files
RAWS_A_PHOTOGRAPH = 2  # each with another crop, camera and error to mend
MANY_PHOTOGRAPHS = 200  # from so many on their raws have natural colours; our choice
FEWEST_RAWS, MOST_RAWS = 240, 48  # made of photographs to train on: in all, if so many of each are enough
# of the few embedded photographs: with fewer and less various ones a policy learns them by heart (TRIALS.md)
TRAINING_RAWS, STUDY_RAWS, HELD_OUT_RAWS = 48, 12, 6

# of a folder of few raws: so many frames to train on, each decoded file under other crops and errors
FEWEST_FRAMES, MOST_COPIES = 120, 24

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
        alone: there is only one scene, which serves as both.
        failures: path and sentence of each file that was skipped.
        copies: frames to learn from that were made of each raw.
    """

    training: FrameSource
    held_out: FrameSource
    scene_of: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    failures: Failures = field(default_factory=list)
    copies: int = 1

    def clusters(self, names: Sequence[str]) -> list[str]:
        """The scene of each of `names`; a frame without one is its own."""
        return [self.scene_of.get(name, name) for name in names]

    def describe(self) -> list[str]:
        """What a user should know, in sentences."""
        lines = [f"skipped: {sentence}" for _, sentence in self.failures]
        if self.alone:
            return [
                *lines,
                f"{self.clusters(self.training.names)[0]} is the only scene: there is no held-out set, and "
                "the table shows what was trained on.",
            ]
        scenes = sorted(set(self.clusters(self.held_out.names)))
        named = f" ({', '.join(scenes)})" if len(scenes) <= 12 else ""
        variations = f", each in {self.copies} variations" if self.copies > 1 else ""
        return [
            *lines,
            f"{len(self.training.names) // self.copies} raws to train on{variations}; "
            f"held out: {len(self.held_out.names)} raws of {len(scenes)} other scenes{named}.",
        ]


def embedded_scenes(folder: Path, seed: int) -> Scenes:
    """The scenes inside installed packages, written to `folder` as DNGs and read back as any camera's."""
    training, held_out = write_embedded_scenes(
        folder, seed, TRAINING_RAWS, held_out_raws=HELD_OUT_RAWS, study_raws=STUDY_RAWS
    )
    scene_of = {path.stem: path.stem.rpartition("-")[0] for path in (*training, *held_out)}
    return Scenes(RawFolder(training), RawFolder(held_out), scene_of)


def photograph_scenes(
    inputs: Sequence[Path], folder: Path, seed: int, copies: int = 0, spare: bool = False
) -> Scenes:
    """Photographs turned into raws (`isp_env.unprocess`) in `folder`; a quarter of them is held out.

    Args:
        inputs: photographs, or folders of them.
        folder: where the raws go.
        seed: of the split and of all that is drawn.
        copies: raws of each photograph to train on; 0 for 2, and at least 240 of them all.
        spare: whether every second raw is as a camera leaves it in good light; else all have errors to mend.

    Raises:
        InputError: none of them can be read.
    """
    photographs = list_images(list(inputs))
    numbers = split([str(number) for number in range(len(photographs))], seed)
    held_out = set(numbers[1])
    many = copies or max(RAWS_A_PHOTOGRAPH, min(-(-FEWEST_RAWS // len(numbers[0])), MOST_RAWS))
    scenes = NATURAL_SCENES if len(photographs) >= MANY_PHOTOGRAPHS else MANY_SCENES
    generator = torch.Generator().manual_seed(seed)
    written: dict[bool, list[list[Path]]] = {False: [], True: []}
    failures: Failures = []
    errors = (HURRIED, CAREFUL) if spare else (HURRIED,)
    for number, path in enumerate(progress_bar(photographs, "unprocessing photographs", delay=2.0)):
        held = number in held_out
        count, variety = (RAWS_A_PHOTOGRAPH, Variety()) if held else (many, scenes)
        try:
            name = f"{path.stem}-{number:05d}"
            raws = write_scene(folder, name, path, count, variety=variety, errors=errors, generator=generator)
            written[held].append(raws)
        except InputError as error:
            failures.append((path, str(error)))
    if not any(written.values()):
        raise InputError(f"none of {len(photographs)} photographs can be read; the first: {failures[0][1]}")
    scene_of = {raw.stem: raws[0].stem for scenes in written.values() for raws in scenes for raw in raws}
    # where only one side can be read, it serves as both
    training, other = (
        RawFolder([raw for raws in written[held] or written[not held] for raw in raws])
        for held in (False, True)
    )
    return Scenes(training, other, scene_of, alone=not all(written.values()), failures=failures)


def raw_scenes(inputs: Sequence[Path], seed: int, copies: int = 0, spare: bool = False) -> Scenes:
    """A user's raws, split by file; copies of a file stay together.

    Args:
        inputs: raw files, or folders of them.
        seed: of the split and the variations.
        copies: variations of each raw to train on; 0 for enough to make 120 of them all.
        spare: whether every second variation is a crop alone.

    Raises:
        InputError: nothing was found, or none of it can be read.
    """
    source = RawFolder(inputs)
    training, held_out = split([file_digest(path) for path in source.paths], seed)
    failures = list(source.failures)
    if not held_out:
        return Scenes(source, source, alone=True, failures=failures)
    copies = copies or min(-(-FEWEST_FRAMES // len(training)), MOST_COPIES)
    frames = varied(Subset(source, training), seed, copies, spare)
    return Scenes(frames, Subset(source, held_out), failures=failures, copies=copies)


def varied(source: FrameSource, seed: int, copies: int, spare: bool = False) -> FrameSource:
    """Each frame of a source in so many crops of other exposure, balance and noise; with `spare` every second
    one is a crop alone.

    A policy that sees a few raws, always the same way, knows them by heart before it can tell what they need.
    """
    if copies == 1:
        return source
    return PerturbedSource(
        source,
        seed,
        copies,
        crop=(0.5, 1.0),
        exposure=(-1.0, 0.5),
        balance_error=(-30.0, 30.0),
        shot_noise=(1e-5, 1e-3),
        every=2 if spare else 1,
    )


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
