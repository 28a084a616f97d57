"""Set trained runs side by side: ``python agents/compare_runs.py --run RUN RUN --out sheet.jpg``.

Every policy acts on the same scenes and is paid by every run's reward, and judges look on that are in none.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.evaluation import table
from agents.run_sheets import compare_runs, draw_runs
from attiqa.devices import pick_device
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import write_json
from attiqa.options import option, parse


@dataclass(frozen=True)
class CompareOptions:
    """What the command line can say."""

    run: list[Path] = option(help="run folders of agents/train_isp.py", metavar="DIR")
    out: Path | None = option(None, help="where the picture goes, a .png or .jpg")
    input: list[Path] = option(
        [], help="raws, photographs or folders; else the held-out raws that the first run made itself"
    )
    json: Path | None = option(None, help="where the tables go")
    scenes: int = option(6, help="scenes on the picture")
    peer_weights: Path | None = option(None, help="folder with the files of NIMA, NIQE and BRISQUE")
    judges: list[str] = option([], help="further judges: no-reference metrics of pyiqa", metavar="NAME")
    device: str = option("auto", help="where images are rendered and scored: cpu, cuda, mps or auto")

    def __post_init__(self) -> None:
        if self.scenes < 1:
            raise InputError(f"--scenes must be at least 1; got {self.scenes}.")
        if self.out and self.out.suffix not in (".png", ".jpg", ".jpeg"):
            raise InputError(f"--out is a .png or a .jpg; got {self.out}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Compare, print one table a reward, draw the picture."""
    options = parse(CompareOptions, argv, prog="compare_runs.py", description=" ".join(__doc__.split()))
    compared = compare_runs(
        options.run,
        options.input,
        weights=options.peer_weights,
        named=options.judges,
        device=str(pick_device(options.device)),
    )
    for sentence in compared.failures:
        print(f"skipped: {sentence}", file=sys.stderr)
    tables = compared.tables()
    for name, rows in tables.items():
        print(f"under the reward of {name}:\n{table(rows)}\n")
    for name, values in compared.judged.items():
        if len(values):
            low, high = compared.benches[name].interval(values)
            print(
                f"{name}: the median judge moves by {values.mean():+.2f} [{low:+.2f}, {high:+.2f}] of its "
                "spread between scenes"
            )
    if options.out:
        draw_runs(options.out, compared, options.run, options.scenes)
    if options.json:
        judged = {name: values.tolist() for name, values in compared.judged.items()}
        write_json(options.json, {"tables": tables, "median_judge": judged})
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(None))
