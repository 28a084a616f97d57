"""The material of the proxy tasks: distorted photographs and human attribute scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from skimage import data

from attiqa.attributes import read_attributes
from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder, load_clip
from attiqa.clip.proxies import distorted_embeddings, intensity_levels, read_opinions
from attiqa.datasets.photographs import read_spaq
from attiqa.errors import InputError
from tests.tiny_clip import write_tiny_clip

NAMES = read_attributes().names


@pytest.fixture
def encoder(tmp_path: Path) -> ClipEncoder:
    return load_clip(str(write_tiny_clip(tmp_path / "clip")))


def _photographs(folder: Path, count: int = 3) -> list[Path]:
    for number in range(count):
        Image.fromarray(data.chelsea()[20 * number :, :300]).resize((60, 50)).save(folder / f"{number}.png")
    return sorted(folder.glob("*.png"))


def test_spaqs_own_file_reads_and_its_noisiness_counts_cleanness(data_root: Path) -> None:
    spaq = data_root / "labels" / "spaq"
    names, scores = read_opinions(spaq, NAMES)
    assert scores.shape == (11125, 5)
    assert names[0] == "00001.jpg"
    np.testing.assert_allclose(scores[0], [42.57, 55.71, 47.43, 55.57, 37.86])  # in the order of NAMES
    assert spearmanr(scores[:, 4], read_spaq(spaq).mos).statistic > 0.85
    sheet = spaq / "Annotations" / "MOS and Image attribute scores.xlsx"
    np.testing.assert_array_equal(read_opinions(sheet, NAMES)[1], scores)
    with pytest.raises(InputError, match="SPAQ did not rate mood"):
        read_opinions(spaq, ["mood"])


def test_a_csv_with_columns_in_any_order_and_case_reads(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("Contrast,NAME,sharpness\n1,a.jpg,2\n3,b.jpg,4\n5,c.jpg,6\n\n")
    names, scores = read_opinions(path, ["sharpness", "contrast"])
    assert names == ["a.jpg", "b.jpg", "c.jpg"]
    np.testing.assert_array_equal(scores, [[2, 1], [4, 3], [6, 5]])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,contrast\na,1\nb,2\nc,3\n", "lacks the column noisiness"),
        ("name,noisiness\na,1\nb,x\nc,3\n", "no finite number"),
        ("name,noisiness\na,1\nb,2\n", "at least 3"),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_opinions(path, ["noisiness"])


def test_distorted_photographs_are_embedded_level_by_level(tmp_path: Path, encoder: ClipEncoder) -> None:
    paths = _photographs(tmp_path)
    cache = EmbeddingCache.open(tmp_path / "cache", {**encoder.identity, "crops": "centre"})
    levels = intensity_levels(4)
    images, failures = distorted_embeddings(
        encoder, cache, paths, ["brightness", "noisiness"], levels, progress=False
    )
    assert levels == pytest.approx([-1, -2 / 3, -1 / 3, 0])
    assert failures == []
    assert images["brightness"].shape == images["noisiness"].shape == (3, 4, 16)
    clean = encoder.embed_images(torch.from_numpy(np.array(Image.open(paths[1]))).permute(2, 0, 1)[None])[0]
    for name in images:
        cosine = images[name][1] @ clean
        assert cosine[-1] > 0.999  # level 0 is the photograph itself
        assert cosine[0] < cosine[-1] - 1e-4


def test_a_second_selection_embeds_nothing_and_broken_photographs_are_named(
    tmp_path: Path, encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = _photographs(tmp_path)
    identity = {**encoder.identity, "crops": "centre"}
    levels = intensity_levels(3)
    first = EmbeddingCache.open(tmp_path / "cache", identity)
    images, _ = distorted_embeddings(encoder, first, paths, ["contrast"], levels, progress=False)

    def forbidden(*args: object) -> None:
        raise AssertionError("the cache has it")

    monkeypatch.setattr(encoder, "embed_images", forbidden)
    (tmp_path / "broken.png").write_bytes(b"x")
    again, failures = distorted_embeddings(
        encoder,
        EmbeddingCache.open(tmp_path / "cache", identity),
        [tmp_path / "broken.png", *paths],
        ["contrast"],
        levels,
        progress=False,
    )
    torch.testing.assert_close(again["contrast"], images["contrast"])
    assert [path.name for path, _ in failures] == ["broken.png"]


def test_proxy_1_without_levels_distortion_or_photograph_is_a_sentence(
    tmp_path: Path, encoder: ClipEncoder
) -> None:
    cache = EmbeddingCache.open(tmp_path / "cache", {**encoder.identity, "crops": "centre"})
    with pytest.raises(InputError, match="at least 3 distortion levels"):
        intensity_levels(2)
    with pytest.raises(InputError, match="no distortion 'mood'"):
        distorted_embeddings(encoder, cache, [], ["mood"], [-1, -0.5, 0])
    with pytest.raises(InputError, match="none of the 1 photographs"):
        distorted_embeddings(encoder, cache, [tmp_path / "absent.png"], ["contrast"], [-1, -0.5, 0])
