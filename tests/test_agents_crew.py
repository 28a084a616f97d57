"""Several processes export what one would, and none takes the files of others with it when it ends."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import active_children, parent_process
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import agents.export as export_command
from agents.crew import WORTH, Crew, _share, fitting
from agents.enhancer import Enhanced, Enhancer
from agents.exporting import export
from agents.products import TOGETHER, Job, Outcome, Products
from isp_env.frame import RawFrame
from tests.brightening import brightener, brightening_run, scores_by, two_raws
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run folder and weights of the policy."""
    weights = tiny_checkpoint(tmp_path_factory.mktemp("model"))
    return brightening_run(tmp_path_factory.mktemp("run"), scores_by(weights)), weights


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    raws = two_raws(folder)
    Image.new("RGB", (90, 60), (90, 120, 60)).save(folder / "green.png")
    (folder / "text.dng").write_text("no raw")
    return [folder / "green.png", *raws, folder / "text.dng"]


def test_several_processes_export_what_one_does(made, inputs, tmp_path, monkeypatch):
    load = partial(brightener, *made)
    enhancer, by_this_process, look = load(), [], Enhancer.look
    alone = export(enhancer, inputs, tmp_path / "alone")

    def seen(enhancer: Enhancer, frames: Sequence[RawFrame]) -> list[Enhanced]:
        by_this_process.extend(frames)
        return look(enhancer, frames)

    monkeypatch.setattr(Enhancer, "look", seen)
    shared = export(enhancer, inputs, tmp_path / "shared", work=Crew(load, enhancer, 2))
    assert len(by_this_process) < 3
    assert {path.name for path in shared.written} == {path.name for path in alone.written}
    assert len(shared.written) == 3
    assert shared.failures == alone.failures
    for path in alone.written:
        assert (tmp_path / "shared" / path.name).read_bytes() == path.read_bytes()
        records = [
            json.loads((tmp_path / out / path.with_suffix(".json").name).read_text())
            for out in ("alone", "shared")
        ]
        assert records[0]["parameters"] == pytest.approx(records[1]["parameters"], abs=1e-5)


class _Dying(Enhancer):
    """One that ends its process, unless that is the first one, at files named green."""

    def look(self, frames: Sequence[RawFrame]) -> list[Enhanced]:
        if parent_process() is not None and any("green" in frame.name for frame in frames):
            os._exit(9)
        return super().look(frames)


def dying(run: Path, weights: Path) -> Enhancer:
    enhancer = brightener(run, weights)
    enhancer.__class__ = _Dying
    return enhancer


def test_what_a_process_that_ends_by_itself_leaves_is_exported_all_the_same(made, inputs, tmp_path, capsys):
    load = partial(dying, *made)
    done = export(load(), inputs, tmp_path, work=Crew(load, load(), 2))
    assert {path.name for path in done.written} == {"scene-00.jpg", "scene-01.jpg", "green.jpg"}
    assert [path.name for path, _ in done.failures] == ["text.dng"]
    assert "a process of the export ended by itself" in capsys.readouterr().err


def test_a_stop_leaves_no_process_and_nothing_half_done(made, inputs, tmp_path):
    load, seen = partial(brightener, *made), []

    def stopping(jobs: Sequence[Job], products: Products) -> Iterator[Outcome]:
        for outcome in Crew(load, load(), 2)(jobs, products):
            seen.append(outcome)
            raise KeyboardInterrupt
        yield from ()

    with pytest.raises(KeyboardInterrupt):
        export(load(), inputs, tmp_path, work=stopping)
    gc.collect()  # of the generator, which ends its processes
    assert active_children() == []
    assert len(seen) == 1
    assert all(path.suffix in (".jpg", ".json") for path in tmp_path.iterdir())
    assert len(list(tmp_path.glob("*.jpg"))) == len(list(tmp_path.glob("*.json")))


def test_an_interrupt_between_two_files_ends_what_is_at_work_elsewhere(made, inputs, tmp_path, monkeypatch):
    def update() -> None:
        raise KeyboardInterrupt

    bar = SimpleNamespace(update=update, close=lambda: None)
    monkeypatch.setattr("agents.exporting.progress_bar", lambda **options: bar)
    load = partial(brightener, *made)
    with pytest.raises(KeyboardInterrupt) as held:
        export(load(), inputs, tmp_path, work=Crew(load, load(), 2))
    assert held.tb is not None  # which holds all that the export had in hand
    assert active_children() == []


def test_shares_grow_smaller_towards_the_end():
    left, shares = 100, []
    while left:
        shares.append(_share(left, 2))
        left -= shares[-1]
    assert max(shares) == TOGETHER
    assert shares == sorted(shares, reverse=True)
    assert shares[-5:] == [4, 4, 2, 1, 1]


def test_few_files_and_accelerators_are_left_to_one_process(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr("agents.crew._memory", lambda: 2**40)
    assert [fitting(files, "cpu") for files in (1, WORTH, 2 * WORTH, 100 * WORTH)] == [1, 1, 2, 6]
    assert fitting(100 * WORTH, "cuda") == 1
    monkeypatch.setattr("agents.crew._memory", lambda: 9 * 2**30)
    assert fitting(100 * WORTH, "cpu") == 2


def test_a_negative_number_of_processes_is_refused(made, inputs, tmp_path, capsys):
    arguments = ["--run", str(made[0]), "--input", str(inputs[0]), "--out", str(tmp_path), "--workers", "-1"]
    assert export_command.main(arguments) == 2
    assert "--workers must not be negative; got -1." in capsys.readouterr().err
