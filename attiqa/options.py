"""Command lines from dataclasses: one field is one flag, its documentation is the help text.

Config dataclasses live at the edge: a command parses one, hands plain arguments to the modules, and
stores `as_record(options)` beside its results.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

Options = TypeVar("Options")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[str] | None = None,
    positional: bool = False,
    metavar: str | None = None,
) -> Any:
    """Declare a dataclass field that is also a command-line flag.

    A list default makes a flag that takes several values; a field without a default is required;
    ``bool`` fields become ``--name / --no-name``.
    """
    metadata = {"help": help, "choices": choices, "positional": positional, "metavar": metavar}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(options: type[Options], argv: Sequence[str] | None, *, prog: str, description: str) -> Options:
    """Parse `argv` (``None``: the process's own arguments) into an instance of the dataclass `options`.

    A wrong flag ends the process with argparse's sentence and exit code 2, as for every command here.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_options(parser, options)
    return from_namespace(options, parser.parse_args(argv))


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Add one argument per field of the dataclass `options`."""
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        kind, many = _value_type(hints[field.name])
        default = _default(field)
        required = default is dataclasses.MISSING
        arguments: dict[str, Any] = {"help": field.metadata["help"]}
        if kind is bool:
            parser.add_argument(
                _flag(field), action=argparse.BooleanOptionalAction, default=default, **arguments
            )
            continue
        arguments |= {"type": kind, "choices": field.metadata["choices"]}
        # argparse builds its own metavar from choices, which reads better than ours
        if not field.metadata["choices"]:
            arguments["metavar"] = field.metadata["metavar"] or kind.__name__.upper().replace("STR", "NAME")
        if field.metadata["positional"]:
            nargs = ("+" if required else "*") if many else (None if required else "?")
            parser.add_argument(
                field.name, nargs=nargs, **arguments, **({} if required else {"default": default})
            )
        else:
            several: dict[str, Any] = {"nargs": "+", "action": _Collect} if many else {}
            parser.add_argument(
                _flag(field),
                required=required,
                default=None if required else default,
                **several,
                **arguments,
            )


class _Collect(argparse.Action):
    """``--model a b`` and ``--model a --model b`` say the same; the first of them replaces the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(() if before is self.default else before), *values])


def from_namespace(options: type[Options], namespace: argparse.Namespace) -> Options:
    """Build the dataclass from parsed arguments; its ``__post_init__`` does the cross-field checks."""
    names = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    return options(**{name: getattr(namespace, name) for name in names})


def as_record(options: Any) -> dict[str, Any]:
    """The options as JSON values, to be stored beside the results that they made."""
    return {name: _plain(value) for name, value in dataclasses.asdict(options).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _flag(field: dataclasses.Field[Any]) -> str:
    return "--" + field.name.replace("_", "-")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _value_type(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether the flag takes several: ``list[Path] -> (Path, True)``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False
