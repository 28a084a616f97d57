"""A stored policy on any folder, beside the camera, LibRaw and searches, and references if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.curves import policy_point, search_points
from agents.delivery import deliveries, no_worse_than_neutral
from agents.evaluation import (
    Bench,
    Measure,
    Outcome,
    color_measures,
    fallen_judges,
    finite,
    mean_of,
    share_interval,
    share_of,
    summarise,
)
from agents.judging import Judging
from agents.launch import make_core
from agents.playing import best_so_far, envs_of, looks_of
from agents.policy_file import StoredPolicy
from agents.search import SearchResult, cma_es, coordinate_search, random_search
from attiqa.errors import InputError
from attiqa.fidelity import FIDELITY
from attiqa.images import list_images
from isp_env.color import linear_to_srgb
from isp_env.envs.core import Core
from isp_env.envs.frames import Group
from isp_env.photographs import KINDS, UnprocessedPhotographs
from isp_env.raw import read_photograph_as_frame
from isp_env.sources import RawFolder

POLICY = "policy"
FIRST_LOOK = "after one look"  # of the rows of policies that take several


def compare(
    stored: StoredPolicy,
    scores: Judging,
    inputs: list[Path],
    *,
    further: Mapping[str, StoredPolicy] | None = None,
    references: Path | None = None,
    unprocess: str | None = None,
    random_renders: int = 64,
    search_renders: int = 400,
    search_runs: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """The held-out table for `inputs`, and the curve of gain against evaluations, as JSON values.

    Args:
        stored: the policy.
        scores: its reward, eye, score and judges.
        inputs: raws, photographs, or folders of them.
        further: other policies by name, trained for the same reward at the same preview size.
        references: folder of finished pictures of the same names (an expert's); adds PSNR, SSIM, CIEDE2000.
        unprocess: turn the inputs, photographs then, into raws with errors of this kind, one of
            `isp_env.photographs.KINDS`, drawn by `seed`.
        random_renders: renders a frame of random search.
        search_renders: renders a frame of CMA-ES and of coordinate search; 0 leaves them out.
        search_runs: runs of random search and of CMA-ES, from `seed` on, whose mean is their row.
        seed: of the searches and of what `unprocess` draws.
        device: where renders are made and scored.

    Raises:
        InputError: nothing to read, or no reference that fits.
    """
    source = (
        UnprocessedPhotographs(inputs, seed, errors=(KINDS[unprocess],)) if unprocess else RawFolder(inputs)
    )
    short_side = int(stored.card["short_side"])
    core = make_core(source, scores, short_side, device)
    failures = [sentence for _, sentence in [*source.failures, *core.table.failures]]
    measures = color_measures(core)
    if references is not None:
        pictures, unread = _references(core, references, short_side)
        measures |= _fidelity(pictures)
        failures += unread
    bench = Bench(core, scores.score, scores.judges, measures=measures)
    found = _searched(bench, random_renders, search_renders, range(seed, seed + search_runs))
    played = {name: _played(policy, bench) for name, policy in {POLICY: stored, **(further or {})}.items()}
    policies = {}
    for name, looks in played.items():
        if len(looks) > 1:
            policies[f"{name} {FIRST_LOOK}"] = looks[0]
        policies[name] = looks[-1]
    outcomes: dict[str, Outcome] = {
        "neutral": bench.neutral(),
        "libraw_auto": bench.libraw_auto(source, short_side),
        **{
            name: mean_of([bench.at(run.actions, run.evaluations) for run in runs])
            for name, runs in found.items()
        },
        **policies,
    }
    curves = {name: np.mean([run.curve for run in runs], axis=0) for name, runs in found.items()}
    points = [point for name, curve in curves.items() for point in search_points(name, curve, bench)]
    points += [policy_point(name, look, bench) for name, looks in played.items() for look in looks]
    return {
        "held_out": summarise(outcomes, bench),
        "shares_of": {
            name: {
                search: {
                    "share": share_of(outcome, outcomes[search]),
                    "share_ci95": share_interval(outcome, outcomes[search], bench),
                }
                for search in found
            }
            for name, outcome in policies.items()
        },
        "curve": [asdict(point) for point in points],
        "files": {name: _row(outcomes, number) for number, name in enumerate(core.names)},
        "search_runs": {name: [float(run.gains.mean()) for run in runs] for name, runs in found.items()},
        "failures": failures,
        "warnings": fallen_judges(outcomes[POLICY], bench),
        "policy_digest": stored.digest,
        **scores.about,
    }


def _searched(
    bench: Bench, random_renders: int, search_renders: int, seeds: range
) -> dict[str, list[SearchResult]]:
    """The runs of each search by its name, one a seed; coordinate search knows no chance and has one."""
    problem = (bench.gains, len(bench), len(bench.core.space))
    found = {"random_search": [random_search(*problem, random_renders, seed) for seed in seeds]}
    if search_renders:
        found["coordinate_search"] = [coordinate_search(*problem, search_renders)]
        found["cma_es"] = [cma_es(*problem, search_renders, seed) for seed in seeds]
    return found


def _played(stored: StoredPolicy, bench: Bench) -> list[Outcome]:
    """What a stored policy reaches on all frames of a bench after each look, as its answers are exported."""
    env = envs_of(stored, bench.core)
    frames = np.arange(len(bench))
    looks = deliveries(bench.core, frames, looks_of(env, frames, stored.act))
    answers = (no_worse_than_neutral(bench.core, frames, best)[0] for best in best_so_far(looks))
    return [bench.at(answer, count) for count, answer in enumerate(answers, start=1)]


def _row(outcomes: Mapping[str, Outcome], number: int) -> dict[str, dict[str, Any]]:
    """What the table has of all files, of one: by the way of rendering."""
    return {
        name: {
            "reward": float(outcome.gains[number]),
            "score": float(outcome.scores[number]),
            "clipped_fraction": float(outcome.clipped[number]),
            "judges": {judge: finite(gains[number]) for judge, gains in outcome.judges.items()},
            "measures": {measure: finite(values[number]) for measure, values in outcome.measures.items()},
        }
        for name, outcome in outcomes.items()
    }


def _references(core: Core, folder: Path, short_side: int) -> tuple[dict[int, torch.Tensor], list[str]]:
    """The pictures in `folder` that are called like a frame, by its number; and what could not be read."""
    paths = {path.stem: path for path in list_images([folder])}
    pictures: dict[int, torch.Tensor] = {}
    failures = []
    for number, name in enumerate(core.names):
        if name not in paths:
            failures.append(f"{name} has no reference in {folder}.")
            continue
        try:
            frame = read_photograph_as_frame(paths[name], short_side)
        except (InputError, OSError) as error:
            failures.append(str(error))
        else:
            pictures[number] = linear_to_srgb(frame.image)
    if not pictures:
        raise InputError(
            f"no picture in {folder} has the name of an input (such as {core.names[0]}) and can be read; a "
            "reference is called like its input, whatever its suffix."
        )
    return pictures, failures


def _fidelity(pictures: Mapping[int, torch.Tensor]) -> dict[str, Measure]:
    """PSNR, SSIM and CIEDE2000 against the references of some frames."""

    def measure(name: str) -> Measure:
        function = FIDELITY[name][0]

        def run(images: torch.Tensor, group: Group) -> torch.Tensor:
            values = []
            for image, number in zip(images.cpu(), group.members.tolist(), strict=True):
                if number not in pictures:
                    values.append(float("nan"))
                    continue
                # published pairs differ by a pixel or two in size
                size = (int(image.shape[-2]), int(image.shape[-1]))
                reference = torch.nn.functional.interpolate(pictures[number][None], size, mode="area")[0]
                values.append(function(image, reference))
            return torch.tensor(values)

        return run

    return {name: measure(name) for name in FIDELITY}
