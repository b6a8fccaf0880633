"""Predictions in, one HTML file out, to look through a run in a browser."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePath
from tempfile import TemporaryFile
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from resnet_cli.files import whole_file
from resnet_cli.preprocess import Preprocess
from resnet_cli.records import Prediction
from resnet_cli.results.html.entries import (
    Counts,
    ReportSample,
    build_entry,
    encode_for_html,
    encode_thumbnail,
)
from resnet_cli.results.options import Judge, Write, WriterOptions
from resnet_cli.text import escape_unprintable, first_few

Record = Mapping[str, Any]


@contextmanager
def html_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Write a report; if the run is stopped, of the images so far, and the report says so.

    Rows and thumbnails are kept in a temporary file, so that memory is bounded.
    """
    judge = Judge.of(options)
    counts = Counts()
    with TemporaryFile(dir=path.parent) as spool:
        sample = ReportSample(spool, options.report_limit)

        def write(prediction: Prediction) -> None:
            shown = prediction.best(options.topk)
            entry = build_entry(shown, judge(shown), counts.images, path.parent)
            counts.add(entry)
            if sample.wants(striking=entry.striking):
                sample.add(entry.encoded(), encode_thumbnail(prediction.thumbnail))

        try:
            yield write
        finally:
            with whole_file(path) as file:
                for piece in render_page(options.record(), counts, judge.names, sample):
                    file.write(piece.encode())


def report_title(record: Record) -> str:
    """Return the name of the checkpoint."""
    if "checkpoint" not in record:
        return "Predictions"
    return escape_unprintable(PurePath(record["checkpoint"]["path"]).name)


def describe_run(record: Record) -> str:
    """Describe the run in a line."""
    if "checkpoint" not in record:
        return ""
    rate = record["times"]["images_per_second"] or 0.0
    count = len(record["classes"])
    words = [record["model"], f"{count:,} classes", describe_device(record), f"{rate:.1f} images/s"]
    return escape_unprintable("  ·  ".join([*words, record["limit"]]))


def list_facts(record: Record) -> list[tuple[str, str]]:
    """Describe the run in terms and descriptions; empty if nothing is recorded."""
    described = {"Evaluation": record["evaluation"]} if "evaluation" in record else {}
    if "checkpoint" in record:
        described |= describe_facts(record)
    return [(term, escape_unprintable(str(words))) for term, words in described.items()]


def describe_facts(record: Record) -> dict[str, str]:
    """Describe each recorded fact of the run, by its term."""
    return {
        "Checkpoint": record["checkpoint"]["path"],
        "SHA-256": record["checkpoint"]["sha256"],
        "Model": record["model"],
        "Classes": describe_classes(record),
        "Preprocessing": describe_preprocessing(record),
        "Device": describe_device(record),
        "Time": describe_times(record),
        "Limit": record["limit"],
        "Started": record["started"],
        "Finished": record["finished"] or "stopped before its end",
        "Command": record["command"],
        "Folder": record["folder"],
        "Versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }


def describe_classes(record: Record) -> str:
    """Describe the number of classes, the first names and their source."""
    names = record["classes"]
    return f"{len(names):,}: {first_few(names)} ({record['classes_source']})"


def describe_preprocessing(record: Record) -> str:
    """Describe the preprocessing and its source."""
    settings = Preprocess(**record["preprocess"])
    decoder = "Pillow alone (--exact)" if record["exact"] else "the fast decoder"
    background = record["background"] or "none"
    return (
        f"{settings.words}, {settings.numbers} ({record['preprocess_source']}); "
        f"EXIF orientation {record['exif']}, colour profile {record['icc']}, background "
        f"{background}; {decoder}"
    )


def describe_device(record: Record) -> str:
    """Describe device and precision."""
    return ", ".join(
        [record["device"], record["precision"], *["compiled"] * bool(record["compiled"])]
    )


def describe_times(record: Record) -> str:
    """Describe wall time, throughput and the mean of each stage."""
    measured = record["times"]
    stages = ", ".join(
        f"{stage} {measured[f'{stage}_ms']:.2f} ms" for stage in ("decode", "preprocess", "forward")
    )
    rate = measured["images_per_second"] or 0.0
    return f"{measured['wall_s']:.1f} s, {rate:.1f} images/s; per image {stages}"


def render_page(
    record: Mapping[str, Any], counts: Counts, names: Mapping[int, str], sample: ReportSample
) -> Iterator[str]:
    """Yield the text of a report, a row and a thumbnail at a time."""
    places = sample.places()
    style, script = read_asset("report.css"), read_asset("report.js")
    data = {
        "names": {index: escape_unprintable(name) for index, name in names.items()},
        "images": counts.images,
        "labels": [
            (escape_unprintable(label), count) for label, count in counts.labels.most_common()
        ],
        "histogram": counts.histogram,
    }
    return load_template().generate(
        title=report_title(record),
        summary=describe_run(record),
        facts=list_facts(record),
        counts=counts,
        held=len(places),
        stopped=record.get("status") == "running",  # or it would be done by now
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        data=encode_for_html(data),
        rows=(sample.read(place.begin, place.middle) for place in places),
        thumbnails=(sample.read(place.middle, place.end) for place in places),
    )


def load_template() -> Any:
    """Load the template, which escapes everything that is not marked as safe."""
    environment = Environment(
        loader=PackageLoader("resnet_cli.results.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.get_template("report.html.jinja")


def read_asset(name: str) -> str:
    """Read a text file beside this module."""
    return (files("resnet_cli.results.html") / name).read_text("utf-8")


def csp_hash(text: str) -> str:
    """Return how a Content-Security-Policy names an element with this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
