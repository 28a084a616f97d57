"""The whole state of a training run in one safetensors file: tensors, and JSON in its header.

Networks, optimizers, replay memory, random generators, environment and counters: a run that continues
from it on the CPU ends exactly as the unbroken one. Reading it runs no code.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.policy_file import load_weights
from attiqa.errors import InputError
from attiqa.files import atomic_path

FORMAT = "attiqa-run-2"
Tensors = dict[str, torch.Tensor]

# of DQN: steps since its target was last copied, and the share of actions that are drawn
_COUNTED = ("_n_calls", "exploration_rate")
_REPLAY = ("actions", "rewards", "dones", "timeouts")


def save_checkpoint(path: Path, model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Write `model` and `state` (JSON values of the caller's own) atomically to `path`."""
    tensors = _parameters(model) | _generators() | _last_observation(model)
    counters: dict[str, Any] = {
        "num_timesteps": model.num_timesteps,
        "n_updates": getattr(model, "_n_updates", 0),
        "action_space": model.action_space.np_random.bit_generator.state,
        "python": _plain(random.getstate()),
        "numpy": _numpy_counters(),
        "own": {name: getattr(model, name) for name in _COUNTED if hasattr(model, name)},
    }
    if isinstance(model, OffPolicyAlgorithm):
        tensors |= _replay(model)
        counters["replay"] = {"pos": model.replay_buffer.pos, "full": model.replay_buffer.full}  # type: ignore[union-attr]
    header = {"format": FORMAT, "counters": counters, "state": state}
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, {"attiqa": json.dumps(header)})


def read_state(path: Path) -> dict[str, Any]:
    """The caller's own `state` in a checkpoint, without the tensors."""
    return _header(path)["state"]


def load_checkpoint(path: Path, model: BaseAlgorithm) -> None:
    """Put `model`, built with the same arguments, and the global generators into the stored state.

    Raises:
        InputError: no checkpoint, an incomplete one, or one of another architecture.
    """
    counters = _header(path)["counters"]
    try:
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete checkpoint ({error}).") from None
    load_weights(model.policy, _under(tensors, "policy/"), path)
    try:
        _restore_parameters(model, tensors)
        model.num_timesteps = counters["num_timesteps"]
        model._n_updates = counters["n_updates"]
        for name, value in counters.get("own", {}).items():
            setattr(model, name, value)
        observation = _under(tensors, "last_observation.")
        model._last_obs = {key: value.numpy() for key, value in observation.items()} or None
        model._last_episode_starts = tensors["last_episode_starts"].numpy()
        if isinstance(model, OffPolicyAlgorithm):
            _restore_replay(model, tensors, counters["replay"])
        model.action_space.np_random.bit_generator.state = counters["action_space"]
        _restore_generators(tensors, counters)
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} does not fit this run ({error}); resume with the run's own options."
        ) from None


def check_checkpoint(path: Path) -> None:
    """Raise `InputError` where there is no checkpoint."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; there is no checkpoint to resume from.")


def _header(path: Path) -> dict[str, Any]:
    check_checkpoint(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["attiqa"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a complete checkpoint of a training run ({error!r}).") from None
    if header.get("format") != FORMAT:
        raise InputError(f"{path} has the format {header.get('format')!r}; this version reads {FORMAT}.")
    return header


def _parameters(model: BaseAlgorithm) -> Tensors:
    """Networks and optimizers by SB3's own list of what must be saved."""
    tensors: Tensors = {}
    for name, state in model.get_parameters().items():
        if name.endswith("optimizer"):
            for number, slots in state["state"].items():
                for slot, value in slots.items():
                    tensors[f"{name}/{number}/{slot}"] = torch.as_tensor(value)
        else:
            tensors |= {f"{name}/{key}": value for key, value in state.items()}
    for name in model._get_torch_save_params()[1]:
        if getattr(model, name) is not None:
            tensors[f"variable.{name}"] = getattr(model, name)
    return {key: value.detach().cpu().clone() for key, value in tensors.items()}


def _restore_parameters(model: BaseAlgorithm, tensors: Tensors) -> None:
    states: Any = model.get_parameters()
    for name, state in states.items():
        if name.endswith("optimizer"):
            slots: dict[int, Tensors] = {}
            for key, value in _under(tensors, f"{name}/").items():
                number, slot = key.split("/")
                slots.setdefault(int(number), {})[slot] = value
            state["state"] = slots
        else:
            states[name] = _under(tensors, f"{name}/")
    model.set_parameters(states, exact_match=True, device=model.device)
    for name in model._get_torch_save_params()[1]:
        if getattr(model, name) is not None:
            getattr(model, name).data.copy_(tensors[f"variable.{name}"])


def _last_observation(model: BaseAlgorithm) -> Tensors:
    observation: Any = model._last_obs
    starts = model._last_episode_starts
    found = {f"last_observation.{key}": _tensor(value) for key, value in (observation or {}).items()}
    return found | {"last_episode_starts": _tensor(np.zeros(0, bool) if starts is None else starts)}


def _replay(model: OffPolicyAlgorithm) -> Tensors:
    buffer: Any = model.replay_buffer
    rows = buffer.buffer_size if buffer.full else buffer.pos
    return {name: _tensor(values[:rows]) for name, values in _memory(buffer).items()}


def _restore_replay(model: OffPolicyAlgorithm, tensors: Tensors, counters: dict[str, Any]) -> None:
    buffer: Any = model.replay_buffer
    for name, target in _memory(buffer).items():
        if counters["full"] and len(tensors[name]) != len(target):
            raise ValueError(f"its memory keeps {len(tensors[name])} steps, this version's {len(target)}")
        target[: len(tensors[name])] = tensors[name].numpy()
    buffer.pos, buffer.full = counters["pos"], counters["full"]


def _memory(buffer: Any) -> dict[str, np.ndarray]:
    """The arrays of a replay buffer, with a row a step, by name."""
    found = {f"replay.{name}": getattr(buffer, name) for name in _REPLAY}
    for name in ("observations", "next_observations"):
        seen = getattr(buffer, name, None)  # some keep no next observation
        if isinstance(seen, dict):
            found |= {f"replay.{name}.{key}": values for key, values in seen.items()}
        elif seen is not None:
            found[f"replay.{name}"] = seen
    return found


def _generators() -> Tensors:
    found = {"torch": torch.get_rng_state(), "numpy": _tensor(_numpy_words())}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return {f"generator.{key}": value for key, value in found.items()}


def _restore_generators(tensors: Tensors, counters: dict[str, Any]) -> None:
    torch.set_rng_state(tensors["generator.torch"])
    if torch.cuda.is_available() and "generator.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    position, has_gauss, cached = counters["numpy"]
    np.random.set_state(("MT19937", tensors["generator.numpy"].numpy(), position, has_gauss, cached))
    version, words, gauss = counters["python"]
    random.setstate((version, tuple(words), gauss))


def _numpy_words() -> Any:
    state: Any = np.random.get_state(legacy=True)
    return state[1]


def _numpy_counters() -> list[Any]:
    state: Any = np.random.get_state(legacy=True)
    _, _, position, has_gauss, cached = state
    return [int(position), int(has_gauss), float(cached)]


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values).copy())


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
