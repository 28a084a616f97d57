"""Loading models and scoring with them, on a tiny network that went through the same files as any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attiqa.checkpoint import card_path, load_checkpoint, save_checkpoint
from attiqa.errors import InputError
from attiqa.files import file_digest
from attiqa.model import QualityModel, find_weights, load
from attiqa.nn.network import build_network
from attiqa.views import look, whole
from tests.tiny import tiny_card, tiny_checkpoint, tiny_model, tiny_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    network = tiny_network(seed=5)
    card = save_checkpoint(tmp_path / "a.safetensors", network, tiny_card())
    again, card_again = load_checkpoint(tmp_path / "a.safetensors")
    assert card_again == card
    assert card["digest"] == file_digest(tmp_path / "a.safetensors")
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_half_precision_storage_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    network = tiny_network()
    save_checkpoint(tmp_path / "a.safetensors", network, tiny_card())
    save_checkpoint(tmp_path / "b.safetensors", network, tiny_card(), dtype=torch.float16)
    sizes = [(tmp_path / name).stat().st_size for name in ("a.safetensors", "b.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    assert load_checkpoint(tmp_path / "b.safetensors")[0].heads.last_weight.dtype == torch.float32


@pytest.mark.parametrize("size", [(224, 224), (48, 40), (301, 517), (60, 900)])
def test_any_image_size_is_scored(model: QualityModel, size: tuple[int, int]) -> None:
    for view in ("whole", "five", "centre", "full"):
        score, attributes = model.assess(torch.rand(2, 3, *size), view)
        assert score.shape == (2,)
        assert attributes.shape == (2, 5)
        assert score.dtype == torch.float32
        assert not score.requires_grad


def test_a_score_does_not_depend_on_who_shares_the_batch(model: QualityModel) -> None:
    images = torch.rand(7, 3, 256, 192)
    together = model.score(images)
    alone = torch.cat([model(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_five_crops_are_averaged_and_the_centre_is_the_last(model: QualityModel) -> None:
    images = torch.rand(1, 3, 340, 400)
    crops = look(images, "five")
    assert crops.shape == (1, 5, 3, 320, 320)
    torch.testing.assert_close(crops[0, -1], images[0, :, 10:330, 40:360])
    by_hand = model.score(crops[0], view="full").mean()
    torch.testing.assert_close(model.score(images, view="five")[0], by_hand, rtol=0, atol=1e-5)


def test_the_whole_view_keeps_area_and_aspect() -> None:
    assert whole(torch.rand(1, 3, 448, 448)).shape[-2:] == (224, 224)
    assert whole(torch.rand(1, 3, 300, 1200)).shape[-2:] == (112, 448)
    image = torch.rand(1, 3, 224, 224)
    assert whole(image) is image


def test_features_attributes_and_score_agree(model: QualityModel) -> None:
    images = torch.rand(3, 3, 128, 128)
    attributes, score = model.network.outputs(model.features(images))
    torch.testing.assert_close(model.attributes(images), attributes)
    torch.testing.assert_close(model.score(images), score)


def test_a_model_describes_itself_in_json(model: QualityModel) -> None:
    assert json.loads(json.dumps(model.describe()))["digest"] == model.digest
    assert model.attribute_names == ("sharpness", "contrast", "brightness", "colorfulness", "noisiness")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "got uint8"),
        (torch.zeros(3, 64, 64), r"got float32 \(3, 64, 64\)"),
        (torch.zeros(1, 1, 64, 64), "expected float32 images"),
        (torch.full((1, 3, 64, 64), float("nan")), "NaN or infinity"),
    ],
)
def test_images_of_another_form_are_refused(model: QualityModel, images: torch.Tensor, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.score(images)


def test_unknown_views_and_precisions_name_the_known_ones(model: QualityModel) -> None:
    with pytest.raises(InputError, match="whole, five, centre, full"):
        model.score(torch.rand(1, 3, 64, 64), view="six")
    with pytest.raises(InputError, match="float32, bfloat16"):
        QualityModel(tiny_network(), tiny_card(), precision="int3")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no model 'attiqa-maxi'; known are"):
        load("attiqa-maxi")
    with pytest.raises(InputError, match=r"nowhere/x\.safetensors does not exist"):
        load("nowhere/x.safetensors")


def test_a_folder_with_one_checkpoint_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0 checkpoints"):
        load(tmp_path)
    path = tiny_checkpoint(tmp_path)
    assert find_weights(tmp_path) == path


def test_a_truncated_file_a_missing_card_and_a_foreign_card_are_one_sentence_each(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path)
    whole_file, card = path.read_bytes(), card_path(path).read_text()
    path.write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(InputError, match="not a complete safetensors file"):
        load(path)
    path.write_bytes(whole_file)
    card_path(path).unlink()
    with pytest.raises(InputError, match="expected the card of the checkpoint"):
        load(path)
    card_path(path).write_text('{"format": "other"}')
    with pytest.raises(InputError, match="not a checkpoint card"):
        load(path)
    card_path(path).write_text(card.replace('"kind": "attiqa"', '"kind": "clip-iqa"'))
    with pytest.raises(InputError, match="of kind 'clip-iqa'"):
        load(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path)
    other = build_network("shufflenet_v2_x0_5", hidden=16, regressor_hidden=8)
    record = json.loads(card_path(path).read_text())
    record["architecture"] = other.architecture
    card_path(path).write_text(json.dumps(record))
    with pytest.raises(InputError, match="another architecture than its card"):
        load(path)


def test_a_card_that_is_not_of_its_weights_is_refused(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path)
    written = card_path(path).read_text()
    card = json.loads(written)
    for change, sentence in (
        ({"attributes": [*card["attributes"], "composition"]}, "expected 5 different ones"),
        ({"attributes": None}, "names the attributes None"),
        ({"digest": None}, "has no digest"),
        ({"digest": "0" * 64}, "not the file that its card describes"),
    ):
        card_path(path).write_text(json.dumps({**card, **change}))
        with pytest.raises(InputError, match=sentence):
            load(path)
    card_path(path).write_text(written)
    save_checkpoint(tmp_path / "other.safetensors", tiny_network(seed=1), tiny_card())
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())  # of the same architecture
    with pytest.raises(InputError, match="not the file that its card describes"):
        load(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt is no \.safetensors file; other formats may run code"):
        load(tmp_path / "model.pt")


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="could not be had from the Hugging Face hub"):
        load("nobody/no-such-model")
