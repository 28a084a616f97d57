"""Export a trained policy as ONNX and TorchScript, to be run without this package.

``python agents/export_policy.py --run RUN --out DIR``. Each file is checked against the policy, and
``manifest.json`` says what goes in, what comes out and in which units; ``drawback.py`` takes back what would
clip a picture anew, as exports of this package do.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.enhancer import check_card
from agents.judging import judging
from agents.policy_file import load_policy
from agents.portable import PortablePolicy
from agents.portable_files import DRAWBACK, FILES, MANIFEST, missing_for_onnx, write_portable
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.model import load
from attiqa.options import option, parse


@dataclass(frozen=True)
class ExportPolicyOptions:
    """What the command line can say."""

    run: Path = option(help="run folder of agents/train_isp.py")
    out: Path = option(help="where the files go; made where missing")
    size: str = option("384x256", help="width and height of the pictures, as the camera's sensor lies")
    format: str = option("all", help="all leaves ONNX out where it is not installed", choices=["all", *FILES])
    overwrite: bool = option(False, help="replace files that exist")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+x\d+", self.size) or min(self.height, self.width) < 64:
            raise InputError(f"--size is WIDTHxHEIGHT, such as 384x256, from 64 pixels on; got {self.size}.")

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.size.split("x")[0])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.size.split("x")[1])


@command
def main(argv: list[str] | None = None) -> int:
    """Export, and say how close each file is to the policy."""
    options = parse(ExportPolicyOptions, argv, prog="export_policy.py", description=" ".join(__doc__.split()))
    stored = load_policy(options.run)
    scores = judging("attiqa-mini", "cpu")
    check_card(stored.card, scores)
    short_side = int(stored.card["short_side"])
    if min(options.width, options.height) != short_side:
        raise InputError(
            f"the policy was trained on previews with a short side of {short_side} pixels; "
            f"--size {options.size} has another."
        )
    formats = list(FILES) if options.format == "all" else [options.format]
    sentence = missing_for_onnx()
    if sentence and options.format == "all":
        print(f"left out: {sentence}", file=sys.stderr)
        formats.remove("onnx")
    existing = [options.out / name for name in (*(FILES[kind] for kind in formats), DRAWBACK, MANIFEST)]
    existing = [path for path in existing if path.exists()]
    if existing and not options.overwrite:
        raise InputError(f"{existing[0]} exists already; take another --out, or replace it with --overwrite.")
    network = PortablePolicy(stored, load("attiqa-mini"), (options.height, options.width)).eval()
    manifest = write_portable(options.out, network, stored, scores, formats)
    if network.reads_slopes:
        print(
            "the policy reads slopes of its reward, which only this package can measure: the network takes "
            "their mean over the training frames instead, and was compared with the policy so told"
        )
    for name, about in manifest["files"].items():
        parity = about["parity"]
        print(
            f"{options.out / name}: on {parity['pictures']} pictures within "
            f"{parity['largest_difference']:.1e} of the policy, in units of half a parameter's range"
        )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(None))
