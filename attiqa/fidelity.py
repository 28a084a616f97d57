"""Fidelity to a reference: PSNR, SSIM and CIEDE2000 of display-sRGB images of one size, on the CPU.

scikit-image is imported where it is used: it takes as long as half of torch, and most commands that could
measure fidelity do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from attiqa.errors import InputError


def psnr(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all samples; infinite for equal images.

    Args:
        image: float32 ``(3, H, W)``, display sRGB in [0, 1].
        reference: the same layout and size.
    """
    from skimage.metrics import peak_signal_noise_ratio

    a, b = _pair(image, reference)
    if np.array_equal(a, b):
        return float("inf")
    return float(peak_signal_noise_ratio(b, a, data_range=1.0))


def ssim(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Structural similarity (Wang et al., TIP 2004: Gaussian window, sigma 1.5), mean of the channels.

    Args:
        image: float32 ``(3, H, W)``, display sRGB in [0, 1], 11 pixels or more a side.
        reference: the same layout and size.
    """
    from skimage.metrics import structural_similarity

    a, b = _pair(image, reference)
    if min(a.shape[:2]) < 11:
        raise InputError(f"SSIM's window spans 11 pixels; the image is only {a.shape[1]}x{a.shape[0]}.")
    return float(
        structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def ciede2000(image: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean CIEDE2000 colour difference (Sharma et al., 2005) over the pixels, in CIELAB under D65.

    Args:
        image: float32 ``(3, H, W)``, display sRGB in [0, 1].
        reference: the same layout and size.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    a, b = _pair(image, reference)
    return float(deltaE_ciede2000(rgb2lab(a), rgb2lab(b)).mean())


# name -> (function, whether lower is better); what tables of enhancement report
FIDELITY: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], float], bool]] = {
    "psnr": (psnr, False),
    "ssim": (ssim, False),
    "ciede2000": (ciede2000, True),
}


def _pair(image: torch.Tensor, reference: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if image.shape != reference.shape or image.ndim != 3 or image.shape[0] != 3:
        raise InputError(
            "fidelity compares two images (3, H, W) of one size; "
            f"these are {tuple(image.shape)} and {tuple(reference.shape)}: bring them to one size first."
        )
    a, b = (tensor.detach().cpu().double().permute(1, 2, 0).numpy() for tensor in (image, reference))
    return a, b
