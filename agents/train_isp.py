"""Train an agent that sets ISP parameters for each raw: ``python agents/train_isp.py``.

Without arguments it makes raws from photographs inside installed packages and trains on those; ``--raws``
takes a camera's own files. See ``--help``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.launch import build_experiment, check_inputs, finish
from agents.playing import TASKS
from agents.policy import ALGORITHMS
from agents.runs import CONFIG, command_line, new_run, read_config, versions
from agents.starting import NEUTRAL, exchange_start, start_of
from attiqa.devices import pick_device
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import write_json
from attiqa.model import PRECISIONS
from attiqa.options import as_record, option, parse, said
from attiqa.rewards.registry import full_name
from attiqa.threads import THREADS, limit_threads

DEFAULT_STEPS = 5632
DEFAULT_PATIENCE = 3
# what a sitting may have of its own; the rest is the run's
CHANGEABLE = ("steps", "stop_when", "patience", "minutes", "threads")
JOINING = ("spare", "start")  # and what one may bring and leaves to the next


@dataclass(frozen=True)
class TrainOptions:
    """What the command line can say."""

    raws: list[Path] = option([], help="raw files or folders of them; a quarter of the files is held out")
    photos: list[Path] = option(
        [], help="photographs or folders of them, turned into raws with errors to mend"
    )
    steps: int | None = option(None, help=f"renders in all ({DEFAULT_STEPS} where nothing is said)")
    seed: int = option(0, help="of scenes, split, exploration and networks")
    num_envs: int = option(64, help="scenes that are rendered together")
    out: Path | None = option(
        None, help="run folder, which must not exist (runs/DATE-TIME where nothing is said)"
    )
    device: str = option("auto", help="where images are rendered and scored: cpu, cuda, cuda:1, mps or auto")
    reward: str = option(
        "guarded",
        help="guarded, or with options as guarded:views=whole,deviations=0,clip_weight=0; "
        "attiqa-mini (unguarded), an attribute, a .safetensors file or module:callable",
    )
    resume: Path | None = option(
        None,
        help="run folder to continue with its own options; --steps, --stop-when, --patience, --minutes and "
        "--threads may be changed, --spare may join, and --start may name another first look",
    )
    algo: str = option(
        "ppo",
        help="learner; climb, of --task refine, goes by the slopes of a reward that torch can differentiate",
        choices=list(ALGORITHMS),
    )
    task: str = option("tune", help="all parameters at once, changes in steps, or tools", choices=list(TASKS))
    start: str | None = option(
        None,
        help="neutral, or folder of a policy of one look: --task tune --algo ppo or dpg goes on from it, in "
        "--task refine --algo dpg or climb it makes the first look. Where nothing is said, ppo on tune and "
        "climb take policies/photographs if that has the same --reward and --short-side; all else begins at "
        "the neutral render",
        metavar="RUN",
    )
    slopes: bool = option(
        False,
        help="with --task tune or refine: the policy sees how the reward, which torch must be able to "
        "differentiate, rises with each parameter at the neutral render; it does where --start does",
    )
    judges: list[str] = option(
        [], help="further judges, outside the reward: no-reference metrics of pyiqa", metavar="NAME"
    )
    peer_weights: Path | None = option(
        None, help="folder with the files of NIMA, NIQE and BRISQUE (attiqa/peers.py), which then judge"
    )
    stop_when: str | None = option(
        None,
        help="steps (where nothing is said), or plateau: the gain on the held-out scenes has not risen above "
        "its best for --patience evaluations; --steps is then the most",
        choices=["steps", "plateau"],
    )
    patience: int | None = option(
        None,
        help="evaluations without a better gain that make a plateau "
        f"({DEFAULT_PATIENCE} where nothing is said)",
    )
    evaluate_every: int = option(
        0, help="renders between two evaluations on the held-out scenes; 0 for an eighth of --steps"
    )
    copies: int = option(
        0,
        help="raws to train on that are made of each photograph, or variations of each raw; 0 for a few "
        "hundred of them all",
    )
    spare: bool = option(
        False,
        help="with --photos and --raws: every second raw to train on is as a camera leaves it in good light; "
        "with --resume from there on",
    )
    precision: str = option(
        "float32",
        help="of the reward's network while training; tables are always made in float32",
        choices=list(PRECISIONS),
    )
    short_side: int = option(256, help="pixels of a preview's short side")
    minutes: float = option(0.0, help="stop training early after so long, resumable; 0 for no limit")
    threads: int = option(0, help=THREADS)

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} must be at least 1; got {value}.")
        if not min(self.seed, self.evaluate_every, self.copies) >= 0 or not self.minutes >= 0:  # nor NaN
            raise InputError("--seed, --minutes, --evaluate-every and --copies must not be negative.")
        if self.raws and self.photos:
            raise InputError("--raws and --photos are two sources; give one of them.")
        if (self.copies or self.spare) and not (self.raws or self.photos or self.resume):
            raise InputError(
                "--copies and --spare belong to --photos and --raws; the embedded scenes have their own."
            )
        if self.resume and self.out:
            raise InputError("--resume continues in the run's own folder; leave --out away.")


@command
def main(argv: list[str] | None = None) -> int:
    """Train, print the held-out table, leave the run folder."""
    given = parse(TrainOptions, argv, prog="train_isp.py", description=__doc__.splitlines()[0])
    limit_threads(given.threads)
    if given.resume:
        run = given.resume
        config = read_config(run)
        options = _continued(config["options"], given, said(TrainOptions, argv))
        if given.start and options["task"] == "refine":  # its folder may hold a better policy by now
            exchange_start(run, options)
    else:
        options = as_record(given) | {
            "steps": given.steps or DEFAULT_STEPS,
            "patience": given.patience or DEFAULT_PATIENCE,
            "device": str(pick_device(given.device)),
            "reward": full_name(given.reward),
        }
        options["start"] = start_of(options)
        check_inputs(options)  # a wrong name leaves no folder behind
        run = new_run(given.out, {"options": options, "command": command_line(), "versions": versions()})
    try:
        experiment, scenes = build_experiment(run, options, continued=given.resume is not None)
    except BaseException:
        if not given.resume:  # nothing was learnt yet: the same --out may be tried again
            shutil.rmtree(run, ignore_errors=True)
        raise
    if given.resume:  # the next sitting goes on with what joined, whether it says so or not
        joined = {name: options[name] for name in JOINING}
        write_json(run / CONFIG, config | {"options": config["options"] | joined})
    finish(experiment, scenes, options)
    return EXIT_OK


def _continued(own: dict[str, Any], given: TrainOptions, named: Collection[str]) -> dict[str, Any]:
    """The options of a run that goes on; `InputError` where others were `named` than it was started with."""
    asked, defaults = as_record(given), as_record(TrainOptions())
    asked["reward"], own = full_name(given.reward), own | {"reward": full_name(own["reward"])}
    for name in sorted(set(named) - {*CHANGEABLE, "resume"}):
        started = own.get(name, defaults[name])
        if name == "start":
            started = started or NEUTRAL
        if asked[name] == started or _joins(name, own, given):
            continue
        flag = f"--{name.replace('_', '-')}"
        raise InputError(
            f"{given.resume} was started with {flag} {started}, and {asked[name]} was given: a run goes on "
            f"with its own options; leave {flag} away, or start a new run."
        )
    if given.spare and not (own.get("raws") or own.get("photos")):
        raise InputError(
            f"{given.resume} trains on the embedded scenes, which have no --spare; leave it away."
        )
    asked["start"] = None if given.start == NEUTRAL else given.start
    changed = {name: asked[name] for name in ("steps", "stop_when", "patience", *JOINING) if asked[name]}
    return {"spare": False, "start": None} | own | changed | {"minutes": given.minutes}


def _joins(name: str, own: dict[str, Any], given: TrainOptions) -> bool:
    """Whether a run that was started without it takes an option from a later sitting, and keeps it."""
    if name == "start":  # another first look for a run of several that has one
        return given.start != NEUTRAL and own.get("start") is not None and own.get("task") == "refine"
    return name == "spare" and given.spare


if __name__ == "__main__":
    sys.exit(main(None))
