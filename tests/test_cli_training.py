"""``attiqa pretrain`` and ``attiqa finetune`` from the command line, on a handful of photographs."""

from __future__ import annotations

import csv
import io
import json
import shutil
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import distributed, multiprocessing

from attiqa.attributes import read_attributes
from attiqa.cli import pretrain as pretrain_command
from attiqa.cli.finetune import list_unused
from attiqa.cli.finetune import main as finetune_main
from attiqa.cli.pretrain import main as pretrain_main
from attiqa.datasets.registry import load_dataset
from attiqa.errors import InputError
from attiqa.model import load
from attiqa.training.distorted import DistortedBatches
from attiqa.training.finetuning import RatedImages, finetune
from attiqa.training.labelled import LabelledBatches
from attiqa.training.photographs import PhotographPool
from attiqa.training.pretraining import pretrain
from attiqa.training.processes import Processes
from attiqa.training.store import list_entries, read_labels
from tests.tiny import tiny_checkpoint, tiny_network

NAMES = read_attributes().names
SMALL = ["--backbone", "shufflenet_v2_x0_5", "--hidden", "8", "--side", "64", "--device", "cpu"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight crops of real photographs, four in class folders and four in a WebDataset shard."""
    folder = tmp_path_factory.mktemp("photographs")
    crops = [
        image[top : top + 160, left : left + 200]
        for image in (data.astronaut(), data.coffee())
        for top in (0, 200)
        for left in (0, 250)
    ]
    for index, crop in enumerate(crops[:4]):
        (folder / f"class{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(crop).save(folder / f"class{index % 2}" / f"{index}.png")
    with tarfile.open(folder / "shard-000.tar", "w") as shard:
        for index, crop in enumerate(crops[4:], start=4):
            buffer = io.BytesIO()
            Image.fromarray(crop).save(buffer, format="png")
            for name, content in ((f"{index}.png", buffer.getvalue()), (f"{index}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def table(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of all eight images, one cell unknown."""
    path = tmp_path_factory.mktemp("labels") / "scores.csv"
    rows = [[f"class{i % 2}/{i}.png" if i < 4 else f"{i}.png", *([i / 8] * 5)] for i in range(8)]
    rows[0][1] = ""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", *NAMES], *rows])
    return path


def inputs(photographs: Path) -> list[Path]:
    return [photographs / "class0", photographs / "class1", photographs / "shard-000.tar"]


def test_folders_and_shards_give_the_same_kind_of_entry(photographs: Path, table: Path) -> None:
    entries = list_entries(inputs(photographs))
    assert len(entries) == 8
    assert all(entry.read().shape == (3, 160, 200) for entry in entries)
    kept, labels = read_labels(table, entries, NAMES)
    assert len(kept) == 8
    assert torch.isnan(labels).sum() == 1
    by_key = {Path(entry.key).name: float(row[1]) for entry, row in zip(kept, labels, strict=True)}
    assert by_key == {f"{i}.png": i / 8 for i in range(8)}


def test_wrong_tables_and_shards_are_one_sentence_each(
    photographs: Path, table: Path, tmp_path: Path
) -> None:
    entries = list_entries(inputs(photographs))
    with pytest.raises(InputError, match="lacks the column 'composition'"):
        read_labels(table, entries, [*NAMES, "composition"])
    (tmp_path / "semicolons.csv").write_text(f"path;{';'.join(NAMES)}\n0.png;1;1;1;1;1\n")
    with pytest.raises(InputError, match="separated by commas, and has path;sharpness"):
        read_labels(tmp_path / "semicolons.csv", entries, NAMES)
    (tmp_path / "endless.csv").write_text(f"path,{','.join(NAMES)}\n0.png,1,1,inf,1,1\n")
    with pytest.raises(InputError, match=r"an infinite label, for 0\.png"):
        read_labels(tmp_path / "endless.csv", entries, NAMES)
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets save it
    assert len(read_labels(tmp_path / "marked.csv", entries, NAMES)[0]) == 8
    (tmp_path / "other.csv").write_text(f"path,{','.join(NAMES)}\nz.png,1,1,1,1,1\n")
    with pytest.raises(InputError, match="no row of"):
        read_labels(tmp_path / "other.csv", entries, NAMES)
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match="not a readable, uncompressed tar shard"):
        list_entries([tmp_path / "broken.tar"])


def test_labelled_batches_cover_an_epoch_and_survive_a_broken_file(photographs: Path, tmp_path: Path) -> None:
    entries = list_entries(inputs(photographs))
    (tmp_path / "broken.png").write_bytes(b"no image")
    entries += list_entries([tmp_path / "broken.png"])
    labels = torch.arange(9.0).unsqueeze(1)
    batches = LabelledBatches(entries, labels, batch=3, side=64)
    seen = torch.cat([batches(step).labels for step in range(3)]).flatten()
    assert sorted(seen[~seen.isnan()].tolist()) == list(range(8))
    assert len(batches.failures) == 1
    assert torch.equal(batches(4).images, LabelledBatches(entries, labels, batch=3, side=64)(4).images)
    with pytest.raises(InputError, match="needs at least as many images"):
        LabelledBatches(entries, labels, batch=10)


def test_pretraining_on_distortions_writes_a_model_that_loads(photographs: Path, tmp_path: Path) -> None:
    arguments = [str(photographs), "--out", str(tmp_path / "run"), "--steps", "3", "--batch", "12", *SMALL]
    assert pretrain_main([*arguments, "--validation", "0.25"]) == 0
    model = load(tmp_path / "run" / "model.safetensors")
    assert model.attributes(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert set(model.describe()["validation_srocc"]) == set(NAMES)


def test_a_broken_held_out_image_and_labels_without_order_cost_no_trained_model(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs / "class0", folder)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "unlabelled.png").write_bytes((folder / "0.png").read_bytes())
    rows = [f"{name},{','.join(['1'] * 5)}" for name in ("0.png", "2.png", "broken.png")]
    (tmp_path / "labels.csv").write_text("\n".join([f"path,{','.join(NAMES)}", *rows]))
    common = [str(folder), "--out", str(tmp_path / "run"), "--steps", "1", "--batch", "1", *SMALL]
    common += ["--labels", str(tmp_path / "labels.csv"), "--validation", "0.67"]
    assert pretrain_main(common) == 0
    output = capsys.readouterr()
    assert "3 of 4 images have a row" in output.err
    assert output.err.count("broken.png is not an image") == 1  # in training or among the held-out
    assert load(tmp_path / "run").describe()["validation_srocc"] == {}  # all labels are alike
    assert pretrain_main([*common, "--hidden", "4"]) == 2
    assert "run with other options: --hidden was 8 and is 4" in capsys.readouterr().err
    assert pretrain_main([*common, "--workers", "1"]) == 0  # which changes nothing


@pytest.mark.parametrize("option", ["--steps", "--batch", "--side", "--hidden", "--workers", "--stem-stride"])
def test_nonsense_of_pretraining_is_a_sentence(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain_main([str(tmp_path), "--out", str(tmp_path / "run"), option, "0"]) == 2
    assert f"error: {option} is " in capsys.readouterr().err


def test_the_network_is_looked_at_before_photographs_are_decoded(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretrain_command, "PhotographPool", lambda *_, **__: pytest.fail("decoded"))
    arguments = [str(photographs), "--out", str(tmp_path / "run"), "--backbone", "resnet51"]
    assert pretrain_main(arguments) == 2
    assert "'resnet51' is not a torchvision classifier" in capsys.readouterr().err


def test_a_sixth_attribute_needs_a_file_and_labels_alone(photographs: Path, tmp_path: Path) -> None:
    bundled = [vars(attribute) for attribute in read_attributes().attributes]
    sixth = {"name": "composition", "positive": "Balanced", "negative": "Cluttered"}
    (tmp_path / "six.json").write_text(json.dumps({"attributes": [*bundled, sixth]}))
    rows = [f"{i}.png,{','.join([str(i)] * 6)}" for i in range(8)]
    (tmp_path / "six.csv").write_text("\n".join([f"path,{','.join(NAMES)},composition", *rows]))
    common = [*map(str, inputs(photographs)), "--out", str(tmp_path / "run"), "--steps", "2", *SMALL]
    common += ["--attributes", str(tmp_path / "six.json"), "--validation", "0"]
    assert pretrain_main([*common, "--batch", "6"]) == 2  # no distortion labels composition
    assert pretrain_main([*common, "--batch", "4", "--labels", str(tmp_path / "six.csv")]) == 0
    assert load(tmp_path / "run").attribute_names[-1] == "composition"


def _train(rank: int, count: int, port: int, photographs: str, out: str, frozen: bool) -> None:
    if count > 1:
        distributed.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
        )
    torch.set_num_threads(1)
    # in double precision: where statistics are learnt, every rounding is divided by the spread of a few
    # images, and in single precision the third step's loss is another one on some processors
    network = tiny_network().double()
    network.register_forward_pre_hook(lambda _, images: (images[0].double(),))
    pool = PhotographPool(list_entries([Path(photographs) / "class0"]))
    processes = Processes()
    batches = DistortedBatches(pool, NAMES, scenes=2, versions=4, side=64, processes=processes)
    losses = pretrain(network, batches, 4, quality_weight=1.0, frozen_statistics=frozen, processes=processes)
    weights, statistics = network.heads.first.weight.detach(), next(network.backbone.buffers())
    np.savez(
        f"{out}/{count}-{rank}.npz", losses=losses, weights=weights.numpy(), statistics=statistics.numpy()
    )
    if count > 1:
        distributed.destroy_process_group()


@pytest.mark.parametrize("frozen", [True, False])
def test_two_processes_train_as_one_does(frozen: bool, photographs: Path, tmp_path: Path) -> None:
    """Also where batch norms learn their statistics: those are of the whole batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _train(0, 1, port, str(photographs), str(tmp_path), frozen)
    multiprocessing.start_processes(
        _train, (2, port, str(photographs), str(tmp_path), frozen), nprocs=2, start_method="fork"
    )
    one, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=1e-4)
    np.testing.assert_allclose(first["statistics"], one["statistics"], rtol=1e-4, atol=1e-6)
    # Adam divides by the gradient's size, so weights of vanishing gradient follow its rounding
    start = tiny_network().heads.first.weight.detach().numpy()
    difference, change = np.abs(first["weights"] - one["weights"]), np.abs(one["weights"] - start)
    assert difference.mean() < 0.1 * change.mean()
    np.testing.assert_array_equal(first["weights"], second["weights"])


def _normalise(rank: int, port: int, out: str) -> None:
    """Each process's outputs and gradients of a shared batch norm on its half of a batch."""
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3)).train()
    Processes().share_statistics(layers)
    generator = torch.Generator().manual_seed(0)
    images, weights = torch.randn(2, 6, 3, 4, 5, generator=generator)[:, 3 * rank : 3 * rank + 3]
    images.requires_grad_()
    outputs = layers(2 + 3 * images)
    (outputs**2 * weights).sum().backward()
    Processes().sum_gradients(list(layers.parameters()))
    found = {"outputs": outputs.detach(), "images": images.grad, "scale": layers[0].weight.grad}
    found |= {"mean": layers[0].running_mean, "variance": layers[0].running_var}
    np.savez(f"{out}/{rank}.npz", **found)
    distributed.destroy_process_group()


def test_a_shared_batch_norm_is_torchs_on_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(_normalise, (port, str(tmp_path)), nprocs=2, start_method="fork")
    norm = torch.nn.BatchNorm2d(3).train()
    images, weights = torch.randn(2, 6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    outputs = norm(2 + 3 * images)
    (outputs**2 * weights).sum().backward()
    halves = [np.load(tmp_path / f"{rank}.npz") for rank in (0, 1)]
    for name, expected in (("outputs", outputs), ("images", images.grad)):
        got = np.concatenate([half[name] for half in halves])
        np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for name, expected in (
        ("scale", norm.weight.grad),
        ("mean", norm.running_mean),
        ("variance", norm.running_var),
    ):
        for half in halves:
            np.testing.assert_allclose(half[name], expected.numpy(), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one's own: twelve noisy versions of a photograph and a file that cannot be read."""
    folder = tmp_path_factory.mktemp("rated")
    generator = np.random.default_rng(0)
    base = data.chelsea()[:200, :240].astype(float)
    rows = ["name,mos"]
    for index in range(12):
        noisy = base + generator.normal(0, 5 * index, base.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{5 - index / 3}")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "labels.csv").write_text("\n".join([*rows, "broken.png,3"]))
    return folder


def test_finetuning_reports_splits_and_goes_on_where_it_stopped(
    rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", "csv", "--root", str(rated), "--model", str(tiny_checkpoint(tmp_path))]
    arguments += ["--out", str(tmp_path / "run"), "--count", "2", "--epochs", "2", "--device", "cpu"]
    assert finetune_main(arguments) == 0
    output = capsys.readouterr()
    assert "12 images, 2 splits" in output.out
    assert "csv: 1 images are unreadable:" in output.err
    assert "broken.png" in output.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["last_epoch"]["rows"]) == 2
    assert not list((tmp_path / "run").glob("pixels.*"))  # they were for a run that is stopped
    before = (tmp_path / "run" / "split-1" / "model.safetensors").stat().st_mtime_ns
    assert finetune_main(arguments) == 0  # finished splits are kept
    assert (tmp_path / "run" / "split-1" / "model.safetensors").stat().st_mtime_ns == before
    assert finetune_main([*arguments, "--seed", "1"]) == 2
    assert "run with other options" in capsys.readouterr().err


def test_mistakes_of_finetuning_are_named_at_once_and_leave_no_run_behind(
    rated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["--dataset", "csv", "--root", str(rated), "--out", str(out), "--device", "cpu"]
    for more, sentence in (
        (["--splits", "absent.json"], "absent.json does not exist"),
        (["--splits", "none"], "fine-tuning needs a split"),
        (["--model", str(tmp_path / "absent.safetensors")], "does not exist"),
        (["--epochs", "0"], "expected --epochs and --batch of 1 or more"),
        (["--device", "quantum"], "cannot be used"),
    ):
        assert finetune_main([*arguments, *more]) == 2
        assert sentence in capsys.readouterr().err
        assert not out.exists()
    untaught = tmp_path / "untaught.csv"
    untaught.write_text(
        "name,mos,split\n" + "\n".join(f"{rated}/{index}.png,{index},test" for index in range(4))
    )
    assert finetune_main([*arguments, "--root", str(untaught)]) == 2
    assert "split 0 of csv has no training image among the 4 found" in capsys.readouterr().err
    few = tmp_path / "few.csv"
    few.write_text("name,mos\n" + "\n".join(f"{rated}/{index}.png,{index}" for index in range(4)))
    assert finetune_main([*arguments, "--root", str(few)]) == 2
    assert "split 0 has 1 test images, which is too few" in capsys.readouterr().err


def test_a_killed_finetuning_goes_on_exactly(rated: Path, tmp_path: Path) -> None:
    """Killed while an epoch is looked at, which is before its state is written: it is made and seen again."""
    images = RatedImages([rated / f"{index}.png" for index in range(6)], np.linspace(0, 1, 6), side=70)
    common: dict[str, Any] = {"epochs": 3, "batch": 4, "side": 64}
    straight = tiny_network()
    whole = finetune(straight, images, **common)

    class KilledError(Exception):
        pass

    looked: list[int] = []

    def kill(epoch: int) -> None:
        looked.append(epoch)
        if looked == [1, 2]:
            raise KilledError

    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        finetune(tiny_network(), images, state=state, after_epoch=kill, **common)
    resumed = tiny_network(seed=9)  # whatever it starts from, the state replaces it
    assert finetune(resumed, images, state=state, after_epoch=kill, **common) == whole[1:]
    assert looked == [1, 2, 2, 3]
    for key, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_of_many_absent_images_a_few_are_shown(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tuple(f"{index}.jpg" for index in range(20))
    list_unused(replace(load_dataset("csv", rated), missing=missing), [])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "csv: 20 images are missing:"
    assert lines[-2:] == ["  4.jpg", "  ... and 15 more"]


def test_a_linear_probe_leaves_backbone_and_heads_alone(rated: Path, tmp_path: Path) -> None:
    start = tiny_checkpoint(tmp_path)
    arguments = ["--dataset", "csv", "--root", str(rated), "--model", str(start), "--linear-probe"]
    arguments += ["--out", str(tmp_path / "run"), "--count", "1", "--epochs", "1", "--device", "cpu"]
    assert finetune_main(arguments) == 0
    before = load(start).network.state_dict()
    after = load(tmp_path / "run" / "split-0" / "model.safetensors").network.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("regressor.") for key in changed)
