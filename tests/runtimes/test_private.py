"""What has no public name in torch: where it is missing or wrong, the function itself runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from resnet_cli.runtimes.private import Traced, can_trace


def double(values: Tensor) -> Tensor:
    return 2 * values


def gives_something_else(*_: object, **__: object) -> Callable[..., Tensor]:
    return lambda values: values + 1


def is_called_differently_now(*_: object, **__: object) -> Any:
    raise TypeError("standalone_compile() got an unexpected keyword argument")


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (gives_something_else, "its results differ"),
        (is_called_differently_now, "unexpected keyword argument"),
    ],
)
def test_a_part_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    compiler: Callable[..., Any],
    reason: str,
) -> None:
    monkeypatch.setattr("torch._inductor.standalone_compile", compiler)
    run, values = Traced(double), torch.arange(5.0)

    assert torch.equal(run(values), double(values))
    assert torch.equal(run(values), double(values))
    ours = [record for record in caplog.records if record.name == "resnet_cli"]
    assert [record.levelname for record in ours] == ["WARNING"]  # once
    assert reason in ours[0].getMessage()


def test_a_torch_without_the_compiler_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_trace()
    monkeypatch.delattr("torch._inductor.standalone_compile")
    assert not can_trace()
