"""Speed, one subject a subcommand: ``python benchmarks/speed.py all|env [options]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import InputError, command
from benchmarks import speed_env

SUBJECTS: dict[str, Callable[[Sequence[str]], int]] = {
    "env": speed_env.run,
}


@command
def main(argv: list[str] | None = None) -> int:
    """Measure one subject, or all of them with their defaults."""
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: speed.py {{all,{','.join(SUBJECTS)}}} [options]\n\n{__doc__}")
        return 0
    if name == "all":
        return max(subject(rest) for subject in SUBJECTS.values())
    if name not in SUBJECTS:
        raise InputError(f"expected all or one of {', '.join(SUBJECTS)}; got {name!r}.")
    return SUBJECTS[name](rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
