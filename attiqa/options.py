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

from attiqa.errors import InputError
from attiqa.files import read_json, write_json

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


def said(options: type, argv: Sequence[str] | None) -> set[str]:
    """The fields of the dataclass `options` that the arguments name, whether or not with their defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, options)
    unsaid = object()
    parser.set_defaults(**{field.name: unsaid for field in dataclasses.fields(options)})
    return {name for name, value in vars(parser.parse_args(argv)).items() if value is not unsaid}


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


def chosen(argv: Sequence[str], flag: str, choices: Sequence[str], prog: str) -> tuple[str, list[str]]:
    """Take ``flag CHOICE`` out of the arguments, by default the first choice; returns it and the others.

    For commands whose methods have options of their own: each parses the others by itself.
    """
    parser = argparse.ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="choice", choices=tuple(choices), default=choices[0])
    known, rest = parser.parse_known_args(argv)
    return known.choice, rest


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


def claim(folder: Path, options: Any, *, free: Sequence[str] = ("device",), write: bool = True) -> None:
    """Mark a run's folder with its options, so that only the same run goes on in it.

    Args:
        folder: of the run; ``options.json`` in it holds the options.
        options: dataclass instance.
        free: fields that may differ, for they don't change what is computed.
        write: whether to write them where there are none; of several processes, one does.

    Raises:
        InputError: the folder holds a run with other options.
    """
    path, record = folder / "options.json", as_record(options)
    before = read_json(path, "the options of a run") if path.is_file() else None
    if isinstance(before, dict):
        changed = [name for name in record if name not in free and before.get(name) != record[name]]
        if changed:
            name = changed[0]
            raise InputError(
                f"{folder} holds a run with other options: {_flag_of(name)} was {before.get(name)!r} and is "
                f"{record[name]!r}; give the options that it was begun with, or another --out."
            )
    elif write:
        write_json(path, record)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _flag(field: dataclasses.Field[Any]) -> str:
    return _flag_of(field.name)


def _flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


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
