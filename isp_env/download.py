"""Fetching files that resume after a break and are verified before they get their name.

``python -m isp_env.download --names filesAdobe.txt --root FIVEK/`` fetches MIT-Adobe FiveK, or a part of it.
"""

from __future__ import annotations

import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from attiqa.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, command
from attiqa.files import file_digest, read_json
from attiqa.options import option, parse
from isp_env.fivek import BASE_URL, EXPERTS, SPLITS, number_of, read_names, read_split
from isp_env.sources import in_threads

_CHUNK = 1 << 20
_TIMEOUT = 60.0


class _IncompleteError(Exception):
    """The connection ended before the file did; what came is kept."""


def download_file(url: str, path: str | Path, digest: str | None = None, attempts: int = 3) -> bool:
    """Fetch one file; what a broken attempt brought is continued, by this call or a later one.

    Args:
        url: http or https.
        path: where to. It appears when complete: as long as the server said, and of the digest if one is
            given. Until then the bytes lie in ``PATH.part``.
        digest: SHA-256, 64 hexadecimal digits.
        attempts: tries in a row, each a little later than the last.

    Returns:
        Whether anything was fetched; False where the file was there already.

    Raises:
        InputError: the server refuses, the attempts are used up, or the digest differs.
    """
    path = Path(path)
    if path.is_file() and (digest is None or file_digest(path) == digest):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(attempts):
        time.sleep(attempt**2)
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise InputError(
                    f"{url} cannot be fetched: the server says {error.code} {error.reason}."
                ) from None
            reason = str(error)
        except (OSError, http.client.HTTPException, _IncompleteError) as error:
            reason = str(error)
    else:
        raise InputError(f"{url} could not be fetched in {attempts} attempts ({reason}); run it again later.")
    if digest is not None and file_digest(part) != digest:
        part.unlink()
        raise InputError(f"{url} arrived with another SHA-256 than expected; it was deleted, run it again.")
    part.replace(path)
    return True


def _continue(url: str, part: Path) -> None:
    """Append what is missing of `part`; begin anew where the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # nothing lies behind what we have: it is complete, or of another file; the length tells
        if error.headers.get("Content-Range", "") == f"bytes */{have}":
            return
        part.unlink()
        raise _IncompleteError("the part on disk was longer than the file") from None
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        with open(part, "ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
            size = file.tell()
    if length is not None and size != int(length) + (have if resumed else 0):
        raise _IncompleteError(f"{size} bytes came of {int(length) + (have if resumed else 0)}")


def download_fivek(
    names: Sequence[str],
    root: str | Path,
    experts: Sequence[str] = ("c",),
    base_url: str = BASE_URL,
    digests: dict[str, str] | None = None,
    workers: int = 4,
) -> list[tuple[str, str]]:
    """Fetch raws and retouches of FiveK into the layout that `FiveK` reads.

    Args:
        names: pictures; see `read_names`.
        root: the folder to fill.
        experts: whose retouches, of a to e; none is allowed.
        base_url: where ``dng/NAME.dng`` and ``tiff16_c/NAME.tif`` are, the owners' server or a mirror.
        digests: SHA-256 by relative path, such as ``dng/NAME.dng``; the owners publish none.
        workers: files at a time.

    Returns:
        Relative path and sentence of each file that could not be fetched.

    Raises:
        InputError: an expert is unknown.
    """
    if unknown := set(experts) - set(EXPERTS):
        raise InputError(f"FiveK's experts are {', '.join(EXPERTS)}; got {', '.join(sorted(unknown))}.")
    files = [f"dng/{name}.dng" for name in names]
    files += [f"tiff16_{expert}/{name}.tif" for expert in experts for name in names]

    def fetch(file: str) -> str | None:
        try:
            url = f"{base_url.rstrip('/')}/{quote(file)}"
            download_file(url, Path(root) / file, (digests or {}).get(file))
        except InputError as error:
            return str(error)
        return None

    sentences = in_threads(fetch, files, workers, "downloading")
    return [(file, sentence) for file, sentence in zip(files, sentences, strict=True) if sentence is not None]


def read_digests(path: str | Path) -> dict[str, str]:
    """SHA-256 by relative path, from a JSON object or from lines as ``sha256sum`` writes them.

    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected digests, as JSON or as sha256sum writes them.")
    if path.suffix == ".json":
        digests = read_json(path, "a table of digests")
    else:
        lines = path.read_text(encoding="utf-8").splitlines()
        digests = {
            name.lstrip(" *"): digest for digest, _, name in (line.partition(" ") for line in lines if line)
        }
    bad = [name for name, digest in digests.items() if not re.fullmatch("[0-9a-f]{64}", str(digest))]
    if bad:
        raise InputError(f"{path} holds no SHA-256 for {bad[0]!r}; expected 64 hexadecimal digits.")
    return digests


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Options of ``python -m isp_env.download``."""

    names: Path = option(
        help="the pictures: a list of names, one a line, such as filesAdobe.txt; or metadata as JSON or CSV",
        metavar="FILE",
    )
    root: Path = option(
        help="folder to fill; what is there already is kept, what broke off goes on", metavar="DIR"
    )
    experts: list[str] = option(["c"], help="whose retouches, of a to e; none for the raws alone")
    split: str = option("", help="only the pictures of a published split: " + ", ".join(SPLITS))
    splits: Path | None = option(None, help="folder of that split's lists", metavar="DIR")
    part: str = option("all", choices=("train", "test", "all"), help="part of the split")
    first: int = option(0, help="only so many pictures, from the first; 0 for all")
    base_url: str = option(BASE_URL, help="server or mirror that has dng/NAME.dng and tiff16_c/NAME.tif")
    digests: Path | None = option(
        None, help="SHA-256 by relative path, JSON or as sha256sum writes them, to verify by", metavar="FILE"
    )
    workers: int = option(4, help="files at a time")

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise InputError(f"--base-url is an http or https address; it is {self.base_url!r}.")
        if self.workers < 1 or self.first < 0:
            raise InputError("--workers is 1 or more and --first 0 or more.")
        if self.part != "all" and not self.split:
            raise InputError(f"--part {self.part} is of a split; name it with --split.")


@command
def main(argv: list[str] | None = None) -> int:
    """Fetch; exit code 2 where a file could not be had, each with its sentence."""
    options = parse(DownloadOptions, argv, prog="python -m isp_env.download", description=__doc__ or "")
    names = _chosen_names(options)
    experts = [] if options.experts == ["none"] else options.experts
    digests = read_digests(options.digests) if options.digests else None
    failures = download_fivek(names, options.root, experts, options.base_url, digests, options.workers)
    files = len(names) * (1 + len(experts))
    print(f"{files - len(failures)} of {files} files are in {options.root}")
    for file, sentence in failures:
        print(f"{file}: {sentence}", file=sys.stderr)
    return EXIT_BAD_INPUT if failures else EXIT_OK


def _chosen_names(options: DownloadOptions) -> list[str]:
    names = read_names(options.names)
    if options.split:
        split = read_split(options.split, options.splits)
        parts = {"train": split.train, "test": split.test, "all": (*split.train, *split.test)}
        wanted = set(parts[options.part])
        names = [name for name in names if number_of(name) in wanted]
    names = names[: options.first or None]
    if not names:
        raise InputError(f"{options.names} names no picture of what was asked for.")
    return names


if __name__ == "__main__":
    sys.exit(main(None))
