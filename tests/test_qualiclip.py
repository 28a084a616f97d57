"""QualiCLIP: its losses and batches, that it learns on a tiny CLIP; what it writes loads and scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attiqa.checkpoint import card_path, load_checkpoint
from attiqa.cli.pretrain import main as pretrain_main
from attiqa.clip.clipiqa import BAD, GOOD, ClipIqa
from attiqa.clip.embedding import ClipEncoder, load_clip
from attiqa.clip.prompted import PromptedNetwork, build_prompted
from attiqa.clip.prompts import named_set
from attiqa.errors import InputError
from attiqa.model import load
from attiqa.training.crop_pairs import CropPairBatches, overlapping_crops
from attiqa.training.processes import Processes
from attiqa.training.qualiclip import PAIRS, crop_pair_loss, fine_tune, level_agreement
from attiqa.training.store import Entry, list_entries
from tests.pictures import write_corners
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> ClipEncoder:
    return load_clip(str(clip_folder))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corners(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def entries(photographs: Path) -> list[Entry]:
    return list_entries([photographs])


def _network(encoder: ClipEncoder) -> PromptedNetwork:
    return build_prompted(encoder, PAIRS, named_set("paper"))


def test_the_loss_is_the_three_margins_written_out() -> None:
    similarities = 0.1 * torch.randn(2, 3, 2, 4, 2, generator=torch.Generator().manual_seed(0))
    apart, up, down = [], [], []
    for scene in similarities.tolist():
        for level in scene:
            for good, bad in zip(*level, strict=True):  # the same prompt pair of both crops
                apart += [max(0, abs(good[side] - bad[side]) - 0.02) for side in (0, 1)]
        for mild in range(3):
            for strong in range(mild + 1, 3):
                for crop in (0, 1):
                    for a, b in zip(scene[mild][crop], scene[strong][crop], strict=True):
                        up.append(max(0, 0.05 - (a[0] - b[0])))
                        down.append(max(0, 0.05 - (b[1] - a[1])))
    expected = np.mean(apart) + np.mean(up) + np.mean(down)
    assert float(crop_pair_loss(similarities, 0.02, 0.05)) == pytest.approx(expected, rel=1e-5)


def test_crops_in_order_with_a_lead_cost_nothing_and_the_reverse_order_does() -> None:
    ladder = torch.tensor([0.3, 0.2, 0.1]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 1, 1)
    assert float(crop_pair_loss(torch.cat([ladder, -ladder], dim=-1))) == 0
    assert float(crop_pair_loss(torch.cat([-ladder, ladder], dim=-1))) > 0.3


@pytest.mark.parametrize("size", [(64, 64), (90, 200), (40, 50)])
def test_two_crops_share_a_quarter_of_their_area(size: tuple[int, int]) -> None:
    height, width = size
    rows, columns = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    image = torch.stack([rows, columns, rows])[None]
    for seed in range(5):
        first, second = overlapping_crops(image, 64, torch.Generator().manual_seed(seed))
        assert first.shape == second.shape == (3, 64, 64)
        for axis in (0, 1):  # the middle of one lies within the other
            assert second[axis].min() - 1e-3 <= first[axis].median() <= second[axis].max() + 1e-3


def test_a_batch_is_graded_repeatable_and_shared_among_processes(entries: list[Entry]) -> None:
    batches = CropPairBatches(entries, scenes=4, levels=3, side=48, seed=1)
    batch = batches(2)
    assert batch.images.shape == (4 * 3 * 2, 3, 48, 48)
    torch.testing.assert_close(batch.labels[:6, 0], -torch.tensor([1, 1, 2, 2, 3, 3]) / 3)
    assert torch.equal(batch.images, CropPairBatches(entries, scenes=4, levels=3, side=48, seed=1)(2).images)
    assert not torch.equal(batch.images, batches(3).images)
    halves = []
    for rank in (0, 1):
        processes = Processes()
        processes.rank, processes.count = rank, 2
        share = CropPairBatches(entries, scenes=4, levels=3, side=48, seed=1, processes=processes)
        halves.append(share(2).images)
    assert torch.equal(torch.cat(halves), batch.images)


def test_an_unreadable_photograph_is_named_and_replaced(entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = list_entries([tmp_path])
    batches = CropPairBatches([*broken, entries[0]], scenes=6, levels=2, side=32)
    assert bool(batches(0).images.flatten(1).std(1).gt(0).all())
    assert list(batches.photographs.failures) == [str(tmp_path / "broken.png")]
    with pytest.raises(InputError, match="none of 1 photographs"):
        CropPairBatches(broken, scenes=1, side=32)(0)
    with pytest.raises(InputError, match="no degradation 'rust'"):
        CropPairBatches(entries, degradations=["rust"])
    with pytest.raises(InputError, match="at least 2 levels"):
        CropPairBatches(entries, levels=1)


def test_it_learns_to_follow_degradation_of_photographs_that_it_never_saw(
    encoder: ClipEncoder, entries: list[Entry]
) -> None:
    pairs = [("Sharp image.", "Blurry image.")]  # a random text tower tells these apart
    network = build_prompted(encoder, pairs, named_set("paper"))
    names = ["noisiness", "haze"]
    before = np.mean([level_agreement(network, entries[3:])[name] for name in names])
    batches = CropPairBatches(entries[:3], scenes=3, levels=3, degradations=[*names, "blocks"], side=48)
    losses = fine_tune(network, batches, 50, levels=3, learning_rate=3e-3, warmup=5)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    after = np.mean([level_agreement(network, entries[3:])[name] for name in names])
    assert after > 0.3 > before
    fresh = build_prompted(encoder, pairs, named_set("paper"))  # neither the encoder nor the texts have moved
    assert torch.equal(fresh.quality_pairs, network.quality_pairs)
    assert "tower.positional_embedding" not in dict(network.backbone.named_buffers())
    assert not network.backbone.get_parameter("tower.positional_embedding").any()


def test_a_killed_run_goes_on_exactly(encoder: ClipEncoder, entries: list[Entry], tmp_path: Path) -> None:
    batches = CropPairBatches(entries, scenes=2, levels=2, side=32)
    straight = _network(encoder)
    whole = fine_tune(straight, batches, 4, levels=2, learning_rate=1e-3)

    class KilledError(Exception):
        pass

    def kill(step: int, _: float) -> None:
        if step == 2:
            raise KilledError

    saved = {"levels": 2, "learning_rate": 1e-3, "state": tmp_path / "state.safetensors", "state_every": 2}
    with pytest.raises(KilledError):
        fine_tune(_network(encoder), batches, 4, report=kill, **saved)
    resumed = _network(encoder)
    assert fine_tune(resumed, batches, 4, **saved) == whole[2:]
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_with_one_pair_and_no_training_it_is_clip_iqa(encoder: ClipEncoder) -> None:
    network = build_prompted(encoder, [(GOOD, BAD)], named_set("clipiqa"))
    images = torch.rand(2, 3, 40, 56)
    with torch.inference_mode():
        _, quality = network(images)
    torch.testing.assert_close(quality, ClipIqa(encoder).score(images))


def test_the_command_writes_a_model_that_loads_and_scores_any_size(
    clip_folder: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--method", "qualiclip", str(photographs), "--out", str(tmp_path / "run"), "--device", "cpu"]
    arguments += [
        "--model",
        str(clip_folder),
        "--steps",
        "2",
        "--scenes",
        "2",
        "--levels",
        "2",
        "--side",
        "32",
    ]
    assert pretrain_main([*arguments, "--validation", "0.25"]) == 0
    assert "held-out SROCC" in capsys.readouterr().out
    model = load(tmp_path / "run")
    for size in ((32, 32), (64, 150), (333, 200)):
        images = torch.rand(3, 3, *size)
        quality, attributes = model.assess(images, "full")
        assert attributes.shape == (3, 5)
        assert ((quality > 0) & (quality < 1)).all()
        torch.testing.assert_close(model.score(images[1:2], "full")[0], quality[1], atol=1e-5, rtol=0)
    card = json.loads(json.dumps(model.describe()))
    assert card["architecture"]["kind"] == "qualiclip"
    assert card["prompts"]["quality"][0] == ["Good photo.", "Bad photo."]
    with pytest.raises(InputError, match="kind 'qualiclip', which only scores"):
        load_checkpoint(tmp_path / "run" / "model.safetensors")


def test_wrong_material_is_a_sentence(
    encoder: ClipEncoder, clip_folder: Path, photographs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(InputError, match="at least one pair"):
        build_prompted(encoder, [], named_set("paper"))
    bare = ClipEncoder(encoder.model, encoder.tokenize, encoder.preprocess, {})
    with pytest.raises(InputError, match="can't be saved"):
        build_prompted(bare, PAIRS, named_set("paper"))
    common = ["--method", "qualiclip", str(photographs), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert pretrain_main([*common, "--model", str(clip_folder), "--side", "8"]) == 2
    assert "--side is 32 or more" in capsys.readouterr().err
    assert pretrain_main([*common, "--model", str(clip_folder), "--steps", "0", "--validation", "0"]) == 0
    path = card_path(tmp_path / "run" / "model.safetensors")
    card = json.loads(path.read_text())
    card["architecture"]["vision_cfg"] = {"timm_model_name": "vit_tiny", "image_size": 32}
    path.write_text(json.dumps(card))
    with pytest.raises(InputError, match="a tower of timm"):
        load(tmp_path / "run")
    del card["architecture"]["vision_cfg"]
    path.write_text(json.dumps(card))
    with pytest.raises(InputError, match="describes an unknown architecture"):
        load(tmp_path / "run")
