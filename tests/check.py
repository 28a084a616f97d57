"""The one check: format, lint, types, import order, tests.

``python tests/check.py`` runs them all; ``python tests/check.py lint types`` those that are named.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKS = {
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "types": [sys.executable, "-m", "mypy"],
    "imports": [str(Path(sys.executable).with_name("lint-imports"))],
    "tests": [sys.executable, "-m", "pytest", "-q"],
}


def main(names: list[str]) -> int:
    """Run the named checks (all without names), each even after a failure, and name those that failed."""
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        print(
            f"error: no check is named {', '.join(unknown)}; there are {', '.join(CHECKS)}.", file=sys.stderr
        )
        return 2
    root = Path(__file__).resolve().parent.parent
    failed = []
    for name in names or CHECKS:
        print(f"== {name}", flush=True)
        if subprocess.run(CHECKS[name], cwd=root, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
