"""The datasets by name: how each is read, what its folder looks like, what its groups are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attiqa.datasets import generated, photographs, synthetic
from attiqa.datasets.rated import ImageFinder, Labels, RatedSet, check_labels
from attiqa.datasets.tables import MissingLabelsError
from attiqa.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """One dataset as its owners distribute it.

    Attributes:
        title: its name in print.
        read: reads the label files below a root folder.
        labels: the label file that the folder must hold, for people.
        folders: where below the root images are looked for, in order.
        origin: where it comes from.
        grouping: what must not straddle a split: ``image``, ``reference`` or ``prompt``.
    """

    title: str
    read: Callable[[Path], Labels]
    labels: str
    folders: tuple[str, ...]
    origin: str
    grouping: str = "image"

    @property
    def layout(self) -> str:
        """What the folder must look like, in one line."""
        images = " or ".join(f"{folder}/" if folder != "." else "beside it" for folder in self.folders)
        return f"{self.labels}, images in {images}"


DATASETS: dict[str, Dataset] = {
    "koniq10k": Dataset(
        "KonIQ-10k",
        photographs.read_koniq10k,
        "koniq10k_distributions_sets.csv (or koniq10k_scores_and_distributions.csv)",
        ("1024x768", "512x384", "images", "."),
        "http://database.mmsp-kn.de/koniq-10k-database.html",
    ),
    "clive": Dataset(
        "LIVE in the Wild (CLIVE)",
        photographs.read_clive,
        "Data/AllImages_release.mat and Data/AllMOS_release.mat",
        ("Images", "images", "."),
        "https://live.ece.utexas.edu/research/ChallengeDB/",
    ),
    "spaq": Dataset(
        "SPAQ",
        photographs.read_spaq,
        "Annotations/MOS and Image attribute scores.xlsx",
        ("TestImage", "images", "."),
        "https://github.com/h4nwei/SPAQ",
    ),
    "flive": Dataset(
        "FLIVE (PaQ-2-PiQ)",
        photographs.read_flive,
        "labels_image.csv",
        ("database", "images", "."),
        "https://github.com/niu-haoran/FLIVE_Database",
    ),
    "ava": Dataset(
        "AVA",
        photographs.read_ava,
        "AVA.txt and aesthetics_image_lists/generic_test.jpgl",
        ("images", "image", "."),
        "https://github.com/imfing/ava_downloader",
    ),
    "kadid10k": Dataset(
        "KADID-10k",
        synthetic.read_kadid10k,
        "dmos.csv",
        ("images", "."),
        "http://database.mmsp-kn.de/kadid-10k-database.html",
        "reference",
    ),
    "tid2013": Dataset(
        "TID2013",
        synthetic.read_tid2013,
        "mos_with_names.txt",
        ("distorted_images", "."),
        "https://www.ponomarenko.info/tid2013.htm",
        "reference",
    ),
    "agiqa-3k": Dataset(
        "AGIQA-3k",
        generated.read_agiqa3k,
        "data.csv",
        ("images", "AGIQA-3K", "."),
        "https://github.com/lcysyzxdxc/AGIQA-3k-Database",
        "prompt",
    ),
    "agiqa-1k": Dataset(
        "AGIQA-1k",
        generated.read_agiqa1k,
        "AIGC_MOS_Zscore.xlsx",
        ("file", "images", "."),
        "https://github.com/lcysyzxdxc/AGIQA-1k-Database",
        "prompt",
    ),
    "aigiqa-20k": Dataset(
        "AIGIQA-20k",
        generated.read_aigiqa20k,
        "info_train.csv, info_val.csv, info_test.csv",
        ("train", "val", "test", "images", "."),
        "https://www.modelscope.cn/datasets/lcysyzxdxc/AIGCQA-30K-Image",
        "prompt",
    ),
    "avt-ai": Dataset(
        "AVT-AI-Image-Dataset",
        generated.read_avt_ai,
        "ratings.csv",
        ("images", "."),
        "https://github.com/Telecommunication-Telemedia-Assessment/AVT-AI-Image-Dataset",
        "prompt",
    ),
    "avt-quality": Dataset(
        "AVT image_quality_test",
        synthetic.read_avt_quality,
        "ratings.csv",
        ("images", "."),
        "https://github.com/Telecommunication-Telemedia-Assessment/image_quality_test",
        "reference",
    ),
    "csv": Dataset(
        "a table of one's own",
        generated.read_own_table,
        "labels.csv with name,mos[,split][,group]",
        ("images", "."),
        "you",
    ),
}


def load_dataset(name: str, root: str | Path, *, require_images: bool = True) -> RatedSet:
    """Load a dataset as its owners distribute it.

    Args:
        name: a key of `DATASETS`; underscores count as hyphens.
        root: the folder that holds the label files and the images (for ``csv`` also the file itself).
        require_images: keep only images that are on disk and name the others in `RatedSet.missing`; if
            false every labelled image is kept, wherever its path leads, for work on labels alone.

    Raises:
        InputError: unknown name, missing folder, label file or images, and whatever is wrong with the
            labels (columns, numbers, duplicates, range), each in one sentence.
    """
    key = name.lower().replace("_", "-")
    if key not in DATASETS:
        raise InputError(f"there is no dataset named {name!r}; choose one of {', '.join(DATASETS)}.")
    dataset, root = DATASETS[key], Path(root)
    if not root.exists():
        raise InputError(
            f"{root} does not exist; expected a folder with {dataset.layout} ({dataset.origin})."
        )
    try:
        labels = dataset.read(root)
    except MissingLabelsError as error:
        raise InputError(
            f"{str(error)[:-1]}; {dataset.title} needs {dataset.layout} ({dataset.origin})."
        ) from None
    check_labels(labels, dataset.title)
    return _with_images(key, dataset, root if root.is_dir() else root.parent, labels, require_images)


def _with_images(key: str, dataset: Dataset, root: Path, labels: Labels, require_images: bool) -> RatedSet:
    finder = ImageFinder([root / folder for folder in dataset.folders])
    found = [finder.find(name) for name in labels.names]
    names = np.asarray(labels.names)
    present = np.array([path is not None for path in found])
    if require_images and not present.any():
        raise InputError(
            f"none of the {len(found)} images of {dataset.title} is below {root}, such as "
            f"'{labels.names[0]}'; it needs {dataset.layout}."
        )
    default = root / dataset.folders[0]
    whole = RatedSet(
        name=key,
        names=names,
        paths=tuple(path or default / name for path, name in zip(found, labels.names, strict=True)),
        mos=labels.mos,
        mos_range=labels.mos_range,
        groups=np.asarray(labels.names if labels.groups is None else labels.groups),
        grouping="image" if labels.groups is None else _grouping(dataset),
        splits=None if labels.splits is None else np.asarray(labels.splits),
        extra=labels.extra,
        missing=tuple(names[~present]) if require_images else (),
        notes=labels.notes,
    )
    return whole.select(present) if require_images else whole


def _grouping(dataset: Dataset) -> str:
    return dataset.grouping if dataset.grouping != "image" else "group"
