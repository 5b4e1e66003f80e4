"""No two are told the same port, in one process or in two."""

import os
import socket
import subprocess
import sys

import pytest

from tests.ports import free_port, free_ports

ASK = "from tests.ports import free_ports; print(*free_ports(20), flush=True); input()"


def test_two_processes_share_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        theirs = list(map(int, other.stdout.readline().split()))
        monkeypatch.setattr(os, "getpid", lambda: other.pid)  # so that both begin to look at the same one
        ours = free_ports(20)
        other.communicate(b"\n")
    assert len(theirs) == 20
    assert not set(theirs) & set(ours)
    assert free_port() in theirs  # its claims ended with it


def test_a_port_is_free_and_given_once() -> None:
    given = free_ports(3)
    for port in given:
        with socket.create_server(("127.0.0.1", port)):
            pass
    assert len({*given, free_port()}) == 4


def test_a_taken_port_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    monkeypatch.setattr(os, "getpid", lambda: 0)
    monkeypatch.setattr("tests.ports._PORTS", range(first + 1, first + 2))
    with socket.create_server(("127.0.0.1", first + 1)), pytest.raises(OSError, match="no 1 free ports"):
        free_port()
