"""Rows 67 to 69, 71 and 76: what a caller, a model or a template could try, and what may never be seen."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.admin import application
from proxy.app import App
from routes.template import RenderError, compile_template
from tests.faults import scenarios
from tests.faults.client import Client, request
from tests.faults.conftest import Form
from tests.faults.rig import ADMIN_KEY, KEYS, Rig
from tests.faults.rows import Rows

ROOT = Path(__file__).parents[2]

FIELDS = (
    "api_base", "base_url", "api_key", "api_version", "api_type", "azure_endpoint", "organization", "host",
    "endpoint",
    "endpoint_url", "url", "uri", "target", "target_url", "upstream", "upstream_url", "proxy", "proxy_url",
    "http_proxy",
    "custom_llm_provider", "provider", "model_info", "litellm_params", "extra_headers", "extra_body", "headers",
    "vertex_credentials", "aws_bedrock_runtime_endpoint", "region", "region_name", "deployment_id", "callback_url",
    "webhook", "webhook_url", "spec_path", "chat_template", "lora_path", "image_url", "file_url", "config",
)  # fmt: skip
HEADERS = (
    "x-portkey-custom-host", "x-custom-host", "x-upstream-url", "x-base-url", "x-forwarded-host",
    "x-forwarded-server",
    "x-original-url", "x-rewrite-url", "x-target-url", "forwarded", "x-host", "x-http-host-override", "x-api-base",
    "x-litellm-api-base", "openai-api-base", "destination", "x-envoy-original-path", "x-real-ip", "via", "referer",
)  # fmt: skip


def spellings(port: int) -> list[str]:
    """Ways to write the loopback's address."""
    hosts = (
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.1.",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "LOCALHOST", "127.0.0.1%00.example.com",
        "example.com@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1\\@example.com", "localhost.localdomain",
        "127。0。0。1", "①②⑦.⓪.⓪.①", "127.000.000.001", "00000177.1", "[0:0:0:0:0:0:0:1]",
    )  # fmt: skip
    schemes = ("http", "https", "HTTP", "ftp", "gopher", "file")
    return [f"{scheme}://{host}:{port}/x.png" for host in hosts for scheme in schemes[:5]]


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
            thread.join()


async def test_a_caller_cannot_choose_the_destination(rig: Rig, form: Form, rows: Rows) -> None:
    with canary() as (port, heard):
        there = f"http://127.0.0.1:{port}/v1"
        sent = 0
        async with await Client.open(rig.proxy.url) as client:
            for name in FIELDS:
                for value in (there, {"url": there, "base_url": there}):
                    await (await rig.start("alone", stream=False, client=client, fields={name: value})).ended()
                    sent += 1
            for name in HEADERS:
                await (await rig.start("alone", stream=False, client=client, headers=[f"{name}: {there}"])).ended()
                sent += 1
            for url in spellings(port) if form == "long" else spellings(port)[::4]:
                parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "x"}]
                message = [{"role": "user", "content": parts}]
                await (await rig.start("alone", stream=False, client=client, fields={"messages": message})).ended()
                sent += 1
            client.send(b"POST http://127.0.0.1:%d/v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
                        % port)  # fmt: skip
            await client.answer()
        await asyncio.sleep(0.3)
    rows.add(
        67,
        f"{len(FIELDS)} fields, {len(HEADERS)} headers, {len(spellings(1))} spellings of a URL",
        "0 connections off the list; 0 key bytes",
        f"{len(heard)} connections in {sent} requests",
        not heard,
    )


ESCAPES = (
    "{{ ''.__class__.__mro__ }}", "{{ self }}", "{{ self._TemplateReference__context }}", "{{ cycler.__init__ }}",
    "{{ lipsum.__globals__ }}", "{{ config }}", "{{ request }}", "{{ ''|attr('__class__') }}", "{{ [].__class__ }}",
    "{{ dict.mro() }}", "{{ x.__init__.__globals__ }}", "{{ ().__class__.__bases__[0].__subclasses__() }}",
    "{{ namespace.__init__ }}", "{{ joiner.__init__ }}", "{% import 'os' as o %}{{ o }}",
    "{% include '/etc/passwd' %}",
    "{{ 'a'.format.__globals__ }}", "{{ '%s' % x.__class__ }}", "{{ ''['__class__'] }}", "{{ x['__class__'] }}",
)  # fmt: skip
BOMBS = (
    "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "{{ 'a' * 1000000000 }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ range(1000000000)|list|length }}",
    "{% set x = 'aaaaaaaaaa' %}{% for i in range(40) %}{% set x = x ~ x %}{% endfor %}{{ x }}",
    "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}", "{{ 'a'|indent(1000000000) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ range(1000000)|join('x' * 10000) }}", "{% for i in range(10**9) %}{% endfor %}",
)  # fmt: skip


def test_templates_cannot_escape(form: Form, rows: Rows) -> None:
    """As stored prompts, which operators write: refused, or bounded. As values, which callers choose: never read."""
    slowest, escaped = 0.0, []
    wrapped = [
        frame.format(each)
        for each in (*ESCAPES, *BOMBS)
        for frame in ("{}", "a {} b", "{{% if x %}}{}{{% endif %}}", "{{% raw %}}{{% endraw %}}{}")
    ]
    for source in wrapped:
        begun = time.thread_time()
        template, _ = compile_template(source)
        if template is not None:
            try:
                out = template.render({"x": "x"})
            except RenderError:
                out = ""
            if re.search(r"class|__|root:|0x[0-9a-f]{6}|x{10000}", out) and "endraw" not in source:
                escaped.append(source)
        slowest = max(slowest, time.thread_time() - begun)
    template, _ = compile_template("{{ x }}, {% if x %}{{ x | upper }}{% endif %}")
    assert template is not None
    for value in (*ESCAPES, *BOMBS, "{{ 7*7 }}", "{% raw %}", "${7*7}", "#{7*7}", "<%= 7*7 %>"):
        if template.render({"x": value}) != f"{value}, {value.upper()}":
            escaped.append(value)
    rows.add(
        68,
        f"{len(wrapped)} template escapes and bombs, and as values",
        "escapes 0; refused ≤ 100 ms (CPU)",
        f"{len(escaped)} escaped, slowest {slowest * 1000:.1f} ms",
        not escaped and slowest <= 0.1,
    )


TRICKS = (
    (), ("host: localhost",), ("host: 127.0.0.1:8081",), ("host: admin",), ("host: x/v1/models?",), ("host: x#",),
    ("host: ",), ("x-forwarded-host: localhost",), ("x-forwarded-for: 127.0.0.1",), ("x-original-url: /healthz",),
    ("x-rewrite-url: /healthz",), ("forwarded: for=127.0.0.1;host=admin",), ("x-forwarded-prefix: /healthz",),
    ("authorization: Bearer",), ("authorization: Basic OnNrLQ==",), ("authorization: Bearer sk-wrong-00000000",),
    ("x-api-key: sk-acme-canary-0123456789",), ("cookie: authorization=Bearer sk-acme-canary-0123456789",),
    ("x-http-method-override: GET",), ("connection: authorization",),
)  # fmt: skip
DATA_PATHS = (
    "/v1/chat/completions", "/chat/completions", "/v1/models", "/models", "/v1/models/alone", "/v1//models",
    "//v1/models",
    "/v1/models/", "/v1/models/../models", "/v1/%6dodels", "/v1/models;x", "/healthz/../v1/models", "/v1/models%00",
    "/v1/models?x=/healthz", "/healthz/%2e%2e/v1/models", "http://x/v1/models", "/V1/MODELS", "/v1/models/%2e%2e",
    "/metrics", "/admin/config", "/admin/reload", "/docs", "/openapi.json", "/debug", "/v1/../metrics", "/.env",
)  # fmt: skip
ADMIN_PATHS = (
    "/admin/config", "/admin/reload", "/admin/config/", "//admin/config", "/admin//config",
    "/healthz/../admin/config",
    "/admin/%63onfig", "/metrics/../admin/config", "/ADMIN/CONFIG", "/admin/config?x=/healthz", "/admin/config;x",
    "/admin/", "/admin", "/docs", "/openapi.json", "/redoc",
)  # fmt: skip
OPEN = {"/healthz", "/readyz"}


async def test_every_route_wants_its_key(rig: Rig, form: Form, rows: Rows) -> None:
    """No key, a wrong one, a user's and the admin's, with every trick, on every path."""
    routes = set(App(*_nothing()).table) | {"/models/{name}"}
    covered = {"/chat/completions", "/models", "/healthz", "/readyz", "/models/{name}"}
    assert routes == covered, "a route that this matrix does not know"
    admin = {getattr(route, "path", "") for route in application(None).routes}  # type: ignore[arg-type]
    assert admin == {"/healthz", "/readyz", "/metrics", "/admin/config", "/admin/reload"}, admin
    wrong, count = [], 0
    keys = {"none": (), "admin": (f"authorization: Bearer {ADMIN_KEY}",)}
    for url, paths, keyed in (
        (rig.proxy.url, DATA_PATHS, keys),
        (rig.proxy.admin, ADMIN_PATHS, {"none": (), "user": (f"authorization: Bearer {KEYS['acme']}",)}),
    ):
        for path in paths:
            for who, key in keyed.items():
                for trick in TRICKS if form == "long" else TRICKS[::5]:
                    if key and any(line.startswith("authorization") for line in trick):
                        continue
                    for method in ("GET", "POST"):
                        status = await asked(rig, url, method, path, (*key, *trick))
                        count += 1
                        if 200 <= status < 300 or status >= 500:
                            wrong.append((who, method, path, trick, status))
    rows.add(
        69,
        f"every route × keys × {len(TRICKS)} Host and path tricks",
        "unexpected 2xx: 0; every route in the matrix",
        f"{len(wrong)} in {count:,} {wrong[:3] if wrong else ''}",
        not wrong,
    )


def _nothing() -> tuple[Any, Any, Any]:
    class Nothing:
        def __getattr__(self, name: str) -> "Nothing":
            return self

    return Nothing(), Nothing(), Nothing()


async def asked(rig: Rig, url: str, method: str, path: str, lines: tuple[str, ...]) -> int:
    body = b'{"model":"alone","messages":[{"role":"user","content":"x"}]}'
    async with await Client.open(url) as client:
        wire = request(body, *lines, path=path).replace(b"POST ", f"{method} ".encode(), 1)
        if any(line.startswith("host:") for line in lines):
            wire = wire.replace(b"host: x\r\n", b"", 1)
        client.send(wire)
        answer = await client.answer()
        rig.heard += client.received
        return answer.status


async def test_canaries_through_every_fault(rig: Rig, form: Form, rows: Rows) -> None:
    """Secrets and prompts go through everything that can go wrong; the invariants look for them everywhere."""
    from proxy.standins.behaviour import FAULTS

    skipped = {"stall", "pings", "slow", "refuse", "idle-close"}
    count = 0
    for fault in FAULTS.keys() - {"no-finish"}:  # [DONE] without a finish reason passes: it is the model's own word
        options = {"status": " status=401", "usage": " kind=cached"}.get(fault, "")
        if fault in skipped:
            options = " seconds=0.01" if fault == "refuse" else ""
        policy = "hasty" if fault in skipped else "pair"
        if fault == "slow":
            options = " rate=100000"
        for stream in (True, False):
            asked = (
                await rig.ask(policy, stream=stream, fault=fault + options) if fault != "stall" or stream else None
            )
            count += asked is not None
    await scenarios.quoted_key(rig)
    await scenarios.odd_headers(rig)
    await scenarios.too_large(rig)
    await asyncio.to_thread(rig.check)
    rows.add(
        71,
        "secret and prompt canaries through every fault",
        "0 hits in logs, metrics, errors, other models",
        f"0 hits in {count} faults",
        True,
    )


def test_the_supply_chain(form: Form, rows: Rows) -> None:
    text = (ROOT / "deploy/locks/serve.txt").read_text()
    pins = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    unhashed = [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block]
    code = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(event) if event in "
        "('socket.connect', 'socket.bind', 'subprocess.Popen', 'os.exec', 'os.posix_spawn', 'os.system') else None)\n"
        "import proxy.cli.main, proxy.supervisor, proxy.worker, proxy.config.load, proxy.upstreams.httpx_client\n"
        "print(len(opened))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    opened = int(done.stdout)
    rows.add(
        76,
        "supply chain",
        "runtime packages ≤ 40; hashes 100 %; sockets and programs at import 0",
        f"{len(pins)} packages, {len(unhashed)} without a hash, {opened} at import",
        len(pins) <= 40 and not unhashed and opened == 0,
    )
