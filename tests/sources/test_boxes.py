"""``--boxes``: rows equal to those of ``Image.crop`` saved losslessly; files that are refused."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from commands import error_line
from conftest import Run
from resnet_cli.benchmark.workload import EndlessImages
from resnet_cli.errors import ImageError, InputError
from resnet_cli.images import Decoder
from resnet_cli.records import Detection, Item
from resnet_cli.results import read_results
from resnet_cli.sources import FindOptions, Inputs, find_inputs

SIZE = (120, 90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 120x90 pixels as they are seen; ``b.jpg`` is stored on its side."""
    place = tmp_path / "d"
    (place / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "sub/b.jpg", "sub/c.png", "d.png")):
        values = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
        image = Image.fromarray(values).resize(SIZE)
        exif = Image.Exif()
        if name == "sub/b.jpg":
            exif[0x0112] = 6
            image = image.transpose(Image.Transpose.ROTATE_90)
        image.save(place / name, exif=exif)
    return place


def entry(name: str, *boxes: Sequence[float], conf: float = 0.9, **more: Any) -> dict[str, Any]:
    found = [{"category": "1", "conf": conf, "bbox": list(box)} for box in boxes]
    return {"file": name, "detections": found} | more


def megadetector(*images: Any, path: str = "md.json") -> str:
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    info = {"format_version": "1.4", "detector": "md_v5a.0.0.pt"}
    document = {"info": info, "detection_categories": categories, "images": list(images)}
    Path(path).write_text(json.dumps(document))
    return path


def found_in(*files: str, inputs: Sequence[str] = ("d",), **options: Any) -> Inputs:
    return find_inputs(inputs, FindOptions(boxes=files, **options))


def listed(inputs: Inputs) -> list[tuple[str, str]]:
    return [item.identity for item in inputs.items if isinstance(item, Item)]


LEFT, WHOLE = (0.1, 0.2, 0.25, 0.5), (0.0, 0.0, 1.0, 1.0)


@pytest.mark.usefixtures("folder")
def test_boxes_of_megadetector_are_items_in_pixels_of_the_upright_image() -> None:
    person = {"category": "2", "conf": 0.2, "bbox": [0.5, 0.5, 0.1, 0.1]}
    several = entry("sub/b.jpg", LEFT) | {"max_detection_conf": 0.9}  # as in format 1.0
    several["detections"].append(person)
    found = found_in(megadetector(several, entry("a.png", WHOLE), entry("d.png", LEFT, conf=0.1)))

    assert listed(found) == [
        ("d/a.png", "xywh=0,0,120,90"),
        ("d/sub/b.jpg", "xywh=12,18,30,45"),
        ("d/sub/b.jpg", "xywh=60,45,12,9"),
    ]
    detections = [item.detection for item in found.known]
    assert detections == [Detection("animal", 0.9)] * 2 + [Detection("person", 0.2)]
    assert (found.total, found.parts, found.boxes) == (3, True, True)
    assert found.notes == [
        "1 image without a box of at least 0.2",
        "1 image that md.json does not name: left out",
    ]


@pytest.mark.usefixtures("folder")
def test_a_stated_size_is_believed_and_sparing_the_header() -> None:
    stated = entry("a.png", LEFT, width=1200, height=900)
    assert listed(found_in(megadetector(stated)))[0][1] == "xywh=120,180,300,450"


@pytest.mark.usefixtures("folder")
def test_margins_are_shares_of_the_box_within_the_image() -> None:
    boxes = megadetector(entry("a.png", LEFT, (0.9, 0.9, 0.2, 0.2)))
    found = listed(found_in(boxes, box_margin=0.4))
    assert [part for _, part in found] == ["xywh=0,0,54,81", "xywh=98,74,22,16"]


def coco(**more: Any) -> str:
    document = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "sub/b.jpg"}],
        "categories": [{"id": 3, "name": "bird"}],
        "annotations": [{"image_id": 9, "category_id": 3, "bbox": [10.4, 20.5, 30.2, 9.6]}],
    }
    Path("coco.json").write_text(json.dumps(document | more))
    return "coco.json"


@pytest.mark.usefixtures("folder")
def test_annotations_and_results_of_coco_are_boxes() -> None:
    found = found_in(coco())
    assert listed(found) == [("d/sub/b.jpg", "xywh=10,20,31,10")]
    assert found.known[0].detection == Detection("bird", None)

    results = [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5},
               {"image_id": 7, "category_id": 8, "bbox": [1, 2, 3, 9], "score": 0.1}]  # fmt: skip
    Path("results.json").write_text(json.dumps(results))
    for order in (("results.json", coco()), (coco(), "results.json")):
        found = found_in(*order)
        assert listed(found) == [("d/a.png", "xywh=1,2,3,4")]
        assert found.known[0].detection == Detection("bird", 0.5)
    with pytest.raises(InputError, match="image_id 7 of box 1 has no name: give the COCO file"):
        found_in("results.json")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_has_boxes_in_pixels(separator: str) -> None:
    lines = ["path,x,y,w,h,label,conf", "a.png,1,2,3,4,bee,0.5", "a.png,5,6,7,8,ant,0.1",
             "sub/b.jpg,,,,,,", "sub\\c.png,9,9,9.6,9,bee,"]  # fmt: skip
    Path("b.csv").write_text("\n".join(lines).replace(",", separator), encoding="utf-8-sig")
    found = found_in("b.csv")
    assert listed(found) == [("d/a.png", "xywh=1,2,3,4"), ("d/sub/c.png", "xywh=9,9,10,9")]
    assert [item.detection for item in found.known] == [Detection("bee", 0.5), Detection("bee")]


def test_paths_start_from_input_from_the_file_from_here_or_are_whole(folder: Path) -> None:
    expected = [("d/sub/b.jpg", "xywh=12,18,30,45"), ("d/sub/c.png", "xywh=12,18,30,45")]
    for place, start in (
        ("x.json", ""), ("x.json", "./"), ("x.json", "d/"), ("d/sub/x.json", "../"),
        ("x.json", f"{folder}/"),
    ):  # fmt: skip
        names = [f"{start}{name}" for name in ("sub/b.jpg", "sub/c.png")]
        if place == "d/sub/x.json":
            names = ["b.jpg", "c.png"]
        boxes = megadetector(*(entry(name, LEFT) for name in names), path=place)
        assert listed(found_in(boxes)) == expected, (place, start)
        assert listed(found_in(boxes, inputs=[str(folder)]))[0][0] == f"{folder}/sub/b.jpg"
    start_below = megadetector(entry("b.jpg", LEFT), entry("c.png", LEFT))
    assert listed(found_in(start_below, inputs=["d/sub/*.*g"])) == expected


@pytest.mark.usefixtures("folder")
def test_paths_that_fit_several_images_or_none_are_refused() -> None:
    for name in ("e/a.png", "d/d/a.png"):
        Path(name).parent.mkdir()
        Image.new("RGB", SIZE).save(name)
    once = megadetector(entry("a.png", LEFT))
    with pytest.raises(InputError, match=r"which image a\.png in md\.json is: d/a\.png or e/"):
        found_in(once, inputs=["d", "e"])
    twice = megadetector(entry("d/a.png", LEFT))  # d/a.png from here, d/d/a.png from INPUT
    with pytest.raises(InputError, match="fit 1 image from INPUT, and as many from its own"):
        found_in(twice)
    with pytest.raises(InputError, match=r"names 1 image, such as x.png; INPUT has 5 images, such"):
        found_in(megadetector(entry("x.png", LEFT)))
    with pytest.raises(InputError, match="no boxes to classify: 1 image without a box of at least"):
        found_in(megadetector(entry("sub/b.jpg", LEFT, conf=0.1)))


@pytest.mark.usefixtures("folder")
def test_the_boxes_of_a_stream_come_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = megadetector(entry("a.png", LEFT), entry("sub/b.jpg", LEFT), entry("x.png", LEFT))
    monkeypatch.setattr("sys.stdin", StringIO("d/sub/b.jpg\nd/a.png\nd/d.png\n"))
    monkeypatch.chdir("d")
    monkeypatch.setattr("sys.stdin", StringIO("sub/b.jpg\na.png\nd.png\n"))
    found = found_in(f"../{boxes}", inputs=["-"])
    assert found.total is None
    assert listed(found) == [("sub/b.jpg", "xywh=12,18,30,45"), ("a.png", "xywh=12,18,30,45")]
    assert found.notes == [
        "1 image that ../md.json does not name: left out",
        "../md.json: boxes of 1 image not among the inputs",
    ]
    monkeypatch.setattr("sys.stdin", StringIO("d.png\n"))
    with pytest.raises(InputError, match="cannot find the images of"):
        list(found_in(f"../{boxes}", inputs=["-"]).items)


@pytest.mark.usefixtures("folder")
def test_an_image_that_the_detector_or_we_cannot_read_has_a_row() -> None:
    Path("d/a.png").write_bytes(b"broken")
    failed = {"file": "d.png", "detections": None, "failure": "image access failure"}
    boxes = megadetector(entry("a.png", LEFT), failed, entry("sub/c.png", LEFT))
    found = [*found_in(boxes).known]
    assert [item.identity for item in found] == [
        ("d/a.png", ""), ("d/d.png", ""), ("d/sub/c.png", "xywh=12,18,30,45"),
    ]  # fmt: skip
    reasons = ("is a text", "the detector could not read it: image access failure")
    for item, reason in zip(found, reasons, strict=False):
        with pytest.raises(ImageError, match=reason):
            Decoder()(item.source)


def rows_of(file: str) -> list[dict[str, str]]:
    with Path(file).open(newline="") as opened:
        return list(csv.DictReader(opened))


SAME = ("status", "label", "index", "prob", "label_2", "prob_2")


def check_rows(rows: Sequence[dict[str, str]], predict: Run, *options: str) -> None:
    """Compare rows of boxes with those of their crops, which Pillow makes and saves as PNG."""
    place = Path("crops")
    place.mkdir()
    for number, row in enumerate(rows):
        left, top, width, height = map(int, row["part"].removeprefix("xywh=").split(","))
        with Image.open(row["path"]) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        box = (left, top, min(left + width, upright.width), min(top + height, upright.height))
        upright.crop(box).save(place / f"{number:03}.png")
    done = predict(place, "-k", "2", "-o", "crops.csv", *options)
    assert done.exit_code == 0
    expected = rows_of("crops.csv")
    assert [[row[name] for name in SAME] for row in rows] == [
        [row[name] for name in SAME] for row in expected
    ]


@pytest.mark.parametrize("options", [(), ("--exact", "--exif", "ignore")])
def test_the_rows_of_boxes_are_those_of_their_crops(
    folder: Path, predict: Run, options: tuple[str, ...]
) -> None:
    assert folder.is_dir()
    boxes = megadetector(
        *(entry(name, LEFT, WHOLE, (0.5, 0.4, 0.3, 0.3)) for name in ("a.png", "sub/b.jpg"))
    )
    arguments = ("d", "--boxes", boxes, "--box-margin", "0.2", "-k", "2", *options)
    done = predict(*arguments, "-o", "r.csv")
    assert done.exit_code == 0
    assert "2 images that md.json does not name: left out" in done.stderr
    rows = rows_of("r.csv")
    assert len(rows) == 6
    check_rows(rows, predict, *options)


def test_boxes_on_real_photographs(predict: Run) -> None:
    data = os.environ.get("RESNET_CLI_TEST_DATA")
    if not data:
        pytest.skip("needs RESNET_CLI_TEST_DATA")
    photos = Path(data) / "photos" / "ants_bees"
    turned = list((Path(data) / "awkward").glob("Landscape_*.jpg"))
    images = sorted(photos.rglob("*.jpg"))[:3] + turned
    random = np.random.default_rng(3)
    lines = ["path,x,y,w,h,label"]
    for path in images:
        for _ in range(4):
            lines.append(",".join(map(str, (path, *random.integers(0, 180, 4) + 1, "ant"))))
    Path("b.csv").write_text("\n".join(lines))
    assert predict(*images, "--boxes", "b.csv", "-k", "2", "-o", "r.csv").exit_code == 0
    rows = rows_of("r.csv")
    assert len(rows) == 4 * len(images)
    check_rows(rows, predict)


@pytest.mark.usefixtures("folder")
def test_every_format_has_what_the_detector_said_and_reads_it_back(predict: Run) -> None:
    boxes = megadetector(entry("a.png", LEFT), entry("d.png", LEFT, (0.5, 0.5, 0.0, 0.1)))
    files = ("r.csv", "r.jsonl", "r.json", "r.parquet")
    outputs = [word for file in files for word in ("-o", file)]
    assert predict("d", "--boxes", boxes, *outputs).exit_code == 3  # one box is empty
    assert [*rows_of("r.csv")[0]][:5] == [
        "path", "part", "detection_class", "detection_conf", "status",
    ]  # fmt: skip
    table = pq.read_table("r.parquet")
    assert table["detection_class"].to_pylist() == ["animal"] * 3
    assert table["detection_conf"].to_pylist() == [0.9] * 3
    assert rows_of("r.csv")[2]["error"] == "the box of 0x9 pixels is empty"
    items = [[row.item for row in read_results(Path(file))] for file in files]
    assert items == [items[0]] * 4
    assert items[0][0] == Item("d/a.png", "xywh=12,18,30,45", detection=Detection("animal", 0.9))


@pytest.mark.usefixtures("folder")
def test_a_run_that_stopped_between_the_boxes_of_an_image_is_resumed(predict: Run) -> None:
    many = [(0.05 * number, 0.1, 0.2, 0.3) for number in range(12)]
    arguments = ("d", "--boxes", megadetector(entry("a.png", *many), entry("d.png", LEFT)))
    assert predict(*arguments, "-o", "whole.csv").exit_code == 0
    assert predict(*arguments, "-o", "r.csv").exit_code == 0
    lines = Path("r.csv").read_text().splitlines(keepends=True)
    Path("r.csv").write_text("".join(lines[:6]) + lines[6][:20])
    done = predict(*arguments, "-o", "r.csv", "--resume")
    assert done.exit_code == 0
    assert "8 images left" in done.stderr
    whole, resumed = rows_of("whole.csv"), rows_of("r.csv")
    for key in ("path", "part", "detection_class", "detection_conf", "label"):
        assert [row[key] for row in resumed] == [row[key] for row in whole]
    again, before = ([float(row["prob"]) for row in rows] for rows in (resumed, whole))
    np.testing.assert_allclose(again, before, rtol=1e-5)  # batches are cut elsewhere

    other = predict("d", "-o", "r.csv", "--resume")
    assert "cannot resume r.csv" in error_line(other)


def broken(value: Any) -> str:
    return json.dumps({"images": [{"file": "a.png", "detections": value}]})


def boxed(bbox: Any, conf: Any = 0.5) -> str:
    return broken([{"category": "1", "conf": conf, "bbox": bbox}])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ('{"images": [' + "1" * 5000 + "]}", "it is no JSON|no JSON object"),
        ("{}", "it holds no boxes: give MegaDetector"),
        ("3", "it holds no boxes"),
        ('{"images": {}}', "it holds no boxes"),
        ('{"images": [3]}', "image 1 is no JSON object"),
        ('{"images": [{"file": ["a.png"]}]}', "file of image 1: no text"),
        ('{"images": [], "detection_categories": []}', "detection_categories is no JSON object"),
        (broken({"a": 1}), "detections of image 1: no list"),
        (broken(["a"]), "a detection of image 1 is no JSON object"),
        (boxed([1, 2, 3]), "a box of image 1 must be four numbers"),
        (boxed(["1", "2", "3", "4"]), "must be four numbers"),
        (boxed([True, 0, 1, 1]), "must be four numbers"),
        (boxed([0, 0, float("nan"), 1]), "must be four numbers"),
        (boxed([0, 0, float("inf"), 1]), "must be four numbers"),
        (boxed([0, 0, 10**400, 1]), "must be four numbers"),
        (boxed([0, 0, -0.5, 1]), "has a negative width or height"),
        (boxed(None), "must be four numbers"),
        (boxed([0, 0, 1, 1], conf="high"), "the confidence of a box of image 1 must be 0 to 1"),
        (boxed([0, 0, 1, 1], conf=None), "must be 0 to 1"),
        (boxed([0, 0, 1, 1], conf=7), "must be 0 to 1"),
        ("[1]", "box 1 is no JSON object"),
        ('[{"image_id": {}, "bbox": [1, 2, 3, 4]}]', "has no name: give the COCO file"),
        ('[{"image_id": "a.png", "segmentation": {}}]', "a box of box 1 must be four numbers"),
    ],
)
def test_a_broken_file_is_refused_in_a_sentence(text: str, reason: str) -> None:
    Path("b.json").write_text(text)
    with pytest.raises(InputError, match=f"cannot read boxes from b.json: .*({reason})"):
        found_in("b.json")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it has no column path, x, y, w, h"),
        ("path,label\na.png,bee\n", "it has no column x, y, w, h"),
        ("path,x,y,w,h\na.png,1,2,3\n", "'' in line 2 is no number"),
        ("path,x,y,w,h\na.png,1,2,3,wide\n", "'wide' in line 2 is no number"),
        ("path,x,y,w,h\na.png,1,2,3,nan\n", "must be four numbers"),
        ("path,x,y,w,h\n,1,2,3,4\n", "the path of line 2: no text"),
        ("path,x,y,w,h,conf\na.png,1,2,3,4,50\n", "must be 0 to 1"),
    ],
)
def test_a_broken_table_is_refused_in_a_sentence(text: str, reason: str) -> None:
    Path("b.csv").write_text(text)
    with pytest.raises(InputError, match=f"cannot read boxes from b.csv: .*{reason}"):
        found_in("b.csv")


@pytest.mark.usefixtures("folder")
def test_an_archive_that_is_cut_off_has_a_row_beside_the_boxes() -> None:
    Path("cut.zip").write_bytes(b"PK\3\4 and no more")
    found = found_in(megadetector(entry("a.png", LEFT)), inputs=("d", "cut.zip"))
    assert [item.identity for item in found.known] == [
        ("d/a.png", "xywh=12,18,30,45"), ("cut.zip", ""),
    ]  # fmt: skip


@pytest.mark.usefixtures("folder")
def test_boxes_far_outside_are_error_rows() -> None:
    found = found_in(megadetector(entry("a.png", (1e300, -1e300, 1e308, 1e308), (2, 2, 1, 1))))
    for item in found.known:
        with pytest.raises(ImageError, match=r"the box .* (is empty|outside)"):
            Decoder()(item.source)


def test_boxes_of_images_in_archives_and_by_url_are_found_by_their_names(folder: Path) -> None:
    from resnet_cli.sources.boxes import BoxSource

    data = (folder / "sub" / "b.jpg").read_bytes()
    items = [
        Item("zip://sub/b.jpg::d.zip", content=data),
        Item("s3://bucket/p/a.jpg", content=data),
        Item("t.parquet", part="row=3", content=data),
    ]
    names = ("sub/b.jpg", "a.jpg", "t.parquet#row=3")
    boxes = megadetector(*(entry(name, LEFT) for name in names))
    source = BoxSource(["d.zip", "s3://bucket/p/", "t.parquet"], FindOptions(boxes=(boxes,)), [])
    found = source.expand(items)
    assert [item.part for item in found] == [
        "xywh=12,18,30,45", "xywh=12,18,30,45", "row=3&xywh=12,18,30,45",
    ]  # fmt: skip
    expected = ImageOps.exif_transpose(Image.open(BytesIO(data))).crop((12, 18, 42, 63))
    for item in found:
        np.testing.assert_array_equal(np.asarray(Decoder()(item.source)), np.asarray(expected))
    assert replace(items[0], part="", detection=None) == items[0]


@pytest.mark.usefixtures("folder")
def test_a_report_says_what_the_detector_said(predict: Run) -> None:
    assert (
        predict("d", "--boxes", megadetector(entry("a.png", LEFT)), "-o", "r.html").exit_code == 0
    )
    page = Path("r.html").read_text(encoding="utf-8")
    assert r'"part":"box 30\u00d745 at 12,18: animal 0.90"' in page


def write_classes(folder: Path) -> str:
    """Fill a folder a class, whose images have two boxes, one and none."""
    for number, name in enumerate("abc"):
        (folder / name).mkdir()
        Image.open(folder / "d.png").rotate(9 * number).save(folder / name / f"{number}.png")
    for name in ("a.png", "d.png", "sub/b.jpg", "sub/c.png"):
        (folder / name).unlink()
    (folder / "sub").rmdir()
    return megadetector(entry("a/0.png", LEFT, WHOLE), entry("b/1.png", LEFT), entry("c/2.png"))


def test_evaluate_scores_boxes_by_the_class_of_their_image(folder: Path, evaluate: Run) -> None:
    boxes = write_classes(folder)
    Path("l.csv").write_text("path,label\na/0.png,a\nb/1.png,b\nc/2.png,c\n")
    for labels in ((), ("--labels", "l.csv")):
        done = evaluate("d", "--boxes", boxes, *labels, "--format", "json")
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["images"] == 3
        assert [row["support"] for row in found["classes"]] == [2, 1, 0]
        assert "1 image without a box of at least 0.2" in done.stderr


def test_evaluate_and_benchmark_take_pages(folder: Path, evaluate: Run) -> None:
    write_classes(folder)
    pages = [Image.new("RGB", (20, 20), (50 * number, 9, 9)) for number in range(4)]
    pages[0].save(folder / "b" / "x.tif", save_all=True, append_images=pages[1:])
    found = json.loads(evaluate("d", "--pages", "all", "--format", "json").stdout)
    assert [row["support"] for row in found["classes"]] == [1, 5, 1]

    images = EndlessImages("d", FindOptions(pages="all"))
    assert [item.part for item in images.items] == [
        "", "", "page=1", "page=2", "page=3", "page=4", "",
    ]  # fmt: skip
