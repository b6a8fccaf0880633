"""Summaries against torchvision's published figures, torchinfo and real forward passes."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import torchinfo
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torchvision.models import get_model, get_model_weights

from conftest import Run, trained
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import SettingError
from resnet_cli.summary import Summary, summarize
from resnet_cli.summary.formats import SUMMARY_FORMATS
from resnet_cli.summary.networks import SummaryOptions, find_subject, known_models

PAPER = {  # https://arxiv.org/abs/1512.03385, table 1
    "resnet18": (["[3×3, 64; 3×3, 64]", "[3×3, 512; 3×3, 512]"], [2, 2, 2, 2]),
    "resnet34": (["[3×3, 64; 3×3, 64]", "[3×3, 512; 3×3, 512]"], [3, 4, 6, 3]),
    "resnet50": (["[1×1, 64; 3×3, 64; 1×1, 256]", "[1×1, 512; 3×3, 512; 1×1, 2048]"], [3, 4, 6, 3]),
    "resnet101": (
        ["[1×1, 64; 3×3, 64; 1×1, 256]", "[1×1, 512; 3×3, 512; 1×1, 2048]"],
        [3, 4, 23, 3],
    ),
    "resnet152": (
        ["[1×1, 64; 3×3, 64; 1×1, 256]", "[1×1, 512; 3×3, 512; 1×1, 2048]"],
        [3, 8, 36, 3],
    ),
}


def of(name: str, **options: Any) -> Summary:
    return summarize(name, SummaryOptions(**options))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_gmacs_are_those_that_torchvision_publishes(name: str) -> None:
    published = next(iter(get_model_weights(name))).meta
    totals = of(name).totals

    assert totals.parameters == totals.trainable_parameters == published["num_params"]
    assert round(totals.gmacs, 3) == published["_ops"]
    assert totals.gflops == 2 * totals.gmacs


@pytest.mark.parametrize(
    "name",
    ["alexnet", "vgg16", "densenet121", "mobilenet_v2", "googlenet", "inception_v3", "vit_b_16",
     "swin_t", "efficientnet_b0", "squeezenet1_0", "shufflenet_v2_x1_0", "mnasnet1_0"],
)  # fmt: skip
def test_other_models_have_their_published_figures_too(name: str) -> None:
    published = next(iter(get_model_weights(name))).meta
    summary = of(name)

    assert summary.totals.parameters == published["num_params"]
    assert sum(row["parameters"] for row in summary.rows) == published["num_params"]
    assert round(summary.totals.gmacs, 3) == pytest.approx(published["_ops"], abs=0.0011)


@pytest.mark.parametrize("depth", [None, 1, 2, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_the_rows_add_up_to_the_totals(name: str, depth: int | None) -> None:
    summary = of(name, depth=depth)

    assert sum(row["parameters"] for row in summary.rows) == summary.totals.parameters
    assert sum(row["macs"] for row in summary.rows) == summary.totals.macs
    assert max(row["depth"] for row in summary.rows) <= (depth or 99)


@pytest.mark.parametrize("view", ["blocks", "stages"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_blocks_and_stages_hold_everything(name: str, view: str) -> None:
    rows = of(name, view=view).rows
    stem_and_head = 0 if view == "stages" else 64 * 3 * 49 + 128
    totals = of(name).totals
    fc = of(name).rows[-1]["parameters"] if view == "blocks" else 0

    assert sum(row["parameters"] for row in rows) == totals.parameters - stem_and_head - fc
    if view == "stages":
        assert sum(row["macs"] for row in rows) == totals.macs
        assert sum(row["macs_share"] for row in rows) == pytest.approx(1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "wide_resnet50_2"])
def test_layers_are_those_of_torchinfo(name: str) -> None:
    info = torchinfo.summary(
        get_model(name), (2, 3, 96, 96), verbose=0, depth=9, mode="eval", device="cpu",
        cache_forward_pass=False,
    ).summary_list[1:]  # fmt: skip
    rows = of(name, img_size=(96, 96), batch_size=2).rows

    assert [row["type"] for row in rows] == [layer.class_name for layer in info]
    assert [list(row["output_shape"]) for row in rows] == [layer.output_size for layer in info]
    leaves = [(row, layer) for row, layer in zip(rows, info, strict=True) if layer.is_leaf_layer]
    # torchinfo counts a module that is called twice once, and so do the rows
    for row, layer in leaves:
        if not layer.is_recursive:
            assert row["parameters"] == layer.num_params


@pytest.mark.parametrize(
    "size", [(64, 64), (97, 97), (224, 224), (225, 225), (320, 320), (97, 161)]
)
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_shapes_are_those_of_a_real_forward_pass(name: str, size: tuple[int, int]) -> None:
    network = get_model(name).eval()
    seen: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Any:
        def see(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
            seen[name] = tuple(output.shape)

        return see

    for part, module in network.named_modules():
        module.register_forward_hook(hook(part))
    with torch.inference_mode():
        network(torch.zeros(1, 3, *size))
    last = {row["name"]: row["output_shape"] for row in of(name, img_size=size).rows}

    assert last == {part: shape for part, shape in seen.items() if part}
    stages = {
        row["name"]: row["output_size"] for row in of(name, view="stages", img_size=size).rows
    }
    for number in (1, 2, 3, 4):
        assert stages[f"conv{number + 1}_x"] == list(seen[f"layer{number}"][2:])


@pytest.mark.parametrize("name", PAPER)
def test_stages_are_table_1_of_the_paper(name: str) -> None:
    (first, last), repeats = PAPER[name]
    rows = {row["name"]: row for row in of(name, view="stages").rows}

    assert list(rows) == [
        "conv1", "maxpool", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "avgpool", "fc",
    ]  # fmt: skip
    assert [rows[f"conv{n}_x"]["output_size"] for n in (2, 3, 4, 5)] == [
        [56, 56], [28, 28], [14, 14], [7, 7],
    ]  # fmt: skip
    assert [rows[f"conv{n}_x"]["repeats"] for n in (2, 3, 4, 5)] == repeats
    assert rows["conv2_x"]["block"] == first
    assert rows["conv5_x"]["block"] == last
    assert rows["conv1"]["formula"] == "floor((224 + 2·3 - 7) / 2) + 1 = 112"
    assert rows["maxpool"]["formula"] == "floor((112 + 2·1 - 3) / 2) + 1 = 56"
    assert rows["conv3_x"]["formula"] == "floor((56 + 2·1 - 3) / 2) + 1 = 28"


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (97, 97), (225, 225), (97, 161)])
def test_every_formula_is_true(size: tuple[int, int], *, dilated: bool) -> None:
    rows = of("resnet50", dilated=dilated, view="stages", img_size=size).rows
    formulas = [part for row in rows if row["formula"] for part in row["formula"].split("; ")]

    for formula in formulas:
        left, _, right = formula.rpartition(" = ")
        arithmetic = left.replace("floor", "").replace("·", "*").replace("/", "//")
        assert eval(arithmetic) == int(right)
    assert len(formulas) >= 6


def test_the_name_is_counted() -> None:
    assert any("1 + 2·(2+2+2+2) + 1 = 18" in note for note in of("resnet18", view="stages").notes)
    assert any("1 + 3·(3+8+36+3) + 1 = 152" in n for n in of("resnet152", view="stages").notes)


def test_groups_and_width_are_in_the_notation() -> None:
    rows = of("resnext50_32x4d", view="stages").rows

    assert rows[2]["block"] == "[1×1, 128; 3×3, 128, 32 groups; 1×1, 256]"


def test_blocks_say_which_shortcuts_project_and_why() -> None:
    summary = of("resnet50", view="blocks")
    projections = [row["name"] for row in summary.rows if row["shortcut"] == "projection"]

    assert projections == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert (summary.rows[0]["in_channels"], summary.rows[0]["out_channels"]) == (64, 256)
    assert summary.rows[3]["stride"] == 2
    assert summary.notes[0] == "layer1.0 projects its shortcut: 64 channels become 256"
    assert "1,179,648 weights" in summary.notes[-1]
    assert "69,632" in summary.notes[-1]


@pytest.mark.parametrize(
    ("name", "batch"), [("resnet18", 2), ("resnet50", 2), ("resnext50_32x4d", 3)]
)
def test_peak_activation_memory_is_that_of_a_measured_pass(name: str, batch: int) -> None:
    # channels last and large: the copies that oneDNN makes to reorder are then not the peak
    network = get_model(name).eval().to(memory_format=torch.channels_last)
    images = torch.zeros(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(images)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            network(images)
    live = peak = images.nbytes
    for event in sorted(run.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)

    totals = of(name, batch_size=batch).totals
    assert totals.peak_activation_bytes == pytest.approx(peak, rel=1e-3)


def test_peak_activation_memory_by_hand() -> None:
    # resnet18 at 224: the picture, the output of conv1, and that of the batch norm after it
    expected = 4 * (3 * 224 * 224 + 2 * 64 * 112 * 112)

    # the meta device allots a batch norm 512 bytes of statistics that no device fills
    assert of("resnet18").totals.peak_activation_bytes == pytest.approx(expected, abs=512)
    of_seven = of("resnet18", batch_size=7).totals.peak_activation_bytes
    assert of_seven == pytest.approx(7 * expected, abs=512)


def test_head_channels_and_dilation_can_be_chosen() -> None:
    summary = of("resnet50", num_classes=2, in_channels=1, dilated=True)
    by_name = {row["name"]: row for row in summary.rows}

    assert by_name["fc"]["output_shape"] == (1, 2)
    assert by_name["conv1"]["input_shape"] == (1, 1, 224, 224)
    assert by_name["layer4"]["output_shape"] == (1, 2048, 28, 28)
    assert (
        summary.totals.parameters == of("resnet50", num_classes=2, in_channels=1).totals.parameters
    )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet18", {"dilated": True}, "only networks of bottleneck blocks"),
        (
            "vgg16",
            {"view": "stages"},
            "cannot show stages of vgg16, which is not a ResNet: use --view layers",
        ),
        ("alexnet", {"view": "blocks"}, "use --view layers"),
        ("alexnet", {"img_size": (32, 32)}, "they end at features.12"),
        ("resnet81", {}, "did you mean"),
        ("zzz", {}, "resnet-cli models --all"),
    ],
)
def test_what_cannot_be_summarised_is_refused_with_what_would_be_right(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        of(name, **options)


@pytest.mark.parametrize("name", known_models()[::9])
def test_any_model_of_torchvision_can_be_shown(name: str) -> None:
    assert of(name, depth=1).rows


def test_batch_norm_statistics_are_never_touched() -> None:
    network = find_subject("resnet18", SummaryOptions()).network
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert not network.training


def test_a_checkpoint_is_shown_with_its_own_head(run: Run, tmp_path: Path) -> None:
    torch.save(trained("resnet18", num_classes=7, in_channels=5).state_dict(), "five.pth")
    result = run("summary", "five.pth", "--format", "json")
    record = json.loads(result.stdout)

    assert (record["model"], record["source"]) == ("resnet18", "five.pth")
    assert (record["num_classes"], record["in_channels"]) == (7, 5)
    assert record["rows"][0]["input_shape"] == [1, 5, 224, 224]


def test_a_table_says_what_was_read_from_the_file(run: Run, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in trained().state_dict().items()}
    torch.save({"state_dict": state, "classes": ["ants", "bees", "wasps"]}, "model.pth")
    text = run("summary", "model.pth", "--depth", 1).stdout

    source = "read from model.pth: pickle-zip, weights under state_dict, prefix module. removed"
    assert source in " ".join(text.split())  # lines are wrapped
    assert "classes: ants, bees, wasps (classes in the checkpoint)" in text


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_backbone_is_shown_without_a_head(run: Run, name: str) -> None:
    network = trained(name)
    torch.save({n: t for n, t in network.state_dict().items() if n[:3] != "fc."}, "backbone.pth")
    record = json.loads(run("summary", "backbone.pth", "--format", "json").stdout)
    stages = json.loads(
        run("summary", "backbone.pth", "--view", "stages", "--format", "json").stdout
    )
    text = run("summary", "backbone.pth", "--plot", "plot.svg").stdout

    assert record["num_classes"] == 0
    assert record["totals"]["parameters"] == sum(
        p.numel() for n, p in network.named_parameters() if n[:3] != "fc."
    )
    assert [row["name"] for row in stages["rows"]][-2:] == ["conv5_x", "avgpool"]
    assert "224×224 → no head" in text
    assert "a backbone alone: it has no head, and so no classes" in text
    assert "no head" in Path("plot.svg").read_text()


def test_a_backbone_can_be_given_a_head(run: Run) -> None:
    state = trained().state_dict()
    torch.save({n: t for n, t in state.items() if n[:3] != "fc."}, "backbone.pth")
    result = run("summary", "backbone.pth", "--num-classes", 7, "--view", "stages")

    assert "→ 7 classes" in result.stdout
    assert "512 → 7" in result.stdout


def test_a_broken_checkpoint_gives_the_readers_own_sentence(run: Run) -> None:
    Path("model.pth").write_text("not a checkpoint")
    result = run("summary", "model.pth")

    assert result.exit_code == 1
    assert result.stderr == "Error: cannot load model.pth: it is a text file, not a checkpoint\n"


def test_json_has_the_keys_of_the_contract(run: Run) -> None:
    record = json.loads(run("summary", "--format", "json", "--img-size", "64x96").stdout)

    assert list(record) == [
        "model", "source", "view", "img_size", "batch_size", "in_channels", "num_classes", "rows",
        "totals",
    ]  # fmt: skip
    assert (record["model"], record["view"], record["img_size"]) == ("resnet18", "layers", [64, 96])
    assert list(record["rows"][0]) == [
        "name", "type", "depth", "input_shape", "output_shape", "kernel_size", "stride", "padding",
        "parameters", "macs",
    ]  # fmt: skip
    assert list(record["totals"]) == [
        "parameters", "trainable_parameters", "buffers", "macs", "gmacs", "gflops", "activations",
        "weights_bytes_fp32", "weights_bytes_fp16", "peak_activation_bytes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("view", "keys"),
    [
        (
            "blocks",
            "name,block,shortcut,stride,in_channels,out_channels,output_shape,parameters,macs",
        ),
        ("stages", "name,output_size,formula,block,repeats,parameters,macs,macs_share"),
    ],
)
def test_rows_of_the_other_views_have_the_keys_of_the_contract(view: str, keys: str) -> None:
    rows = list(csv.DictReader(StringIO(SUMMARY_FORMATS["csv"](of("resnet34", view=view)))))

    assert list(rows[0]) == keys.split(",")
    assert len(rows) == len(of("resnet34", view=view).rows)


@pytest.mark.parametrize("view", ["layers", "blocks", "stages"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tables_fit_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, view: str, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run("summary", name, "--view", view)

    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_narrow_terminal_drops_columns_in_order(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    dropped = []
    for width in range(130, 60, -1):
        monkeypatch.setenv("COLUMNS", str(width))
        header = run("summary").stdout.splitlines()[2].split()
        gone = [name for name in ("input", "padding", "stride", "kernel") if name not in header]
        dropped += [name for name in gone if name not in dropped]

    assert dropped == ["input", "padding", "stride", "kernel"]


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "wide_resnet101_2"])
def test_80_columns_have_room_for_the_kind_of_a_block(
    monkeypatch: pytest.MonkeyPatch, run: Run, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    header = run("summary", name, "--view", "blocks").stdout.splitlines()[2].split()
    assert {"type", "shortcut", "channels", "size"} <= set(header)


@pytest.mark.parametrize("width", [80, 50, 20])
def test_formulas_stand_on_lines_of_their_own(
    monkeypatch: pytest.MonkeyPatch, run: Run, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run("summary", "--view", "stages").stdout.splitlines()
    assert "    floor((n + 2p - k) / 1) + 1 = n, that is k = 2p + 1" in lines
    assert "    1 + 2·(2+2+2+2) + 1 = 18" in lines


@pytest.mark.parametrize("suffix", [".txt", ".json", ".csv", ".md"])
def test_the_suffix_of_a_file_is_its_format(run: Run, suffix: str) -> None:
    assert run("summary", "-o", f"out{suffix}").stdout == ""
    text = Path(f"out{suffix}").read_text(encoding="utf-8")
    kinds = {
        ".json": text[0] == "{",
        ".csv": text.startswith("name,type"),
        ".md": "| --- |" in text,
    }

    assert kinds.get(suffix, "parameters       11,689,512" in text)
    again = run("summary", "-o", f"out{suffix}")
    assert (again.exit_code, "--overwrite" in again.stderr) == (1, True)
    assert run("summary", "-o", f"out{suffix}", "--overwrite").exit_code == 0


def test_models_are_listed_with_torchvisions_own_facts(run: Run) -> None:
    lines = run("models").stdout.splitlines()

    assert [line.split()[0] for line in lines if line[0] != " "] == ["model", *ARCHITECTURES]
    assert "resnet18" in lines[1]
    assert "69.758 89.078" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_all_models_are_listed_in_groups(run: Run) -> None:
    record = json.loads(run("models", "--all", "--format", "json").stdout)

    assert sorted(model["name"] for model in record) == sorted(known_models())
    assert list(dict.fromkeys(model["group"] for model in record)) == [
        "classic", "light-weight", "searched", "transformers",
    ]  # fmt: skip
    text = run("models", "--all").stdout
    assert "\ntransformers\n" in text


def test_a_cached_file_is_said_to_be_cached(run: Run, tmp_path: Path) -> None:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet34-b627a593.pth").touch()
    cached = [line for line in run("models").stdout.splitlines() if line.endswith("cached")]

    assert [line.split()[0] for line in cached] == ["resnet34"]


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2"])
def test_any_network_takes_other_channels(name: str) -> None:
    grey, colour = of(name, in_channels=1), of(name)
    first = next(row for row in grey.rows if row["type"] == "Conv2d")
    kernels = next(row for row in colour.rows if row["type"] == "Conv2d")["output_shape"][1] * 9

    assert first["input_shape"] == (1, 1, 224, 224)
    assert colour.totals.parameters - grey.totals.parameters == 2 * kernels


def test_a_suffix_that_says_nothing_is_refused(run: Run) -> None:
    result = run("summary", "-o", "out.xlsx")
    assert (result.exit_code, Path("out.xlsx").exists()) == (2, False)
    assert "the suffix must be one of .txt, .json, .csv, .md" in result.stderr

    assert run("summary", "-o", "out.log", "--format", "json").exit_code == 0
    assert json.loads(Path("out.log").read_text(encoding="utf-8"))["model"] == "resnet18"
