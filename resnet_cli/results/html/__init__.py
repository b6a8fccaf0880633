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
    encode_thumbnail,
    entry_of,
    for_html,
)
from resnet_cli.results.options import Judge, Write, WriterOptions
from resnet_cli.text import escape_unprintable, first_few

Record = Mapping[str, Any]


@contextmanager
def html_writer(path: Path, options: WriterOptions) -> Iterator[Write]:
    """Write a report; a run that is stopped leaves one of what there was, which says so.

    Rows and thumbnails wait in a temporary file, so that memory is bounded whatever comes.
    """
    judge = Judge.of(options)
    counts = Counts()
    with TemporaryFile(dir=path.parent) as spool:
        sample = ReportSample(spool, options.report_limit)

        def write(prediction: Prediction) -> None:
            shown = prediction.best(options.topk)
            entry = entry_of(shown, judge(shown), counts.images, path.parent)
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
    """What made the predictions, in short."""
    if "checkpoint" not in record:
        return "Predictions"
    return escape_unprintable(PurePath(record["checkpoint"]["path"]).name)


def run_line(record: Record) -> str:
    """What was run, in a line."""
    if "checkpoint" not in record:
        return ""
    rate = record["times"]["images_per_second"] or 0.0
    count = len(record["classes"])
    words = [record["model"], f"{count:,} classes", device_words(record), f"{rate:.1f} images/s"]
    return escape_unprintable("  ·  ".join([*words, record["limit"]]))


def run_facts(record: Record) -> list[tuple[str, str]]:
    """What was run, as terms and descriptions; nothing where nothing is recorded."""
    described = {"Evaluation": record["evaluation"]} if "evaluation" in record else {}
    if "checkpoint" in record:
        described |= of_run(record)
    return [(term, escape_unprintable(str(words))) for term, words in described.items()]


def of_run(record: Record) -> dict[str, str]:
    """What was run, in words."""
    return {
        "Checkpoint": record["checkpoint"]["path"],
        "SHA-256": record["checkpoint"]["sha256"],
        "Model": record["model"],
        "Classes": classes_words(record),
        "Preprocessing": preprocessing_words(record),
        "Device": device_words(record),
        "Time": times_words(record),
        "Limit": record["limit"],
        "Started": record["started"],
        "Finished": record["finished"] or "stopped before its end",
        "Command": record["command"],
        "Folder": record["folder"],
        "Versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }


def classes_words(record: Record) -> str:
    """How many classes there are, the first, and where their names come from."""
    names = record["classes"]
    return f"{len(names):,}: {first_few(names)} ({record['classes_source']})"


def preprocessing_words(record: Record) -> str:
    """What happened to pixels, and who says so."""
    settings = Preprocess(**record["preprocess"])
    decoder = "Pillow alone (--exact)" if record["exact"] else "the fast decoder"
    background = record["background"] or "none"
    return (
        f"{settings.words}, {settings.numbers} ({record['preprocess_source']}); "
        f"EXIF orientation {record['exif']}, colour profile {record['icc']}, background "
        f"{background}; {decoder}"
    )


def device_words(record: Record) -> str:
    """Where the network ran and how it computed."""
    return ", ".join(
        [record["device"], record["precision"], *["compiled"] * bool(record["compiled"])]
    )


def times_words(record: Record) -> str:
    """Wall time, throughput, and the mean of each stage."""
    measured = record["times"]
    stages = ", ".join(
        f"{stage} {measured[f'{stage}_ms']:.2f} ms" for stage in ("decode", "preprocess", "forward")
    )
    rate = measured["images_per_second"] or 0.0
    return f"{measured['wall_s']:.1f} s, {rate:.1f} images/s; per image {stages}"


def render_page(
    record: Mapping[str, Any], counts: Counts, names: Mapping[int, str], sample: ReportSample
) -> Iterator[str]:
    """The text of a report, a row and a thumbnail at a time."""
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
        summary=run_line(record),
        facts=run_facts(record),
        counts=counts,
        held=len(places),
        stopped=record.get("status") == "running",  # the last row ends it
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        data=for_html(data),
        rows=(sample.read(place.begin, place.middle) for place in places),
        thumbnails=(sample.read(place.middle, place.end) for place in places),
    )


def load_template() -> Any:
    """The template, in which everything is escaped that is not marked as safe."""
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
    """Text of a file that lies beside this one."""
    return (files("resnet_cli.results.html") / name).read_text("utf-8")


def csp_hash(text: str) -> str:
    """What a Content-Security-Policy calls an element with this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
