"""The one check: format, lint, types, import order, tests. ``python tests/check.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKS = {
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "types": [sys.executable, "-m", "mypy"],
    "import order": [str(Path(sys.executable).with_name("lint-imports"))],
    "tests": [sys.executable, "-m", "pytest", "-q"],
}


def main() -> int:
    """Run every check, all of them even after a failure, and name those that failed."""
    root = Path(__file__).resolve().parent.parent
    failed = []
    for name, arguments in CHECKS.items():
        print(f"== {name}", flush=True)
        if subprocess.run(arguments, cwd=root, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
