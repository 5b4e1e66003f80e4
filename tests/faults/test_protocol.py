"""Rows 38 to 40 and 42: odd and hostile HTTP."""

import asyncio
import json
import re
from collections import Counter

import pytest

from tests.faults import chains, smuggling
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.probe import Watch
from tests.faults.rig import KEYS, Rig
from tests.faults.rows import Rows
from tests.harness import until

AUTH = f"authorization: Bearer {KEYS['acme']}"


async def test_a_byte_a_chunk(rig: Rig, form: Form, rows: Rows) -> None:
    count = 50_000 if form == "short" else 1_000_000
    text = "x" * (count - 70)
    body = json.dumps({"model": "strong", "messages": [{"role": "user", "content": text}]}).encode()
    with Watch(rig.proxy.pid) as watch:
        async with await Client.open(rig.proxy.url) as client:
            client.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{AUTH}\r\n"
                        "transfer-encoding: chunked\r\n\r\n".encode())  # fmt: skip
            for at in range(0, len(body), 1000):
                client.send(b"".join(b"1\r\n%c\r\n" % byte for byte in body[at : at + 1000]))
                await client.writer.drain()
            client.send(b"0\r\n\r\n")
            answer = await client.answer()
    cpu = (watch.last.cpu - watch.first.cpu) * 2**20 / count
    rows.add(
        38,
        f"{count:,} chunks of a byte",
        "≤ 1 s CPU per MiB; right or 400",
        f"{answer.status}, {cpu:.2f} s CPU per MiB",
        answer.status in (200, 400) and (cpu <= 1.0 or form == "short"),
    )


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + AUTH.encode() + b"\r\n"


async def test_smuggling(rig: Rig, form: Form, rows: Rows) -> None:
    """However many requests the bytes could be: the model sees at most one, ours, framed by ourselves; and where the
    length is in doubt, nothing after it is served on that connection."""
    payloads = smuggling.payloads(HEAD, b"GET /v1/models HTTP/1.1\r\nhost: smuggled\r\n\r\n")
    wrong = []
    for payload in payloads if form == "long" else payloads[::2]:
        before = len(rig.tuned.journal)
        async with await Client.open(rig.proxy.url) as client:
            client.send(payload)
            client.writer.write_eof()
            assert await client.closed(10), payload
            rig.heard += client.received
            heads = len(re.findall(rb"HTTP/1.1 (?!100 )", client.received))
        answer, second = Answer(), Answer()
        answer.feed(bytes(client.received))
        if heads > 1:
            second.feed(answer.rest)
        seen = len(rig.tuned.journal) - before
        doubted = answer.status >= 400 and 0 < second.status < 400  # what was refused had something served after it
        if seen > 1 or heads > 2 or doubted or not 200 <= answer.status < 500:
            wrong.append((payload[100:180], seen, heads, answer.status))
    wrong += [(body, 1, 1, 0) for body in misframed(rig)]
    rows.add(
        39,
        f"{len(payloads)} smuggling payloads",
        "0 disagreements on number and bounds",
        f"proxy alone: {len(wrong)} {wrong[:3] if wrong else ''}",
        not wrong,
    )


def misframed(rig: Rig) -> list[bytes]:
    """What reached the model and is not one request of our own."""
    return [
        entry.body
        for entry in rig.tuned.journal
        if [name.lower() for name, _ in entry.raw_headers].count(b"content-length") != 1
        or entry.header("transfer-encoding")
        or entry.json is None
    ]


@pytest.mark.needs("nginx", "haproxy")
@pytest.mark.parametrize("kind", ["nginx", "nginx-unbuffered", "haproxy"])
async def test_smuggling_through_a_front(rig: Rig, form: Form, rows: Rows, kind: str) -> None:
    """A server before the proxy and the proxy count the same requests: none that only the proxy knows of, none that
    the other has an answer of and the proxy has not."""
    step = 1 if form == "long" else 5
    count = len(smuggling.payloads(b"", b""))
    with chains.front(kind, rig.proxy.url) as front:
        for number in range(0, count, step):
            head = HEAD + b"x-request-id: %d-first\r\naccept: */*\r\n"
            after = head + smuggling.CL + b"\r\n" + smuggling.GOOD
            payload = smuggling.payloads(head % number, after.replace(b"first", b"second") % number)[number]
            async with await Client.open(front.url) as client:
                client.send(payload)
                client.writer.write_eof()
                assert await client.closed(20), payload
        assert await healthy(front.url) == 200
        for _ in until(5.0, "the last request in both access logs"):
            there = {name: status for name, status in front.seen() if name != "-"}
            if "good" in there and any(record.get("client_id") == "good" for record in rig.records()):
                break
    here = Counter(record.get("client_id") for record in rig.records())
    wrong = [name for name in here if name not in there or here[name] > 1]
    wrong += [name for name, status in there.items() if status == 200 and name not in here]
    wrong += [repr(body) for body in misframed(rig)]
    rows.add(
        39,
        f"{count} smuggling payloads",
        "0 disagreements on number and bounds",
        f"{kind} before it: {len(wrong)} {wrong[:3] if wrong else ''}",
        not wrong,
    )
    rig.forget()


async def healthy(url: str) -> int:
    """Ask once more, properly; returns the status."""
    async with await Client.open(url) as client:
        client.send(request(smuggling.GOOD, AUTH, "x-request-id: good"))
        return (await client.answer()).status


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("kind", ["nginx", "h11", "httptools"])
async def test_smuggling_to_an_origin(form: Form, rows: Rows, kind: str) -> None:
    """The model's server sees as many requests as the proxy says it made, whatever was asked."""
    payloads = smuggling.payloads(HEAD, HEAD + smuggling.CL + b"\r\n" + smuggling.GOOD)
    with chains.origin(kind) as origin, Rig(upstreams={"tuned": f"{origin.url}/v1"}) as rig:
        before = origin.count()
        for payload in payloads if form == "long" else payloads[::5]:
            async with await Client.open(rig.proxy.url) as client:
                client.send(payload)
                client.writer.write_eof()
                assert await client.closed(20), payload
        assert await healthy(rig.proxy.url) == 200
        for _ in until(5.0, "the last request in both access logs"):
            made = sum(len(record["attempts"]) for record in rig.records())
            seen = origin.count() - before
            if seen >= made and any(record.get("client_id") == "good" for record in rig.records()):
                break
        rig.forget()
    rows.add(
        39,
        f"{len(payloads)} smuggling payloads",
        "0 disagreements on number and bounds",
        f"{kind} behind it: {made} made, {seen} seen",
        made == seen > 0,
    )


async def test_large_heads(rig: Rig, form: Form, rows: Rows) -> None:
    size = 10 * 2**20 if form == "short" else 100 * 2**20
    floods = {
        "one header": [b"x: ", *[b"h" * 65536] * (size // 65536)],
        "many headers": [
            b"".join(b"x-%d: y\r\n" % n for n in range(at, at + 1000)) for at in range(0, 100_000, 1000)
        ],
        "a target": [b"x"],
    }
    statuses, taken = [], 0
    with Watch(rig.proxy.pid) as watch:
        for name, pieces in floods.items():
            async with await Client.open(rig.proxy.url) as client:
                target = b"/" + b"a" * 200_000 if name == "a target" else b"/v1/models"
                client.send(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n")
                reading = asyncio.get_running_loop().create_task(client.answer())
                sent = 0
                for piece in pieces:
                    if reading.done() or client.writer.transport.is_closing():
                        break
                    client.send(piece)
                    sent += len(piece)
                    try:
                        await client.writer.drain()
                    except ConnectionError:
                        break
                statuses.append((await reading).status)
                taken = max(taken, sent)
    rows.add(
        40,
        f"a header of {size // 2**20} MiB; 10^5 headers",
        "431; RSS +≤ 5 MB",
        f"{statuses}; +{watch.rss_growth / 2**20:.1f} MB",
        set(statuses) == {431} and watch.rss_growth <= 5 * 2**20,
    )


async def test_a_refused_body_is_never_asked_for(rig: Rig, form: Form, rows: Rows) -> None:
    continued, count = 0, 20 if form == "short" else 200
    for _ in range(count):
        async with await Client.open(rig.proxy.url) as client:
            client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-wrong\r\n"
                        b"content-length: 60\r\nexpect: 100-continue\r\n\r\n")  # fmt: skip
            answer = await client.answer()
            continued += b"100 Continue" in client.received
            assert answer.status == 401
    rows.add(
        42,
        "Expect: 100-continue with a bad key",
        "0 body bytes read",
        f"{continued} of {count} told to go on",
        not continued,
    )
