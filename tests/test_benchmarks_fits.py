"""Fits to ratings: fine-tuning that resumes, from a new regressor; the linear probe beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.datasets.registry import load_dataset
from attiqa.errors import InputError
from benchmarks import fits
from benchmarks.fits import FineTune, LinearProbe, renew_regressor
from tests.tiny import tiny_checkpoint, tiny_network


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve photographs of two groups, one of them torn."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = ["name,mos,group"]
    for index in range(12):
        pixels = random.integers(0, 20 * index + 20, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        lines.append(f"{index}.png,{index},g{index % 4}")
    (folder / "images" / "10.png").write_bytes(b"\x89PNG torn")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def tuned(folder: Path, epochs: int = 2) -> FineTune:
    return FineTune("cpu", folder, epochs=epochs, batch=4, crop=64, short_side=68)


def test_fine_tuning_predicts_what_can_be_read_and_a_second_run_trains_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = load_dataset("csv", root)
    model = str(tiny_checkpoint(tmp_path))
    train, test = np.array([0, 1, 2, 3, 4, 5, 10]), np.array([6, 7, 11])
    first = tuned(tmp_path / "out").predict(model, rated, train, rated, test)
    assert first.fitted_on == 6
    assert np.isfinite(first.values).all()
    assert not list((tmp_path / "out").glob("*.safetensors"))  # the finished state is gone
    monkeypatch.setattr(fits, "finetune", None)
    again = tuned(tmp_path / "out").predict(model, rated, train, rated, test)
    np.testing.assert_array_equal(again.values, first.values)
    torn = LinearProbe("cpu", "whole", tmp_path / "out").predict(
        model, rated, train, rated, np.array([9, 10])
    )
    assert np.isfinite(torn.values).tolist() == [True, False]


def test_a_stopped_fine_tuning_ends_as_it_would_have(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = load_dataset("csv", root)
    model = str(tiny_checkpoint(tmp_path))
    train, test = np.arange(8), np.array([8, 9])
    whole = tuned(tmp_path / "whole").predict(model, rated, train, rated, test)
    original = fits.finetune

    def stops(*arguments: object, **options: object) -> None:
        def after(epoch: int) -> None:
            raise KeyboardInterrupt

        original(*arguments, **options, after_epoch=after)  # type: ignore[arg-type]

    monkeypatch.setattr(fits, "finetune", stops)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "cut").predict(model, rated, train, rated, test)
    monkeypatch.setattr(fits, "finetune", original)
    resumed = tuned(tmp_path / "cut").predict(model, rated, train, rated, test)
    np.testing.assert_allclose(resumed.values, whole.values, atol=1e-5)


def test_the_regressor_starts_anew_and_everything_below_it_stays() -> None:
    network = tiny_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.nn.init.ones_(network.regressor.linear.weight)  # as if fitted to ratings
    renew_regressor(network, seed=1)
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("regressor.mlp") for name in changed)


def test_a_fit_says_how_long_it_takes(root: Path, tmp_path: Path) -> None:
    rated = load_dataset("csv", root)
    model = str(tiny_checkpoint(tmp_path))
    assert tuned(tmp_path, epochs=100).seconds(model, rated, rated, 0.8) > 0
    assert LinearProbe("cpu", "whole", tmp_path).seconds(model, rated, rated, 0.8) > 0


def test_training_images_of_one_group_are_too_few(root: Path, tmp_path: Path) -> None:
    rated = load_dataset("csv", root)
    model = str(tiny_checkpoint(tmp_path))
    for fit in (tuned(tmp_path), LinearProbe("cpu", "whole", tmp_path)):
        with pytest.raises(InputError, match="too few for a fit"):
            fit.predict(model, rated, np.array([0, 4]), rated, np.array([1]))
