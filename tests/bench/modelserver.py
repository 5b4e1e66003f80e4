"""The model server that every subject talks to, and the proxy that every subject is measured against: nginx, twice.

The model server gives canned answers: a JSON completion on one port, a whole stream at once on another. A third port
of the same kind, paced, is `tests.bench.paced`: nginx cannot wait between events.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.bench import payloads
from tests.bench.process import Broken

READY = "/readyz"

_FRAME = """
daemon off;
worker_processes 1;
{user}
error_log /dev/null;
pid {folder}/{name}.pid;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
{servers}
}}
"""

_JSON_SERVER = """
    server {{
        listen 127.0.0.1:{port};
        default_type application/json;
        location = /readyz {{ return 200 'ready'; }}
        location / {{ return 200 '{answer}'; }}
    }}
"""

# A POST to a file is 405, answered with the file itself. SSI finds nothing to replace; it takes the length away, so
# that the stream goes out chunked, as a real one does.
_STREAM_SERVER = """
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        types {{ text/event-stream sse; }}
        ssi on;
        ssi_types text/event-stream;
        location / {{ rewrite ^ /burst.sse last; }}
        location = /burst.sse {{ error_page 405 =200 /burst.sse; }}
    }}
"""

_PROXY_SERVER = """
    upstream origin{port} {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location = /readyz {{ return 200 'ready'; }}
        location / {{
            proxy_pass http://origin{port};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering {buffering};
            proxy_read_timeout 600s;
        }}
    }}
"""


def program() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise Broken("nginx is not installed; `deploy/install-test-programs` installs it")
    return found


def version() -> str:
    said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def model_server(folder: Path, files: int, json_port: int, burst_port: int) -> list[str]:
    """Write the model server's answers and configuration; returns the command that runs it."""
    (folder / "burst.sse").write_bytes(b"".join(payloads.events(payloads.BURST_WORDS)))
    answer = payloads.answer().decode()
    assert not set(answer) & set("'$\\"), "nginx would read these"
    servers = _JSON_SERVER.format(port=json_port, answer=answer)
    servers += _STREAM_SERVER.format(port=burst_port, folder=folder)
    return _command(folder, files, "model-server", servers)


def reverse_proxy(folder: Path, files: int, ports: dict[int, int], streams: set[int]) -> list[str]:
    """The practical floor: `proxy_pass` from each port to its origin, unbuffered where the origin streams."""
    servers = "".join(
        _PROXY_SERVER.format(port=port, origin=origin, buffering="off" if origin in streams else "on")
        for port, origin in ports.items()
    )
    return _command(folder, files, "proxy", servers)


def _command(folder: Path, files: int, name: str, servers: str) -> list[str]:
    # A worker of root's nginx would become a user who may not enter our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / f"{name}.conf"
    frame = {"user": user, "folder": folder, "name": name, "files": files, "connections": files * 9 // 8}
    config.write_text(_FRAME.format(servers=servers, **frame))
    return [program(), "-e", "/dev/null", "-p", str(folder), "-c", str(config)]
