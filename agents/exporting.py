"""Which files are exported, and where to: what ``agents/export.py`` does. How is in `agents.products`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agents import gallery
from agents.enhancer import Enhancer
from agents.products import STAGE, Job, Outcome, Products, outcomes
from attiqa.errors import InputError
from attiqa.files import is_abandoned
from attiqa.images import IMAGE_SUFFIXES, list_images
from attiqa.progress import progress_bar
from isp_env.raw import RAW_SUFFIXES
from isp_env.sources import distinct, unique_names

# how jobs are done; `agents.products.outcomes` with an enhancer, or `agents.crew` with several
Work = Callable[[Sequence[Job], Products], Generator[Outcome, None, None]]


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


def export(
    enhancer: Enhancer,
    inputs: Sequence[Path],
    out: Path,
    products: Products | None = None,
    *,
    overwrite: bool = False,
    work: Work | None = None,
) -> Exported:
    """Render files and folders of raws or photographs at full resolution into `out`.

    Inputs that share a name are told apart by suffix or folder; what an export wrote into a folder of inputs
    is no input. A file of which anything exists in `out` already is left alone, unless `overwrite`; an input
    is never written over. A file that fails is named and the rest goes on. Ctrl-C keeps what is finished and
    leaves nothing half done: the same call again exports what is missing. The report shows all that was
    exported into `out` with one, earlier calls included.

    Args:
        enhancer: a policy at work.
        inputs: files and folders.
        out: where to; made where missing.
        products: what is written.
        overwrite: whether files that exist are replaced.
        work: how it is done; by `enhancer` in this process where nothing is said.

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
    work = work or partial(outcomes, enhancer)
    result = Exported()
    jobs = _jobs(inputs, out, products, overwrite, result)
    out.mkdir(parents=True, exist_ok=True)  # where that is refused, nothing needs to be rendered
    _sweep(out)
    bar = progress_bar(total=len(jobs), desc="exporting", unit="file")
    try:
        with closing(work(jobs, products)) as done:  # an interrupt here ends what is at work elsewhere too
            for outcome in done:
                if outcome.failure:
                    result.failures.append((outcome.job.source, outcome.failure))
                else:
                    result.written.append(outcome.job.paths["picture"])
                    result.remarks += outcome.remarks
                bar.update()
    finally:
        bar.close()
        if products.report and (entries := gallery.entries_in(out)):
            result.page = gallery.write_page(out, entries)
    return result


def _jobs(
    inputs: Sequence[Path], out: Path, products: Products, overwrite: bool, result: Exported
) -> list[Job]:
    """One job a file that is to be exported; what is not goes to `result`."""
    sources = _sources([Path(path).absolute() for path in inputs])
    originals = {path.resolve() for path in sources}
    jobs = []
    for source, name in zip(sources, unique_names(sources), strict=True):
        job = Job(source, name, products.paths(out, name))
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


def _sweep(out: Path) -> None:
    """Take away what killed processes left of `_staged`; another export into `out` may be at work."""
    for folder in out.glob(f"{STAGE}*"):
        if is_abandoned(folder.stat().st_mtime):
            shutil.rmtree(folder, ignore_errors=True)
