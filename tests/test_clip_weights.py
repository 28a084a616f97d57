"""Where CLIP weights come from, and that OpenAI's are never run with the wrong activation."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from attiqa.clip import weights as weights_module
from attiqa.clip.embedding import build_encoder, load_clip
from attiqa.clip.weights import find_weights, local_weights_path
from attiqa.errors import InputError
from tests.tiny_clip import CONFIG, write_tiny_clip


def _file(path: Path, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"logit_scale": torch.zeros(())}, path, metadata)
    return path


@pytest.mark.parametrize(
    "place",
    [
        "ViT-B-16.openai.safetensors",
        "vit_b_16-openai/open_clip_model.safetensors",
        "models--timm--vit_base_patch16_clip_224.openai/snapshots/0f/open_clip_model.safetensors",
        "models--apple--DFN2B-CLIP-ViT-B-16/snapshots/0f/open_clip_model.safetensors",
    ],
)
def test_weights_whose_name_tells_their_tag_get_quick_gelu_under_the_plain_name(
    tmp_path: Path, place: str
) -> None:
    found = find_weights("ViT-B-16", weights=_file(tmp_path / place))
    assert found.quick_gelu
    assert "QuickGELU because" in found.note


def test_a_laion_file_under_the_default_quickgelu_name_gets_plain_gelu(tmp_path: Path) -> None:
    path = _file(tmp_path / "CLIP-ViT-B-16-laion2B-s34B-b88K.safetensors")
    found = find_weights("ViT-B-16-quickgelu", weights=path)
    assert not found.quick_gelu
    assert found.tag == "laion2b_s34b_b88k"


def test_the_file_name_counts_before_its_folder(tmp_path: Path) -> None:
    path = _file(tmp_path / "openai" / "ViT-B-16-laion2b_s34b_b88k.safetensors")
    assert find_weights("ViT-B-16", weights=path).tag == "laion2b_s34b_b88k"


def test_metadata_and_side_config_settle_the_activation(tmp_path: Path) -> None:
    assert find_weights(
        "ViT-B-16", weights=_file(tmp_path / "a.safetensors", {"quick_gelu": "true"})
    ).quick_gelu
    beside = _file(tmp_path / "b" / "model.safetensors")
    (beside.parent / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert find_weights("ViT-B-16", weights=beside).quick_gelu


def test_weights_of_unknown_origin_are_refused_under_the_plain_name_until_the_user_says(
    tmp_path: Path,
) -> None:
    path = _file(tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match="--activation quickgelu"):
        find_weights("ViT-B-16", weights=path)
    assert find_weights("ViT-B-16", weights=path, activation="quickgelu").quick_gelu
    assert not find_weights("ViT-B-16", weights=path, activation="gelu").quick_gelu
    assert find_weights("ViT-B-16-quickgelu", weights=path).quick_gelu


def test_a_tag_trained_with_quick_gelu_forces_it_on_the_plain_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTIQA_CACHE", str(tmp_path))
    path = _file(local_weights_path("ViT-B-16", "openai"))
    found = find_weights("ViT-B-16", "openai")
    assert found.path == path
    assert found.quick_gelu
    assert find_weights("ViT-B-16-quickgelu", "openai").path == path


def test_preprocessing_comes_with_the_tag_of_a_local_file(tmp_path: Path) -> None:
    found = find_weights("ViT-B-16-SigLIP", weights=_file(tmp_path / "mine.safetensors"))
    assert found.preprocess["mean"] == (0.5, 0.5, 0.5)
    assert found.preprocess["resize_mode"] == "squash"


def test_without_network_or_file_one_sentence_says_what_to_bring_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError(None, "Network is unreachable")

    monkeypatch.setenv("ATTIQA_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights_module.socket, "create_connection", unreachable)
    monkeypatch.setattr(weights_module.urllib.request, "getproxies", dict)
    with pytest.raises(InputError) as caught:
        find_weights("ViT-B-16-quickgelu", "openai")
    sentence = str(caught.value)
    assert "Network is unreachable" in sentence
    assert (
        "open_clip_model.safetensors from https://huggingface.co/timm/vit_base_patch16_clip_224.openai"
        in sentence
    )
    assert str(tmp_path / "ViT-B-16.openai.safetensors") in sentence
    assert "--weights" in sentence
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        find_weights("hf-hub:timm/none")


@pytest.mark.filterwarnings(
    "ignore::FutureWarning"
)  # torch.jit is deprecated; OpenAI's files are not going away
def test_what_would_run_code_or_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "ViT-B-16.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(script))
    with pytest.raises(InputError, match="TorchScript archive"):
        find_weights("ViT-B-16-quickgelu", weights=script)
    pickled = tmp_path / "openai.pt"
    torch.save({"state_dict": Path("x")}, pickled)
    with pytest.raises(InputError, match="objects other than tensors"):
        load_clip(str(write_tiny_clip(tmp_path / "tiny")), weights=pickled)
    broken = tmp_path / "half.safetensors"
    broken.write_bytes(_file(tmp_path / "whole.safetensors").read_bytes()[:20])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        find_weights("ViT-B-16-quickgelu", weights=broken)
    with pytest.raises(InputError, match="is not a file"):
        find_weights("ViT-B-16-quickgelu", weights=tmp_path / "absent.safetensors")
    (tmp_path / "a.npz").touch()
    with pytest.raises(InputError, match=r"ends in '\.npz'"):
        find_weights("ViT-B-16-quickgelu", weights=tmp_path / "a.npz")


def test_unknown_names_and_tags_are_answered_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ViT-B-16"):
        find_weights("ViT-B16")
    with pytest.raises(InputError, match="laion2b_s34b_b88k"):
        find_weights("ViT-B-16", "opanai")
    with pytest.raises(InputError, match=r"open_clip_config\.json"):
        find_weights(str(tmp_path))


def test_weights_of_another_architecture_are_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "tiny")
    other = tmp_path / "other.safetensors"
    save_file({"logit_scale": torch.zeros(())}, other)
    with pytest.raises(InputError, match="does not fit the model"):
        load_clip(str(folder), weights=other)


def test_forced_quick_gelu_gives_the_embeddings_of_the_reference_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain architecture name, weights trained with QuickGELU, and CLIP's forward pass written out."""
    trained = write_tiny_clip(tmp_path / "trained", quick_gelu=True) / "open_clip_model.safetensors"
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    path = tmp_path / "tiny.safetensors"
    save_file(load_file(trained), path, {"quick_gelu": "true"})
    pixels = torch.rand(3, 1, 3, 32, 32)
    expected_images = _reference_images(load_file(path), pixels[:, 0])
    tokens = open_clip.get_tokenizer("tiny")(["Splendid image", "Blurry image"])
    expected_texts = _reference_texts(load_file(path), tokens)

    encoder = load_clip("tiny", weights=path)
    torch.testing.assert_close(encoder.embed_windows(pixels), expected_images, atol=1e-5, rtol=0)
    texts = encoder.embed_texts(["Splendid image", "Blurry image"])
    torch.testing.assert_close(texts, expected_texts, atol=1e-5, rtol=0)
    plain = build_encoder(find_weights("tiny", weights=path, activation="gelu"))
    assert (plain.embed_windows(pixels) - expected_images).abs().max() > 1e-3


def test_a_folder_that_moved_gives_the_same_identity(tmp_path: Path) -> None:
    first = write_tiny_clip(tmp_path / "a" / "tiny")
    shutil.copytree(first, tmp_path / "b" / "tiny")
    assert load_clip(str(first)).identity == load_clip(str(tmp_path / "b" / "tiny")).identity


def _reference_images(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    x = F.conv2d((pixels - mean) / std, state["visual.conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
    x = _norm(x + state["visual.positional_embedding"], state, "visual.ln_pre")
    for block in range(2):
        x = _block(x, state, f"visual.transformer.resblocks.{block}", heads=2)
    return F.normalize(_norm(x[:, 0], state, "visual.ln_post") @ state["visual.proj"], dim=-1)


def _reference_texts(state: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    mask = torch.full((tokens.shape[1],) * 2, -math.inf).triu(1)
    x = _norm(_block(x, state, "transformer.resblocks.0", heads=2, mask=mask), state, "ln_final")
    ends = x[torch.arange(len(x)), tokens.argmax(dim=1)]
    return F.normalize(ends @ state["text_projection"], dim=-1)


def _block(
    x: torch.Tensor, state: dict[str, torch.Tensor], name: str, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    query, key, value = F.linear(
        _norm(x, state, f"{name}.ln_1"),
        state[f"{name}.attn.in_proj_weight"],
        state[f"{name}.attn.in_proj_bias"],
    ).chunk(3, dim=-1)
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]  # (B, h, T, d)
    weight = split[0] @ split[1].transpose(2, 3) / math.sqrt(split[0].shape[-1])
    weight = (weight if mask is None else weight + mask).softmax(dim=-1)
    mixed = (weight @ split[2]).transpose(1, 2).flatten(2)
    x = x + _linear(mixed, state, f"{name}.attn.out_proj")
    hidden = _linear(_norm(x, state, f"{name}.ln_2"), state, f"{name}.mlp.c_fc")
    return x + _linear(hidden * torch.sigmoid(1.702 * hidden), state, f"{name}.mlp.c_proj")


def _linear(x: torch.Tensor, state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(x: torch.Tensor, state: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
