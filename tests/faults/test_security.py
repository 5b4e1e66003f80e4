"""Rows 67 and 69, and the threats T1, T2, T10, T17, T18 and T22: where a request goes, and who may send it.

What a caller may not choose: the destination, another's key, the admin plane, a file, a role in a browser.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from proxy.admin import application
from proxy.app import App
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.payloads import FIELDS, HEADERS, TRAVERSALS, TRICKS, carriers, spellings, urls
from tests.faults.rig import ADMIN_KEY, KEYS, UPSTREAM_KEYS, Rig
from tests.faults.rows import Rows
from tests.harness import Proxy

USER = f"authorization: Bearer {KEYS['acme']}"
ADMIN = f"authorization: Bearer {ADMIN_KEY}"
BODY = b'{"model":"alone","messages":[{"role":"user","content":"x"}]}'


@contextmanager
def canary() -> Iterator[tuple[int, list[bytes]]]:
    """A listener that nobody should ever call, and what those sent who did."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(0.5)
                    try:
                        heard.append(connection.recv(65536))
                    except TimeoutError:
                        heard.append(b"")

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            stop.set()
            thread.join()  # after one more wait for a connection


def plain(data: bytes) -> Answer:
    answer = Answer()
    answer.feed(data)
    return answer


# --- row 67


async def test_a_caller_cannot_choose_the_destination(rig: Rig, form: Form, rows: Rows) -> None:
    """T1, T2: no field, header, target or address in a message makes the proxy call anybody else."""
    with canary() as (port, heard):
        there = f"http://127.0.0.1:{port}/v1"
        sent = 0
        async with await Client.open(rig.proxy.url) as client:

            async def ask(fields: dict[str, Any], *lines: str) -> None:
                nonlocal sent
                await (await rig.start("alone", stream=False, client=client, fields=fields, headers=lines)).ended()
                sent += 1

            for name in FIELDS:
                for value in (there, {"url": there, "base_url": there}):
                    await ask({name: value})
                await ask({"pointsman": {"variables": {}, name: there}})
            for name in HEADERS:
                await ask({}, f"{name}: {there}")
            for fields in carriers(there):
                await ask(fields)
            for url in urls(port) if form == "long" else urls(port)[::4]:
                for fields in carriers(url)[:1] if form == "short" else carriers(url):
                    await ask(fields)
            for target in (there, f"http://user@127.0.0.1:{port}/v1/models", f"//127.0.0.1:{port}/v1/models"):
                client.send(f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
                await client.answer(Answer())
                sent += 1
    leaked = [key for key in (*KEYS.values(), *UPSTREAM_KEYS.values()) if any(key.encode() in data for data in heard)]
    rows.add(
        67,
        f"{len(FIELDS)} fields, {len(HEADERS)} headers, {len(urls(1))} spellings of a URL, {len(carriers(''))} parts",
        "0 connections off the list; 0 key bytes",
        f"{len(heard)} connections, {len(leaked)} keys in {sent:,} requests",
        not heard and not leaked,
    )


# --- row 69


def table() -> dict[str, set[str]]:
    """The data listener's own routes, and who may have them: from the table itself, so that none can be forgotten."""

    class Nothing:
        def __getattr__(self, name: str) -> "Nothing":
            return self

    nothing: Any = Nothing()
    routes = {*App(nothing, nothing, nothing, nothing).table, "/models/alone"}
    return {f"{prefix}{route}": set() if route in OPEN else {"user"} for route in routes for prefix in ("", "/v1")}


def admin_table() -> dict[str, set[str]]:
    paths = {getattr(route, "path", "") for route in application(None).routes}  # type: ignore[arg-type]
    return {path: {"admin"} if path.startswith("/admin") else set() for path in paths}


OPEN = {"/healthz", "/readyz"}
NOT_THERE = (
    "/docs",
    "/openapi.json",
    "/redoc",
    "/debug",
    "/.env",
    "/metrics",
    "/admin/config",
    "/admin/reload",
    "/config",
)


async def test_every_route_wants_its_key(rig: Rig, form: Form, rows: Rows) -> None:
    """T10, T17: every route × no key, the other plane's key, with every trick, by every spelling: never a 2xx."""
    wrong, count = [], 0
    planes = (
        (rig.proxy.url, table(), NOT_THERE, {"none": (), "admin": (ADMIN,)}),
        (
            rig.proxy.admin,
            admin_table(),
            ("/docs", "/openapi.json", "/redoc", "/v1/models"),
            {"none": (), "user": (USER,)},
        ),
    )
    for url, routes, absent, keyed in planes:
        guarded = [path for path, who in routes.items() if who]
        assert len(guarded) >= 2
        everything = [spelt for path in (*guarded, *absent) for spelt in spellings(path)]
        for path in everything if form == "long" else everything[::5]:
            for who, key in keyed.items():
                for trick in TRICKS if form == "long" else TRICKS[::7]:
                    if key and any(line.startswith("authorization") for line in trick):
                        continue
                    lines = tuple(line.format(user=KEYS["acme"]) for line in (*key, *trick))
                    for method in ("GET", "POST"):
                        if path == "/healthz" or _is_open(path):
                            continue
                        status = await asked(rig, url, method, path, lines)
                        count += 1
                        if 200 <= status < 300 or status >= 500:
                            wrong.append((who, method, path, trick, status))
    rows.add(
        69,
        f"every route × keys × {len(TRICKS)} Host and path tricks × {len(spellings('/x'))} spellings",
        "unexpected 2xx: 0; every route in the matrix",
        f"{len(wrong)} in {count:,} {wrong[:3] if wrong else ''}",
        not wrong,
    )


def _is_open(path: str) -> bool:
    """Spelt with a query or fragment, an open route is what is asked for."""
    return path.split("?")[0].split("#")[0] in OPEN


async def test_the_right_key_opens_every_route(rig: Rig, form: Form) -> None:
    """The matrix would prove nothing if its routes answered nobody."""
    for url, routes, key in ((rig.proxy.url, table(), USER), (rig.proxy.admin, admin_table(), ADMIN)):
        for path, who in routes.items():
            method = "POST" if path.endswith(("/chat/completions", "/reload")) else "GET"
            prefixed_open = path.removeprefix("/v1") in OPEN
            status = await asked(rig, url, method, path, (key,) if who else ())
            assert status == 200 or (prefixed_open and status == 200), (path, status)


async def asked(rig: Rig, url: str, method: str, path: str, lines: tuple[str, ...]) -> int:
    async with await Client.open(url) as client:
        wire = request(BODY, *lines, path=path).replace(b"POST ", f"{method} ".encode(), 1)
        if any(line.startswith("host:") for line in lines):
            wire = wire.replace(b"host: x\r\n", b"", 1)
        client.send(wire)
        answer = await client.answer(Answer())
        rig.heard += client.received
        return answer.status


async def raw(rig: Rig, url: str, head: str, body: bytes = b"") -> Answer:
    async with await Client.open(url) as client:
        client.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = await client.answer(Answer())
        rig.heard += client.received
        return answer


# --- T17 and T18


async def test_the_admin_plane_takes_its_own_key_only(rig: Rig, form: Form) -> None:
    """And no other method, no form, no query, no cookie: a page in a browser cannot reach it."""
    admin = rig.proxy.admin
    for path in ("/admin/config", "/admin/reload"):
        method = "POST" if path.endswith("reload") else "GET"
        for line in (USER, f"cookie: authorization=Bearer {ADMIN_KEY}", f"x-api-key: {ADMIN_KEY}", "x: y"):
            assert (await raw(rig, admin, f"{method} {path} HTTP/1.1\r\nhost: x\r\n{line}\r\n")).status == 401, line
        assert (await raw(rig, admin, f"{method} {path}?key={ADMIN_KEY} HTTP/1.1\r\nhost: x\r\n")).status == 401
        for other in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"} - {method, "HEAD"}:
            assert (await raw(rig, admin, f"{other} {path} HTTP/1.1\r\nhost: x\r\n{ADMIN}\r\n")).status == 405, other


async def test_no_origin_is_granted_anything(rig: Rig, form: Form) -> None:
    """Preflights, and the requests after them, of any origin, on every route of both listeners."""
    origins = (
        "https://evil.example",
        "null",
        f"http://localhost:{rig.proxy.url.rpartition(':')[2]}",
        "file://",
        "http://x",
    )
    granted = []
    for url, routes in ((rig.proxy.url, table()), (rig.proxy.admin, admin_table())):
        for path in routes:
            for origin in origins:
                preflight = (
                    f"OPTIONS {path} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n"
                    "access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n"
                    "access-control-request-private-network: true\r\n"
                )
                answers = [await raw(rig, url, preflight)]
                answers.append(await raw(rig, url, f"GET {path} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n"))
                for answer in answers:
                    if any(name.startswith("access-control-") for name in answer.headers):
                        granted.append((path, origin, answer.headers))
                assert answers[0].status in (404, 405), (path, answers[0].status)
    assert not granted


KEYLESS = """
version: 1
upstreams: {{tuned: {{base_url: "{url}", api_key: sk-upstream-tuned-canary-8}}}}
models: {{tuned: {{at: tuned, price: {{input: 1, output: 1}}}}}}
policies: {{alone: {{default: {{model: tuned}}}}}}
"""


async def test_without_keys_no_page_of_another_site_may_spend(rig: Rig, form: Form) -> None:
    """A browser on this machine reaches the loopback, also by a name of its page's own (DNS rebinding)."""
    calls = len(rig.tuned.journal)
    simple = "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n{lines}"
    with Proxy(KEYLESS.format(url=rig.tuned.base_url)) as keyless:
        for host, origin in (
            ("127.0.0.1:8080", "https://evil.example"),
            ("127.0.0.1:8080", "null"),
            ("evil.example:8080", "http://evil.example:8080"),
        ):
            for kind in ("", "content-type: text/plain\r\n", "content-type: application/json\r\n"):
                head = simple.format(host=host, lines=f"origin: {origin}\r\n{kind}")
                answer = await raw(rig, keyless.url, head, BODY)
                assert answer.status in (403, 415), (origin, kind, answer.status)
        assert len(rig.tuned.journal) == calls
        own = simple.format(host="127.0.0.1:8080", lines="origin: http://localhost:3000\r\n")
        assert (await raw(rig, keyless.url, own, BODY)).status == 200
        rig.tuned.journal.clear()


# --- T22


async def test_no_client_text_is_a_path(rig: Rig, form: Form, rows: Rows) -> None:
    """Names are looked up in what was loaded: nothing that a caller sends is opened, and none of it is found."""
    await asyncio.to_thread(rig.gauge, anew=True)
    count = 0
    async with await Client.open(rig.proxy.url) as client:
        for text in TRAVERSALS if form == "long" else TRAVERSALS[::8]:
            bodies = [
                {"model": text, "messages": [{"role": "user", "content": "x"}]},
                {"model": f"support@{text}", "messages": [{"role": "user", "content": "x"}]},
            ]
            for body in bodies:
                client.send(request(json.dumps(body).encode(), USER))
                answer = await client.answer(Answer())
                assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found"), (text, answer.body)
                count += 1
            for path in (f"/v1/models/{quote(text, safe='')}", f"/v1/models/{quote(text)}", f"/v1/{quote(text)}"):
                client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n{USER}\r\n\r\n".encode())
                answer = await client.answer(Answer())
                assert answer.status == 404, (path, answer.status)
                count += 1
            named = {
                "model": "strong",
                "messages": [{"role": "user", "content": "x"}],
                "pointsman": {"variables": {text: "x"}},
            }
            client.send(request(json.dumps(named).encode(), USER))
            assert (await client.answer(Answer())).status == 400
            count += 1
    opened = (await asyncio.to_thread(rig.gauge))["calls"]
    assert not opened, opened
    assert count >= (len(TRAVERSALS) if form == "long" else 100)
