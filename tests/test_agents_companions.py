"""What an export writes beside a picture: sidecars for other programs, sheets, and the page of sliders."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import colour
import pytest
import torch
from PIL import Image

from agents import gallery
from agents.sheets import draw_sheet, in_units
from agents.xmp import unmapped, write_xmp
from isp_env.frame import RawFrame
from isp_env.parameters import PARAMETERS
from isp_env.raw import read_raw

CRS = "{http://ns.adobe.com/camera-raw-settings/1.0/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
OURS = "{urn:attiqa:parameters:1#}"

FRAME = RawFrame(torch.zeros(3, 200, 300), torch.ones(3), torch.eye(3), "photo", "0" * 64)


def sidecar(
    folder: Path, values: dict[str, float], source: str = "photo.jpg", frame: RawFrame = FRAME
) -> ET.Element:
    write_xmp(folder / "x.xmp", Path(source), frame, values)
    return ET.parse(folder / "x.xmp").getroot().find(f"{RDF}RDF/{RDF}Description")


def items(about: ET.Element, name: str) -> list[str]:
    return [item.text for item in about.findall(f"{name}/*/{RDF}li")]


def test_parameters_stand_in_the_sidecar_under_their_names_there(tmp_path):
    values = {"exposure": -0.7, "highlights": -0.25, "vibrance": 0.3, "sharpen": 0.5, "denoise_luma": 0.2}
    about = sidecar(tmp_path, values)
    assert float(about.get(f"{CRS}Exposure2012")) == -0.7
    assert about.get(f"{CRS}Highlights2012") == "-25"
    assert about.get(f"{CRS}Vibrance") == "+30"
    assert about.get(f"{CRS}Sharpness") == "50"
    assert about.get(f"{CRS}SharpenRadius") == "+0.8"  # 0.4 % of 200 pixels
    assert about.get(f"{CRS}LuminanceSmoothing") == "20"
    assert about.get(f"{CRS}WhiteBalance") == "As Shot"
    assert about.get(f"{CRS}Contrast2012") is None  # not the policy's to set: the program's own default
    assert float(about.get(f"{OURS}exposure")) == -0.7


def test_what_has_no_counterpart_is_named(tmp_path):
    values = {row.name: row.high for row in PARAMETERS} | {"hue": 0.0}
    assert unmapped(values) == ["tone_map", "monochrome", "monochrome_filter", "clahe"]
    assert items(sidecar(tmp_path, values), f"{OURS}notMapped") == unmapped(values)


def test_curves_are_drawn_by_points_between_black_and_white(tmp_path):
    about = sidecar(tmp_path, {"tone_shadows": 0.1, "tone_midtones": 0.0, "blue_shadows": 0.05})
    points = [tuple(map(int, item.split(", "))) for item in items(about, f"{CRS}ToneCurvePV2012")]
    assert points[0] == (0, 0)
    assert points[-1] == (255, 255)
    assert all(y >= x for x, y in points)
    assert dict(points)[64] > 70
    assert items(about, f"{CRS}ToneCurvePV2012Blue")
    assert not items(about, f"{CRS}ToneCurvePV2012Red")


@pytest.mark.parametrize("shift", [-40.0, 40.0])
def test_temperature_is_written_as_the_light_that_the_new_gains_make_white(tmp_path, data_root, shift):
    path = data_root / "raws" / "GOPRO_HERO6.dng"
    frame = read_raw(path, 256)
    kelvins = [
        float(sidecar(tmp_path, {"temperature": t, "tint": 0.0}, str(path), frame).get(f"{CRS}Temperature"))
        for t in (0.001, shift)
    ]
    # the shift is defined at D65; the light of this raw is warmer, where it comes to a little less
    assert 1e6 / kelvins[0] - 1e6 / kelvins[1] == pytest.approx(shift, rel=0.2)
    assert 4500 < kelvins[0] < 5500


def test_a_grey_under_d65_has_the_temperature_that_colour_science_gives_it():
    from agents.xmp import _kelvin_and_tint

    kelvin, tint = _kelvin_and_tint(FRAME, torch.ones(3), torch.ones(3))
    uv = colour.xy_to_UCS_uv(colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"])
    expected, duv = colour.temperature.uv_to_CCT_Ohno2013(uv)
    assert kelvin == pytest.approx(expected, rel=2e-3)
    assert tint == pytest.approx(3000 * duv, abs=0.5)


def test_photographs_get_increments(tmp_path):
    about = sidecar(tmp_path, {"temperature": 30.0, "tint": 0.1})
    assert about.get(f"{CRS}IncrementalTemperature") == "+30"
    assert int(about.get(f"{CRS}IncrementalTint")) > 5  # green taken away is magenta there too
    assert about.get(f"{CRS}Temperature") is None


def test_a_sheet_shows_both_pictures_and_a_bar_for_each_parameter(tmp_path):
    pictures = {"neutral": torch.full((3, 60, 90), 0.2), "enhanced": torch.full((3, 60, 90), 0.8)}
    draw_sheet(tmp_path / "a.png", "scene", pictures, [(row, row.high) for row in PARAMETERS])
    with Image.open(tmp_path / "a.png") as sheet:
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20)}
    assert {(51, 51, 51), (204, 204, 204), (0x2F, 0x6F, 0x9F)} <= colours


def test_what_rounds_to_nothing_has_no_sign_of_its_own():
    exposure = next(row for row in PARAMETERS if row.name == "exposure")
    assert [in_units(value, exposure) for value in (-0.001, -0.3)] == ["+0.00 EV", "-0.30 EV"]


class Page(HTMLParser):
    """What a browser would load and show, and whether all that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.sliders, self.text, self.open = 0, "", []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.images += [unquote(found["src"])] if tag == "img" else []
        self.links += [unquote(found["href"])] if tag == "a" else []
        self.sliders += tag == "input" and found["type"] == "range"
        if tag not in ("img", "input", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_names_its_pictures_whatever_they_are_called(tmp_path):
    name = '50% <b>"#1" & é'
    for path in gallery.small_pictures(tmp_path, name):
        gallery.write_small(path, torch.rand(3, 20, 30))
    entry = gallery.Entry(name, (30, 20), (0.4, 0.5), [("exposure", "+0.30 EV")], [f"{name}.jpg"])
    page = Page(gallery.write_page(tmp_path, [entry]).read_text())
    assert page.open == []
    assert page.sliders == 1
    assert len(page.images) == 2
    assert all((tmp_path / image).is_file() for image in page.images)
    assert page.links == [f"{name}.jpg"]
    assert name in page.text
    assert "+0.30 EV" in page.text
