"""Where a sensor saturates: often below the white that its file states, each colour at its own value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import rawpy

Floats = npt.NDArray[np.float64]

_ADJUSTED = 0.75  # LibRaw's adjust_maximum_thr: from here on the brightest pixel is white

# All numbers are our choice. Saturated pixels pile up in a narrow peak; it is looked for in the uppermost
# part of the range, in bins of half a percent
_LOWEST, _BINS = 0.85, 30
_TELLING = 250_000  # pixels of each colour: more are not looked at
# a peak has so many of them, this share, this many times what ordinary bins have, and few pixels above it
_FEWEST, _LEAST, _TIMES, _ABOVE = 64, 2e-4, 10.0, 0.2
_WHITE = 0.98  # of white; above it a tint is not seen


@dataclass(frozen=True)
class Saturation:
    """What the brightest pixels of a file tell.

    Attributes:
        black, white: raw values; white as LibRaw takes it, at the brightest pixel where that lies between
            75 % and 100 % of what the file states.
        peaks: ``(4,)``, where red, green, blue and the second green pile up, in shares of that range; 1 where
            they do not.
    """

    black: float
    white: float
    peaks: Floats

    def white_for(self, balance: Floats) -> int | None:
        """The raw value that is white under a balance: where the first balanced colour saturates.

        The GoPro Hero6's green saturates at 95 % of the stated white and its blue at 92 %, red beyond it:
        with the stated white clouds come out pink.

        Args:
            balance: gains ``(4,)``; the smallest of the first three is 1.

        Returns:
            What LibRaw calls ``user_sat``, black included; None where its own white will do.
        """
        lowest = float((self.peaks * balance).min())
        return round(self.black + lowest * (self.white - self.black)) if lowest < _WHITE else None


def saturation(raw: rawpy.RawPy) -> Saturation:
    """Look for the peaks of an opened raw of which nothing has been rendered yet."""
    black = np.array(raw.black_level_per_channel, np.float64)
    lowest, white = float(black.min()), float(raw.white_level)
    pattern, peaks = raw.raw_pattern, np.ones(4)
    image = raw.raw_image_visible
    brightest = float(image.max())
    if _ADJUSTED * (white - lowest) < brightest - lowest < white - lowest:
        white = brightest
    if pattern is None or pattern.shape != (2, 2) or raw.num_colors != 3:
        return Saturation(lowest, white, peaks)
    step = 2 * max(1, round((image.size / 4 / _TELLING) ** 0.5))
    colors = raw.raw_colors_visible  # which rawpy makes anew, as large as the image, whenever it is asked
    for top, left in np.ndindex(2, 2):
        color = int(colors[top, left])
        light = (image[top::step, left::step] - black[color]) / (white - lowest)
        peaks[color] = _peak(light)
    return Saturation(lowest, white, peaks)


def _peak(light: Floats) -> float:
    """Where one colour's pixels pile up, as a share of white; 1 where they do not, or do so at white."""
    counts, edges = np.histogram(light, _BINS, (_LOWEST, 1.0))
    highest = int(counts.argmax())
    pile = counts[max(highest - 1, 0) : highest + 2].sum()
    is_peak = pile > max(_FEWEST, _LEAST * light.size, _TIMES * 3 * np.median(counts))
    if not is_peak or counts[highest + 2 :].sum() > _ABOVE * pile or highest >= _BINS - 2:
        return 1.0
    return float(edges[highest])
