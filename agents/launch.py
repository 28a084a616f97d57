"""From a run's options to a finished run: scenes, scores, experiment, training, table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.checkpoint import check_checkpoint
from agents.evaluation import Bench, table
from agents.experiment import SEARCHED, Experiment
from agents.judging import Judging, find_judges, judging
from agents.playing import check_task
from agents.runs import CHECKPOINT, METRICS, check_new, read_metrics
from agents.scenes import Scenes, embedded_scenes, photograph_scenes, raw_scenes
from agents.starting import beginning, check_start, kept_start
from agents.training import GAIN
from attiqa.images import IMAGE_SUFFIXES, list_images
from attiqa.rewards.registry import build_reward
from isp_env.envs.core import Core
from isp_env.frame import FrameSource
from isp_env.parameters import TUNE_PARAMETERS, ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import RAW_SUFFIXES

MAX_BATCH = 16  # on a CPU: larger groups leave its caches and are slower an image
RAWS = "scenes"  # folder of the raws that a run makes for itself


def check_inputs(options: Mapping[str, Any]) -> None:
    """Raise `InputError` for what can be known to be wrong before a run has a folder."""
    if options["out"] is not None:
        check_new(Path(options["out"]))
    paths = [Path(path) for path in options["raws"] or options["photos"]]
    if paths:
        list_images(paths, RAW_SUFFIXES | IMAGE_SUFFIXES)
    build_reward(options["reward"], options["device"], options["precision"])
    check_task(options["algo"], options["task"], options["slopes"])
    check_start(options)


def make_core(source: FrameSource, scores: Judging, short_side: int, device: str) -> Core:
    """Frames of `source` under the ISP and the reward."""
    space = ParameterSpace(TUNE_PARAMETERS)
    return Core(
        source,
        space,
        Pipeline(space),
        scores.reward,
        short_side=short_side,
        device=device,
        max_batch=MAX_BATCH if device == "cpu" else 64,
        encoder=scores.encoder,
    )


def in_training(scores: Judging, options: Mapping[str, Any]) -> Judging:
    """`scores` with the reward in the precision that the run trains in; tables are made in float32."""
    precision = options.get("precision") or "float32"
    if precision == "float32":
        return scores
    return dataclasses.replace(scores, reward=build_reward(options["reward"], options["device"], precision))


def build_experiment(
    run: Path, options: Mapping[str, Any], *, continued: bool = False
) -> tuple[Experiment, Scenes]:
    """Decode the raws that `options` (the record of a run's options) name and build the run over them.

    Prints who judges it.
    """
    weights, named = options.get("peer_weights"), options.get("judges") or []
    judges = find_judges(options["reward"], options["device"], Path(weights) if weights else None, named)
    print(*judges.describe(asked=bool(weights or named)), sep="\n", flush=True)
    scores = judging(options["reward"], options["device"], judges)
    seed, short_side = options["seed"], options["short_side"]
    scenes = _scenes(run, options)
    if continued:  # minutes of decoding and measuring come first otherwise
        check_checkpoint(run / CHECKPOINT)
    teaching = in_training(scores, options)
    cores = [make_core(scenes.training, teaching, short_side, options["device"])]
    if not scenes.alone or teaching is not scores:
        cores.append(make_core(scenes.held_out, scores, short_side, options["device"]))
    # where one scene is all there is, both cores read the same raws
    failed = dict(failure for core in cores for failure in core.table.failures)
    scenes.failures.extend((Path(name), sentence) for name, sentence in failed.items())
    bench = Bench(cores[-1], scores.score, scores.judges, scenes.clusters(cores[-1].names))
    first = kept_start(run, options, scores)
    print(beginning(first, options), flush=True)
    start = {"start": {"policy_digest": first.digest}} if first else {}
    experiment = Experiment(
        run,
        cores[0],
        bench,
        task=options["task"],
        algo=options["algo"],
        steps=options["steps"],
        seed=seed,
        num_envs=options["num_envs"],
        every=options.get("evaluate_every") or 0,  # runs of earlier versions have neither
        patience=(options.get("patience") or 0) if options.get("stop_when") == "plateau" else 0,
        first=first,
        slopes=bool(options.get("slopes")),
        about=scores.about | {"short_side": short_side, "held_out_is_training": scenes.alone} | start,
        continued=continued,
    )
    return experiment, scenes


def finish(experiment: Experiment, scenes: Scenes, options: Mapping[str, Any]) -> dict[str, Any]:
    """Train to the end, compare on the held-out scenes, write the folder; prints what a user should know.

    Returns:
        The summary.
    """
    print(*scenes.describe(), sep="\n", flush=True)
    seconds = experiment.train(time_limit=60.0 * options["minutes"])
    if experiment.held_out.enough():
        print(
            f"stopped after {experiment.model.num_timesteps} renders: the held-out gain has not risen for "
            f"{experiment.held_out.patience} evaluations. --stop-when steps with --resume goes on."
        )
    outcomes = experiment.compare(scenes.held_out, options["short_side"])
    summary = experiment.conclude(outcomes, seconds)
    print(f"\n{table(summary['held_out'])}\n")
    share = summary["share_of_random_search"]
    if share is not None and share > 0:
        spent = outcomes["policy"].evaluations
        print(
            f"the policy reaches {share:.0%} of random search's gain with {spent} of its {SEARCHED} renders"
        )
    elif share is not None:
        helps = mend(experiment.run / METRICS)
        print(f"the policy renders no better than neutral on the held-out scenes{helps}")
    for warning in summary["warnings"]:
        print(f"warning: {warning}")
    print(f"run folder: {experiment.run}")
    print(f"enhance files: python agents/export.py --run {experiment.run} --input FILES --out DIR")
    return summary


def mend(metrics: Path) -> str:
    """What helps a policy that gains nothing on scenes that it never saw, by how it fares on its own.

    Args:
        metrics: of its run; the last eighth of its rollouts counts.
    """
    gains = [float(row[GAIN]) for row in read_metrics(metrics) if row.get(GAIN)]
    recent = gains[-max(len(gains) // 8, 1) :]
    own = sum(recent) / max(len(recent), 1)
    if own <= 0:
        return ": train for more --steps"
    return (
        f", while it gains {own:+.4f} on those that it trains on: they are too few to tell what others need; "
        "name more of them with --photos or --raws"
    )


def _scenes(run: Path, options: Mapping[str, Any]) -> Scenes:
    paths = [Path(path) for path in options["raws"] or options["photos"]]
    seed, copies, spare = options["seed"], options.get("copies") or 0, bool(options.get("spare"))
    if options["raws"]:
        return raw_scenes(paths, seed, copies, spare)
    if options["photos"]:
        return photograph_scenes(paths, run / RAWS, seed, copies, spare)
    return embedded_scenes(run / RAWS, options["seed"])
