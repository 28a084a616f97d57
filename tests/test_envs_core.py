"""The batched core: frames by shape, neutral table, potentials, looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attiqa.errors import InputError
from attiqa.rewards.guarded import GuardedReward
from isp_env.envs import build_core, looking
from isp_env.envs.drawing import FrameDraw, uniform
from tests.fakes import MIXED, DistanceFromNeutral, MeanGrey, small_core


def values_of(*exposures: float) -> torch.Tensor:
    return torch.tensor([[exposure, 0.0] for exposure in exposures])


def test_mixed_shapes_run_once_a_shape_and_come_back_in_order() -> None:
    core = small_core()
    core.pipeline.calls.clear()  # type: ignore[attr-defined]
    frames, values = np.array([4, 1, 0, 3, 1, 2]), values_of(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    together = core.look_at(frames, values)
    assert len(core.pipeline.calls) == 3  # type: ignore[attr-defined]
    for slot in range(6):
        alone = core.look_at(frames[slot : slot + 1], values[slot : slot + 1])
        for name, rows in together.items():
            torch.testing.assert_close(rows[slot], alone[name][0], rtol=0, atol=1e-6)


def test_renders_have_the_size_of_their_frame() -> None:
    core = small_core()
    images = core.render_of(np.array([1, 0, 3]), values_of(0.0, 1.0, -1.0))
    assert [tuple(image.shape[1:]) for image in images] == [MIXED[1], MIXED[0], MIXED[3]]
    torch.testing.assert_close(images[1], (core.table.buckets[0].image[0] * 2).clamp(max=1).sqrt())


def test_neutral_potential_is_the_potential_of_the_neutral_values() -> None:
    core = small_core()
    frames = np.arange(len(core))
    again = core.potential_of(frames, core.space.neutral_values(len(core)))
    torch.testing.assert_close(core.neutral["potential"], again)


def test_a_large_batch_is_cut_to_max_batch_without_changing_the_result() -> None:
    frames = np.tile(np.arange(5), 8)
    values = values_of(*np.linspace(-2, 2, 40))
    small, large = small_core(max_batch=3), small_core(max_batch=64)
    torch.testing.assert_close(small.potential_of(frames, values), large.potential_of(frames, values))
    assert max(shape[0] for shape in small.pipeline.calls) == 3  # type: ignore[attr-defined]


def test_a_referenced_reward_sees_the_neutral_render_of_its_own_frame() -> None:
    core = small_core(DistanceFromNeutral())
    frames = np.array([3, 0, 1, 4])
    assert core.potential_of(frames, values_of(0, 0, 0, 0)).abs().max() == 0
    assert (core.potential_of(frames, values_of(1, 1, 1, 1)) < -0.05).all()


def test_neutral_images_are_rendered_again_only_where_they_are_not_kept() -> None:
    frames = np.array([3, 0, 1, 4])
    plain, comparing = small_core(), small_core(DistanceFromNeutral())
    rendered, kept = (core.images_of(frames, core.neutral_images) for core in (plain, comparing))
    for one, other in zip(rendered, kept, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    comparing.pipeline.neutral = None  # type: ignore[method-assign, assignment]
    comparing.images_of(frames, comparing.neutral_images)


def test_features_may_come_from_the_first_scorer_of_a_guarded_reward() -> None:
    core = small_core(GuardedReward([MeanGrey()]))
    assert core.neutral["features"].shape == (5, 3)
    assert core.neutral["potential"].abs().max() == 0


def test_what_a_model_computes_in_inference_mode_can_enter_a_graph() -> None:
    class Model:
        @torch.inference_mode()
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(1, 2, 3))

        @torch.inference_mode()
        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    seen = small_core(Model()).look_at(np.array([0, 1]), values_of(0, 1))
    weight = torch.ones((), requires_grad=True)
    (weight * seen["features"].sum() * seen["potential"].sum()).backward()
    assert weight.grad is not None


def test_frames_that_cannot_be_decoded_are_left_out_and_named() -> None:
    core = small_core(broken=[1, 3])
    assert core.names == ["frame0", "frame2", "frame4"]
    assert core.table.source_indices.tolist() == [0, 2, 4]
    assert core.table.failures == [("frame1", "frame1 is broken."), ("frame3", "frame3 is broken.")]


def test_features_are_observed_where_the_reward_or_an_encoder_offers_them() -> None:
    assert small_core().neutral["features"].shape == (5, 3)
    assert "features" not in small_core(encoder=False).neutral
    assert "features" not in small_core(DistanceFromNeutral()).neutral
    encoded = small_core(encoder=lambda images: images.amax(dim=(2, 3))[:, :2])
    assert encoded.neutral["features"].shape == (5, 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: small_core(sizes=[]), "needs at least one frame"),
        (lambda: small_core(broken=range(5)), "the first: frame0 is broken"),
        (lambda: small_core(lambda images: images.mean()), "one number an image"),
        (lambda: small_core(lambda images: images.mean(dim=(1, 2, 3)) * float("nan")), "not finite"),
        (lambda: small_core(max_batch=0), "max_batch"),
        (lambda: small_core().potential_of(np.array([5]), values_of(0)), "from 0 to 4"),
        (lambda: small_core().potential_of(np.array([0.5]), values_of(0)), "list of integers"),
        (lambda: small_core().potential_of(np.array([0, 1]), values_of(0)), "one row a frame"),
        (lambda: build_core(core=small_core(), reward=MeanGrey()), "not both"),
        (lambda: FrameDraw(np.zeros(3), 2, "sorted"), "independent"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_refused_in_a_sentence(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_histogram_and_clipping_match_numpy() -> None:
    images = torch.rand(2, 3, 64, 88)
    images[0, 1, :16] = 0.0
    images[1, :, :, :22] = 1.0
    seen = looking.histogram(images).numpy().reshape(2, 4, 16)
    for index in range(2):
        pixels = images[index, :, ::4, ::4].numpy()
        luma = np.tensordot([0.2126, 0.7152, 0.0722], pixels, axes=1)
        for plane, row in zip([luma, *pixels], seen[index], strict=True):
            counts, _ = np.histogram(plane, bins=16, range=(0, 1))
            np.testing.assert_allclose(row, counts / plane.size, atol=2 / plane.size)
    shares = looking.clipping(images)
    eight_bit = np.rint(images[:, :, ::4, ::4].numpy() * 255)
    np.testing.assert_allclose(shares[:, :3], (eight_bit == 0).mean(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(shares[:, 3:], (eight_bit == 255).mean(axis=(2, 3)), atol=1e-6)


def test_a_thumbnail_keeps_the_aspect_and_the_mean() -> None:
    images = torch.rand(1, 3, 128, 256)
    small = looking.thumbnail(images)
    assert small.shape == (1, 3, 64, 64)
    assert small.dtype == torch.uint8
    assert (small[:, :, :16] == 128).all()
    assert (small[:, :, 48:] == 128).all()
    blocks = images.view(1, 3, 32, 4, 64, 4).mean(dim=(3, 5)) * 255
    torch.testing.assert_close(small[:, :, 16:48].float(), blocks, atol=0.501, rtol=0)


def test_draws_are_even_and_repeat_by_seed() -> None:
    numbers = uniform(np.repeat(np.arange(100), 1000), np.tile(np.arange(1000), 100))
    counts, _ = np.histogram(numbers, bins=50, range=(0, 1))
    # 49 degrees of freedom: chi-square stays under 85.4 with probability 0.999
    assert ((counts - 2000) ** 2 / 2000).sum() < 85.4
    np.testing.assert_array_equal(
        uniform(np.array([7]), np.array([3])), uniform(np.array([7]), np.array([3]))
    )


@pytest.mark.parametrize("draw", ["independent", "bucketed", "paired"])
def test_every_frame_is_drawn_equally_often(draw: str) -> None:
    buckets = np.array([0, 0, 0, 1, 2, 2])
    draws = FrameDraw(buckets, 4, draw)  # type: ignore[arg-type]
    draws.restart(5)
    seen = np.concatenate([draws.next(np.arange(4)) for _ in range(6000)])
    shares = np.bincount(seen, minlength=6) / len(seen)
    np.testing.assert_allclose(shares, 1 / 6, atol=0.012)


def test_paired_draws_show_frames_by_twos_and_continue_after_restore() -> None:
    draws = FrameDraw(np.zeros(50, dtype=np.int64), 7, "paired")
    draws.restart(3)
    rows = np.stack([draws.next(np.arange(7)) for _ in range(40)])
    np.testing.assert_array_equal(rows[:, 0:6:2], rows[:, 1:6:2])
    for one, other in ((0, 2), (2, 4), (4, 6)):
        assert (rows[:, one] == rows[:, other]).mean() < 0.2
    late = FrameDraw(np.zeros(50, dtype=np.int64), 7, "paired")
    late.restore(draws.state())
    np.testing.assert_array_equal(draws.next(np.arange(7)), late.next(np.arange(7)))


def test_bucketed_draws_share_a_shape_and_continue_after_restore() -> None:
    buckets = np.array([0, 1, 0, 1, 2, 2, 2])
    draws = FrameDraw(buckets, 8, "bucketed")
    draws.restart(1)
    for _ in range(20):
        assert len(np.unique(buckets[draws.next(np.arange(8))])) == 1
    other = FrameDraw(buckets, 8, "bucketed")
    other.restore(draws.state())
    np.testing.assert_array_equal(draws.next(np.arange(8)), other.next(np.arange(8)))
    with pytest.raises(InputError, match="num_envs=8"):
        FrameDraw(buckets, 4, "bucketed").restore(draws.state())
