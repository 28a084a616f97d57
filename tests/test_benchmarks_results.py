"""RESULTS.md comes from the records and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.records import write_record
from benchmarks.results import PAGE, RECORDS, main


@pytest.fixture
def records(tmp_path: Path) -> Path:
    root = tmp_path / "records"
    content = {
        "report": "## A table\n\n| a |\n| - |\n| 1 |",
        "left_out": [{"scorer": "musiq", "reason": "it is offline."}],
        "options": {"seed": 3, "out": "elsewhere"},
    }
    write_record(root / "agiqa-avt-ai", "agiqa", ["benchmarks/agiqa.py", "--seed", "3"], content)
    (root / "agiqa-avt-ai" / "scatter.png").write_bytes(b"picture")
    return root


def test_the_page_holds_report_provenance_pictures_and_what_is_missing(records: Path, tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    assert main(["--records", str(records), "--page", str(page)]) == 0
    text = page.read_text()
    assert "# agiqa-avt-ai\n" in text
    assert "### A table" in text
    assert "seed 3" in text
    assert "```bash\npython benchmarks/agiqa.py --seed 3\n```" in text
    assert "![scatter](records/agiqa-avt-ai/scatter.png)" in text
    assert "musiq: it is offline." in text
    assert "`fivek`: no record" in text


def test_check_finds_a_page_that_was_edited_by_hand(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "RESULTS.md"
    arguments = ["--records", str(records), "--page", str(page)]
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    page.write_text(page.read_text() + "and a better number\n")
    assert main([*arguments, "--check"]) == 2
    assert "is not what the records give" in capsys.readouterr().err


def test_the_committed_page_is_what_the_committed_records_give() -> None:
    if not RECORDS.is_dir():
        pytest.skip("no record is committed yet")
    assert main(["--records", str(RECORDS), "--page", str(PAGE), "--check"]) == 0


def test_every_record_has_a_line_that_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1].removeprefix("benchmarks/") for line in lines} == {
        f"{name}.py" for name in ("agiqa", "fivek", "iqa", "previews", "sd_pairs", "speed")
    }
    committed = {path.parent.name for path in RECORDS.glob("*/record.json")}
    assert committed <= {Path(line.split()[-1]).name for line in lines}


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*/record.json")), ids=lambda path: path.parent.name)
def test_no_committed_record_names_a_folder_of_its_machine(path: Path) -> None:
    text = path.read_text()
    assert not [word for word in ('"/', "/home/", "/root/", "/tmp/", "/work/", "/Users/") if word in text]
