"""Generated pairs: seeds that do not depend on neighbours, resuming, and votes that are never overwritten."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from attiqa.errors import InputError
from benchmarks import make_pairs
from benchmarks.generation import generate, plan, read_prompts, write_to_rate
from benchmarks.pairs import read_pairs


def picture(prompt: str, seed: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (seed % 256, len(prompt) % 256, 0))


def test_a_prompt_keeps_its_seeds_whatever_its_neighbours() -> None:
    alone = plan(["a cat"], 2, seed=1)
    among = plan(["a dog", "a cat"], 2, seed=1)
    assert alone == among[2:]
    assert len({seed for pair in among for seed in (pair.seed_a, pair.seed_b)}) == 8
    assert plan(["a cat"], 2, seed=2) != alone


def test_a_stopped_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    pairs = plan(["a cat", "a dog"], 1, seed=0)

    def stops(prompt: str, seed: int) -> Image.Image:
        if prompt == "a dog":
            raise KeyboardInterrupt
        return picture(prompt, seed)

    with pytest.raises(KeyboardInterrupt):
        generate(pairs, stops, tmp_path)
    assert len(list((tmp_path / "images").glob("*.png"))) == 2
    assert generate(pairs, picture, tmp_path) == 2
    assert generate(pairs, picture, tmp_path) == 0


def test_the_table_is_read_as_pairs_once_people_have_voted(tmp_path: Path) -> None:
    write_to_rate(tmp_path / "pairs.csv", plan(["a cat, sitting"], 1, seed=0))
    with pytest.raises(InputError, match="expected numbers"):
        read_pairs(tmp_path, "pairs")
    table = tmp_path / "pairs.csv"
    table.write_text(table.read_text().replace(",,,,", ",3,1,0,"))
    (pair,) = read_pairs(tmp_path, "pairs")
    assert (pair.prompt, pair.votes_a, pair.votes_b) == ("a cat, sitting", 3, 1)


@pytest.mark.parametrize("text, message", [("", "holds no prompt"), ("a\nb\na\n", "more than once")])
def test_bad_prompt_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "prompts.txt")


def test_the_command_resumes_keeps_votes_and_refuses_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_pairs, "diffusion_generator", lambda model, **_: (picture, {"model": model}))
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("# comment\na cat\n\na dog\n")
    arguments = ["--model", "tiny", "--prompts", str(prompts), "--out", str(out)]
    assert make_pairs.main(arguments) == 0
    table = out / "pairs.csv"
    table.write_text(table.read_text().replace(",,,,", ",3,1,0,"))
    voted = table.read_text()
    assert make_pairs.main(arguments) == 0
    assert table.read_text() == voted
    assert "0 pictures made, 4 were there" in capsys.readouterr().out
    assert make_pairs.main([*arguments, "--seed", "5"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is not None, reason="diffusers is installed")
def test_without_diffusers_a_sentence_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n")
    arguments = [
        "--model",
        "tiny",
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert make_pairs.main(arguments) == 2
    assert "pip install '.[diffusion]'" in capsys.readouterr().err
