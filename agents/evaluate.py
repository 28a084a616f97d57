"""Compare a trained policy with the camera, LibRaw and searches on any folder.

``python agents/evaluate.py --run RUN --input DIR [--reference DIR] [--json OUT] [--curve PNG]``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.comparing import compare
from agents.curves import Point, draw_curve, write_curve
from agents.enhancer import check_card
from agents.evaluation import table
from agents.judging import find_judges, judging
from agents.policy_file import StoredPolicy, load_policy
from attiqa.devices import pick_device
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import check_writable, write_json
from attiqa.options import option, parse
from attiqa.rewards.registry import full_name
from attiqa.threads import THREADS, limit_threads
from isp_env.photographs import KINDS


@dataclass(frozen=True)
class EvaluateOptions:
    """What the command line can say."""

    run: Path = option(help="run folder of agents/train_isp.py")
    input: list[Path] = option(help="raws, photographs, or folders of them", metavar="FILE_OR_DIR")
    also: list[Path] = option([], help="run folders of further policies for the same reward", metavar="RUN")
    portable: bool = option(
        False,
        help="a row more for --run as ONNX and TorchScript have it: told the mean of slopes, none of a "
        "picture's own",
    )
    unprocess: str | None = option(
        None,
        choices=tuple(KINDS),
        help="turn photographs into raws, as training does: a hurried photographer's, or a careful one's "
        "that lack only their camera's curve and small errors",
    )
    reference: Path | None = option(None, help="folder of finished pictures of the same names")
    json: Path | None = option(None, help="where the whole record goes")
    curve: Path | None = option(
        None, help="picture (.png) of gain against evaluations; its numbers go beside it (.csv)"
    )
    random: int = option(64, help="renders an image of random search")
    search: int = option(400, help="renders an image of CMA-ES and of coordinate search; 0 leaves them out")
    search_runs: int = option(
        1,
        help="runs of random search and of CMA-ES, from --seed on, whose mean is their row: one ends by "
        "chance higher or lower than the next",
    )
    seed: int = option(0, help="of the searches, and of what --unprocess draws")
    peer_weights: Path | None = option(
        None, help="folder with the files of NIMA, NIQE and BRISQUE (attiqa/peers.py), which then judge"
    )
    judges: list[str] = option([], help="further judges: no-reference metrics of pyiqa", metavar="NAME")
    device: str = option("auto", help="where images are rendered and scored: cpu, cuda, mps or auto")
    threads: int = option(0, help=THREADS)

    def __post_init__(self) -> None:
        if self.random < 1 or self.search_runs < 1 or self.search < 0 or self.seed < 0:
            raise InputError(
                "--random and --search-runs must be at least 1; --search and --seed must not be negative."
            )
        if self.unprocess and self.reference:
            raise InputError("--unprocess crops the photographs: no --reference fits them; leave one away.")
        if self.curve and self.curve.suffix.lower() != ".png":
            raise InputError(f"--curve is a picture and ends in .png; got {self.curve}.")
        for path in (self.json, self.curve):
            if path and path.is_dir():
                raise InputError(f"{path} is a folder; --json and --curve are files.")


@command
def main(argv: list[str] | None = None) -> int:
    """Evaluate and print the table."""
    options = parse(EvaluateOptions, argv, prog="evaluate.py", description=" ".join(__doc__.split()))
    limit_threads(options.threads)
    for path in (options.json, options.curve):  # known before the searches, not after them
        if path:
            check_writable(path)
    stored = load_policy(options.run)
    further = {f"policy {run}": load_policy(run) for run in options.also}
    if options.portable:
        further["policy portable"] = _portable(stored, options.run)
    device = str(pick_device(options.device))
    reward = stored.card["reward"]
    judges = find_judges(reward, device, options.peer_weights, options.judges)
    for sentence in judges.missing:
        print(sentence, file=sys.stderr)
    scores = judging(reward, device, judges)
    check_card(stored.card, scores)
    for name, other in further.items():
        check_card(other.card, scores)
        _check_same(stored, name, other)
    record = compare(
        stored,
        scores,
        options.input,
        further=further,
        references=options.reference,
        unprocess=options.unprocess,
        random_renders=options.random,
        search_renders=options.search,
        search_runs=options.search_runs,
        seed=options.seed,
        device=device,
    )
    for sentence in record["failures"]:
        print(f"skipped: {sentence}", file=sys.stderr)
    print(table(record["held_out"]))
    for search, gains in record["search_runs"].items():
        if len(gains) > 1:
            name, least, most = search.replace("_", " "), min(gains), max(gains)
            print(f"{name}: the mean of {len(gains)} runs, which end between {least:+.4f} and {most:+.4f}")
    if stored.card["task"] == "tools":
        print("the searches set parameters, not tools: what the camera could have done")
    for policy, shares in record["shares_of"].items():
        for search, found in shares.items():
            if found["share"] is not None:
                print(f"{_reached(policy, found)} of the gain of {search.replace('_', ' ')}")
    for warning in record["warnings"]:
        print(f"warning: {warning}")
    if options.json:
        write_json(options.json, record)
    if options.curve:
        points = [Point(**row) for row in record["curve"]]
        write_curve(options.curve.with_suffix(".csv"), points)
        draw_curve(options.curve, points, f"{len(record['files'])} held-out frames")
    return EXIT_OK


def _portable(stored: StoredPolicy, run: Path) -> StoredPolicy:
    """The policy without slopes; `InputError` where that is no other one, or none."""
    if not stored.sees_slopes or stored.algo == "climb":
        how = "climbs by them" if stored.algo == "climb" else "reads none"
        raise InputError(
            f"--portable is for policies that read slopes and can do without; {run} {how}. Leave it away."
        )
    return stored.without_slopes()


def _check_same(stored: StoredPolicy, name: str, other: StoredPolicy) -> None:
    """Raise `InputError` where another policy was made for something else."""
    own, theirs = (
        {"reward": full_name(policy.card["reward"]), "short_side": policy.card["short_side"]}
        for policy in (stored, other)
    )
    for entry, value in own.items():
        if theirs[entry] != value:
            raise InputError(
                f"{name} was trained with {entry} {theirs[entry]} and --run with {value}: policies of one "
                "table share reward and preview size."
            )


def _reached(policy: str, found: Mapping[str, Any]) -> str:
    interval = found["share_ci95"]
    between = f" [{interval[0]:.0%}, {interval[1]:.0%}]" if interval else ""
    return f"{policy} reaches {found['share']:.0%}{between}"


if __name__ == "__main__":
    sys.exit(main(None))
