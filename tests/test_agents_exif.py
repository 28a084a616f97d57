"""What cameras say of their pictures goes with them, in every format."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from agents.exif import read_exif
from agents.image_files import finish, write_picture


@pytest.mark.parametrize("kind, suffix", [("jpeg", ".jpg"), ("png", ".png"), ("tiff", ".tif")])
def test_every_format_carries_exif_over(tmp_path, kind, suffix):
    source = Image.Exif()
    source[Base.Make], source[Base.Artist], source[Base.Copyright] = b"Maker", "Zoë".encode(), b"  \0"
    source.get_ifd(IFD.Exif).update({Base.ExposureTime: 0.01, Base.MakerNote: b"offsets into the source"})
    source.get_ifd(IFD.GPSInfo).update({1: "N", 2: (33.0, 7.0, 36.8)})
    photograph, path = tmp_path / "source.jpg", tmp_path / f"out{suffix}"
    Image.new("RGB", (8, 8)).save(photograph, exif=source)
    write_picture(path, finish(torch.zeros(3, 70, 9), kind), kind, 95, read_exif(photograph))
    with path.open("rb") as file:
        found = Image.Exif()
        if kind == "tiff":  # of 16 bits: no picture that Pillow opens
            found.load_from_fp(file)
        else:
            found = Image.open(file).getexif()
        details, place = found.get_ifd(IFD.Exif), found.get_ifd(IFD.GPSInfo)
    assert found[Base.Make] == "Maker"
    assert found[Base.Artist].encode("latin-1").decode() == "Zoë"
    assert Base.Copyright not in found
    assert float(details[Base.ExposureTime]) == pytest.approx(0.01)
    assert Base.MakerNote not in details
    assert [float(part) for part in place[2]] == pytest.approx([33.0, 7.0, 36.8])


def test_what_a_raw_says_of_its_exposure_in_its_makers_own_way_is_carried_too(data_root):
    details = read_exif(data_root / "raws" / "RAW_NIKON_D1.NEF").get_ifd(IFD.Exif)
    assert details[Base.ISOSpeedRatings] == 200  # in the maker note alone, which is left behind
    assert float(details[Base.ExposureTime]) == pytest.approx(1 / 250)  # in EXIF


def test_what_libraw_measured_of_an_exposure_is_written_as_fractions(data_root):
    exif = read_exif(data_root / "raws" / "RAW_KODAK_DC50.KDC")  # which has no EXIF of its own
    again = Image.Exif()
    again.load(exif.tobytes())
    details = again.get_ifd(IFD.Exif)
    for tag, value in ((Base.ExposureTime, 0.00435), (Base.FNumber, 6.2), (Base.FocalLength, 37.0)):
        assert isinstance(details[tag], IFDRational)  # of a DOUBLE Pillow reads a float
        assert float(details[tag]) == pytest.approx(value, rel=0.01)


def test_a_raw_that_tells_only_when_it_was_written_was_shot_then(data_root):
    exif = read_exif(data_root / "raws" / "CANON_EOS_D30.CRW")
    again = Image.Exif()
    again.load(exif.tobytes())
    assert again.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == again[Base.DateTime]
