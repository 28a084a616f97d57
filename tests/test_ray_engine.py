"""Scoring and labelling on Ray Data: the numbers of the local engine; skipped where Ray is not installed."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from attiqa.cli.label import main as label_main
from attiqa.cli.score import main as score_main
from attiqa.clip.cache import EmbeddingCache
from tests.tiny import tiny_checkpoint
from tests.tiny_clip import write_tiny_clip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five crops of a photograph of two sizes, a copy of one, and a file that cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    photograph = data.astronaut()
    for index in range(5):
        Image.fromarray(photograph[40 * index :, : 200 + 50 * (index % 2)]).save(folder / f"{index}.png")
    (folder / "copy.png").write_bytes((folder / "2.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def _rows(path: Path) -> dict[str, list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row[0]: row[1:] for row in csv.reader(file) if not row[0].startswith("#")}


@pytest.mark.parametrize("command", ["score", "label"])
def test_without_ray_the_flag_ends_in_a_sentence(
    command: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    if command == "score":
        code = score_main([str(images), "--engine", "ray"])
    else:
        code = label_main([str(images), "--out", str(tmp_path / "cache"), "--engine", "ray"])
    assert code == 2
    assert "needs Ray Data, which is not installed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    pytest.importorskip("ray.data", reason="Ray Data is not installed (extra ray)")
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


def test_scores_on_ray_are_the_local_ones_row_by_row_and_resume(
    cluster: None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(images), "--model", str(tiny_checkpoint(tmp_path)), "--batch", "2", "--device", "cpu"]
    assert score_main([*common, "--csv", str(tmp_path / "local.csv")]) == 0
    on_ray = [*common, "--csv", str(tmp_path / "ray.csv"), "--engine", "ray", "--workers", "2"]
    assert score_main(on_ray) == 0
    local, ray_rows = _rows(tmp_path / "local.csv"), _rows(tmp_path / "ray.csv")
    assert list(local) == list(ray_rows)
    for path, row in local.items():
        assert row[-1] == ray_rows[path][-1]
        if path != "path" and not row[-1]:
            np.testing.assert_allclose(
                np.array(row[:-1], float), np.array(ray_rows[path][:-1], float), atol=1e-5
            )
    assert sum(bool(row[-1]) for row in list(local.values())[1:]) == 1  # the broken file
    capsys.readouterr()
    assert score_main(on_ray) == 0  # only the broken file is tried again
    assert "6 images are scored already" in capsys.readouterr().err


def test_labels_on_ray_fill_the_same_cache(
    cluster: None, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(write_tiny_clip(tmp_path / "clip"))
    common = [str(images), "--model", clip, "--batch", "2", "--device", "cpu"]
    assert label_main([*common, "--out", str(tmp_path / "local")]) == 0
    on_ray = [*common, "--out", str(tmp_path / "ray"), "--engine", "ray", "--workers", "2"]
    assert label_main(on_ray) == 0
    assert "5 embedded now, 1 known before or copies, 1 unreadable" in capsys.readouterr().out
    local, other = (EmbeddingCache.open(tmp_path / name) for name in ("local", "ray"))
    assert local.digests == other.digests
    np.testing.assert_allclose(
        local.embeddings(local.digests), other.embeddings(local.digests), atol=2e-3  # float16 on disk
    )  # fmt: skip
    first, second = (_rows(tmp_path / name / "scores.csv") for name in ("local", "ray"))
    assert [row[0] for row in first.values()] == [row[0] for row in second.values()]
    assert label_main(on_ray) == 0
    assert "0 embedded now, 6 known before" in capsys.readouterr().out
