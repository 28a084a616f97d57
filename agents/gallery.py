"""``report.html``: exported pictures before and after, under sliders, in one page that opens from disk."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import torch
from PIL import Image

from agents.image_files import srgb_profile
from agents.sheets import as_bytes
from attiqa.errors import InputError
from attiqa.files import atomic_path, read_json, write_text

PAGE = "report.html"
FOLDER = "report"  # of the page's pictures

_QUALITY = 88
_MARK = '<meta name="generator" content="attiqa agents/export.py">'


@dataclass(frozen=True)
class Entry:
    """One picture of the page.

    Attributes:
        name: of the file.
        size: width and height of its two small pictures, in pixels.
        scores: plain quality before and after.
        settings: parameter names and physical values with their units.
        files: what was written for it, relative to the page.
    """

    name: str
    size: tuple[int, int]
    scores: tuple[float, float]
    settings: Sequence[tuple[str, str]]
    files: Sequence[str]


def small_pictures(out: Path, name: str) -> tuple[Path, Path]:
    """Where the page's two pictures of a file are: neutral, enhanced."""
    return out / FOLDER / f"{name}-neutral.jpg", out / FOLDER / f"{name}-enhanced.jpg"


def write_small(path: Path, picture: torch.Tensor) -> None:
    """Write one of the page's pictures: float32 ``(3, h, w)``, display sRGB in [0, 1]."""
    with atomic_path(path) as temporary:
        Image.fromarray(as_bytes(picture)).save(temporary, quality=_QUALITY, icc_profile=srgb_profile())


def read_record(path: Path) -> dict[str, Any] | None:
    """What an export wrote beside a picture, ``NAME.json``; None where the file is something else."""
    try:
        value = read_json(path)
    except (InputError, OSError):
        return None
    is_ours = isinstance(value, dict) and "policy_digest" in value and isinstance(value.get("files"), list)
    return value if is_ours else None


def check_page(out: Path) -> None:
    """Raise `InputError` where a page stands in the folder that is not one of these."""
    page = out / PAGE
    if page.exists() and _MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{page} exists already; take another --out, or replace it with --overwrite.")


def entries_in(out: Path) -> list[Entry]:
    """All pictures that were ever exported into a folder with a report, by name."""
    found = [_entry(path) for path in out.glob("*.json")]
    return sorted((entry for entry in found if entry), key=lambda entry: entry.name.casefold())


def _entry(path: Path) -> Entry | None:
    record = read_record(path)
    if record is None or not all(small.is_file() for small in small_pictures(path.parent, path.stem)):
        return None
    try:
        width, height = record["report"]["size"]
        return Entry(
            path.stem,
            (int(width), int(height)),
            (float(record["neutral_score"]), float(record["score"])),
            [(str(name), str(value)) for name, value in record["report"]["settings"]],
            [str(file) for file in reversed(record["files"]) if not str(file).startswith(f"{FOLDER}/")],
        )
    except (KeyError, TypeError, ValueError):  # written without --report, or by hand
        return None


def write_page(out: Path, entries: Sequence[Entry]) -> Path:
    """Write the page atomically; its pictures are loaded from `FOLDER` beside it as they come into view."""
    figures = "\n".join(_figure(entry, number) for number, entry in enumerate(entries))
    title = f"{len(entries)} exported picture{'s' if len(entries) > 1 else ''}"
    path = out / PAGE
    write_text(path, _PAGE.substitute(title=title, mark=_MARK, figures=figures))
    return path


def _figure(entry: Entry, number: int) -> str:
    neutral, enhanced = (quote(f"{FOLDER}/{path.name}") for path in small_pictures(Path(), entry.name))
    return _FIGURE.substitute(
        number=number,
        name=html.escape(entry.name),
        neutral=neutral,
        enhanced=enhanced,
        width=entry.size[0],
        height=entry.size[1],
        before=f"{entry.scores[0]:.3f}",
        after=f"{entry.scores[1]:.3f}",
        links=", ".join(f'<a href="{quote(file)}">{html.escape(file)}</a>' for file in entry.files),
        rows="".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in entry.settings
        ),
    )


_FIGURE = Template("""<figure id="p$number">
<div class="pair" style="aspect-ratio:$width/$height;max-width:calc(82vh*$width/$height)">
<img src="$neutral" width="$width" height="$height" loading="lazy" alt="$name, neutral">
<img class="after" src="$enhanced" width="$width" height="$height" loading="lazy" alt="$name, enhanced">
<span class="tag left">neutral</span><span class="tag right">enhanced</span><span class="bar"></span>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="$name: from neutral to enhanced">
</div>
<figcaption><b>$name</b> score $before &rarr; $after &middot; $links
<details><summary>parameters</summary><table>$rows</table></details></figcaption>
</figure>""")

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
$mark
<title>$title</title>
<style>
body { margin: 0 auto; padding: 1rem; max-width: 1200px; }
body { background: #222; color: #ddd; font: 15px/1.5 sans-serif; }
figure { margin: 0 0 2.5rem; }
.pair { position: relative; --cut: 50%; overflow: hidden; background: #333; }
.pair * { position: absolute; }
.pair img, .pair input { inset: 0; width: 100%; height: 100%; margin: 0; }
.pair .after { clip-path: inset(0 0 0 var(--cut)); }
.pair input { opacity: 0; cursor: ew-resize; }
.pair .bar { top: 0; bottom: 0; left: var(--cut); width: 2px; background: #fff; pointer-events: none; }
.pair:focus-within .bar { background: #6cf; }
.tag { bottom: .5rem; padding: 0 .4rem; background: #0008; font-size: 12px; pointer-events: none; }
.left { left: .5rem; }
.right { right: .5rem; }
a { color: #9cf; }
th { text-align: left; font-weight: normal; padding-right: 1.5rem; }
td { font-family: monospace; }
</style>
</head>
<body>
<h1>$title</h1>
<p>Drag across a picture, or use the arrow keys: left of the line is the camera's neutral
render, right of it the enhanced one.</p>
$figures
<script>
for (const slider of document.querySelectorAll(".pair input"))
  slider.addEventListener("input", () => slider.parentNode.style.setProperty("--cut", slider.value + "%"));
</script>
</body>
</html>
""")
