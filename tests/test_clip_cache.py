"""The embedding cache: what is in it stays right under kills, second writers and other encoders."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.clip import folder as folder_module
from attiqa.clip.cache import EmbeddingCache
from attiqa.clip.embedding import ClipEncoder, load_clip
from attiqa.clip.folder import embed_files
from attiqa.errors import InputError
from tests.tiny_clip import write_tiny_clip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ClipEncoder:
    return load_clip(str(write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02d}.png")
    return sorted((tmp_path / "images").iterdir())


def _cache(folder: Path, encoder: ClipEncoder) -> EmbeddingCache:
    return EmbeddingCache.open(folder, {**encoder.identity, "crops": "centre"})


def _keys(count: int) -> list[bytes]:
    return [hashlib.sha256(bytes([number])).digest() for number in range(count)]


def test_vectors_come_back_by_key_in_the_order_asked_to_half_precision(tmp_path: Path) -> None:
    cache = EmbeddingCache.open(tmp_path, {"dim": 16, "model": "m"})
    # a key that ends in zeros must survive NumPy's byte strings
    keys = [*_keys(5), b"\x01" * 20 + b"\x00" * 12]
    vectors = torch.nn.functional.normalize(torch.randn(6, 16), dim=1)
    cache.add(keys[:3], vectors[:3])
    cache.add(keys[3:], vectors[3:])
    cache.refresh()
    again = EmbeddingCache.open(tmp_path)
    order = [5, 0, 3, 3, 1]
    got = again.embeddings([keys[index].hex() for index in order])
    torch.testing.assert_close(got, vectors[order].half().float(), atol=0, rtol=0)
    assert sorted(again.digests) == sorted(key.hex() for key in keys)


def test_shards_are_memory_mapped_half_precision(tmp_path: Path) -> None:
    cache = EmbeddingCache.open(tmp_path, {"dim": 16})
    cache.add(_keys(100), torch.randn(100, 16))
    cache.refresh()
    (shard,) = cache._shards.values()
    assert isinstance(shard, np.memmap)
    assert shard["embedding"].dtype == np.float16
    assert sum(path.stat().st_size for path in (tmp_path / "shards").iterdir()) < 100 * (32 + 2 * 16) + 512


def test_a_cache_of_another_encoder_is_refused(tmp_path: Path) -> None:
    identity = {"dim": 16, "model": "ViT-B-16", "digest": "aa", "crops": "centre"}
    EmbeddingCache.open(tmp_path, identity)
    with pytest.raises(InputError, match="made with crops 'centre' and not 'five'"):
        EmbeddingCache.open(tmp_path, {**identity, "crops": "five"})
    with pytest.raises(InputError, match="made with digest 'aa' and not 'bb'"):
        EmbeddingCache.open(tmp_path, {**identity, "digest": "bb"})


def test_missing_keys_missing_caches_and_damaged_shards_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; expected an embedding cache's header"):
        EmbeddingCache.open(tmp_path / "none")
    cache = EmbeddingCache.open(tmp_path, {"dim": 16})
    with pytest.raises(InputError, match="1 of 1 images are not in the cache"):
        cache.embeddings([_keys(1)[0].hex()])
    cache.add(_keys(4), torch.randn(4, 16))
    (shard,) = (tmp_path / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:150])
    with pytest.raises(InputError, match="damaged"):
        EmbeddingCache.open(tmp_path)


def test_files_are_embedded_once_by_content(tmp_path: Path, images: list[Path], encoder: ClipEncoder) -> None:
    copy = shutil.copy(images[0], tmp_path / "images" / "copy.png")
    broken = tmp_path / "images" / "broken.png"
    broken.write_bytes(images[1].read_bytes()[:60])
    cache = _cache(tmp_path / "cache", encoder)
    result = embed_files(encoder, cache, [*images, Path(copy), broken], batch_size=5, progress=False)
    assert result.new == 12
    assert [path for path, _ in result.failures] == [broken]
    assert "cannot be decoded" in result.failures[0][1]
    assert (
        result.digests[Path(copy)]
        == result.digests[images[0]]
        == hashlib.sha256(images[0].read_bytes()).hexdigest()
    )
    expected = torch.stack(
        [
            encoder.embed_images(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None])[0]
            for path in images
        ]
    )
    got = cache.embeddings([result.digests[path] for path in images])
    torch.testing.assert_close(got, expected, atol=5e-4, rtol=0)
    assert embed_files(encoder, _cache(tmp_path / "cache", encoder), images, progress=False).new == 0


def test_worker_processes_give_the_same_cache(
    tmp_path: Path, images: list[Path], encoder: ClipEncoder
) -> None:
    alone, helped = _cache(tmp_path / "a", encoder), _cache(tmp_path / "b", encoder)
    digests = embed_files(encoder, alone, images, progress=False).digests.values()
    embed_files(encoder, helped, images, workers=2, batch_size=5, progress=False)
    torch.testing.assert_close(alone.embeddings(digests), helped.embeddings(digests), atol=1e-3, rtol=0)


def test_an_interrupt_keeps_what_is_done_and_the_next_run_does_only_the_rest(
    tmp_path: Path, images: list[Path], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    whole = encoder.embed_windows

    def interrupted(windows: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(windows)

    monkeypatch.setattr(encoder, "embed_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed_files(encoder, _cache(tmp_path / "cache", encoder), images, batch_size=4, progress=False)
    assert len(_cache(tmp_path / "cache", encoder)) == 8
    assert embed_files(encoder, _cache(tmp_path / "cache", encoder), images, progress=False).new == 4


def test_a_kill_leaves_only_whole_shards(tmp_path: Path) -> None:
    cache = EmbeddingCache.open(tmp_path, {"dim": 16})
    cache.add(_keys(4), torch.randn(4, 16))
    # what a kill in the middle of a write leaves behind: a temporary file with half of a shard
    (shard,) = (tmp_path / "shards").iterdir()
    (tmp_path / "shards" / ".half-1234.npy").write_bytes(shard.read_bytes()[:150])
    assert len(EmbeddingCache.open(tmp_path)) == 4


def test_two_writers_share_one_cache_and_one_list(
    tmp_path: Path, images: list[Path], encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_SHARD_ROWS", 1)
    results = []

    def write() -> None:
        cache = _cache(tmp_path / "cache", encoder)
        results.append(embed_files(encoder, cache, images, batch_size=1, progress=False))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    cache = _cache(tmp_path / "cache", encoder)
    assert len(cache) == 12
    assert results[0].digests == results[1].digests
    assert torch.isfinite(cache.embeddings(results[0].digests.values())).all()
    assert 12 <= results[0].new + results[1].new <= 24
