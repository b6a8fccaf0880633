"""Files that only their own classes can read open when the user trusts them."""

import io
import logging
import os
import pickle
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Run, picture
from pickled import (
    CONTAINERS,
    HEAD,
    NAMES,
    RUN,
    Call,
    by_torch,
    in_zip,
    name_of,
    opened,
    refusal,
    require_same,
    tiny,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore:.torch.jit"),
]


class Holder:
    """An object that holds a network where only its own class finds it."""

    def __init__(self, **state: Any) -> None:
        self.content = state

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (by_torch(self.content),)


SEEN: list[str] = []
"""What had been said when the class was asked."""


def restore(data: bytes) -> Any:
    SEEN.append(SAID.text)
    content = torch.load(io.BytesIO(data), weights_only=True)
    return types.SimpleNamespace(**content)


class Said(logging.Handler):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


SAID = Said()


@pytest.fixture
def said() -> Iterator[Said]:
    SEEN.clear()
    SAID.text = ""
    logging.getLogger("resnet_cli").addHandler(SAID)
    yield SAID
    logging.getLogger("resnet_cli").removeHandler(SAID)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle of protocol 4"])
def test_a_file_that_only_its_own_class_reads_opens_when_trusted(
    container: str, said: Said
) -> None:
    CONTAINERS[container](
        {"run": Holder(weights=tiny(), classes=list(NAMES))}, path := Path("model")
    )

    assert "test_trust.restore" in refusal(path)
    assert SEEN == []
    checkpoint = opened(path, trusted=True)
    assert checkpoint.state_key == "run.weights"
    assert checkpoint.classes.names == NAMES
    require_same({name: checkpoint.state[name] for name in tiny()}, tiny())
    assert "test_trust.restore" in SEEN[0]  # it was said before it was done


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_trust_is_not_used_where_the_file_opens_without(container: str, said: Said) -> None:
    content = {"run": Holder(), "state_dict": tiny(), "program": Call(os.system, RUN)}
    CONTAINERS[container](content, Path("model"))
    opened(Path("model"), trusted=True)

    assert (SEEN, said.text) == ([], "")
    assert not Path("ran").exists()


def test_the_flag_says_what_it_runs(run: Run, said: Said) -> None:
    torch.save({"run": Holder(weights=tiny(0.01))}, "model")
    picture(Path("picture.png"))
    command = ("predict", "picture.png", "-c", "model")

    assert run(*command).exit_code == 1
    result = run(*command, "--trust-checkpoint")
    assert result.exit_code == 0
    assert "test_trust.restore" in result.stderr


@pytest.mark.parametrize(("data", "sentence"), [
    (pickle.dumps(Call(torch.load, "nowhere")), "cannot unpickle model: FileNotFoundError"),
    (name_of("no.such.thing") + b".", "cannot unpickle model: ModuleNotFoundError"),
    (in_zip(HEAD + name_of("no.such.thing") + b"."), "cannot unpickle model: "),
])  # fmt: skip
def test_a_file_that_cannot_be_unpickled_is_refused_in_a_sentence(
    data: bytes, sentence: str
) -> None:
    Path("model").write_bytes(data)

    assert sentence in refusal(Path("model"), trusted=True)


def test_a_refusal_names_the_flag_that_may_help(run: Run) -> None:
    torch.save({"run": Holder(weights=tiny())}, "model")
    sentence = refusal(Path("model"))

    assert "it would import test_trust.restore: none of it was run" in sentence
    assert "--trust-checkpoint" in sentence
    assert "--trust-checkpoint" in run("inspect", "model").stderr


def test_a_refusal_that_the_flag_cannot_mend_does_not_name_it() -> None:
    torch.save({"losses": np.zeros(3), "weights": {"a": torch.zeros(3)}}, "model")

    assert "--trust-checkpoint" not in refusal(Path("model"))
    assert "--trust-checkpoint" not in refusal(Path("model"), trusted=True)


def test_a_file_of_unknown_content_opens_when_trusted() -> None:
    """Tuples deeper than this program reads them, and thrown away."""
    deep = HEAD + b"K\x01" + b"\x85" * 2000 + b"0"
    Path("model").write_bytes(deep + pickle.dumps({"weights": tiny()}, 4)[2:])

    assert "not a readable torch checkpoint" in refusal(Path("model"))
    assert opened(Path("model"), trusted=True).state_key == "weights"


def test_an_older_file_of_unknown_content_opens_when_trusted() -> None:
    data = by_torch({"weights": tiny()}, _use_new_zipfile_serialization=False)
    start = data.index(b"\x80\x02}q\x00X\x07\x00\x00\x00weights")
    Path("model").write_bytes(
        data[: start + 2] + b"K\x01" + b"\x85" * 2000 + b"0" + data[start + 2 :]
    )

    assert "not a readable torch checkpoint" in refusal(Path("model"))
    assert opened(Path("model"), trusted=True).state_key == "weights"
