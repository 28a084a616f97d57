"""Write RESULTS.md from the committed records. ``python benchmarks/results.py``; nothing is typed by hand.

``--check`` writes nothing and exits with 2 when the page is not what the records give.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from attiqa.errors import EXIT_OK, InputError, command
from attiqa.files import write_text
from attiqa.options import option, parse
from benchmarks.records import ROOT, read_records
from benchmarks.tables import markdown

RECORDS = ROOT / "benchmarks" / "records"
PAGE = ROOT / "benchmarks" / "RESULTS.md"

INTRODUCTION = """\
# Results

This page is written by `python benchmarks/results.py` from the records in `benchmarks/records`; do not edit
it. *Measured*: computed here. *Published*: scores that a dataset's authors distribute. *Reported*: a paper's
own figure, on data that was not at hand. Wins and losses stand side by side.

Each record was made by the line that stands with it, `$ATTIQA_DATA` being the folder of real material, and
`python benchmarks/results.py --commands` prints the lines that make them all. Values of single images lie
beside a record as CSV where it is made; they hold other people's ratings and are not committed."""

_GENERATED = "--dataset avt-ai --data $ATTIQA_DATA/human/avt_ai"
_PEERS = "--peers niqe brisque nima-technical nima-aesthetic --peer-weights $ATTIQA_DATA/weights"
_SETS = "--data avt-ai=$ATTIQA_DATA/human/avt_ai avt-quality=$ATTIQA_DATA/human/avt_quality"

# record -> the line that makes it, less its --out
MAKERS = {
    "agiqa-avt-ai": f"agiqa.py {_GENERATED} --in-domain linear-probe {_PEERS}",
    "fivek-peers": "fivek.py --data $ATTIQA_DATA/fivek --input-class lightroom-zeroed "
    "--run agents/policies/photographs agents/policies/five-looks "
    "--adaptive-3dlut $ATTIQA_DATA/weights/adaptive_3dlut_srgb "
    f"--model attiqa-mini attiqa-judge {_PEERS}",
    "iqa-cross": f"iqa.py --table cross --in-domain linear-probe {_SETS}",
    "iqa-linear-probe": f"iqa.py --table linear-probe {_SETS}",
    "pairs-avt-ai": f"sd_pairs.py --layout ratings {_GENERATED} {_PEERS}",
    **{f"speed-{name}": f"speed.py {name}" for name in ("env", "score", "label", "train")},
    "previews": "previews.py --raws $ATTIQA_DATA/raws",
    "speed-export": "speed.py export --raws $ATTIQA_DATA/raws --repeats 3 "
    "--run agents/policies/photographs agents/policies/five-looks",
}

# benchmark -> what it needs; those without a record are named on the page
NEEDS = {
    "agiqa": "AVT-AI, AGIQA-3k or another set of rated generated images",
    "sd_pairs": "preference pairs, or a rated set with several images a prompt",
    "fivek": "FiveK scenes with an expert's rendition",
    "iqa": "KonIQ-10k, CLIVE, SPAQ, FLIVE or AVA with their images",
    "speed": "nothing",
}


@dataclass(frozen=True, kw_only=True)
class ResultsOptions:
    """Options of the page."""

    records: Path = option(RECORDS, help="folder of records", metavar="DIR")
    page: Path = option(PAGE, help="the page to write", metavar="FILE")
    check: bool = option(False, help="write nothing; fail if the page is out of date")
    commands: bool = option(False, help="print the lines that make the records, and stop")


@command
def main(argv: list[str] | None = None) -> int:
    """Write or check the page; returns the exit code."""
    options = parse(ResultsOptions, argv, prog="benchmarks/results.py", description=__doc__ or "")
    if options.commands:
        print("\n".join(maker(name) for name in MAKERS))
        return EXIT_OK
    text = page(read_records(options.records), options.page.parent, options.records)
    if not options.check:
        write_text(options.page, text)
        print(f"{options.page} written")
    elif not options.page.is_file() or options.page.read_text(encoding="utf-8") != text:
        raise InputError(f"{options.page} is not what the records give; run `python benchmarks/results.py`.")
    return EXIT_OK


def maker(name: str) -> str:
    """The shell line that makes a record, from the checkout's folder."""
    return f"python benchmarks/{MAKERS[name]} --out benchmarks/records/{name}"


def page(records: Mapping[str, Mapping[str, Any]], folder: Path, root: Path) -> str:
    """The whole page; pictures are linked relative to `folder`."""
    parts = [INTRODUCTION, _index(records)]
    for name, record in records.items():
        parts += [
            f"# {name}",
            _provenance(record),
            _made_by(name, record),
            _demote(str(record.get("report", ""))),
        ]
        for picture in sorted((root / name).glob("*.png")):
            parts.append(f"![{picture.stem}]({_relative(picture, folder)})")
    absent = {name: need for name, need in NEEDS.items() if name not in _benchmarks(records)}
    left_out = [
        f"- {name}, {entry['scorer']}: {entry['reason']}"
        for name, record in records.items()
        for entry in record.get("left_out", [])
    ]
    parts.append("# What could not be run here")
    parts += [f"- `{name}`: no record; it needs {need}." for name, need in absent.items()]
    parts += left_out or ([] if absent else ["Nothing."])
    return "\n\n".join(part for part in parts if part) + "\n"


def _index(records: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [f"[{name}](#{_anchor(name)})", str(record["benchmark"]), str(record["date"])[:10], _commit(record)]
        for name, record in records.items()
    ]
    return markdown(["record", "benchmark", "date", "commit"], rows)


def _provenance(record: Mapping[str, Any]) -> str:
    hardware = record["hardware"]
    machine = f"{hardware['processor']}, {hardware['cores']} cores" + (
        f", {hardware['gpu']}" if hardware["gpu"] else ", no GPU"
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    options = {
        name: value for name, value in record.get("options", {}).items() if name in ("seed", "repeats")
    }
    settings = "".join(f", {name} {value}" for name, value in options.items())
    return f"Measured {record['date']} at {_commit(record)} on {machine}{settings}. {versions}."


def _made_by(name: str, record: Mapping[str, Any]) -> str:
    """The command as it was recorded; older records have no arguments."""
    words = list(record.get("command", []))
    line = f"python {' '.join(words)}" if len(words) > 1 else (maker(name) if name in MAKERS else "")
    return f"```bash\n{line}\n```" if line else ""


def _commit(record: Mapping[str, Any]) -> str:
    sha, _, dirty = str(record["commit"]).partition("-")
    return sha[:10] + ("-dirty" if dirty else "")


def _demote(report: str) -> str:
    """Headings of a report one level down, so that the page has one heading a record."""
    return "\n".join(f"#{line}" if line.startswith("##") else line for line in report.splitlines())


def _relative(path: Path, folder: Path) -> str:
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _anchor(heading: str) -> str:
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _benchmarks(records: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {str(record["benchmark"]).split("-")[0] for record in records.values()}


if __name__ == "__main__":
    sys.exit(main(None))
