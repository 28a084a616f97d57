"""Dataset loaders: small folders in each owner's format, and the real label files where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image
from scipy.io import savemat

from attiqa.datasets.registry import DATASETS, load_dataset
from attiqa.errors import InputError
from attiqa.metrics import srocc


def write_images(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def write_excel(path: Path, rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)


def koniq_official(root: Path) -> None:
    (root / "koniq10k_distributions_sets.csv").write_text(
        "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"
        "1.jpg,0,0,0.2,0.7,0.1,105,77.4,0.5,training\n2.jpg,0,0.1,0.4,0.5,0,96,68.7,0.6,test\n"
        "3.jpg,0,0.1,0.4,0.5,0,96,12.5,0.6,validation\n"
    )
    write_images(root, ["1024x768/1.jpg", "1024x768/2.jpg", "1024x768/3.jpg"])


def koniq_scores(root: Path) -> None:
    (root / "koniq10k_scores_and_distributions.csv").write_text(
        '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
        "1.jpg,0,0,25,73,7,105,3.8,0.5,77.4\n2.jpg,0,3,45,47,1,96,3.5,0.6,68.7\n"
    )
    write_images(root, ["512x384/1.jpg", "512x384/2.jpg"])


def clive(root: Path) -> None:
    names = [*(f"t{number}.bmp" for number in range(1, 8)), "3.bmp", "4.JPG"]
    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.arange(40.0, 49.0)[None]})
    write_images(root, ["Images/3.bmp"])
    Image.new("RGB", (8, 8)).save(root / "Images" / "4.JPG")


def spaq(root: Path) -> None:
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    rows = [
        ["1.jpg", 48.9, 47, 55, 56, 60, 43],
        ["2.jpg", 62.5, 55, 67, 53, 40, 47],
        ["3.jpg", 80, 62, 73, 66, 20, 83],
    ]
    write_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", [header, *rows])
    write_images(root, ["TestImage/1.jpg", "TestImage/2.jpg", "TestImage/3.jpg"])


def flive(root: Path) -> None:
    (root / "labels_image.csv").write_text(
        "name,mos\nava/1.jpg,70.5\nvoc/2.jpg,61\nvoc/3.jpg,55\nvoc/4.jpg,44\n"
    )
    (root / "splits").mkdir()
    for side, rows in {"train": [0, -1], "val": [3], "test": [1, -1]}.items():
        np.save(root / "splits" / f"{side}.npy", np.array(rows))
    write_images(root / "database", ["ava/1.jpg", "voc/2.jpg", "voc/3.jpg", "voc/4.jpg"])


def ava(root: Path) -> None:
    (root / "AVA.txt").write_text(
        "1 953 0 1 5 17 38 36 15 6 5 1 1 22 1396\n2 954 10 0 0 0 0 0 0 0 0 10 15 21 1396\n"
    )
    (root / "aesthetics_image_lists").mkdir()
    (root / "aesthetics_image_lists" / "generic_test.jpgl").write_text("954\n")
    write_images(root, ["images/953.jpg", "images/954.jpg"])


def kadid(root: Path) -> None:
    (root / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\nI02_01_01.png,I02.png,1.33,0.8\n"
    )
    write_images(root, ["images/I01_01_01.png", "images/I02_01_01.png"])


def tid(root: Path) -> None:
    (root / "mos_with_names.txt").write_text("5.51429 I01_01_1.bmp\n5.56757 i01_01_2.bmp\n0.5 I02_01_2.bmp\n")
    write_images(
        root,
        ["distorted_images/I01_01_1.bmp", "distorted_images/I01_01_2.BMP", "distorted_images/i02_01_2.bmp"],
    )


def agiqa3k(root: Path) -> None:
    (root / "data.csv").write_text(
        "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
        "AttnGAN_normal_000.jpg,statue of a man,,,,0.97,0.2,0.4,0.6\n"
        'sd1.5_lowstep_118.jpg,"foxes, abstract style",,,abstract style,2.63,0.56,2.98,0.9\n'
    )
    write_images(root, ["AttnGAN_normal_000.jpg", "sd1.5_lowstep_118.jpg"])


def agiqa1k(root: Path) -> None:
    rows = [
        ["Image", "Prompt", "MOS"],
        ["deepai_0_0_0_0.jpg", "bird", 2.79],
        ["dreamStudio_0_0_0_1.jpg", "bird", 4.16],
    ]
    write_excel(root / "AIGC_MOS_Zscore.xlsx", rows)
    write_images(root, ["file/deepai_0_0_0_0.jpg", "file/dreamStudio_0_0_0_1.jpg"])


def aigiqa20k(root: Path) -> None:
    for side, name in {"train": "a.png", "val": "b.png", "test": "c.png"}.items():
        (root / f"info_{side}.csv").write_text(f"name,prompt,mos\n{name},a cat,3.1\n")
        write_images(root, [f"{side}/{name}"])


def avt_ai(root: Path) -> None:
    (root / "ratings.csv").write_text(
        "image_key,quality,quality_std,prompt,appeal,appeal_std,prompt_text,category\n"
        "craiyon/p01,2.28,0.98,p01,2.6,1.19,A red car,Drawbench\n"
        "glide/p01,2.24,0.8,p01,2.5,1.2,A red car,Drawbench\n"
    )
    write_images(root, ["images/craiyon/p01.webp", "images/glide/p01.webp"])


def avt_quality(root: Path) -> None:
    (root / "ratings.csv").write_text(
        "image_name,mos,ci,std,crf,height\na.mov_1frame_crf_03_height_0864,3.1,0.7,0.8,3,864\n"
    )
    write_images(root, ["images/a.mov_1frame_crf_03_height_0864.webp"])


def own(root: Path) -> None:
    (root / "labels.csv").write_text(
        "\ufeffName,MOS,split,camera\na.png,7,train,x\nb.png,9,val,y\n", encoding="utf-8"
    )
    write_images(root, ["a.png", "images/b.png"])


CASES: dict[str, tuple[Callable[[Path], None], dict[str, object]]] = {
    "koniq10k": (koniq_official, {"mos": [77.4, 68.7, 12.5], "splits": ["train", "test", "validation"]}),
    "koniq10k, scores file": (koniq_scores, {"mos": [3.8, 3.5], "mos_range": (1, 5), "splits": None}),
    "clive": (clive, {"names": ["3.bmp", "4.JPG"], "mos": [47, 48]}),
    "spaq": (spaq, {"mos": [48.9, 62.5, 80]}),
    "flive": (flive, {"mos": [70.5, 61, 44], "splits": ["train", "test", "validation"]}),
    "ava": (ava, {"names": ["953.jpg", "954.jpg"], "splits": ["train", "test"]}),
    "kadid10k": (kadid, {"groups": ["I01.png", "I02.png"], "grouping": "reference"}),
    "tid2013": (tid, {"groups": ["I01", "I01", "I02"], "mos_range": (0, 9)}),
    "agiqa-3k": (agiqa3k, {"groups": ["statue of a man", "foxes, abstract style"], "grouping": "prompt"}),
    "agiqa-1k": (agiqa1k, {"groups": ["bird", "bird"], "mos": [2.79, 4.16]}),
    "aigiqa_20k": (aigiqa20k, {"splits": ["train", "validation", "test"]}),
    "avt-ai": (avt_ai, {"groups": ["p01", "p01"], "mos": [2.28, 2.24]}),
    "avt-quality": (avt_quality, {"groups": ["a.mov"]}),
    "csv": (own, {"mos": [7, 9], "splits": ["train", "validation"], "mos_range": (7, 9)}),
}


def test_every_dataset_has_a_case_here() -> None:
    assert {name.split(",")[0].replace("_", "-") for name in CASES} == set(DATASETS)


@pytest.mark.parametrize("case", CASES)
def test_files_as_distributed_are_read(case: str, tmp_path: Path) -> None:
    write, expected = CASES[case]
    write(tmp_path)
    rated = load_dataset(case.split(",")[0], tmp_path)
    assert all(path.is_file() for path in rated.paths)
    assert rated.missing == ()
    assert 0 <= rated.unit_mos.min() <= rated.unit_mos.max() <= 1
    for name, value in expected.items():
        found = getattr(rated, name)
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value, name


def test_ava_scores_are_the_means_of_their_histograms(tmp_path: Path) -> None:
    ava(tmp_path)
    rated = load_dataset("ava", tmp_path)
    votes = [0, 1, 5, 17, 38, 36, 15, 6, 5, 1]
    assert rated.mos[0] == pytest.approx(sum((i + 1) * v for i, v in enumerate(votes)) / sum(votes))
    assert rated.mos[1] == 5.5


def spaq_rows(root: Path, count: int, sign: int) -> list[float]:
    """SPAQ's table with noisiness rising (or falling) with MOS; returns what it says of noisiness."""
    columns = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    noisiness = [50.0 + sign * number for number in range(count)]
    rows = [[f"{row}.jpg", 20.0 + row, 50, 50, 50, noisiness[row], 50] for row in range(count)]
    write_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", [columns, *rows])
    write_images(root, [f"TestImage/{row}.jpg" for row in range(count)])
    return noisiness


def test_spaq_noisiness_is_turned_to_mean_cleaner(tmp_path: Path) -> None:
    told = spaq_rows(tmp_path, 30, -1)
    rated = load_dataset("spaq", tmp_path)
    assert rated.extra["noisiness"].tolist() == [100 - value for value in told]
    assert "turned around" in rated.notes[0]
    assert set(rated.extra) == {"sharpness", "contrast", "brightness", "colorfulness", "noisiness"}


def test_a_handful_of_spaqs_rows_tells_nothing_about_the_sign(tmp_path: Path) -> None:
    told = spaq_rows(tmp_path, 5, -1)
    rated = load_dataset("spaq", tmp_path)
    assert rated.extra["noisiness"].tolist() == told
    assert "too few rows to check the sign" in rated.notes[0]


def test_a_name_without_a_suffix_is_the_one_image_of_that_name(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.PNG", "b.png", "b.jpg", "v1.2.png"])
    (tmp_path / "labels.csv").write_text("name,mos\na,1\nb,2\nv1.2,3\n")
    rated = load_dataset("csv", tmp_path)
    assert [path.name for path in rated.paths] == ["a.PNG", "v1.2.png"]
    assert rated.missing == ("b",)  # which of the two?


def test_absent_images_are_named_and_left_out_not_dropped_silently(tmp_path: Path) -> None:
    koniq_official(tmp_path)
    (tmp_path / "1024x768" / "2.jpg").unlink()
    rated = load_dataset("koniq10k", tmp_path)
    assert rated.names.tolist() == ["1.jpg", "3.jpg"]
    assert rated.missing == ("2.jpg",)
    assert len(load_dataset("koniq10k", tmp_path, require_images=False)) == 3


def test_a_table_of_ones_own_may_be_named_itself_and_keeps_its_columns(tmp_path: Path) -> None:
    own(tmp_path)
    rated = load_dataset("csv", tmp_path / "labels.csv")
    assert rated.extra["camera"].tolist() == ["x", "y"]
    assert rated.select(rated.mos > 8).names.tolist() == ["b.png"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,score\na.png,1\n", "lacks the column mos; it has name, score"),
        (
            "name,mos\na.png,good\nb.png,\n",
            "2 of 2 rows whose mos is no finite number, the first in row 1: 'good'",
        ),
        ("name,mos\na.png,nan\n", "no finite number"),
        ("name,mos\na.png,1\na.png,2\n", "1 image names more than once, such as 'a.png'"),
        ("name,mos\na.png,1,7\n", "has 3 values in row 1; expected 2"),
        ("name,mos\n", "has no rows"),
        ("", "lacks the column name, mos; it has none"),
        ("name,mos,split\na.png,1,half\n", "splits named half"),
        ("name,mos\nzz.png,1\n", r"none of the 1 images .* such as 'zz\.png'"),
        ("name;mos\na.png;1\n", r"it has name;mos \(columns are separated by commas\)"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_dataset("csv", tmp_path)


def test_bad_roots_and_names_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset named 'konik'; choose one of koniq10k, clive"):
        load_dataset("konik", tmp_path)
    with pytest.raises(
        InputError, match="does not exist; expected a folder with koniq10k_distributions_sets"
    ):
        load_dataset("koniq10k", tmp_path / "nowhere")
    for name, dataset in DATASETS.items():
        with pytest.raises(InputError, match=r"holds none of .*; .* needs ") as caught:
            load_dataset(name, tmp_path)
        assert dataset.origin in str(caught.value)


def test_broken_label_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / "AllImages_release.mat").write_bytes(b"not a mat file" * 20)
    with pytest.raises(InputError, match="is not CLIVE's MATLAB file"):
        load_dataset("clive", tmp_path)
    (tmp_path / "MOS and Image attribute scores.xlsx").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"is not an Excel \.xlsx file"):
        load_dataset("spaq", tmp_path)
    (tmp_path / "ava_labels_test.json").write_text(json.dumps([{"image_id": "1", "label": [1, 2]}]))
    with pytest.raises(InputError, match="ten vote counts"):
        load_dataset("ava", tmp_path)
    (tmp_path / "dmos.csv").write_text("dist_img,ref_img,dmos,var\nI01.png,I01.png,77,1\n")
    with pytest.raises(InputError, match="rates from 1 to 5, but 1 of 1 ratings lie outside"):
        load_dataset("kadid10k", tmp_path)


# rows, from the datasets' papers and pages; CLIVE without its seven training images,
# AGIQA-1k without the two rows of one name
REAL = {
    "koniq10k/koniq10k": 10073,
    "clive/clive": 1162,
    "spaq/spaq": 11125,
    "agiqa3k/agiqa-3k": 2982,
    "agiqa1k/agiqa-1k": 1078,
    "ava/ava": 25551,
    "pyiqa_meta_info/koniq10k": 10073,
    "pyiqa_meta_info/clive": 1162,
    "pyiqa_meta_info/spaq": 11125,
    "pyiqa_meta_info/kadid10k": 10125,
    "pyiqa_meta_info/tid2013": 3000,
}


@pytest.mark.data
@pytest.mark.parametrize("case", REAL)
def test_real_label_files_are_read_whole(case: str, data_root: Path) -> None:
    folder, name = case.split("/")
    rated = load_dataset(name, data_root / "labels" / folder, require_images=False)
    assert len(rated) == REAL[case]
    if name == "spaq":
        assert srocc(rated.extra["noisiness"], rated.mos) == pytest.approx(0.89, abs=0.01)
    if name == "koniq10k":
        sides, counts = np.unique(rated.splits, return_counts=True)
        assert dict(zip(sides, counts.tolist(), strict=True)) == {
            "train": 7058,
            "validation": 1000,
            "test": 2015,
        }
    expected_groups = {"agiqa-3k": 300, "kadid10k": 81, "tid2013": 25}
    if name in expected_groups:
        assert len(set(rated.groups)) == expected_groups[name]


@pytest.mark.data
def test_real_human_ratings_come_with_their_images(data_root: Path) -> None:
    generated = load_dataset("avt-ai", data_root / "human" / "avt_ai")
    assert (len(generated), len(set(generated.groups)), generated.missing) == (69, 14, ())
    encoded = load_dataset("avt-quality", data_root / "human" / "avt_quality")
    assert (len(encoded), len(set(encoded.groups)), encoded.missing) == (85, 10, ())
    assert srocc(encoded.extra["height"], encoded.mos) == pytest.approx(0.897, abs=0.001)
