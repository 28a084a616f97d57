"""Photographs come out in sRGB, whatever colours their profile means."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from attiqa.errors import InputError
from attiqa.images import decode_image, read_image

# linear P3-D65 to linear sRGB: SMPTE EG 432-1 primaries, BT.709 primaries, one white point
P3_TO_SRGB = np.array(
    [[1.2249401, -0.2249404, 0.0], [-0.0420569, 1.0420571, 0.0], [-0.0196376, -0.0786361, 1.0982735]]
)
# PCS (D50) colorants of Display P3, as in Apple's "Display P3.icc"
P3_COLORANTS = {
    "r": (0.51512, 0.2412, -0.00105),
    "g": (0.29198, 0.69225, 0.04189),
    "b": (0.1571, 0.06657, 0.78407),
}
COLORS = np.array([[[128, 128, 128], [190, 140, 100], [90, 120, 80], [60, 90, 150]]], np.uint8)


def profile_of(colorants: dict[str, tuple[float, float, float]]) -> bytes:
    """sRGB's matrix profile (ICC.1) with other colorants."""
    made = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(made[128:132], "big")
    for number in range(count):
        entry = 132 + 12 * number
        tag, place = bytes(made[entry : entry + 4]), int.from_bytes(made[entry + 4 : entry + 8], "big")
        if tag in (b"rXYZ", b"gXYZ", b"bXYZ"):
            values = colorants[chr(tag[0])]
            fixed = b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in values)
            made[place + 8 : place + 20] = fixed
    return bytes(made)


def decode(values: np.ndarray) -> np.ndarray:
    values = values / 255.0
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0.0, 1.0)
    return 255.0 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def written(path: Path, mode: str = "RGB", **options: object) -> Path:
    Image.fromarray(COLORS).convert(mode).save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    return read_image(path).permute(1, 2, 0).numpy()


def test_display_p3_becomes_srgb_as_its_primaries_say(tmp_path):
    found = pixels(written(tmp_path / "p3.png", icc_profile=profile_of(P3_COLORANTS)))
    expected = encode(decode(COLORS) @ P3_TO_SRGB.T)
    np.testing.assert_allclose(found, expected, atol=1.5)
    assert np.abs(found.astype(int) - COLORS).max() > 8


def test_numbers_can_be_taken_as_they_stand(tmp_path):
    path = written(tmp_path / "p3.png", icc_profile=profile_of(P3_COLORANTS))
    np.testing.assert_array_equal(read_image(path, profiles=False).permute(1, 2, 0).numpy(), COLORS)


def test_alpha_is_composed_after_the_colours_are_converted(tmp_path):
    opaque = pixels(written(tmp_path / "a.png", icc_profile=profile_of(P3_COLORANTS)))
    found = pixels(written(tmp_path / "b.png", "RGBA", icc_profile=profile_of(P3_COLORANTS)))
    np.testing.assert_array_equal(found, opaque)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_srgb_profile_changes_no_value(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(pixels(written(tmp_path / f"x{suffix}", icc_profile=profile)), COLORS)


def test_grey_with_the_profile_of_colours_is_read(tmp_path):
    found = pixels(written(tmp_path / "grey.png", "L", icc_profile=profile_of(P3_COLORANTS)))
    grey = np.asarray(Image.fromarray(COLORS).convert("L"))
    np.testing.assert_allclose(found, np.repeat(grey[..., None], 3, axis=2), atol=1)


@pytest.mark.parametrize(
    "profile", [b"no profile at all", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
def test_a_profile_that_cannot_be_used_is_named_once_and_left_out(tmp_path, caplog, profile):
    path = written(tmp_path / "broken.png", icc_profile=profile)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(pixels(path), COLORS)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: its colour profile cannot be used (")
    assert record.getMessage().endswith("so its colours are taken for sRGB.")


def test_bytes_in_memory_are_converted_too(tmp_path):
    path = written(tmp_path / "p3.png", icc_profile=profile_of(P3_COLORANTS))
    found = decode_image(io.BytesIO(path.read_bytes()), "p3").permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, pixels(path))


def test_a_line_of_pixels_is_refused_before_it_is_decoded(tmp_path):
    """Its short side brought to 340 pixels, it would take gigabytes and the others of its folder with it."""
    path = tmp_path / "line.png"
    Image.new("RGB", (6500, 100)).save(path)
    with pytest.raises(InputError, match=r"line\.png is 6500 x 100 pixels; expected a photograph"):
        read_image(path)
    Image.new("RGB", (6400, 100)).save(path)
    assert read_image(path).shape == (3, 100, 6400)
