"""A chat completion's event stream, relayed: bytes in, bytes to forward out, and what must be known read on the way.

No I/O. Only complete events go out, each of them judged. Most events of a stream differ in one string, so after the
first content event its bytes around that string (`Frame`) are known, and a whole run of such events is checked and
forwarded with a few C-speed calls; everything else is parsed as JSON.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.upstreams.base import Failed
from proxy.wire.answer import ErrorObject, size
from routes import failure

MAX_EVENT = 1024 * 1024  # bytes of one event: a line without end must not fill the memory
MAX_MALFORMED = 1  # events that may be skipped; the next one is an error
MAX_MISSES = 3  # events that begin like the frame but end otherwise (padding fields) before it is given up
DONE = b"data: [DONE]\n\n"
BOM = b"\xef\xbb\xbf"  # may begin a stream
NEWLINE = 0x0A
BLANKS = b" \t\r\n"  # JSON's: a form feed beside it would be no JSON to the caller
CONTROL = bytes(range(0x20))
MARK = "\x7fpointsman-mark\x7f"  # stands for the text while a frame is learnt; no model writes it


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes around the one string in which a stream's content events differ."""

    prefix: bytes
    suffix: bytes
    # the same without `"usage": null`, for callers who did not ask for usage; None: forward as it came
    clean: "Frame | None" = None
    end: bytes = field(init=False)  # the suffix with the blank line

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", self.suffix + b"\n\n")

    @classmethod
    def around(cls, event: bytes, text: bytes) -> "Frame | None":
        prefix, found, suffix = event.partition(b'"' + text + b'"')
        if not found or b'"' + text + b'"' in suffix:
            return None
        return cls(prefix + b'"', b'"' + suffix)

    def holds(self, data: bytes) -> bool:
        """Whether this is one whole event that fits."""
        return data.startswith(self.prefix) and data.endswith(self.end) and data.find(b"\n\n") == len(data) - 2

    def join(self, texts: list[bytes]) -> bytes:
        """The events that hold these texts."""
        return self.prefix + (self.end + self.prefix).join(texts) + self.end


class Stream:
    """Feed it the upstream's bytes; it returns what the caller may have.

    `usage_asked`: the caller wants the usage chunk. Raises `Failed` (`bad_answer`) or `ErrorObject`.
    """

    def __init__(self, model: str, usage_asked: bool) -> None:
        self.config_model = model
        self.usage_asked = usage_asked
        self.content = False  # a content event has come: nothing else may answer now
        self.finished = False  # a finish_reason has come
        self.done = False  # [DONE] has come
        self.usage: Mapping[str, Any] | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.characters = 0
        self.left = b""  # what the caller may still have of what came with a failure, before it
        self.malformed = 0
        self._tail = bytearray()  # the beginning of an event whose end has not come
        self._cr = False  # a CR came last: half of a CRLF, or a line end
        self._frame: Frame | None = None
        self._misses = 0
        self._begun: set[int] = set()  # choices that have had content
        self._ended: set[int] = set()  # choices that have had a finish_reason

    def feed(self, data: bytes) -> bytes:
        frame = self._frame
        if frame is not None and not self._tail and frame.holds(data):
            text = data[len(frame.prefix) : -len(frame.end)]
            count = characters([text])
            if count is not None:  # one event with one more piece of text, which is what mostly comes
                self.characters += count
                return data if frame.clean is None else frame.clean.prefix + text + frame.clean.end
        if self._cr or b"\r" in data:
            data = self._unify(data)
        end = data.rfind(b"\n\n") + 2
        tail = self._tail
        if tail:
            if end < 2:
                if tail[-1] != NEWLINE or not data.startswith(b"\n"):
                    self._keep(data)
                    return b""
                end = 1  # one half of the event's end came before
            end += len(tail)
            data = b"".join((tail, data))
            tail.clear()
        elif end < 2:
            self._keep(data)
            return b""
        if end == len(data):
            return self._events(data)
        out = self._events(data[:end])
        if not self.done:
            self.left = out  # should the rest be too much
            self._keep(data[end:])
            self.left = b""
        return out

    def end(self) -> bytes:
        """The upstream's body is complete: return what is still owed to the caller. Raises `Failed` if cut off."""
        rest = b""
        if self._tail.strip():
            with suppress(Failed):  # an event that broke off is no event: what counts is below
                rest = self._events(bytes(self._tail) + b"\n\n")
        if self.done and self.content:
            return rest
        if not self.is_whole:
            raise Failed(
                failure.BAD_ANSWER, f"model '{self.config_model}' ended its stream before its answer was complete"
            )
        self.done = True
        return rest + DONE

    @property
    def is_whole(self) -> bool:
        """Whether every choice has had its finish_reason: what may still come is no content."""
        return self.finished and self._begun <= self._ended

    def _unify(self, data: bytes) -> bytes:
        """All line ends as LF. A CR at the very end waits: an LF after it belongs to it."""
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        return (data[:-1] if self._cr else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, tail: bytes) -> None:
        self._tail += tail  # in place: joined anew with each read, a long event would be copied over and over
        if len(self._tail) > MAX_EVENT:
            self._tail = bytearray()  # whoever remembers the failure need not remember this
            raise Failed(
                failure.BAD_ANSWER, f"model '{self.config_model}' sent an event of more than {MAX_EVENT} bytes"
            )

    def _events(self, data: bytes) -> bytes:
        """Judge complete events: runs that fit the frame at once, the others one by one."""
        out: list[bytes] = []
        at = 0
        try:
            while at < len(data) and not self.done:  # what comes after [DONE] is nobody's
                frame = self._frame
                if frame is not None and data.startswith(frame.prefix, at):
                    forward, length = self._run(data[at:] if at else data, frame)
                    if length:
                        out.append(forward)
                        at += length
                        continue
                if data[at] == NEWLINE:  # a blank line, or a third line end in a row: neither begins an event
                    at += 1
                    continue
                end = data.index(b"\n\n", at)
                out.append(self._event(data[at:end]))
                at = end + 2
        except (Failed, ErrorObject):
            self.left = b"".join(out)
            raise
        return out[0] if len(out) == 1 else b"".join(out)

    def _run(self, data: bytes, frame: Frame) -> tuple[bytes, int]:
        """What to forward of the run of fitting events that `data` begins with, and the run's length (0: none)."""
        # by single line ends, which is twice as fast; if the lines do not alternate, the comparison below says so
        events = data.split(b"\n")[::2]
        while events and not events[-1].endswith(frame.suffix):
            events.pop()
        start, stop = len(frame.prefix), -len(frame.suffix)
        texts = [event[start:stop] for event in events]
        run = frame.join(texts)
        count = characters(texts) if texts and data.startswith(run) else None
        if count is None:
            self._misses += 1
            if self._misses > MAX_MISSES:
                self._frame = None
            return b"", 0
        self.characters += count
        return (frame.clean.join(texts) if frame.clean else run), len(run)

    def _event(self, event: bytes) -> bytes:
        """Judge one event and return what to forward of it."""
        if not self.content:
            event = event.removeprefix(BOM)  # behind a comment of ours it would stand inside the caller's stream
        data = payload(event)
        if data is None:  # without data an event says nothing; comments keep connections alive once there is content
            return event + b"\n\n" if self.content and event.startswith(b":") else b""
        if data == b"[DONE]":
            self.done = True
            return DONE
        try:
            chunk = orjson.loads(data)
        except ValueError:
            chunk = None
        if type(chunk) is not dict:
            return self._skip()
        if chunk.get("error"):
            raise ErrorObject(chunk["error"], self.content)
        if type(chunk.get("usage")) is dict:  # also where there are no choices, or null
            self.usage = chunk["usage"]
        choices = chunk.get("choices")
        if type(choices) is not list or (choices and type(choices[0]) is not dict):
            return self._skip()
        if self.model is None:
            self._name(chunk)
        if not choices:
            return event + b"\n\n" if self.usage_asked else b""
        self._judge(choices)
        if not self.usage_asked and "usage" in chunk:
            return self._without_usage(event, chunk)
        if self._frame is None and not self._misses:
            self._learn(event, chunk)
        return event + b"\n\n"

    def _skip(self) -> bytes:
        self.malformed += 1
        if self.malformed > MAX_MALFORMED:
            raise Failed(
                failure.BAD_ANSWER, f"model '{self.config_model}' sent events that are not chat completion chunks"
            )
        return b""

    def _name(self, chunk: Mapping[str, Any]) -> None:
        model, chunk_id = chunk.get("model"), chunk.get("id")
        self.model = model if type(model) is str else None
        self.id = chunk_id if type(chunk_id) is str else None

    def _judge(self, choices: list[Any]) -> None:
        for choice in choices:
            if type(choice) is not dict:
                continue
            characters = size(choice.get("delta"))
            self.characters += characters
            index = choice.get("index")
            if choice.get("finish_reason"):
                self.finished = self.content = True
                self._ended.add(index if type(index) is int else 0)
            elif characters:
                self.content = True
                self._begun.add(index if type(index) is int else 0)

    def _without_usage(self, event: bytes, chunk: dict[str, Any]) -> bytes:
        # callers who did not ask must not see it: chunks with an unasked usage crash some clients
        counted = chunk.pop("usage") is not None
        if self._frame is None and not counted and not self._misses:
            self._learn(event, chunk)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _learn(self, event: bytes, chunk: dict[str, Any]) -> None:
        """Learn the frame from an event that holds nothing but one text.

        Verified rather than assumed: the event with another text in the hole must mean the same chunk with that text.
        """
        choice = chunk["choices"][0]
        delta = choice.get("delta")
        if len(chunk["choices"]) != 1 or choice.get("finish_reason") or type(delta) is not dict:
            return
        if not delta.keys() <= {"content", "role", "refusal"} or delta.get("refusal"):
            return
        text = delta.get("content")
        if (
            type(text) is not str
            or not text.isascii()
            or not text.isprintable()
            or set('"\\') & set(text)
            or not text
        ):
            return
        delta["content"] = MARK
        frame = self._framed(event, text.encode(), chunk)
        delta["content"] = text
        self._frame = frame

    def _framed(self, event: bytes, text: bytes, chunk: dict[str, Any]) -> Frame | None:
        frame = Frame.around(event, text)
        if frame is None or not frame.prefix.startswith(b"data:") or b"\n" in event:
            return None
        mark = MARK.encode()
        seen = orjson.loads(payload(frame.prefix + mark + frame.suffix) or b"")
        had_usage = "usage" in seen and "usage" not in chunk
        if had_usage:
            del seen["usage"]
        if seen != chunk:
            return None
        if had_usage:
            clean = Frame.around(b"data: " + orjson.dumps(chunk), mark)
            return Frame(frame.prefix, frame.suffix, clean) if clean else None
        return frame


def characters(texts: list[bytes]) -> int | None:
    """Characters in the insides of JSON strings; None if one of them is not the inside of a JSON string."""
    text = texts[0] if len(texts) == 1 else b"".join(texts)
    if text.isascii() and b"\\" not in text and b'"' not in text and text.translate(None, CONTROL) == text:
        return len(text)
    joined = b'","'.join(texts)
    try:
        if b'\\","' in joined:  # a text that ends in a backslash could swallow its quote: read them one by one
            strings = [orjson.loads(b'"' + inside + b'"') for inside in texts]
        else:
            strings = orjson.loads(b'["' + joined + b'"]')
    except ValueError:
        return None
    return sum(map(len, strings)) if len(strings) == len(texts) else None


def payload(event: bytes) -> bytes | None:
    """The data of one event, or None where it has none (a comment)."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip(BLANKS)
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines).strip(BLANKS) if lines else None
