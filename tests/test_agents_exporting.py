"""Exports: right pixels, right way up, right colours and names, and nothing lost on the way."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import colour
import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import agents.export as export_command
from agents.enhancer import Enhancer, check_looks, chooser
from agents.exif import read_exif
from agents.exporting import export
from agents.image_files import SUFFIXES, finish, srgb_profile, write_picture
from agents.judging import Judging
from agents.policy_file import load_policy
from agents.products import Products
from attiqa.errors import InputError
from isp_env.frame import RawFrame
from isp_env.sources import RawFolder, read_frame
from tests.brightening import brightening_run, scores_by, two_raws
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Judging:
    return scores_by(tiny_checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, scores: Judging) -> Path:
    return brightening_run(tmp_path_factory.mktemp("run"), scores)


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return two_raws(tmp_path_factory.mktemp("raws"))


@pytest.fixture
def enhancer(run: Path, scores: Judging) -> Enhancer:
    return Enhancer(load_policy(run), scores)


def test_the_picture_is_the_pipelines_own_render(enhancer, raws, tmp_path):
    done = export(enhancer, raws[:1], tmp_path, Products("png"))
    frame = read_frame(raws[0])
    record = json.loads((tmp_path / "scene-00.json").read_text())
    assert record["parameters"]["exposure"] == pytest.approx(0.5)
    assert record["units"]["exposure"] == "EV"
    values = torch.tensor([record["parameters"][name] for name in enhancer.space.names])
    expected = (enhancer.pipeline.render_full(frame, values) * 65535).round().permute(1, 2, 0).numpy()
    pixels = cv2.imread(str(done.written[0]), cv2.IMREAD_UNCHANGED)[:, :, ::-1]  # OpenCV reads BGR
    assert pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels, expected, atol=1)
    assert record["policy_digest"] == enhancer.stored.digest
    assert record["source_digest"] == frame.digest
    assert record["score"] != record["neutral_score"]


@pytest.mark.parametrize("kind, suffix", [("jpeg", ".jpg"), ("png", ".png"), ("tiff", ".tif")])
def test_every_format_holds_the_picture_and_an_srgb_profile(tmp_path, kind, suffix):
    ramp = torch.linspace(0, 1, 96).expand(3, 64, 96) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)
    path = tmp_path / f"ramp{suffix}"
    write_picture(path, finish(ramp, kind), kind, 98, read_exif(path))
    if kind == "tiff":
        with tifffile.TiffFile(path) as file:
            profile, pixels = file.pages[0].iccprofile, file.asarray() / 65535  # type: ignore[union-attr]
    else:
        with Image.open(path) as picture:
            profile = picture.info["icc_profile"]
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :, ::-1] / (255 if kind == "jpeg" else 65535)
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    np.testing.assert_allclose(pixels, ramp.permute(1, 2, 0).numpy(), atol=0.012 if kind == "jpeg" else 1e-4)


def test_a_picture_written_twice_is_one_file(tmp_path):
    ramp = torch.linspace(0, 1, 96).expand(3, 64, 96)
    for kind in ("jpeg", "png", "tiff"):
        written = []
        for moment in ("first", "second"):
            srgb_profile.cache_clear()
            path = tmp_path / f"{moment}{SUFFIXES[kind]}"
            write_picture(path, finish(ramp, kind), kind, 98, read_exif(path))
            written.append(path.read_bytes())
            time.sleep(1.1 if kind == "jpeg" and moment == "first" else 0.0)  # profiles know seconds
        assert written[0] == written[1]


def photograph(path: Path, orientation: int = 1) -> Path:
    """Red above, blue below, as stored; with EXIF."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:30, :, 0], pixels[30:, :, 2] = 200, 200
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = orientation, "Maker", "Model 1"
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x8827: 400, 0x9003: "2026:01:02 03:04:05"})
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


def test_orientation_is_applied_once_and_exif_is_carried_over(enhancer, tmp_path):
    source = photograph(tmp_path / "turned.jpg", orientation=6)  # stored turned; upright is 60 wide, 90 high
    export(enhancer, [source], tmp_path / "out")
    with Image.open(tmp_path / "out" / "turned.jpg") as picture:
        exif = picture.getexif()
        details = exif.get_ifd(0x8769)
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (90, 60, 3)
    assert exif[0x0112] == 1
    assert (exif[0x010F], exif[0x0110]) == ("Maker", "Model 1")
    assert (details[0x8827], details[0x9003]) == (400, "2026:01:02 03:04:05")
    assert float(details[0x829A]) == pytest.approx(0.01)
    right, left = pixels[:, 45:].mean((0, 1)), pixels[:, :15].mean((0, 1))  # orientation 6: top goes right
    assert right[0] > right[2]
    assert left[2] > left[0]


def test_inputs_of_one_name_do_not_collide(enhancer, tmp_path):
    for folder, suffix in (("a", ".jpg"), ("b", ".jpg"), ("b", ".png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        photograph(tmp_path / folder / f"same{suffix}")
    done = export(enhancer, [tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert len({path.name for path in done.written}) == 3
    assert all(path.with_suffix(".json").is_file() for path in done.written)


def test_nothing_is_overwritten_unless_asked(enhancer, raws, tmp_path):
    first = export(enhancer, raws, tmp_path)
    before = first.written[0].read_bytes()
    first.written[0].write_bytes(b"mine")
    again = export(enhancer, raws, tmp_path)
    assert again.kept == first.written
    assert again.written == []
    assert first.written[0].read_bytes() == b"mine"
    export(enhancer, raws, tmp_path, overwrite=True)
    assert first.written[0].read_bytes() == before


def test_a_broken_file_is_named_and_the_others_are_exported(enhancer, raws, tmp_path):
    (tmp_path / "text.dng").write_text("no raw")
    (tmp_path / "empty.dng").touch()
    (tmp_path / "half.dng").write_bytes(raws[1].read_bytes()[:3000])
    done = export(enhancer, [raws[0], tmp_path], tmp_path / "out")
    assert [path.name for path in done.written] == ["scene-00.jpg"]
    assert {path.name for path, _ in done.failures} == {"text.dng", "empty.dng", "half.dng"}


def test_files_are_looked_at_together_up_to_so_many_and_so_many_pixels(enhancer, raws, tmp_path, monkeypatch):
    inputs = [*raws, photograph(tmp_path / "a.jpg"), photograph(tmp_path / "b.jpg")]  # 2 x 49,152, 2 x 5400
    alone = {}
    for number, path in enumerate(inputs):
        export(enhancer, [path], tmp_path / f"alone-{number}")
        (record,) = (tmp_path / f"alone-{number}").glob("*.json")
        alone[record.name] = json.loads(record.read_text())
    looked, look = [], enhancer.look

    def counting(frames: list[RawFrame]) -> object:
        looked.append([frame.image.shape[1:].numel() for frame in frames])
        return look(frames)

    monkeypatch.setattr(enhancer, "look", counting)
    for most, pixels, expected in ((8, 50_000, 3), (3, 1_000_000, 2), (8, 10, 4), (8, 1_000_000, 1)):
        monkeypatch.setattr("agents.products.TOGETHER", most)
        monkeypatch.setattr("agents.products.TOGETHER_PIXELS", pixels)
        looked.clear()
        out = tmp_path / f"{most}-{pixels}"
        done = export(enhancer, inputs, out)
        assert [path.stem for path in done.written] == [path.stem for path in inputs]
        assert len(looked) == expected
        for name, record in alone.items():
            together = json.loads((out / name).read_text())
            assert together["source_digest"] == record["source_digest"]
            for score in ("neutral_score", "score"):
                assert together[score] == pytest.approx(record[score], abs=1e-5)
    assert len({record["score"] for record in alone.values()}) > 2


def test_a_file_that_the_policy_cannot_look_at_costs_no_other(enhancer, raws, tmp_path, monkeypatch):
    look, digest = enhancer.look, read_frame(raws[0]).digest

    def refusing(frames: list[RawFrame]) -> object:
        if any(frame.digest == digest for frame in frames):
            raise RuntimeError("out of memory")
        return look(frames)

    monkeypatch.setattr(enhancer, "look", refusing)
    done = export(enhancer, [*raws, photograph(tmp_path / "mine.jpg")], tmp_path / "out")
    assert [path.name for path in done.written] == ["scene-01.jpg", "mine.jpg"]
    ((source, sentence),) = done.failures
    assert source == raws[0].absolute()
    assert sentence.endswith("scene-00.dng could not be exported (RuntimeError: out of memory).")


EVERYTHING = Products(neutral=True, lut=True, xmp=True, sheet=True, report=True)


def test_all_companions_are_written_and_told_in_the_record(enhancer, raws, tmp_path):
    done = export(enhancer, raws[:1], tmp_path, EVERYTHING)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        *(f"scene-00{suffix}" for suffix in (".jpg", ".neutral.jpg", ".json", ".cube", ".xmp", ".sheet.png")),
        *("report.html", "report/scene-00-neutral.jpg", "report/scene-00-enhanced.jpg"),
    }
    assert done.page == tmp_path / "report.html"
    record = json.loads((tmp_path / "scene-00.json").read_text())
    assert record["lut"]["error_against_render"]["psnr"] > 40
    assert record["xmp"] == {"file": "scene-00.xmp", "not_mapped": []}
    assert not done.remarks


def test_the_neutral_render_is_what_the_table_was_made_for(enhancer, raws, tmp_path):
    export(enhancer, raws[:1], tmp_path, Products("png", neutral=True, lut=True))
    neutral, enhanced = (
        cv2.imread(str(tmp_path / f"scene-00{middle}.png"), cv2.IMREAD_UNCHANGED)[:, :, ::-1] / 65535.0
        for middle in (".neutral", "")
    )
    table = colour.read_LUT(str(tmp_path / "scene-00.cube"))
    assert np.abs(table.apply(neutral) - enhanced).mean() < 0.005
    assert np.abs(neutral - enhanced).mean() > 0.02


def test_a_table_that_is_worth_little_is_remarked_upon(enhancer, raws, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.products.SEEN", 0.0)
    (remark,) = export(enhancer, raws[:1], tmp_path, Products(lut=True)).remarks
    assert "scene-00.cube" in remark
    assert "CIEDE2000" in remark


def test_a_companion_that_exists_keeps_the_whole_file_from_being_exported(enhancer, raws, tmp_path):
    (tmp_path / "scene-00.xmp").write_text("edited by hand")
    done = export(enhancer, raws[:1], tmp_path, Products(xmp=True))
    assert done.kept == [tmp_path / "scene-00.xmp"]
    assert [path.name for path in tmp_path.iterdir()] == ["scene-00.xmp"]
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(InputError, match=r"report.html exists already"):
        export(enhancer, raws[:1], tmp_path, Products(report=True))


def test_an_input_is_never_written_over(enhancer, tmp_path):
    source = photograph(tmp_path / "mine.jpg")
    before = source.read_bytes()
    done = export(enhancer, [source], tmp_path, overwrite=True)
    assert "which is an input" in done.failures[0][1]
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]


def test_exports_among_the_inputs_are_no_inputs(enhancer, tmp_path):
    source = photograph(tmp_path / "mine.jpg")
    first = export(enhancer, [tmp_path], tmp_path / "out", EVERYTHING)
    again = export(enhancer, [tmp_path], tmp_path / "out", EVERYTHING, overwrite=True)
    assert again.written == first.written == [tmp_path / "out" / "mine.jpg"]
    named = export(enhancer, first.written, tmp_path / "second")
    assert named.written == [tmp_path / "second" / "mine.jpg"]
    source.unlink()
    with pytest.raises(InputError, match="exports of this command"):
        export(enhancer, [tmp_path], tmp_path / "out")


def test_a_file_that_fails_at_its_end_leaves_nothing_and_stops_nobody(enhancer, raws, tmp_path, monkeypatch):
    def write(path: Path, *arguments: object) -> None:
        if path.stem == "scene-00":
            raise RuntimeError("no such thing")
        path.touch()

    monkeypatch.setattr("agents.products.write_picture", write)
    done = export(enhancer, raws, tmp_path, Products(lut=True))
    assert [path.name for path in done.written] == ["scene-01.jpg"]
    assert "scene-00.dng could not be exported (RuntimeError: no such thing)" in done.failures[0][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene-01.cube",
        "scene-01.jpg",
        "scene-01.json",
    ]


def test_only_a_policy_of_several_looks_needs_a_reward_that_is_no_part_of_this_package():
    assert chooser({"task": "tune", "reward": "guarded"}) == "guarded"
    assert chooser({"task": "tune", "reward": "my:reward"}) == "attiqa-mini"
    assert chooser({"task": "refine", "reward": "my:reward"}) == "my:reward"
    with pytest.raises(InputError, match="names no reward"):
        chooser({"task": "refine"})


def test_a_policy_of_several_looks_may_stop_after_fewer(run, scores, raws, tmp_path, capsys):
    for card, looks in (({"task": "refine"}, 1), ({"task": "refine"}, 5), ({"task": "tune"}, 1)):
        check_looks(card, looks)
        check_looks(card, None)
    with pytest.raises(InputError, match="between 1 and 5, as many as the policy takes; got 6"):
        check_looks({"task": "refine"}, 6)
    with pytest.raises(InputError, match="this one is of tools"):
        check_looks({"task": "tools"}, 2)
    stored = load_policy(run)
    with pytest.raises(InputError, match="this one is of tune"):
        Enhancer(stored, scores, looks=2)
    card = {**stored.card, "task": "refine"}
    frame, steps = read_frame(raws[0]), []

    def acting(seen: dict[str, np.ndarray]) -> np.ndarray:
        steps.append(float(seen["progress"][0, 0]))
        return stored.act(seen)

    counted = SimpleNamespace(
        policy=stored.policy, card=card, digest="", act=acting, algo=stored.algo, sees_slopes=False
    )
    Enhancer(counted, scores, looks=2).look([frame])
    np.testing.assert_allclose(steps, [0.0, 0.2])
    arguments = ["--run", str(run), "--looks", "2", "--input", str(raws[0]), "--out", str(tmp_path)]
    assert export_command.main(arguments) == 2
    assert "--looks is for policies of the task refine" in capsys.readouterr().err


def test_what_a_killed_export_left_is_taken_away_and_what_another_writes_is_not(enhancer, raws, tmp_path):
    for name, age in ((".export-old", 7200.0), (".export-new", 10.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scene-00.jpg").touch()
        moment = time.time() - age
        os.utime(tmp_path / name, (moment, moment))
    export(enhancer, raws[:1], tmp_path)
    assert not (tmp_path / ".export-old").exists()
    assert (tmp_path / ".export-new" / "scene-00.jpg").exists()


def test_an_interrupted_export_leaves_nothing_half_done(enhancer, raws, tmp_path, monkeypatch):
    def write(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.products.write_picture", write)
    with pytest.raises(KeyboardInterrupt):
        export(enhancer, raws, tmp_path, Products(xmp=True))
    assert list(tmp_path.iterdir()) == []


def test_the_same_call_after_a_stop_exports_what_is_missing_and_reports_all(
    enhancer, raws, tmp_path, monkeypatch
):
    def write(path: Path, *arguments: object) -> None:
        if path.stem == "scene-01":
            raise KeyboardInterrupt
        write_picture(path, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("agents.products.write_picture", write)
        with pytest.raises(KeyboardInterrupt):
            export(enhancer, raws, tmp_path, Products(report=True))
    first = (tmp_path / "scene-00.jpg").stat().st_mtime_ns
    done = export(enhancer, raws, tmp_path, Products(report=True))
    assert [path.name for path in done.written] == ["scene-01.jpg"]
    assert (tmp_path / "scene-00.jpg").stat().st_mtime_ns == first
    page = (tmp_path / "report.html").read_text()
    assert "2 exported pictures" in page
    for name in ("scene-00", "scene-01"):
        assert f'<a href="{name}.jpg">' in page
        assert "<th>exposure</th>" in page.split(f"<b>{name}</b>")[1].split("</figure>")[0]


def test_a_failed_replacement_leaves_what_was_there_before(enhancer, raws, tmp_path, monkeypatch):
    export(enhancer, raws[:1], tmp_path, Products(xmp=True))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "scene-00.json").write_text("{}")

    def write(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agents.products.write_picture", write)
    done = export(enhancer, raws[:1], tmp_path, Products(xmp=True), overwrite=True)
    assert done.failures[0][1].endswith(
        "scene-00.dng could not be exported (No space left on device; free some space there and repeat the "
        "command)."
    )
    now = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert now == before | {"scene-00.json": b"{}"}


def test_names_of_outputs_differ_whatever_the_inputs_are_called(enhancer, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("IMG.jpg", "IMG.png", "IMG.jpg.png", "img.png"):
        photograph(tmp_path / "in" / name)
    done = export(enhancer, [tmp_path / "in", tmp_path / "in" / ".." / "in" / "IMG.jpg"], tmp_path / "out")
    assert len({path.name.casefold() for path in done.written}) == len(done.written) == 4
    sources = {json.loads(path.read_text())["source"] for path in (tmp_path / "out").glob("*.json")}
    assert {Path(source).name for source in sources} == {"IMG.jpg", "IMG.png", "IMG.jpg.png", "img.png"}


def test_an_answer_that_its_own_reward_likes_less_than_neutral_is_not_exported(run, scores, raws, tmp_path):
    stored = load_policy(run)
    for name, reward in (
        ("brighter", lambda x: x.mean(dim=(1, 2, 3))),
        ("darker", lambda x: -x.mean(dim=(1, 2, 3))),
    ):
        told = dataclasses.replace(scores, reward=reward, about=scores.about | {"reward": "attiqa-mini"})
        paid = dataclasses.replace(stored, card=stored.card | {"reward": "attiqa-mini"})
        done = export(Enhancer(paid, told), raws[:1], tmp_path / name, Products())
        record = json.loads(done.written[0].with_suffix(".json").read_text())
        assert record["neutral_kept"] == (name == "darker")
        assert (record["score"] == record["neutral_score"]) == (name == "darker")
        assert (record["parameters"]["exposure"] == 0.0) == (name == "darker")
    # a reward that is no part of the package is not asked
    done = export(
        Enhancer(stored, dataclasses.replace(told, about=scores.about)), raws[:1], tmp_path / "unasked"
    )
    assert not json.loads(done.written[0].with_suffix(".json").read_text())["neutral_kept"]


def test_a_policy_that_saw_through_another_model_is_refused(run, scores):
    other = Judging(
        scores.reward, scores.encoder, scores.score, {}, {"eye": {"name": "x", "digest": "0" * 64}}
    )
    with pytest.raises(InputError, match="the policy sees through tiny"):
        Enhancer(load_policy(run), other)


def test_exports_of_the_real_raws_are_upright_and_whole(enhancer, data_root, tmp_path):
    names = ["RAW_KODAK_DC50.KDC", "LG_G4_linear.dng", "CANON_EOS_6D_linear.dng"]
    done = export(enhancer, [data_root / "raws" / name for name in names], tmp_path)
    assert not done.failures
    source = RawFolder([data_root / "raws" / name for name in names])
    for picture, path in zip(done.written, source.paths, strict=True):
        with Image.open(picture) as opened:
            assert opened.size[::-1] == tuple(read_frame(path).image.shape[-2:])
