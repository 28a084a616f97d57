"""A CLIP of a few thousand random weights, in the folder form that open_clip reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}

# a tower of the ResNet form, whose features are maps
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


def write_tiny_clip(
    folder: Path, *, quick_gelu: bool = False, seed: int = 0, vision: dict[str, Any] | None = None
) -> Path:
    """Write ``open_clip_config.json`` and ``open_clip_model.safetensors``; returns `folder`."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    build = {**CONFIG, "quick_gelu": quick_gelu} | ({"vision_cfg": vision} if vision else {})
    model = open_clip.CLIP(**build)
    # initial weights are too small for the two activations to differ much
    state = {
        name: value.contiguous() * (3 if value.ndim > 1 else 1) for name, value in model.state_dict().items()
    }
    save_file(state, folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": build,
        "preprocess_cfg": {"interpolation": "bicubic"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
