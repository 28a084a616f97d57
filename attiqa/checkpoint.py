"""Checkpoints: weights in safetensors, everything else in a JSON card beside them. Loading runs no code."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest, read_json, write_json
from attiqa.nn.backbones import read_safetensors
from attiqa.nn.network import AttributeNetwork, QualityNetwork

FORMAT = "attiqa-checkpoint-1"
# kind of network -> module with `network_from_card`, imported when needed: CLIP takes seconds to import
KINDS = {"attiqa": "attiqa.nn.network", "qualiclip": "attiqa.clip.prompted", "sfd-iqa": "attiqa.clip.sfd"}


def card_path(weights: str | Path) -> Path:
    """Where the card of a weights file lies: beside it, with the suffix ``.json``."""
    return Path(weights).with_suffix(".json")


def save_checkpoint(
    path: str | Path, network: QualityNetwork, card: dict[str, Any], dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Write ``path`` (safetensors) and its card; each appears whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        network: what is saved; its architecture goes onto the card.
        card: what a user should know: classes, training data, protocol, metrics, versions.
        dtype: storage type of floating-point weights; float16 halves the file.

    Returns:
        The card as written, with ``format``, ``architecture`` and ``digest`` (SHA-256 of the weights file).
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path} must end in .safetensors; nothing else is written or read.")
    tensors = {
        key: value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
        digest = file_digest(temporary)
    complete = {**card, "format": FORMAT, "architecture": network.architecture, "digest": digest}
    write_json(card_path(path), complete)
    return complete


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of the weights at `path`, checked for its format and that its kind of network is known."""
    beside = card_path(path)
    card = read_json(beside, "the card of the checkpoint")
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{beside} is not a checkpoint card of this package; expected format {FORMAT!r}.")
    architecture = card.get("architecture")
    kind = architecture.get("kind") if isinstance(architecture, dict) else None
    if not isinstance(architecture, dict) or kind not in KINDS:
        raise InputError(
            f"{path} holds a network of kind {kind!r}; "
            f"this reader builds {', '.join(map(repr, KINDS))} networks."
        )
    names, heads = card.get("attributes"), architecture.get("attributes")
    if not isinstance(names, list) or len(names) != heads or len(set(map(str, names))) != heads:
        raise InputError(f"{beside} names the attributes {names!r}; expected {heads} different ones.")
    if not isinstance(card.get("digest"), str):
        raise InputError(f"{beside} has no digest of the weights; expected a card as it was written.")
    return card


def load_checkpoint(path: str | Path) -> tuple[AttributeNetwork, dict[str, Any]]:
    """As `load_network`, of ATTIQA's own kind alone, which is what fine-tuning and the fits need."""
    network, card = load_network(path)
    if not isinstance(network, AttributeNetwork):
        raise InputError(
            f"{path} holds a network of kind {card['architecture']['kind']!r}, which only scores; "
            "give one of kind 'attiqa'."
        )
    return network, card


def load_network(path: str | Path) -> tuple[QualityNetwork, dict[str, Any]]:
    """Read weights and card of any kind; the network is float32, in evaluation mode, on the CPU.

    Raises:
        InputError: file or card missing, file truncated or not the one that the card describes, or weights
            that are not of the card's architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a checkpoint (.safetensors with its .json card).")
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is no .safetensors file; other formats may run code when they are read, so only "
            "checkpoints that this package wrote are taken."
        )
    card = read_card(path)
    tensors = read_safetensors(path)
    if file_digest(path) != card["digest"]:
        raise InputError(
            f"{path} is not the file that its card describes (SHA-256 differs); bring both from one place."
        )
    builder = importlib.import_module(KINDS[card["architecture"]["kind"]])
    try:
        network: QualityNetwork = builder.network_from_card(card["architecture"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{card_path(path)} describes an unknown architecture ({error}).") from None
    own = network.state_dict()
    wrong = sorted(
        key
        for key in own.keys() | tensors.keys()
        if key not in own or key not in tensors or own[key].shape != tensors[key].shape
    )
    if wrong:
        raise InputError(
            f"{path} is a checkpoint of another architecture than its card says: "
            f"{len(wrong)} of {len(own)} tensors differ, {wrong[0]} first."
        )
    network.load_state_dict({key: tensors[key].to(value.dtype) for key, value in own.items()})
    return network.eval(), card
