"""Full-resolution pictures from a trained policy, through the operators that it learnt on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from agents.image_files import SUFFIXES, read_exif, write_picture
from agents.judging import Judging
from agents.playing import make_envs, play
from agents.policy_file import StoredPolicy
from attiqa.errors import InputError, describe_os_error
from attiqa.files import write_json
from isp_env.envs.core import Core
from isp_env.frame import RawFrame
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.sources import MemoryFrames, RawFolder, read_frame

AHEAD = 2  # raws decoded while another is rendered; each takes 12 bytes a pixel


@dataclass
class Exported:
    """What became of the files.

    Attributes:
        written: the pictures.
        kept: pictures that existed already and were left alone.
        failures: path and sentence of each file that could not be exported.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Enhanced:
    """A policy's answer to one raw.

    Attributes:
        values: ``(P,)``, physical units.
        neutral_score, score: plain quality of the preview, before and after.
        neutral, preview: float32 ``(3, h, w)``, display sRGB, the preview before and after.
    """

    values: torch.Tensor
    neutral_score: float
    score: float
    neutral: torch.Tensor
    preview: torch.Tensor


class Enhancer:
    """A stored policy, ready to set parameters for raws.

    Args:
        stored: the policy.
        scores: the score and the eye; the eye must be the one that the policy was trained with.
        device: where previews are rendered and scored.

    Raises:
        InputError: the policy saw through another model, or knows parameters that this version lacks.
    """

    def __init__(self, stored: StoredPolicy, scores: Judging, device: str = "cpu") -> None:
        card = stored.card
        try:
            names = [row["name"] for row in card["parameters"]]
            wanted, self.task, self.short_side = card["eye"], str(card["task"]), int(card["short_side"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the policy's card is incomplete ({error!r}); copy the whole run folder."
            ) from None
        if wanted != scores.about["eye"]:
            raise InputError(
                f"the policy sees through {wanted['name']} {wanted['digest'][:12]}..., and this installation "
                f"has {scores.about['eye']['digest'][:12]}...; train again, or install the one it came from."
            )
        self.space = ParameterSpace(names)
        self.pipeline = Pipeline(self.space)
        self.stored, self._scores, self._device = stored, scores, device

    def look(self, frame: RawFrame) -> Enhanced:
        """Choose the parameters of one raw of any size."""
        core = Core(
            MemoryFrames([frame]),
            self.space,
            self.pipeline,
            self._scores.score,
            short_side=self.short_side,
            device=self._device,
            encoder=self._scores.encoder,
        )
        setting, _ = play(make_envs(self.task, core, 1), np.zeros(1, np.int64), self.stored.act)
        values = self.space.to_physical(torch.as_tensor(setting, dtype=torch.float32))
        numbers = np.zeros(1, np.int64)
        return Enhanced(
            values[0],
            float(core.neutral["potential"][0]),
            float(core.potential_of(numbers, values)[0]),
            core.render_of(numbers, self.space.neutral_values(1))[0],
            core.render_of(numbers, values)[0],
        )

    def record(self, frame: RawFrame, enhanced: Enhanced) -> dict[str, Any]:
        """What stands beside an exported picture, as JSON values."""
        return {
            "parameters": self.space.as_dict(enhanced.values),
            "units": {row.name: row.unit for row in self.space.parameters},
            "neutral_score": enhanced.neutral_score,
            "score": enhanced.score,
            "score_model": self._scores.about["eye"],
            "policy_digest": self.stored.digest,
            "source_digest": frame.digest,
            "notes": list(frame.notes),
        }


def export(
    enhancer: Enhancer,
    inputs: Sequence[Path],
    out: Path,
    *,
    kind: str = "jpeg",
    quality: int = 95,
    overwrite: bool = False,
) -> Exported:
    """Render files and folders of raws or photographs at full resolution into `out`.

    Each gets ``NAME`` with the suffix of `kind` and ``NAME.json``; inputs that share a name are told apart
    by suffix or folder. A file that fails is named and the rest goes on. Ctrl-C keeps what is written.

    Raises:
        InputError: nothing was found, or nothing that was found can be read.
    """
    source = RawFolder(inputs)
    result = Exported(failures=list(source.failures))
    jobs = []
    for path, name in zip(source.paths, source.names, strict=True):
        picture = out / (name + SUFFIXES[kind])
        if picture.exists() and not overwrite:
            result.kept.append(picture)
        else:
            jobs.append((path, picture))
    bar = tqdm(total=len(jobs), desc="exporting", unit="file", disable=None)
    for path, picture, decoded in _decode_ahead(jobs):
        try:
            frame = decoded.result()
            enhanced = enhancer.look(frame)
            full = enhancer.pipeline.render_full(frame, enhanced.values)
            write_picture(picture, full, kind, quality, read_exif(path))
            about = {"source": str(path), "picture": picture.name}
            write_json(picture.with_suffix(".json"), about | enhancer.record(frame, enhanced))
            result.written.append(picture)
        except InputError as error:
            result.failures.append((path, str(error)))
        except OSError as error:
            result.failures.append((path, describe_os_error(error)))
        bar.update()
    bar.close()
    return result


def _decode_ahead(jobs: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Path, Future[RawFrame]]]:
    """Decode a few files ahead in threads: LibRaw works outside the interpreter lock."""
    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            waiting = [pool.submit(read_frame, path) for path, _ in jobs[:AHEAD]]
            for number, (path, picture) in enumerate(jobs):
                decoded = waiting.pop(0)
                yield path, picture, decoded
                if number + AHEAD < len(jobs):
                    waiting.append(pool.submit(read_frame, jobs[number + AHEAD][0]))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
