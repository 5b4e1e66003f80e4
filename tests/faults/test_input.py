"""Rows 35 to 44: hostile and odd input."""

import asyncio
import functools
import gzip
import itertools
import json
import random
import struct
import time
import zlib
from collections import Counter
from typing import Any

import orjson
import pytest

from tests.faults import openapi, scenarios
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.probe import Watch
from tests.faults.rig import KEYS, Rig
from tests.faults.rows import Rows
from tests.proxy.upstreams.rawserver import Peer, RawServer
from tests.test_openapi import SCHEMAS

AUTH = f"authorization: Bearer {KEYS['acme']}"


async def post(rig: Rig, body: bytes, *headers: str) -> Answer:
    """One request that need not be in the books."""
    async with await Client.open(rig.proxy.url) as client:
        client.send(request(body, AUTH, *headers))
        answer = await client.answer()
        rig.heard += client.received
        return answer


async def test_large_bodies_at_once(form: Form, rows: Rows) -> None:
    """Bodies above the limit are refused; of those within it as many are served as there is memory for."""
    count, cap, memory = (10, 1, 6) if form == "short" else (50, 10, 256)
    settings = {"max_body": f"{cap}MiB, body_memory: {memory}MiB"}
    with Rig(settings=settings) as rig:
        await rig.asks(5, "alone")
        await asyncio.to_thread(rig.gauge, anew=True)
        with Watch(rig.proxy.pid) as watch:
            junk = b"x" * (2 * cap * 2**20)
            refused = await asyncio.gather(*(big(rig, junk, is_said(n)) for n in range(count)))
            first = await asyncio.to_thread(rig.gauge, anew=True)
            good = json.dumps(rig.body("alone", "acme", stream=False) | {"user": "u" * (cap * 2**20 * 4 // 5)})
            served = await asyncio.gather(*(big(rig, good.encode(), is_said(n)) for n in range(count)))
        second = await asyncio.to_thread(rig.gauge)
        rig.forget()
    statuses = Counter(answer.status for answer in refused), Counter(answer.status for answer in served)
    assert all(a.headers["retry-after"] == "1" for a in (*refused, *served) if a.status == 503)
    lag, growth = max(first["lag_p99"], second["lag_p99"]) * 1000, watch.rss_growth / 2**20
    busy = max(first["busiest"], second["busiest"]) * 1000
    rows.add(
        35,
        f"{count} bodies of {2 * cap} MiB at once, {count} of {cap * 0.8:g}; at most {cap}, {memory} in memory",
        "413, 503 or served; RSS ≤ base + 1.5 × the memory for bodies; loop lag p99 ≤ 20 ms",
        f"{dict(statuses[0])}, {dict(statuses[1])}; +{growth:.0f} MiB; lag p99 {lag:.1f} ms, busy {busy:.0f} ms",
        set(statuses[0]) <= {413, 503}
        and set(statuses[1]) <= {200, 503}
        and statuses[1][200] > 0
        and (form == "short" or (growth <= 1.5 * memory and lag <= 20)),
    )


def is_said(number: int) -> bool:
    """Half of the bodies say their length, half come in chunks."""
    return number % 2 == 0


async def big(rig: Rig, body: bytes, said: bool) -> Answer:
    """This body, its length said or in chunks, sent until an answer comes."""
    async with await Client.open(rig.proxy.url) as client:
        head = f"content-length: {len(body)}" if said else "transfer-encoding: chunked"
        client.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{AUTH}\r\n{head}\r\n\r\n".encode())
        reading = asyncio.get_running_loop().create_task(client.answer())
        for at in range(0, len(body), 65536):
            if reading.done() or client.writer.transport.is_closing():
                break
            piece = body[at : at + 65536]
            client.send(piece if said else b"%x\r\n%b\r\n" % (len(piece), piece))
            try:
                await client.writer.drain()
            except ConnectionError:
                break
        else:
            client.send(b"" if said else b"0\r\n\r\n")
        return await reading


NUMBERS = ("1", "-0", "1e308", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "9" * 5000, "0x10", "01", "1.",
".5",
           "+1", "1_000", "1e", "-", "18446744073709551616", "-9223372036854775809", "0.1e-400")  # fmt: skip
STRINGS = ('"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\x00"', '"\t"', '"\\x41"', '"\\u12"', '"', '"\\"',
'"a" "b"',
           '"\ufeff"', '"\\/"', "'a'", '"\u2028"', '"\\uD83D\\uDE22"', "\"" + "a" * 100_000 + '"')  # fmt: skip
VALUES = (*NUMBERS, *STRINGS, "nul", "True", "undefined", "[1,]", "[,1]", '{"a":1,}', '{"a"}', '{"a":}', "{a:1}",
          '{"a":1 "b":2}', "[1}", "//x\n1", "/*x*/1", "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500,
          '{"a":1,"a":2}', '{"":1,"":2}', "[]", "{}", "", " ", "\f1", "\ufeff1")  # fmt: skip


def corpus() -> list[bytes]:
    """Some 400 odd texts: each odd value as an unknown field, inside a message, as the model and as the whole."""
    found: list[bytes] = []
    for value in VALUES:
        found += [
            f'{{"model":"alone","messages":[{{"role":"user","content":"x"}}],"odd":{value}}}'.encode("utf-8",
            "replace"),
            f'{{"model":"alone","messages":[{{"role":"user","content":{value}}}]}}'.encode("utf-8", "replace"),
            f'{{"model":{value},"messages":[{{"role":"user","content":"x"}}]}}'.encode("utf-8", "replace"),
            f'{{"model":"alone","messages":{value}}}'.encode("utf-8", "replace"),
            f'{{"model":"alone","messages":[{{"role":"user","content":"x"}}],"temperature":{value}}}'.encode(),
            f'{{{value}:1,"model":"alone","messages":[{{"role":"user","content":"x"}}]}}'.encode("utf-8", "replace"),
            value.encode("utf-8", "replace"),
        ]  # fmt: skip
    good = b'{"model":"alone","messages":[{"role":"user","content":"x"}]}'
    found += [good.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")]
    found += [good[:-1] + b',"model":"strong"}', good[:-1] + b',"mod\\u0065l":"strong"}', good + b"\0", good + good]
    found += [
        good.replace(b"x", bad) for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82")
    ]
    return found


async def test_odd_json(rig: Rig, form: Form, rows: Rows) -> None:
    """Refused with 4xx, or sent on as our own JSON: with the model that was judged, and the same to any parser."""
    bodies = corpus()
    fives = split = 0
    for body in bodies if form == "long" else bodies[::4] + bodies[-14:]:
        answer = await post(rig, body)
        fives += answer.status >= 500
        assert answer.status, body[:200]
        assert answer.ending in ("complete", "http error"), (body[:200], answer.ending)
    for standin in rig.standins:
        for entry in standin.journal:
            loose, strict = json.loads(entry.body), orjson.loads(entry.body)
            split += loose["model"] != strict["model"] or loose["model"] != standin.persona.name
    rows.add(
        36,
        f"{len(bodies)} odd JSON texts",
        "0 × 500; the model judged is the model sent, 100 %",
        f"{fives} × 5xx; {split} differ",
        fives == 0 and split == 0,
    )


async def test_bombs_of_json(form: Form, rows: Rows) -> None:
    """What is cheap to send and dear to read."""
    fill = '{{"model":"alone","messages":[{{"role":"user","content":"x"}}],"odd":{}}}'
    bombs = {
        "depth": fill.format("[" * 200_000 + "]" * 200_000),
        "objects": fill.format('{"a":' * 100_000 + "1" + "}" * 100_000),
        "huge integer": fill.format("9" * 900_000),
        "keys": fill.format("{" + ",".join(f'"k{n}":0' for n in range(80_000)) + "}"),
        "list": fill.format("[" + ",".join("1" * 400_000) + "]"),
        "messages": '{"model":"alone","messages":[' + ",".join(['{"role":"user","content":""}'] * 30_000) + "]}",
        "escapes": fill.format('"' + "\\u0041" * 150_000 + '"'),
    }
    measured, met = [], True
    with Rig(settings={"max_body": "20MiB"} if form == "long" else {}) as rig:
        if form == "long":
            bombs["10^6 keys"] = fill.format("{" + ",".join(f'"k{n}":0' for n in range(1_000_000)) + "}")
            bombs["10^6 keys in a million strings"] = fill.format('[{"":"","":""},' * 1_000_000)
            bombs["10^6 values"] = fill.format("[" + "1," * 1_000_000 + "1]")
        for name, body in bombs.items():
            await asyncio.to_thread(rig.gauge, anew=True)
            async with await Client.open(rig.proxy.url) as client:
                client.send(request(body.encode(), AUTH))
                begun = time.perf_counter()  # what the client takes to send is not in it
                answer = await client.answer()
                took = (time.perf_counter() - begun) * 1000
            busy = (await asyncio.to_thread(rig.gauge))["busiest"] * 1000
            assert answer.status in (200, 400, 413), (name, answer.status)
            measured.append(f"{name} {answer.status} in {took:.0f} ms, busy {busy:.0f} ms")
            met = met and (answer.status == 200 or took <= 50) and busy <= 20
        rig.forget()
    rows.add(
        37,
        "depth bomb, huge integers, 10^6 keys",
        "400 ≤ 50 ms, loop lag ≤ 20 ms (CPU of the loop's thread)",
        "; ".join(measured),
        met or form == "short",
    )


BLOCK = 64 * 2**20  # of zeros: packed, 1/1024 of it


@functools.cache
def bomb(encoding: str, size: int) -> bytes:
    """Zeros of this size, packed; of encodings that no standard library has, only the name is true."""
    if encoding == "gzip, gzip":
        return gzip.compress(bomb("gzip", size))
    if encoding not in ("gzip", "deflate"):
        return bomb("gzip", size)
    zeros, count = bytes(BLOCK), size // BLOCK
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = pack.compress(zeros) + pack.flush(zlib.Z_FULL_FLUSH)  # which stands alone, so it may be repeated
    body = block * count + pack.flush()
    check = functools.partial(zlib.crc32 if encoding == "gzip" else zlib.adler32, zeros)
    total = functools.reduce(lambda value, _: check(value), range(count), 0 if encoding == "gzip" else 1)
    if encoding == "gzip":
        return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + body + struct.pack("<II", total, size % 2**32)
    return b"\x78\xda" + body + struct.pack(">I", total)


def test_bombs_are_whole() -> None:
    """The programs that people unpack with take them, checksum and all."""
    assert gzip.decompress(bomb("gzip", 2 * BLOCK)) == bytes(2 * BLOCK)
    assert zlib.decompress(bomb("deflate", 2 * BLOCK)) == bytes(2 * BLOCK)


@pytest.mark.parametrize("stream", [False, True])
async def test_compression_bombs(form: Form, rows: Rows, stream: bool) -> None:
    """A compressed request is refused; a compressed answer, which nobody asked for, is read within bounds."""
    size = BLOCK if form == "short" else 10 * 2**30
    head, told, worst, growth = b"", list[int](), 0.0, 0
    packed = b""

    async def model(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.write(head + packed)

    async with RawServer(model).running() as raw:
        with Rig(upstreams={"tuned": raw.url}, settings={"max_body": "20MiB"}) as rig:  # it is not for its size
            for encoding in ("gzip", "x-gzip", "deflate", "gzip, gzip", "br", "zstd", "compress"):
                packed = bomb(encoding, size)
                kind = "text/event-stream" if stream else "application/json"
                lines = f"content-type: {kind}\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(packed)}\r\n"
                head = f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode()
                body = json.dumps(rig.body("alone", "acme", stream=stream)).encode()
                with Watch(rig.proxy.pid) as watch:
                    for sent, more in ((packed, (f"content-encoding: {encoding}",)), (body, ())):
                        begun = time.perf_counter()
                        told.append((await post(rig, sent, *more)).status)
                        worst = max(worst, time.perf_counter() - begun)
                growth = max(growth, watch.rss_growth)
            rig.forget()
    rows.add(
        41,
        f"bombs of {size / 2**30:g} GiB as requests and as answers, streamed or not, in seven encodings",
        "error ≤ 1 s; RSS +≤ 80 MB",
        f"{'streamed' if stream else 'whole'}: {told[:2]}, {worst:.2f} s, +{growth / 2**20:.0f} MB",
        told == [415, 502] * (len(told) // 2) and growth <= 80 * 2**20 and (worst <= 1 or form == "short"),
    )


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def answer_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


BOMBS: list[dict[str, Any]] = [
    {"n": 100_000}, {"n": -1}, {"n": 1e9}, {"n": "5"}, {"best_of": 10_000}, {"max_tokens": 10**9}, {"max_tokens": -1},
    {"max_completion_tokens": 2**62}, {"logprobs": True, "top_logprobs": 10**6}, {"stop": ["x"] * 10_000},
    {"logit_bias": {str(n): 100 for n in range(20_000)}}, {"tools": [tool(f"f{n}") for n in range(2000)]},
    {"functions": [{"name": f"f{n}"} for n in range(2000)]},
    {"messages": [{"role": "user", "content": "x"}] * 20_000},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}] * 5000}]},
    answer_format({"type": "string", "pattern": "(a+)+$" * 1000}), answer_format(nested(40)),
    answer_format({"enum": list(range(60_000))}), {"tools": [tool("f", nested(40))]},
    {"tools": [tool("f", {"type": "string", "pattern": "(a+)+$" * 1000})]}, {"guided_regex": "(a+)+$" * 1000},
    {"guided_json": nested(40)}, {"structured_outputs": {"regex": "(a+)+$" * 1000}},
]  # fmt: skip


async def test_parameter_bombs(rig: Rig, form: Form, rows: Rows) -> None:
    """What multiplies cost or time on the model's side is refused by name; what a large application sends is not."""
    refused, passed = 0, []
    asked = BOMBS * (1 if form == "short" else 10)
    for bomb in asked:
        before = sum(len(s.journal) for s in rig.standins)
        body = {"model": "alone", "messages": [{"role": "user", "content": "x"}], **bomb}
        answer = await post(rig, json.dumps(body).encode())
        refused += answer.status == 400
        if answer.status != 400 or sum(len(s.journal) for s in rig.standins) > before:
            passed.append(next(iter(bomb)))
        elif answer.json["error"]["code"] != "invalid_type":
            assert "`limits." in answer.json["error"]["message"], answer.json
            assert answer.json["error"]["param"] in bomb
    large = {
        "n": 8,
        "max_tokens": 128_000,
        "stop": ["a", "b", "c", "d"],
        "tools": [tool(f"f{n}", nested(10)) for n in range(128)],
        "messages": [{"role": "user", "content": "x"}] * 2000,
        **answer_format(nested(10)),
    }
    before = len(rig.tuned.journal)
    await post(rig, json.dumps({"model": "alone", **large}).encode())
    assert len(rig.tuned.journal) == before + 1
    measured = f"{refused} of {len(asked)} refused" + (f"; left to the model: {passed}" if passed else "")
    rows.add(43, f"{len(BOMBS)} parameter bombs", "400 before any upstream call, 100 %", measured, not passed)


async def test_any_body(running: Rig, form: Form, rows: Rows) -> None:
    """Generated from the OpenAPI document, each field as it says or anything: never a 5xx, always what it says."""
    count = 200 if form == "short" else 20_000
    seen: Counter[int] = Counter()
    fields: set[str] = set()
    broken: list[str] = []
    turns = itertools.count()

    async def ask_on() -> None:
        """As one of several clients; a new connection where the proxy has closed the old one."""
        client = await Client.open(running.proxy.url)
        while (turn := next(turns)) < count:
            body = openapi.body(random.Random(turn), ("alone", "alone", "strong", "none"))
            fields.update(body)
            answer = await client.send(request(json.dumps(body).encode(), AUTH)).answer()
            seen[answer.status] += 1
            kind = answer.headers.get("content-type", "")
            why = openapi.breach(answer.status, kind, bytes(answer.body)) if answer.whole else answer.ending
            if why:
                broken.append(f"{turn}: {why}: {json.dumps(body)[:200]}")
            if not answer.whole or answer.headers.get("connection") == "close":
                await client.__aexit__(None, None, None)
                client = await Client.open(running.proxy.url)
            if turn % 2000 == 1999:
                await asyncio.to_thread(running.forget)  # the journals, which grow
        await client.__aexit__(None, None, None)

    await asyncio.gather(*(ask_on() for _ in range(16)))
    await asyncio.to_thread(running.forget)
    fives = sum(number for status, number in seen.items() if status >= 500)
    assert seen[200] > count / 20, seen
    assert seen[400] > count / 20, seen
    assert fields >= SCHEMAS["Request"]["properties"].keys()
    rows.add(
        44,
        "requests generated from the OpenAPI document, fields right and wrong",
        "0 × 5xx, 0 schema breaks in 20,000",
        f"{fives} × 5xx, {len(broken)} breaks in {seen.total():,}: {dict(sorted(seen.items()))} {broken[:2] or ''}",
        fives == 0 and not broken and (form == "short" or seen.total() >= 20_000),
    )


async def test_limits_hold(rig: Rig) -> None:
    await scenarios.too_large(rig)
