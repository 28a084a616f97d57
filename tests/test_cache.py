"""The preview cache: by content, bounded, safe under crashes and neighbours."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from attiqa.errors import InputError
from isp_env import raw, sources
from isp_env.cache import PreviewCache, default_folder
from isp_env.embedded import write_embedded_scenes
from isp_env.sources import RawFolder, load_frames

TENSORS = {"image": torch.arange(1000.0)}


def test_an_entry_comes_back_as_it_was(tmp_path):
    cache = PreviewCache(tmp_path)
    key = cache.key("a" * 64, short_side=256)
    assert cache.load(key) is None
    cache.store(key, TENSORS, {"notes": "é"})
    tensors, strings = PreviewCache(tmp_path).load(key)
    torch.testing.assert_close(tensors["image"], TENSORS["image"], rtol=0, atol=0)
    assert strings == {"notes": "é"}


def test_keys_differ_by_content_and_by_settings(tmp_path):
    cache = PreviewCache(tmp_path)
    keys = {cache.key(digest, short_side=size) for digest in ("a", "b") for size in (1, 2)}
    assert len(keys) == 4
    assert cache.key("a", x=1, y=2) == cache.key("a", y=2, x=1)


def test_a_damaged_entry_is_a_miss_and_goes(tmp_path):
    cache = PreviewCache(tmp_path)
    cache.store("k", TENSORS, {})
    path = tmp_path / "k.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert cache.load("k") is None
    assert not path.exists()


def test_the_least_recently_used_go_when_the_bound_is_passed(tmp_path):
    cache = PreviewCache(tmp_path, max_bytes=10 * 4200)
    for number in range(9):
        cache.store(f"k{number}", TENSORS, {})
        os.utime(tmp_path / f"k{number}.safetensors", (number, number))
    assert cache.load("k0") is not None  # used just now
    for number in range(9, 15):
        cache.store(f"k{number}", TENSORS, {})
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10 * 4200
    assert cache.load("k0") is not None
    assert cache.load("k1") is None
    assert cache.load("k14") is not None


def test_a_digest_is_remembered_until_the_file_changes(tmp_path):
    cache, path, checked = PreviewCache(tmp_path / "cache"), tmp_path / "file", []
    path.write_text("one")
    os.utime(path, (time.time() - 60,) * 2)
    first = cache.digest(path, checked.append)
    assert cache.digest(path, checked.append) == first
    assert len(checked) == 1
    path.write_text("two")
    assert cache.digest(path, checked.append) != first
    assert len(checked) == 2


def test_a_file_that_fails_its_check_is_not_remembered(tmp_path):
    def refuse(path: Path) -> None:
        raise InputError("no")

    cache, path = PreviewCache(tmp_path / "cache"), tmp_path / "file"
    path.touch()
    os.utime(path, (1, 1))
    for _ in range(2):
        with pytest.raises(InputError):
            cache.digest(path, refuse)


def _hammer(folder: Path, worker: int) -> int:
    cache, seen = PreviewCache(folder, max_bytes=5 * 4200), 0
    for number in range(60):
        key = f"k{(number * 7 + worker) % 12}"
        if entry := cache.load(key):
            seen += int(torch.equal(entry[0]["image"], TENSORS["image"]))
        else:
            cache.store(key, TENSORS, {})
            seen += 1
    return seen


def test_an_entry_that_is_dropped_while_it_is_opened_is_none(tmp_path, monkeypatch):
    def opened(*arguments: object, **more: object) -> None:
        raise RuntimeError("unable to open file in read-only mode: No such file or directory (2)")

    cache = PreviewCache(tmp_path)
    cache.store("key", {"a": torch.zeros(1)}, {})
    assert cache.load("key")
    monkeypatch.setattr("isp_env.cache.safe_open", opened)
    assert cache.load("key") is None
    assert (tmp_path / "key.safetensors").exists()


def test_what_another_process_is_writing_is_not_dropped(tmp_path):
    cache = PreviewCache(tmp_path, max_bytes=5 * 4200)
    written, left = tmp_path / ".k-new.safetensors", tmp_path / ".k-old.safetensors"
    for path in (written, left):
        path.write_bytes(b"0" * 4200)
    os.utime(left, (1, 1))
    for number in range(8):
        cache.store(f"k{number}", TENSORS, {})
    assert written.exists()
    assert not left.exists()


def test_processes_share_a_folder_without_harm(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(_hammer, [tmp_path] * 2, range(2))) == [60, 60]


def test_a_folder_of_raws_decodes_once(tmp_path, monkeypatch):
    write_embedded_scenes(tmp_path / "raws", seed=0, raws_a_scene=1, size=(64, 96))
    for path in (tmp_path / "raws").iterdir():
        os.utime(path, (1, 1))

    def frames() -> list:
        return load_frames(RawFolder([tmp_path / "raws"], cache=PreviewCache(tmp_path / "cache")), 32)

    decoded = frames()
    for name in ("read_raw", "check_raw"):
        monkeypatch.setattr(sources, name, lambda *_: pytest.fail("decoded again"))
    for first, second in zip(decoded, frames(), strict=True):
        torch.testing.assert_close(first.image, second.image, rtol=0, atol=0)
        torch.testing.assert_close(first.color_matrix, second.color_matrix, rtol=0, atol=0)
        assert (first.name, first.digest, first.notes) == (second.name, second.digest, second.notes)
    assert raw.read_raw is not sources.read_raw


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTIQA_CACHE", str(tmp_path))
    assert PreviewCache().folder == tmp_path / "previews"
    monkeypatch.delenv("ATTIQA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_folder() == Path("/x/attiqa")


def test_a_cache_without_room_is_refused(tmp_path):
    with pytest.raises(InputError, match="max_bytes is 0"):
        PreviewCache(tmp_path, 0)
