"""Answers as they are delivered: drawn back as far as they would clip what the neutral render keeps, without
a tint where that is in black and white, and not worse than that render.

The reward charges for clipped pixels on average; of a single picture nothing should be lost that the neutral
render has. It knows nothing of photographs in black and white, which a balance would make sepia. What clips,
and what has no colour, is seen in a render alone: nothing is scored for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from agents.answers import Answer, Settings, images_of, measured, potential_of
from agents.drawback import draw_back, is_colorless, newly_clipped
from agents.playing import Look
from agents.search import Floats, Indices
from attiqa.rewards import differences
from isp_env.envs.core import Core
from isp_env.envs.frames import Group
from isp_env.parameters import PARAMETERS

# of `agents.drawback`: what brightens, the shares of it that are tried in turn, and the fraction of a
# picture's pixels that may be clipped where the neutral render is not; what gives grey a colour, and how far
# apart the channels of a picture without any may be, which is what a JPEG makes of equal ones
_TONES = ("highlights", "whites", "tone_midtones", "tone_highlights", "contrast", "clarity", "dehaze")
DRAW_BACK: dict[str, Any] = {
    "brightening": ["exposure", "gamma", *_TONES],
    "shares": [tenths / 10 for tenths in range(10, -1, -1)],
    "most_newly_clipped": 0.01,
    "tinting": [row.name for row in PARAMETERS if row.operator in ("white_balance", "channel_curves")],
    "colorless": 0.01,
}


def deliveries(core: Core, frames: Indices, looks: Iterable[Look]) -> Iterator[Look]:
    """Looks as they would be delivered, so that the best of them is the best that can be.

    A look that is delivered otherwise is another render, and is scored again.

    Args:
        core: frames, renderer and reward.
        frames: ``(F,)``, the frame that each row of a look is for.
        looks: see `agents.playing.looks_of`.
    """
    for look in looks:
        answer, share = delivered(core, frames, look.answer)
        potential = look.potential.copy()
        again = np.flatnonzero(answer.differs(look.answer) & np.isfinite(potential))
        if len(again):
            potential[again] = potential_of(core, frames[again], answer.rows(again)).cpu().numpy()
        yield Look(answer, potential, share)


def delivered(core: Core, frames: Indices, answer: Answer) -> tuple[Answer, Floats]:
    """Answers near those of a policy which hardly clip anew, and tint no picture in black and white.

    Of settings less is taken of what brightens, of tools less of all: of most it is not known which way they
    move a picture. Our choice.

    Args:
        core: frames and renderer.
        frames: ``(F,)``, the frame that each row of `answer` is for.
        answer: F rows.

    Returns:
        The answer, and the share of each row's brightening, or strengths, that was taken: ``(F,)``, 1 for
        all of it.
    """
    shares = np.ones(len(answer))
    answer = answer.without(DRAW_BACK["tinting"], _are_colorless(core, frames))
    clipped = measured(core, frames, answer, partial(_newly_clipped, core)).cpu().numpy()
    clipping = np.flatnonzero(clipped > DRAW_BACK["most_newly_clipped"]).tolist()
    if isinstance(answer, Settings):
        actions = np.array(answer.actions)
        for row in clipping:
            actions[row], shares[row] = _setting(core, frames[row], answer.rows([row]))
        return Settings(actions, answer.space, answer.pipeline), shares
    for row in clipping:
        shares[row] = _strength(core, frames[row], answer.rows([row]))
    return answer.scaled(shares), shares


def no_worse_than_neutral(core: Core, frames: Indices, look: Look) -> tuple[Answer, np.ndarray]:
    """What a look answers, and the neutral render where the reward likes that better: searches end no lower
    either.

    Returns:
        The answer, and for which rows it was kept: bool ``(F,)``.
    """
    neutral = core.neutral_of(frames, ("potential",))["potential"].cpu().numpy()
    kept = look.potential >= neutral
    return look.answer.where(kept, look.answer.scaled(0.0)), kept


def _are_colorless(core: Core, frames: Indices) -> np.ndarray:
    """Of which frames the neutral render is in black and white: bool ``(F,)``."""
    neutral = core.images_of(frames, core.neutral_images)
    return np.array([is_colorless(image.cpu().numpy(), DRAW_BACK["colorless"]) for image in neutral])


def _newly_clipped(core: Core, images: torch.Tensor, group: Group) -> torch.Tensor:
    return differences.newly_clipped(images, core.neutral_images(group))


def _setting(core: Core, frame: int, chosen: Settings) -> tuple[Floats, float]:
    """One setting's actions ``(P,)``, drawn back, and the share of its brightening that is left."""
    space, pipeline = chosen.space, chosen.pipeline

    def actions(values: np.ndarray) -> Floats:
        found: Floats = space.to_action(torch.as_tensor(values, dtype=torch.float32)[None]).double().numpy()
        return found

    rule = {"draw_back": DRAW_BACK, "parameters": space.describe()}
    values, share = draw_back(
        chosen.physical()[0].numpy(),
        rule,
        lambda values: _render(core, frame, Settings(actions(values), space, pipeline)),
    )
    return chosen.actions[0] if share == 1.0 else actions(values)[0], share


def _strength(core: Core, frame: int, chosen: Answer) -> float:
    """The share of one answer's strengths with which hardly a pixel is clipped anew."""
    before = _render(core, frame, chosen.scaled(0.0))
    # the last share, 0, is the neutral render itself
    return next(
        float(share)
        for share in DRAW_BACK["shares"]
        if newly_clipped(_render(core, frame, chosen.scaled(share)), before)
        <= DRAW_BACK["most_newly_clipped"]
    )


def _render(core: Core, frame: int, answer: Answer) -> np.ndarray:
    pixels: np.ndarray = images_of(core, np.array([frame]), answer)[0].cpu().numpy()
    return pixels
