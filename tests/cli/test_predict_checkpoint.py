"""The checkpoint that ``resnet-cli predict`` takes when none is given."""

from pathlib import Path

import pytest

from commands import SMALL, download_half, error_line, rows_of_jsonl
from conftest import DEMO, REPOSITORY, SAMPLES, Run, picture
from resnet_cli import Classifier


def test_the_checkpoint_can_stand_in_the_environment(
    run: Run, photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", str(checkpoint))
    result = run("predict", photos, *SMALL)
    assert result.exit_code == 0
    assert f"checkpoint {checkpoint}" in result.stderr


@pytest.fixture
def folder_of_checkpoints(checkpoint: Path) -> Path:
    folder = Path("checkpoints")
    folder.mkdir()
    (folder / "model.pth").symlink_to(checkpoint)
    (folder / "train.py").touch()  # what is no checkpoint may stand beside it
    (folder / "README.md").touch()
    return folder


def test_the_only_checkpoint_in_the_folder_is_taken(
    run: Run, photos: Path, folder_of_checkpoints: Path
) -> None:
    result = run("predict", photos, *SMALL)
    assert result.exit_code == 0
    assert "checkpoint checkpoints/model.pth (the only checkpoint in ./" in result.stderr


def test_several_checkpoints_in_the_folder_are_named(
    run: Run, photos: Path, folder_of_checkpoints: Path
) -> None:
    (folder_of_checkpoints / "other.safetensors").touch()
    line = error_line(run("predict", photos, *SMALL))
    assert "model.pth" in line
    assert "other.safetensors" in line


@pytest.mark.parametrize("option", [("-m", "resnet18"), ("--weights", "IMAGENET1K_V1")])
def test_the_folder_is_not_looked_at_when_a_model_or_weights_are_named(
    run: Run, folder_of_checkpoints: Path, option: tuple[str, str]
) -> None:
    picture(Path("a.jpg"), (60, 50))
    download_half()
    line = error_line(run("predict", "a.jpg", *option))
    assert "resnet18-f37072fd.pth: its sha256 is not" in line  # it was looked for in the cache


def test_the_environments_checkpoint_is_named_as_such(
    run: Run, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", str(checkpoint))
    picture(Path("a.jpg"))

    assert "(from RESNET_CLI_CHECKPOINT)" in run("predict", "a.jpg", *SMALL).stderr
    monkeypatch.setenv("RESNET_CLI_CHECKPOINT", "gone.pth")
    line = (
        "cannot load gone.pth: there is no such file (the checkpoint is from RESNET_CLI_CHECKPOINT)"
    )
    assert error_line(run("predict", "a.jpg", *SMALL)) == f"Error: {line}"
    weights = run("predict", "a.jpg", "--weights", "IMAGENET1K_V9")
    assert "cannot find the weights IMAGENET1K_V9" in weights.stderr


# the demonstration


def test_the_first_command_of_the_readme_labels_every_sample(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    result = run("predict", SAMPLES.name, "--format", "jsonl", "--device", "cpu")
    rows = rows_of_jsonl(result.stdout)

    assert result.exit_code == 0
    assert f"checkpoint {DEMO.relative_to(REPOSITORY)}" in result.stderr
    assert len(rows) == 16
    for row in rows:
        assert row["predictions"][0]["label"] == Path(row["path"]).parent.name


def test_the_demonstration_has_two_classes() -> None:
    classifier = Classifier.load(DEMO, device="cpu")
    assert sorted(classifier.class_names) == ["ants", "bees"]
    assert DEMO.stat().st_size < 50e6
