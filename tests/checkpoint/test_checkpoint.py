"""What a checkpoint file gives: weights wherever they are, network, classes and settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet

from checkpoints import FORMS, Change, State, holds, opened, prefixed, refusal, saved, tiny
from conftest import DEMO, trained
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.checkpoint.network.detect import detect_network
from resnet_cli.errors import SettingError
from resnet_cli.preprocess import PRESETS, Preprocess


@pytest.fixture(scope="session")
def network() -> ResNet:
    return trained()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(network: nn.Module, images: Tensor) -> Tensor:
    result: Tensor = network(images)
    return result


@pytest.mark.parametrize(("wrap", "key", "prefix"), [
    (lambda s: s, "", ""),
    (lambda s: {"epoch": 3, "model_state_dict": s, "best_acc": 0.5}, "model_state_dict", ""),
    (lambda s: {"state_dict": s, "optimizer": {"state": {}, "param_groups": []}}, "state_dict", ""),
    (lambda s: {"model": s}, "model", ""),
    (lambda s: {"whatever": s}, "whatever", ""),
    (lambda s: {"a": {"b": {"c": s}}}, "a.b.c", ""),
    (lambda s: [{"epoch": 1}, {"net": s}], "1.net", ""),
    (lambda s: prefixed(s, "module."), "", "module."),
    (lambda s: prefixed(s, "_orig_mod."), "", "_orig_mod."),
    (lambda s: prefixed(s, "module._orig_mod."), "", "module._orig_mod."),
    (lambda s: prefixed(s, "_orig_mod.module."), "", "_orig_mod.module."),
    (lambda s: prefixed(s, "backbone.encoder."), "", "backbone.encoder."),
    (lambda s: {"state_dict": prefixed(s, "model.")}, "state_dict", "model."),
    (lambda s: {"n_averaged": torch.tensor(9), **prefixed(s, "module.")}, "", "module."),
    (lambda s: {"state_dict": {**prefixed(s, "net."), "criterion.weight": torch.ones(3)}},
     "state_dict", "net."),
])  # fmt: skip
def test_weights_are_found_wherever_they_are(wrap: Change, key: str, prefix: str) -> None:
    state = tiny()
    checkpoint = opened(saved(wrap(state)))

    assert (checkpoint.state_key, checkpoint.stripped_prefix) == (key, prefix)
    assert (checkpoint.model, checkpoint.num_classes, checkpoint.in_channels) == ("resnet18", 3, 3)
    assert holds(checkpoint, state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".ckpt", ".bin", ".tar", "", ".jpg"])
def test_the_format_follows_the_content_not_the_suffix(suffix: str) -> None:
    assert opened(saved(tiny(), f"model{suffix}")).format == "pickle-zip"


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_exactly_those_of_the_original_network(
    network: ResNet, images: Tensor, form: str
) -> None:
    FORMS[form](network.state_dict(), Path("model"))
    checkpoint = opened(Path("model"))
    loaded = checkpoint.network()

    assert checkpoint.format == (form if form != "wrapped" else "pickle-zip")
    assert not any(module.training for module in loaded.modules())
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(logits(loaded, images), logits(network, images))


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_bottlenecks_give_the_logits_of_the_original_network(images: Tensor, name: str) -> None:
    original = trained(name, num_classes=4)
    checkpoint = opened(saved(original.state_dict()))

    assert (checkpoint.model, checkpoint.num_classes) == (name, 4)
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_run_in_fp32(images: Tensor, dtype: torch.dtype) -> None:
    original = trained().to(dtype)
    torch.save(original.state_dict(), "model.pth")
    loaded = opened(Path("model.pth")).network()

    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.equal(logits(loaded, images), logits(original.float(), images))


def test_half_precision_safetensors_run_in_fp32() -> None:
    state = {name: tensor.contiguous() for name, tensor in trained().half().state_dict().items()}
    save_file(state, "model.safetensors")
    loaded = opened(Path("model.safetensors")).network().state_dict()

    assert loaded["layer4.1.bn2.running_var"].dtype == torch.float32
    assert torch.equal(loaded["fc.weight"], state["fc.weight"].float())
    assert loaded["bn1.num_batches_tracked"].dtype == torch.int64


def test_a_file_of_before_batches_were_counted_opens(network: ResNet, images: Tensor) -> None:
    state = network.state_dict()
    old = {name: state[name] for name in state if not name.endswith("num_batches_tracked")}

    assert torch.equal(logits(opened(saved(old)).network(), images), logits(network, images))


def safetensors(metadata: dict[str, str] | None) -> Path:
    path = Path("model.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in tiny().items()}, path, metadata)
    return path


def test_safetensors_without_metadata_open() -> None:
    checkpoint = opened(safetensors(None))

    assert (checkpoint.format, checkpoint.state_key) == ("safetensors", "")
    assert checkpoint.preprocess == PRESETS["imagenet-v1"]
    assert "imagenet-v1" in checkpoint.preprocess_source
    assert holds(checkpoint, tiny())


def test_safetensors_metadata_give_classes_and_preprocessing() -> None:
    settings = Preprocess(300, 288, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bgr")
    checkpoint = opened(
        safetensors(
            {
                "model": json.dumps("resnet18"),
                "classes": json.dumps(["ants", "bées", "c,d"]),
                "preprocess": json.dumps(settings.record()),
                "format": "pt",
            }
        )
    )

    assert checkpoint.classes.names == ("ants", "bées", "c,d")
    assert "metadata" in checkpoint.classes.source
    assert checkpoint.preprocess == settings
    assert checkpoint.preprocess_source == "recorded in the checkpoint"


@pytest.mark.parametrize("record", [{"angle": 3}, {"crop_size": 999}, {"resize_size": "big"}])
def test_a_recorded_preprocessing_that_cannot_be_obeyed_is_refused(record: Any) -> None:
    with pytest.raises(SettingError):
        opened(safetensors({"preprocess": json.dumps(record)}))


def test_the_demo_checkpoint_opens_with_all_that_it_records() -> None:
    checkpoint = opened(DEMO)

    assert (checkpoint.format, checkpoint.model, checkpoint.in_channels) == (
        "safetensors",
        "resnet18",
        3,
    )
    assert checkpoint.classes.names == ("ants", "bees")
    assert checkpoint.preprocess_source == "recorded in the checkpoint"


TWINS: dict[str, Callable[[State, State], Any]] = {
    "two keys": lambda plain, average: {"state_dict": plain, "state_dict_ema": average},
    "average first": lambda plain, average: {"model_ema": average, "model": plain},
    "capitals": lambda plain, average: {"net": plain, "EMA": prefixed(average, "module.")},
    "two prefixes": lambda plain, average: {
        "state_dict": {**prefixed(plain, "model."), **prefixed(average, "ema_model.")}
    },
}


@pytest.mark.parametrize("form", TWINS)
def test_averaged_weights_are_preferred_by_default(form: str) -> None:
    plain, average = tiny(seed=1), tiny(seed=2)
    path = saved(TWINS[form](plain, average))

    assert holds(opened(path), average)
    assert holds(opened(path, ema=False), plain)


@pytest.mark.parametrize("first", [True, False])
def test_an_average_is_known_by_its_counter_alone(*, first: bool) -> None:
    average = {**prefixed(tiny(seed=1), "module."), "n_averaged": torch.tensor(3)}
    both = {"a": average, "b": tiny()} if first else {"a": tiny(), "b": average}
    path = saved(both)

    assert holds(opened(path), tiny(seed=1))
    assert holds(opened(path, ema=False), tiny())


def test_the_only_weights_are_taken_with_any_preference() -> None:
    assert holds(opened(saved({"ema": tiny()}), ema=False), tiny())
    assert holds(opened(saved({"model": tiny()}), ema=True), tiny())


def test_the_letters_ema_inside_a_word_are_not_an_average() -> None:
    path = saved({"model": tiny(seed=1), "semantic": tiny(seed=2)})

    assert opened(path).state_key == "model"


@pytest.mark.parametrize("key", ["student", "teacher.net", "model_ema"])
def test_a_state_key_chooses_the_weights(key: str) -> None:
    states = {"student": tiny(seed=1), "teacher.net": tiny(seed=2), "model_ema": tiny(seed=3)}
    path = saved({"student": states["student"], "teacher": {"net": states["teacher.net"]},
                  "model_ema": states["model_ema"]})  # fmt: skip
    checkpoint = opened(path, state_key=key)

    assert checkpoint.state_key == key
    assert holds(checkpoint, states[key])


@pytest.mark.parametrize(("key", "seed"), [("encoder_q", 1), ("encoder_k", 2)])
@pytest.mark.parametrize("around", [lambda state: state, lambda state: {"state_dict": state}])
def test_a_state_key_may_be_a_prefix(around: Change, key: str, seed: int) -> None:
    twins = {**prefixed(tiny(seed=1), "encoder_q."), **prefixed(tiny(seed=2), "encoder_k.")}

    assert holds(opened(saved(around(twins)), state_key=key), tiny(seed=seed))


def test_a_state_key_that_is_not_there_is_refused_with_those_that_are() -> None:
    message = refusal(saved({"model": tiny(), "ema": tiny()}), state_key="teacher")

    assert "no weights under 'teacher': there are model, ema" in message


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_resnet_is_detected_by_its_shapes(name: str) -> None:
    with torch.device("meta"):
        state = models.get_model(name, num_classes=17).state_dict()
    detected = detect_network(state)

    assert detected.architecture.name == name
    assert detected.in_channels == 3
    assert detected.features == state["fc.weight"].shape[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_resnet_opens_from_a_file(name: str) -> None:
    path = saved(tiny(name, num_classes=5))
    checkpoint = opened(path, model=name)

    assert (checkpoint.model, checkpoint.num_classes) == (name, 5)
    assert holds(checkpoint, tiny(name, num_classes=5))


def test_a_network_of_one_channel_opens() -> None:
    original = trained(in_channels=1)
    checkpoint = opened(saved(original.state_dict()))
    images = torch.randn(2, 1, 64, 48, generator=torch.Generator().manual_seed(1))

    assert checkpoint.in_channels == 1
    assert (checkpoint.preprocess.mean, checkpoint.preprocess.std) == ((0.449,), (0.226,))
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


def test_a_head_without_bias_opens(images: Tensor) -> None:
    original = trained()
    original.fc = nn.Linear(512, 6, bias=False)
    checkpoint = opened(saved(original.state_dict()))

    assert checkpoint.num_classes == 6
    assert torch.equal(logits(checkpoint.network(), images), logits(original, images))


def test_the_architecture_is_detected_among_similar_ones() -> None:
    """Of one depth and one set of names, only the widths differ."""
    alike = ("resnet50", "resnext50_32x4d", "wide_resnet50_2")
    states = [tiny(name) for name in alike]

    assert len({tuple(state) for state in states}) == 1
    assert [detect_network(state).architecture.name for state in states] == list(alike)


@pytest.mark.parametrize(("name", "key", "num_classes"), [
    ("resnet18_imagenet.pth", "", 1000),
    ("ants_bees_resnet18_epoch14.pkl", "model_state_dict", 2),
])  # fmt: skip
def test_a_real_checkpoint_opens(data: Path, name: str, key: str, num_classes: int) -> None:
    path = data / "checkpoints" / name
    checkpoint = opened(path)
    tree: Any = torch.load(path, weights_only=True)

    assert (checkpoint.model, checkpoint.in_channels) == ("resnet18", 3)
    assert (checkpoint.state_key, checkpoint.num_classes) == (key, num_classes)
    assert len(checkpoint.classes.names) == num_classes
    assert holds(checkpoint, tree[key] if key else tree)


def test_a_container_in_itself_ends() -> None:
    knot: dict[str, Any] = {"state_dict": tiny()}
    knot["self"] = knot
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    knot["shared"] = shared

    assert holds(opened(saved(knot)), tiny())
