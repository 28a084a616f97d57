"""How far long work is: a bar on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, ClassVar
from weakref import WeakSet

from tqdm import tqdm

LINE_SECONDS = 30.0


def progress_bar(
    items: Iterable[Any] | None = None, desc: str = "", *, shown: bool = True, **options: Any
) -> tqdm[Any]:
    """`items` behind a bar, or a bar to `update`; on standard error.

    Where standard error is no terminal, work that takes longer than half a minute leaves a line every half
    minute, and a last one.

    Args:
        items: what to go through; None for a bar that is told.
        desc: what is done, as a participle.
        shown: whether anything is written at all.
        options: of `tqdm.tqdm`: total, initial, unit, delay, leave.
    """
    if sys.stderr.isatty():
        return tqdm(items, desc, disable=not shown, **options)
    # tqdm's own thread wakes bars that stood still for `maxinterval`: it would print more often
    waits = {"mininterval": LINE_SECONDS, "maxinterval": 2 * LINE_SECONDS, "delay": LINE_SECONDS}
    return _Lines(items, desc, disable=not shown, **options | waits)


class _Lines(tqdm):
    """A bar of lines."""

    # apart from other bars: those are drawn again after each `tqdm.write`
    _instances: ClassVar[WeakSet[tqdm[Any]]] = WeakSet()

    @classmethod
    def write(cls, s: str, file: Any = None, end: str = "\n", nolock: bool = False) -> None:
        """Print; there is no bar in the way."""
        print(s, file=file, end=end, flush=True)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write how far it is."""
        print(msg or self, file=sys.stderr, flush=True)
        return True

    def close(self) -> None:
        """Write how far it came, if it wrote before and not that."""
        if getattr(self, "disable", True):  # closed, hidden, or never made
            return
        self.disable = True
        self._decr_instances(self)
        if self.last_print_t >= self.start_t + self.delay and self.last_print_n < self.n:
            self.display()
