"""The commands end in a sentence and an exit code, whatever they are given, and leave nothing half done."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from agents import evaluate, export, launch, train_isp
from attiqa.files import read_json, write_json
from attiqa.options import as_record

AGENTS = Path(train_isp.__file__).parent


def refused(capsys: pytest.CaptureFixture[str], code: int) -> str:
    assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_no_steps_are_refused(capsys, tmp_path):
    code = train_isp.main(["--steps", "0", "--out", str(tmp_path / "run")])
    assert "--steps must be at least 1; got 0" in refused(capsys, code)
    assert not (tmp_path / "run").exists()


def test_an_unknown_reward_is_refused_before_a_folder_is_made(capsys, tmp_path):
    code = train_isp.main(["--reward", "beauty", "--out", str(tmp_path / "run")])
    assert "there is no reward named 'beauty'" in refused(capsys, code)
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_never_written_to(capsys, tmp_path):
    code = train_isp.main(["--out", str(tmp_path)])
    assert "exists already; choose another --out" in refused(capsys, code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--raws", "--photos"])
def test_a_missing_folder_is_named_and_no_run_is_left(capsys, tmp_path, flag):
    code = train_isp.main([flag, str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")])
    assert "nowhere does not exist" in refused(capsys, code)
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_is_refused_in_a_sentence(capsys, tmp_path):
    (tmp_path / "raws").mkdir()
    code = train_isp.main(["--raws", str(tmp_path / "raws"), "--out", str(tmp_path / "run")])
    assert "no image was found in" in refused(capsys, code)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given, sentence",
    [
        (["--patience", "0"], "--patience must be at least 1; got 0"),
        (["--evaluate-every", "-1"], "--evaluate-every and --copies must not be negative"),
        (["--minutes", "nan"], "--minutes, --evaluate-every and --copies must not be negative"),
        (["--reward", "guarded:k=3"], "the guard has no option 'k=3'"),
        (["--copies", "-2"], "--copies must not be negative"),
        (["--copies", "4"], "--copies and --spare belong to --photos and --raws"),
        (["--precision", "bfloat16", "--reward", "math:sqrt"], "the reward 'math:sqrt' computes as it likes"),
    ],
)
def test_options_out_of_range_are_refused(capsys, tmp_path, given, sentence):
    assert sentence in refused(capsys, train_isp.main([*given, "--out", str(tmp_path / "run")]))
    assert not (tmp_path / "run").exists()


def test_what_is_refused_after_the_files_were_opened_leaves_no_folder_either(capsys, tmp_path):
    (tmp_path / "a.dng").write_text("no raw")
    given = ["--raws", str(tmp_path / "a.dng"), "--out", str(tmp_path / "run")]
    assert "none of 1 files can be read" in refused(capsys, train_isp.main(given))
    assert not (tmp_path / "run").exists()


def test_resuming_what_is_no_run_is_refused(capsys, tmp_path):
    assert "is not a folder" in refused(capsys, train_isp.main(["--resume", str(tmp_path / "none")]))
    assert "does not exist" in refused(capsys, train_isp.main(["--resume", str(tmp_path)]))


def test_resuming_with_options_that_the_run_was_not_started_with_is_refused(capsys, tmp_path, monkeypatch):
    given = train_isp.TrainOptions(algo="dpg", seed=5, raws=[Path("RAWS")], device="cpu")
    write_json(tmp_path / "config.json", {"options": as_record(given)})
    resume = ["--resume", str(tmp_path)]
    # the second names what a new run has by default
    for wrong, flag in ((["--seed", "7"], "--seed 5, and 7"), (["--algo", "ppo"], "--algo dpg, and ppo")):
        assert f"was started with {flag} was given" in refused(capsys, train_isp.main([*resume, *wrong]))
    # what it has itself, and what a sitting may have of its own, is not what stops it
    own = ["--seed", "5", "--raws", "RAWS", "--steps", "9", "--patience", "2"]
    assert "RAWS does not exist" in refused(capsys, train_isp.main([*resume, *own]))
    # nor are minutes spent on raws before it is said that there is nothing to go on from
    write_json(tmp_path / "config.json", {"options": as_record(dataclasses.replace(given, raws=[]))})
    monkeypatch.setattr(launch, "make_core", None)
    assert "no checkpoint to resume from" in refused(capsys, train_isp.main(resume))
    write_json(tmp_path / "config.json", ["something else"])
    assert "it has no options" in refused(capsys, train_isp.main(resume))


def test_a_run_that_goes_on_with_spare_raws_keeps_them(capsys, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(
        train_isp, "build_experiment", lambda run, options, **_: (built.append(options), None)
    )
    monkeypatch.setattr(train_isp, "finish", lambda *_, **__: None)
    given = as_record(train_isp.TrainOptions(raws=[Path("RAWS")], device="cpu"))
    write_json(tmp_path / "config.json", {"options": given, "versions": {"attiqa": "1"}})
    for wanted, said in ((False, []), (True, ["--spare"]), (True, [])):
        assert train_isp.main(["--resume", str(tmp_path), *said]) == 0
        assert built[-1]["spare"] == wanted
    assert read_json(tmp_path / "config.json", "a config")["versions"] == {"attiqa": "1"}
    refusal = refused(capsys, train_isp.main(["--resume", str(tmp_path), "--no-spare"]))
    assert "was started with --spare True, and False was given" in refusal
    write_json(tmp_path / "config.json", {"options": given | {"raws": []}})
    refusal = refused(capsys, train_isp.main(["--resume", str(tmp_path), "--spare"]))
    assert "trains on the embedded scenes, which have no --spare" in refusal


def test_export_and_evaluate_without_a_run_are_refused(capsys, tmp_path):
    given = ["--run", str(tmp_path), "--input", str(tmp_path)]
    assert "card of a trained policy" in refused(
        capsys, export.main([*given, "--out", str(tmp_path / "out")])
    )
    assert "card of a trained policy" in refused(capsys, evaluate.main(given))


def test_a_curve_that_is_no_picture_and_references_of_crops_are_refused(capsys, tmp_path):
    given = ["--run", str(tmp_path), "--input", str(tmp_path)]
    assert "ends in .png" in refused(capsys, evaluate.main([*given, "--curve", "curve.pdf"]))
    for flag in ("--json", "--curve"):
        folder = tmp_path / "folder.png"
        folder.mkdir(exist_ok=True)
        assert "is a folder; --json" in refused(capsys, evaluate.main([*given, flag, str(folder)]))
    refusal = refused(capsys, evaluate.main([*given, "--unprocess", "careful", "--reference", str(tmp_path)]))
    assert "no --reference fits them" in refusal


def test_what_has_no_portable_form_is_refused(capsys, tmp_path):
    given = ["--run", str(AGENTS / "policies" / "five-looks"), "--input", str(tmp_path), "--portable"]
    refusal = refused(capsys, evaluate.main(given))
    assert "five-looks climbs by them" in refusal


@pytest.mark.parametrize(
    "script", ["train_isp.py", "export.py", "evaluate.py", "export_policy.py", "compare_runs.py"]
)
def test_scripts_run_from_any_directory(tmp_path, script):
    done = subprocess.run(
        [sys.executable, str(AGENTS / script), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout
