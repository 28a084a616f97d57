"""Speed, one subject a subcommand, each figure beside its limit: ``python benchmarks/speed.py all``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import EXIT_OK, InputError, command
from attiqa.options import parse
from benchmarks import speed_env, speed_export, speed_label, speed_score, speed_train
from benchmarks.speed_options import SpeedOptions, Subject, run_subject

SUBJECTS: dict[str, Subject] = {
    module.SUBJECT.name: module.SUBJECT
    for module in (speed_env, speed_score, speed_label, speed_train, speed_export)
}


@dataclass(frozen=True, kw_only=True)
class AllOptions(SpeedOptions):
    """Flags of ``all``: each subject takes them, and writes into a folder of its own below --out."""


@command
def main(argv: list[str] | None = None) -> int:
    """Measure one subject, or all of them with their defaults."""
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {subject.name:<8} {subject.about}" for subject in SUBJECTS.values()]
        print(f"usage: speed.py {{all,{','.join(SUBJECTS)}}} [options]\n\n{__doc__}\n\n" + "\n".join(lines))
        return EXIT_OK
    if name == "all":
        options = parse(AllOptions, rest, prog="speed.py all", description=__doc__ or "")
        shared = {field.name: getattr(options, field.name) for field in fields(SpeedOptions)}
        folder = options.out or Path("runs") / "benchmarks"
        for subject in SUBJECTS.values():
            own = subject.options(**shared | {"out": folder / f"speed-{subject.name}"})
            run_subject(subject, own, [name, *rest])
        return EXIT_OK
    if name not in SUBJECTS:
        raise InputError(f"expected all or one of {', '.join(SUBJECTS)}; got {name!r}.")
    subject = SUBJECTS[name]
    own = parse(subject.options, rest, prog=f"speed.py {name}", description=subject.about)
    run_subject(subject, own, [name, *rest])
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
