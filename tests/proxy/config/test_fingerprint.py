"""What counts as a change of a file, a folder, and of what is neither."""

import os
from pathlib import Path

import pytest

from proxy.config.document import read_bytes
from proxy.config.fingerprint import fingerprint


def test_a_file_changes_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert fingerprint(str(path)) is None
    path.write_text("")
    empty = fingerprint(str(path))
    path.write_text("one")
    one = fingerprint(str(path))
    path.write_text("two")
    assert len({None, empty, one, fingerprint(str(path))}) == 4
    path.write_text("one")
    os.utime(path, (0, 0))
    assert fingerprint(str(path)) == one


def test_a_folder_changes_with_its_names(tmp_path: Path) -> None:
    before = fingerprint(str(tmp_path))
    (tmp_path / os.fsdecode(b"\xff")).write_text("one")  # a name need not be UTF-8
    after = fingerprint(str(tmp_path))
    (tmp_path / os.fsdecode(b"\xff")).write_text("two")
    assert before != after == fingerprint(str(tmp_path))


def test_a_folder_in_a_files_place_costs_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(IsADirectoryError):
            read_bytes(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Who loads the config wants what is in it, and it would be waited for."""
    os.mkfifo(tmp_path / "named")
    assert fingerprint(str(tmp_path / "named")) == fingerprint(str(tmp_path / "named")) is not None
    out, into = os.pipe()
    os.write(into, b"config")
    before = fingerprint(f"/proc/self/fd/{out}")
    assert os.read(out, 100) == b"config"
    assert fingerprint(f"/proc/self/fd/{out}") == before
    os.close(out)
    os.close(into)


def test_a_file_without_end_is_not_read_to_it() -> None:
    assert fingerprint("/dev/zero") == fingerprint("/dev/zero") is not None


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    terminal, end = os.openpty()
    assert fingerprint(os.ttyname(end)) is None
    os.close(terminal)
    os.close(end)
    (tmp_path / "loop").symlink_to("loop")
    assert fingerprint(str(tmp_path / "loop")) is None
    assert fingerprint("no\0name") is None
