"""The reward in other people's loops: diffusion trainers, Gymnasium environments, loops of one's own.

A loop of one's own needs no adapter: a reward is a callable from images to one number each, without a
gradient. REINFORCE in plain torch, learning an exposure gain:

>>> reward = attiqa.load()
>>> photographs = torch.rand(8, 3, 64, 64) * 0.5
>>> mean = torch.zeros((), requires_grad=True)  # of the logarithm of the gain
>>> optimizer = torch.optim.Adam([mean], lr=0.05)
>>> for step in range(150):
...     policy = torch.distributions.Normal(mean, 0.2)
...     action = policy.sample((8,))
...     rewards = reward((photographs * action.exp().view(8, 1, 1, 1)).clamp(0, 1))
...     advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
...     loss = -(policy.log_prob(action) * advantage).mean()
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()
>>> gain = mean.exp().item()
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import torch

from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.model import QualityModel
from attiqa.rewards.protocol import ReferencedReward, Reward


class DiffusionReward:
    """``reward_fn(images, prompts, metadata) -> (rewards, info)``, as diffusion RL trainers call it.

    >>> reward_fn = DiffusionReward(attiqa.load())
    >>> images = torch.rand(4, 3, 64, 64)  # what the sampler decoded, display sRGB in [0, 1]
    >>> rewards, info = reward_fn(images, ["a cat"] * 4, [{}] * 4)
    >>> sorted(info)
    ['brightness', 'colorfulness', 'contrast', 'noisiness', 'seconds', 'sharpness']

    Args:
        reward: a plain reward; a `QualityModel` also fills the attributes into ``info``.
    """

    def __init__(self, reward: Reward) -> None:
        if getattr(reward, "uses_reference", False):
            raise InputError(
                "a diffusion trainer has no neutral render to compare with; "
                "use a plain reward such as attiqa.load()."
            )
        self.reward = reward

    def __call__(
        self, images: Any, prompts: Sequence[str], metadata: Sequence[Any] | None = None
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Score a batch.

        Args:
            images: ``(B, 3, H, W)`` tensor, floating point in [0, 1] or uint8; ``(B, H, W, 3)`` uint8
                array; or a sequence of PIL images of one size. Display sRGB.
            prompts: one an image; quality does not depend on them.
            metadata: accepted and ignored.

        Returns:
            rewards float32 ``(B,)``, and a dict with ``seconds`` and the attributes ``(B,)`` where known.
        """
        batch = as_batch(images)
        if len(prompts) != len(batch):
            raise InputError(
                f"expected one prompt an image; there are {len(prompts)} for {len(batch)} images."
            )
        start = time.perf_counter()
        info: dict[str, Any] = {}
        if isinstance(self.reward, QualityModel):
            rewards, attributes = self.reward.assess(batch)
            info = dict(zip(self.reward.attribute_names, attributes.unbind(dim=1), strict=True))
        else:
            rewards = self.reward(batch)
        return rewards, {**info, "seconds": time.perf_counter() - start}


def as_batch(images: Any) -> torch.Tensor:
    """Images in the forms that trainers use to float32 ``(B, 3, H, W)``; the dtype says the range."""
    if not isinstance(images, torch.Tensor | np.ndarray):
        images = np.stack([np.asarray(image.convert("RGB")) for image in images])
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise InputError(
                "expected images as a uint8 array (B, H, W, 3) or a tensor (B, 3, H, W); "
                f"got {images.dtype} {images.shape}."
            )
        images = torch.from_numpy(images).permute(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"expected images (B, 3, H, W), display sRGB; got {tuple(images.shape)}.")
    return to_float(images) if images.dtype == torch.uint8 else images.to(torch.float32)


class QualityRewardWrapper(gymnasium.Wrapper):
    """Rewards any Gymnasium environment that renders RGB by the quality of what it renders.

    >>> env = gymnasium.make(env_id, render_mode="rgb_array")
    >>> env = QualityRewardWrapper(env, attiqa.load(), weight=0.1)
    >>> observation, info = env.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> sorted(info)[:2]
    ['quality', 'task_reward']

    ``reward = task_weight * task reward + weight * quality``. With `difference`, quality is the change since
    the frame before, which sums up over an episode to last minus first. A `ReferencedReward` compares each
    frame with the first of its episode.

    Args:
        env: made with ``render_mode="rgb_array"``.
        reward: any reward of this package, or one's own.
        weight: of the quality.
        task_weight: of the environment's own reward; 0 replaces it.
        difference: reward changes instead of levels.
        device: where the frames are scored.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        reward: Reward | ReferencedReward,
        *,
        weight: float = 1.0,
        task_weight: float = 1.0,
        difference: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise InputError(
                f"the environment renders as {env.render_mode!r}; make it with render_mode='rgb_array'."
            )
        self.reward: Any = reward
        self.weight, self.task_weight, self.difference = weight, task_weight, difference
        self.device = torch.device(device)
        self._first: torch.Tensor | None = None
        self._quality = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; ``info["quality"]`` is that of its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._first = None
        self._quality = self._score()
        return observation, {**info, "quality": self._quality}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step; ``info`` has ``quality`` of the new frame and the environment's own ``task_reward``."""
        observation, task_reward, terminated, truncated, info = self.env.step(action)
        before, self._quality = self._quality, self._score()
        gained = self._quality - before if self.difference else self._quality
        reward = self.task_weight * float(task_reward) + self.weight * gained
        info = {**info, "quality": self._quality, "task_reward": float(task_reward)}
        return observation, reward, terminated, truncated, info

    def _score(self) -> float:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray):
            raise InputError(
                f"the environment rendered {type(frame).__name__}; expected a uint8 array (H, W, 3)."
            )
        image = as_batch(np.array(frame)[None]).to(self.device)
        if not getattr(self.reward, "uses_reference", False):
            return float(self.reward(image))
        self._first = image if self._first is None else self._first
        return float(self.reward(image, reference=self._first))


def seconds_per_call(reward: Reward, images: torch.Tensor, repeats: int = 5) -> float:
    """The least of `repeats` timings of one call after a warm-up; waits for the GPU where there is one."""
    if repeats < 1:
        raise InputError(f"a timing needs at least one repeat; there are {repeats}.")
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        reward(images).cpu()  # brings the numbers back, and so waits for them
        times.append(time.perf_counter() - start)
    return min(times[1:])
