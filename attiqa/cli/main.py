"""``attiqa SUBCOMMAND ...``: finds the subcommand's module and hands it the remaining arguments."""

from __future__ import annotations

import importlib
import sys

from attiqa.errors import EXIT_INTERRUPTED

# name -> (module with ``main(argv) -> exit code``, one line for --help); imported only when asked for
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "data": ("attiqa.cli.data", "known datasets, whether one is whole, its splits as a file"),
    "evaluate": ("attiqa.cli.evaluate", "models against human ratings, with intervals and splits"),
    "score": ("attiqa.cli.score", "quality and five attributes of image files"),
    "pretrain": (
        "attiqa.cli.pretrain",
        "train attribute heads on pseudo-labels",
    ),
    "finetune": ("attiqa.cli.finetune", "fit a pretrained model to a dataset's human ratings"),
    "label": ("attiqa.cli.label", "label images by attribute with CLIP antonym prompts"),
    "prompts": ("attiqa.cli.prompts", "prompt sets, and choosing antonyms by two proxy tasks"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns its exit code (0, 2 for bad input, 130 for Ctrl-C)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    name, *rest = argv
    if name not in SUBCOMMANDS:
        print(f"error: attiqa has no subcommand {name!r}; it has {', '.join(SUBCOMMANDS)}.", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(SUBCOMMANDS[name][0])
    except KeyboardInterrupt:  # imports take seconds, in which nothing is begun
        return EXIT_INTERRUPTED
    return int(module.main(rest))


def _usage() -> str:
    width = max(map(len, SUBCOMMANDS), default=0)
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in SUBCOMMANDS.items()]
    return "\n".join(["usage: attiqa SUBCOMMAND ...", "", *lines, "", "attiqa SUBCOMMAND --help says more."])
