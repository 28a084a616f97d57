"""Peers: libsvm's text form read right, published columns reproduced, and sentences for what is missing."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.peers import OFFLINE_PEERS, load_peer, read_libsvm

needs_pyiqa = pytest.mark.skipif(importlib.util.find_spec("pyiqa") is None, reason="extra `peers`: no pyiqa")
needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="extra `peers`: no ai-edge-litert"
)

MODEL = """svm_type epsilon_svr
kernel_type rbf
gamma 0.05
nr_class 2
total_sv 2
rho -1.5
SV
-1024 1:0.5 3:-0.25
12.5 2:1
"""


def test_a_libsvm_model_is_read_with_its_zeros(tmp_path: Path) -> None:
    path = tmp_path / "allmodel"
    path.write_text(MODEL)
    coefficients, vectors, gamma, rho = read_libsvm(path)
    assert coefficients.tolist() == [-1024, 12.5]
    assert vectors.tolist() == [[0.5, 0, -0.25], [0, 1, 0]]
    assert (gamma, rho) == (0.05, -1.5)


@pytest.mark.parametrize("text", ["", MODEL.replace("rbf", "linear"), "SV\n"])
def test_another_file_in_place_of_the_libsvm_model_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "allmodel"
    path.write_text(text)
    with pytest.raises(InputError, match="RBF kernel"):
        read_libsvm(path)


@pytest.mark.parametrize("name", OFFLINE_PEERS)
def test_an_offline_peer_names_the_file_that_it_misses(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expects a folder that holds"):
        load_peer(name, tmp_path)


def test_an_offline_peer_asks_for_its_folder() -> None:
    with pytest.raises(InputError, match="--peer-weights"):
        load_peer("niqe", None)


@pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is installed")
def test_without_pyiqa_a_sentence_says_how_to_get_it() -> None:
    with pytest.raises(InputError, match=r"pip install '\.\[peers\]'"):
        load_peer("musiq", None)


@needs_pyiqa
def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(InputError, match="is no peer"):
        load_peer("nosuch", None)


@pytest.mark.data
@needs_pyiqa
@pytest.mark.parametrize("name, tolerance", [("niqe", 1e-4), ("brisque", 1e-2)])
def test_classical_peers_reproduce_their_published_column(
    name: str, tolerance: float, data_root: Path
) -> None:
    folder = data_root / "human" / "avt_ai"
    with open(folder / "published_peer_scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))[::30]
    peer = load_peer(name, data_root / "weights")
    images = [to_float(read_image(folder / "images" / f"{row['image_key']}.webp"))[None] for row in rows]
    with torch.inference_mode():
        scores = [float(peer.score(image)) for image in images]
        batch = torch.cat([images[0], images[0].flip(3), images[0].flip(2)])
        torch.testing.assert_close(peer.score(batch)[:1], peer.score(images[0]), rtol=0, atol=0)
    assert peer.lower_is_better
    np.testing.assert_allclose(scores, [float(row[name.upper()]) for row in rows], atol=tolerance)


@pytest.mark.data
@needs_litert
@pytest.mark.parametrize("name", ["nima-technical", "nima-aesthetic"])
def test_nima_rates_between_one_and_ten_and_each_image_alone(name: str, data_root: Path) -> None:
    peer = load_peer(name, data_root / "weights")
    photos = sorted((data_root / "photos" / "kodak24").glob("*.png"))[:2]
    batch = torch.stack([to_float(read_image(photo))[:, :512, :512] for photo in photos])
    scores = peer.score(batch)
    assert ((scores > 1) & (scores < 10)).all()
    torch.testing.assert_close(scores[1:], peer.score(batch[1:]))
