"""FiveK on made-up scenes: known differences, several experts, sizes off by a pixel, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attiqa.errors import InputError
from attiqa.fidelity import psnr
from benchmarks.enhancement import (
    Comparison,
    compare,
    experts_agreement,
    find_experts,
    gain_over,
    list_scenes,
    match_size,
    summarise,
    win_rate,
)
from benchmarks.fivek import main
from benchmarks.records import ROOT

DRAWS = {"repeats": 50, "seed": 0}


def save(path: Path, value: int, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 60, size[0]).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None] + np.uint8(value), (size[1], size[0], 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


@pytest.fixture
def fivek(tmp_path: Path) -> Path:
    """Four scenes; expert C is 10 levels above the input's 100, expert A 30, `good` 4 and `bad` 60."""
    root = tmp_path / "fivek"
    for scene in ("s1", "s2", "s3", "s4"):
        for folder, value in (("input", 100), ("expertC", 110), ("expertA", 130)):
            save(root / folder / f"{scene}.png", value)
        save(root / "outputs" / "good" / f"{scene}.png", 104)
        save(root / "outputs" / "bad" / f"{scene}.png", 160)
    return root


def test_psnr_to_each_expert_is_the_known_difference(fivek: Path) -> None:
    comparisons, failures = compare("good", list_scenes(fivek / "outputs" / "good"), find_experts(fivek))
    assert failures == []
    rows = {row["against"]: row for row in summarise(comparisons, **DRAWS)}
    assert rows["expert C"]["metrics"]["psnr"]["mean"] == pytest.approx(20 * np.log10(255 / 6), abs=1e-4)
    assert rows["expert A"]["metrics"]["psnr"]["mean"] == pytest.approx(20 * np.log10(255 / 26), abs=1e-4)
    assert rows["best expert"]["metrics"]["psnr"]["mean"] == rows["expert C"]["metrics"]["psnr"]["mean"]
    expected = np.mean([20 * np.log10(255 / 6), 20 * np.log10(255 / 26)])
    assert rows["mean of experts"]["metrics"]["psnr"]["mean"] == pytest.approx(expected, abs=1e-4)


def test_gain_over_the_input_is_taken_on_shared_scenes(fivek: Path) -> None:
    experts = {"C": find_experts(fivek)["C"]}
    base, _ = compare("input", list_scenes(fivek / "input"), experts)
    (fivek / "outputs" / "good" / "s4.png").unlink()
    other, _ = compare("good", list_scenes(fivek / "outputs" / "good"), experts)
    gain = gain_over(base, other, **DRAWS)["psnr"]
    assert gain["mean"] == pytest.approx(20 * np.log10(10 / 6), abs=1e-4)
    assert gain["scenes"] == 3


def test_experts_agreement_leaves_out_the_expert_itself(fivek: Path) -> None:
    rows = {row["method"]: row for row in experts_agreement(find_experts(fivek), **DRAWS)}
    assert rows.keys() == {"expert A", "expert C"}
    assert rows["expert A"]["metrics"]["psnr"]["mean"] == pytest.approx(20 * np.log10(255 / 20), abs=1e-4)


def test_experts_are_found_by_file_name_too(tmp_path: Path) -> None:
    for letter in "AC":
        save(tmp_path / f"a0001-x_{letter}.jpg", 90)
    assert find_experts(tmp_path).keys() == {"A", "C"}
    assert list(find_experts(tmp_path)["A"]) == ["a0001-x"]


def test_a_size_off_by_a_pixel_is_brought_to_the_reference() -> None:
    image = torch.linspace(0, 1, 101)[None, None].expand(3, 67, 101).contiguous()
    reference = torch.linspace(0, 1, 100)[None, None].expand(3, 66, 100)
    assert psnr(match_size(image, reference), reference) > 40


def test_another_shape_of_picture_is_refused() -> None:
    with pytest.raises(InputError, match="another shape"):
        match_size(torch.zeros(3, 100, 66), torch.zeros(3, 66, 100))


def test_two_files_of_one_scene_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / "a.jpg", 1)
    with pytest.raises(InputError, match="holds a twice"):
        list_scenes(tmp_path)


def test_win_rate_counts_wins_losses_and_ties() -> None:
    result = win_rate({"a": 2.0, "b": 2.0, "c": 1.0, "d": np.nan}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0})
    assert (result["wins"], result["losses"], result["ties"], result["unscored"]) == (2, 0, 1, 1)
    assert result["rate"] == 1.0


def test_the_command_writes_table_record_items_and_picture(
    fivek: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fivek / "outputs" / "good" / "s9.png").write_bytes((fivek / "input" / "s1.png").read_bytes())
    (fivek / "outputs" / "bad" / "s1.png").write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = ["--data", str(fivek), "--model", "none", "--out", str(out), "--repeats", "50"]
    assert main([*arguments, "--input-class", "lightroom-zeroed"]) == 0
    printed = capsys.readouterr().out
    assert "no expert rendered s9" in printed
    assert "bad, s1 against expert A" in printed
    record = json.loads((out / "record.json").read_text())
    assert record["options"]["input_class"] == "lightroom-zeroed"
    assert len(record["not_compared"]) == 3
    assert "LPIPS" in (record["no_lpips"] or "LPIPS")  # a sentence, unless torch's cache has the weights
    assert (out / "psnr.png").stat().st_size > 1000
    assert (out / "items.csv").read_text().startswith("method,scene,expert,resized,psnr,ssim,ciede2000")


def test_several_policies_render_the_input_and_are_compared(tmp_path: Path) -> None:
    data = tmp_path / "fivek"
    for folder, value in (("input", 60), ("expertC", 110), ("outputs/peer", 100)):
        save(data / folder / "s1.png", value, size=(160, 120))
    runs = [str(ROOT / "agents" / "policies" / name) for name in ("photographs", "five-looks")]
    out = tmp_path / "out"
    assert main(["--data", str(data), "--out", str(out), "--quick", "--run", *runs]) == 0
    record = json.loads((out / "record.json").read_text())
    compared = {row["method"] for row in record["rows"]}
    policies = {"policy photographs", "policy five-looks"}
    assert compared == {"input", "peer"} | policies
    rivals = {(row["method"], row["against"]) for row in record["win_rates"]}
    assert {(policy, "peer") for policy in policies} <= rivals
    # not among themselves, and not the other way round
    assert not any(rival in policies for _, rival in rivals)
    assert len(list(out.glob("policy-*/s1.jpg"))) == 2


def test_weights_of_lpips_that_were_named_have_to_be_there(
    fivek: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["--data", str(fivek), "--model", "none", "--lpips", str(tmp_path / "empty")]) == 2
    assert "lacks alexnet-owt-7be5be79.pth" in capsys.readouterr().err


def test_the_best_expert_by_lpips_is_the_nearest() -> None:
    items = [
        Comparison("m", "s", expert, {"psnr": 20.0, "lpips": value}, False)
        for expert, value in (("A", 0.4), ("B", 0.1))
    ]
    rows = {row["against"]: row["metrics"] for row in summarise(items, repeats=10, seed=0)}
    assert rows["best expert"]["lpips"]["mean"] == 0.1
    assert rows["mean of experts"]["lpips"]["mean"] == pytest.approx(0.25)


def test_without_data_the_command_explains_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "data.csail.mit.edu" in capsys.readouterr().err


def test_a_folder_without_experts_is_an_error_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "input" / "a.png", 10)
    assert main(["--data", str(tmp_path), "--model", "none"]) == 2
    assert "holds no expert" in capsys.readouterr().err
