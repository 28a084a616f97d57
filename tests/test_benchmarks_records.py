"""Records: JSON without NaN, tables of items, and the tables that people read."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from attiqa.errors import InputError
from benchmarks.records import ROOT, names_digest, plain, portable, read_records, write_items, write_record
from benchmarks.tables import markdown, number, p_value, percent, with_interval


def test_a_record_says_when_where_and_with_what(tmp_path: Path) -> None:
    write_record(
        tmp_path / "one", "agiqa", ["command"], {"value": np.float64(0.5), "undefined": float("nan")}
    )
    record = json.loads((tmp_path / "one" / "record.json").read_text())
    assert record["value"] == 0.5
    assert record["undefined"] is None
    assert {"date", "hardware", "versions", "commit", "benchmark", "command"} <= record.keys()
    assert record["versions"]["torch"]
    assert record["hardware"]["cores"] >= 1


def test_folders_of_this_machine_are_named_portably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    monkeypatch.setenv("ATTIQA_DATA", str(data))
    monkeypatch.setenv("HOME", str(home))
    value = {"a": [f"{data}/human/avt_ai", 1], "b": f"error: {home}/x.png is torn ({ROOT}/benchmarks)."}
    assert portable(value) == {
        "a": ["$ATTIQA_DATA/human/avt_ai", 1],
        "b": "error: ~/x.png is torn (./benchmarks).",
    }
    assert portable(f"{data}base/x") != "$ATTIQA_DATAbase/x"  # another folder whose name begins alike


def test_records_are_found_by_their_folder(tmp_path: Path) -> None:
    write_record(tmp_path / "a" / "b", "x", [], {})
    assert list(read_records(tmp_path)) == ["a/b"]


def test_a_folder_without_records_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no record\.json lies below"):
        read_records(tmp_path)


def test_items_keep_all_digits_and_leave_nan_empty(tmp_path: Path) -> None:
    write_items(tmp_path / "items.csv", {"name": ["a", "b"], "score": [1 / 3, math.nan]})
    rows = list(csv.reader((tmp_path / "items.csv").open()))
    assert rows == [["name", "score"], ["a", repr(1 / 3)], ["b", ""]]


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one length"):
        write_items(tmp_path / "items.csv", {"a": [1], "b": [1, 2]})


def test_names_digest_does_not_depend_on_order() -> None:
    assert names_digest(["b", "a"]) == names_digest(["a", "b"]) != names_digest(["a", "c"])


def test_plain_turns_numpy_to_json_values() -> None:
    value = {"a": np.arange(2), "b": (np.float32(1.5), math.inf), "c": Path("x")}
    assert plain(value) == {"a": [0, 1], "b": [1.5, None], "c": "x"}


def test_a_table_aligns_its_columns() -> None:
    lines = markdown(["scorer", "n"], [["a", "10"], ["longer name", "2"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2] == "| a           | 10 |"


def test_undefined_numbers_are_a_dash() -> None:
    assert number(None) == number(math.nan) == "-"
    assert percent(None) == "-"


def test_a_p_value_is_never_a_bare_zero() -> None:
    assert (p_value(1e-9), p_value(0.0144)) == ("< 0.0001", "0.0144")


def test_numbers_carry_their_intervals() -> None:
    assert with_interval(0.5612, (0.371, 0.714)) == "0.561 [0.37, 0.71]"
    assert percent(0.788, (0.701, 0.8634)) == "78.8 % [70.1, 86.3]"
