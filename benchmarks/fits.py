"""Fitting a model to ratings on some images and predicting others: by fine-tuning, or by a linear probe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import attiqa
from attiqa.checkpoint import load_checkpoint
from attiqa.datasets.rated import RatedSet
from attiqa.errors import InputError
from attiqa.files import atomic_path
from attiqa.images import read_image, to_float
from attiqa.model import find_weights
from attiqa.nn.network import AttributeNetwork
from attiqa.progress import progress_bar
from attiqa.scoring import read_ahead
from attiqa.training.finetuning import RatedImages, finetune
from attiqa.views import CROP_SIDE, SHORT_SIDE
from benchmarks.records import names_digest
from benchmarks.scorers import identity

Vector = NDArray[np.float64]
Rows = NDArray[np.int64]

FITS = ("finetune", "linear-probe")

# ridge penalties that each split chooses from, by cross-validation over its own training groups
_PENALTIES = np.logspace(0, 5, 11)


@dataclass(frozen=True)
class Predicted:
    """What a fit says of the images that it was not fitted on.

    Attributes:
        values: ``(T,)`` predicted ratings, higher is better; NaN for unreadable images.
        fitted_on: training images that could be read.
    """

    values: Vector
    fitted_on: int


class Fit(Protocol):
    """A way to fit a model to ratings."""

    @property
    def label(self) -> str:
        """What tables call it."""

    def describe(self) -> Mapping[str, Any]:
        """Everything that its results depend on, beside model, images and split, as JSON values."""

    def predict(self, model: str, train: RatedSet, rows: Rows, test: RatedSet, tested: Rows) -> Predicted:
        """Fit `model` to the images `rows` of `train`, predict the images `tested` of `test`."""

    def seconds(self, model: str, train: RatedSet, test: RatedSet, fraction: float) -> float:
        """About how long a fit to `fraction` of `train` takes, from the time that a few images take."""

    @property
    def shared(self) -> bool:
        """Whether all splits of a set together take no longer than one."""


@dataclass(frozen=True)
class LinearProbe:
    """Ridge regression from frozen, pooled backbone features: the paper's Table 6, and the quick form.

    Attributes:
        device: where the backbone runs.
        view: what it sees of an image.
        folder: keeps the features, so that only a first fit computes them.
    """

    device: str
    view: str
    folder: Path

    @property
    def label(self) -> str:
        return "linear probe"

    def describe(self) -> dict[str, Any]:
        return {"fit": self.label, "view": self.view}

    @property
    def shared(self) -> bool:
        return True  # the features are the work

    def predict(self, model: str, train: RatedSet, rows: Rows, test: RatedSet, tested: Rows) -> Predicted:
        features = image_features(train, model, self.device, self.view, self.folder)
        rows = rows[np.isfinite(features[rows]).all(axis=1)]
        probe = linear_probe(features[rows], train.mos[rows], _enough(train, rows))
        if test is not train:
            features = image_features(test, model, self.device, self.view, self.folder)
        values = np.full(len(tested), np.nan)
        here = np.isfinite(features[tested]).all(axis=1)
        values[here] = probe.predict(features[tested[here]])
        return Predicted(values, len(rows))

    def seconds(self, model: str, train: RatedSet, test: RatedSet, fraction: float) -> float:
        loaded = attiqa.load(model, device=self.device)
        times = []
        for path in train.paths[:3]:
            start = time.monotonic()
            try:
                loaded.features(to_float(read_image(path))[None], self.view)
            except InputError:
                continue  # the run itself counts unreadable images
            times.append(time.monotonic() - start)
        return float(np.median(times)) * (len(train) + len(test) * (test is not train)) if times else 0.0


@dataclass(frozen=True)
class FineTune:
    """The paper's protocol (3.5, 4.1): short side 340, random 320 crops, five crops at test.

    Attributes:
        device: where it trains.
        folder: keeps what is finished, and the state of what is not, so that a stopped run goes on.
        epochs, batch, learning_rate, seed: as `attiqa.training.finetuning.finetune`.
        crop, short_side: pixels; the paper's unless a test wants less.
    """

    device: str
    folder: Path
    epochs: int = 100
    batch: int = 16
    learning_rate: float = 1e-4
    seed: int = 0
    crop: int = CROP_SIDE
    short_side: int = SHORT_SIDE
    _decoded: dict[str, RatedImages] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        return f"fine-tuned, {self.epochs} epoch{'s' if self.epochs > 1 else ''}"

    def describe(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in ("epochs", "batch", "learning_rate", "seed")}
        return {"fit": "finetune", **settings, "crop": self.crop, "short_side": self.short_side}

    @property
    def shared(self) -> bool:
        return False

    def predict(self, model: str, train: RatedSet, rows: Rows, test: RatedSet, tested: Rows) -> Predicted:
        weights = find_weights(model)
        network, card = load_checkpoint(weights)
        sides = [f"{s.name} {names_digest(s.names[r])}" for s, r in ((train, rows), (test, tested))]
        key = identity(card["digest"], *sides, *(f"{k}={v}" for k, v in self.describe().items()))
        finished = self.folder / f"finetuned-{key[:16]}.npz"
        if finished.is_file():
            with np.load(finished, allow_pickle=False) as kept:
                return Predicted(kept["values"], int(kept["fitted_on"]))
        training, readable = _subset(self._images(train), rows)
        _enough(train, readable)
        state = finished.with_suffix(".safetensors")
        renew_regressor(network, self.seed)
        finetune(
            network.to(self.device),
            training,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            side=self.crop,
            seed=self.seed,
            state=state,
        )
        values = np.full(len(tested), np.nan)
        images, found = _subset(self._images(test), tested)
        values[np.isin(tested, found)] = images.five_crop_scores(network, self.crop)
        with atomic_path(finished) as temporary:
            np.savez(temporary, allow_pickle=False, values=values, fitted_on=np.array(len(training)))
        state.unlink(missing_ok=True)  # a network for each split would fill the disk
        return Predicted(values, len(training))

    def seconds(self, model: str, train: RatedSet, test: RatedSet, fraction: float) -> float:
        network, _ = load_checkpoint(find_weights(model))
        network.to(self.device).to(memory_format=torch.channels_last).train()
        crops = torch.rand(4, 3, self.crop, self.crop, device=self.device)
        start = time.monotonic()
        network(crops)[1].sum().backward()
        one = (time.monotonic() - start) / len(crops)
        # each tested image has five crops, and a forward pass alone takes a third of the time
        return one * (len(train) * fraction * self.epochs + len(test) * 5 / 3)

    def _images(self, rated: RatedSet) -> RatedImages:
        """The set in memory, decoded once."""
        if rated.name not in self._decoded:
            self._decoded[rated.name] = RatedImages(rated.paths, rated.unit_mos, self.short_side)
        return self._decoded[rated.name]


def renew_regressor(network: AttributeNetwork, seed: int) -> None:
    """Start the regressor anew, as section 3.5 does: a finished model's own may know the tested ratings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.regressor.mlp:
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    nn.init.zeros_(network.regressor.linear.weight)


def linear_probe(features: Vector, ratings: Vector, groups: NDArray) -> GridSearchCV:
    """Ridge regression on standardised features; the penalty is chosen on the training groups alone."""
    pipeline = make_pipeline(StandardScaler(), Ridge())
    folds = GroupKFold(min(5, len(set(groups))))
    search = GridSearchCV(pipeline, {"ridge__alpha": _PENALTIES}, cv=folds, scoring="neg_mean_squared_error")
    return search.fit(features, ratings, groups=groups)


def image_features(rated: RatedSet, name: str, device: str, view: str, folder: Path) -> Vector:
    """``(N, D)`` pooled backbone features; NaN for unreadable images; read back from an earlier run."""
    model = attiqa.load(name, device=device)
    pairs = zip(rated.names, rated.paths, strict=True)
    images = names_digest(f"{image}:{path.stat().st_size}" for image, path in pairs)
    path = folder / f"features-{identity(model.digest, view, images)[:16]}.npy"
    if path.is_file():
        return np.load(path, allow_pickle=False)
    rows: list[Vector | None] = []
    decoded = read_ahead(rated.paths, read_image, workers=2, ahead=4)
    for _, image in progress_bar(decoded, f"{name} features", total=len(rated)):
        unreadable = isinstance(image, InputError)
        rows.append(
            None if unreadable else model.features(to_float(image)[None], view)[0].cpu().double().numpy()
        )
    width = next((len(row) for row in rows if row is not None), 1)
    features = np.stack([np.full(width, np.nan) if row is None else row for row in rows])
    with atomic_path(path) as temporary:
        np.save(temporary, features)
    return features


def _subset(images: RatedImages, rows: Rows) -> tuple[RatedImages, Rows]:
    """The readable images among `rows`, and which those are."""
    place = {row: position for position, row in enumerate(images.rows)}
    found = np.array([row for row in rows.tolist() if row in place], dtype=np.int64)
    return images.subset(np.array([place[row] for row in found.tolist()], dtype=np.int64)), found


def _enough(train: RatedSet, rows: Rows) -> NDArray[np.str_]:
    """The groups of the training images; a fit needs two of them."""
    groups = train.groups[rows]
    if len(set(groups)) < 2:
        raise InputError(
            f"{train.name}: {len(rows)} readable training images of {len(set(groups))} groups are too few "
            "for a fit; use more data."
        )
    return groups
