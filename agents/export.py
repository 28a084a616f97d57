"""Enhance raws and photographs with a trained policy.

``python agents/export.py --input FILE_OR_DIR... --out DIR [--run RUN]``. The exit code is 0 when every file
was exported or existed already, and 2 when any failed; the others are done all the same.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.crew import Crew
from agents.enhancer import load_enhancer
from agents.exporting import export
from agents.image_files import SUFFIXES
from agents.policy_file import SHIPPED
from agents.products import Products
from attiqa.devices import pick_device
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.options import option, parse
from attiqa.threads import THREADS, limit_threads


@dataclass(frozen=True)
class ExportOptions:
    """What the command line can say."""

    input: list[Path] = option(help="raws, photographs, or folders of them", metavar="FILE_OR_DIR")
    out: Path = option(help="where pictures and their parameters go; made where missing")
    run: Path = option(
        SHIPPED / "five-looks", help="run folder of agents/train_isp.py, or a policy that ships"
    )
    looks: int | None = option(None, help="of a policy of several, how many it takes; all by default")
    format: str = option("jpeg", help="8-bit jpeg, 16-bit png or 16-bit tiff", choices=list(SUFFIXES))
    quality: int = option(95, help="of a JPEG, 1 to 100")
    neutral: bool = option(False, help="NAME.neutral.*: the camera's render, to which NAME.cube applies")
    lut: bool = option(False, help="NAME.cube: the global colour part as a 33-point lookup table")
    xmp: bool = option(False, help="NAME.xmp: a sidecar for Lightroom and what reads its sidecars")
    sheet: bool = option(False, help="NAME.sheet.png: neutral, enhanced, and the parameters as bars")
    report: bool = option(False, help="report.html: all pictures before and after, under sliders")
    overwrite: bool = option(False, help="replace files that exist")
    device: str = option("auto", help="where pictures are rendered and scored: cpu, cuda, mps or auto")
    threads: int = option(0, help=THREADS)
    workers: int = option(
        0, help="processes that share files and threads; 0 for as many as files, threads and memory suggest"
    )

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality lies between 1 and 100; got {self.quality}.")
        if self.workers < 0:
            raise InputError(f"--workers must not be negative; got {self.workers}.")
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"{self.out} is a file; --out is a folder.")


@command
def main(argv: list[str] | None = None) -> int:
    """Export, and say what became of each file."""
    options = parse(ExportOptions, argv, prog="export.py", description=" ".join(__doc__.split()))
    limit_threads(options.threads)
    load = partial(load_enhancer, options.run, str(pick_device(options.device)), options.looks)
    enhancer = load()
    done = export(
        enhancer,
        options.input,
        options.out,
        Products(
            kind=options.format,
            quality=options.quality,
            neutral=options.neutral,
            lut=options.lut,
            xmp=options.xmp,
            sheet=options.sheet,
            report=options.report,
        ),
        overwrite=options.overwrite,
        work=Crew(load, enhancer, options.workers),
    )
    for _, sentence in done.failures:
        print(f"failed: {sentence}", file=sys.stderr)
    for sentence in done.remarks:
        print(f"remark: {sentence}", file=sys.stderr)
    for picture in done.kept:
        print(f"kept: {picture} exists; --overwrite replaces it", file=sys.stderr)
    if done.page:
        print(f"before and after: {done.page}")
    print(f"{len(done.written)} written to {options.out}, {len(done.kept)} kept, {len(done.failures)} failed")
    return EXIT_BAD_INPUT if done.failures else EXIT_OK


if __name__ == "__main__":
    sys.exit(main(None))
