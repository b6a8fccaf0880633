"""Facts: the record of a run, in words for people."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from resnet_cli.preprocess import Preprocess
from resnet_cli.text import first_few, printable

Record = Mapping[str, Any]


def title(record: Record) -> str:
    """What made the predictions, in short."""
    if "checkpoint" not in record:
        return "Predictions"
    return printable(PurePath(record["checkpoint"]["path"]).name)


def summary(record: Record) -> str:
    """What was run, in a line."""
    if "checkpoint" not in record:
        return ""
    rate = record["times"]["images_per_second"] or 0.0
    count = len(record["classes"])
    words = [record["model"], f"{count:,} classes", device(record), f"{rate:.1f} images/s"]
    return printable("  ·  ".join([*words, record["limit"]]))


def facts(record: Record) -> list[tuple[str, str]]:
    """What was run, as terms and descriptions; nothing where nothing is recorded."""
    described = {"Evaluation": record["evaluation"]} if "evaluation" in record else {}
    if "checkpoint" in record:
        described |= of_run(record)
    return [(term, printable(str(words))) for term, words in described.items()]


def of_run(record: Record) -> dict[str, str]:
    """What was run, in words."""
    return {
        "Checkpoint": record["checkpoint"]["path"],
        "SHA-256": record["checkpoint"]["sha256"],
        "Model": record["model"],
        "Classes": classes(record),
        "Preprocessing": preprocessing(record),
        "Device": device(record),
        "Time": times(record),
        "Limit": record["limit"],
        "Started": record["started"],
        "Finished": record["finished"] or "stopped before its end",
        "Command": record["command"],
        "Folder": record["folder"],
        "Versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }


def classes(record: Record) -> str:
    """How many classes there are, the first, and where their names come from."""
    names = record["classes"]
    return f"{len(names):,}: {first_few(names)} ({record['classes_source']})"


def preprocessing(record: Record) -> str:
    """What happened to pixels, and who says so."""
    settings = Preprocess(**record["preprocess"])
    decoder = "Pillow alone (--exact)" if record["exact"] else "the fast decoder"
    background = record["background"] or "none"
    return (
        f"{settings.words}, {settings.numbers} ({record['preprocess_source']}); "
        f"EXIF orientation {record['exif']}, colour profile {record['icc']}, background "
        f"{background}; {decoder}"
    )


def device(record: Record) -> str:
    """Where the network ran and how it computed."""
    return ", ".join(
        [record["device"], record["precision"], *["compiled"] * bool(record["compiled"])]
    )


def times(record: Record) -> str:
    """Wall time, throughput, and the mean of each stage."""
    measured = record["times"]
    stages = ", ".join(
        f"{stage} {measured[f'{stage}_ms']:.2f} ms" for stage in ("decode", "preprocess", "forward")
    )
    rate = measured["images_per_second"] or 0.0
    return f"{measured['wall_s']:.1f} s, {rate:.1f} images/s; per image {stages}"
