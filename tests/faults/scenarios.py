"""The scenarios that sabotages are caught by, and their tests share: each drives a rig and asserts what it can see.

What only the journals and the books can tell, the invariants tell afterwards.
"""

import asyncio
import json
import random
import time

from tests.faults.client import Answer, Client, Stamped, request
from tests.faults.probe import Watch
from tests.faults.rig import KEYS, Asked, Rig

CUTS = ("cut after={k}", "cut after={k} how=rst pace=0.001", "error-event after={k}", "cut after={k} how=end",
        "bad-chunk after={k}")  # fmt: skip


async def healthy(rig: Rig, count: int = 6) -> None:
    """Good requests of both tenants, streamed and not."""
    asked = [
        await rig.ask(policy, tenant=tenant, stream=stream)
        for _ in range(count // 3)
        for policy in ("alone", "strong", "pair")
        for tenant in ("acme", "bolt")
        for stream in (True, False)
    ]
    assert {each.ending for each in asked} == {"complete"}


async def cut_streams(rig: Rig, tokens: int = 6) -> tuple[int, float]:
    """A cut after each number of events, in each way. Returns how many, and the longest time to the error in s."""
    worst, count = 0.0, 0
    for k in range(1, tokens):
        for how in CUTS:
            asked = await rig.ask("alone", fault=f"{how.format(k=k)} tokens={tokens}")
            heard = time.time()
            (entry,) = (e for e in rig.tuned.journal if f"{asked.number:032x}" in e.header("traceparent"))
            assert asked.ending in ("in-band error", "http error"), (how, k, asked.ending, bytes(asked.answer.body))
            assert asked.ending == "in-band error" or "pace" in how or "error" in how, (how, k, asked.answer.body)
            assert b"[DONE]" not in asked.answer.body
            worst = max(worst, heard - (entry.finished or heard))
            count += 1
    return count, worst


async def stalled_stream(rig: Rig, idle: float = 0.5) -> float:
    """Returns how long after the last content the error came, in s."""
    asked = await _fallen_silent(rig, "stall after=3", idle)
    assert b"upstream_timeout" in asked.answer.body
    return asked.silence


async def pings_in_mid_stream(rig: Rig, idle: float = 0.5) -> float:
    """Returns how long after the last content the error came, in s."""
    asked = await _fallen_silent(rig, "pings every=0.05 after=3", idle)
    assert b"idle_content" in asked.answer.body
    return asked.silence


async def _fallen_silent(rig: Rig, fault: str, idle: float) -> Asked:
    client = await Stamped.open(rig.proxy.url)
    asked = await rig.start("hasty", fault=fault, client=client)
    answer, last = asked.answer, 0.0
    async with client, asyncio.timeout(idle * 4 + 10):
        while not answer.whole:
            count = len(answer.stamps)
            data = await client.read()
            assert data, "the stream was cut"
            answer.feed(data)
            if len(answer.stamps) > count:
                last = client.at
    assert asked.ending == "in-band error", asked.ending
    asked.silence = client.at - last
    return asked


async def malformed(rig: Rig, draw: random.Random, count: int, tokens: int) -> Asked:
    """A stream with so many events that are none, somewhere. None of them goes out."""
    kind = draw.choice(("json", "array", "utf8", "shape"))
    places = f"after={draw.randrange(1, tokens // 2)} every={draw.randrange(1, 5)} count={count}"
    asked = await rig.ask("alone", fault=f"malformed {places} kind={kind} tokens={tokens} pace=0.002")
    for data in asked.answer.payloads:
        chunk = None if data == b"[DONE]" else json.loads(data)
        assert chunk is None or isinstance(chunk["choices"], list), (kind, data)
    return asked


async def malformed_events(rig: Rig) -> int:
    """One event that is none is skipped, at the second the stream ends; neither goes out."""
    count = 0
    for kind in ("json", "array", "utf8", "shape"):
        asked = await rig.ask("alone", fault=f"malformed after=2 kind={kind} tokens=8")
        assert asked.ending == "complete", (kind, asked.ending)
        for data in asked.answer.payloads:
            chunk = None if data == b"[DONE]" else json.loads(data)
            assert chunk is None or isinstance(chunk["choices"], list), (kind, data)
        count += 1
    return count


async def vanishing_clients(rig: Rig, count: int, how: str) -> None:
    """Clients that leave in mid-stream."""
    async with rig.streams(count, "alone", events=3, fault="pace=0.05 tokens=600") as streams:
        for asked in streams:
            asked.leave(how)


async def vanishing_before_content(rig: Rig, count: int) -> None:
    """Clients that leave a call whose answer has not begun, streamed or not."""
    asked: list[Asked] = []
    for number in range(count):
        asked.append(await rig.start("alone", stream=number % 2 == 0, fault="ttft=20"))
    await rig.tuned.journal.until(lambda journal: len(journal) >= count, 10.0)
    for each in asked:
        each.leave("rst" if each.number % 3 else "fin")
    await asyncio.gather(*(each.client.__aexit__(None, None, None) for each in asked))


async def slow_readers(rig: Rig, count: int, tokens: int = 60_000) -> tuple[int, float]:
    """Clients that take a byte now and then of a large answer. Returns the proxy's growth in bytes and the p99 in
    ms of others' requests meanwhile."""
    with Watch(rig.proxy.pid) as watch:
        streams = [await rig.start("alone", receive_buffer=4096, fault=f"tokens={tokens}") for _ in range(count)]
        times: list[float] = []
        for _ in range(100):
            for asked in streams[: max(1, count // 20)]:
                if asked.client.reader._buffer:  # type: ignore[attr-defined]
                    asked.answer.feed(await asked.client.read(1))
            begun = time.perf_counter()
            other = await rig.ask("strong", stream=False)
            assert other.ending == "complete"
            times.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(0.01)
        for asked in streams:
            asked.leave("rst")
        await asyncio.gather(*(asked.client.__aexit__(None, None, None) for asked in streams))
    return watch.rss_growth, sorted(times)[98]


async def usage_missing(rig: Rig, count: int = 3) -> None:
    """Nobody reports usage: it is estimated, flagged, and never nothing."""
    for _ in range(count):
        for stream in (True, False):
            asked = await rig.ask("alone", stream=stream, fault="no-usage")
            assert asked.ending == "complete"


async def too_large(rig: Rig) -> None:
    """A body over the limit, said and unsaid, and a head over the limit."""
    for head in ("transfer-encoding: chunked", "content-length: 4000000"):
        async with await Client.open(rig.proxy.url) as client:
            client.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['acme']}\r\n"
                        f"content-type: application/json\r\n{head}\r\n\r\n".encode())  # fmt: skip
            if "chunked" in head:  # whole, so that who has no limit answers too
                for _ in range(40):
                    client.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
                client.send(b"0\r\n\r\n")
            async with asyncio.timeout(20):
                answer = await client.answer()
            assert answer.status == 413, answer.status
            rig.heard += client.received
    async with await Client.open(rig.proxy.url) as client:
        client.send(request(b"{}", "x-big: " + "h" * 200_000))
        async with asyncio.timeout(20):
            answer = await client.answer()
        assert answer.status == 431, answer.status


async def quoted_key(rig: Rig) -> None:
    """A model server that refuses our key quotes it, whole."""
    key = rig.tuned.key
    try:
        rig.tuned.key = "another"
        for stream in (True, False):
            asked = await rig.ask("alone", stream=stream)
            assert asked.ending == "http error"
    finally:
        rig.tuned.key = key
    body = {"error": {"message": f"no credit left for {key}", "type": "invalid_request_error", "code": None}}
    for stream in (True, False):
        asked = await rig.ask("alone", stream=stream, fault="status=400 code=" + str(key))
        assert asked.ending == "http error", body


async def chained(rig: Rig) -> None:
    """Everything fails: three attempts, no more."""
    for stream in (True, False):
        asked = await rig.ask("chain", stream=stream, fault="status=503")
        assert asked.ending == "http error"
        assert asked.answer.status == 502


async def fallback_after_content(rig: Rig) -> None:
    """After the first content event nothing else may answer."""
    asked = await rig.ask("pair", fault="cut after=3 on=tuned tokens=9")
    assert asked.ending == "in-band error", asked.ending


async def crossing(rig: Rig, count: int = 10) -> None:
    """Two tenants ask at once, each about what is its own."""
    for _ in range(count):
        both = await asyncio.gather(
            *(rig.ask(p, tenant=t, stream=s) for p in ("alone", "strong") for t in KEYS for s in (True, False))
        )
        assert {each.ending for each in both} == {"complete"}


async def odd_headers(rig: Rig) -> None:
    """Headers that carry what a model must not see."""
    for name in ("cookie", "x-api-key", "x-forwarded-authorization", "proxy-authorization"):
        await rig.ask("alone", headers=[f"{name}: {KEYS['bolt']}"])


async def loop_is_free(rig: Rig, count: int = 10) -> dict[str, float]:
    """Requests of all kinds; then how late the event loop was and what held it up, in ms."""
    await asyncio.to_thread(rig.gauge, anew=True)
    for _ in range(count // 10):
        await rig.asks(10, "pair", fault="tokens=20")
        await rig.asks(10, "strong", stream=False)
    report = await asyncio.to_thread(rig.gauge)
    assert not report["calls"], report["calls"]
    return {name: report[name] * 1000 for name in ("lag_p99", "lag_max", "busiest")}


async def unique_names(rig: Rig, count: int) -> None:
    """Models, paths and users that nobody configured."""
    async with await Client.open(rig.proxy.url) as client:
        for number in range(count):
            body = {
                "model": f"no-such-{number}",
                "messages": [{"role": "user", "content": "x"}],
                "user": f"u{number}",
            }
            key = f"authorization: Bearer {KEYS['acme']}"
            client.send(request(json.dumps(body).encode(), key, f"x-h-{number}: {number}"))
            answer = await client.answer(Answer())
            assert answer.status == 404, answer.body
            client.send(f"GET /v1/nothing/{number} HTTP/1.1\r\nhost: h{number}\r\n\r\n".encode())
            assert (await client.answer(Answer())).status == 404
