"""Very large sets on Ray Data (extra ``ray``): the work of one machine, spread over a cluster's actors.

Ray plans, moves data and restarts what dies; we write no scheduler of our own. A cluster is joined where
``RAY_ADDRESS`` names one, else this machine becomes one. Files are named by path, so every node must see them
under the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attiqa.devices import pick_device
from attiqa.errors import InputError
from attiqa.model import QualityModel, bundled_models, load
from attiqa.scoring import ScoredImage, score_files

ENGINES = ("local", "ray")

Columns = dict[str, NDArray[Any]]

# a list of this many paths becomes one data set: the driver never holds a row for each image of a huge set
_PATHS_AT_ONCE = 2**20
_BATCHES_A_BLOCK = 8


def score_files_on_ray(
    model: QualityModel,
    name: str | Path,
    paths: Sequence[Path],
    *,
    crops: str = "whole",
    batch: int = 32,
    workers: int = 0,
    device: str = "auto",
) -> Iterator[ScoredImage]:
    """As `attiqa.scoring.score_files`, in order and as a stream, on the actors of a Ray cluster.

    Args:
        model: what scores; the actors must load the same, by digest.
        name: by which they load it: as `attiqa.load` takes it, a file on storage that every node sees.
        paths: image files.
        crops, batch: as `score_files`.
        workers: actors; 0 takes one for each processor of the cluster, or for each GPU that is used.
        device: of each actor, as `attiqa.devices.pick_device`; ``auto`` takes GPUs where there are any.

    Raises:
        InputError: Ray is not installed, or its cluster cannot be reached.
    """
    local = Path(name)
    where = str(local.absolute()) if str(name) not in bundled_models() and local.exists() else str(name)
    arguments = {"name": where, "digest": model.digest, "crops": crops, "batch": batch}
    for columns in map_files(paths, _Scorer, arguments, batch=batch, workers=workers, device=device):
        for path, score, attributes, error in zip(*columns.values(), strict=True):
            values = () if error else tuple(map(float, attributes))
            yield ScoredImage(Path(str(path)), float(score), values, str(error))


class _Scorer:
    """An actor that holds a model and scores batches of paths."""

    def __init__(self, name: str, digest: str, crops: str, batch: int, device: str) -> None:
        self.model = load(name, device=pick_device(device))
        if self.model.digest != digest:
            raise InputError(f"{name} is another model on this node than where the run started.")
        self.crops, self.batch = crops, batch

    def __call__(self, rows: Columns) -> Columns:
        paths = [Path(str(path)) for path in rows["path"]]
        results = list(score_files(self.model, paths, crops=self.crops, batch=self.batch, workers=1))
        unknown = (float("nan"),) * len(self.model.attribute_names)
        return {
            "path": rows["path"],
            "score": np.array([result.score for result in results]),
            "attributes": np.array([result.attributes or unknown for result in results]),
            "error": np.array([result.error for result in results]),
        }


def map_files(
    paths: Sequence[Path],
    actor: type,
    arguments: Mapping[str, Any],
    *,
    batch: int,
    workers: int,
    device: str,
) -> Iterator[Columns]:
    """Call ``actor(**arguments, device=...)`` on batches ``{"path": (B,)}`` of paths, in order.

    Yields:
        what the actor returned, as NumPy columns of some rows each.

    Raises:
        InputError: Ray is not installed, cannot be reached, or has no GPU where one is asked for.
    """
    ray = start_ray()
    gpus = int(ray.cluster_resources().get("GPU", 0)) if device == "auto" or "cuda" in device else 0
    if "cuda" in device and not gpus:
        raise InputError(f"the Ray cluster has no GPU for --device {device}; take --device cpu.")
    size = workers or gpus or int(ray.cluster_resources().get("CPU", 1))
    for start in range(0, len(paths), _PATHS_AT_ONCE):
        part = [{"path": str(path)} for path in paths[start : start + _PATHS_AT_ONCE]]
        batches = -(-len(part) // batch)
        blocks = max(min(size, batches), batches // _BATCHES_A_BLOCK)
        rows = ray.data.from_items(part, override_num_blocks=blocks).map_batches(
            actor,
            fn_constructor_kwargs={**arguments, "device": device if gpus else "cpu"},
            batch_size=batch,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(size, batches)),
            num_gpus=1 if gpus else None,
        )
        yield from rows.iter_batches(batch_size=None, batch_format="numpy")


def start_ray() -> Any:
    """Import Ray Data and join or start a cluster; raises `InputError` in a sentence where there is none."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError(
            '--engine ray needs Ray Data, which is not installed; run `pip install "attiqa[ray]"`, '
            "or take --engine local."
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            raise InputError(f"no Ray cluster could be reached or started ({error}).") from None
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False  # ours counts images
    return ray
