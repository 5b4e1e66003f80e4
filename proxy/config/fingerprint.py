"""What a file held when it was looked at, in short: enough to tell that it has changed since."""

import hashlib
import os
from pathlib import Path
from typing import TypeAlias

from proxy.config.document import MAX_BYTES, read_bytes

Fingerprint: TypeAlias = bytes | None  # None: not there, or not to be read


def fingerprint(path: str) -> Fingerprint:
    """Of a file's content, as far as a config is read, or of the names in a folder.

    What can be read only once, a pipe, never changes.
    """
    try:
        if os.path.isdir(path):
            content = "\0".join(sorted(os.listdir(path))).encode(errors="surrogateescape")
        else:
            content = b"" if Path(path).is_fifo() else read_bytes(Path(path), MAX_BYTES + 1)
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        return None
    return hashlib.sha256(content).digest()
