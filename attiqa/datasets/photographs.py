"""Label files of rated photographs, as their owners distribute them: KonIQ-10k, CLIVE, SPAQ, FLIVE, AVA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from attiqa.attributes import read_attributes
from attiqa.datasets.rated import Labels
from attiqa.datasets.tables import find_labels, numbers, read_csv, read_excel, read_words, splits_by_code
from attiqa.errors import InputError
from attiqa.files import read_json
from attiqa.metrics import srocc

_CLIVE_TRAINING = tuple(f"t{number}.bmp" for number in range(1, 8))
_TELLING_ROWS = 30  # of SPAQ; a correlation over fewer may have either sign by chance
_AVA_BINS = np.arange(1, 11)


def read_koniq10k(root: Path) -> Labels:
    """KonIQ-10k (Hosu et al., TIP 2020): 10,073 photographs.

    ``koniq10k_distributions_sets.csv`` has MOS from 0 to 100 and the official split;
    ``koniq10k_scores_and_distributions.csv`` has MOS from 1 to 5 and no split. The first is preferred.
    """
    path = find_labels(
        root,
        "koniq10k_distributions_sets.csv",
        "koniq10k_scores_and_distributions.csv",
        "meta_info_KonIQ10kDataset.csv",
    )
    if path.name.startswith("meta_info"):
        table = read_csv(path, ["img_name", "mos", "split"])
        return Labels(
            table["img_name"],
            numbers(path, table, "mos"),
            (0, 100),
            splits=splits_by_code(path, table["split"]),
        )
    official = path.name == "koniq10k_distributions_sets.csv"
    table = read_csv(path, ["image_name", "MOS"] + (["set"] if official else []))
    return Labels(
        table["image_name"],
        numbers(path, table, "MOS"),
        (0, 100) if official else (1, 5),
        splits=splits_by_code(path, table["set"]) if official else None,
    )


def read_clive(root: Path) -> Labels:
    """LIVE in the Wild (Ghadiyaram and Bovik, TIP 2016): 1162 photographs; seven training images are dropped.

    Reads the two ``.mat`` files as released, or pyiqa's table of them.
    """
    path = find_labels(
        root, "Data/AllImages_release.mat", "AllImages_release.mat", "meta_info_LIVEChallengeDataset.csv"
    )
    if path.suffix == ".csv":
        table = read_csv(path, ["img_name", "mos"])
        names, mos = table["img_name"], numbers(path, table, "mos")
    else:
        names = [str(cell.item()) for cell in _matrix(path, "AllImages_release")]
        mos = _matrix(path.with_name("AllMOS_release.mat"), "AllMOS_release").astype(np.float64)
        if len(names) != len(mos):
            raise InputError(
                f"{path} lists {len(names)} images, but AllMOS_release.mat has {len(mos)} ratings."
            )
    kept = np.array([name not in _CLIVE_TRAINING for name in names])
    return Labels(
        [name for name, keep in zip(names, kept, strict=True) if keep],
        mos[kept],
        (0, 100),
        notes=(f"{int((~kept).sum())} training images (t1 to t7) are left out",),
    )


def _matrix(path: Path, key: str) -> NDArray:
    """The variable `key` of a MATLAB file, flattened."""
    try:
        return loadmat(path)[key].reshape(-1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; CLIVE ships it in its Data folder.") from None
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise InputError(f"{path} is not CLIVE's MATLAB file with a variable {key} ({error}).") from None


def read_spaq(root: Path) -> Labels:
    """SPAQ (Fang et al., CVPR 2020): 11,125 smartphone photographs with five attribute scores.

    The attributes come in `extra` under this project's names, higher is better. "Noisiness" is checked:
    where it falls with MOS it means more noise, and is turned around.
    """
    path = find_labels(
        root,
        "Annotations/MOS and Image attribute scores.xlsx",
        "MOS and Image attribute scores.xlsx",
        "meta_info_SPAQDataset.csv",
    )
    attributes = [name.capitalize() for name in read_attributes().names]
    columns = ["Image name", "MOS", *attributes]
    table = read_csv(path, columns) if path.suffix == ".csv" else read_excel(path, columns)
    mos = numbers(path, table, "MOS")
    extra: dict[str, NDArray] = {name.lower(): numbers(path, table, name) for name in attributes}
    extra["noisiness"], note = _cleanness(extra["noisiness"], mos)
    return Labels(table["Image name"], mos, (0, 100), extra=extra, notes=(note,))


def _cleanness(noisiness: NDArray, mos: NDArray) -> tuple[NDArray, str]:
    """SPAQ's "Noisiness" with higher meaning cleaner, and a sentence on how that was known."""
    if len(mos) < _TELLING_ROWS or np.ptp(mos) == 0 or np.ptp(noisiness) == 0:
        return noisiness, "too few rows to check the sign of Noisiness: higher is taken to mean cleaner"
    agreement = srocc(noisiness, mos)
    if agreement < 0:
        note = f"Noisiness had SROCC {agreement:+.2f} with MOS, higher meant noisier: it was turned around"
        return 100 - noisiness, note
    return noisiness, f"Noisiness has SROCC {agreement:+.2f} with MOS: higher means cleaner"


def read_flive(root: Path) -> Labels:
    """FLIVE / PaQ-2-PiQ (Ying et al., CVPR 2020): 39,810 photographs.

    Its official split is read from a ``split`` column where the file has one, else from the row numbers in
    ``splits/{train,val,test}.npy`` (as ARNIQA publishes them; -1 pads), else there is none.
    """
    path = find_labels(root, "labels_image.csv")
    table = read_csv(path, ["name", "mos"])
    count = len(table["name"])
    splits = None
    if "split" in table:
        splits = splits_by_code(path, table["split"])
    elif (root / "splits").is_dir():
        splits = _splits_by_row(root / "splits", count)
    mos = numbers(path, table, "mos")
    if splits is None:
        return Labels(table["name"], mos, (0, 100), notes=("no official split was found beside the labels",))
    # rows that no side of the official split lists take no part
    kept = [row for row in range(count) if splits[row]]
    return Labels(
        [table["name"][row] for row in kept], mos[kept], (0, 100), splits=[splits[row] for row in kept]
    )


def _splits_by_row(folder: Path, count: int) -> list[str]:
    splits = [""] * count
    for file, side in (("train", "train"), ("val", "validation"), ("test", "test")):
        path = folder / f"{file}.npy"
        try:
            rows = np.load(path, allow_pickle=False).reshape(-1)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a NumPy array of row numbers ({error}).") from None
        if rows.size and not (rows.dtype.kind in "iu" and rows.min() >= -1 and rows.max() < count):
            raise InputError(f"{path} holds row numbers outside the {count} rows of the labels.")
        for row in rows[rows >= 0]:
            splits[row] = side
    return splits


def read_ava(root: Path) -> Labels:
    """AVA (Murray et al., CVPR 2012): 255,508 photographs, a histogram of votes from 1 to 10 for each.

    Reads ``AVA.txt`` with the official test list ``aesthetics_image_lists/generic_test.jpgl`` (or the ids of
    ``ava_labels_test.json``); with ``ava_labels_test.json`` alone, the test side.
    """
    path = find_labels(root, "AVA.txt", "ava_labels_test.json")
    histograms = {}
    if path.suffix == ".json":
        histograms = _json_histograms(path)
        test = set(histograms)
    else:
        header = ["row", "id", *(f"votes {bin}" for bin in _AVA_BINS), "tag 1", "tag 2", "challenge"]
        table = read_words(path, header)
        votes = np.stack([numbers(path, table, f"votes {bin}") for bin in _AVA_BINS], axis=1)
        histograms = dict(zip(table["id"], votes, strict=True))
        test = _ava_test_ids(root)
    votes = np.stack(list(histograms.values()))
    empty = np.flatnonzero(votes.sum(axis=1) <= 0)
    if empty.size:
        raise InputError(
            f"{path} has no votes for {empty.size} images, such as {list(histograms)[empty[0]]}."
        )
    return Labels(
        [f"{image}.jpg" for image in histograms],
        votes @ _AVA_BINS / votes.sum(axis=1),
        (1, 10),
        splits=["test" if image in test else "train" for image in histograms] if test else None,
        extra={"votes": votes},
    )


def _json_histograms(path: Path) -> dict[str, NDArray]:
    entries = read_json(path, "a list of {image_id, label}")
    try:
        histograms = {str(entry["image_id"]): np.array(entry["label"], dtype=np.float64) for entry in entries}
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a list of {{image_id, label}} ({error}).") from None
    if not histograms or any(votes.shape != _AVA_BINS.shape for votes in histograms.values()):
        raise InputError(f"{path} must give each image a label of ten vote counts.")
    return histograms


def _ava_test_ids(root: Path) -> set[str]:
    listed = root / "aesthetics_image_lists" / "generic_test.jpgl"
    if listed.is_file():
        return set(listed.read_text(encoding="utf-8").split())
    published = root / "ava_labels_test.json"
    return set(_json_histograms(published)) if published.is_file() else set()
