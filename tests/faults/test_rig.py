"""The rig's own parts do what they say: a tool that lies proves nothing."""

import asyncio
import json
import os
import random
import re
import select
import socket
from dataclasses import replace

import pytest

from proxy.standins.standin import StandIn
from tests.faults import openapi
from tests.faults.client import Answer, Client, request
from tests.faults.lossy import Lossy, Trouble, black_hole
from tests.faults.probe import has_open, sample
from tests.faults.rows import UNKNOWN, Row, as_before, known, product, written

BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"[[fault tokens=20]]"}]}'


async def through(lossy: Lossy) -> Answer:
    async with await Client.open(f"http://127.0.0.1:{lossy.port}") as client:
        return await client.send(request(BODY)).answer()


def test_the_probe_sees_what_is_open() -> None:
    with select.epoll():
        assert has_open(os.getpid(), "anon_inode:[eventpoll]")
    assert not has_open(os.getpid(), "anon_inode:nothing")


async def test_lossy_passes_all() -> None:
    with StandIn("tuned") as standin:
        async with Lossy(standin.port) as lossy:
            assert (await through(lossy)).ending == "complete"


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_lossy_cuts(how: str) -> None:
    with StandIn("tuned") as standin:
        async with Lossy(standin.port, Trouble(cut_after=900, how=how)) as lossy:
            answer = await through(lossy)
            assert (answer.ending, answer.lost) == (f"silent: 200 broken off by {how}", how)


async def test_lossy_is_late_slow_and_a_hole() -> None:
    loop = asyncio.get_running_loop()
    with StandIn("tuned") as standin:
        for trouble, least in ((Trouble(delay=0.1), 0.2), (Trouble(rate=20_000), 0.15)):
            async with Lossy(standin.port, trouble) as lossy:
                begun = loop.time()
                assert (await through(lossy)).ending == "complete"
                assert loop.time() - begun > least
        async with Lossy(standin.port, Trouble(hole=True)) as lossy:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(through(lossy), 0.2)


def test_a_black_hole_answers_no_connect() -> None:
    with black_hole() as port, socket.socket() as caller:
        caller.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.connect(("127.0.0.1", port))


async def test_the_client_pipelines_dribbles_and_leaves_half() -> None:
    with StandIn("tuned") as standin:
        async with await Client.open(standin.url) as client:
            client.send(request(BODY) * 3)
            assert [answer.ending for answer in await client.answers(3)] == ["complete"] * 3
        async with await Client.open(standin.url) as client:
            await client.dribble(request(BODY))
            client.leave("half")
            assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        (b"data: [DONE]\n\n", "silent: [DONE] without a finish"),
        (b'data: {"choices":[{"finish_reason":"stop"}]}\n\n', "silent: the stream ended without [DONE] or error"),
        (b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n', "complete"),
        (b'data: {"error":{"message":"x"}}\n\n', "in-band error"),
        (b'data: {"error":{"message":"x"}}\n\ndata: [DONE]\n\n', "silent: an error, then [DONE]"),
    ],
)
def test_endings_of_streams(body: bytes, ending: str) -> None:
    answer = Answer()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    for byte in head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body):
        answer.feed(bytes([byte]))
    assert answer.ending == ending


def test_the_probe_sees_this_process() -> None:
    before = sample(os.getpid())
    with socket.socket():
        assert sample(os.getpid()).descriptors == before.descriptors + 1
    assert before.rss > 2**20


@pytest.mark.parametrize("name", ["Request", "Message", "Extras"])
def test_made_values_are_what_the_document_allows(name: str) -> None:
    for seed in range(200):
        made = openapi.value(random.Random(seed), openapi.SCHEMAS[name])
        openapi.VALIDATORS[name].validate(json.loads(json.dumps(made)))


def test_the_same_seed_makes_the_same_request() -> None:
    one, other = (json.dumps(openapi.body(random.Random(7), ("a", "b"))) for _ in range(2))
    assert one == other


CUT, KILL = Row("17", "cut", "all", "9 of 9", True), Row("2", "kill", "0", "3", False)


def results(before: str, *rows: Row, of: str, live: tuple[str, ...] = ("2", "17")) -> str:
    return written({row.number: row for row in rows}, before, 2, of=of, live=live, today="day")


def test_results_keep_the_rows_of_other_runs_and_count() -> None:
    one = results("", CUT, KILL, of="abc")
    two = results(one, replace(CUT, measured="8 of 8"), of="abc")
    assert one.index("| 2 |") < one.index("| 17 |")
    assert "| 17 | cut | all | 8 of 8 | yes | 2 | abc | day |" in two
    assert "| 2 | kill | 0 | 3 | no | 0 | abc | day |" in two


def test_runs_at_the_same_time_leave_each_other_their_rows() -> None:
    """And a row that is written twice in a run counts once."""
    kill, mine, theirs = replace(KILL, met=True), dict[str, str](), dict[str, str]()
    text = results("", CUT, kill, of="abc")
    for _ in range(2):
        text = results(as_before(text, [CUT.number], mine), CUT, of="abc")
        text = results(as_before(text, [kill.number], theirs), kill, of="abc")
    assert "| yes | 2 | abc | day |\n| 17 " in text
    assert text.endswith("| yes | 2 | abc | day |\n")


@pytest.mark.parametrize(("first", "then"), [("abc", "def"), ("abc", "abc+"), ("abc+", "abc+"), (UNKNOWN, UNKNOWN)])
def test_runs_of_another_product_do_not_count(first: str, then: str) -> None:
    """One with changes that no commit names may be another each time."""
    assert f"| yes | 1 | {then} |" in results(results("", CUT, of=first), CUT, of=then)


@pytest.mark.parametrize("changed", [replace(CUT, fault="a cut"), replace(CUT, required="most")])
def test_runs_that_measured_something_else_do_not_count(changed: Row) -> None:
    assert "| yes | 1 | abc |" in results(results("", CUT, of="abc"), changed, of="abc")


def test_results_from_before_the_product_was_noted_are_kept() -> None:
    old = "| 2 | kill | 0 | 0 | yes | 7 | 2026-11-22 |\n"
    assert f"| 2 | kill | 0 | 0 | yes | 7 | {UNKNOWN} | 2026-11-22 |" in results(old, CUT, of="abc")


def test_a_row_that_no_scenario_measures_any_more_vanishes() -> None:
    assert "kill" not in results(results("", CUT, KILL, of="abc"), CUT, of="abc", live=("17",))


def test_rows_are_known_by_their_scenarios() -> None:
    assert {"1", "17b", "44", "76"} <= known()
    assert "1c" not in known()
    assert re.fullmatch(r"[0-9a-f]{8,}\+?|–", product())
