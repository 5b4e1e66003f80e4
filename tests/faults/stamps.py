"""A model server whose events say when they were sent, in a process of its own: for the order and latency of a relay.

    python -m tests.faults.stamps SECONDS

It prints its port. Each request is answered with an event each 20 ms, for so many seconds; the text of an event is
its number and its time by the monotonic clock, which all processes share, in ns.
"""

import asyncio
import json
import sys
import time

from tests.faults.firehose import END, HEAD, event, framed

PACE = 0.02  # seconds between events


def stamped(number: int) -> bytes:
    return framed(event({"content": f"{number}:{time.monotonic_ns()} "}))


def read(data: bytes, now: int) -> tuple[int, float] | None:
    """The number of an event and its age in ms; None for one without a stamp."""
    chunk = json.loads(data) if data != b"[DONE]" else {}
    text = chunk["choices"][0]["delta"].get("content") if chunk.get("choices") else None
    if not text:
        return None
    number, _, sent = text.strip().partition(":")
    return int(number), (now - int(sent)) / 1e6


async def serve(seconds: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(HEAD)
        due = asyncio.get_running_loop().time()
        for number in range(int(seconds / PACE)):
            writer.write(stamped(number))
            due += PACE
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        writer.write(END)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
