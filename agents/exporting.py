"""Files in, finished pictures and what describes them out: what ``agents/export.py`` does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from attiqa.files import is_abandoned, write_json
from attiqa.images import IMAGE_SUFFIXES, list_images
from attiqa.progress import progress_bar
from attiqa.threads import thread_pool
from isp_env.frame import RawFrame
from isp_env.raw import RAW_SUFFIXES
from isp_env.sources import distinct, read_frame, unique_names

_STAGE = ".export-"  # where the products of one file wait for each other

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


@dataclass
class Exported:
    """What became of the files.

    Attributes:
        written: the pictures.
        kept: for each file that was left alone, what existed of it already.
        failures: path and sentence of each file that could not be exported.
        remarks: sentences on what was written and is worth little.
        page: the report's page, where one was written.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    page: Path | None = None


@dataclass(frozen=True)
class _Job:
    source: Path
    name: str
    paths: dict[str, Path]


Failed = Callable[[_Job, Exception], None]


def export(
    enhancer: Enhancer,
    inputs: Sequence[Path],
    out: Path,
    products: Products | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Render files and folders of raws or photographs at full resolution into `out`.

    Inputs that share a name are told apart by suffix or folder; what an export wrote into a folder of inputs
    is no input. A file of which anything exists in `out` already is left alone, unless `overwrite`; an input
    is never written over. A file that fails is named and the rest goes on. Ctrl-C keeps what is finished and
    leaves nothing half done: the same call again exports what is missing. The report shows all that was
    exported into `out` with one, earlier calls included.

    Raises:
        InputError: nothing was found, or what is wanted cannot be made of a policy of tools.
    """
    products = Products() if products is None else products
    if enhancer.task == "tools" and (products.lut or products.xmp):
        raise InputError(
            "a policy of tools sets no parameters, of which a lookup table or a sidecar could be made; leave "
            "--lut and --xmp away."
        )
    if products.report and not overwrite:
        gallery.check_page(out)
    result = Exported()
    jobs = _jobs(inputs, out, products, overwrite, result)
    out.mkdir(parents=True, exist_ok=True)  # where that is refused, nothing needs to be rendered
    _sweep(out)
    bar = progress_bar(total=len(jobs), desc="exporting", unit="file")

    def failed(job: _Job, error: Exception) -> None:
        result.failures.append((job.source, _reason(job, error)))
        bar.update()

    try:
        for some in _gathered(jobs, failed):
            for job, frame, enhanced in _looked_at(enhancer, some, failed):
                try:
                    result.remarks += _export(enhancer, job, frame, enhanced, products)
                except Exception as error:  # a mistake of ours in one file must not cost the others
                    failed(job, error)
                    continue
                result.written.append(job.paths["picture"])
                bar.update()
    finally:
        bar.close()
        if products.report and (entries := gallery.entries_in(out)):
            result.page = gallery.write_page(out, entries)
    return result


def _jobs(
    inputs: Sequence[Path], out: Path, products: Products, overwrite: bool, result: Exported
) -> list[_Job]:
    """One job a file that is to be exported; what is not goes to `result`."""
    sources = _sources([Path(path).absolute() for path in inputs])
    originals = {path.resolve() for path in sources}
    jobs = []
    for source, name in zip(sources, unique_names(sources), strict=True):
        job = _Job(source, name, products.paths(out, name))
        existing = [path for path in job.paths.values() if path.exists()]
        input_too = next((path for path in existing if path.resolve() in originals), None)
        if input_too is not None:
            sentence = f"{source} would be exported to {input_too}, which is an input; take another --out."
            result.failures.append((source, sentence))
        elif existing and not overwrite:
            result.kept.append(existing[-1])
        else:
            jobs.append(job)
    return jobs


def _sources(inputs: list[Path]) -> list[Path]:
    """The files to export: all that are named, and of those in folders all that no export wrote."""
    found = distinct(list_images(inputs, RAW_SUFFIXES | IMAGE_SUFFIXES))
    exported: set[Path] = set()
    for folder in {parent for path in found for parent in path.parents[:2]}:
        for path in folder.glob("*.json"):
            record = gallery.read_record(path)
            exported |= (
                {folder / name for name in record["files"] if isinstance(name, str)} if record else set()
            )
    sources = [path for path in found if path in inputs or path not in exported]
    if not sources:
        raise InputError(f"the only pictures in {', '.join(map(str, inputs))} are exports of this command.")
    return sources


def _gathered(jobs: Sequence[_Job], failed: Failed) -> Iterator[list[tuple[_Job, RawFrame]]]:
    """Files as they are looked at together, without those that cannot be decoded."""
    some: list[tuple[_Job, RawFrame]] = []
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
    enhancer: Enhancer, some: Sequence[tuple[_Job, RawFrame]], failed: Failed
) -> Iterator[tuple[_Job, RawFrame, Enhanced]]:
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


def _reason(job: _Job, error: Exception) -> str:
    """Why a file could not be exported, in a sentence."""
    if isinstance(error, InputError):
        return str(error)
    reason = describe_os_error(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"{job.source} could not be exported ({reason})."


def _export(
    enhancer: Enhancer, job: _Job, frame: RawFrame, enhanced: Enhanced, products: Products
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


def _sweep(out: Path) -> None:
    """Take away what killed processes left of `_staged`; another export into `out` may be at work."""
    for folder in out.glob(f"{_STAGE}*"):
        if is_abandoned(folder.stat().st_mtime):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _staged(paths: dict[str, Path], out: Path) -> Iterator[dict[str, Path]]:
    """Yield other places for the files at `paths` below `out`; from there they move when all are written.

    So a failure, a stop or a killed process leaves of one file all that was there before, and nothing else
    but a hidden folder.
    """
    with TemporaryDirectory(prefix=_STAGE, dir=out) as folder:
        staged = {what: Path(folder) / path.relative_to(out) for what, path in paths.items()}
        yield staged
        for what, path in paths.items():
            path.parent.mkdir(exist_ok=True)
            os.replace(staged[what], path)


def _write_companions(
    enhancer: Enhancer, job: _Job, frame: RawFrame, enhanced: Enhanced, record: dict[str, Any]
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


def _decode_ahead(jobs: Sequence[_Job]) -> Iterator[tuple[_Job, Future[RawFrame]]]:
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
