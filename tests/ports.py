"""Ports for servers that are started with a number and cannot be asked for one."""

import errno
import os
import socket

# Below those that outgoing connections are given, so that none of these takes one between our look and the server's
# start.
_PORTS = range(20_000, 32_000)
_claims: list[socket.socket] = []  # open until this process ends


def free_ports(count: int, *, start: int | None = None) -> list[int]:
    """Ports of the loopback that are free now, and given to nobody else who asks here until this process has ended.

    Each costs a descriptor until then. Neighbours begin to look apart, to find theirs quickly; `start` says where.
    Raises OSError where there are no more ports, or descriptors.

    Two tests that were told the same port are worse than one that fails at its start: the second one's server ends,
    and what waits for it is answered by the first's, until that is stopped.
    """
    found: list[int] = []
    first = os.getpid() * 97 % len(_PORTS) if start is None else _PORTS.index(start)
    for port in (*_PORTS[first:], *_PORTS[:first]):
        if _claim(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"there are no {count} free ports in {_PORTS}")


def free_port() -> int:
    return free_ports(1)[0]


def _claim(port: int) -> bool:
    # A name that the kernel gives to one process and takes back when it ends, however it does.
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0pointsman-test-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    _claims.append(claim)
    return True
