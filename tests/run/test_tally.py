import pytest

from resnet_cli.records import Item, Prediction, Score
from resnet_cli.run.tally import Tally


def ok(decode: float, preprocess: float, forward: float, *, warm_up: bool = False) -> Prediction:
    return Prediction(
        Item("a.jpg"),
        (Score("ant", 0, 0.9),),
        decode_ms=decode,
        preprocess_ms=preprocess,
        forward_ms=forward,
        batch_size=1,
        warm_up=warm_up,
    )


def broken(*, warm_up: bool = False) -> Prediction:
    return Prediction(Item("b.jpg"), error="the file is empty", warm_up=warm_up)


def tally(*predictions: Prediction, workers: int = 2, on_cpu: bool = True) -> Tally:
    made = Tally(workers, on_cpu=on_cpu)
    for prediction in predictions:
        made.add(prediction)
    return made


def test_means_leave_warm_up_out() -> None:
    counted = tally(ok(100, 200, 900, warm_up=True), ok(1, 2, 10), ok(3, 5, 20))
    assert counted.means() == {"decode": 2, "preprocess": 3.5, "forward": 15}


def test_means_of_warm_up_alone_are_better_than_none() -> None:
    counted = tally(ok(1, 2, 3, warm_up=True), ok(3, 4, 7, warm_up=True), broken())
    assert counted.means() == {"decode": 2, "preprocess": 3, "forward": 5}


def test_errors_are_counted_and_have_no_part_in_the_means() -> None:
    counted = tally(broken(warm_up=True), ok(1, 2, 3), broken(), ok(3, 4, 5))
    assert (counted.images, counted.errors) == (4, 2)
    assert counted.means() == {"decode": 2, "preprocess": 3, "forward": 4}


@pytest.mark.parametrize("counted", [tally(), tally(broken())])
def test_nothing_classified_limits_nothing(counted: Tally) -> None:
    assert counted.means() == {"decode": 0, "preprocess": 0, "forward": 0}
    assert counted.limit(9) == "nothing was classified"


@pytest.mark.parametrize(
    ("times", "workers", "on_cpu", "limit"),
    [
        ((2, 1, 9), 2, True, "limited by the network: 9.0 of 12.0 ms of a core per image"),
        ((5, 4, 1), 2, True, "limited by decoding: 9.0 of 10.0 ms of a core per image"),
        ((2, 1, 3), 2, True, "limited by the network: 3.0 of 6.0 ms of a core per image"),
        ((7, 2, 1), 8, False, "limited by decoding on 8 threads: the device waits for images"),
        ((7, 1, 1), 8, False, "limited by the network on the device"),
        ((7, 2, 1), 10, False, "limited by the network on the device"),
    ],
)
def test_what_limits_a_run(
    times: tuple[float, float, float], workers: int, limit: str, *, on_cpu: bool
) -> None:
    counted = tally(ok(900, 900, 900, warm_up=True), ok(*times), workers=workers, on_cpu=on_cpu)
    assert counted.limit(0.9) == limit


@pytest.mark.parametrize(
    ("seconds", "waits"), [(10, "wait 85% of the time"), (2.6, "wait 42% of the time"), (2.4, "")]
)
def test_workers_that_wait_limit_nothing(seconds: float, waits: str) -> None:
    counted = tally(*[ok(10, 5, 15)] * 100, workers=2)  # 1.5 s of both
    limit = counted.limit(seconds)
    assert limit.startswith("limited by writing the results" if waits else "limited by")
    assert waits in limit
    assert ("by the network: 15.0 of 30.0 ms" in limit) is not bool(waits)


def test_a_device_is_waited_for_by_other_figures() -> None:
    counted = tally(*[ok(10, 5, 15)] * 100, workers=2, on_cpu=False)
    assert counted.limit(10) == "limited by the network on the device"


def test_the_record_has_counts_and_times() -> None:
    counted = tally(ok(9, 9, 9, warm_up=True), ok(1, 2, 4.5), broken(), ok(2, 2, 5.0006))
    assert counted.record(seconds=1.6) == {
        "counts": {"images": 4, "ok": 3, "errors": 1},
        "times": {
            "wall_s": 1.6,
            "images_per_second": 2.5,
            "decode_ms": 1.5,
            "preprocess_ms": 2.0,
            "forward_ms": 4.75,
        },
        "limit": counted.limit(1.6),
    }


def test_before_any_time_has_passed_there_is_no_rate() -> None:
    assert tally(ok(1, 1, 1)).record(seconds=0)["times"]["images_per_second"] is None
