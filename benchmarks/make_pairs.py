"""Make pairs of generated images for people to judge. ``python benchmarks/make_pairs.py --help``.

Writes ``images/`` and ``pairs.csv`` with empty votes; once they are filled, ``sd_pairs.py --data DIR`` reads
them.
A run that was stopped makes only the pictures that are missing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import read_json
from attiqa.options import as_record, option, parse
from benchmarks.generation import diffusion_generator, generate, plan, read_prompts, write_to_rate
from benchmarks.records import RECORD_NAME, command_line, portable, write_record


@dataclass(frozen=True, kw_only=True)
class MakeOptions:
    """Options of the generator of pairs."""

    model: str = option(help="diffusers checkpoint: local folder or hub id")
    prompts: Path = option(help="text file, one prompt a line", metavar="FILE")
    out: Path = option(help="folder that gets images and pairs.csv", metavar="DIR")
    pairs_per_prompt: int = option(1, help="pairs for each prompt")
    seed: int = option(0, help="all pictures' seeds derive from it")
    steps: int = option(50, help="denoising steps")
    guidance: float = option(7.5, help="classifier-free guidance scale")
    size: int | None = option(None, help="height and width in pixels (default: the model's own)")
    device: str = option("cpu", help="where the model runs")

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"--steps is 1 or more; it is {self.steps}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Make what is missing and write the table; returns the exit code."""
    options = parse(MakeOptions, argv, prog="benchmarks/make_pairs.py", description=__doc__ or "")
    pairs = plan(read_prompts(options.prompts), options.pairs_per_prompt, options.seed)
    _check_same_run(options)
    table = options.out / "pairs.csv"
    generator, facts = diffusion_generator(
        options.model,
        device=options.device,
        steps=options.steps,
        guidance=options.guidance,
        size=options.size,
    )
    content = {"options": as_record(options), "generator": facts, "pairs": len(pairs)}
    write_record(options.out, "make_pairs", command_line("benchmarks/make_pairs.py", argv), content)
    made = generate(pairs, generator, options.out)
    if not table.exists():  # votes that people have filled in are never overwritten
        write_to_rate(table, pairs)
    print(f"{made} pictures made, {2 * len(pairs) - made} were there; fill the votes in {table}.")
    return EXIT_OK


def _check_same_run(options: MakeOptions) -> None:
    """A folder holds the pictures of one model and one setting."""
    record = options.out / RECORD_NAME
    if not record.exists():
        return
    before = read_json(record, "the record of an earlier run").get("options", {})
    now = portable(as_record(options))
    changed = [name for name in now if name not in ("out", "device") and before.get(name) != now[name]]
    if changed:
        raise InputError(
            f"{options.out} was made with another {', '.join(changed)}; "
            "give --out a new folder or the same settings."
        )


if __name__ == "__main__":
    sys.exit(main(None))
