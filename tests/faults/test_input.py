"""Rows 35 to 44: hostile and odd input."""

import asyncio
import gzip
import json
import random
import time
from typing import Any

import orjson

from tests.faults import scenarios
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.probe import Watch
from tests.faults.rig import KEYS, Rig
from tests.faults.rows import Rows

AUTH = f"authorization: Bearer {KEYS['acme']}"


async def post(rig: Rig, body: bytes, *headers: str) -> Answer:
    """One request that need not be in the books."""
    async with await Client.open(rig.proxy.url) as client:
        client.send(request(body, AUTH, *headers))
        answer = await client.answer()
        rig.heard += client.received
        return answer


async def test_large_bodies_at_once(form: Form, rows: Rows) -> None:
    size, count, cap = (2 * 2**20, 10, 1) if form == "short" else (20 * 2**20, 50, 10)
    with Rig(settings={"max_body": f"{cap}MiB"}) as rig:
        await rig.asks(5, "alone")
        await asyncio.to_thread(rig.gauge, anew=True)
        with Watch(rig.proxy.pid) as watch:
            answers = await asyncio.gather(*(big(rig, size, said) for said in [True, False] * (count // 2)))
        report = await asyncio.to_thread(rig.gauge)
        rig.forget()
    lag, growth = report["lag_p99"] * 1000, watch.rss_growth / 2**20
    refused = sum(answer.status == 413 for answer in answers)
    # Each body of unsaid length may fill the limit before it is known to break it.
    allowed = 1.5 * cap * count
    rows.add(
        35,
        f"{count} bodies of {size // 2**20} MiB at once, the limit at {cap} MiB",
        "413 for all; RSS within 1.5 × (what the limit lets in); loop lag p99 ≤ 20 ms",
        f"{refused}/{count}; +{growth:.0f} MiB of {allowed:.0f}; lag p99 {lag:.1f} ms",
        refused == count and growth <= allowed and (lag <= 20 or form == "short"),
    )


async def big(rig: Rig, size: int, said: bool) -> Answer:
    """A body of this size, said or in chunks, sent until an answer comes."""
    async with await Client.open(rig.proxy.url) as client:
        head = f"content-length: {size}" if said else "transfer-encoding: chunked"
        client.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{AUTH}\r\n{head}\r\n\r\n".encode())
        reading = asyncio.get_running_loop().create_task(client.answer())
        piece = b"x" * 65536
        for _ in range(size // len(piece)):
            if reading.done() or client.writer.transport.is_closing():
                break
            client.send(piece if said else b"10000\r\n" + piece + b"\r\n")
            try:
                await client.writer.drain()
            except ConnectionError:
                break
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
        for name, body in bombs.items():
            await asyncio.to_thread(rig.gauge, anew=True)
            begun = time.perf_counter()
            answer = await post(rig, body.encode())
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


async def test_compression_bombs(rig: Rig, form: Form, rows: Rows) -> None:
    """A compressed request is refused; a compressed answer, which nobody asked for, is read within bounds."""
    packed = gzip.compress(b"a" * (50 if form == "short" else 500) * 2**20)
    begun = time.perf_counter()
    with Watch(rig.proxy.pid) as watch:
        answer = await post(rig, packed, "content-encoding: gzip")
        asked = await rig.ask("alone", fault="gzip tokens=100000", stream=False)
        streamed = await rig.ask("alone", fault="gzip tokens=1000")
    took = time.perf_counter() - begun
    assert 400 <= answer.status < 500, answer.status
    assert {asked.ending, streamed.ending} <= {"complete", "http error", "in-band error"}
    rows.add(
        41,
        f"gzip bomb as a request ({len(packed) // 1024} KiB); compressed answers",
        "error ≤ 1 s; RSS +≤ 80 MB",
        f"{answer.status} and {asked.ending} in {took:.2f} s; +{watch.rss_growth / 2**20:.0f} MB",
        watch.rss_growth <= 80 * 2**20 and (took <= 1 or form == "short"),
    )


async def test_parameter_bombs(rig: Rig, form: Form, rows: Rows) -> None:
    """What multiplies cost or time on the model's side."""
    bombs: list[dict[str, Any]] = [
        {"n": 100_000}, {"n": -1}, {"n": 1e9}, {"n": "5"}, {"best_of": 10_000}, {"max_tokens": 10**9},
        {"max_tokens": -1},
        {"logprobs": True, "top_logprobs": 10**6}, {"stop": ["x"] * 10_000},
        {"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(2000)]},
        {"messages": [{"role": "user", "content": "x"}] * 20_000},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "string", "pattern": "(a+)+$" * 1000}}}},
    ]  # fmt: skip
    passed = []
    for bomb in bombs:
        before = sum(len(s.journal) for s in rig.standins)
        body = {"model": "alone", "messages": [{"role": "user", "content": "x"}], **bomb}
        answer = await post(rig, json.dumps(body).encode())
        assert answer.status < 500, (bomb.keys(), answer.body)
        if sum(len(s.journal) for s in rig.standins) > before:
            passed.append(next(iter(bomb)))
    measured = f"{len(bombs) - len(passed)} of {len(bombs)} refused"
    if passed:
        measured += f"; left to the model: {', '.join(passed)}"
    rows.add(43, "parameter bombs", "400 before any upstream call, 100 %", measured, not passed or form == "short")


def a_body(draw: random.Random) -> dict[str, Any]:
    """A request in which anything may be anything."""
    odd: list[Any] = [None, True, 0, -1, 2**63, 1.5, "", "x", [], {}, [[]], {"a": None}, "\ud800", "x" * 3000, [None]]
    message = {"role": draw.choice(["user", "system", "assistant", "tool", "developer", *odd]),
               "content": draw.choice(["x", [{"type": "text", "text": "x"}], *odd])}  # fmt: skip
    body: dict[str, Any] = {"model": draw.choice(["alone", "alone", "strong", "none"]), "messages": [message]}
    names = ("temperature", "top_p", "n", "stream", "stream_options", "stop", "max_tokens", "tools", "tool_choice",
             "response_format", "seed", "user", "metadata", "pointsman", "logit_bias", "modalities", "model",
             "messages",
             "parallel_tool_calls", "reasoning_effort", "odd")  # fmt: skip
    for name in draw.sample(names, draw.randint(0, 4)):
        body[name] = draw.choice(odd)
    return body


async def test_any_body(rig: Rig, form: Form, rows: Rows) -> None:
    """Generated from what the API takes, each field possibly anything: never 5xx of ours, always OpenAI's shape."""
    draw = random.Random(44)
    count = 250 if form == "short" else 20_000
    fives = shapes = 0
    for _ in range(count):
        body = json.dumps(a_body(draw)).encode()
        answer = await post(rig, body)
        fives += answer.status >= 500 and b"upstream" not in answer.body
        shapes += answer.ending.startswith("silent")
        if len(rig.tuned.journal) > 2000:
            rig.forget()
    rows.add(
        44,
        "requests generated from the API's fields (no OpenAPI document yet: not schemathesis)",
        "0 × 5xx, 0 schema breaks in 20,000",
        f"{fives} × 5xx, {shapes} breaks in {count:,}",
        fives == 0 and shapes == 0,
    )


async def test_limits_hold(rig: Rig) -> None:
    await scenarios.too_large(rig)
