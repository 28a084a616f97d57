"""CLIP-IQA and CLIP-IQA+: the formula, any image size, and prompts that learn."""

from __future__ import annotations

import math
from pathlib import Path

import open_clip
import pytest
import torch
from skimage import data

from attiqa.clip.clipiqa import ClipIqa
from attiqa.clip.embedding import ClipEncoder, Preprocess, load_clip
from attiqa.clip.labels import antonym_probabilities
from attiqa.clip.learned_prompts import LearnedPrompts, fit_prompts, load_prompts, save_prompts
from attiqa.distortions import DISTORTIONS
from attiqa.errors import InputError
from attiqa.images import to_float
from attiqa.metrics import srocc
from tests.tiny_clip import CONFIG, write_tiny_clip

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    return load_clip(str(write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")))


def _resnet_encoder() -> ClipEncoder:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    model = open_clip.CLIP(**{**CONFIG, "vision_cfg": vision})
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return ClipEncoder(model, tokenizer, Preprocess(64, MEAN, STD, "bicubic", "shortest"), {"digest": "r"})


def test_the_score_is_the_softmax_share_of_good_against_bad(encoder: ClipEncoder) -> None:
    images = torch.rand(3, 3, 32, 32)
    model = encoder.model
    with torch.inference_mode():
        pixels = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        text = open_clip.get_tokenizer("ViT-B-32", context_length=16)(["Good photo.", "Bad photo."])
        logits, _ = model.get_logits(pixels, text)
    expected = logits.softmax(dim=1)[:, 0]
    torch.testing.assert_close(ClipIqa(encoder, positional_embedding=True).score(images), expected)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_without_positions_images_of_any_size_are_scored_and_positions_do_not_matter(
    kind: str, encoder: ClipEncoder
) -> None:
    used = encoder if kind == "vit" else _resnet_encoder()
    scorer = ClipIqa(used)
    for size in ((32, 32), (64, 96), (130, 70)):
        scores = scorer.score(torch.rand(2, 3, *size))
        assert scores.shape == (2,)
        assert ((scores > 0) & (scores < 1)).all()
    if kind == "vit":
        # without positions, the order of whole patches cannot be seen
        image = torch.rand(1, 3, 32, 32)
        torch.testing.assert_close(scorer(image), scorer(image.roll(8, dims=-1)))
        kept = ClipIqa(used, positional_embedding=True)
        assert (kept(image) - kept(image.roll(8, dims=-1))).abs() > 1e-5


def test_a_score_does_not_depend_on_batch_mates_and_leaves_the_encoder_as_it_was(
    encoder: ClipEncoder,
) -> None:
    images = torch.rand(4, 3, 40, 48)
    before = encoder.embed_images(images)
    scorer = ClipIqa(encoder)
    torch.testing.assert_close(scorer(images[1:2])[0], scorer(images)[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_images(images), before)


def test_learned_prompts_start_as_clip_reads_the_same_words(encoder: ClipEncoder) -> None:
    """With the context set to the embeddings of real words, the text tower is CLIP's own."""
    prompts = LearnedPrompts(encoder, length=2)
    words = encoder.tokenize(["very very"])[0, 1:3]
    with torch.no_grad():
        prompts.context.copy_(encoder.model.token_embedding(words))
        got = prompts()
    expected = encoder.embed_texts(["very very Good photo.", "very very Bad photo."])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_prompts_fitted_to_a_few_ratings_order_a_photograph_they_never_saw() -> None:
    torch.manual_seed(1)
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    model = open_clip.CLIP(**{**CONFIG, "text_cfg": text})
    model.logit_scale.data.fill_(math.log(100))
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    encoder = ClipEncoder(model, tokenizer, Preprocess(32, MEAN, STD, "bicubic", "shortest"), {"digest": "t"})
    levels = torch.linspace(-1, 0, 8)
    graded = []
    for photograph in (image()[100:196, 100:196] for image in (data.astronaut, data.coffee, data.chelsea)):
        versions = to_float(torch.from_numpy(photograph).permute(2, 0, 1)).expand(8, -1, -1, -1)
        noisy = DISTORTIONS["noisiness"](versions, levels, torch.Generator().manual_seed(0))
        graded.append(ClipIqa(encoder).embed(noisy))
    seen, unseen = torch.cat(graded[:2]), graded[2]
    opinions = (1 + levels).repeat(2)

    def judged(steps: int, rate: float) -> tuple[float, float]:
        """Squared error on what was rated, rank correlation on what was not."""
        prompts = fit_prompts(encoder, seen, opinions, length=4, steps=steps, learning_rate=rate)
        positive, negative = prompts().detach()[:, None]
        error = (antonym_probabilities(seen, positive, negative)[:, 0] - opinions).square().mean()
        return float(error), srocc(antonym_probabilities(unseen, positive, negative)[:, 0], levels)

    (first_error, first_order), (error, order) = judged(1, 0.0), judged(150, 0.01)
    assert error < opinions.var(correction=0) < first_error  # better than any constant
    assert order > 0.9 > 0 > first_order


def test_wrong_material_for_learned_prompts_is_a_sentence(encoder: ClipEncoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it takes 1 to"):
        LearnedPrompts(encoder, length=15)
    with pytest.raises(InputError, match="expected one score an image"):
        fit_prompts(encoder, torch.zeros(2, 16), torch.zeros(3))
    with pytest.raises(InputError, match=r"mapped to \[0, 1\]"):
        fit_prompts(encoder, torch.zeros(2, 16), torch.tensor([1.0, 5.0]))
    other = ClipEncoder(
        encoder.model, encoder.tokenize, encoder.preprocess, {**encoder.identity, "digest": "other"}
    )
    save_prompts(tmp_path / "plus.safetensors", LearnedPrompts(encoder, length=2), encoder)
    with pytest.raises(InputError, match="learned with another CLIP"):
        load_prompts(tmp_path / "plus.safetensors", other)
    with pytest.raises(InputError, match="does not hold learned prompts"):
        load_prompts(tmp_path / "absent.safetensors", encoder)
