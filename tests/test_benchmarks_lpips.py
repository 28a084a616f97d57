"""LPIPS from local files: pyiqa's value, and a sentence where files are missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet

from attiqa.errors import InputError
from benchmarks.lpips import find_lpips


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, torch.Generator]:
    """Random weights under the names that torchvision and LPIPS give theirs."""
    generator = torch.Generator().manual_seed(1)
    with torch.device("meta"):
        shapes = {f"features.{k}": v.shape for k, v in alexnet(weights=None).features.state_dict().items()}
    backbone = {
        name: torch.randn(shape, generator=generator) * (0.05 if len(shape) > 1 else 0.1)
        for name, shape in shapes.items()
    }
    widths = (64, 192, 384, 256, 256)
    linear = {
        f"lin{k}.model.1.weight": torch.rand(1, n, 1, 1, generator=generator) for k, n in enumerate(widths)
    }
    save_file(backbone, tmp_path / "alexnet.safetensors")
    (tmp_path / "v0.1").mkdir()
    torch.save(linear, tmp_path / "v0.1" / "alex.pth")
    return tmp_path, generator


def test_it_is_pyiqas_lpips(weights: tuple[Path, torch.Generator]) -> None:
    folder, generator = weights
    image, reference = (torch.rand(3, 80, 96, generator=generator) for _ in range(2))
    lpips = find_lpips(folder)
    # pyiqa 0.1.16's LPIPS with the same weights and images
    assert lpips(image, reference) == pytest.approx(0.9699420929, rel=1e-5)
    assert lpips(image, image) == 0.0
    with pytest.raises(InputError, match="64 pixels or more"):
        lpips(image[:, :40], reference[:, :40])


def test_missing_files_are_named(weights: tuple[Path, torch.Generator], tmp_path: Path) -> None:
    folder, _ = weights
    (folder / "v0.1" / "alex.pth").unlink()
    with pytest.raises(InputError, match="lacks the linear layers"):
        find_lpips(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="lacks alexnet-owt"):
        find_lpips(tmp_path / "none")


def test_a_torn_or_foreign_file_is_refused(weights: tuple[Path, torch.Generator]) -> None:
    folder, _ = weights
    torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, folder / "v0.1" / "alex.pth")
    with pytest.raises(InputError, match="not the weights of LPIPS"):
        find_lpips(folder)
    (folder / "v0.1" / "alex.pth").write_bytes(b"torn")
    with pytest.raises(InputError, match="not a file of tensors"):
        find_lpips(folder)
