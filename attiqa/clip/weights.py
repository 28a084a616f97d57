"""Where CLIP weights come from (a tag, a file, a folder, a hub id), and with which activation they run.

OpenAI's models were trained with QuickGELU, ``x * sigmoid(1.702 x)``. Their state dict fits the plain GELU
architecture of the same name without a complaint and then embeds wrongly, so the activation is decided here
from what is known about the *weights*, not from the architecture's name alone.
"""

from __future__ import annotations

import difflib
import os
import socket
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from safetensors import SafetensorError, safe_open

from attiqa.errors import InputError
from attiqa.files import read_json

ACTIVATIONS = ("auto", "quickgelu", "gelu")
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
QUICK_SUFFIX = "-quickgelu"
SIDE_CONFIG = "open_clip_config.json"
HUB_PREFIX = "hf-hub:"
SAFE_NAME = "open_clip_model.safetensors"
PICKLE_NAME = "open_clip_pytorch_model.bin"


@dataclass(frozen=True)
class ClipWeights:
    """Weights and how to build the model that they fit.

    Attributes:
        model: what open_clip builds: one of its names, or ``local-dir:FOLDER``.
        path: the weights file.
        tag: the open_clip tag that the weights are known to be, else "".
        quick_gelu: the activation the weights were trained with.
        preprocess: mean, std, interpolation and resize_mode, where they are known.
        note: a sentence where the activation differs from what the model's name says, else "".
    """

    model: str
    path: Path
    tag: str
    quick_gelu: bool
    preprocess: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def find_weights(
    model: str, pretrained: str = "openai", weights: Path | None = None, activation: str = "auto"
) -> ClipWeights:
    """Find a CLIP model's weights without building it.

    Args:
        model: an open_clip name (``ViT-B-16-quickgelu``), a folder with an ``open_clip_config.json``, or
            ``hf-hub:OWNER/NAME``.
        pretrained: the open_clip tag; unused with `weights`, a folder, or a hub id.
        weights: a local file; safetensors, or a state dict that torch's ``weights_only`` loader takes.
        activation: ``auto``, or what the weights were trained with where it cannot be told.

    Raises:
        InputError: an unknown name, no such file, no network; or the activation cannot be told.
    """
    if model.startswith(HUB_PREFIX):
        config = _hub_file(model.removeprefix(HUB_PREFIX), [SIDE_CONFIG], model)
        _hub_file(model.removeprefix(HUB_PREFIX), [SAFE_NAME, PICKLE_NAME], model)
        return _from_folder(config.parent, weights, activation)
    if Path(model).is_dir():
        return _from_folder(Path(model), weights, activation)
    _check_name(model)
    if weights is not None:
        return _from_file(model, Path(weights), activation)
    return _from_tag(model, pretrained, activation)


def local_weights_path(model: str, tag: str) -> Path:
    """Where a user may put the weights of a tag by hand: ``$ATTIQA_CACHE`` or ``~/.cache/attiqa``."""
    root = Path(os.environ.get("ATTIQA_CACHE", Path.home() / ".cache" / "attiqa"))
    return root / f"{model.removesuffix(QUICK_SUFFIX)}.{tag}.safetensors"


def check_weights_file(path: Path) -> None:
    """Refuse, in a sentence, what would have to run code or is no weights file at all."""
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected CLIP weights ({', '.join(WEIGHT_SUFFIXES)}).")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise InputError(
            f"{path} ends in {path.suffix!r}; expected CLIP weights ({', '.join(WEIGHT_SUFFIXES)})."
        )
    if path.suffix == ".safetensors":
        _safetensors_metadata(path)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise InputError(
                    f"{path} is a TorchScript archive, which is a program and not only weights (OpenAI's own "
                    f".pt files are such); bring {SAFE_NAME} from the model's page, for OpenAI's ViT-B/16 "
                    "https://huggingface.co/timm/vit_base_patch16_clip_224.openai, and use it as --weights."
                )


def _from_tag(model: str, tag: str, activation: str) -> ClipWeights:
    record = get_pretrained_cfg(model, tag)
    if not record:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise InputError(f"open_clip has no weights {tag!r} for {model}; it has {', '.join(tags) or 'none'}.")
    path = local_weights_path(model, tag)
    if path.is_file():
        check_weights_file(path)
    else:
        repository, _, name = record["hf_hub"].rpartition("/")
        names = [name.rsplit(".", 1)[0] + ".safetensors", name] if name else [SAFE_NAME, PICKLE_NAME]
        path = _hub_file(repository, names, f"{model} ({tag})", put_at=path)
    return _with_activation(model, path, record, tag, activation, f"the tag {tag}")


def _from_file(model: str, path: Path, activation: str) -> ClipWeights:
    check_weights_file(path)
    stated = _safetensors_metadata(path).get("quick_gelu") if path.suffix == ".safetensors" else None
    side = path.parent / SIDE_CONFIG
    tag, record = _known_tag(model, path)
    if stated is not None:
        record = {**record, "quick_gelu": stated.lower() == "true"}
        return _with_activation(model, path, record, tag, activation, "its metadata")
    if side.is_file():
        return _with_activation(model, path, _side_record(side), tag, activation, str(side))
    if tag:
        return _with_activation(model, path, record, tag, activation, f"its name, the tag {tag}")
    base = model.removesuffix(QUICK_SUFFIX)
    if activation == "auto" and model == base and base + QUICK_SUFFIX in open_clip.list_models():
        raise InputError(
            f"nothing in {path} or its name tells whether it was trained with QuickGELU, and the wrong "
            "choice gives wrong embeddings without an error; say --activation quickgelu (OpenAI, DFN, "
            "MetaCLIP) or --activation gelu (LAION, DataComp)."
        )
    record = {**record, "quick_gelu": _declares_quick_gelu(model)}
    return _with_activation(model, path, record, "", activation, "the model's name")


def _from_folder(folder: Path, weights: Path | None, activation: str) -> ClipWeights:
    config = folder / SIDE_CONFIG
    record = _side_record(config)
    names = [SAFE_NAME, PICKLE_NAME, "model.safetensors"]
    path = weights or next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds {SIDE_CONFIG} but no weights; expected {SAFE_NAME} beside it.")
    check_weights_file(path)
    return _with_activation(f"local-dir:{folder}", path, record, "", activation, str(config))


def _with_activation(
    model: str, path: Path, record: dict[str, Any], tag: str, activation: str, because: str
) -> ClipWeights:
    """Settle the activation from `record` (an open_clip pretrained record), or from what the user said."""
    quick = bool(record.get("quick_gelu", False)) if activation == "auto" else activation == "quickgelu"
    note = ""
    if not model.startswith("local-dir:") and quick != _declares_quick_gelu(model):
        reason = because if activation == "auto" else "--activation"
        note = f"{model} is built with {'QuickGELU' if quick else 'GELU'} because {reason} says so."
    keys = ("mean", "std", "interpolation", "resize_mode")
    return ClipWeights(model, path, tag, quick, {k: record[k] for k in keys if k in record}, note)


def _declares_quick_gelu(model: str) -> bool:
    return bool(open_clip.get_model_config(model).get("quick_gelu", False))


def _known_tag(model: str, path: Path) -> tuple[str, dict[str, Any]]:
    """The tag that the file's name, its folder or its hub folder names; the nearest and longest match wins.

    Without one the record still carries the preprocessing that all weights of the model share.
    """
    records: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in (model.removesuffix(QUICK_SUFFIX) + QUICK_SUFFIX, model.removesuffix(QUICK_SUFFIX)):
        for tag in open_clip.list_pretrained_tags_by_model(name):
            record = get_pretrained_cfg(name, tag)
            repository = record.get("hf_hub", "").strip("/").rpartition("/")[2]
            records |= {_plain(tag): (tag, record), _plain(repository): (tag, record)}
    absolute = path.absolute()
    hub_folders = [part for part in absolute.parts if part.startswith("models--")]
    for part in (absolute.name, absolute.parent.name, *hub_folders):
        found = [key for key in records if key and key in _plain(part)]
        if found:
            return records[max(found, key=len)]
    shared = next(iter(records.values()), ("", {}))[1]
    return "", {key: value for key, value in shared.items() if key != "quick_gelu"}


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _side_record(config: Path) -> dict[str, Any]:
    content = read_json(config, f"the model's {SIDE_CONFIG}")
    if not isinstance(content, dict) or not isinstance(content.get("model_cfg"), dict):
        raise InputError(
            f"{config} has no object 'model_cfg'; expected open_clip's configuration of the model."
        )
    return {**content.get("preprocess_cfg", {}), "quick_gelu": content["model_cfg"].get("quick_gelu", False)}


def _safetensors_metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); bring it again.") from None


def _check_name(model: str) -> None:
    names = open_clip.list_models()
    if model not in names:
        close = ", ".join(difflib.get_close_matches(model, names, n=3)) or ", ".join(names[:5]) + ", ..."
        raise InputError(
            f"{model!r} is no open_clip model, no folder with {SIDE_CONFIG}, and not hf-hub:OWNER/NAME; "
            f"names like it: {close}."
        )


def _hub_file(repository: str, names: list[str], what: str, put_at: Path | None = None) -> Path:
    """The first of `names` that the hub's local cache holds or that can be downloaded."""
    from huggingface_hub import constants, hf_hub_download  # half a second, and only tags and hub ids need it

    for name in names:
        try:
            return Path(hf_hub_download(repository, name, local_files_only=True))
        except OSError:
            continue
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
    if not reason:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name))
            except Exception as error:  # the hub's client raises a dozen kinds; all mean "could not be had"
                reason = str(error).strip().splitlines()[0]
    place = f"put it at {put_at} or pass it with --weights" if put_at else "pass its folder as --model"
    raise InputError(
        f"the weights of {what} are not on this machine and cannot be downloaded ({reason}); "
        f"bring {names[0]} from https://huggingface.co/{repository} and {place}."
    )


def _unreachable(endpoint: str) -> str:
    """Why the hub cannot be reached, "" if it can: its client would retry for most of a minute."""
    if urllib.request.getproxies():
        return ""
    address = urllib.parse.urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname or "", address.port or 443), timeout=5):
            return ""
    except OSError as error:
        return f"{address.hostname}: {error.strerror or error}"
