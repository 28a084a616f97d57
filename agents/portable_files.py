"""A portable policy on disk: ``policy.onnx``, ``policy.torchscript``, ``manifest.json``, ``drawback.py``."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from agents import drawback
from agents.delivery import DRAW_BACK
from agents.judging import Judging
from agents.playing import STEPS_AN_EPISODE
from agents.policy_file import StoredPolicy
from agents.portable import Parity, PortablePolicy, check_parity
from agents.runs import versions
from attiqa.errors import InputError
from attiqa.files import atomic_path, file_digest, write_json, write_text

FORMAT = "attiqa-portable-policy-1"
MANIFEST = "manifest.json"
DRAWBACK = "drawback.py"  # a copy of `agents.drawback`
FILES = {"onnx": "policy.onnx", "torchscript": "policy.torchscript"}
OPSET = 18  # of ONNX; what runtimes from 2023 on know
TOLERANCE = 1e-3  # of half a parameter's range: far below what can be seen

_WHAT = {
    "image": "the camera's neutral render of the frame: black and white level, as-shot balance clipped at "
    "saturation, colour matrix to linear sRGB, area-averaged there to this size, sRGB curve",
    "setting": "the parameters as they stand, on the scale of the policy; zeros at first, then next_setting",
    "progress": "steps taken so far, divided by steps",
    "change": "what the last step changed of the setting; zeros at first, then next_change",
    "next_setting": "setting of the next step",
    "next_change": "change of the next step",
    "parameters": "one column a parameter, in the order and the units of the list below",
}

_DRAW_BACK = (
    "exports of the package take the parameters of the last step through this rule, which needs the "
    "renderer: of each parameter in brightening that lies above its neutral value, "
    "neutral + share * (value - neutral) is taken, with the first of shares for which at most "
    "most_newly_clipped of the pixels of the render at the size of image are newly clipped; where none fits, "
    "all parameters are neutral. A pixel is newly clipped where a channel is at least 254/255, or all three "
    "are at most 1/255, and that channel, or those three, are not so in the neutral render. Before that, the "
    "parameters in tinting are neutral where the neutral render is in black and white: over each of its "
    "squares, 32 along its short side, the means of the channels are at most colorless apart"
)

_LEFT_OUT = (
    "the policy also reads how its reward rises with each parameter at the neutral render, by a backward "
    "pass through score and renderer; this network takes the mean over the training frames for it, and so "
    "answers a little worse than the policy in its package"
)


def write_portable(
    out: Path, network: PortablePolicy, stored: StoredPolicy, scores: Judging, formats: Sequence[str]
) -> dict[str, Any]:
    """Write the network in each of `formats`, check each file against the policy, and write the manifest.

    Args:
        out: the folder.
        network: in evaluation mode.
        stored: the policy that it was made from.
        scores: its eye and score.
        formats: keys of `FILES`.

    Returns:
        The manifest, as JSON values.

    Raises:
        InputError: packages that a format needs are missing, or a file does not do what the policy does.
    """
    files = {}
    for kind in formats:
        path = out / FILES[kind]
        with atomic_path(path) as temporary:
            parity = {"onnx": _write_onnx, "torchscript": _write_torchscript}[kind](
                temporary, network, stored, scores
            )
            if not parity.largest_difference <= TOLERANCE:
                raise InputError(
                    f"the {kind} file differs from the policy by {parity.largest_difference:.2g} of half a "
                    "parameter's range, so it was not written; the policy was trained with another version?"
                )
        files[path.name] = {"sha256": file_digest(path), "parity": asdict(parity)}
    write_text(out / DRAWBACK, Path(drawback.__file__).read_text(encoding="utf-8"))
    manifest = describe(network, stored) | {"files": files, "versions": versions()}
    write_json(out / MANIFEST, manifest)
    return manifest


def describe(network: PortablePolicy, stored: StoredPolicy) -> dict[str, Any]:
    """What somebody needs who runs the network without this package, as JSON values."""
    height, width = network.size
    image = {"range": [0.0, 1.0], "layout": "NCHW, RGB", "color": "display sRGB, IEC 61966-2-1"}
    sizes = network.state_sizes | {"parameters": len(network.space)}

    def entry(name: str) -> dict[str, Any]:
        shape = (
            ["batch", 3, height, width] if name == "image" else ["batch", sizes[name.removeprefix("next_")]]
        )
        return {"name": name, "dtype": "float32", "shape": shape, "what": _WHAT[name]} | (
            image if name == "image" else {}
        )

    return {
        "format": FORMAT,
        "task": network.task,
        "steps": STEPS_AN_EPISODE[network.task],
        "procedure": "run once; render the raw with the parameters"
        if network.task == "tune"
        else "run `steps` times, each time on the raw rendered anew with the parameters of the time before; "
        "the training package keeps the parameters of the render that its reward likes best of them",
        "inputs": [entry(name) for name in network.inputs],
        "outputs": [entry(name) for name in network.outputs],
        "parameters": network.space.describe(),
        "draw_back": DRAW_BACK | {"reference": DRAWBACK, "what": _DRAW_BACK},
        **({"left_out": _LEFT_OUT} if network.reads_slopes else {}),
        "policy_digest": stored.digest,
        "algorithm": stored.card["network"]["algo"],
        "eye": stored.card["eye"],
        "reward": stored.card.get("reward"),
    }


def missing_for_onnx() -> str | None:
    """A sentence that names the packages which ONNX still needs; None where all are installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if _module(name) is None]
    if not missing:
        return None
    return f"ONNX needs {', '.join(missing)}: install with `pip install '.[onnx]'` in the checkout."


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _examples(network: PortablePolicy) -> tuple[torch.Tensor, ...]:
    """Inputs of the right shapes, two in a batch: a batch of one would be taken for the only one."""
    state = (torch.zeros(2, network.state_sizes[name]) for name in network.inputs[1:])
    return torch.rand(2, 3, *network.size), *state


def _write_torchscript(path: Path, network: PortablePolicy, stored: StoredPolicy, scores: Judging) -> Parity:
    # torch calls TorchScript deprecated; libtorch still is what C++ programs load without ONNX
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        torch.jit.trace(network, _examples(network), check_trace=False).save(str(path))
        loaded = torch.jit.load(str(path))

        def run(inputs: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor]:
            results: Sequence[torch.Tensor] = loaded(*(inputs[name] for name in network.inputs))
            return results

        return check_parity(run, network, stored, scores)


def _write_onnx(path: Path, network: PortablePolicy, stored: StoredPolicy, scores: Judging) -> Parity:
    sentence = missing_for_onnx()
    if sentence:
        raise InputError(sentence)
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()):  # its progress
        torch.onnx.export(
            network,
            _examples(network),
            path,
            input_names=network.inputs,
            output_names=network.outputs,
            dynamic_shapes=tuple({0: batch} for _ in network.inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        arrays = {name: inputs[name].numpy() for name in network.inputs}
        return [torch.from_numpy(result) for result in session.run(None, arrays)]

    return check_parity(run, network, stored, scores)
