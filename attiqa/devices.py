"""Where a command computes."""

from __future__ import annotations

from functools import cache

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


@cache
def keep_freed_memory() -> None:
    """Teach the C library's allocator, once, that tensors of many megabytes come again and again.

    glibc gives memory back to the system when blocks larger than a threshold are freed, and asks for fresh
    pages each time; it raises the threshold to the largest block freed, up to 32 MiB (mallopt(3),
    M_MMAP_THRESHOLD). The bundled model's forward on 48 images then took 79 % of the time and no page faults
    instead of 45,000. Elsewhere this does nothing; the block itself is never touched and costs no memory.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
