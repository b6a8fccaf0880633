"""The sections and examples of each command's help, and the command that shows them."""

from collections import Counter

import click

SECTIONS = {
    "Checkpoint": (
        "--checkpoint", "--classes", "--model", "--weights", "--state-key", "--ema",
        "--trust-checkpoint", "--dilation", "--in-channels", "--num-classes", "--half",
    ),
    "Images": (
        "--labels", "--predictions", "--images", "--exclude", "--hidden",
        "--image-column", "--pages", "--boxes", "--min-box-confidence", "--box-margin", "--every",
        "--exif", "--icc",
        "--background", "--bands", "--max-pixels",
    ),
    "Preprocessing": (
        "--preset", "--resize-size", "--img-size", "--interpolation", "--mean", "--std", "--color",
        "--squash", "--exact", "--audit", "--audit-images",
    ),
    "Running": (
        "--device", "--runtime", "--precision", "--input", "--batch", "predict --calibration",
        "export --calibration", "--calibration-images", "--max-drop", "--compile", "--cache",
        "--batch-size", "--workers", "--fetch", "--fetch-timeout", "--on-error", "--verify",
        "--dry-run", "--list",
        "--duration", "--iters", "--warmup",
    ),
    "Results": (
        "--output", "--resume", "--overwrite", "--quiet", "--topk", "--threshold", "--grid",
        "--grid-size", "--show", "--report", "--report-limit", "--confusion",
        "evaluate --calibration", "--mistakes", "--view", "--depth", "--all", "--plot",
        "--percentiles", "--compare", "--format", "--csv-separator", "--csv-bom",
    ),
    "Other": ("--progress", "--debug", "--help"),
}  # fmt: skip
"""Every option by its long name, the ones that most people need first in each section.

The name of a command before it places an option that other commands have elsewhere.
"""

EXAMPLES = {
    "predict": (
        "resnet-cli predict photos/ -c model.pth --classes ants,bees -o results.csv",
        "resnet-cli predict photos/ --grid grid.png -o report.html",
    ),
    "evaluate": (
        "resnet-cli evaluate photos/ -c model.pth --confusion confusion.png",
        "resnet-cli evaluate photos/ -c first.pth -c second.pth",
    ),
    "benchmark": (
        "resnet-cli benchmark resnet50 --precision fp32,bf16",
        "resnet-cli benchmark model.pth --images photos/ -o today.json",
    ),
    "summary": (
        "resnet-cli summary resnet50 --view stages",
        "resnet-cli summary model.pth --depth 2 -o model.md",
    ),
    "models": ("resnet-cli models", "resnet-cli models --all --format json"),
    "inspect": ("resnet-cli inspect model.pth", "resnet-cli inspect model.pth --format json"),
    "convert": (
        "resnet-cli convert model.ckpt model.safetensors",
        "resnet-cli convert model.pkl model.pth --classes ants,bees --half",
    ),
    "export": (
        "resnet-cli export model.pth model.onnx",
        "resnet-cli export model.pth model.xml --precision int8 --calibration photos/",
    ),
}


class Command(click.Command):
    """A command whose help has sections and examples, and that takes a file for an option once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            UsageError: an option that names one file is repeated.
        """
        *_, order = self.make_parser(ctx).parse_args([*args])
        for option, times in Counter(order).items():
            if times > 1 and not option.multiple and names_a_file(option):
                raise click.UsageError(
                    f"{max(option.opts, key=len)} was given {times} times: name one", ctx
                )
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section, in the order of ``SECTIONS``."""
        options = {
            max(option.opts, key=len): option.get_help_record(ctx)
            for option in self.get_params(ctx)
            if isinstance(option, click.Option)
        }
        for title, names in SECTIONS.items():
            mine = [name.removeprefix(f"{self.name} ") for name in names]
            records = [options[name] for name in mine if name in options]
            if records:
                with formatter.section(title):
                    formatter.write_dl([record for record in records if record])

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in EXAMPLES[str(self.name)]:
                formatter.write_text(example)


def names_a_file(option: click.Parameter) -> bool:
    """Return True if the value of an option is, or may be, a file."""
    return isinstance(option.type, click.Path) or "FILE" in (option.metavar or "")
