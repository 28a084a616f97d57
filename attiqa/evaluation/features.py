"""How far fine-tuning moved a backbone: cosine similarity of features before and after (Table 5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from attiqa.errors import InputError
from attiqa.images import read_image, to_float
from attiqa.model import QualityModel
from attiqa.scoring import read_ahead


def check_one_backbone(before: QualityModel, after: QualityModel) -> None:
    """Refuse models whose features cannot be compared; one small forward each."""
    one, other = (model.features(torch.zeros(1, 3, 64, 64)).shape[1] for model in (before, after))
    if one != other:
        raise InputError(f"the models have {one} and {other} features; a cosine needs one backbone.")


def feature_cosine(before: QualityModel, after: QualityModel, paths: Sequence[Path]) -> NDArray[np.float64]:
    """Cosine similarity ``(N,)`` between the pooled features of two models on the same image files.

    Close to 1: fine-tuning kept what pretraining learnt. Only models of one backbone can be compared. A
    file that cannot be read gives NaN.
    """
    check_one_backbone(before, after)
    cosines = []
    workers = os.cpu_count() or 1
    for _, image in read_ahead(paths, lambda path: to_float(read_image(path))[None], workers, 2 * workers):
        if isinstance(image, InputError):
            cosines.append(float("nan"))
            continue
        cosines.append(F.cosine_similarity(before.features(image), after.features(image)).item())
    return np.array(cosines)
