"""The encoder: preprocessing as open_clip's own, windows, independence from batch mates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from skimage import data

from attiqa.clip.embedding import ClipEncoder, Preprocess, load_clip
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    return load_clip(str(write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")))


def _photo() -> torch.Tensor:
    return torch.from_numpy(data.chelsea().transpose(2, 0, 1).copy())  # (3, 300, 451)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_is_that_of_open_clip(interpolation: str, resize_mode: str) -> None:
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    config = open_clip.transform.PreprocessCfg(224, "RGB", mean, std, interpolation, resize_mode)
    expected = open_clip.transform.image_transform_v2(config, is_train=False)(Image.fromarray(data.chelsea()))
    ours = Preprocess(224, mean, std, interpolation, resize_mode)
    got = ours.normalise(ours.windows(_photo()[None])[0])[0]
    assert got.shape == (3, 224, 224)
    assert (got - expected).abs().max() < 1.5 / 255 / min(std)  # Pillow rounds, at most one grey level apart
    assert (got - expected).abs().mean() < 1e-3


def test_an_image_is_embedded_as_open_clip_embeds_it(encoder: ClipEncoder, tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "tiny")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with torch.inference_mode():
        expected = model.encode_image(transform(Image.fromarray(data.chelsea()))[None], normalize=True)
    cosine = (encoder.embed_images(_photo()[None]) * expected).sum()
    assert cosine > 0.9999


def test_embeddings_are_unit_vectors_and_do_not_depend_on_batch_mates(encoder: ClipEncoder) -> None:
    images = torch.rand(4, 3, 40, 56)
    for crops in ("centre", "five"):
        together = encoder.embed_images(images, crops)
        torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(
            encoder.embed_images(images[2:3], crops)[0], together[2], atol=1e-6, rtol=0
        )


def test_uint8_and_float_images_embed_alike(encoder: ClipEncoder) -> None:
    photo = _photo()[None]
    cosine = (encoder.embed_images(photo) * encoder.embed_images(photo.float() / 255)).sum()
    assert cosine > 0.999


def test_native_windows_are_cut_and_not_resized(encoder: ClipEncoder) -> None:
    image = torch.arange(3 * 40 * 56, dtype=torch.float32).reshape(3, 40, 56) / 6720
    windows = encoder.preprocess.windows(image[None], "five")[0]
    assert windows.shape == (5, 3, 32, 32)
    torch.testing.assert_close(windows[0], image[:, :32, :32])
    torch.testing.assert_close(windows[3], image[:, 8:, 24:])
    torch.testing.assert_close(windows[4], image[:, 4:36, 12:44])


def test_an_image_smaller_than_a_window_is_enlarged_to_it(encoder: ClipEncoder) -> None:
    windows = encoder.preprocess.windows(torch.rand(1, 3, 10, 20), "five")[0]
    assert windows.shape == (5, 3, 32, 32)
    assert windows.min() >= 0
    assert windows.max() <= 1


def test_native_windows_see_noise_that_the_shrunken_crop_hides(encoder: ClipEncoder) -> None:
    clean = torch.full((3, 256, 256), 0.5)
    noisy = (clean + 0.1 * torch.randn(3, 256, 256)).clamp(0, 1)
    shrunk = encoder.preprocess.windows(noisy[None]).std()
    native = encoder.preprocess.windows(noisy[None], "five").std()
    assert native > 5 * shrunk


def test_texts_embed_in_order_however_many_there_are(encoder: ClipEncoder) -> None:
    texts = [f"{number} image" for number in np.arange(300)]
    torch.testing.assert_close(encoder.embed_texts(texts)[299], encoder.embed_texts(["299 image"])[0])
