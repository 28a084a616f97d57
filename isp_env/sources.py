"""Where environments and exports take their frames from: the `FrameSource` implementations."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar, Unpack

from torch import Tensor

from attiqa.errors import InputError
from attiqa.images import IMAGE_SUFFIXES, list_images, read_image
from attiqa.progress import progress_bar
from attiqa.threads import thread_pool
from isp_env.cache import PreviewCache
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.frame import FrameSource, RawFrame
from isp_env.raw import (
    RAW_SUFFIXES,
    DecodeOptions,
    check_raw,
    read_libraw_auto,
    read_photograph_as_frame,
    read_raw,
    shrink,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

_DECODE_VERSION = 3  # part of the cache's key: to be raised with every change of what `read_frame` returns


class RawFolder:
    """Camera raws, and ordinary photographs, from files and folders.

    Every file is opened and unpacked once at the start, so that a broken one is known before any work
    begins; it is left out and named in `failures`.

    Args:
        inputs: files and folders; folders are searched through, for the suffixes of raws and photographs.
        workers: decoding threads; LibRaw works outside the interpreter lock. None: one a core.
        cache: where decoded previews are kept; None keeps none. With one, a file that has once been found
            readable is not checked again until it changes.
        decode: ``demosaic``, ``highlights``, ``balance`` and ``correct_lens`` of `isp_env.raw.read_raw`, for
            raws.

    Attributes:
        paths: the readable files, in order.
        failures: path and sentence of each file that was left out.

    Raises:
        InputError: a path does not exist, nothing was found, or nothing that was found can be read.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        workers: int | None = None,
        cache: PreviewCache | None = None,
        **decode: Unpack[DecodeOptions],
    ) -> None:
        self._cache, self._decode = cache, decode
        named = list_images([Path(path) for path in inputs], RAW_SUFFIXES | IMAGE_SUFFIXES)
        found = distinct(named)
        sentences = in_threads(self._complaint, found, workers, "checking raws")
        self.paths = [path for path, sentence in zip(found, sentences, strict=True) if sentence is None]
        self.failures = [
            (path, sentence) for path, sentence in zip(found, sentences, strict=True) if sentence is not None
        ]
        if not self.paths:
            raise InputError(f"none of {len(found)} files can be read; the first: {self.failures[0][1]}")
        self._names = unique_names(self.paths)

    @property
    def names(self) -> Sequence[str]:
        """File names without suffix; where two agree, with as much of their folders as tells them apart."""
        return self._names

    def frame(self, index: int, short_side: int) -> RawFrame:
        """Frame `index`; see `FrameSource`."""
        path = self.paths[index]
        return dataclasses.replace(self._cached_frame(path, short_side), name=self._names[index])

    def libraw_auto(self, index: int, short_side: int) -> Tensor:
        """LibRaw's automatic render; a photograph is its own."""
        path = self.paths[index]
        if is_photograph(path):
            return linear_to_srgb(read_photograph_as_frame(path, short_side).image)
        return read_libraw_auto(path, short_side)

    def _complaint(self, path: Path) -> str | None:
        """The sentence that says why a file cannot be read; None where it can."""
        try:
            if self._cache:
                self._cache.digest(path, _check)
            else:
                _check(path)
        except (InputError, OSError) as error:
            return str(error)
        return None

    def _cached_frame(self, path: Path, short_side: int) -> RawFrame:
        if self._cache is None:
            return read_frame(path, short_side, **self._decode)
        how = json.dumps([_DECODE_VERSION, self._decode], sort_keys=True)
        key = self._cache.key(self._cache.digest(path, _check), short_side=short_side, decode=how)
        if entry := self._cache.load(key):
            tensors, strings = entry
            return RawFrame(
                image=tensors["image"],
                white_balance=tensors["white_balance"],
                color_matrix=tensors["color_matrix"],
                name=strings["name"],
                digest=strings["digest"],
                notes=tuple(json.loads(strings["notes"])),
            )
        frame = read_frame(path, short_side, **self._decode)
        tensors = {name: getattr(frame, name) for name in ("image", "white_balance", "color_matrix")}
        strings = {"name": frame.name, "digest": frame.digest, "notes": json.dumps(frame.notes)}
        self._cache.store(key, tensors, strings)
        return frame


def read_frame(path: Path, short_side: int | None = None, **decode: Unpack[DecodeOptions]) -> RawFrame:
    """A raw or, by its suffix, an ordinary photograph; see `read_raw` and `read_photograph_as_frame`."""
    if is_photograph(path):
        return read_photograph_as_frame(path, short_side)
    return read_raw(path, short_side, **decode)


class MemoryFrames:
    """Frames that are already there, each at one size.

    Args:
        frames: RawFrames, of any sizes.
        renders: what stands for LibRaw's automatic render of each, display sRGB; None where there is none.
    """

    def __init__(self, frames: Sequence[RawFrame], renders: Sequence[Tensor] | None = None) -> None:
        if renders is not None and [r.shape for r in renders] != [f.image.shape for f in frames]:
            raise ValueError("each render must be as large as the image of its frame.")
        self._frames, self._renders = list(frames), renders

    @property
    def names(self) -> Sequence[str]:
        """The frames' own names."""
        return [frame.name for frame in self._frames]

    def frame(self, index: int, short_side: int) -> RawFrame:
        """Frame `index`, area-averaged down."""
        frame = self._frames[index]
        return dataclasses.replace(frame, image=shrink(frame.image, short_side))

    def libraw_auto(self, index: int, short_side: int) -> Tensor:
        """The render that was given for the frame, area-averaged down in linear light."""
        if self._renders is None:
            raise InputError("these frames have no file, so LibRaw cannot render them; give renders=.")
        return linear_to_srgb(shrink(srgb_to_linear(self._renders[index]), short_side))


def load_frames(source: FrameSource, short_side: int, workers: int | None = None) -> list[RawFrame]:
    """All frames of a source at one short side, decoded in threads."""
    indices = range(len(source.names))
    return in_threads(lambda index: source.frame(index, short_side), indices, workers, "decoding raws")


def group_by_shape(frames: Sequence[RawFrame]) -> dict[tuple[int, int], list[int]]:
    """Indices of the frames of each ``(H, W)``: what can share a batch without being squashed."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, frame in enumerate(frames):
        height, width = frame.image.shape[-2:]
        groups.setdefault((height, width), []).append(index)
    return groups


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int | None, description: str
) -> list[Result]:
    """Map in threads, in order, with a progress bar where it takes more than two seconds."""
    items = list(items)
    with thread_pool(workers or os.cpu_count() or 1) as pool:
        return list(
            progress_bar(pool.map(work, items), description, total=len(items), delay=2.0, leave=False)
        )


def _check(path: Path) -> None:
    """Raise `InputError` where the file cannot be decoded."""
    if is_photograph(path):
        read_image(path)
    else:
        check_raw(path)


def is_photograph(path: Path) -> bool:
    """Whether the suffix is one of an ordinary photograph's."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def distinct(paths: Sequence[Path]) -> list[Path]:
    """Absolute paths, each file once however it is spelt; a link of another name is another file."""
    places: dict[tuple[Path, str], Path] = {}
    for path in paths:
        places.setdefault((path.parent.resolve(), path.name), path.absolute())
    return list(places.values())


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The stems; what is still ambiguous gets its suffix, then its folder, then its path, then a number.

    No two names agree, also where a file system does not tell upper from lower case.
    """
    spellings: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem,
        lambda path: path.name,
        lambda path: f"{path.parent.name}_{path.name}",
        lambda path: "_".join(path.absolute().parts[1:]),
    )
    names: dict[Path, str] = {}
    taken: set[str] = set()

    def give(path: Path, name: str) -> None:
        names[path] = name
        taken.add(name.casefold())

    for spell in spellings:
        counts = Counter(spell(path).casefold() for path in paths)
        for path in paths:
            # of another spelling before: IMG.dng.jpg is called as IMG.dng would be
            if (
                path not in names
                and counts[spell(path).casefold()] == 1
                and spell(path).casefold() not in taken
            ):
                give(path, spell(path))
    for path in paths:  # a_b/c.dng and a/b_c.dng
        if path not in names:
            numbered = (f"{spellings[-1](path)}-{number}" for number in itertools.count(1))
            give(path, next(name for name in numbered if name.casefold() not in taken))
    return [names[path] for path in paths]
