"""One look at every size: previews against full renders shrunk, in pixels and in the eyes of a reward.

``python benchmarks/previews.py --raws DIR`` prints a row a raw and writes a record.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import InputError, command
from attiqa.fidelity import psnr
from attiqa.metrics import srocc
from attiqa.options import as_record, option, parse
from attiqa.rewards.registry import AnyReward, build_reward
from benchmarks.records import command_line, write_record
from benchmarks.tables import markdown, number
from isp_env.color import linear_to_srgb, srgb_to_linear
from isp_env.embedded import write_embedded_scenes
from isp_env.frame import RawBatch, RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.raw import shrink
from isp_env.sources import RawFolder, read_frame

LOCAL = ("denoise_luma", "denoise_chroma", "highlights", "shadows", "dehaze", "clarity", "clahe", "sharpen")
INNER_HALF = 0.5  # of each range: where pixels are compared


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """Options of the benchmark of previews."""

    raws: Path | None = option(None, help="folder of raws (default: the embedded scenes)", metavar="DIR")
    settings: int = option(64, help="random settings of all parameters that a reward ranks")
    reward: str = option("attiqa-mini", help="a reward's name, or none to compare pixels alone")
    short_side: int = option(256, help="pixels of a preview's short side")
    reach: float = option(1.0, help="how much of each range the ranked settings take, from 0 to 1")
    device: str = option("cpu", help="where it runs: cpu, cuda, cuda:1")
    seed: int = option(0, help="of the settings")
    out: Path = option(Path("runs/benchmarks/previews"), help="folder of the record", metavar="DIR")

    def __post_init__(self) -> None:
        if self.settings < 2:
            raise InputError(f"--settings is 2 or more, for there to be a ranking; it is {self.settings}.")
        if not 0.0 < self.reach <= 1.0:
            raise InputError(f"--reach lies above 0 and at most at 1; it is {self.reach:g}.")


@command
def main(argv: list[str] | None = None) -> int:
    """Compare every raw, print the table, write the record."""
    options = parse(PreviewOptions, argv, prog="previews.py", description=__doc__ or "")
    reward = None if options.reward == "none" else build_reward(options.reward, options.device)
    with tempfile.TemporaryDirectory(prefix="isp_env-") as folder:
        inputs = [options.raws] if options.raws else write_embedded_scenes(folder, options.seed, 1)[0]
        source = RawFolder(inputs)
        rows = [_compare(path, reward, options) for path in source.paths]
    report = "\n\n".join(["## Previews against full renders shrunk", _protocol(options), _table(rows)])
    content = {"options": as_record(options), "raws": rows, "report": report}
    record = write_record(options.out, "previews", command_line("benchmarks/previews.py", argv), content)
    print(report)
    print(f"\nrecord: {record}")
    return 0


def _compare(path: Path, reward: AnyReward | None, options: PreviewOptions) -> dict[str, Any]:
    full = read_frame(path)
    preview = read_frame(path, options.short_side)
    generator = torch.Generator().manual_seed(options.seed)
    row = compare_pixels(full, preview, generator, options.device)
    if reward is not None:
        row["srocc"] = compare_ranks(
            full, preview, reward, options.settings, options.reach, generator, options.device
        )
    print(f"{path.name} is compared", file=sys.stderr)  # a raw of 12 million pixels takes minutes
    return {"raw": path.name, "size": list(full.image.shape[1:]), **row}


def compare_pixels(
    full: RawFrame, preview: RawFrame, generator: torch.Generator, device: str = "cpu", draws: int = 4
) -> dict[str, Any]:
    """PSNR in dB of a preview against the full render shrunk in linear light.

    Args:
        full, preview: one raw at two sizes.
        generator: draws the settings, in the inner half of their ranges.
        device: where the renders are made.
        draws: random settings of all parameters together.

    Returns:
        ``neutral``; ``together``, the worst of the draws; ``local``, each local operator alone at half of its
        range.
    """
    space = ParameterSpace()
    pair = _Pair(full, preview, device)
    alone = torch.zeros(len(LOCAL), len(space))
    for row, name in enumerate(LOCAL):
        alone[row, space.names.index(name)] = INNER_HALF
    together = (torch.rand(draws, len(space), generator=generator) * 2.0 - 1.0) * INNER_HALF
    return {
        "neutral": pair.psnr(space.neutral),
        "together": min(pair.psnr(values) for values in space.to_physical(together)),
        "local": {
            name: pair.psnr(values) for name, values in zip(LOCAL, space.to_physical(alone), strict=True)
        },
    }


def compare_ranks(
    full: RawFrame,
    preview: RawFrame,
    reward: AnyReward,
    settings: int,
    reach: float,
    generator: torch.Generator,
    device: str = "cpu",
) -> float:
    """SROCC between a reward's scores of previews and of full renders shrunk, over random settings.

    Args:
        full, preview: one raw at two sizes.
        reward: what scores them; one that compares with the neutral render gets that of the same size.
        settings: how many, drawn evenly from `reach` of each parameter's range.
        reach: share of each range on either side of neutral.
        generator: draws them.
        device: where the renders are made and scored.
    """
    space = ParameterSpace()
    pair = _Pair(full, preview, device)
    neutral = pair.renders(space.neutral)
    actions = (torch.rand(settings, len(space), generator=generator) * 2.0 - 1.0) * reach
    scores: list[list[float]] = [[], []]
    for values in space.to_physical(actions):
        for side, image in enumerate(pair.renders(values)):
            reference = {"reference": neutral[side][None]} if getattr(reward, "uses_reference", False) else {}
            scores[side].append(float(reward(image[None], **reference)))
    return srocc(torch.tensor(scores[0]).numpy(), torch.tensor(scores[1]).numpy())


class _Pair:
    """One raw at two sizes, rendered alike."""

    def __init__(self, full: RawFrame, preview: RawFrame, device: str) -> None:
        self._pipeline, self._device = Pipeline(), device
        self._full, self._preview = (RawBatch.stack([frame]).to(device) for frame in (full, preview))
        self._short_side = min(preview.image.shape[-2:])

    def renders(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Physical values ``(P,)`` to the preview and the shrunk full render, ``(3, h, w)`` display sRGB."""
        row = values[None].to(self._device)
        preview = self._pipeline(self._preview, row)[0]
        full = shrink(srgb_to_linear(self._pipeline(self._full, row)[0]), self._short_side)
        return preview, linear_to_srgb(full).clamp(0.0, 1.0)

    def psnr(self, values: Tensor) -> float:
        return psnr(*self.renders(values))


def _protocol(options: PreviewOptions) -> str:
    lines = (
        f"Short side {options.short_side}. PSNR; full renders are shrunk in linear light: at neutral; "
        "the worst of four random settings of all parameters in the inner half of their ranges; the worst "
        "local operator alone, at half of its range."
    )
    if options.reward == "none":
        return lines
    return (
        f"{lines} SROCC of {options.reward} on the two over {options.settings} random settings of all "
        f"parameters in {options.reach:.0%} of their ranges."
    )


def _table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        worst = min(row["local"], key=row["local"].__getitem__)
        size = "x".join(map(str, reversed(row["size"])))
        lines.append(
            [
                row["raw"],
                size,
                number(row["neutral"], 1),
                number(row["together"], 1),
                f"{number(row['local'][worst], 1)} ({worst})",
                number(row["srocc"], 3) if "srocc" in row else "",
            ]
        )
    heads = ["raw", "size", "neutral, dB", "all operators, dB", "worst local one, dB", "SROCC of rewards"]
    return markdown(heads, lines)


if __name__ == "__main__":
    sys.exit(main(None))
