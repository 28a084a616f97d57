"""Attributes are data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attiqa.attributes import read_attributes
from attiqa.errors import InputError


def test_the_five_attributes_of_the_paper_come_in_order() -> None:
    bundled = read_attributes()
    assert bundled.names == ("sharpness", "contrast", "brightness", "colorfulness", "noisiness")
    assert bundled.prompts(bundled.attributes[2]) == ("Sunny image", "Darkened image")


def test_a_sixth_attribute_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "six.json"
    five = [
        {"name": a.name, "positive": a.positive, "negative": a.negative} for a in read_attributes().attributes
    ]
    sixth = {"name": "composition", "positive": "Balanced", "negative": "Cluttered", "asked_of": "an LLM"}
    path.write_text(json.dumps({"attributes": [*five, sixth]}))
    six = read_attributes(path)
    assert six.names[-1] == "composition"
    assert len(six.names) == 6
    assert six.prompts(six.attributes[-1])[1] == "Cluttered image"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "not an attribute file"),
        ('{"attributes": []}', "at least one attribute"),
        ('{"attributes": [{"name": "a", "positive": "b"}]}', "needs 'name'"),
        ('{"template": "{noun}", "attributes": []}', "not an attribute file"),
        (
            json.dumps({"attributes": [{"name": "a", "positive": "b", "negative": "c"}] * 2}),
            "no name twice",
        ),
    ],
)
def test_a_wrong_attribute_file_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_attributes(path)
