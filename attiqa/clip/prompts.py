"""Prompt sets (one antonym pair an attribute) and the pools of adjectives that pairs are selected from.

A prompt set is an attribute file (`attiqa.attributes`): the file that selection writes is the one that
labelling, pretraining and the network read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from attiqa.attributes import Attribute, AttributeSet, read_attributes
from attiqa.errors import InputError
from attiqa.files import read_json

_FOLDER = resources.files("attiqa").joinpath("data/prompts")
_POOLS = "adjectives.json"


@dataclass(frozen=True)
class Pool:
    """The candidates for one attribute's pair.

    Attributes:
        name: the attribute.
        positive, negative: adjectives of its high and of its low end.
        distortion: the graded distortion that lowers it, for proxy 1; ``None`` where there is none.
    """

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    distortion: str | None = None


@dataclass(frozen=True)
class Pools:
    """Pools of all attributes, the template around their adjectives, and the question for an LLM."""

    pools: tuple[Pool, ...]
    template: str
    query: str = ""

    def sentences(self, adjectives: tuple[str, ...]) -> list[str]:
        """The template filled with each adjective."""
        return [self.template.format(adjective=adjective) for adjective in adjectives]


def set_names() -> list[str]:
    """The bundled prompt sets: ``paper`` is Table 1 of ATTIQA."""
    files = (Path(entry.name) for entry in _FOLDER.iterdir())
    return ["paper", *sorted(file.stem for file in files if file.suffix == ".json" and file.name != _POOLS)]


def named_set(name: str) -> AttributeSet:
    """A bundled prompt set by name, or any other from its file.

    Raises:
        InputError: neither a set nor a file.
    """
    if name == "paper":
        return read_attributes()
    if name in set_names():
        with resources.as_file(_FOLDER.joinpath(f"{name}.json")) as path:
            return read_attributes(path)
    if not Path(name).is_file():
        raise InputError(
            f"{name!r} is neither a prompt set ({', '.join(set_names())}) nor a file that holds one."
        )
    return read_attributes(name)


def set_record(attributes: AttributeSet) -> dict[str, Any]:
    """A prompt set as JSON values, in the form that `read_attributes` takes."""
    return {
        "template": attributes.template,
        "attributes": [dataclasses.asdict(attribute) for attribute in attributes.attributes],
    }


def chosen_set(pools: Pools, pairs: dict[str, tuple[str, str]]) -> AttributeSet:
    """The prompt set of one (positive, negative) pair an attribute; meanings come from the paper's set."""
    known = {attribute.name: attribute.meaning for attribute in read_attributes().attributes}
    return AttributeSet(
        tuple(
            Attribute(pool.name, *pairs[pool.name], known.get(pool.name, ""), pool.distortion)
            for pool in pools.pools
            if pool.name in pairs
        ),
        pools.template,
    )


def read_pools(path: Path | None = None) -> Pools:
    """Read the candidate adjectives; ``None`` reads the bundled 50 + 50 for each of the five attributes.

    Args:
        path: JSON, ``{"template", "query", "attributes": {NAME: {"positive": [...], "negative": [...],
            "distortion": ...}}}``; the five known attributes need no distortion.

    Raises:
        InputError: the file is missing or not of this form, or an adjective stands in both lists.
    """
    if path is None:
        with resources.as_file(_FOLDER.joinpath(_POOLS)) as bundled:
            return read_pools(bundled)
    record = read_json(path, "a file of adjectives")
    distortions = {attribute.name: attribute.distortion for attribute in read_attributes().attributes}
    try:
        pools = tuple(
            Pool(
                name,
                _adjectives(entry["positive"]),
                _adjectives(entry["negative"]),
                entry.get("distortion", distortions.get(name)),
            )
            for name, entry in record["attributes"].items()
        )
        template = str(record.get("template", AttributeSet.template))
        template.format(adjective="Sharp")
    except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} is not a file of adjectives ({error}); "
            "each attribute needs lists 'positive' and 'negative'."
        ) from None
    for pool in pools:
        both = set(pool.positive) & set(pool.negative)
        if both:
            raise InputError(
                f"{path}: {pool.name} has {', '.join(sorted(both))} in both lists; keep it in one."
            )
    if not pools:
        raise InputError(f"{path} names no attribute; expected at least one with its adjectives.")
    return Pools(pools, template, str(record.get("query", "")))


def _adjectives(words: Any) -> tuple[str, ...]:
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise TypeError("a list of adjectives must be a list of strings and not empty")
    return tuple(dict.fromkeys(words))
