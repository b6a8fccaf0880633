"""The program: ``resnet-cli`` and ``python -m resnet_cli``."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from resnet_cli.cli import cli
        from resnet_cli.cli.process import leave_process

        try:
            cli(prog_name="resnet-cli")
        except SystemExit as end:
            leave_process(end.code)
            raise
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
