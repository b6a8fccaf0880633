import pytest
import torch
from torchvision import models
from torchvision.models import ResNet

from resnet_cli.checkpoint.network.architectures import ARCHITECTURES, HeadLayer, build_network


def test_the_table_holds_every_resnet_of_torchvision() -> None:
    builders = {name: models.get_model_builder(name) for name in models.list_models(module=models)}
    of_resnet = {name for name, make in builders.items() if make.__module__ == ResNet.__module__}

    assert set(ARCHITECTURES) == of_resnet
    assert all(name == architecture.name for name, architecture in ARCHITECTURES.items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_what_torchvision_builds(name: str) -> None:
    with torch.device("meta"):
        network = models.get_model(name)
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    first = network.layer1[0]
    widened = first.conv2 if hasattr(first, "conv3") else first.conv1
    known = ARCHITECTURES[name]

    assert known.block == type(first).__name__
    assert known.depths == tuple(len(layer) for layer in layers)
    assert known.groups == widened.groups
    assert known.width_per_group * known.groups == widened.out_channels


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_has_the_published_number_of_parameters(name: str) -> None:
    network = build_network(name, num_classes=1000, in_channels=3)
    published = {weights.meta["num_params"] for weights in models.get_model_weights(name)}

    assert {sum(weight.numel() for weight in network.parameters())} == published


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_a_network_takes_no_memory_and_is_ready_to_evaluate(name: str) -> None:
    network = build_network(name, num_classes=7, in_channels=3)

    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("num_classes", [1, 2, 1000])
def test_a_network_has_the_channels_and_classes_that_were_asked_for(
    in_channels: int, num_classes: int
) -> None:
    network = build_network("resnet18", num_classes=num_classes, in_channels=in_channels)
    logits = network(torch.empty(2, in_channels, 64, 48, device="meta"))

    assert logits.shape == (2, num_classes)
    assert network.fc.bias.shape == (num_classes,)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_a_head_can_do_without_bias(name: str) -> None:
    features = build_network(name).fc.in_features
    network = build_network(
        name, in_channels=1, head=(HeadLayer("linear", features, 5, bias=False),)
    )
    usual = build_network(name, num_classes=5, in_channels=1)

    assert usual.state_dict().keys() - network.state_dict().keys() == {"fc.bias"}
    assert network(torch.empty(1, 1, 32, 32, device="meta")).shape == (1, 5)
