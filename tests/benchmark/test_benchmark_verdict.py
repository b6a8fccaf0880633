"""The verdict: what limits the speed, and the option that would change it."""

import re
from dataclasses import replace

import pytest

from measuring import a_row, end_to_end
from resnet_cli.benchmark.report import Choices, state_verdict
from resnet_cli.benchmark.rows import BenchmarkRow
from resnet_cli.cli.benchmark import benchmark_command as command


def said(
    *rows: BenchmarkRow,
    compiling: str = "fp32 bf16",
    workers: int = 2,
    cores: int = 2,
    bf16: bool = True,
    on_workers_cores: bool = True,
) -> str:
    choices = Choices(frozenset(compiling.split()), workers, cores, bf16, on_workers_cores)
    return state_verdict(rows, choices)


def on_gpu(*rows: BenchmarkRow, workers: int, cores: int = 12) -> str:
    there = (replace(row, device="cuda:0") for row in rows)
    return said(*there, workers=workers, cores=cores, on_workers_cores=False)


DECODING = end_to_end(8, 40.0, prepare_ms=30.0, forward_ms=20.0)
COMPUTING = end_to_end(8, 40.0, prepare_ms=20.0, forward_ms=30.0)
ALONE = a_row("forward", 8, 100.0)


def test_a_cpu_that_decodes_most_of_the_time_is_decode_bound() -> None:
    sentence = said(ALONE, DECODING)
    assert sentence.startswith("decode-bound: end-to-end in fp32 with --batch-size 8")
    assert "40.0 images/s" in sentence
    assert "more cores" in sentence
    assert said(ALONE, COMPUTING).startswith("compute-bound: end-to-end in fp32")


def test_cores_that_rest_are_named() -> None:
    assert "try --workers 16, of which 2 were used" in said(ALONE, DECODING, cores=16)
    assert "--workers 16" in said(ALONE, COMPUTING, cores=16)
    assert "--workers" not in said(ALONE, COMPUTING)


# a GPU of 9,000 images/s behind twelve threads that take 6 ms an image: 2,000 images/s
GPU_ALONE = a_row("forward", 64, 9000.0)


def test_a_gpu_that_waits_for_pictures_is_decode_bound() -> None:
    sentence = on_gpu(GPU_ALONE, end_to_end(64, 1900.0, 6.0, 0.11), workers=12)
    assert sentence.startswith("decode-bound: end-to-end in fp32 with --batch-size 64")
    assert "more cores than --workers 12" in sentence
    more = on_gpu(GPU_ALONE, end_to_end(64, 1900.0, 6.0, 0.11), workers=12, cores=16)
    assert "try --workers 16" in more


def test_a_gpu_that_waits_though_decoders_rest_is_transfer_bound() -> None:
    sentence = on_gpu(GPU_ALONE, end_to_end(64, 1200.0, 6.0, 0.11), workers=12)
    assert sentence.startswith("transfer-bound: end-to-end in fp32 with --batch-size 64")
    assert "larger --batch-size" in sentence


def test_a_gpu_that_never_waits_is_compute_bound() -> None:
    rows = GPU_ALONE, end_to_end(64, 8500.0, 1.0, 0.11)
    assert on_gpu(*rows, workers=12).startswith("compute-bound: end-to-end")


def test_without_a_row_of_the_network_alone_its_own_milliseconds_count() -> None:
    assert on_gpu(end_to_end(64, 1900.0, 6.0, 0.11), workers=12).startswith("decode-bound")
    assert on_gpu(end_to_end(64, 1900.0, 6.0, 0.50), workers=12).startswith("compute-bound")
    other = a_row("forward", 8, 2000.0)
    assert on_gpu(other, end_to_end(64, 1200.0, 6.0, 0.11), workers=12).startswith("transfer")


def test_compute_bound_names_the_fastest_setting_and_what_to_try() -> None:
    rows = (
        a_row("forward", 1, 50.0),
        a_row("forward", 8, 100.0, peak_share=0.875),
        a_row("forward", 32, 90.0),
    )
    sentence = said(*rows)

    assert sentence.startswith("compute-bound: forward in fp32 with --batch-size 8")
    assert "100.0 images/s, 88% of this machine's peak" in sentence
    assert sentence.endswith("try --precision bf16 or --compile")
    assert said(*rows, compiling="bf16").endswith("try --precision bf16")
    assert said(*rows, bf16=False).endswith("try --compile")


def test_more_than_the_peak_is_explained() -> None:
    assert "multiplications" not in said(a_row("forward", 8, 100.0, peak_share=1.0))
    sentence = said(a_row("forward", 8, 100.0, peak_share=1.31))
    assert "131% of this machine's peak (3x3 convolutions take fewer multiplications" in sentence


@pytest.mark.parametrize("rate", [150.0, 20.0])
def test_what_was_measured_is_not_advised(rate: float) -> None:
    rows = a_row("forward", 8, 100.0), a_row("forward", 8, rate, precision="bf16")
    assert "--precision" not in said(*rows)
    assert said(*rows, compiling="").endswith("only a smaller --img-size would be faster")


def test_larger_batches_are_advised_while_they_pay() -> None:
    rising = a_row("forward", 1, 50.0), a_row("forward", 32, 100.0)
    level = a_row("forward", 1, 98.0), a_row("forward", 32, 100.0)
    assert "a --batch-size over 32" in said(*rising)
    assert "--batch-size over" not in said(*level)
    assert "--batch-size over" not in said(*rising, a_row("forward", 64, 90.0))
    assert "--batch-size over" not in said(a_row("forward", 32, 100.0))


def test_a_verdict_on_noise_begins_with_it() -> None:
    quiet, noisy = a_row("forward", 8, 100.0), a_row("forward", 8, 120.0, status="noisy")
    assert said(noisy).startswith("too noisy: 1 of 1 row spreads")
    assert said(quiet, noisy).startswith("too noisy: 1 of 2")
    assert "--duration" in said(noisy)
    assert said(noisy).endswith("forward in fp32 with --batch-size 8 is fastest, 120.0 images/s")
    slow = a_row("forward", 1, 50.0, status="noisy")
    assert said(slow, quiet).startswith("compute-bound")
    assert "too noisy: 1 of 2" in said(slow, quiet)
    assert "noisy" not in said(quiet)


def test_the_smallest_batch_without_room_is_named() -> None:
    sentence = said(
        a_row("forward", 8, 10.0), a_row("forward", 512, None), a_row("forward", 64, None)
    )
    assert sentence.startswith("compute-bound")
    assert "out of memory from --batch-size 64" in sentence


def test_nothing_measured_is_said() -> None:
    sentence = said(a_row("forward", 64, None), a_row("forward", 32, None))
    assert sentence.startswith("nothing could be measured: out of memory at --batch-size 32")
    assert "smaller" in sentence


def test_every_option_that_is_named_is_one() -> None:
    known = {name for option in command.params for name in option.opts}
    sentences = [
        said(ALONE, DECODING, cores=16),
        said(a_row("forward", 1, 50.0), a_row("forward", 32, 100.0, status="noisy"), cores=4),
        on_gpu(GPU_ALONE, end_to_end(64, 1200.0, 6.0, 0.11), workers=12),
        said(a_row("forward", 64, None)),
    ]
    for sentence in sentences:
        named = set(re.findall(r"--[a-z-]+", sentence))
        assert named
        assert named <= known


# several runtimes


PLAIN = a_row("forward", 8, 50.0)
INT8 = a_row("forward", 8, 160.0, runtime="openvino", precision="int8")


def test_the_fastest_runtime_and_its_gain_are_named() -> None:
    slow = a_row("forward", 1, 40.0)
    sentence = said(slow, PLAIN, INT8)
    assert "forward in int8 by openvino with --batch-size 8 is fastest" in sentence
    assert "160.0 images/s, 3.20 times torch in fp32" in sentence  # at the best batch of each
    assert "times torch" not in said(PLAIN, slow)
    assert "times torch" not in said(INT8)
    assert "times torch" not in said(INT8, replace(PLAIN, compiled=True))
    assert "times torch" not in said(INT8, end_to_end(8, 20.0, 1.0, 2.0))


def test_the_cost_in_labels_is_told() -> None:
    choices = Choices(frozenset(), 2, 2, agreement="its label is that of fp32 on 9 of 10 images")
    assert state_verdict([PLAIN, INT8], choices).endswith("on 9 of 10 images")


def test_int8_is_advised_where_it_is_possible() -> None:
    def advised(*, int8: bool, on_workers_cores: bool = True) -> bool:
        choices = Choices(frozenset(), 2, 2, False, on_workers_cores, int8)
        return "--precision int8" in state_verdict([PLAIN], choices)

    assert advised(int8=True)
    assert not advised(int8=False)
    assert not advised(int8=True, on_workers_cores=False)


def test_a_disturbed_figure_is_bound_by_other_work_alone() -> None:
    disturbed = replace(PLAIN, status="disturbed", other_work=0.43)
    sentence = said(disturbed)
    assert sentence.startswith("disturbed: other work took up to 43% of the cores: 1 of 1 row is")
    assert "with what other work left" in sentence
    assert "bound" not in sentence
    slow = replace(disturbed, images_per_second=10.0, batch_size=1)
    assert said(slow, PLAIN).startswith("compute-bound")
    assert "disturbed: other work took up to 43%" in said(slow, PLAIN)


def test_runtimes_are_not_taken_for_each_other() -> None:
    rising = (
        a_row("forward", 1, 50.0, runtime="openvino"),
        a_row("forward", 32, 100.0),
        a_row("forward", 32, 90.0, runtime="openvino"),
    )
    assert "--batch-size over" not in said(*rising)
