"""One file after another into finished pictures and what stands beside them: the work of an export.

Files are decoded ahead, looked at a few together, and rendered and written one by one; what one of them
suffers costs no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents import gallery
from agents.answers import Settings
from agents.enhancer import Enhanced, Enhancer
from agents.exif import read_exif
from agents.image_files import SUFFIXES, write_picture
from agents.lut import build_lut, write_cube
from agents.sheets import draw_sheet, in_units
from agents.xmp import unmapped, write_xmp
from attiqa.errors import InputError, describe_os_error
from attiqa.files import write_json
from attiqa.threads import thread_pool
from isp_env.frame import RawFrame
from isp_env.sources import read_frame

STAGE = ".export-"  # where the products of one file wait for each other

SEEN = 2.0  # mean CIEDE2000 from which pictures beside each other differ to the eye; our choice
AHEAD = 2  # files decoded while others are looked at and rendered; each takes 12 bytes a pixel
# looked at together, in little more than half of the time that they take one by one: so many files, or so
# many pixels where that is less, 0.9 GB of them
TOGETHER, TOGETHER_PIXELS = 8, 75_000_000


@dataclass(frozen=True)
class Products:
    """What is written for each file, beside ``NAME.json``.

    Attributes:
        kind: of the picture, a key of `SUFFIXES`.
        quality: of a JPEG, 1 to 100.
        neutral: ``NAME.neutral`` with the picture's suffix, the camera's own render, for which a lookup table
            is made.
        lut: ``NAME.cube``, see `agents.lut`.
        xmp: ``NAME.xmp``, see `agents.xmp`.
        sheet: ``NAME.sheet.png``, see `agents.sheets`.
        report: two small pictures and, for all files, one page; see `agents.gallery`.
    """

    kind: str = "jpeg"
    quality: int = 95
    neutral: bool = False
    lut: bool = False
    xmp: bool = False
    sheet: bool = False
    report: bool = False

    def paths(self, out: Path, name: str) -> dict[str, Path]:
        """Where each product of a file called `name` goes, in the order of writing."""
        neutral, enhanced = gallery.small_pictures(out, name)
        picture = SUFFIXES[self.kind]
        suffixes = {
            "neutral": f".neutral{picture}",
            "lut": ".cube",
            "xmp": ".xmp",
            "sheet": ".sheet.png",
        }
        wanted = {what: out / (name + suffix) for what, suffix in suffixes.items() if getattr(self, what)}
        if self.report:
            wanted |= {"report_neutral": neutral, "report_enhanced": enhanced}
        return wanted | {"json": out / f"{name}.json", "picture": out / (name + picture)}


@dataclass(frozen=True)
class Job:
    """One file to export.

    Attributes:
        source: what to read.
        name: what its products are called.
        paths: where they go, from `Products.paths`.
    """

    source: Path
    name: str
    paths: dict[str, Path]


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        job: the file.
        remarks: sentences on what was written and is worth little.
        failure: why nothing was written, in a sentence; empty where all was.
    """

    job: Job
    remarks: tuple[str, ...] = ()
    failure: str = ""


_Failed = Callable[[Job, Exception], None]


def outcomes(enhancer: Enhancer, jobs: Sequence[Job], products: Products) -> Generator[Outcome, None, None]:
    """Export files, and tell of each what became of it soon after that is known."""
    lost: list[Outcome] = []

    def failed(job: Job, error: Exception) -> None:
        lost.append(Outcome(job, failure=_reason(job, error)))

    for some in _gathered(jobs, failed):
        for job, frame, enhanced in _looked_at(enhancer, some, failed):
            try:
                remarks = _export(enhancer, job, frame, enhanced, products)
            except Exception as error:  # a mistake of ours in one file must not cost the others
                failed(job, error)
            else:
                yield Outcome(job, tuple(remarks))
        yield from lost
        lost.clear()
    yield from lost


def _gathered(jobs: Sequence[Job], failed: _Failed) -> Iterator[list[tuple[Job, RawFrame]]]:
    """Files as they are looked at together, without those that cannot be decoded."""
    some: list[tuple[Job, RawFrame]] = []
    pixels = 0
    for job, decoded in _decode_ahead(jobs):
        try:
            frame = decoded.result()
        except Exception as error:
            failed(job, error)
            continue
        more = frame.image[0].numel()
        if some and (len(some) == TOGETHER or pixels + more > TOGETHER_PIXELS):
            yield some
            some, pixels = [], 0
        some.append((job, frame))
        pixels += more
    if some:
        yield some


def _looked_at(
    enhancer: Enhancer, some: Sequence[tuple[Job, RawFrame]], failed: _Failed
) -> Iterator[tuple[Job, RawFrame, Enhanced]]:
    """Files and what the policy makes of them; where one stops the others, each is looked at alone."""
    try:
        found = enhancer.look([frame for _, frame in some])
    except Exception as error:
        if len(some) == 1:
            failed(some[0][0], error)
            return
        for one in some:
            yield from _looked_at(enhancer, [one], failed)
        return
    for (job, frame), enhanced in zip(some, found, strict=True):
        yield job, frame, enhanced


def _reason(job: Job, error: Exception) -> str:
    """Why a file could not be exported, in a sentence."""
    if isinstance(error, InputError):
        return str(error)
    reason = describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"{job.source} could not be exported ({reason})."


def _export(
    enhancer: Enhancer, job: Job, frame: RawFrame, enhanced: Enhanced, products: Products
) -> list[str]:
    """All products of one file, or none; returns remarks on them."""
    folder = job.paths["json"].parent
    files = [path.relative_to(folder).as_posix() for path in job.paths.values()]
    record: dict[str, Any] = {"source": str(job.source), "picture": job.paths["picture"].name, "files": files}
    record |= enhancer.record(frame, enhanced)
    with _staged(job.paths, folder) as paths:
        remarks = _write_companions(enhancer, replace(job, paths=paths), frame, enhanced, record)
        write_json(paths["json"], record)
        exif = read_exif(job.source)
        for what, answer in {"neutral": enhanced.answer.scaled(0.0), "picture": enhanced.answer}.items():
            if what in paths:
                pixels = enhancer.finished(frame, answer, products.kind)
                write_picture(paths[what], pixels, products.kind, products.quality, exif)
    return remarks


@contextmanager
def _staged(paths: dict[str, Path], out: Path) -> Iterator[dict[str, Path]]:
    """Yield other places for the files at `paths` below `out`; from there they move when all are written.

    So a failure, a stop or a killed process leaves of one file all that was there before, and nothing else
    but a hidden folder.
    """
    with TemporaryDirectory(prefix=STAGE, dir=out) as folder:
        staged = {what: Path(folder) / path.relative_to(out) for what, path in paths.items()}
        yield staged
        for what, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            os.replace(staged[what], path)


def _write_companions(
    enhancer: Enhancer, job: Job, frame: RawFrame, enhanced: Enhanced, record: dict[str, Any]
) -> list[str]:
    """What stands beside the picture, told in its record too; returns remarks on it."""
    paths, remarks = job.paths, list[str]()
    answer = enhanced.answer
    if "xmp" in paths:
        named = answer.record(0)["parameters"]
        write_xmp(paths["xmp"], job.source, frame, named)
        record["xmp"] = {"file": paths["xmp"].name, "not_mapped": unmapped(named)}
    if not {"lut", "sheet", "report_neutral"} & set(paths):
        return remarks
    small = enhancer.small(frame)
    if "lut" in paths and isinstance(answer, Settings):
        lut = build_lut(enhancer.pipeline, small, answer.physical()[0])
        write_cube(paths["lut"], lut, job.name)
        record["lut"] = {"file": paths["lut"].name} | lut.record()
        if lut.against_render.ciede2000 > SEEN:
            remarks.append(
                f"{paths['lut'].name}: its picture is {lut.against_render.ciede2000:.1f} CIEDE2000 from the "
                "render on average, which is seen; no table holds "
                f"{', '.join(lut.left_out) or 'what looks at regions'}."
            )
    neutral, after = enhancer.proofs(small, answer)
    if "sheet" in paths:
        pictures = {
            f"neutral: score {enhanced.neutral_score:.3f}": neutral,
            f"enhanced: score {enhanced.score:.3f}": after,
        }
        draw_sheet(paths["sheet"], job.name, pictures, answer.values(0))
    if "report_neutral" in paths:
        gallery.write_small(paths["report_neutral"], neutral)
        gallery.write_small(paths["report_enhanced"], after)
        record["report"] = {
            "size": [neutral.shape[-1], neutral.shape[-2]],
            "settings": [[row.name, in_units(value, row)] for row, value in answer.values(0)],
        }
    return remarks


def _decode_ahead(jobs: Sequence[Job]) -> Iterator[tuple[Job, Future[RawFrame]]]:
    """Decode a few files ahead in threads: LibRaw works outside the interpreter lock."""
    with thread_pool(AHEAD) as pool:
        try:
            waiting = [pool.submit(read_frame, job.source) for job in jobs[:AHEAD]]
            for number, job in enumerate(jobs):
                yield job, waiting.pop(0)
                if number + AHEAD < len(jobs):
                    waiting.append(pool.submit(read_frame, jobs[number + AHEAD].source))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
