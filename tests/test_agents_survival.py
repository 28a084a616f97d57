"""A killed process and a full disk cost a run what it did since its last checkpoint, and no more."""

from __future__ import annotations

import errno
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from agents.experiment import Experiment
from agents.runs import CHECKPOINT, METRICS
from attiqa.errors import command
from attiqa.files import atomic_path, write_json
from tests.test_agents_training import experiment, metrics, weights

STEPS = 512
KILLED = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
import tests.test_agents_survival as own

built = own.experiment(Path(sys.argv[1]), steps=own.STEPS)
saved, save = [], safetensors.torch.save_file

def killed(tensors, path, metadata=None):
    save(tensors, path, metadata)
    saved.append(path)
    if len(saved) == 3:  # in the middle of a checkpoint
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

safetensors.torch.save_file = killed
built.train()
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    run = tmp_path_factory.mktemp("unbroken")
    built = experiment(run, steps=STEPS)
    built.train()
    return built, run


def ends_as(unbroken: tuple[Experiment, Path], run: Path) -> None:
    """Resume `run`; it must end as the unbroken one, to the last bit, with the same rows of metrics."""
    whole, whole_run = unbroken
    rest = experiment(run, steps=STEPS, seed=9, continued=True)
    rest.train()
    assert rest.model.num_timesteps == whole.model.num_timesteps == STEPS
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(rest)[name], value, rtol=0, atol=0, msg=name)
    gains = [(row["time/total_timesteps"], row["rollout/gain_mean"]) for row in metrics(run)]
    assert gains == [(row["time/total_timesteps"], row["rollout/gain_mean"]) for row in metrics(whole_run)]


def test_a_process_killed_while_it_writes_a_checkpoint_resumes_from_the_one_before(tmp_path, unbroken):
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(run)],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    torn = [path for path in run.glob(".*") if path.suffix == ".safetensors"]
    assert len(torn) == 1  # what was being written
    ends_as(unbroken, run)
    assert not torn[0].exists()


def full_disk(failing: int) -> object:
    """`safetensors.torch.save_file` that finds the disk full, from its call number `failing` on."""
    save, calls = safetensors.torch.save_file, []

    def write(tensors: object, path: Path, metadata: object = None) -> None:
        calls.append(path)
        if len(calls) >= failing:
            path.write_bytes(b"half a checkpoint")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(tensors, path, metadata)  # type: ignore[arg-type]

    return write


def test_a_full_disk_ends_a_run_in_one_sentence_and_keeps_the_checkpoint_before(
    tmp_path, unbroken, monkeypatch, capsys
):
    run = tmp_path / "run"
    built = experiment(run, steps=STEPS)
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full_disk(3))

        @command
        def main(argv: list[str] | None = None) -> int:
            built.train()
            return 0

        assert main([]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "No space left on device" in line
    assert not list(run.glob(".*"))
    ends_as(unbroken, run)


def test_a_limit_on_the_size_of_files_is_told_as_what_it_is(tmp_path, capsys):
    """What the operating system really refuses while safetensors writes, not what a test says it would."""
    resource = pytest.importorskip("resource")
    run = tmp_path / "run"
    built = experiment(run, steps=STEPS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @command
    def main(argv: list[str] | None = None) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            built.train()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return 0

    assert main([]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "too large" in line
    assert not (run / CHECKPOINT).exists()


def test_what_the_system_refuses_names_the_file_that_was_to_be_written(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError) as found:
        write_json(tmp_path / "a.json", {})
    assert found.value.filename == str(tmp_path / "a.json")
    with pytest.raises(OSError, match="No space left on device") as found, atomic_path(tmp_path / "b.png"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as Pillow does
    assert found.value.filename == str(tmp_path / "b.png")
    with pytest.raises(OSError, match="handshake") as found, atomic_path(tmp_path / "c.png"):
        raise ssl.SSLError(1, "handshake failed")
    assert found.value.filename is None


def test_half_a_row_of_metrics_is_written_again(tmp_path, unbroken):
    run = tmp_path / "run"
    built = experiment(run, steps=STEPS)
    built.train(time_limit=1e-6)
    with (run / METRICS).open("a", encoding="utf-8") as file:
        file.write("0.0")  # a process was killed in the middle of a line
    ends_as(unbroken, run)
