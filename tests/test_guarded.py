"""The guarded reward: its formula, its penalties, its memory of references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from kornia.color import linear_rgb_to_rgb, rgb_to_linear_rgb
from skimage import color

from agents import drawback
from attiqa.errors import InputError
from attiqa.rewards.differences import color_terms, is_clipped, newly_clipped
from attiqa.rewards.guarded import GuardedReward
from attiqa.rewards.registry import GUARD

# what a patch of a picture would pay for that is brightened alone
COLORS_ARE_FREE = {"chroma_weight": 0.0, "paling_weight": 0.0, "turning_weight": 0.0}


def photographs(count: int = 3, height: int = 96, width: int = 128) -> torch.Tensor:
    """Smooth random pictures in [0.2, 0.7]: nothing is clipped."""
    coarse = torch.rand(count, 3, 6, 8)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return 0.2 + 0.5 * smooth


def brightness(images: torch.Tensor) -> torch.Tensor:
    return images.mean(dim=(1, 2, 3))


def contrast(images: torch.Tensor) -> torch.Tensor:
    return images.std(dim=(1, 2, 3))


def charging(**options: float) -> GuardedReward:
    """A guard without scores that charges what `options` weigh, and nothing else."""
    free = dict.fromkeys((name for name in GUARD if name.endswith("_weight")), 0.0)
    return GuardedReward([lambda x: x.new_zeros(len(x))], **(free | options))


class Counting:
    """A scorer that counts the images that it was shown."""

    def __init__(self, scorer: Callable[[torch.Tensor], torch.Tensor] = brightness) -> None:
        self.scorer = scorer
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return self.scorer(images)


def test_the_reward_is_what_its_parts_are_together_less_its_charge() -> None:
    neutral = photographs()
    images = (neutral * 0.6 + 0.3).clamp(0, 1)
    images[..., :20] = 1.0
    reward = GuardedReward([brightness, contrast])
    charge, apart = reward.charge(images, neutral), reward.apart(images, neutral)
    assert (charge > 0.01).all()
    assert apart.shape == (len(images), reward.part_count)
    np.testing.assert_array_equal(charge, reward.parts(images, neutral)["penalty"])
    expected = apart.mean(dim=1) - apart.std(dim=1, correction=0) - charge
    np.testing.assert_allclose(reward(images, neutral), expected, atol=1e-6)
    # charging scores nothing
    counting = Counting()
    GuardedReward([counting]).charge(images, neutral)
    assert counting.seen == 0


def test_reward_is_zero_at_the_neutral_render() -> None:
    neutral = photographs()
    neutral[0, :, :40] = 1.0  # clipped already in the neutral render: not the policy's doing
    parts = GuardedReward([brightness, contrast], views=["whole", "mirrored", "cropped"]).parts(
        neutral, neutral
    )
    for name, value in parts.items():
        torch.testing.assert_close(value, torch.zeros(3), atol=1e-6, rtol=0, msg=name)


def test_reward_is_the_mean_minus_k_deviations_of_the_gains() -> None:
    neutral = photographs()
    images = neutral * 1.1
    gains = torch.stack([scorer(images) - scorer(neutral) for scorer in (brightness, contrast)]).numpy()
    reward = GuardedReward([brightness, contrast], views=["whole"], deviations=0.5, turning_weight=0)
    expected = gains.mean(axis=0) - 0.5 * np.std(gains, axis=0)
    np.testing.assert_allclose(reward(images, neutral), expected, atol=1e-6)


def test_two_views_and_one_deviation_give_the_smaller_gain() -> None:
    neutral = photographs()
    images = neutral.clone()
    images[:, :, :8, :8] += 0.2  # outside the central crop: only one view sees a gain
    reward = GuardedReward([brightness], views=["whole", "cropped"], **COLORS_ARE_FREE)
    torch.testing.assert_close(reward(images, neutral), torch.zeros(3), atol=1e-6, rtol=0)
    assert (reward.parts(images, neutral)["gain"] > 1e-4).all()


def test_by_default_a_gain_that_only_one_way_round_shows_counts_for_nothing() -> None:
    neutral = photographs()
    images = neutral.clone()
    images[..., 40:56, 72:88] += 0.1  # on the right, inside the central crop

    def right(x: torch.Tensor) -> torch.Tensor:
        return x[..., x.shape[-1] // 2 :].mean(dim=(1, 2, 3))

    one_way = GuardedReward([right], views=["whole", "cropped"], **COLORS_ARE_FREE)
    assert (one_way(images, neutral) > 1e-3).all()
    by_default = GuardedReward([right], **COLORS_ARE_FREE)
    torch.testing.assert_close(by_default(images, neutral), torch.zeros(3), atol=1e-6, rtol=0)


def test_newly_clipped_pixels_cost_beyond_the_tolerance_and_old_ones_nothing() -> None:
    neutral = photographs(1)
    neutral[..., :32, :] = 1.0
    images = neutral.clone()
    images[..., :48, :] = 1.0  # a third was clipped, now a half is
    assert newly_clipped(images, neutral).item() == pytest.approx(16 / 96)
    flat = charging(clip_weight=3, clip_tolerance=0.05)
    assert flat(images, neutral).item() == pytest.approx(-3 * (16 / 96 - 0.05), abs=1e-6)
    assert flat.parts(neutral, images)["newly_clipped"].item() == 0  # rescuing highlights is free


def test_a_sky_that_has_lost_its_blue_may_still_lose_its_colour() -> None:
    sky = torch.tensor([0.6, 0.8, 1.0])[None, :, None, None].expand(1, 3, 96, 96)
    assert newly_clipped(sky, sky).item() == 0
    assert newly_clipped((sky * 1.2).clamp(max=1.0), sky).item() == 0  # red and green are left
    assert newly_clipped(torch.ones_like(sky), sky).item() == 1
    picture, before = torch.ones(3, 4, 4).numpy(), sky[0, :, :4, :4].numpy()
    assert drawback.newly_clipped(picture, before) == 1
    assert drawback.newly_clipped(before, before) == 0


def test_clipping_means_one_full_channel_or_all_empty_ones() -> None:
    pixels = torch.tensor([[254, 9, 9], [253, 253, 253], [1, 1, 0], [0, 0, 2], [0, 0, 128]]) / 255.0
    assert is_clipped(pixels.T[None, :, None]).flatten().tolist() == [True, False, True, False, False]


def test_the_penalties_do_not_depend_on_the_size() -> None:
    distances = []
    for scale in (1, 3, 8):
        torch.manual_seed(0)
        neutral = photographs(1, 128 * scale, 192 * scale)
        images = neutral * torch.tensor([1.2, 1.0, 0.8])[:, None, None]
        images[..., 64 * scale :, : 48 * scale] = 0.0
        parts = GuardedReward([brightness]).parts(images, neutral)
        assert parts["newly_clipped"].item() == pytest.approx(1 / 8, abs=0.01)
        distances.append(parts["color_distance"].item())
    assert distances == pytest.approx([distances[0]] * 3, rel=0.05)


def test_color_distance_matches_scikit_image_and_ignores_lightness() -> None:
    neutral, images = photographs(2, 60, 60), photographs(2, 60, 60)
    for distance, one, other in zip(
        color_terms(images, neutral)["color_distance"], images, neutral, strict=True
    ):
        a, b = (color.rgb2lab(x.permute(1, 2, 0).numpy())[..., 1:] for x in (one, other))
        assert distance.item() == pytest.approx(np.linalg.norm(a - b, axis=-1).mean(), abs=0.01)
    grey = torch.full((1, 3, 60, 60), 0.3)
    assert color_terms(grey * 2, grey)["color_distance"].item() < 0.01


def test_colour_costs_beyond_the_free_radius_only() -> None:
    neutral = photographs(1, 32, 32)
    cast = neutral * torch.tensor([1.4, 1.0, 0.5])[:, None, None]
    distance = color_terms(cast, neutral)["color_distance"].item()
    near, wide = (charging(color_weight=0.1, color_radius=distance + reach) for reach in (-2, 1))
    assert near(cast, neutral).item() == pytest.approx(-0.2, abs=1e-4)
    assert wide(cast, neutral).item() == 0


def test_lost_chroma_matches_scikit_image_and_counts_losses_alone() -> None:
    neutral, images = photographs(2, 60, 60), photographs(2, 60, 60)
    for lost, one, other in zip(color_terms(images, neutral)["lost_chroma"], images, neutral, strict=True):
        kept, had = (
            np.linalg.norm(color.rgb2lab(x.permute(1, 2, 0).numpy())[..., 1:], axis=-1) for x in (one, other)
        )
        assert lost.item() == pytest.approx((had - kept).clip(min=0).mean(), abs=0.01)
    grey = neutral.mean(dim=1, keepdim=True).expand_as(neutral)
    assert (color_terms(neutral, grey)["lost_chroma"] < 1e-3).all()
    assert (color_terms(grey, neutral)["lost_chroma"] > 1).all()


def test_what_pales_is_charged_from_the_first_unit_and_what_gains_colour_is_free() -> None:
    neutral = photographs(1, 32, 32)
    grey = neutral.mean(dim=1, keepdim=True)
    pale, vivid = grey + 0.5 * (neutral - grey), grey + 1.2 * (neutral - grey)
    flat = charging(chroma_weight=0.5)
    parts = flat.parts(pale, neutral)
    assert parts["lost_chroma"].item() > 1
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["lost_chroma"].item(), rel=1e-5)
    assert flat(vivid, neutral).item() == pytest.approx(0, abs=1e-4)


def grey_of_lightness(lightness: float) -> torch.Tensor:
    """``(1, 3, 32, 32)`` display sRGB of a CIELAB lightness."""
    rgb = color.lab2rgb(np.array([[[lightness, 0.0, 0.0]]]))
    return torch.from_numpy(rgb).float().permute(2, 0, 1)[None].expand(1, 3, 32, 32).contiguous()


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(40, 33, 7), (40, 47, 0), (70, 50, 0), (70, 45, 5), (50, 49, 1)],
    ids=["darker", "brighter", "down to the middle", "beyond the middle", "from the middle"],
)
def test_darkening_is_what_the_mean_lightness_falls_below_the_middle_or_the_reference(
    before: float, now: float, expected: float
) -> None:
    fallen = color_terms(grey_of_lightness(now), grey_of_lightness(before))["darkening"]
    assert fallen.item() == pytest.approx(expected, abs=0.05)


def test_contrast_is_no_darkening_and_what_darkens_is_charged_by_its_weight() -> None:
    neutral = grey_of_lightness(40)
    contrast = neutral.clone()
    contrast[..., :16], contrast[..., 16:] = grey_of_lightness(20)[..., :16], grey_of_lightness(60)[..., :16]
    flat = charging(darkening_weight=0.5)
    assert flat(contrast, neutral).item() == pytest.approx(0, abs=1e-3)
    dark = grey_of_lightness(30).requires_grad_()
    parts = flat.parts(dark, neutral)
    assert parts["darkening"].item() == pytest.approx(10, abs=0.05)
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["darkening"].item(), rel=1e-5)
    parts["reward"].backward()
    assert dark.grad is not None
    assert (dark.grad > 0).all()  # uphill is brighter


def exposed(images: torch.Tensor, stops: float) -> torch.Tensor:
    """Display sRGB with its linear light times two to the `stops`."""
    return linear_rgb_to_rgb(rgb_to_linear_rgb(images) * 2**stops)


def test_what_is_only_exposed_does_not_pale_and_what_is_brightened_without_its_colours_does() -> None:
    neutral = 0.6 * photographs(2, 32, 32)
    assert color_terms(exposed(neutral, 0.8), neutral)["paling"].max().item() < 0.3
    assert color_terms(exposed(neutral, -0.5), neutral)["paling"].max().item() < 0.3
    grey = neutral.mean(dim=1, keepdim=True)
    lifted = neutral + grey * 0.5  # each pixel's colour as far from grey as it was
    brightened = exposed(neutral, 0.8)
    faded = brightened.mean(dim=1, keepdim=True) + 0.7 * (brightened - brightened.mean(dim=1, keepdim=True))
    for pale in (lifted, faded):
        lab, had = (color.rgb2lab(x.permute(0, 2, 3, 1).numpy()) for x in (pale, neutral))
        chroma, before = (np.hypot(x[..., 1], x[..., 2]).mean(axis=(1, 2)) for x in (lab, had))
        carried = before * (lab[..., 0].mean(axis=(1, 2)) + 16) / (had[..., 0].mean(axis=(1, 2)) + 16)
        np.testing.assert_allclose(color_terms(pale, neutral)["paling"], carried - chroma, atol=0.02)
        assert (color_terms(pale, neutral)["paling"] > 1).all()


def test_paling_is_of_the_picture_and_charged_by_its_weight() -> None:
    neutral = 0.6 * photographs(1, 32, 32)
    grey = neutral.mean(dim=1, keepdim=True)
    other = neutral + 0.5 * (neutral - grey)
    other[..., :12] = (neutral - 0.5 * (neutral - grey))[..., :12]  # a part fades where the rest gains
    flat = charging(paling_weight=0.5)
    assert flat(other, neutral).item() == pytest.approx(0, abs=1e-3)
    pale = (grey + 0.5 * (neutral - grey)).requires_grad_()
    parts = flat.parts(pale, neutral)
    assert parts["paling"].item() > 1
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["paling"].item(), rel=1e-4)


def test_what_is_white_may_not_turn_grey_and_is_charged_by_its_weight() -> None:
    neutral = 0.8 * photographs(1, 32, 32)  # nowhere white
    dark = 0.7 * neutral
    assert color_terms(dark, neutral)["greying"].item() == 0
    neutral[..., :8] = 1.0  # a quarter is a sky that is burnt out
    dark = 0.7 * neutral
    lost = 100 - color.rgb2lab(np.full((1, 1, 3), 0.7, np.float32))[0, 0, 0]
    assert color_terms(dark, neutral)["greying"].item() == pytest.approx(lost / 4, abs=0.02)
    lit = dark.clone()
    lit[..., :8] = 1.0
    assert color_terms(lit, neutral)["greying"].item() == pytest.approx(0, abs=1e-3)
    dark.requires_grad_()
    parts = charging(greying_weight=0.5).parts(dark, neutral)
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["greying"].item(), rel=1e-4)
    parts["reward"].backward()
    assert dark.grad is not None
    assert (dark.grad[..., :8] > 0).all()  # uphill is white
    assert (dark.grad[..., 8:] == 0).all()


def test_light_greys_may_not_be_tinted_and_are_charged_by_its_weight() -> None:
    neutral = 0.5 * photographs(1, 32, 32)  # nowhere light
    warm = neutral * torch.tensor([1.1, 1.0, 0.9]).view(3, 1, 1)
    assert color_terms(warm, neutral)["tinting"].item() == 0
    neutral[..., :8] = 0.8  # a quarter is a wall
    warm = neutral * torch.tensor([1.1, 1.0, 0.9]).view(3, 1, 1)
    gained = np.hypot(*color.rgb2lab(warm[0, :, 0, 0].view(1, 1, 3).numpy())[0, 0, 1:])
    assert color_terms(warm, neutral)["tinting"].item() == pytest.approx(gained / 4, abs=0.02)
    assert color_terms(0.7 * neutral, neutral)["tinting"].item() == pytest.approx(0, abs=1e-2)
    warm.requires_grad_()
    parts = charging(tinting_weight=0.5).parts(warm, neutral)
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["tinting"].item(), rel=1e-4)
    parts["reward"].backward()
    assert warm.grad is not None
    assert (warm.grad[:, 2, :, :8] > 0).all()  # uphill is bluer
    assert (warm.grad[..., 8:] == 0).all()


def test_hues_may_not_turn_and_are_charged_by_its_weight() -> None:
    neutral = torch.tensor([0.8, 0.4, 0.1]).view(1, 3, 1, 1).repeat(1, 1, 32, 32)  # an orange
    redder = neutral.clone()
    redder[:, 1, :, :16] = 0.25
    after, before = (
        color.rgb2lab(image[0, :, 0, 0].view(1, 1, 3).numpy())[0, 0] for image in (redder, neutral)
    )
    moved = np.square(after[1:] - before[1:]).sum() - (np.hypot(*after[1:]) - np.hypot(*before[1:])) ** 2
    assert color_terms(redder, neutral)["turning"].item() == pytest.approx(np.sqrt(moved) / 2, rel=5e-3)
    # neither light nor more of the same colour turns a hue
    assert (
        color_terms(0.7 * neutral, neutral)["turning"].item() < 0.1 * color_terms(redder, neutral)["turning"]
    )
    grey = torch.full_like(neutral, 0.5)
    assert color_terms(neutral, grey)["turning"].item() == pytest.approx(0, abs=1)  # which has none
    redder.requires_grad_()
    parts = charging(turning_weight=0.5).parts(redder, neutral)
    assert parts["reward"].item() == pytest.approx(-0.5 * parts["turning"].item(), rel=1e-4)
    parts["reward"].backward()
    assert redder.grad is not None
    assert (redder.grad[:, 1, :, :16] > 0).all()  # uphill is more orange
    assert torch.isfinite(redder.grad).all()


def test_references_are_scored_once_however_they_are_batched() -> None:
    scorer = Counting()
    reward = GuardedReward([scorer], views=["whole"])
    neutral = photographs(4)
    first = reward(neutral * 1.1, neutral)
    assert scorer.seen == 8
    order = torch.tensor([2, 0, 3, 1, 2])
    again = reward(neutral[order] * 1.1, neutral[order])
    assert scorer.seen == 13  # five renders, no reference
    torch.testing.assert_close(again, first[order])
    reward(neutral, neutral + 1e-6)  # another content, however near, is another reference
    assert scorer.seen == 21


def test_memory_of_references_is_bounded() -> None:
    scorer = Counting()
    reward = GuardedReward([scorer], views=["whole"], remembered=2)
    for image in photographs(4).split(1):
        reward(image, image)
    seen = scorer.seen
    torch.manual_seed(0)
    oldest = photographs(4)[:1]
    reward(oldest, oldest)
    assert scorer.seen == seen + 1  # forgotten, so scored again; once, for it is its own reference
    assert float(reward(oldest, oldest)) == 0
    assert scorer.seen == seen + 1


def test_an_image_is_rewarded_alike_alone_and_in_a_batch() -> None:
    neutral = photographs(3)
    images = neutral * 1.3
    batched = GuardedReward([brightness, contrast])(images, neutral)
    alone = torch.cat(
        [GuardedReward([brightness, contrast])(images[i : i + 1], neutral[i : i + 1]) for i in range(3)]
    )
    torch.testing.assert_close(batched, alone)


def test_gradients_flow_to_images_that_ask_for_them_and_nowhere_else() -> None:
    weight = torch.ones((), requires_grad=True)
    reward = GuardedReward([lambda images: weight * brightness(images), contrast])
    neutral = photographs(3)
    images = neutral * 1.3
    assert not reward(images, neutral).requires_grad  # a scorer that still learns is not taught by the way
    asked = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(reward(asked, neutral).sum(), asked)
    assert bool(torch.isfinite(slope).all())
    above, below = (reward(images + sign * 0.01 * slope / slope.norm(), neutral).sum() for sign in (1, -1))
    assert float(above) > float(below)
    # at the neutral render itself no root and no deviation has a slope, and nothing turns NaN
    (slope,) = torch.autograd.grad(reward(same := neutral.clone().requires_grad_(), neutral).sum(), same)
    assert bool(torch.isfinite(slope).all())


def test_bad_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="at least one scorer"):
        GuardedReward([])
    with pytest.raises(InputError, match="some of whole, mirrored, cropped"):
        GuardedReward([brightness], views=["upside-down"])
    with pytest.raises(InputError, match="must not be negative"):
        GuardedReward([brightness], clip_weight=-1)
    with pytest.raises(InputError, match=r"one shape \(B, 3, H, W\)"):
        GuardedReward([brightness])(photographs(2), photographs(1))
