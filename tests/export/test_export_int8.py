"""int8: what it costs is what the files themselves give when their own libraries run them."""

import csv
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score

import network_files
from conftest import Run, picture
from converting import close, expected, predicted, resnet, saved
from exported import record_in
from resnet_cli import Export, ExportOptions, LoadOptions, Preprocess, export_checkpoint
from resnet_cli.errors import InputError, SettingError

pytestmark = pytest.mark.usefixtures("one_thread", "no_large_files")

NAMES = ("a", "b", "c", "d")
SIDE = network_files.SIDE
TINY = Preprocess(resize_size=SIDE, crop_size=SIDE, squash=True)

MEAN, STD = (np.array(numbers, np.float32) for numbers in (TINY.mean, TINY.std))


@pytest.fixture
def photos() -> Path:
    """24 images, most of them in the folder of what the small network says of them."""
    small = network_files.save(network_files.small(), Path("small.onnx"))
    for seed in range(24):
        path = picture(Path("all") / f"{seed}.png", (40, 30), seed=seed)
        label = NAMES[(scores(small, [path]).argmax() + (seed % 6 == 0)) % 4]
        picture(Path("photos") / label / path.name, (40, 30), seed=seed)
    return Path("photos")


def scores(file: Path, paths: list[Path]) -> NDArray[np.float32]:
    """What a file gives for images, by ONNX Runtime and Pillow alone."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    images = [np.array(Image.open(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
              for path in paths]  # fmt: skip
    values = (np.stack(images).astype(np.float32) / 255 - MEAN) / STD
    given = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    return session.run(None, {session.get_inputs()[0].name: given})[0]


def wilson(right: int, images: int) -> tuple[float, float]:
    """The interval of Wilson, by scipy."""
    found = binomtest(right, images).proportion_ci(0.95, method="wilson")
    return found.low, found.high


def softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def quantised(
    folder: Path | str = "photos", *, file: str = "small.onnx", **options: object
) -> Export:
    return export_checkpoint(
        file,
        file.replace("small", "int8"),
        ExportOptions(
            load=LoadOptions(classes=NAMES),
            preprocess=TINY,
            precision="int8",
            calibration=folder,
            **options,  # type: ignore[arg-type]
        ),
    )


def test_int8_says_what_it_costs(photos: Path) -> None:
    done = quantised(photos, calibration_images=10)

    assert done.agreement is not None
    assert done.accuracy is not None
    assert done.agreement.images == 14
    assert any("calibrated on 10 images of photos" in note for note in done.notes)
    assert record_in(Path("int8.onnx"))["precision"] == "int8"
    assert record_in(Path("int8.onnx"))["calibration"]["images"] == 10
    stated = record_in(Path("int8.onnx"))["agreement"]
    assert stated["compared"] == "other images"
    assert stated["same"] == done.agreement.same
    assert stated["largest_difference"] == done.agreement.largest_difference
    for share, precision in ((done.accuracy.before, "fp32"), (done.accuracy.after, "int8")):
        assert stated[f"top1_{precision}"] == [share.value, share.low, share.high]

    # of all 24 images, 14 are chosen: their numbers lie within what the others can add
    paths = sorted(photos.rglob("*.png"))
    plain, found = (scores(Path(name), paths) for name in ("small.onnx", "int8.onnx"))
    same = int((plain.argmax(axis=1) == found.argmax(axis=1)).sum())
    assert same - 10 <= done.agreement.same <= min(14, same)
    differences = np.abs(softmax(plain) - softmax(found)).max(axis=1)
    assert np.isclose(differences, done.agreement.largest_difference, atol=1e-5).any()
    assert differences.max() > 0


def test_top_1_before_and_after_is_that_of_the_files(photos: Path) -> None:
    # one image calibrates: all others are measured
    done = quantised(photos, calibration_images=1)
    assert done.accuracy is not None

    paths = sorted(photos.rglob("*.png"))
    truths = [NAMES.index(path.parent.name) for path in paths]
    for file, share in (("small.onnx", done.accuracy.before), ("int8.onnx", done.accuracy.after)):
        right = round(24 * accuracy_score(truths, scores(Path(file), paths).argmax(axis=1)))
        assert share.images == 23
        assert share.right in (right, right - 1)  # without the one
        assert (share.low, share.high) == pytest.approx(wilson(share.right, 23))
    assert 0 < done.accuracy.before.right < 23
    assert f"top-1 {100 * done.accuracy.before.right / 23:.1f} % (95 % interval " in done.notes[-1]


def test_labels_from_a_table(photos: Path) -> None:
    with Path("labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        table.writerows([[path.name, path.parent.name] for path in photos.rglob("*.png")])
    by_table = quantised("all", labels="labels.csv", calibration_images=1)
    assert by_table.accuracy is not None
    assert by_table.accuracy.before.images == 23
    assert 0 < by_table.accuracy.before.right < 23

    Path("labels.csv").write_text("path,label\n0.png,elephant\n")
    with pytest.raises(InputError, match="elephant"):
        quantised("all", labels="labels.csv", overwrite=True)


def test_without_labels_there_is_no_top_1(photos: Path) -> None:
    done = quantised("all")
    assert done.agreement is not None
    assert done.agreement.images == 8  # a third
    assert done.accuracy is None
    assert any("no top-1 before and after: no images to evaluate on: all" in n for n in done.notes)


def test_a_drop_is_limited(photos: Path) -> None:
    done = quantised("all", max_drop=0.0)
    assert done.agreement is not None
    assert done.agreement.same == done.agreement.images == 8
    assert done.description.calibration["max_drop"] == 0


def test_a_drop_cannot_be_limited_on_nothing() -> None:
    network_files.save(network_files.small(), Path("small.onnx"))
    picture(Path("all/1.png"))
    picture(Path("all/2.png"), seed=1)
    with pytest.raises(SettingError, match="too few images"):
        quantised("all", max_drop=0.1)
    done = quantised("all")
    assert any("of 2 images that calibrated it" in note for note in done.notes)


@pytest.mark.parametrize(("takes", "words"), [(20, "cannot calibrate on 16"), (10, "limit the")])
def test_a_fixed_number_of_images_needs_as_many(photos: Path, takes: int, words: str) -> None:
    model = network_files.small(
        inputs=[("image", network_files.FLOAT, (takes, 3, SIDE, SIDE))],
        outputs=[("scores", network_files.FLOAT, (takes, 4))],
    )
    network_files.save(model, Path("small.onnx"))
    with pytest.raises(SettingError, match=rf"{words}.*: the file takes {takes} at once"):
        quantised("all", max_drop=0.5)
    assert not Path("int8.onnx").exists()


def test_images_that_cannot_be_read_are_left_out(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in sorted(Path("all").iterdir())[:5]:
        path.write_bytes(b"no image")
    done = quantised("all")
    assert "cannot be read" in caplog.text
    assert done.agreement is not None
    assert done.agreement.images + done.description.calibration["images"] == 19

    for path in Path("all").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of 16 images for calibration can be read"):
        quantised("all", overwrite=True)


def test_low_agreement_is_warned_of(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_cli.export.LOW", 1.1)
    [warning] = quantised(photos).warnings
    assert warning == "under 110 % of equal labels in int8: try --max-drop 0.01"


def test_a_checkpoint_of_bgr_becomes_int8(run: Run) -> None:
    for seed in range(6):
        picture(Path("images") / f"{seed}.png", (90, 100), seed=seed)
    network, turned = resnet(), resnet()
    turned.conv1.weight.data = network.conv1.weight.data.flip(1)
    result = run(
        "export", saved(turned.state_dict()), "out.xml", "--precision", "int8", "--calibration",
        "images", "--resize-size", 72, "--img-size", 64, "--classes", "a,b,c", "--input",
        "normalized", "--color", "bgr", "--mean", "0.406,0.456,0.485", "--std", "0.225,0.224,0.229",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "the label of fp32 on 2 of 2 other images" in result.stderr

    found, _ = predicted(run, Path("out.xml"))
    right = expected(network)
    assert float((found - right).abs().max()) < 0.05
    assert not close(found, right, 1e-4)  # it is another arithmetic
    size = sum(path.stat().st_size for path in Path().glob("out.*"))
    assert size < 13e6  # a quarter of 45 MB


def test_inspect_tells_in_a_line_each_how_a_file_was_quantised(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    quantised(photos)
    found = inspected(run, "int8.onnx")
    assert found["calibration"] == "images 16, preset mixed"
    share = r"0\.\d+ 0\.\d+ 0\.\d+"
    assert re.fullmatch(
        r"images 8, same \d, largest_difference 0\.\d+, compared other images, "
        rf"top1_fp32 {share}, top1_int8 {share}",
        found["agreement"],
    )

    # with what NNCF writes into a file of OpenVINO
    network_files.convert(network_files.small(), Path("small.xml"))
    quantised(photos, file="small.xml")
    metadata = inspected(run, "int8.xml")["metadata"]
    assert re.search(r"quantised by NNCF \d[\d.]+, preset mixed, on images 16, ", metadata)
    assert "advanced_parameters" not in metadata
    assert "advanced_parameters" in run("inspect", "int8.xml", "--format", "json").stdout


def inspected(run: Run, path: str) -> dict[str, str]:
    lines = run("inspect", path).stdout.splitlines()
    return {line[:16].strip(): line[16:] for line in lines}
