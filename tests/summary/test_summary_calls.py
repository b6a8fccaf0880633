"""summarize and list_models from Python: calls that return, and refuse bad values at once."""

from pathlib import Path
from typing import Any

import pytest

from docs_blocks import run_blocks
from resnet_cli import Summary, SummaryOptions, summarize
from resnet_cli.errors import OptionError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"

REFUSED: dict[str, dict[str, Any]] = {
    "cannot show view 'tree': one of layers, blocks, stages": {"view": "tree"},
    "depth must be at least 1, got 0": {"depth": 0},
    "batch_size must be at least 1, got -1": {"batch_size": -1},
    "in_channels must be at least 1, got 0": {"in_channels": 0},
    "num_classes must be at least 1, got 0": {"num_classes": 0},
    "img_size must be at least 1": {"img_size": (224, 0)},
}


def test_the_page_shows_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    summary = run_blocks(PAGE, "Summary")["summary"]

    assert isinstance(summary, Summary)
    assert (summary.view, summary.img_size, summary.batch_size) == ("blocks", (320, 224), 8)
    assert "layer1.0 (8, 256, 80, 56) 75008" in capsys.readouterr().out


def test_a_summary_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert summarize().model == "resnet18"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("message", REFUSED)
def test_an_impossible_option_is_refused(message: str) -> None:
    with pytest.raises(OptionError, match=message):
        SummaryOptions(**REFUSED[message])
