"""Which tensors of a file are the network's: averages, wrappers, masks, norms, and what is beside.

What torch's own modules compute in evaluation mode is the reference.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    spectral_norm,
    weight_norm,
)
from torch.optim.swa_utils import AveragedModel
from torchvision.models import ResNet

from conftest import Run, trained
from pickled import opened, refusal
from resnet_cli.checkpoint.inspect import inspect_checkpoint
from resnet_cli.checkpoint.network.naming import Role, role_of

State = dict[str, Tensor]
Change = Callable[[ResNet], Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def saved(content: Any) -> Path:
    torch.save(content, "model.pth")
    return Path("model.pth")


def under(prefix: str, state: State) -> State:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(torch.rand(1, 3, 32, 32, generator=torch.manual_seed(0)))
    return found


def check(path: Path, network: nn.Module, **options: Any) -> tuple[str, ...]:
    """The file predicts what the network does; its notes."""
    found = opened(path, **options)
    torch.testing.assert_close(logits(found.network()), logits(network), atol=2e-5, rtol=1e-4)
    return found.notes


@pytest.fixture(scope="module")
def first() -> ResNet:
    return trained(num_classes=3).requires_grad_(requires_grad=False)


@pytest.fixture
def network(first: ResNet) -> ResNet:
    return copy.deepcopy(first)


@pytest.fixture
def another(first: ResNet) -> ResNet:
    """The same with the outputs of its head in another order."""
    network = copy.deepcopy(first)
    with torch.no_grad():
        network.fc.weight.copy_(network.fc.weight.flip(0))
    return network


# averages, students and teachers


@pytest.mark.parametrize(("raw", "average"), [
    ("ema.online_model", "ema.ema_model"), ("online", "shadow"), ("model", "averaged_model"),
    ("state_dict", "swa_state"), ("net", "modelEMA"), ("raw.weights", "emaModel.weights"),
    ("a.student", "a.ema_teacher"), ("current_model_state", "state_dict"),
])  # fmt: skip
@pytest.mark.parametrize("nested", [True, False])
def test_the_average_is_distinguished_from_the_raw_weights(
    network: ResNet, another: ResNet, raw: str, average: str, nested: bool
) -> None:
    content: dict[str, Any] = {"step": torch.tensor(3), "initted": torch.tensor(True)}
    for path, one in ((raw, another), (average, network)):
        outer, _, key = path.rpartition(".")
        place = content.setdefault(outer, {}) if nested and outer else content
        state = one.state_dict()
        place.update({key: state} if nested else under(path, state))

    file = saved(content)
    check(file, network)
    check(file, another, ema=False)


def test_a_counter_shows_an_average_inside_other_modules(network: ResNet, another: ResNet) -> None:
    state = under("net", another.state_dict()) | under("s.x", AveragedModel(network).state_dict())

    check(saved({"state_dict": state}), network)


def test_an_average_of_parameters_alone_takes_the_statistics_beside_it(
    network: ResNet, another: ResNet
) -> None:
    shadow = {name: p.detach() for name, p in network.named_parameters()}
    (note,) = check(saved({"model": another.state_dict(), "ema": {"shadow": shadow}}), network)

    assert note == "the average has no batch-norm statistics: taken from model"


@pytest.mark.parametrize(("spare", "wanted"), [("teacher", "student"), ("momentum_net", "net")])
def test_the_student_is_preferred_to_its_teacher(
    network: ResNet, another: ResNet, spare: str, wanted: str
) -> None:
    state = under(spare, another.state_dict()) | under(wanted, network.state_dict())
    path = saved({"state_dict": state})

    check(path, network)
    check(path, another, state_key=spare)
    assert inspect_checkpoint(path).stripped_prefix == f"{wanted}."


@pytest.mark.parametrize("names", [("model_a", "model_b"), ("net1", "net2"), ("0", "1")])
@pytest.mark.parametrize("nested", [True, False])
def test_equivalent_networks_have_to_be_chosen(
    network: ResNet, another: ResNet, names: tuple[str, str], nested: bool
) -> None:
    states = [one.state_dict() for one in (network, another)]
    apart = dict(zip(names, states, strict=True))
    path = saved(apart if nested else under(names[0], states[0]) | under(names[1], states[1]))

    assert (
        f"it holds several networks ({names[0]}, {names[1]}): choose one with --state-key "
        f"{names[0]}"
    ) in refusal(path)
    check(path, another, state_key=names[1])


def test_one_network_under_two_names_is_unambiguous(network: ResNet) -> None:
    state = network.state_dict()

    check(saved({"best": state, "newest": state}), network)


def test_a_head_behind_two_backbones_is_refused(network: ResNet) -> None:
    body = {n: t for n, t in network.state_dict().items() if not n.startswith("fc.")}
    state = under("rgb", body) | under("flow", {n: t.clone() for n, t in body.items()})
    state |= {"fc.weight": torch.ones(3, 1024), "fc.bias": torch.ones(3)}

    assert "takes the features of two networks, rgb and flow" in refusal(
        saved(state), state_key="rgb"
    )


@pytest.mark.parametrize(("path", "role"), [
    ("semantic", Role.PLAIN), ("EMACallback.model", Role.AVERAGE), ("demand", Role.PLAIN),
    ("ema.raw", Role.RAW), ("teacher.model", Role.SPARE), ("", Role.PLAIN),
])  # fmt: skip
def test_roles_are_whole_words(path: str, role: Role) -> None:
    assert role_of(path) == role


# what is beside a whole network


@pytest.mark.parametrize("name", [
    "confmat.confmat", "val.metrics.cm.confmat", "center_loss.centers", "loss.centres",
    "memory_bank.features", "criterion.costs", "model.feature_bank",
])  # fmt: skip
def test_tensors_of_training_are_not_a_head(network: ResNet, name: str) -> None:
    columns = 512 if "cent" in name or "bank" in name else 3
    state = under("model", network.state_dict())

    check(saved({"state_dict": {**state, name: torch.randn(3, columns)}}), network)


def test_a_queue_of_another_size_than_the_outputs_is_of_no_other_task(network: ResNet) -> None:
    beside = {"queue": torch.randn(128, 640), "queue_ptr": torch.zeros(1).long()}

    check(saved({**network.state_dict(), **beside}), network)


@pytest.mark.parametrize("name", ["proj.weight", "loss_free.weight"])
def test_a_layer_behind_the_head_is_still_refused(network: ResNet, name: str) -> None:
    state = {**under("model", network.state_dict()), name: torch.randn(7, 3)}

    assert f"{name} is behind it or beside it" in refusal(saved(state))


@pytest.mark.parametrize("names", [("total_ops", "total_params"), ("Flops", "MAdd", "Memory")])
def test_counters_of_profilers_are_ignored(network: ResNet, names: tuple[str, ...]) -> None:
    for module in network.modules():
        if not list(module.children()):
            for name in names:
                module.register_buffer(name, torch.ones(1, dtype=torch.float64))

    check(saved(network.state_dict()), network)


# wrappers inside names


@pytest.mark.parametrize("wrapper", [
    "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module",
    "_fsdp_wrapped_module._checkpoint_wrapped_module",
])  # fmt: skip
@pytest.mark.parametrize(("places", "around"), [
    (("layer1",), ""),
    (("layer3", "layer4.1", "fc"), "module."),
    (("conv1", "layer1.0.conv1", "bn1", "fc"), "model._orig_mod."),
])  # fmt: skip
def test_wrappers_are_taken_out_of_names(
    network: ResNet, wrapper: str, places: tuple[str, ...], around: str
) -> None:
    state = network.state_dict()
    for place in places:
        state = {
            name.replace(f"{place}.", f"{place}.{wrapper}.", 1)
            if name.startswith(f"{place}.")
            else name: tensor
            for name, tensor in state.items()
        }
    path = saved({around + name: tensor for name, tensor in state.items()})

    check(path, network)
    assert inspect_checkpoint(path).stripped_prefix == around


def test_a_wrapped_head_of_several_layers_shows_what_it_computes(network: ResNet) -> None:
    head = nn.Sequential(nn.Linear(512, 8), nn.Tanh(), nn.Linear(8, 3))
    network.fc = nn.DataParallel(head)

    check(saved(network), network)


# masks and norms


def layers(network: ResNet) -> list[Any]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def prune_all(network: ResNet) -> None:
    for layer in layers(network):
        prune.l1_unstructured(layer, "weight", amount=0.4)
    prune.random_unstructured(network.fc, "bias", amount=1)


def prune_twice(network: ResNet) -> None:
    prune.ln_structured(network.conv1, "weight", amount=0.2, n=2, dim=0)
    prune.random_unstructured(network.conv1, "weight", amount=0.2)


def norm_all(network: ResNet) -> None:
    for layer in layers(network):
        weight_norm(layer)
        layer.weight_g.data.mul_(1.5)


def norm_along(dim: Any) -> Change:
    def change(network: ResNet) -> None:
        weight_norm(network.layer2[0].conv2, dim=dim)  # as many channels in as out
        weight_norm(network.fc, dim=dim)
        network.fc.weight_g.data.mul_(2)

    return change


def norm_as_parametrization(network: ResNet) -> None:
    for layer in (network.fc, network.layer1[0].conv1):
        parametrizations.weight_norm(layer)
        layer.parametrizations.weight.original0.data.mul_(1.5)


def norm_spectrally(network: ResNet) -> None:
    for layer in (network.fc, network.layer1[0].conv1, network.conv1):
        spectral_norm(layer)
    network.train()(torch.rand(2, 3, 32, 32))


def norm_spectrally_along(network: ResNet) -> None:
    spectral_norm(network.layer1[0].conv1, dim=1, n_power_iterations=20)
    network.train()(torch.rand(2, 3, 32, 32))


def norm_spectrally_as_parametrization(network: ResNet) -> None:
    for layer in (network.fc, network.layer2[0].conv1):
        parametrizations.spectral_norm(layer)
    network.train()(torch.rand(2, 3, 32, 32))


def norm_and_prune(network: ResNet) -> None:
    weight_norm(network.fc)
    prune.l1_unstructured(network.fc, "weight_v", amount=0.3)
    parametrizations.weight_norm(network.conv1)
    parametrizations.spectral_norm(network.conv1)


FORMS: dict[str, tuple[Change, str]] = {
    "pruned": (prune_all, "pruning masks applied: conv1.weight, layer1.0.conv1.weight, "),
    "pruned twice": (prune_twice, "pruning masks applied: conv1.weight"),
    "weight norm": (norm_all, "weight norm computed: conv1.weight, "),
    "weight norm along 1": (norm_along(1), "weight norm computed: layer2.0.conv2.weight, fc.weig"),
    "weight norm of all": (norm_along(None), "weight norm computed: layer2.0.conv2.weight, fc"),
    "parametrized": (norm_as_parametrization, "weight norm computed: layer1.0.conv1.weight, fc"),
    "spectral norm": (norm_spectrally, "spectral norm computed: conv1.weight, layer1.0.conv1.w"),
    "along 1": (norm_spectrally_along, "spectral norm computed: layer1.0.conv1.weight"),
    "spectral, parametrized": (
        norm_spectrally_as_parametrization,
        "spectral norm computed: layer2.0.conv1.weight, fc.weight",
    ),
    "several": (norm_and_prune, "pruning masks applied: fc.weight_v"),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_in_parts_are_computed_as_in_the_network(network: ResNet, form: str) -> None:
    change, note = FORMS[form]
    change(network)
    expected = logits(network)
    path = saved(network.state_dict())

    assert check(path, network)[0].startswith(note)
    assert inspect_checkpoint(path).warnings[0].startswith(note)
    torch.testing.assert_close(logits(network), expected)


@pytest.mark.parametrize("form", ["pruned", "weight norm", "spectral, parametrized"])
def test_weights_in_parts_are_computed_under_wrappers_and_averages(
    network: ResNet, another: ResNet, form: str
) -> None:
    FORMS[form][0](network)
    state = under("module", network.state_dict())
    state = {n.replace("layer1.", "layer1._orig_mod."): t for n, t in state.items()}

    check(saved({"ema_model": state, "model": another.state_dict()}), network)


def test_a_whole_network_is_computed_from_its_parts(network: ResNet) -> None:
    prune_all(network)
    weight_norm(network.layer1[0].bn1)

    check(saved(network), network)


def test_converted_weights_are_plain(run: Run, network: ResNet) -> None:
    prune_all(network)
    saved(network.state_dict())
    result = run("convert", "model.pth", "out.pth", "--classes", "a,b,c")
    plain = copy.deepcopy(network)
    for layer in layers(plain):
        prune.remove(layer, "weight")
    prune.remove(plain.fc, "bias")

    assert "pruning masks applied" in result.stderr
    written = torch.load("out.pth")["state_dict"]
    assert written.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(written[name], tensor)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


UNKNOWN = "has a parametrization that is not known: call torch.nn.utils.parametrize.remove"
LACKING = "is a part of a pruned or normed weight, and the other parts are not in the file"


def test_other_parametrizations_are_refused_by_name(network: ResNet) -> None:
    parametrize.register_parametrization(network.layer1[1].conv2, "weight", Doubled())
    assert f"layer1.1.conv2.weight {UNKNOWN}" in refusal(saved(network.state_dict()))

    other = trained(num_classes=3)
    parametrizations.orthogonal(other.fc)
    assert f"fc.weight {UNKNOWN}" in refusal(saved(other.state_dict()))


@pytest.mark.parametrize(("form", "lost", "named"), [
    ("pruned", "layer1.0.conv2.weight_mask", f"layer1.0.conv2.weight_orig {LACKING}"),
    ("pruned", "fc.bias_orig", f"fc.bias_mask {LACKING}"),
    ("weight norm", "fc.weight_g", f"fc.weight_v {LACKING}"),
    ("spectral norm", "conv1.weight_u", f"conv1.weight_orig {LACKING}"),
    ("parametrized", "fc.parametrizations.weight.original1", "fc.weight is parametrized, and"),
])  # fmt: skip
def test_a_part_without_the_others_is_refused_by_name(
    network: ResNet, form: str, lost: str, named: str
) -> None:
    FORMS[form][0](network)
    state = network.state_dict()
    del state[lost]

    assert named in refusal(saved(state))


def test_a_mask_beside_a_plain_weight(network: ResNet) -> None:
    mask = (torch.rand(3, 512) > 0.5).float()
    state = {**network.state_dict(), "fc.weight_mask": mask}
    assert "fc.weight_mask is beside fc.weight, and whether" in refusal(saved(state))

    network.fc.weight.data.mul_(mask)
    check(saved({**network.state_dict(), "fc.weight_mask": mask}), network)


@pytest.mark.parametrize(("size", "sentence"), [
    ((3, 511), "fc.weight_orig, fc.weight_mask do not belong together: their shapes are [3, 512]"),
    ((3, 1), "do not belong together: their shapes are [3, 512], [3, 1]"),
    ((1 << 28,), "fc.weight_mask is larger than its values in the file"),
    ((1 << 40,), "it has more masks and norms than any ResNet"),
])  # fmt: skip
def test_parts_that_do_not_belong_together_are_refused(
    network: ResNet, size: tuple[int, ...], sentence: str
) -> None:
    state = network.state_dict()
    state["fc.weight_orig"] = state.pop("fc.weight")
    state["fc.weight_mask"] = torch.zeros(1).expand(size)

    assert sentence in refusal(saved(state))


# tensors of other classes


class Part(Tensor):
    """A tensor that no program but its own can compute with."""

    @staticmethod
    def __new__(cls, of: Tensor) -> "Part":
        return Tensor._make_wrapper_subclass(cls, of.shape, dtype=of.dtype)

    def __init__(self, of: Tensor) -> None:
        self.of = of

    @classmethod
    def __torch_dispatch__(cls, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(("change", "sentence"), [
    (Part, "it is made of objects of test_tensors.Part, not of tensors: save plain float tensors"),
    (Tensor.to_sparse, "it is made of sparse tensors: save them dense, as to_dense() gives them"),
    (lambda tensor: tensor.to("meta"), "it is without values, which were on the meta device"),
])  # fmt: skip
def test_other_tensors_are_named(
    network: ResNet, change: Callable[[Tensor], Tensor], sentence: str
) -> None:
    state = {n: change(t) if t.ndim == 4 else t for n, t in network.state_dict().items()}

    assert sentence in refusal(saved({"model": state}))


@pytest.fixture
def mesh() -> Any:
    """Two processes, of which this is the first and the other is made up."""
    dist = pytest.importorskip("torch.distributed")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    dist.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=2)
    yield dist.device_mesh.init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


@pytest.mark.parametrize("placement", ["Replicate", "Shard", "Partial"])
def test_a_dtensor_is_read_where_one_process_has_all_of_it(
    network: ResNet, mesh: Any, placement: str
) -> None:
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    kind = {"Replicate": Replicate(), "Shard": Shard(0), "Partial": Partial()}[placement]
    state = {
        name: DTensor.from_local(tensor, mesh, [kind], run_check=False) if tensor.ndim else tensor
        for name, tensor in network.state_dict().items()
    }
    wrapped = {n.replace("layer2.", "layer2._fsdp_wrapped_module."): t for n, t in state.items()}
    path = saved({"model": wrapped})

    for trusted in (False, True):
        if placement == "Replicate":
            check(path, network, trusted=trusted)
        else:
            assert "it is sharded over several processes, and holds the part of one (DTensor)" in (
                refusal(path, trusted=trusted)
            )
