"""The relay of event streams: any split of the bytes means the same, and only judged, whole events go out."""

import contextlib
import json
from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstreams.base import Failed
from proxy.wire.answer import ErrorObject
from proxy.wire.stream import MAX_EVENT, Stream


def chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {
        "id": "c-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": [choice],
        **extra,
    }
    return b"data: " + json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


FIRST = chunk({"role": "assistant", "content": "", "refusal": None}, usage=None)
STOP = chunk({}, "stop", usage=None)
USAGE = b'data: {"id":"c-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


def stream(texts: list[str], **extra: Any) -> bytes:
    return FIRST + b"".join(chunk({"content": text}, **extra) for text in texts) + STOP + USAGE + DONE


def relay(pieces: list[bytes], usage_asked: bool = False) -> tuple[bytes, Stream]:
    relayed = Stream("strong", usage_asked)
    out = b"".join([relayed.feed(piece) for piece in pieces])
    return out + relayed.end(), relayed


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def contents(out: bytes) -> str:
    events = [event[6:] for event in out.split(b"\n\n") if event.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for event in events for c in json.loads(event)["choices"])


any_text = st.lists(st.text(max_size=12), min_size=1, max_size=12)


@given(texts=any_text, places=st.lists(st.integers(0, 10_000), max_size=12), asked=st.booleans(), null=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_split_means_the_same(texts: list[str], places: list[int], asked: bool, null: bool) -> None:
    """However the bytes are cut, the caller gets the same bytes and we read the same facts."""
    data = stream(texts, **({"usage": None} if null else {}))
    whole, one = relay([data], asked)
    parts, many = relay(cut(data, places), asked)
    assert parts == whole
    assert (many.characters, many.usage, many.model) == (one.characters, one.usage, one.model)
    assert one.characters == sum(map(len, texts))
    assert contents(whole) == "".join(texts)
    assert whole.endswith(DONE)


@given(texts=any_text)
@settings(max_examples=100, deadline=None)
def test_asked_for_usage_means_untouched(texts: list[str]) -> None:
    """A caller who asked for usage gets the upstream's own bytes."""
    data = stream(texts, usage=None)
    assert relay([data], usage_asked=True)[0] == data


def test_unasked_usage_is_hidden() -> None:
    """Neither the usage chunk nor `usage: null` reaches a caller who did not ask."""
    out, relayed = relay([stream(["Hello", " you", "!"], usage=None)])
    assert b"usage" not in out
    assert relayed.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
@given(places=st.lists(st.integers(0, 5_000), max_size=20))
@settings(max_examples=50, deadline=None)
def test_line_ends_of_all_kinds(end: bytes, places: list[int]) -> None:
    data = stream(["a", "b", "c"])
    assert relay(cut(data.replace(b"\n", end), places))[0] == relay([data])[0]


def test_content_begins_with_the_first_content_event() -> None:
    """The role chunk and comments are not content; they are held until it comes."""
    relayed = Stream("strong", False)
    assert relayed.feed(b": ping\n\n") == b""
    relayed.feed(FIRST)
    assert not relayed.content
    relayed.feed(chunk({"content": "x"}))
    assert relayed.content


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    ],
)
def test_every_kind_of_content_counts(delta: dict[str, Any]) -> None:
    relayed = Stream("strong", False)
    relayed.feed(chunk(delta))
    assert relayed.content
    assert relayed.characters > 0


@pytest.mark.parametrize("cut_at", range(1, 5))
def test_an_early_end_is_never_silent(cut_at: int) -> None:
    """A stream that ends before a finish_reason or [DONE] fails, wherever it was cut."""
    events = [FIRST, chunk({"content": "a"}), chunk({"content": "b"}), chunk({"content": "c"}), STOP]
    relayed = Stream("strong", False)
    relayed.feed(b"".join(events[:cut_at]))
    with pytest.raises(Failed) as failed:
        relayed.end()
    assert failed.value.failure == "bad_answer"


def test_done_is_supplied_after_a_finish_reason() -> None:
    out, _ = relay([FIRST + chunk({"content": "a"}) + STOP])
    assert out.endswith(STOP.replace(b',"usage":null', b"") + DONE)


def test_every_choice_must_finish() -> None:
    """One of two is whole, the other broke off: without `[DONE]` that is no end."""

    def of(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return chunk(delta, finish).replace(b'"index":0', b'"index":%d' % index)

    begun = [of(n, {"content": text}) for text in ("a", "b", "c") for n in (0, 1)]
    with pytest.raises(Failed):
        relay([*begun, of(0, {}, "stop")])
    out, _ = relay([*begun, of(0, {}, "stop"), of(1, {}, "length")])
    assert out.endswith(DONE)


def test_done_without_an_answer_fails() -> None:
    relayed = Stream("strong", False)
    relayed.feed(FIRST + DONE)
    with pytest.raises(Failed):
        relayed.end()


@pytest.mark.parametrize("broken", [b'data: {"error":{"message":"overloaded"}}\n\n', b"data: {\n\ndata: [\n\n"])
def test_what_came_in_one_read_with_a_failure_is_not_lost(broken: bytes) -> None:
    relayed, said = Stream("m", True), FIRST + chunk({"content": "a"}) + chunk({"content": "b"})
    with pytest.raises((ErrorObject, Failed)):
        relayed.feed(said + broken + chunk({"content": "c"}))
    assert relayed.left == said


def test_a_line_without_end_loses_nothing_before_it() -> None:
    relayed, said, endless = Stream("m", True), FIRST + chunk({"content": "a"}), b"x" * (MAX_EVENT + 1)
    with pytest.raises(Failed):
        relayed.feed(said + endless)
    assert relayed.left == said
    relayed = Stream("m", True)
    assert relayed.feed(said + DONE + endless) == said + DONE


def test_one_malformed_event_is_skipped_the_second_fails() -> None:
    """Malformed events never reach the caller."""
    relayed = Stream("strong", False)
    assert relayed.feed(chunk({"content": "a"}) + b'data: {"choi\n\n').count(b"data:") == 1
    assert relayed.malformed == 1
    with pytest.raises(Failed):
        relayed.feed(b"data: [1]\n\n")


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"x","type":"overloaded_error"}}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
    ],
)
def test_an_error_event_ends_the_stream(event: bytes) -> None:
    """In OpenAI's shape and in Anthropic's; what it means is the relay's to say."""
    relayed = Stream("strong", False)
    with pytest.raises(ErrorObject) as found:
        relayed.feed(event)
    assert found.value.error == {"message": "x", "type": "overloaded_error"}


def test_a_line_without_end_is_bounded() -> None:
    relayed = Stream("strong", False)
    for _ in range(MAX_EVENT // 65536):
        relayed.feed(b"x" * 65536)
    with pytest.raises(Failed):
        relayed.feed(b"x")


hostile = st.sampled_from([b'"', b"\\", b'","', b"a", b"\n", b"data: ", b"}", b"\x00", b"\xff", "ü".encode(), b'\\"'])


@given(pieces=st.lists(st.lists(hostile, max_size=5).map(b"".join), min_size=1, max_size=6))
@settings(max_examples=500, deadline=None)
def test_what_goes_out_is_always_json(pieces: list[bytes]) -> None:
    """Whatever stands where the text should, an event that goes out parses: the learnt frame forwards no garbage."""
    head, _, tail = chunk({"content": "HOLE"}).partition(b"HOLE")
    relayed = Stream("strong", False)
    out = relayed.feed(chunk({"content": "one"}) + chunk({"content": "two"}))
    with contextlib.suppress(Failed):
        out += relayed.feed(b"".join(head + piece + tail for piece in pieces))
    for event in out.split(b"\n\n"):
        if event:
            assert isinstance(json.loads(event.removeprefix(b"data: ")), dict)


@pytest.mark.parametrize("extra", [b"\n", b"\n\n\n", b"\r\n"])
@pytest.mark.timeout(10)
def test_line_ends_too_many_are_nothing(extra: bytes) -> None:
    """Anywhere between events and at the end, in odd numbers too: servers do that."""
    out, _ = relay([FIRST + chunk({"content": "a"}) + extra + STOP + extra, extra + DONE[:-1]])
    assert contents(out) == "a"
    assert out.endswith(DONE)


@pytest.mark.parametrize("size", [50, 60_000])
def test_a_long_event_in_pieces_is_kept_once(size: int) -> None:
    """An event just below the limit, however it comes: kept in place, not copied anew with each read."""
    event = chunk({"content": "x" * (MAX_EVENT - 500)})
    relayed = Stream("strong", False)
    kept = relayed._tail
    outs = [relayed.feed(event[at : at + size]) for at in range(0, len(event) - size, size)]
    assert not any(outs)
    assert relayed._tail is kept
    assert len(kept) == len(outs) * size
    assert relayed.feed(event[len(outs) * size :]) == event
    assert relayed.characters == MAX_EVENT - 500


@pytest.mark.parametrize("filler", [b"x", b"\n: x", b"data: x\n"])
def test_what_never_becomes_an_event_is_given_up_at_the_limit(filler: bytes) -> None:
    """Also where lines end, as long as no blank one does."""
    relayed = Stream("strong", False)
    piece = filler * (MAX_EVENT // 64 // len(filler))
    with pytest.raises(Failed, match="more than") as failed:
        deque(map(relayed.feed, [piece] * 100), maxlen=0)
    assert failed.value.failure == "bad_answer"


@pytest.mark.parametrize("blank", [b"\x0c", b"\x0b", b"\xc2\xa0"])
def test_what_json_does_not_take_for_a_space_makes_no_json(blank: bytes) -> None:
    """A caller could not read it."""
    odd = chunk({"content": "a"}).removesuffix(b"\n\n") + blank + b"\n\n"
    out, relayed = relay([FIRST, odd, chunk({"content": "b"}), STOP, DONE])
    assert contents(out) == "b"
    assert relayed.malformed == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_cut_after_the_finish_is_no_loss(end: bytes) -> None:
    """Wherever the usage or [DONE] broke off: the answer is whole. Also after one malformed event."""
    before = (FIRST + chunk({"content": "a"}) + b"data: {\n\n" + STOP).replace(b"\n", end)
    tail = (USAGE + DONE).replace(b"\n", end)
    for at in range(len(tail)):
        out, relayed = relay([before, tail[:at]])
        assert out.endswith(DONE)
        assert out.count(DONE) == 1
        assert contents(out) == "a"
        assert (relayed.usage is not None) == (at >= len(USAGE.replace(b"\n", end)) - 2 * len(end))
