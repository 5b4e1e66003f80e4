"""What must hold of the stream parser whatever bytes an upstream sends: for the corpus, and for a fuzzer.

`make fuzz` puts atheris into a folder of its own, `.venv/fuzz`, and lets it change the files of `corpus/`, guided by
what of the parser each of them reaches. What it finds is a file there, `crash-...`: it belongs into the corpus.
"""

import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType

from proxy.upstreams.base import Failed
from proxy.wire.answer import ErrorObject
from proxy.wire.stream import DONE, MAX_EVENT, Stream

CORPUS = Path(__file__).with_name("corpus")
SLOW = 0.05  # seconds of CPU that no input of a few kilobytes may take


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def relayed(data: bytes, size: int, usage: bool) -> tuple[bytes, str]:
    """What a caller is sent of these bytes, that come in pieces of `size`; and how it ends."""
    stream, out = Stream("m", usage), []
    try:
        for piece in pieces(data, size):
            out.append(stream.feed(piece))
            if stream.done:
                break
        else:
            out.append(stream.end())
    except Failed:
        return b"".join(out) + stream.left, "failed"
    except ErrorObject:
        return b"".join(out) + stream.left, "error"
    assert len(stream._tail) <= MAX_EVENT
    return b"".join(out), "done"


def said(out: bytes) -> list[bytes]:
    """The events that say something: not comments, nor blank lines too many."""
    events = [event.strip(b"\n") for event in out.split(b"\n\n")]
    return [event for event in events if event and not event.startswith(b":")]


def check(data: bytes, size: int, usage: bool) -> None:
    """Raises AssertionError, or whatever the parser should not."""
    whole, ending = relayed(data, len(data) or 1, usage)
    split, split_ending = relayed(data, size, usage)
    assert ending == split_ending, (ending, split_ending)
    assert said(whole) == said(split)
    if ending == "done":
        assert whole.endswith(DONE)
    for event in said(split):
        judge(event, usage)


def judge(event: bytes, usage: bool) -> None:
    """What goes out can be read by a caller who reads JSON."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    text = b"\n".join(lines).decode()
    if text == "[DONE]":
        return
    chunk = json.loads(text)
    assert isinstance(chunk["choices"], list)
    assert not chunk.get("error")
    assert usage or chunk.get("usage") is None


def one(data: bytes) -> None:
    """For the fuzzer: the last byte says in what pieces the others come."""
    took = cost(data)
    if took >= SLOW:  # on a virtual machine what a neighbour takes is on our clock: who is slow is so each time
        took = min(cost(data), cost(data))
    assert took < SLOW, f"{took:.3f} s of CPU for {len(data)} bytes"


def cost(data: bytes) -> float:
    """Seconds of CPU that it takes to check them."""
    last = data[-1] if data else 0
    begun = time.thread_time()
    check(data, 1 + last % 31, bool(last & 1))
    return time.thread_time() - begun


def main() -> None:
    """`python -m tests.faults.fuzz FOLDER [OPTION...]`: FOLDER is for what is found; options are libFuzzer's."""
    atheris = import_module("atheris")  # not a dependency: see the Makefile
    for function in vars(Stream).values():
        if isinstance(function, FunctionType):
            atheris.instrument_func(function)
    folder, *options = sys.argv[1:]
    found = Path(folder, "found")
    found.mkdir(exist_ok=True)
    limits = ("-timeout=5", "-rss_limit_mb=512", "-max_len=4096", f"-artifact_prefix={folder}/")
    atheris.Setup([sys.argv[0], *limits, *options, str(found), str(CORPUS)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
