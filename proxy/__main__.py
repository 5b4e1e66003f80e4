"""`python -m proxy`, and the `pointsman` script."""

import contextlib
import errno
import os
import sys
from io import TextIOWrapper
from typing import Final

UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def main() -> None:
    occupy()
    from proxy.cli.main import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a text that the terminal cannot show is no failure
    try:
        try:
            app(prog_name="pointsman")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains once more when it ends
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: the result cannot be written: {error.strerror}\n")
        raise SystemExit(1) from None


def occupy() -> None:
    """Standard streams that were closed lead nowhere: else the next file or socket would get their number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(number, mode))  # noqa: SIM115 -- it is the process's


if __name__ == "__main__":
    main()
