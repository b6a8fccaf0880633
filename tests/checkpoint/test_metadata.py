"""What stands beside the weights: names, transforms, modules of heads, and folders around them."""

import json
import logging
import pickle
import struct
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from torchvision import models, transforms
from torchvision.transforms import v2

from checkpoints import opened, saved, tiny
from conftest import Run, picture
from resnet_cli import Classifier
from resnet_cli import text as tables
from resnet_cli.checkpoint.folders import find_weights_file
from resnet_cli.checkpoint.loading import load_checkpoint
from resnet_cli.checkpoint.locate import Location, locate_checkpoint
from resnet_cli.checkpoint.metadata.class_names import read_file
from resnet_cli.errors import CheckpointError, SettingError

ImageNet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZED = [transforms.Resize(80), transforms.CenterCrop(64), transforms.ToTensor()]


def network(outputs: int = 2) -> models.ResNet:
    torch.manual_seed(3)
    return models.resnet18(num_classes=outputs).eval()


def answer(logits: Tensor) -> list[float]:
    return [float(value) for value in logits.softmax(1)[0]]


def predicted(path: str, image: str, **options: Any) -> list[float]:
    """Probabilities of a checkpoint, in the order of its outputs."""
    classifier = Classifier.load(path, exact=True, device="cpu", **options)
    (row,) = classifier.predict([image], topk=len(classifier.class_names))
    found = {score.label: score.prob for score in row.scores}
    return [found[name] for name in classifier.class_names]


# what is set on a module


@pytest.mark.parametrize(("key", "value"), [
    ("names", {0: "ants", 1: "bees"}), ("class_to_idx", {"bees": 1, "ants": 0}),
    ("classes", ("ants", "bees")), ("idx_to_class", {"1": "bees", "0": "ants"}),
])  # fmt: skip
@pytest.mark.parametrize("around", [False, True])
def test_names_set_on_a_pickled_network_are_read(key: str, value: Any, around: bool) -> None:
    net: nn.Module = network()
    setattr(net, key, value)
    torch.save({"model": nn.ModuleDict({"net": net})} if around else net, "model.pth")

    found = load_checkpoint(Location(Path("model.pth"), "given")).classes
    assert found.names == ("ants", "bees")
    assert key in found.source


def test_the_transforms_on_a_network_are_its_preprocessing() -> None:
    net = network()
    steps = transforms.Compose([*SIZED, transforms.Normalize(*ImageNet)])
    net.transforms = steps
    torch.save({"epoch": 3, "model": net}, "model.pth")
    image = picture(Path("a.png"), size=(120, 90))

    with torch.no_grad():
        wanted = answer(net(steps(Image.open(image))[None]))
    assert predicted("model.pth", str(image)) == pytest.approx(wanted, abs=1e-4)


BROAD = ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(("steps", "words"), [
    (transforms.Compose([*SIZED, transforms.Normalize([0.5], [0.25])]), "resize 80, crop 64"),
    (v2.Compose([v2.Resize((72, 72)), v2.ToImage(), v2.Normalize(*BROAD)]), "squash to 72, crop"),
    (nn.Sequential(v2.Resize([90], v2.InterpolationMode.BICUBIC), v2.CenterCrop(80),
                   v2.Normalize(*BROAD)), "resize 90, crop 80, bicubic"),
    (transforms.Compose([transforms.Compose(SIZED), transforms.Normalize(*BROAD)]), "resize 80"),
])  # fmt: skip
def test_transforms_are_read_in_any_form(steps: Any, words: str) -> None:
    found = opened(saved({"state_dict": tiny(), "val_transform": steps}))

    assert found.preprocess.words.startswith(words)
    assert (found.preprocess.mean, found.preprocess.std) == BROAD
    assert "val_transform" in found.preprocess_source


def test_transforms_without_a_normalisation_leave_pixels_from_0_to_1() -> None:
    found = opened(saved({"state_dict": tiny(), "tfms": transforms.Compose(SIZED)})).preprocess

    assert (found.mean, found.std) == ((0, 0, 0), (1, 1, 1))


def test_transforms_of_evaluation_are_preferred_to_those_of_training() -> None:
    other = [transforms.Resize(99), transforms.CenterCrop(64)]
    augmenting = [transforms.RandomResizedCrop(64), transforms.Normalize(*BROAD)]
    both = {name: transforms.Compose(steps) for name, steps in
            {"train": other, "val": SIZED, "more": augmenting}.items()}  # fmt: skip
    found = opened(saved({"state_dict": tiny(), "transforms": both}))

    assert found.preprocess.resize_size == 80
    assert "unlike those under transforms.train" in found.preprocess_source


@pytest.mark.parametrize(("step", "said"), [
    (transforms.Grayscale(3), "a Grayscale"), (transforms.Resize(70), "a second Resize"),
    (transforms.Pad(3), "a Pad"),
])  # fmt: skip
def test_a_step_that_is_unknown_is_named(step: Any, said: str) -> None:
    steps = transforms.Compose([*SIZED, step, transforms.Normalize(*BROAD)])
    found = opened(saved({"state_dict": tiny(), "transform": steps}))

    assert (found.preprocess.resize_size, found.preprocess.mean) == (256, BROAD[0])
    assert f"the transforms under transform have {said}, unknown here" in found.preprocess_source


# modules beside a state dict


def of_itself() -> transforms.Compose:
    chain = transforms.Compose([])
    chain.transforms = [transforms.Compose([*SIZED, chain])]
    return chain


def doubled() -> transforms.Compose:
    chain = transforms.Compose(SIZED)
    for _ in range(60):
        chain = transforms.Compose([chain, chain])
    return chain


def changed(**settings: Any) -> transforms.Compose:
    step = transforms.Normalize(*BROAD)
    vars(step).update(settings)
    return transforms.Compose([*SIZED, step])


@pytest.mark.parametrize("make", [
    of_itself, doubled, partial(changed, max_pixel_value="many"),
    partial(changed, max_pixel_value=[1]), partial(changed, mean=[10**400] * 3),
    partial(changed, mean=torch.ones(1).expand(1 << 40)),
])  # fmt: skip
def test_transforms_that_are_damaged_are_unknown(make: Callable[[], transforms.Compose]) -> None:
    found = opened(saved({"state_dict": tiny(), "transforms": make()}))

    assert "unknown here" in found.preprocess_source


@pytest.mark.parametrize("act", [nn.Tanh(), nn.GELU(), nn.SiLU()], ids=str)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_module_beside_the_weights_shows_its_activations(act: nn.Module, prefix: str) -> None:
    net = network()
    net.fc = nn.Sequential(nn.Linear(512, 9), act, nn.Dropout(), nn.Linear(9, 4))
    with torch.no_grad():
        for parameter in net.fc.parameters():
            parameter.mul_(4)
    net.eval()
    state = {prefix + name: tensor for name, tensor in net.state_dict().items()}
    torch.save({"weights": state, "kept": {"head": net.fc}}, "model.pth")
    image = picture(Path("a.png"))
    loop = models.ResNet18_Weights.IMAGENET1K_V1.transforms()

    with torch.no_grad():
        wanted = answer(net(loop(Image.open(image))[None]))
    assert predicted("model.pth", str(image)) == pytest.approx(wanted, abs=1e-4)


def test_two_heads_that_differ_are_refused() -> None:
    net = network()
    heads = [
        nn.Sequential(nn.Linear(512, 9), act, nn.Linear(9, 4)) for act in (nn.Tanh(), nn.ReLU())
    ]
    state = {n: t for n, t in net.state_dict().items() if not n.startswith("fc")}
    state |= {f"fc.{name}": tensor for name, tensor in heads[0].state_dict().items()}

    with pytest.raises(CheckpointError, match=r"its fc\.1 is Tanh under a, and ReLU under b"):
        opened(saved({"state_dict": state, "a": heads[0], "b": heads[1]}))


# class names in other forms


@pytest.mark.parametrize("key", ["idx2label", "label2id", "idx2class", "label_map",
                                 "categories", "class_to_id", "Class-Dict"])  # fmt: skip
@pytest.mark.parametrize("value", [{"ants": 0, "bees": 1}, {0: "ants", 1: "bees"}], ids=str)
def test_names_are_found_under_more_keys(key: str, value: Any) -> None:
    found = opened(saved({"state_dict": tiny(num_classes=2), "meta": {key: value}}))

    assert found.classes.names == ("ants", "bees")


@pytest.mark.parametrize("value", [
    {"0": ["n02219486", "ants"], "1": ["n02206856", "bees"]}, [("ants", "Formica"), ("bees",)],
    [("ants", 0), ("bees", 1)], [{"id": 1, "name": "bees"}, {"id": 0, "name": "ants"}],
    np.array(["ants", "bees"]), np.array(["ants", "bees"], dtype=object), [["ants", "bees"]],
    ["n02219486 ants", "n02206856 bees"],
], ids=str)  # fmt: skip
def test_names_are_read_in_more_forms(value: Any) -> None:
    assert opened(saved({"state_dict": tiny(num_classes=2), "classes": value})).classes.names == (
        "ants", "bees",
    )  # fmt: skip


def test_the_classes_of_an_encoder_are_names() -> None:
    encoder = pytest.importorskip("sklearn.preprocessing").LabelEncoder().fit(["bees", "ants"])

    assert opened(saved({"w": tiny(num_classes=2), "enc": encoder})).classes.names == (
        "ants",
        "bees",
    )


def test_the_vocabulary_of_fastai_is_names() -> None:
    module = types.ModuleType("fastai")
    kinds = {name: type(name, (), {"__module__": module.__name__}) for name in ("CategoryMap", "L")}
    vars(module).update(kinds)
    vocab, inner = kinds["CategoryMap"](), kinds["L"]()
    inner.items = ["ants", "bees"]
    vocab.items, vocab.o2i = inner, {"ants": 0, "bees": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        path = saved({"w": tiny(num_classes=2), "dls": {"vocab": vocab}})

    assert opened(path).classes.names == ("ants", "bees")


def test_lists_that_order_the_same_names_differently_are_refused() -> None:
    path = saved(
        {
            "w": tiny(num_classes=2),
            "classes": ["ants", "bees"],
            "class_to_idx": {"bees": 0, "ants": 1},
        }
    )

    with pytest.raises(CheckpointError, match=r"classes in .* and class_to_idx in .*--classes"):
        opened(path)


def test_lists_of_other_names_are_both_named() -> None:
    path = saved(
        {"w": tiny(num_classes=2), "classes": ["ants", "bees"], "label_names": ["formica", "apis"]}
    )

    found = opened(path).classes
    assert found.names == ("ants", "bees")
    assert "unlike label_names" in found.source


# files of class names


@pytest.mark.parametrize(("name", "text"), [
    ("c.txt", "0: 'ants',\n1: 'bees',"), ("c.txt", "{0: 'ants',\n 1: \"bees\"}"),
    ("c.txt", "['ants', 'bees']"), ("c.txt", '"ants"\n"bees"'), ("c.txt", "ants,\nbees,"),
    ("c.txt", "0\tants\n1\tbees"), ("c.txt", "bees 1\nants 0"), ("c.txt", "0 ants\n1 bees"),
    ("c.txt", "index\tname\n0\tants\n1\tbees"), ("c.txt", "# mine\nants  \nbees\n"),
    ("c.txt", "n02219486 ants\nn02206856 bees"), ("c.txt", "0) ants\n1) bees"),
    ("c.json", '{"0": ["n02219486", "ants"], "1": ["n02206856", "bees"]}'),
    ("c.csv", "id;name;count\n0;ants;12\n1;bees;9"), ("c.csv", "sep=;\nants\nbees"),
    ("c.csv", ",name\n0,ants\n1,bees"), ("c.tsv", "0\tants\n1\tbees"),
    ("c.yaml", "nc: 2\nnames: [ants, bees]"), ("c.yml", "names:\n  0: ants\n  1: bees"),
])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_names_are_read(name: str, text: str, encoding: str) -> None:
    if name.startswith("c.y"):
        pytest.importorskip("yaml")
    Path(name).write_text(text, encoding=encoding)

    assert read_file(Path(name)) == ("ants", "bees")


@pytest.mark.parametrize("names", [
    ("phase 1", "phase 2"), ("tench, Tinca tinca", "ant, Formica"), ("12", "7"), ("7 dwarfs", "x"),
    ("001.Ant", "002.Bee"), ("#1", "#2"), ("n02219486", "n02206856"), ("O'Hara", "d'Artagnan"),
])  # fmt: skip
def test_lines_that_only_look_numbered_are_names(names: tuple[str, ...]) -> None:
    Path("c.txt").write_text("\n".join(names))

    assert read_file(Path("c.txt")) == names


@pytest.mark.parametrize(("text", "said"), [
    ("310: 'ants',\n311: 'bees',", "a name for each output"),
    ("1 ants\n2 bees", "its indices run from 1 to 2: number from 0 on"),
    ("item {\n  id: 1\n  name: 'ants'\n}\n", "a name for each output"),
    ("names:\n- ants\n- bees", "a name for each output"),
    ("[ants, bees]", "a name for each output"),
    ("0\tn1\tants\n1\tn2\tbees", "a name for each output"),
])  # fmt: skip
def test_lines_of_data_are_never_names(text: str, said: str) -> None:
    Path("c.txt").write_text(text)

    with pytest.raises(SettingError, match=rf"cannot read class names from c\.txt: {said}"):
        read_file(Path("c.txt"))


def test_another_encoding_is_refused_in_words() -> None:
    Path("c.txt").write_bytes("Möwe\nAmeise\n".encode("latin-1"))

    with pytest.raises(SettingError, match=r"c\.txt: it is neither UTF-8 nor UTF-16: save it as"):
        read_file(Path("c.txt"))


@pytest.mark.parametrize(("text", "separator"), [
    ("path,label\na;b.jpg,x", ","), ("path;label;prob\na;x;0,5\nb;y;0,25", ";"),
    ("a\tb\n1\t2", "\t"),
    ("sep=|\na|b", "|"), ('0,"a;b"\n1,"c;d"', ","), ("a", ","),
])  # fmt: skip
def test_the_separator_of_a_table_is_found(text: str, separator: str) -> None:
    assert tables.find_separator(text) == separator


# folders


def unpacked(folder: Path) -> None:
    torch.save({"state_dict": tiny(num_classes=2), "classes": ["ants", "bees"]}, folder / "x.pth")
    with zipfile.ZipFile(folder / "x.pth") as archive:
        archive.extractall(folder)
    (folder / "x.pth").unlink()
    (inner,) = folder.iterdir()
    inner.rename(folder / "model")


def find_mlflow(folder: Path) -> None:
    (folder / "model/data").mkdir(parents=True)
    (folder / "model/MLmodel").write_text("flavors:\n  pytorch:\n    model_data: data\n")
    torch.save(tiny(num_classes=2), folder / "model/data/model.pth")


def find_deepspeed(folder: Path) -> None:
    (folder / "model/step-3").mkdir(parents=True)
    (folder / "model/latest").write_text("step-3\n")
    torch.save({"module": tiny(num_classes=2)}, folder / "model/step-3/mp_rank_00_model_states.pt")
    torch.save({"optimizer_state_dict": {}}, folder / "model/step-3/zero_pp_rank_0_optim_states.pt")


def of_trainer(folder: Path) -> None:
    for step in (9, 100, 20):
        (folder / f"model/checkpoint-{step}").mkdir(parents=True)
        torch.save(
            tiny(num_classes=2, seed=step), folder / f"model/checkpoint-{step}/pytorch_model.bin"
        )
        torch.save({}, folder / f"model/checkpoint-{step}/optimizer.pt")
    (folder / "model/checkpoint-100/trainer_state.json").write_text(
        json.dumps({"best_model_checkpoint": "out/checkpoint-20"})
    )


@pytest.mark.parametrize("make", [unpacked, find_mlflow, find_deepspeed])
def test_folders_of_other_programs_open(make: Callable[[Path], None]) -> None:
    make(Path())

    assert opened(Path("model")).num_classes == 2


def test_the_last_checkpoint_of_a_trainer_is_taken_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    of_trainer(Path())
    with caplog.at_level(logging.INFO, "resnet_cli"):
        found = opened(Path("model"))

    assert found.path == Path("model/checkpoint-100/pytorch_model.bin")
    assert "took the last, checkpoint-100; checkpoint-20 is recorded as the best" in caplog.text


def test_a_part_of_an_unpacked_archive_must_be_in_its_folder() -> None:
    unpacked(Path())
    pickled = (
        Path("model/data.pkl")
        .read_bytes()
        .replace(b"X\x01\x00\x00\x000", b"X\x06\x00\x00\x00../../", 1)
    )
    Path("model/data.pkl").write_bytes(pickled)

    with pytest.raises(CheckpointError):
        opened(Path("model"))


def test_a_link_in_an_unpacked_archive_leads_nowhere_else() -> None:
    unpacked(Path())
    part = Path("model/data/0")
    part.rename("elsewhere")
    part.symlink_to(Path("elsewhere").absolute())

    with pytest.raises(CheckpointError, match="its part data/0 is missing"):
        opened(Path("model"))


@pytest.mark.parametrize("named", ["..", "../elsewhere", "x/../..", ".", ""])
def test_the_latest_of_deepspeed_is_in_its_folder(named: str) -> None:
    find_deepspeed(Path())
    for path in (Path(), Path("elsewhere")):
        path.mkdir(exist_ok=True)
        (path / "mp_rank_00_model_states.pt").write_bytes(b"x")
    Path("model/latest").write_text(named)

    assert find_weights_file(Path("model")) == Path("model/step-3/mp_rank_00_model_states.pt")


@pytest.mark.parametrize(("names", "said"), [
    (("__0_0.distcp", ".metadata"), "dcp_to_torch model model.pth"),
    (("zero_pp_rank_0_mp_rank_00_model_states.pt",), "ZeRO-3.*zero_to_fp32.py"),
    (("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"), "split its weights over 2"),
    (("saved_model.pb",), "a SavedModel of TensorFlow"),
])  # fmt: skip
def test_folders_that_cannot_be_opened_are_named(names: tuple[str, ...], said: str) -> None:
    Path("model").mkdir()
    for name in names:
        Path("model", name).write_bytes(b"x")

    with pytest.raises(CheckpointError, match=rf"^cannot load model: .*{said}"):
        opened(Path("model"))


def test_the_command_for_a_distributed_checkpoint_makes_one_that_opens() -> None:
    dcp = pytest.importorskip("torch.distributed.checkpoint")
    utils = pytest.importorskip("torch.distributed.checkpoint.format_utils")
    with pytest.warns(UserWarning, match="torch.distributed"):
        dcp.save({"model": tiny(num_classes=2)}, checkpoint_id="run", no_dist=True)
    with warnings.catch_warnings(action="ignore"):  # of a group of processes, which some have
        utils.dcp_to_torch_save("run", "model.pth")

    assert opened(Path("model.pth")).num_classes == 2


@pytest.mark.parametrize("suffix", [".caffemodel", ".pt2", ".pth"])
def test_every_suffix_of_a_checkpoint_is_known_in_its_folder(suffix: str) -> None:
    Path("checkpoints").mkdir()
    Path("checkpoints", f"mine{suffix}").write_bytes(b"x")
    Path("checkpoints/README.md").write_text("x")

    assert (
        locate_checkpoint(None, model=None, weights=None, progress=False).path.name
        == f"mine{suffix}"
    )


# pickles of other libraries


def test_the_module_in_an_object_of_skorch_is_read() -> None:
    packed = BytesIO()
    torch.save({"module_": network()}, packed)
    module = types.ModuleType("skorch")
    kind = type("NeuralNetClassifier", (), {"__module__": module.__name__})
    vars(module)["NeuralNetClassifier"] = kind
    net = kind()
    vars(net).update(classes=["ants", "bees"], __cuda_dependent_attributes__=packed.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        Path("net.pkl").write_bytes(pickle.dumps(net))

    assert opened(Path("net.pkl")).classes.names == ("ants", "bees")


@pytest.mark.parametrize("compress", [0, 3])
def test_arrays_of_joblib_are_named(compress: int) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.dump({"a": np.zeros(9), "b": np.ones(3)}, "model", compress=compress)

    with pytest.raises(CheckpointError, match=r"joblib\.load"):
        opened(Path("model"))


# sentences


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(512, 9), nn.Tanh(), nn.Linear(9, 4)


def test_trust_is_not_offered_where_every_tensor_was_read(run: Run) -> None:
    net = network()
    net.fc = Own()
    torch.save(net, "model.pth")
    said = run("inspect", "model.pth").stderr

    assert "is a module of its own" in said
    assert "--trust-checkpoint" not in said


def lying(length: int | None = None, **changes: Any) -> bytes:
    """A safetensors file whose header says what is not so."""
    data = save({"a": torch.zeros(3), "b": torch.zeros(4)})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["b"] |= changes
    text = json.dumps(header).encode()
    return struct.pack("<Q", length or len(text)) + text + data[8 + size :]


@pytest.mark.parametrize(("data", "said"), [
    (lying(10**12), "its header should be 1,000,000,000,000 bytes long, and the file has"),
    (lying(5000), "its header should be 5,000 bytes long"),
    (lying(data_offsets=[12, 900]), "offset"), (lying(shape=[900]), "shape"),
    (lying(dtype="F9"), "F9"),
    (struct.pack("<Q", 9) + b"{not JSON}", "JSON"), (b"\1\2\3", "3"),
], ids=["longer", "long", "offsets", "shape", "dtype", "json", "cut"])  # fmt: skip
def test_a_safetensors_file_with_a_false_header_is_named(data: bytes, said: str) -> None:
    Path("model.safetensors").write_bytes(data)

    with pytest.raises(CheckpointError, match=rf"a damaged safetensors file \(.*{said}"):
        opened(Path("model.safetensors"))


@pytest.mark.parametrize(("prefix", "others", "said"), [
    ("backbone.body.", {"roi_heads.box_head.fc6.weight": (8, 8)}, "a detector (Faster R-CNN)"),
    ("backbone.body.", {"roi_heads.mask_predictor.conv5_mask.weight": (8, 8, 2, 2)},
     "a detector (Mask R-CNN)"),
    ("backbone.", {"classifier.0.convs.0.0.weight": (8, 8, 1, 1)},
     "a segmentation network (DeepLab)"),
    ("encoder.", {"decoder.up1.conv.weight": (8, 8, 3, 3)}, "a segmentation network (U-Net)"),
])  # fmt: skip
def test_networks_around_a_backbone_are_named(
    run: Run, prefix: str, others: dict[str, tuple[int, ...]], said: str
) -> None:
    state = {prefix + name: tensor for name, tensor in tiny().items() if not name.startswith("fc.")}
    torch.save(state | {name: torch.zeros(shape) for name, shape in others.items()}, "model.pth")

    assert f"it is {said} with a ResNet inside" in run("inspect", "model.pth").stderr
    with pytest.raises(CheckpointError, match="with a ResNet inside"):
        opened(Path("model.pth"))


def test_a_comparison_names_the_checkpoint_whose_classes_do_not_match(run: Run) -> None:
    for name, classes in (("a.pth", ["x", "y"]), ("b.pth", ["x", "z"])):
        torch.save({"state_dict": tiny(num_classes=2), "classes": classes}, name)
    for label in ("x", "y"):
        Path("images", label).mkdir(parents=True)
        picture(Path("images", label, "1.png"))
    said = run("evaluate", "images", "-c", "a.pth", "-c", "b.pth").stderr

    assert "Error: b.pth: cannot match images" in said
