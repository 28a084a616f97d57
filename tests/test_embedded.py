"""The raws that need no download."""

from __future__ import annotations

import pytest
import torch

from attiqa.errors import InputError
from isp_env import embedded
from isp_env.raw import read_raw


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return embedded.write_embedded_scenes(tmp_path_factory.mktemp("scenes"), seed=0)


def scenes(paths) -> set[str]:
    return {path.stem.rsplit("-", 1)[0] for path in paths}


def test_scenes_are_on_one_side_of_the_split_only(written):
    train, held_out = written
    assert not scenes(train) & scenes(held_out)
    assert len(scenes(held_out)) == 3
    assert len(train) + len(held_out) == 6 * len(embedded.embedded_photographs())
    assert "motorcycle_right" not in " ".join(path.name for path in train + held_out)


def test_the_files_are_raws_of_one_size_with_errors_to_mend(written):
    train, held_out = written
    frames = [read_raw(path, short_side=256) for path in train + held_out]
    assert {frame.image.shape for frame in frames} == {(3, 256, 342)}
    assert {frame.notes for frame in frames} == {()}
    assert len({frame.digest for frame in frames}) == len(frames)
    brightness = torch.stack([frame.image[1].mean() for frame in frames])
    assert brightness.max() / brightness.min() > 2
    red = torch.stack([frame.white_balance[0] for frame in frames])
    assert red.min() < 1.9 < 2.4 < red.max()  # beyond what a right balance can be


def test_a_seed_repeats_exactly_and_another_one_splits_otherwise(written, tmp_path):
    train, held_out = written
    again = embedded.write_embedded_scenes(tmp_path / "again", seed=0)
    assert [p.name for p in again[1]] == [p.name for p in held_out]
    assert again[0][0].read_bytes() == train[0].read_bytes()
    splits = {
        frozenset(scenes(embedded.write_embedded_scenes(tmp_path, s, raws_a_scene=1)[1])) for s in range(3)
    }
    assert len(splits) > 1


def test_studies_and_many_scenes_are_for_training_alone(tmp_path):
    train, held_out = embedded.write_embedded_scenes(tmp_path, 2, 3, held_out_raws=1, study_raws=2)
    assert embedded.STUDIES.keys() <= scenes(train)
    assert not scenes(held_out) & embedded.STUDIES.keys()
    assert len(train) == 3 * (len(embedded.embedded_photographs()) - 3) + 2 * len(embedded.STUDIES)
    assert len(held_out) == 3


def test_held_out_scenes_leave_some_for_training(tmp_path):
    with pytest.raises(InputError, match="can be held out"):
        embedded.write_embedded_scenes(tmp_path, 0, held_out_scenes=99)


def test_missing_photographs_are_told_with_the_mend(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "SCENES", {"astronaut": ("skimage", "data/no_such.png")})
    with pytest.raises(InputError, match="reinstall scikit-image"):
        embedded.write_embedded_scenes(tmp_path, 0)
