import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
from torch import Tensor
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock
from torchvision.transforms.functional import normalize

import reference
from conftest import picture, trained
from resnet_cli import Classifier, Preprocess
from resnet_cli.checkpoint.network.architectures import ARCHITECTURES
from resnet_cli.errors import DeviceError
from resnet_cli.records import Pixels
from resnet_cli.runtimes import (
    RUNTIMES,
    Runtime,
    Session,
    SessionOptions,
    find_runtime,
    import_runtime,
)
from resnet_cli.runtimes.torch_cuda import pack_top, unpack_top

CPU = find_runtime("cpu")
PREPROCESS = Preprocess()


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors, and other tests at the same time
    yield
    torch.set_num_threads(before)


def random_pixels(count: int, height: int = 64, width: int = 48, channels: int = 3) -> Pixels:
    shape = (count, height, width, channels)
    return np.random.default_rng(count).integers(256, size=shape, dtype=np.uint8)


def scaled_images(pixels: Pixels) -> Tensor:
    """Images as torchvision's network wants them, [N, C, H, W], 0 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def loaded(network: ResNet, runtime: Runtime = CPU, **options: Any) -> Session:
    return runtime.load(network, SessionOptions(preprocess=PREPROCESS, **options))


def on_cpu(network: ResNet, precision: str = "fp32") -> Session:
    return loaded(copy.deepcopy(network), precision=precision)


def joined(session: Session, pixels: Pixels, k: int) -> tuple[Tensor, Tensor]:
    tops = [wait() for wait in session.launch(pixels, k)]
    probs, indices = ([getattr(top, name) for top in tops] for name in ("probs", "indices"))
    return torch.from_numpy(np.concatenate(probs)), torch.from_numpy(np.concatenate(indices))


def all_probabilities(session: Session, pixels: Pixels, classes: int) -> Tensor:
    """Probabilities [N, classes] in the order of the classes."""
    probs, indices = joined(session, pixels, classes)
    return torch.empty_like(probs).scatter_(1, indices, probs)


@torch.inference_mode()
def plain(network: ResNet, pixels: Pixels) -> Tensor:
    """What torchvision's own network gives, in eager fp32."""
    images = normalize(scaled_images(pixels), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return network(images).softmax(dim=1)


@pytest.fixture(scope="module")
def resnet18() -> ResNet:
    return trained(num_classes=7)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [("resnet18", 64, 48), ("resnet50", 33, 40), ("resnext50_32x4d", 32, 32)],
)
def test_probabilities_match_numpy(name: str, height: int, width: int) -> None:
    network = trained(name, num_classes=7)
    pixels = random_pixels(2, height, width)

    weights = {key: value.double().numpy() for key, value in network.state_dict().items()}
    scaled = pixels.transpose(0, 3, 1, 2) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = (scaled - mean[:, None, None]) / std[:, None, None]
    architecture = ARCHITECTURES[name]
    logits = reference.resnet(images, weights, architecture.depths, architecture.groups)

    actual = all_probabilities(on_cpu(network), pixels, 7)
    np.testing.assert_allclose(actual.numpy(), reference.softmax(logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_probabilities_are_those_of_torchvisions_network(name: str) -> None:
    network = trained(name, num_classes=7)
    # the logits of a trained network lie under twenty; with random weights they reach hundreds,
    # where the last digit of a float is a digit of the probability
    network.fc.weight.data.div_(8)
    pixels = random_pixels(3, 80, 64)

    actual = all_probabilities(on_cpu(network), pixels, 7)
    torch.testing.assert_close(actual, plain(network, pixels), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", RUNTIMES["torch"])
def test_each_runtime_gives_the_probabilities_of_torchvisions_network(
    kind: str, resnet18: ResNet
) -> None:
    if not import_runtime(kind).is_available():
        pytest.skip(f"no {kind} here")
    pixels = random_pixels(3)
    session = loaded(copy.deepcopy(resnet18), find_runtime(kind))

    assert session.runtime.device.startswith(kind)
    expected = plain(resnet18, pixels)
    actual = all_probabilities(session, pixels, 7)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    best = session.launch(pixels[:1], 1)[0]()
    assert best.probs.shape == best.indices.shape == (1, 1)
    assert (str(best.probs.dtype), str(best.indices.dtype)) == ("float32", "int64")


def test_rows_do_not_depend_on_their_batch(resnet18: ResNet) -> None:
    pixels = random_pixels(5)
    session = on_cpu(resnet18)

    together = all_probabilities(session, pixels, 7)
    alone = torch.cat([all_probabilities(session, one[None], 7) for one in pixels])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("precision", "most"), [("bf16", 3e-2), ("fp16", 4e-3)])
def test_half_precision_is_close(resnet18: ResNet, precision: str, most: float) -> None:
    pixels = random_pixels(3)
    expected = plain(resnet18, pixels)
    actual = all_probabilities(on_cpu(resnet18, precision), pixels, 7)

    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=0, atol=most)
    assert not torch.allclose(actual, expected, rtol=0, atol=1e-6)  # it is another arithmetic
    torch.testing.assert_close(actual.sum(dim=1), torch.ones(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_best_classes_are_those_of_a_numpy_sort(resnet18: ResNet, k: int) -> None:
    pixels = random_pixels(4)
    expected = plain(resnet18, pixels).numpy()

    probs, indices = joined(on_cpu(resnet18), pixels, k)
    order = np.argsort(-expected, axis=1)[:, :k]
    assert indices.tolist() == order.tolist()
    np.testing.assert_allclose(
        probs.numpy(), np.take_along_axis(expected, order, axis=1), rtol=0, atol=1e-5
    )


def test_a_single_output_is_a_sigmoid_of_index_one() -> None:
    network = trained(num_classes=1)
    pixels = random_pixels(3)
    images = normalize(scaled_images(pixels), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        ones = 1 / (1 + np.exp(-network(images).double().numpy()))

    actual = all_probabilities(on_cpu(network), pixels, 2)
    expected = np.concatenate([1 - ones, ones], axis=1)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-5)


def test_the_time_of_a_pass_is_told(resnet18: ResNet) -> None:
    [wait] = on_cpu(resnet18).launch(random_pixels(2), 1)
    assert wait().forward_ms > 0


class Hungry(ResNet):  # type: ignore[misc]
    """A small network with memory for a few images."""

    def __init__(self, room: int) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=3)
        self.room = room
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError(f"tried to allocate room for {len(x)} images")
        return super().forward(x)


def hungry(room: int) -> Hungry:
    torch.manual_seed(0)
    network = Hungry(room)
    network.fc.weight.data.mul_(5)  # so that no two images have the same probabilities
    return network.eval()


def test_out_of_memory_halves_the_batch_and_keeps_the_order() -> None:
    pixels = random_pixels(11, 32, 32)
    expected = all_probabilities(loaded(hungry(11)), pixels, 3)
    network = hungry(room=3)
    session = loaded(network)

    assert len(torch.unique(expected, dim=0)) == 11
    torch.testing.assert_close(all_probabilities(session, pixels, 3), expected, rtol=0, atol=1e-5)
    assert network.sizes == [11, 5, 2, 2, 2, 2, 2, 1]


def test_after_out_of_memory_batches_stay_small() -> None:
    network = hungry(room=2)
    session = loaded(network)
    session.launch(random_pixels(4, 32, 32), 1)
    network.sizes.clear()

    sizes = [len(wait().probs) for wait in session.launch(random_pixels(5, 32, 32), 1)]
    assert sizes == network.sizes == [2, 2, 1]


def test_out_of_memory_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    loaded(hungry(room=2)).launch(random_pixels(4, 32, 32), 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "batches of 2" in caplog.text


def test_out_of_memory_at_one_image_is_a_device_error() -> None:
    network = hungry(room=0)
    session = loaded(network)

    with pytest.raises(DeviceError, match=r"out of memory on cpu .*single image"):
        session.launch(random_pixels(4, 32, 32), 1)
    assert network.sizes == [4, 2, 1]


def test_out_of_memory_on_several_workers_loses_no_image() -> None:
    batches = [random_pixels(8, 32, 32) + np.uint8(number) for number in range(6)]
    roomy = loaded(hungry(8))
    expected = [all_probabilities(roomy, batch, 3) for batch in batches]
    session = loaded(hungry(room=3))
    together = threading.Barrier(3)

    def work(batch: Pixels) -> Tensor:
        together.wait(timeout=30)
        return all_probabilities(session, batch, 3)

    with ThreadPoolExecutor(3) as pool:
        actual = list(pool.map(work, batches))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_another_error_of_the_network_is_no_lack_of_memory(resnet18: ResNet) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        on_cpu(resnet18).launch(random_pixels(2, channels=1), 1)


def test_a_session_outlives_the_file_of_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    network = trained()
    torch.save(network.state_dict(), path)
    pixels = random_pixels(2)
    classifier = Classifier.load(path, device="cpu")
    with path.open("r+b") as file:  # in place: the map of the file sees it
        file.write(b"\xff" * path.stat().st_size)

    actual = all_probabilities(classifier.session, pixels, 3)
    torch.testing.assert_close(actual, plain(network, pixels), rtol=0, atol=1e-5)


class EagerHungry(Hungry):
    """The compiler leaves its forward pass as it is, so that its memory can run out."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def compiled(network: ResNet) -> Session:
    """In bf16, in which little is compiled on the CPU for images as small as these."""
    return loaded(network.eval(), precision="bf16", compiled=True)


@pytest.mark.usefixtures("compiler")
def test_smaller_batches_are_padded_for_the_compiler() -> None:
    torch.manual_seed(0)
    network = EagerHungry(room=9)
    session = compiled(network)

    sizes = [
        len(wait().probs)
        for count in (5, 2, 5, 1, 9, 5)
        for wait in session.launch(random_pixels(count, 16, 16), 1)
    ]
    assert sizes == [5, 2, 5, 1, 9, 5]  # results
    assert network.sizes == [5, 5, 5, 5, 9, 9]  # what the network was given


@pytest.mark.usefixtures("compiler")
def test_out_of_memory_of_a_compiled_network_halves_the_batch() -> None:
    torch.manual_seed(0)
    network = EagerHungry(room=8)
    session = compiled(network)
    session.launch(random_pixels(8, 16, 16), 1)
    network.room = 3  # another program took the rest

    sizes = [len(wait().probs) for wait in session.launch(random_pixels(8, 16, 16), 1)]
    assert sizes == [2, 2, 2, 2]


GPU = torch.device("cuda:0")


def on_gpu(network: ResNet, precision: str = "fp32") -> Session:
    return loaded(copy.deepcopy(network), find_runtime("cuda:0"), precision=precision)


def pinned(pixels: Pixels) -> Pixels:
    """The same in memory that the GPU copies from by itself."""
    room = find_runtime("cuda:0").allocate(pixels.shape)
    room[:] = pixels
    assert torch.from_numpy(room).is_pinned()
    return room


@pytest.mark.cuda
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-4), ("bf16", 3e-2), ("fp16", 4e-3)])
def test_the_gpu_gives_what_the_cpu_gives(resnet18: ResNet, precision: str, most: float) -> None:
    pixels = pinned(random_pixels(6, 96, 96))
    expected = plain(resnet18, pixels)
    actual = all_probabilities(on_gpu(resnet18, precision), pixels, 7)

    torch.testing.assert_close(actual, expected, rtol=0, atol=most)


@pytest.mark.cuda
def test_batches_in_flight_on_the_gpu_are_not_mixed_up(resnet18: ResNet) -> None:
    batches = [pinned(random_pixels(8, 96, 96) + np.uint8(number)) for number in range(12)]
    session = on_gpu(resnet18)
    launched = [session.launch(batch, 7) for batch in batches]  # none is waited for

    for batch, [wait] in zip(batches, launched, strict=True):
        top = wait()
        actual = np.empty_like(top.probs)
        np.put_along_axis(actual, top.indices, top.probs, axis=1)
        expected = plain(resnet18, batch).numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
        assert top.forward_ms > 0


@pytest.fixture
def _little_gpu_memory() -> Iterator[None]:
    """Leave this process 1 GiB of the GPU: an eighth of what 1024 photographs want."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total, GPU)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    torch.cuda.empty_cache()


@pytest.mark.cuda
@pytest.mark.usefixtures("_little_gpu_memory")
def test_out_of_memory_on_the_gpu_halves_the_batch_and_keeps_the_order(resnet18: ResNet) -> None:
    few = random_pixels(16, 224, 224)
    pixels = pinned(np.tile(few, (64, 1, 1, 1)))
    session = on_gpu(resnet18)
    actual = all_probabilities(session, pixels, 7)

    assert session.limit is not None
    assert session.limit < 1024
    expected = plain(resnet18, few).repeat(64, 1)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("compiled", [False, True])
def test_predict_on_the_gpu_gives_the_labels_of_the_cpu(
    checkpoint: Path, photos: Path, *, compiled: bool
) -> None:
    picture(photos / "broken.png").write_bytes(b"no image")
    rows = [
        list(
            Classifier.load(checkpoint, device=device, compile=compiled and device == "cuda")
            .predict(photos, topk=3, batch_size=4, workers=2)
        )
        for device in ("cpu", "cuda")
    ]  # fmt: skip

    for cpu, gpu in zip(*rows, strict=True):
        assert (gpu.path, gpu.status, gpu.label) == (cpu.path, cpu.status, cpu.label)
        by_index = {score.index: score.prob for score in cpu.scores}
        assert {s.index: s.prob for s in gpu.scores} == pytest.approx(by_index, abs=1e-4)


def test_a_result_travels_in_one_piece() -> None:
    probs, indices = torch.rand(3, 2), torch.randint(0, 1000, (3, 2))
    there, and_back = unpack_top(pack_top(probs, indices))
    assert torch.equal(there, probs)
    assert torch.equal(and_back, indices)
    assert and_back.dtype == torch.int64
