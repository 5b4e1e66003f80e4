"""`pointsman explain`: what the proxy would do with a request, and why. Nothing is sent."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.offline import caller_named, headers_of, load_offline, moment, usage_error
from proxy.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile
from proxy.cli.terminal import painter


def explain(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's JSON body; `-` is stdin.")],
    config: ConfigFile = DEFAULT_CONFIG,
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="A header; repeatable.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="NAME", help="The key it comes with, by its name.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="The tenant it comes from.")] = None,
    at: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="When it comes: 2026-11-21T23:00:00+01:00.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="An answer's x-request-id: the same `chance`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a request would get, and why.

    Policy, rule, route, model and prompt, by the evaluation that serves. Nothing is sent; no secrets are needed.

    Tokens are counted as characters / 4. Costs count the output that the request allows (max_tokens), none where it
    sets no limit; the worst case bills every attempt of the fallbacks in full, nothing cached. A model without a
    price has no cost (null).

    Exits with 1 when the request would be refused: the error is the one that a caller would get.
    """
    from proxy.account import new_id
    from proxy.cli.explanation import describe
    from proxy.errors import PointsmanError
    from proxy.explain import Situation
    from proxy.explain import explain as look

    headers = headers_of(header or ())
    now = time.time() if at is None else moment(at)
    data = _body(request)
    _, snapshot = load_offline(config, as_json=as_json)
    try:
        caller = caller_named(snapshot, headers, key, tenant)
        found = look(snapshot, data, Situation(now, headers, caller, request_id or new_id()))
    except PointsmanError as error:
        if as_json:
            typer.echo(json.dumps(error.body(), indent=2))
        typer.echo(f"error: {error.message} ({error.http_status} {error.code})", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        typer.echo("\n".join(describe(found, painter(sys.stdout))))


def _body(request: str) -> bytes:
    if request == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(request).read_bytes()
    except OSError as error:
        usage_error(f"cannot read {request}: {error.strerror}")
