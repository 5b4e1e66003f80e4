"""Other people's servers around the proxy: nginx and haproxy before it, nginx and uvicorn behind it.

Each notes the requests it saw, so that the counts of two neighbours can be compared: a request that only one of them
knows of was smuggled.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from tests.harness import until
from tests.ports import free_port

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; {user}
error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    log_format seen '$http_x_request_id $status';
    access_log {folder}/log seen;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    keepalive_timeout 5s;
    {server}
}}
"""
NGINX_FRONT = """
    upstream gateway {{ server {gateway}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
        }}
    }}
"""
NGINX_ORIGIN = """
    server {{
        listen 127.0.0.1:{port};
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
"""
HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 5s
    timeout server 10s
frontend front
    bind 127.0.0.1:{port}
    http-request capture req.hdr(x-request-id) len 64
    log-format "%[capture.req.hdr(0)] %ST"
    default_backend gateway
backend gateway
    server one {gateway}
"""
MESSAGE = {"role": "assistant", "content": "yes"}
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)


class Logged:
    """A program that writes a line for each request: its `x-request-id` or `-`, and its status."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def seen(self) -> list[tuple[str, int]]:
        found = re.findall(r"^(\S+) (\d{3})\b", self._log.read_text("latin-1"), re.MULTILINE)
        return [(name, int(status)) for name, status in found]

    def count(self) -> int:
        return len(self.seen())


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[Logged]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        for _ in until(20.0, f"{command[0]} to listen"):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield Logged(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def front(kind: str, gateway: str) -> Iterator[Logged]:
    """`nginx`, `nginx-unbuffered` or `haproxy` before the gateway."""
    port, address = free_port(), urlsplit(gateway).netloc
    with tempfile.TemporaryDirectory(prefix="front-") as name:
        folder = Path(name)
        config = folder / "conf"
        if kind == "haproxy":
            config.write_text(HAPROXY.format(port=port, gateway=address))
            command, log = ["haproxy", "-db", "-f", str(config)], folder / "log"
        else:
            buffering = "off" if kind == "nginx-unbuffered" else "on"
            config.write_text(nginx(folder, NGINX_FRONT.format(port=port, gateway=address, buffering=buffering)))
            command, log = ["nginx", "-c", str(config), "-e", "stderr"], folder / "out"
        with running(command, port, log) as started:
            yield started if kind == "haproxy" else Logged(started.url, folder / "log")


def nginx(folder: Path, server: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker may not enter our folder
    return NGINX.format(folder=folder, user=user, server=server)


class Echo:
    """An ASGI application behind uvicorn: it answers every request, and notes it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        self.bodies.append(body)
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": ANSWER.encode()})

    def count(self) -> int:
        return len(self.bodies)


@contextmanager
def origin(kind: str) -> Iterator[Echo | Logged]:
    """`nginx`, or uvicorn with `h11` or `httptools`, as a model's server."""
    port = free_port()
    if kind == "nginx":
        with tempfile.TemporaryDirectory(prefix="origin-") as name:
            folder = Path(name)
            (folder / "conf").write_text(nginx(folder, NGINX_ORIGIN.format(port=port, answer=ANSWER)))
            with running(["nginx", "-c", str(folder / "conf"), "-e", "stderr"], port, folder / "out") as started:
                yield Logged(started.url, folder / "log")
        return
    app = Echo(port)
    config = uvicorn.Config(app, port=port, http=kind, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    for _ in until(20.0, "uvicorn to listen"):
        if server.started:
            break
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join(10)
