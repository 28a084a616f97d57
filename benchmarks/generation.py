"""Pairs of generated images to be judged: one prompt, two seeds, resumable, every seed on record."""

from __future__ import annotations

import csv
import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from attiqa.errors import InputError
from attiqa.files import atomic_path
from attiqa.progress import progress_bar
from benchmarks.pairs import COLUMNS

# (prompt, seed) -> picture
Generator = Callable[[str, int], Image.Image]


@dataclass(frozen=True)
class PlannedPair:
    """Two pictures of one prompt that are to be made."""

    prompt: str
    image_a: str
    image_b: str
    seed_a: int
    seed_b: int


def read_prompts(path: Path) -> list[str]:
    """One prompt a line; empty lines and lines that begin with # are passed over."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a text file with one prompt a line.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    twice = sorted({prompt for prompt in prompts if prompts.count(prompt) > 1})
    if twice:
        raise InputError(f"{path} has a prompt more than once: {twice[0]!r}.")
    if not prompts:
        raise InputError(f"{path} holds no prompt; expected one a line.")
    return prompts


def plan(prompts: Sequence[str], pairs_per_prompt: int, seed: int) -> list[PlannedPair]:
    """All pairs of a run; a picture's seed comes from its prompt, place and `seed`, not its neighbours."""
    if pairs_per_prompt < 1:
        raise InputError(f"--pairs-per-prompt is 1 or more; it is {pairs_per_prompt}.")
    pairs = []
    for prompt in prompts:
        stem = hashlib.sha256(prompt.encode()).hexdigest()[:12]
        for number in range(pairs_per_prompt):
            seeds = [_seed(prompt, 2 * number + side, seed) for side in range(2)]
            name_a, name_b = (f"images/{stem}-{picture:010d}.png" for picture in seeds)
            pairs.append(PlannedPair(prompt, name_a, name_b, seeds[0], seeds[1]))
    return pairs


def generate(pairs: Sequence[PlannedPair], generator: Generator, folder: Path) -> int:
    """Make the pictures that are not there yet; returns how many were made."""
    wanted = {name: (prompt, seed) for prompt, name, seed in _pictures(pairs)}
    todo = {name: job for name, job in wanted.items() if not (folder / name).is_file()}
    for name, (prompt, seed) in progress_bar(todo.items(), "pictures"):
        with atomic_path(folder / name) as temporary:
            generator(prompt, seed).save(temporary)
    return len(todo)


def write_to_rate(path: Path, pairs: Sequence[PlannedPair]) -> None:
    """Write ``pairs.csv`` with its vote columns empty, for people to fill, and the seeds after them."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "ties", "seed_a", "seed_b"])
        for pair in pairs:
            writer.writerow([pair.prompt, pair.image_a, pair.image_b, "", "", "", pair.seed_a, pair.seed_b])


def diffusion_generator(
    model: str, *, device: str, steps: int, guidance: float, size: int | None
) -> tuple[Generator, dict[str, Any]]:
    """A text-to-image pipeline of `diffusers`, and what a record should say of it.

    Args:
        model: a local folder or a hub id; only safetensors are loaded, so no code of the checkpoint runs.
        device: where it runs.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        size: height and width in pixels; ``None`` takes the model's own.
    """
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError:
        raise InputError(
            "making pairs needs diffusers; install it with `pip install '.[diffusion]'` in the checkout."
        ) from None
    dtype = torch.float32 if device == "cpu" else torch.float16
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:  # the hub client's errors are OSErrors
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{model} is no diffusers checkpoint that can be loaded here ({reason}).") from None
    pipeline = pipeline.to(device)
    options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": guidance}
    options |= {} if size is None else {"height": size, "width": size}

    def make(prompt: str, seed: int) -> Image.Image:
        # the CPU's generator gives the same noise whatever the device
        noise = torch.Generator("cpu").manual_seed(seed)
        return pipeline(prompt, generator=noise, **options).images[0]

    return make, {"model": model, "diffusers": diffusers.__version__, "dtype": str(dtype), **options}


def _pictures(pairs: Sequence[PlannedPair]) -> Iterator[tuple[str, str, int]]:
    for pair in pairs:
        yield pair.prompt, pair.image_a, pair.seed_a
        yield pair.prompt, pair.image_b, pair.seed_b


def _seed(prompt: str, place: int, seed: int) -> int:
    digest = hashlib.sha256(f"{seed} {place} {prompt}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
