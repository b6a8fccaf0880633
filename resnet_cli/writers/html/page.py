"""Page: the template filled in, piece by piece."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from resnet_cli.text import printable
from resnet_cli.writers.html.counts import Counts
from resnet_cli.writers.html.entry import for_html
from resnet_cli.writers.html.facts import facts, summary, title
from resnet_cli.writers.html.sample import Sample


def page(
    record: Mapping[str, Any], counts: Counts, names: Mapping[int, str], sample: Sample
) -> Iterator[str]:
    """The text of a report, a row and a thumbnail at a time."""
    places = sample.places()
    style, script = asset("report.css"), asset("report.js")
    data = {
        "names": {index: printable(name) for index, name in names.items()},
        "images": counts.images,
        "labels": [(printable(label), count) for label, count in counts.labels.most_common()],
        "histogram": counts.histogram,
    }
    return template().generate(
        title=title(record),
        summary=summary(record),
        facts=facts(record),
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


def template() -> Any:
    """The template, in which everything is escaped that is not marked as safe."""
    environment = Environment(
        loader=PackageLoader("resnet_cli.writers.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.get_template("report.html.jinja")


def asset(name: str) -> str:
    """Text of a file that lies beside this one."""
    return (files("resnet_cli.writers.html") / name).read_text("utf-8")


def csp_hash(text: str) -> str:
    """What a Content-Security-Policy calls an element with this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
