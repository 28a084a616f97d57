"""A window for ``render_mode="human"``: the neutral render beside the current one."""

from __future__ import annotations

import os
import sys
from typing import Any

import gymnasium as gym
import numpy as np


def display_exists() -> bool:
    """Whether a window can be opened: always assumed on Windows and macOS, by its variables elsewhere."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Viewer:
    """Shows two renders side by side; without a display it says so once and shows nothing."""

    def __init__(self) -> None:
        self._axes: Any = None
        self._figure: Any = None
        self._shows = display_exists()
        if not self._shows:
            gym.logger.warn(
                "render_mode='human' needs a display and none was found; nothing is shown. "
                "Use render_mode='rgb_array' to get the pixels."
            )

    def show(self, neutral: np.ndarray, current: np.ndarray, title: str) -> None:
        """Draw uint8 ``(H, W, 3)`` display sRGB images and let the window answer its events."""
        if not self._shows:
            return
        import matplotlib.pyplot as plt

        if self._figure is None:
            plt.ion()
            self._figure, self._axes = plt.subplots(1, 2, layout="constrained")
        for axis, image, name in zip(self._axes, (neutral, current), ("neutral", "current"), strict=True):
            axis.clear()
            axis.imshow(image)
            axis.set_title(name)
            axis.set_axis_off()
        self._figure.suptitle(title)
        plt.pause(0.001)

    def close(self) -> None:
        """Close the window; more than once does no harm."""
        if self._figure is not None:
            import matplotlib.pyplot as plt

            plt.close(self._figure)
            self._figure = self._axes = None
