"""`pointsman serve`, and the worker process that the supervisor starts."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from dataclasses import replace

from proxy.cli.output import fail, show_problems
from proxy.config.load import load
from proxy.meter import log
from proxy.runtime import Snapshot

try:
    from uvloop import new_event_loop
except ImportError:  # not on Windows
    from asyncio import new_event_loop


def serve(config: str, host: str | None, port: int | None, admin_port: int | None, workers: int | None) -> int:
    """Run the proxy until a signal ends it; returns the exit code."""
    from proxy.supervisor import Supervisor
    from proxy.worker import address, listen

    loaded = load(config)
    show_problems(loaded)
    if loaded.snapshot is None:
        return 1
    snapshot = with_options(loaded.snapshot, host, port, admin_port, workers)
    server = snapshot.server
    if not snapshot.keys.callers and not is_loopback(server.listen):
        return fail(
            f"{server.listen} is not a loopback address and the config has no `keys:`: "
            "anybody could spend on your accounts. Add keys, or listen on 127.0.0.1"
        )
    try:
        data = listen(server.listen)
        admin = listen(server.admin) if server.admin is not None else None
    except OSError as error:
        where = server.listen if "data" not in locals() else server.admin
        hint = "; is another server running there? --port takes another one" if error.errno == errno.EADDRINUSE else ""
        return fail(f"cannot listen on {where}: {os.strerror(error.errno or 0)}{hint}")
    lines = log.configure()
    print(
        f"pointsman {snapshot.hash}: http://{address(data)}/v1"
        + (f"  admin http://{address(admin)}/metrics" if admin is not None else ""),
        file=sys.stderr,
        flush=True,
    )
    supervisor = Supervisor(config, snapshot, data, admin, server.workers)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(supervisor.run())
    finally:
        lines.close()


def work(config: str, listener: int, line: int) -> int:
    """Run one worker process on inherited descriptors. The supervisor's command, not a user's."""
    from proxy.supervisor import serve_remote

    loaded = load(config)
    if loaded.snapshot is None:
        return 1
    lines = log.configure()
    sock, channel = socket.socket(fileno=listener), socket.socket(fileno=line)
    sock.setblocking(False)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(serve_remote(config, loaded.snapshot, sock, channel))
    finally:
        lines.close()


def with_options(
    snapshot: Snapshot, host: str | None, port: int | None, admin_port: int | None, workers: int | None
) -> Snapshot:
    """The snapshot with the command line's addresses and number of workers over the config's."""
    server = snapshot.server
    server = replace(server, listen=moved(server.listen, host, port), workers=workers or server.workers)
    if server.admin is not None:
        server = replace(server, admin=moved(server.admin, None, admin_port))
    return replace(snapshot, server=server)


def moved(address: str, host: str | None, port: int | None) -> str:
    old_host, _, old_port = address.rpartition(":")
    host = f"[{host}]" if host is not None and ":" in host else host
    return f"{old_host if host is None else host}:{old_port if port is None else port}"


def is_loopback(address: str) -> bool:
    import ipaddress

    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
