#!/usr/bin/env python3
"""Photographs the dashboard with headless Chromium: `picture.py http://127.0.0.1:9090 docs/dashboard.png`.

The page draws the dashboard's own JSON from that Prometheus. It is a preview, labelled as such, and not Grafana.
"""

import argparse
import functools
import html
import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GRAFANA = Path(__file__).resolve().parents[1]
DASHBOARD = GRAFANA / "dashboards" / "pointsman.json"
CELL, GAP = 30, 8  # Grafana's grid, in pixels; the page uses the same
AROUND = 49  # the page's header and margins, so that the picture ends between two rows
SCALE = 1.5  # for sharp text on dense screens
CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=20000",  # the page's clock stands still while its requests are under way
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """The folder on a free loopback port: modules and the dashboard's file need an address, `file:` has none."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def rows_before(title: str | None) -> int:
    """The grid's height, down to the row of this title."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    if title is None:
        return max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    return next(panel["gridPos"]["y"] for panel in panels if panel["title"] == title)


def chromium(address: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory(prefix="pointsman-preview-", ignore_cleanup_errors=True) as profile:
        command = [*CHROMIUM, f"--user-data-dir={profile}", *arguments, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
    return done.stdout


def photograph(prometheus: str, output: Path, *, width: int, until: str | None, **query: str) -> None:
    height = rows_before(until) * (CELL + GAP) + AROUND
    with serving(GRAFANA) as base:
        address = f"{base}/preview/index.html?{urllib.parse.urlencode({'prometheus': prometheus, **query})}"
        chromium(
            address,
            f"--screenshot={output.resolve()}",
            f"--window-size={width},{height}",
            f"--force-device-scale-factor={SCALE}",
        )


def state(prometheus: str, **query: str) -> str:
    """What the page says of itself: `drawn`, `failed: ...`, or nothing when it never finished."""
    with serving(GRAFANA) as base:
        address = f"{base}/preview/index.html?{urllib.parse.urlencode({'prometheus': prometheus, **query})}"
        found = re.search(r'<html[^>]* data-state="([^"]*)"', chromium(address, "--dump-dom"))
    return html.unescape(found[1]) if found else ""


def main() -> str | None:
    """Exits 1 with the reason when the page did not come to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", help="its address; it must allow other origins, as it does by default")
    parser.add_argument("output", type=Path, help="a .png file")
    parser.add_argument("--minutes", default="30", help="the time shown, up to now")
    parser.add_argument("--window", default="1m", help="what $__rate_interval stands for")
    parser.add_argument("--until", metavar="ROW", help="leave out what comes from this row on")
    parser.add_argument("--width", type=int, default=1600)
    given = parser.parse_args()
    query = {"minutes": given.minutes, "window": given.window}
    said = state(given.prometheus, **query)
    if said != "drawn":
        return f"the page was not drawn: {said or 'it did not finish'}"
    photograph(given.prometheus, given.output, width=given.width, until=given.until, **query)
    return None


if __name__ == "__main__":
    sys.exit(main())
