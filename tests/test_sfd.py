"""SFD-IQA's scorer: its formula, that its critics learn, exact resuming, and what it writes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from attiqa.cli.pretrain import main as pretrain_main
from attiqa.clip.embedding import ClipEncoder, load_clip
from attiqa.clip.prompts import named_set
from attiqa.clip.sfd import SfdNetwork, build_sfd
from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.model import load
from attiqa.training.sfd import CropBatches, PromptPair, SuperResolver, train_against_super_resolution
from attiqa.training.store import Entry, list_entries
from attiqa.views import resize
from tests.pictures import write_corners
from tests.tiny_clip import RESNET, write_tiny_clip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny", vision=RESNET)


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> ClipEncoder:
    return load_clip(str(clip_folder))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corners(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def entries(photographs: Path) -> list[Entry]:
    return list_entries([photographs])


def _players(encoder: ClipEncoder, seed: int = 0) -> tuple[SfdNetwork, PromptPair, SuperResolver]:
    torch.manual_seed(seed)
    network = build_sfd(encoder, named_set("paper"), hidden=16)
    return network, PromptPair(encoder, 2), SuperResolver(width=8, blocks=1)


def test_the_score_is_the_mean_of_the_map_and_of_the_prompts_share(encoder: ClipEncoder) -> None:
    network, prompts, _ = _players(encoder)
    with torch.no_grad():
        network.prompt_pair.copy_(prompts())
        images = torch.rand(2, 3, 64, 96)
        logits, vectors = network.backbone.parts(images)
        attributes, quality = network(images)
    assert logits.shape[0] == 2
    assert logits.shape[1] == 1
    assert logits[0].numel() > 1
    good, bad = (encoder.logit_scale * vectors @ network.prompt_pair.T).T.exp()
    expected = (torch.sigmoid(logits).mean((1, 2, 3)) + good / (good + bad)) / 2
    torch.testing.assert_close(quality, expected)
    assert attributes.shape == (2, 5)


def test_the_resolver_starts_near_the_enlargement_and_has_four_times_the_size() -> None:
    small = torch.rand(1, 3, 8, 12)
    large = SuperResolver(width=8, blocks=2)(small)
    assert large.shape == (1, 3, 32, 48)
    assert float((large - resize(small, 32, 48)).detach().abs().mean()) < 0.3


def test_the_critics_learn_to_tell_photographs_that_they_never_saw(
    encoder: ClipEncoder, entries: list[Entry]
) -> None:
    network, prompts, resolver = _players(encoder)
    batches = CropBatches(entries[:3], batch=8, side=64)
    before = [parameter.clone() for parameter in resolver.parameters()]
    losses = train_against_super_resolution(
        network, prompts, resolver, batches, 50, learning_rate=1e-2, warmup=5
    )
    draw = 2 * math.log(2)
    assert np.mean(losses[-5:]) < draw < np.mean(losses[:5])
    assert any(not torch.equal(a, b) for a, b in zip(before, resolver.parameters(), strict=True))
    photograph = to_float(entries[3].read())[None]
    tiles = photograph.unfold(2, 64, 64).unfold(3, 64, 64).flatten(2, 3)[0].transpose(0, 1)  # (16, 3, 64, 64)
    with torch.inference_mode():
        made = resolver(resize(tiles, 16, 16))
        preferred = network(tiles)[1] > network(made)[1]
    assert preferred.float().mean() > 0.7


def test_a_killed_run_goes_on_exactly(encoder: ClipEncoder, entries: list[Entry], tmp_path: Path) -> None:
    batches = CropBatches(entries, batch=2, side=32)
    straight = _players(encoder)
    whole = train_against_super_resolution(*straight, batches, 4, learning_rate=1e-3)

    class KilledError(Exception):
        pass

    def kill(step: int, _: float) -> None:
        if step == 2:
            raise KilledError

    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        train_against_super_resolution(
            *_players(encoder), batches, 4, learning_rate=1e-3, state=state, state_every=2, report=kill
        )
    resumed = _players(encoder, seed=1)  # whatever it starts from, the state replaces it
    rest = train_against_super_resolution(
        *resumed, batches, 4, learning_rate=1e-3, state=state, state_every=2
    )
    assert rest == whole[2:]
    for key, value in straight[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[key], value), key


def test_the_command_writes_a_model_that_loads_and_scores_any_size(
    clip_folder: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--method", "sfd-iqa", str(photographs), "--out", str(tmp_path / "run"), "--device", "cpu"]
    arguments += ["--model", str(clip_folder), "--steps", "2", "--batch", "2", "--side", "32", "--words", "2"]
    assert pretrain_main([*arguments, "--validation", "0.25", "--hidden", "8", "--width", "8"]) == 0
    assert "held-out SROCC" in capsys.readouterr().out
    model = load(tmp_path / "run")
    for size in ((32, 32), (64, 150), (333, 200)):
        images = torch.rand(3, 3, *size)
        quality, attributes = model.assess(images, "full")
        assert attributes.shape == (3, 5)
        assert ((quality > 0) & (quality < 1)).all()
        torch.testing.assert_close(model.score(images[1:2], "full")[0], quality[1], atol=1e-5, rtol=0)
    assert model.describe()["architecture"]["kind"] == "sfd-iqa"


def test_wrong_material_is_a_sentence(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vit = write_tiny_clip(tmp_path / "vit")
    with pytest.raises(InputError, match="image tower is no ResNet"):
        build_sfd(load_clip(str(vit)), named_set("paper"))
    common = ["--method", "sfd-iqa", str(photographs), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert pretrain_main([*common, "--model", str(vit), "--side", "34"]) == 2
    assert "--side is a multiple of 4" in capsys.readouterr().err
    assert pretrain_main([*common, "--model", str(vit), "--batch", "0"]) == 2
    assert "--batch is 1 or more" in capsys.readouterr().err
