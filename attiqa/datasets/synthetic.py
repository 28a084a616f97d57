"""Label files of photographs with synthetic distortions: KADID-10k, TID2013 and the AVT encoding study."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attiqa.datasets.rated import Labels
from attiqa.datasets.tables import find_labels, numbers, read_csv, read_words


def read_kadid10k(root: Path) -> Labels:
    """KADID-10k (Lin et al., QoMEX 2019): 10,125 images of 81 references.

    Its "dmos" is a degradation category rating from 1 (very annoying) to 5 (imperceptible): higher is better.
    """
    path = find_labels(root, "dmos.csv", "meta_info_KADID10kDataset.csv")
    name, reference = ("dist_img", "ref_img") if path.name == "dmos.csv" else ("dist_name", "ref_name")
    table = read_csv(path, [name, reference, "dmos"])
    return Labels(table[name], numbers(path, table, "dmos"), (1, 5), groups=table[reference])


def read_tid2013(root: Path) -> Labels:
    """TID2013 (Ponomarenko et al., SPIC 2015): 3000 images of 25 references, MOS from 0 to 9."""
    path = find_labels(root, "mos_with_names.txt", "meta_info_TID2013Dataset.csv")
    if path.suffix == ".txt":
        table = read_words(path, ["mos", "name"])
        names = table["name"]
    else:
        table = read_csv(path, ["dist_name", "mos"])
        names = table["dist_name"]
    # "i01_01_2.bmp" and "I01_01_1.bmp" show one reference
    return Labels(names, numbers(path, table, "mos"), (0, 9), groups=[name[:3].upper() for name in names])


def read_avt_quality(root: Path) -> Labels:
    """AVT image_quality_test (Goering et al., QUEX 2023): 10 sources, HEVC at several rates and heights.

    Height alone explains most of MOS, so it comes in `extra` for a baseline.
    """
    path = find_labels(root, "ratings.csv")
    table = read_csv(path, ["image_name", "mos", "height"])
    return Labels(
        [f"{name}.webp" for name in table["image_name"]],
        numbers(path, table, "mos"),
        (1, 5),
        groups=[name.split("_1frame_")[0] for name in table["image_name"]],
        extra={"height": numbers(path, table, "height").astype(np.int64)},
    )
