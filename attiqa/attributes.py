"""The attributes that a model scores. They are data: a sixth attribute is a file, not a change of code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from attiqa.errors import InputError
from attiqa.files import read_json


@dataclass(frozen=True)
class Attribute:
    """One perceptual attribute and the antonym pair that names its two ends.

    Attributes:
        name: column name in tables and label caches; unique in its set.
        positive: adjective of the high end, as in "Vibrant image".
        negative: adjective of the low end, as in "Colorless image".
        meaning: what a high value says, for documentation.
        distortion: the graded distortion of `attiqa.distortions` whose level can label it, or ``None``.
    """

    name: str
    positive: str
    negative: str
    meaning: str = ""
    distortion: str | None = None


@dataclass(frozen=True)
class AttributeSet:
    """Attributes in the order of a model's columns, and the prompt template around their adjectives."""

    attributes: tuple[Attribute, ...]
    template: str = "{adjective} image"

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        return tuple(attribute.name for attribute in self.attributes)

    def prompts(self, attribute: Attribute) -> tuple[str, str]:
        """The (positive, negative) sentences that CLIP is asked for `attribute`."""
        return (
            self.template.format(adjective=attribute.positive),
            self.template.format(adjective=attribute.negative),
        )


def read_attributes(path: str | Path | None = None) -> AttributeSet:
    """Read an attribute file; ``None`` reads the five attributes of the paper (Table 1).

    Args:
        path: JSON, ``{"template": ..., "attributes": [{"name", "positive", "negative", ...}, ...]}``.

    Raises:
        InputError: the file is missing, no JSON, or lacks a name or an adjective.
    """
    if path is None:
        with resources.as_file(resources.files("attiqa").joinpath("data/attributes.json")) as bundled:
            return read_attributes(bundled)
    record = read_json(path, "an attribute file")
    try:
        attributes = tuple(Attribute(**_known_fields(entry)) for entry in record["attributes"])
        template = str(record.get("template", AttributeSet.template))
        template.format(adjective="Sharp")
    except (TypeError, KeyError, AttributeError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} is not an attribute file ({error}); each attribute needs 'name', 'positive', 'negative'."
        ) from None
    names = [attribute.name for attribute in attributes]
    if not names or len(set(names)) != len(names):
        raise InputError(f"{path} must name at least one attribute and no name twice; it has {names}.")
    return AttributeSet(attributes, template)


def _known_fields(entry: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in entry.items() if key in Attribute.__dataclass_fields__}
