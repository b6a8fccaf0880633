"""The program: ``resnet-cli`` and ``python -m resnet_cli``."""

from resnet_cli.cli import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="resnet-cli")


if __name__ == "__main__":
    main()
