"""Where a command computes."""

from __future__ import annotations

import torch

from attiqa.errors import InputError


def pick_device(name: str = "auto") -> torch.device:
    """The device by its torch name; ``auto`` takes the first GPU where there is one.

    Raises:
        InputError: no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the device {name!r} cannot be used ({reason}); try cpu.") from None
    return device
