"""`pointsman serve`, and the worker process that the supervisor starts."""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from proxy.cli.options import DEFAULT_CONFIG, ConfigFile

if TYPE_CHECKING:
    from proxy.config.load import Loaded
    from proxy.runtime import Snapshot
    from proxy.settled import Sink

COLLECT_AFTER: Final = (20_000, 50, 100)  # garbage collector thresholds: requests make little cyclic garbage


def serve(
    config: ConfigFile = DEFAULT_CONFIG,
    host: Annotated[str | None, typer.Option(help="Listen here instead of server.listen's host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="... and port; 0 takes a free one.")] = None,
    admin_port: Annotated[int | None, typer.Option(min=0, max=65535, help="The admin listener's port.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=512, help="Processes; default: server.workers.")] = None,
) -> None:
    """Run the proxy.

    SIGHUP reads the config again (so does a change of its files), SIGUSR2 replaces the workers one by one, SIGTERM
    drains and ends with 0, SIGINT the same without waiting for load balancers.
    """
    from proxy.config.load import load
    from proxy.supervisor import Supervisor
    from proxy.worker import address, listen

    loaded = load(config)
    show_problems(loaded)
    if loaded.snapshot is None:
        raise typer.Exit(1)
    snapshot = with_options(loaded.snapshot, host, port, admin_port, workers)
    server = snapshot.server
    if not snapshot.keys.callers and not is_loopback(server.listen):
        fail(
            f"{server.listen} is not a loopback address and the config has no `keys:`: "
            "anybody could spend on your accounts. Add keys, or listen on 127.0.0.1"
        )
    data = opened(server.listen, "--port", listen)
    admin = opened(server.admin, "--admin-port", listen) if server.admin is not None else None
    where = f"; admin on http://{address(admin)} (/metrics /healthz /readyz)" if admin is not None else ""
    typer.echo(f"pointsman serves http://{address(data)}/v1{where}; config {snapshot.hash}", err=True)
    run(lambda access: Supervisor(str(config), snapshot, data, admin, server.workers, access).run())


def work(
    config: Annotated[str, typer.Argument()],
    listener: Annotated[int, typer.Argument()],
    line: Annotated[int, typer.Argument()],
) -> None:
    """Run one worker process on inherited descriptors: the supervisor's command, not a person's."""
    from proxy.config.load import load
    from proxy.hands import serve_remote

    loaded = load(config)
    if loaded.snapshot is None:
        raise typer.Exit(1)
    sock, channel = socket.socket(fileno=listener), socket.socket(fileno=line)
    sock.setblocking(False)
    snapshot = loaded.snapshot
    run(lambda access: serve_remote(config, snapshot, sock, channel, access))


def run(main: "Callable[[Sink], Coroutine[Any, Any, int]]") -> None:
    """Run the server's main to its end on the fast loop, with logging set up; leave with its exit code.

    `main` is given the access log.
    """
    import gc

    from proxy.meter import log

    loop_factory: Any = None
    with contextlib.suppress(ImportError):  # not on Windows
        from uvloop import new_event_loop as loop_factory
    gc.set_threshold(*COLLECT_AFTER)
    lines = log.configure()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            code = runner.run(main(log.access(lines)))
    finally:
        lines.close()
    raise typer.Exit(code)


def opened(address: str, option: str, listen: Any) -> socket.socket:
    try:
        sock: socket.socket = listen(address)
    except OSError as error:
        hint = (
            f": something else listens there; {option} takes another port" if error.errno == errno.EADDRINUSE else ""
        )
        fail(f"cannot listen on {address} ({os.strerror(error.errno or 0)}){hint}")
    return sock


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def show_problems(loaded: "Loaded") -> None:
    from proxy.config import problems as report

    if loaded.problems:
        typer.echo(report.as_text(loaded.problems, loaded.sources, loaded.secrets, lambda text, _: text), err=True)


def with_options(
    snapshot: "Snapshot", host: str | None, port: int | None, admin_port: int | None, workers: int | None
) -> "Snapshot":
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
    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
