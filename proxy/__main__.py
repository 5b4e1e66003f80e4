"""`python -m proxy`, and the `pointsman` script."""

import sys
from io import TextIOWrapper


def main() -> None:
    from proxy.cli.main import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a text that the terminal cannot show is no failure
    app(prog_name="pointsman")


if __name__ == "__main__":
    main()
