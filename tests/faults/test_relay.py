"""Row 24: events keep their order, and are not held up."""

import asyncio
import json
import sys
import time

from tests.bench.figures import percentile
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.rig import KEYS, Rig
from tests.faults.rows import Rows
from tests.faults.stamps import read

STREAMS = 20  # at 50 events a second each: 1,000


async def test_events_keep_their_order(form: Form, rows: Rows) -> None:
    seconds = 2 if form == "short" else 30
    command = [sys.executable, "-m", "tests.faults.stamps", str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        direct = await asyncio.gather(*(stamps(f"http://127.0.0.1:{port}") for _ in range(STREAMS)))
        with Rig(upstreams={"tuned": f"http://127.0.0.1:{port}/v1"}) as rig:
            through = await asyncio.gather(*(stamps(rig.proxy.url) for _ in range(STREAMS)))
    finally:
        process.terminate()
        await process.wait()
    count = seconds * 50
    wrong = sum([number for number, _ in each] != list(range(count)) for each in through)
    added = percentile([ms for each in through for _, ms in each], 99) - percentile(
        [ms for each in direct for _, ms in each], 99
    )
    rows.add(
        24,
        "order and latency of events, 1,000 a second",
        "0 out of order; relay added p99 ≤ 5 ms",
        f"{wrong} of {STREAMS} streams of {count:,} events; p99 {added:+.1f} ms",
        not wrong and (added <= 5 or form == "short"),
    )


async def stamps(url: str) -> list[tuple[int, float]]:
    """The numbers and the ages in ms of the events of one stream, as they come."""
    found: list[tuple[int, float]] = []
    body = {"model": "alone", "stream": True, "messages": [{"role": "user", "content": "when?"}]}
    answer, seen = Answer(), 0
    async with await Client.open(url) as client:
        client.send(request(json.dumps(body).encode(), f"authorization: Bearer {KEYS['acme']}"))
        while not answer.whole:
            data = await client.read()
            now = time.monotonic_ns()
            assert data, answer.body
            answer.feed(data)
            events = bytes(answer.body[seen:]).split(b"\n\n")[:-1]
            seen += sum(len(event) + 2 for event in events)
            found += [stamp for event in events if (stamp := read(event.removeprefix(b"data: "), now)) is not None]
    return found
