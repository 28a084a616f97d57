"""Pictures by ``agents/export.py``, as users call it: benchmarks themselves know no agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attiqa.errors import InputError
from benchmarks.records import ROOT


def export(run: Path, source: Path, out: Path, *more: str) -> None:
    """Export all of a folder with a policy; `more` are further arguments.

    Raises:
        InputError: the command failed; what it said stands above.
    """
    script = [sys.executable, str(ROOT / "agents" / "export.py"), "--run", str(run)]
    done = subprocess.run([*script, "--input", str(source), "--out", str(out), *more], check=False)
    if done.returncode:
        raise InputError(
            f"agents/export.py could not render {source} with {run} (exit code {done.returncode})."
        )
