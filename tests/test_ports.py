"""No two are told the same port, in one process or in two."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port, free_ports

ROOT = Path(__file__).parents[1]
ASK = "from tests.ports import free_ports; print(*free_ports(20, start=25_000), flush=True); input()"
FEW = """
import resource
from tests.ports import free_ports
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
free_ports(64)
"""


def test_two_processes_share_none_until_one_has_ended() -> None:
    asking = [sys.executable, "-c", ASK]
    with subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout
        theirs = list(map(int, other.stdout.readline().split()))
        ours = free_ports(20, start=25_000)
        other.communicate(b"\n")
    assert len(theirs) == 20
    assert not set(theirs) & set(ours)
    assert free_ports(1, start=theirs[0]) == theirs[:1]


def test_a_port_is_free_and_given_once() -> None:
    given = free_ports(3)
    for port in given:
        with socket.create_server(("127.0.0.1", port)):
            pass
    assert len({*given, free_port()}) == 4


def test_a_taken_port_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr("tests.ports._PORTS", range(port, port + 1))
        with pytest.raises(OSError, match="no 1 free ports"):
            free_port()


def test_a_lack_of_descriptors_is_told_as_such() -> None:
    done = subprocess.run([sys.executable, "-c", FEW], cwd=ROOT, capture_output=True, text=True)
    assert "Too many open files" in done.stderr
