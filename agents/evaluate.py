"""Compare a trained policy with the camera, LibRaw and searches on any folder.

``python agents/evaluate.py --run RUN --input DIR [--reference DIR] [--json OUT]``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.comparing import compare
from agents.evaluation import table
from agents.judging import find_judges, judging
from agents.policy_file import load_policy
from attiqa.devices import pick_device
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import write_json
from attiqa.options import option, parse


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line can say."""

    run: Path = option(help="run folder of agents/train_isp.py")
    input: list[Path] = option(help="raws, photographs, or folders of them", metavar="FILE_OR_DIR")
    reference: Path | None = option(None, help="folder of finished pictures of the same names")
    json: Path | None = option(None, help="where the whole record goes")
    random: int = option(64, help="renders an image of random search")
    search: int = option(400, help="renders an image of CMA-ES and of coordinate search; 0 leaves them out")
    seed: int = option(0, help="of the searches")
    peer_weights: Path | None = option(
        None, help="folder with the files of NIMA, NIQE and BRISQUE (attiqa/peers.py), which then judge"
    )
    judges: list[str] = option([], help="further judges: no-reference metrics of pyiqa", metavar="NAME")
    device: str = option("auto", help="where images are rendered and scored: cpu, cuda, mps or auto")

    def __post_init__(self) -> None:
        if self.random < 1 or self.search < 0 or self.seed < 0:
            raise InputError("--random must be at least 1; --search and --seed must not be negative.")


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluate and print the table."""
    options = parse(EvaluateOptions, argv, prog="evaluate.py", description=" ".join(__doc__.split()))
    stored = load_policy(options.run)
    device = str(pick_device(options.device))
    reward = stored.card["reward"]
    judges = find_judges(reward, device, options.peer_weights, options.judges)
    for sentence in judges.missing:
        print(sentence, file=sys.stderr)
    record = compare(
        stored,
        judging(reward, device, judges),
        options.input,
        references=options.reference,
        random_renders=options.random,
        search_renders=options.search,
        seed=options.seed,
        device=device,
    )
    for sentence in record["failures"]:
        print(f"skipped: {sentence}", file=sys.stderr)
    print(table(record["held_out"]))
    for name, share in record["shares_of"].items():
        if share is not None:
            print(f"the policy reaches {share:.0%} of the gain of {name.replace('_', ' ')}")
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    if options.json:
        write_json(options.json, record)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(None))
