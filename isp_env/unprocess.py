"""Raw mosaics from ordinary photographs, by inverting the camera's pipeline.

Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019 (arXiv 1811.11127), section 3:
inverse tone curve, inverse transfer function, inverse colour matrix, inverse white balance that keeps
highlights, mosaic, shot and read noise. What is drawn at random there is drawn here by `draw_cameras`,
beside what an agent is to mend: errors of exposure, of the recorded white balance, of saturation.
All of it batched, one camera an image, on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from isp_env.color import (
    D65_XY,
    SRGB_PRIMARIES,
    apply_matrix,
    kelvin_to_xy,
    rgb_to_xyz_matrix,
    srgb_to_linear,
    xy_to_xyz,
)
from isp_env.frame import RawBatch

# XYZ to camera of the Darmstadt set's four cameras as Adobe publishes them, which sec. 3.4 mixes
_XYZ_TO_CAMERA = (
    ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),  # Nexus 6P
    ((0.4913, -0.0541, -0.0202), (-0.6130, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),  # Sony A7R
    ((0.8380, -0.2630, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),  # Olympus E-M10
    ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.0970, 0.1581, 0.5181)),  # Sony RX100 IV
)
_RED_GAIN, _BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)  # sec. 3.3
_D65_MIRED = 1e6 / 6504

Range = tuple[float, float]


@dataclass(frozen=True)
class Cameras:
    """One camera, its settings and its errors for each image of a batch.

    Attributes:
        rgb_to_camera: ``(B, 3, 3)``, linear sRGB to white-balanced camera linear; rows sum to 1.
        gains: ``(B, 3)``, the white balance that is right, green at 1.
        as_shot: ``(B, 3)``, the white balance that the file will carry, green at 1.
        exposure: ``(B,)``, EV by which the sensor caught more light than the photograph shows.
        saturation: ``(B,)``, chroma that is left of the photograph's, 1 being all.
        tone: ``(B,)``, share of the smoothstep that the photograph is freed of; 1 is the paper's.
        lift: ``(B,)``, octaves of a power law that the photograph is freed of; above 0 the scene darkens.
        shot_noise: ``(B,)``, variance a unit of signal, camera linear.
        read_noise: ``(B,)``, variance at black.
    """

    rgb_to_camera: Tensor
    gains: Tensor
    as_shot: Tensor
    exposure: Tensor
    saturation: Tensor
    tone: Tensor
    lift: Tensor
    shot_noise: Tensor
    read_noise: Tensor

    def to(self, device: torch.device | str) -> Cameras:
        """The same on another device."""
        return Cameras(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def draw_cameras(
    count: int,
    generator: torch.Generator,
    exposure: Range = (0.0, 0.0),
    balance_error: Range = (0.0, 0.0),
    saturation: Range = (1.0, 1.0),
    shot_noise: Range = (1e-4, 0.012),
    tone: Range = (1.0, 1.0),
    lift: Range = (0.0, 0.0),
) -> Cameras:
    """Draw `count` cameras; every range is uniform unless said otherwise.

    Args:
        count: number of images, B.
        generator: on the CPU; the same state draws the same cameras.
        exposure: in EV. It takes the place of the paper's digital gain (mean 0.8, so -0.32 EV).
        balance_error: in mired; above 0 the recorded balance renders the scene too warm.
        saturation: chroma that is left, our addition.
        shot_noise: log-uniform (sec. 3.1); the paper's range spans ISO 100 to some 3200. The read noise
            follows it by the paper's log-linear law.
        tone: share of the paper's tone curve that is undone, our addition.
        lift: octaves of a power law that is undone too, our addition: cameras lift the middle of what
            they develop, so that a raw without its camera's curve is darker there than the photograph.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def curve(low: float, high: float) -> Tensor:  # a single value leaves the generator as it is
        return uniform(low, high) if low < high else torch.full((count,), float(low))

    weights = uniform(0.0, 1.0, len(_XYZ_TO_CAMERA))
    mixture = torch.einsum("bk,kij->bij", weights, torch.tensor(_XYZ_TO_CAMERA))
    rgb_to_camera = mixture @ rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY).float()
    rgb_to_camera = rgb_to_camera / rgb_to_camera.sum(dim=-1, keepdim=True)
    gains = torch.stack([uniform(*_RED_GAIN), torch.ones(count), uniform(*_BLUE_GAIN)], dim=-1)
    log_shot = uniform(math.log(shot_noise[0]), math.log(shot_noise[1]))
    log_read = 2.18 * log_shot + 1.20 + 0.26 * torch.randn(count, generator=generator)  # sec. 3.1
    return Cameras(
        rgb_to_camera=rgb_to_camera,
        gains=gains,
        as_shot=gains * balance_error_gains(uniform(*balance_error), rgb_to_camera),
        exposure=uniform(*exposure),
        saturation=uniform(*saturation),
        tone=curve(*tone),
        lift=curve(*lift),
        shot_noise=log_shot.exp(),
        read_noise=log_read.exp(),
    )


def balance_error_gains(mired: Tensor, rgb_to_camera: Tensor) -> Tensor:
    """Gains of a balance for the wrong black body, relative to the right one, green at 1.

    Args:
        mired: ``(B,)``; above 0 the camera took the light for bluer than it was, and renders too warm.
        rgb_to_camera: ``(B, 3, 3)``, linear sRGB to white-balanced camera linear.

    Returns:
        ``(B, 3)``, ones where `mired` is 0.
    """
    xyz_to_rgb = torch.linalg.inv(rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY)).to(mired)
    to_camera = rgb_to_camera @ xyz_to_rgb

    def white(shift: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", to_camera, xy_to_xyz(kelvin_to_xy(1e6 / (_D65_MIRED - shift))))

    gains = white(torch.zeros_like(mired)) / white(mired)
    return gains / gains[:, 1:2]


def to_camera_linear(images: Tensor, cameras: Cameras) -> Tensor:
    """Photographs to what the sensor saw of each pixel in all three colours, without noise.

    Args:
        images: ``(B, 3, H, W)``, display sRGB in [0, 1].
        cameras: B of them, on the same device.

    Returns:
        ``(B, 3, H, W)``, camera linear in [0, 1].
    """
    images = images.clamp(0.0, 1.0)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + _per_image(cameras.saturation) * (images - grey)
    images = images ** torch.exp2(_per_image(cameras.lift))
    # the tone curve that most cameras apply, taken for a smoothstep, sec. 3.5
    plain = 0.5 - torch.sin(torch.asin(1.0 - 2.0 * images) / 3.0)
    images = images.lerp(plain, _per_image(cameras.tone))
    # our choice: the sRGB curve instead of the paper's power of 2.2, because our render ends in it
    linear = apply_matrix(srgb_to_linear(images), cameras.rgb_to_camera)
    linear = linear * torch.exp2(_per_image(cameras.exposure))
    return _invert_gains(linear, cameras.gains).clamp(0.0, 1.0)


def mosaic_bayer(image: Tensor) -> Tensor:
    """Keep one colour a pixel, RGGB: ``(B, 3, H, W)`` with even sides to ``(B, H, W)``."""
    mosaic = image[:, 1].clone()
    mosaic[:, 0::2, 0::2] = image[:, 0, 0::2, 0::2]
    mosaic[:, 1::2, 1::2] = image[:, 2, 1::2, 1::2]
    return mosaic


def add_noise(mosaic: Tensor, cameras: Cameras, generator: torch.Generator) -> Tensor:
    """Shot and read noise (sec. 3.1): normal, of variance ``shot * signal + read``.

    Args:
        mosaic: ``(B, ...)``, camera linear.
        cameras: B of them.
        generator: on the mosaic's device.
    """
    shape = (-1, *(1,) * (mosaic.ndim - 1))
    variance = cameras.shot_noise.view(shape) * mosaic + cameras.read_noise.view(shape)
    noise = torch.randn(mosaic.shape, generator=generator, device=mosaic.device, dtype=mosaic.dtype)
    return mosaic + noise * variance.sqrt()


def unprocess(images: Tensor, cameras: Cameras, generator: torch.Generator, mosaic: bool = True) -> Tensor:
    """Photographs ``(B, 3, H, W)``, display sRGB, to noisy RGGB mosaics ``(B, H, W)``, camera linear.

    Black is 0, so noise reaches below it; saturation is 1, above which nothing is. With `mosaic` False all
    colours of each pixel stay, ``(B, 3, H, W)``: what a large mosaic is when it was averaged down.
    """
    linear = to_camera_linear(images, cameras)
    clean = mosaic_bayer(linear) if mosaic else linear
    return add_noise(clean, cameras, generator).clamp(max=1.0)


def xyz_to_camera(cameras: Cameras) -> Tensor:
    """The DNG's ColorMatrix1, XYZ (D65) to unbalanced camera linear: ``(B, 3, 3)``; knows the true gains."""
    xyz_to_rgb = torch.linalg.inv(rgb_to_xyz_matrix(SRGB_PRIMARIES, D65_XY)).to(cameras.gains)
    return (cameras.rgb_to_camera @ xyz_to_rgb) / cameras.gains[:, :, None]


def as_batch(image: Tensor, cameras: Cameras) -> RawBatch:
    """Camera-linear images ``(B, 3, H, W)`` with the balance and matrix that a file would carry for them."""
    gains = cameras.as_shot / cameras.as_shot.amin(dim=1, keepdim=True)
    return RawBatch(image, gains, torch.linalg.inv(cameras.rgb_to_camera))


def _invert_gains(linear: Tensor, gains: Tensor) -> Tensor:
    """Divide by the gains, but let what is nearly white saturate every channel (sec. 3.3)."""
    inverse = 1.0 / gains[:, :, None, None]
    # the mask rises from 0 at a grey of 0.9 to 1 at saturation
    mask = ((linear.mean(dim=1, keepdim=True) - 0.9) / 0.1).clamp(0.0, 1.0).square()
    return linear * torch.maximum(mask + (1.0 - mask) * inverse, inverse)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
