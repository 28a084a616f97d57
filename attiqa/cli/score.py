"""``attiqa score PATHS...``: five attributes and a quality score for every image."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from attiqa.devices import pick_device
from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.files import printable
from attiqa.model import DEFAULT_MODEL, QualityModel, load
from attiqa.options import option, parse
from attiqa.progress import progress_bar
from attiqa.ray_engine import ENGINES, score_files_on_ray, start_ray
from attiqa.score_table import ScoreTable, as_row, score_protocol
from attiqa.scoring import ScoredImage, expand_inputs, score_files
from attiqa.views import VIEWS


@dataclass(frozen=True)
class ScoreOptions:
    """Options of ``attiqa score``."""

    paths: list[Path] = option(positional=True, metavar="PATHS", help="image files, and folders of them")
    csv: Path | None = option(None, help="write a CSV here; a killed run is resumed from it")
    model: str = option(DEFAULT_MODEL, help="a bundled model, a .safetensors file, or a hub id")
    crops: str = option("whole", choices=VIEWS, help="what the model sees of each image")
    workers: int = option(0, help="threads that decode images; 0 takes one for each processor")
    batch: int = option(32, help="images in one forward pass")
    device: str = option("auto", help="cpu, cuda, or auto")
    engine: str = option(
        "local",
        choices=ENGINES,
        help="ray: on the actors of a Ray cluster (extra ray), for very large sets; --workers counts them",
    )

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"--batch must be at least 1; it is {self.batch}.")
        if self.workers < 0:
            raise InputError(f"--workers must not be negative; it is {self.workers}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Score images; exit code 2 if none could be scored."""
    options = parse(
        ScoreOptions,
        argv,
        prog="attiqa score",
        description="Quality and five attributes of images; higher is better, for noisiness: cleaner.",
    )
    paths = expand_inputs(options.paths)
    if options.engine == "ray":
        start_ray()
    # on Ray, the actors have the devices
    model = load(options.model, device="cpu" if options.engine == "ray" else pick_device(options.device))
    if options.csv is None:
        return _report(*_print_table(model, _results(model, paths, options), paths))
    with ScoreTable(options.csv, score_protocol(model, options.crops), model.attribute_names) as table:
        remaining = [path for path in paths if str(path) not in table.done]
        if len(remaining) < len(paths):
            print(
                f"{len(paths) - len(remaining)} images are scored already in {options.csv}", file=sys.stderr
            )
        failed = 0
        for result in _results(model, remaining, options):
            table.add([result])
            failed += bool(result.error)
            if result.error:
                tqdm.write(f"not scored: {result.error}", file=sys.stderr)
    return _report(len(paths) - failed, failed)


def _results(model: QualityModel, paths: Sequence[Path], options: ScoreOptions) -> Iterator[ScoredImage]:
    if options.engine == "ray":
        results = score_files_on_ray(
            model,
            options.model,
            paths,
            crops=options.crops,
            batch=options.batch,
            workers=options.workers,
            device=options.device,
        )
    else:
        results = score_files(
            model, paths, crops=options.crops, batch=options.batch, workers=options.workers or None
        )
    many = len(paths) > options.batch  # no bar for a handful of files
    yield from progress_bar(results, "scoring", total=len(paths), unit="image", shown=many)


def _print_table(
    model: QualityModel, results: Iterator[ScoredImage], paths: Sequence[Path]
) -> tuple[int, int]:
    names = model.attribute_names
    width = max(4, *(len(printable(path)) for path in paths))
    print(f"{'path':<{width}}  {'score':>7}  " + "  ".join(f"{name:>12}" for name in names))
    scored = failed = 0
    for result in results:
        path, score, *values, error = as_row(result, len(names))
        if error:
            failed += 1
            tqdm.write(f"not scored: {error}", file=sys.stderr)
            continue
        scored += 1
        numbers = "  ".join(f"{float(value):>12.3f}" for value in values)
        tqdm.write(f"{printable(path):<{width}}  {float(score):>7.3f}  {numbers}")
    return scored, failed


def _report(scored: int, failed: int) -> int:
    if failed:
        print(f"{failed} of {scored + failed} images could not be scored", file=sys.stderr)
    return EXIT_OK if scored else EXIT_BAD_INPUT
