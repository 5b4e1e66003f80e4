"""`pointsman serve`."""

import errno
import socket
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from proxy.cli.options import DEFAULT_CONFIG, ConfigFile

if TYPE_CHECKING:
    from proxy.config.load import Loaded


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
    from proxy.listener import address_of, is_loopback
    from proxy.process import run
    from proxy.supervisor import Supervisor

    loaded = load(config)
    show_problems(loaded)
    if loaded.snapshot is None:
        raise typer.Exit(1)
    server = loaded.snapshot.server
    data = opened(moved(server.listen, host, port), "--port", "server.listen")
    if not loaded.snapshot.keys.callers and not is_loopback(data):
        fail(
            f"{address_of(data)} is not a loopback address and the config has no `keys:`: "
            "anybody could spend on your accounts. Add keys, or listen on 127.0.0.1"
        )
    admin, where = None, ""
    if server.admin is not None:
        admin = opened(moved(server.admin, None, admin_port), "--admin-port", "server.admin")
        where = f"; admin on http://{address_of(admin)} (/metrics /healthz /readyz)"
    typer.echo(f"pointsman serves http://{address_of(data)}/v1{where}; config {loaded.snapshot.hash}", err=True)
    size = workers or server.workers
    raise typer.Exit(run(lambda access: Supervisor(str(config), loaded, data, admin, size, access).run()))


def opened(address: str, option: str, key: str) -> socket.socket:
    from proxy.listener import bind

    try:
        return bind(address)
    except OSError as error:
        why = f"cannot listen on {address}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            why += f"; something else does. Choose another port with {option}, or with `{key}` in the config"
        fail(why)


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def show_problems(loaded: "Loaded") -> None:
    from proxy.config import problems as report

    if loaded.problems:
        typer.echo(report.as_text(loaded.problems, loaded.sources, loaded.secrets, lambda text, _: text), err=True)


def moved(address: str, host: str | None, port: int | None) -> str:
    old_host, _, old_port = address.rpartition(":")
    host = f"[{host}]" if host is not None and ":" in host else host
    return f"{old_host if host is None else host}:{old_port if port is None else port}"
