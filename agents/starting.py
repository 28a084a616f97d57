"""What a run begins with: the neutral render, or a policy of one look that was stored before."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.enhancer import check_card
from agents.judging import Judging
from agents.policy import COMPONENTS
from agents.policy_file import CARD, SHIPPED, WEIGHTS, StoredPolicy, load_policy
from agents.runs import START
from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json
from attiqa.rewards.registry import full_name
from isp_env.parameters import TUNE_PARAMETERS

NEUTRAL = "neutral"  # what --start calls no start
ONE_LOOK = SHIPPED / "photographs"  # the policy that ships for one look


def start_of(options: Mapping[str, Any]) -> str | None:
    """The folder of the policy that a new run begins with; None: it begins at the neutral render.

    Where nothing is said, PPO on the task tune goes on from the policy that ships, and climb begins with it,
    if that was trained for the same reward on previews of the same size; all else begins at the neutral
    render.
    """
    if options["start"] is not None:
        return None if options["start"] == NEUTRAL else str(options["start"])
    if (options["task"], options["algo"]) not in (("tune", "ppo"), ("refine", "climb")):
        return None
    card = read_json(ONE_LOOK / CARD, "the card of the policy that ships")
    fits = full_name(card["reward"]) == full_name(options["reward"])
    fits = fits and card["short_side"] == options["short_side"]
    return str(ONE_LOOK) if fits else None


def check_start(options: Mapping[str, Any]) -> None:
    """Raise `InputError` where a run cannot begin with the policy ``options["start"]``, if it names one."""
    if not options["start"]:
        if options["algo"] == "climb":
            raise InputError(
                "--algo climb begins with the answer of a policy of one look: name its folder with --start. "
                "The one that ships fits the default --reward and --short-side; --task tune --algo dpg "
                "trains others."
            )
        return
    stored = load_policy(Path(options["start"]))
    asked = (options["task"], options["algo"])
    if asked not in (("tune", "ppo"), ("tune", "dpg"), ("refine", "dpg"), ("refine", "climb")):
        raise InputError(
            f"--start belongs to --task tune --algo ppo or dpg and to --task refine --algo dpg or climb; got "
            f"{' and '.join(asked)}."
        )
    card, network = stored.card, stored.card["network"]
    names = tuple(row["name"] for row in card.get("parameters", ()))
    came = (card.get("task"), stored.algo, card.get("short_side"))
    built = (names, network["components"])
    able = stored.algo == "dpg" or (stored.algo == "ppo" and network["begun"])
    ours = came[::2] == ("tune", options["short_side"]) and built == (TUNE_PARAMETERS, COMPONENTS)
    if not (able and ours):
        raise InputError(
            "--start takes a policy that this version trained with --task tune --algo dpg, or with --algo "
            f"ppo from such a start, and --short-side {options['short_side']}; {options['start']} is one of "
            f"{came[0]}, {came[1]} and {came[2]}, with {len(names)} parameters."
        )


def exchange_start(run: Path, options: Mapping[str, Any]) -> None:
    """Let another policy, ``options["start"]``, make the first change in a run that goes on."""
    check_start(options)
    if (run / START / CARD).is_file():
        before, after = (load_policy(folder).sees for folder in (run / START, Path(options["start"])))
        if before != after:
            raise InputError(
                f"{run} was started with a policy that sees {', '.join(before)}; {options['start']} sees "
                f"{', '.join(after)}. Start a new run with it."
            )
    _keep(run, Path(options["start"]))


def kept_start(run: Path, options: Mapping[str, Any], scores: Judging) -> StoredPolicy | None:
    """The policy of --start, from the copy that the run keeps of it."""
    if not options.get("start"):
        return None
    if not (run / START / CARD).is_file():
        _keep(run, Path(options["start"]))
    stored = load_policy(run / START, options["device"])
    check_card(stored.card, scores)
    return stored


def beginning(first: StoredPolicy | None, options: Mapping[str, Any]) -> str:
    """What a user should know of a run's start, in a line."""
    if first is None:
        begins = "begins at the neutral render."
        if (options["task"], options["algo"]) != ("tune", "ppo"):
            return begins
        return (
            f"{begins} From there --algo dpg --slopes learns most of as many renders, where torch can "
            "differentiate the reward."
        )
    return f"begins with {options['start']} ({first.algo}, {first.card.get('steps')} renders)."


def _keep(run: Path, start: Path) -> None:
    """Copy a policy into the run, which then needs `start` no more."""
    (run / START).mkdir(exist_ok=True)
    for name in (WEIGHTS, CARD):
        with atomic_path(run / START / name) as temporary:
            shutil.copyfile(start / name, temporary)
