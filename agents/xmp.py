"""Parameters as an XMP sidecar in Adobe's camera raw namespace, for Lightroom and what reads its sidecars.

Only what has a counterpart there is written, and even that is another program's operator of the same meaning:
the sidecar is a start for editing by hand, not a copy of the render. The namespace's fields are those of
exiftool's list of XMP crs tags; the scales are our choice where Adobe documents none:

| Ours | There | How |
|---|---|---|
| temperature, tint | Temperature, Tint | the light that the gains make white, by the file's matrix |
| (of photographs) | IncrementalTemperature, IncrementalTint | one unit a mired; units of Tint |
| exposure | Exposure2012 | EV |
| highlights, shadows, whites, blacks, contrast, clarity | the same with 2012 | 1 is 100 |
| dehaze, saturation, vibrance | Dehaze, Saturation, Vibrance | 1 is 100 |
| tone curve, gamma | ToneCurvePV2012 | nine points of the curve |
| channel curves | ToneCurvePV2012Red, -Green, -Blue | nine points of the curve |
| sharpen, sharpen_radius | Sharpness, SharpenRadius | 1 is 100; pixels, which end at 3 there |
| denoise_luma, denoise_chroma | LuminanceSmoothing, ColorNoiseReduction | 1 is 100 |

Without counterpart: tone_map, hue, monochrome, monochrome_filter and clahe. They are named in the sidecar, as
are all parameters in our own units, under a namespace of ours. Where LibRaw knows no matrix of the camera,
the as-shot light counts as D65. darktable 4.2 takes the exposure, blacks, clarity and
the tone curve from such a sidecar.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import rawpy
import torch

from attiqa.files import atomic_path
from isp_env.color import (
    D65_XY,
    SRGB_PRIMARIES,
    kelvin_to_mired,
    kelvin_to_xy,
    rgb_to_xyz_matrix,
    xy_to_xyz,
)
from isp_env.frame import RawFrame
from isp_env.operators import balance, curves
from isp_env.parameters import PARAMETERS
from isp_env.sources import is_photograph

_NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "attiqa": "urn:attiqa:parameters:1#",
}
_NEUTRAL = {row.name: row.neutral for row in PARAMETERS}

# our name -> theirs, for strengths of which 1 is their 100, and their limits
_STRENGTHS = {
    "highlights": ("Highlights2012", -100, 100),
    "shadows": ("Shadows2012", -100, 100),
    "whites": ("Whites2012", -100, 100),
    "blacks": ("Blacks2012", -100, 100),
    "contrast": ("Contrast2012", -100, 100),
    "clarity": ("Clarity2012", -100, 100),
    "dehaze": ("Dehaze", -100, 100),
    "saturation": ("Saturation", -100, 100),
    "vibrance": ("Vibrance", -100, 100),
    "sharpen": ("Sharpness", 0, 150),
    "denoise_luma": ("LuminanceSmoothing", 0, 100),
    "denoise_chroma": ("ColorNoiseReduction", 0, 100),
}
_WITHOUT = frozenset({"tone_map", "hue", "monochrome", "monochrome_filter", "clahe"})
_TINT = 3000.0  # units of Tint for a distance of 1 in CIE 1960 uv from the black bodies (Adobe DNG SDK)
_INPUTS = [*range(0, 256, 32), 255]  # where curves are read off
_SCALE = torch.tensor(_INPUTS, dtype=torch.float32).div(255).expand(1, 3, 1, -1)  # as an image of grey

Values = Mapping[str, float]


def unmapped(values: Values) -> list[str]:
    """Names of the parameters that are away from neutral and have no counterpart in a sidecar."""
    return [name for name, value in values.items() if value != _NEUTRAL[name] and name in _WITHOUT]


def write_xmp(path: Path, source: Path, frame: RawFrame, values: Values) -> None:
    """Write a sidecar atomically.

    Args:
        path: ``NAME.xmp``; Lightroom looks for it beside the raw of the same name.
        source: the raw or photograph.
        frame: what was read from it.
        values: physical values by name; those that are missing stay at the reading program's own default.
    """
    for prefix, address in _NAMESPACES.items():
        ET.register_namespace(prefix, address)
    root = ET.Element(_name("x", "xmpmeta"), {_name("x", "xmptk"): "attiqa"})
    about = ET.SubElement(ET.SubElement(root, _name("rdf", "RDF")), _name("rdf", "Description"))
    about.set(_name("rdf", "about"), "")
    settings = {"Version": "15.0", "ProcessVersion": "11.0", "HasSettings": "True", "AlreadyApplied": "False"}
    settings |= _white_balance(source, frame, values) | _sliders(frame, values)
    drawn = _curves(values)
    settings["ToneCurveName2012"] = "Custom" if drawn else "Linear"
    for name, text in settings.items():
        about.set(_name("crs", name), text)
    for name, points in drawn.items():
        _list(about, _name("crs", name), "Seq", [f"{x}, {y}" for x, y in points])
    for name, value in values.items():
        about.set(_name("attiqa", name), f"{value:.6g}")
    _list(about, _name("attiqa", "notMapped"), "Bag", unmapped(values))
    ET.indent(root)
    with atomic_path(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _sliders(frame: RawFrame, values: Values) -> dict[str, str]:
    found = {}
    if "exposure" in values:
        found["Exposure2012"] = f"{values['exposure']:+.2f}"
    for name, (theirs, low, high) in _STRENGTHS.items():
        if name in values:
            found[theirs] = _level(100 * values[name], low, high)
    if values.get("sharpen", 0.0) > 0:
        percent = values.get("sharpen_radius", _NEUTRAL["sharpen_radius"])
        pixels = percent / 100 * min(frame.image.shape[-2:])
        found["SharpenRadius"] = f"{min(max(pixels, 0.5), 3.0):+.1f}"
    return found


def _curves(values: Values) -> dict[str, list[tuple[int, int]]]:
    """Points of every curve that is not the identity, on scales of 255."""
    found = {}
    knots = [values.get(f"tone_{knot}", 0.0) for knot in ("shadows", "midtones", "highlights")]
    octaves = values.get("gamma", 0.0)
    if any(knots) or octaves:
        curve = _drawn(knots).clamp(0.0, 1.0)
        found["ToneCurvePV2012"] = _points(curves.gamma(curve, torch.tensor([octaves])))
    for channel in ("red", "green", "blue"):
        pair = [values.get(f"{channel}_{knot}", 0.0) for knot in ("shadows", "highlights")]
        if any(pair):
            found[f"ToneCurvePV2012{channel.title()}"] = _points(_drawn(pair))
    return found


def _drawn(knots: list[float]) -> torch.Tensor:
    """The scale under the curve that `knots` raise: ``(1, 1, 1, N)``."""
    return curves.draw(_SCALE, curves.knot_polynomial(torch.tensor([knots])))


def _points(curve: torch.Tensor) -> list[tuple[int, int]]:
    outputs = curve[0, 0, 0].mul(255).round().clamp(0, 255).int().tolist()
    return list(zip(_INPUTS, outputs, strict=True))


def _white_balance(source: Path, frame: RawFrame, values: Values) -> dict[str, str]:
    shift, tint = values.get("temperature", 0.0), values.get("tint", 0.0)
    if not shift and not tint:
        return {"WhiteBalance": "As Shot"}
    gains = balance.balance_gains(
        frame.white_balance[None], frame.color_matrix[None], torch.tensor([shift]), torch.tensor([tint])
    )[0]
    if is_photograph(source):
        rest, moved = (_kelvin_and_tint(frame, torch.ones(3), g)[1] for g in (frame.white_balance, gains))
        return {
            "WhiteBalance": "Custom",
            "IncrementalTemperature": _level(shift, -100, 100),
            "IncrementalTint": _level(moved - rest, -100, 100),
        }
    kelvin, green = _kelvin_and_tint(frame, _daylight_gains(source), gains)
    return {
        "WhiteBalance": "Custom",
        "Temperature": _level(kelvin, 2000, 50000),
        "Tint": _level(green, -150, 150),
    }


def _daylight_gains(source: Path) -> torch.Tensor:
    """The gains ``(3,)`` that make a grey under D65 grey, by LibRaw's matrix of this camera."""
    with rawpy.imread(str(source)) as raw:
        return torch.tensor(raw.daylight_whitebalance[:3])


def _kelvin_and_tint(frame: RawFrame, daylight: torch.Tensor, gains: torch.Tensor) -> tuple[float, float]:
    """The light under which a grey needs `gains` ``(3,)``: colour temperature, and Adobe's tint."""
    to_xyz = rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY) @ frame.color_matrix.double()
    light = to_xyz @ (daylight / gains).double()
    kelvin = kelvin_to_mired(torch.arange(40.0, 600.0, 0.1, dtype=torch.float64))
    distance = _uv(light) - _uv(xy_to_xyz(kelvin_to_xy(kelvin)))  # (N, 2)
    length = distance.norm(dim=-1)
    nearest = int(length.argmin())
    # above the curve of black bodies, greener than they are, the slider turns to magenta
    return float(kelvin[nearest]), _TINT * float(length[nearest] * distance[nearest, 1].sign())


def _uv(xyz: torch.Tensor) -> torch.Tensor:
    """CIE 1960 uniform chromaticity of XYZ ``(..., 3)``."""
    x, y, z = xyz.unbind(-1)
    return torch.stack([4 * x, 6 * y], dim=-1) / (x + 15 * y + 3 * z)[..., None]


def _level(value: float, low: int, high: int) -> str:
    """A whole number within limits, with its sign where it may be negative."""
    level = min(max(round(value), low), high)
    return f"{level:+d}" if low < 0 else str(level)


def _name(prefix: str, name: str) -> str:
    return f"{{{_NAMESPACES[prefix]}}}{name}"


def _list(parent: ET.Element, name: str, kind: str, items: list[str]) -> None:
    container = ET.SubElement(ET.SubElement(parent, name), _name("rdf", kind))
    for item in items:
        ET.SubElement(container, _name("rdf", "li")).text = item
