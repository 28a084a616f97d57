"""MIT-Adobe FiveK (Bychkovsky et al., CVPR 2011): raws, five experts' retouches, splits.

The folder looks as the owners' server does: ``dng/NAME.dng`` and ``tiff16_a/NAME.tif`` to ``tiff16_e``,
where NAME begins with ``a`` and a number from 1 to 5000. Whatever part of it is there can be used;
`isp_env.download` fetches more.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile
import torch
from torch import Tensor

from attiqa.errors import InputError
from attiqa.files import read_json
from isp_env.cache import PreviewCache
from isp_env.color import apply_matrix, linear_to_srgb, prophoto_to_linear, prophoto_to_srgb_matrix
from isp_env.raw import shrink
from isp_env.sources import RawFolder

BASE_URL = "https://data.csail.mit.edu/graphics/fivek/img"
EXPERTS = ("a", "b", "c", "d", "e")

# Published splits: training lists and test list, as files of 1-based numbers where no rule gives them
_SPLIT_FILES = {
    # Hu et al., "Exposure", TOG 2018: two disjoint training halves (input and target), 1000 to test
    "exposure": (("FiveK_train_first2k.txt", "FiveK_train_second2k.txt"), "FiveK_test.txt"),
    # the 100 of them that were shown to human raters
    "exposure-amt": (("FiveK_train_first2k.txt", "FiveK_train_second2k.txt"), "FiveK_test_AMT.txt"),
    # the two random halves that lie beside them
    "halves": (("train_idx.txt",), "test_idx.txt"),
}
# Wang et al., "DeepUPE", CVPR 2019, and many after it: the first 4500 to train, the last 500 to test
_LAST_500 = "upe"
SPLITS = (_LAST_500, *_SPLIT_FILES)


@dataclass(frozen=True)
class Split:
    """Numbers (1 to 5000) of the pictures to train on and to test on."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def number_of(name: str) -> int:
    """The number of a picture, 1 to 5000, from its name (``a0001-jmac_DSC1459`` gives 1).

    Raises:
        InputError: the name is not of that form.
    """
    if not (match := re.match(r"a(\d{4})(?!\d)", name)):
        raise InputError(f"{name!r} is no FiveK name; expected one like a0001-jmac_DSC1459.")
    return int(match[1])


def read_names(path: str | Path) -> list[str]:
    """Names of pictures from a metadata file, sorted by number.

    Args:
        path: a JSON object by name, a CSV with the column ``file_id``, or a text file of one name a line (the
            owners' ``filesAdobe.txt`` and ``filesAdobeMIT.txt``).

    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected FiveK's list of names (JSON, CSV or text).")
    if path.suffix == ".json":
        names = list(read_json(path, "FiveK's metadata"))
    elif path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or "file_id" not in rows[0]:
            raise InputError(f"{path} has no rows with a column file_id.")
        names = [row["file_id"] for row in rows]
    else:
        names = path.read_text(encoding="utf-8").split()
    return sorted(names, key=number_of)


def read_split(name: str, folder: str | Path | None = None) -> Split:
    """A published split.

    Args:
        name: one of `SPLITS`.
        folder: where its lists lie; ``"upe"`` needs none.

    Raises:
        InputError: the name is unknown, a list is missing, or holds anything but numbers from 1 to 5000.
    """
    if name == _LAST_500:
        return Split(tuple(range(1, 4501)), tuple(range(4501, 5001)))
    if name not in _SPLIT_FILES:
        raise InputError(f"FiveK split {name!r} is unknown; take one of {', '.join(SPLITS)}.")
    if folder is None:
        raise InputError(f"FiveK split {name!r} is made of lists; name the folder in which they lie.")
    train, test = _SPLIT_FILES[name]
    numbers = [number for file in train for number in _read_numbers(Path(folder) / file)]
    return Split(tuple(numbers), tuple(_read_numbers(Path(folder) / test)))


def _read_numbers(path: Path) -> list[int]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a list of FiveK numbers, one a line.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    bad = [entry for entry in entries if not entry.isdecimal() or not 1 <= int(entry) <= 5000]
    if bad:
        raise InputError(f"{path} holds {bad[0]!r}; expected numbers from 1 to 5000, one a line.")
    return [int(entry) for entry in entries]


class FiveK(RawFolder):
    """The raws of FiveK as a source of frames, with the experts' retouches beside them.

    Args:
        root: the folder that holds ``dng`` and, where retouches are wanted, ``tiff16_a`` to ``tiff16_e``.
        numbers: which pictures, in this order; None: all that are there.
        workers, cache: as in `RawFolder`.

    Attributes:
        missing: numbers that were asked for and of which no DNG is there.

    Raises:
        InputError: no raw is there, or none can be read.
    """

    def __init__(
        self,
        root: str | Path,
        numbers: Sequence[int] | None = None,
        workers: int | None = None,
        cache: PreviewCache | None = None,
    ) -> None:
        self.root = Path(root)
        found = {number_of(path.stem): path for path in sorted((self.root / "dng").glob("a*.dng"))}
        wanted = list(found) if numbers is None else list(numbers)
        self.missing = [number for number in wanted if number not in found]
        if len(self.missing) == len(wanted):
            raise InputError(
                f"{self.root / 'dng'} holds none of the FiveK raws asked for ({len(wanted)} of them); "
                "expected files such as a0001-jmac_DSC1459.dng."
            )
        super().__init__([found[number] for number in wanted if number in found], workers, cache)

    def expert(self, index: int, expert: str, short_side: int | None = None) -> Tensor:
        """An expert's retouch of picture `index`: float32 ``(3, H, W)``, display sRGB; see `read_expert`.

        The retouches are cropped by a few pixels against LibRaw's decode of the raw.
        """
        if expert not in EXPERTS:
            raise InputError(f"FiveK's experts are {', '.join(EXPERTS)}; got {expert!r}.")
        return read_expert(self.root / f"tiff16_{expert}" / f"{self.paths[index].stem}.tif", short_side)


def read_expert(path: str | Path, short_side: int | None = None) -> Tensor:
    """A 16-bit ProPhoto TIFF as display sRGB.

    Decoded to linear, adapted from D50 to D65 by Bradford, converted to linear sRGB, shrunk there, clipped
    to what sRGB can show, and encoded.

    Returns:
        float32 ``(3, H, W)``, display sRGB in [0, 1].

    Raises:
        InputError: the file is missing, cannot be decoded, or is no 16-bit RGB in ProPhoto.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected an expert's 16-bit TIFF.")
    try:
        with tifffile.TiffFile(path) as tiff:
            profile = tiff.pages.first.tags.valueof("InterColorProfile")
            pixels = tiff.pages.first.asarray()
    except Exception as error:  # tifffile raises whatever its parser meets in a broken file
        raise InputError(
            f"{path} cannot be decoded ({error}); is it complete, and imagecodecs installed?"
        ) from None
    if pixels.dtype != "uint16" or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"{path} holds {pixels.dtype} of shape {pixels.shape}; expected 16-bit RGB.")
    if profile is not None and not _is_prophoto(profile):
        raise InputError(f"{path} carries another colour profile than ProPhoto (ROMM) RGB; convert it first.")
    encoded = torch.from_numpy(pixels).permute(2, 0, 1).float() / 65535.0
    linear = apply_matrix(prophoto_to_linear(encoded), prophoto_to_srgb_matrix().float())
    return linear_to_srgb(shrink(linear, short_side).clamp(0.0, 1.0))


def _is_prophoto(profile: bytes) -> bool:
    """Whether an ICC profile calls itself so; version 4 writes its names in UTF-16."""
    plain = bytes(profile).replace(b"\0", b"")
    return b"ProPhoto" in plain or b"ROMM" in plain
