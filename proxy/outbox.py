"""When bytes go out: at once or, while the event loop is busy, together with what others write in the same turn.

To write to a process on the same machine that sleeps is to wake it, which takes longer than the write. Writes a
request's work apart wake a peer that is soon done each time; writes in a row wake it once. That took a tenth off the
CPU time of a JSON request at full load (10c6dab against c36e7fc, `make bench`). A peer elsewhere is not woken by us:
to it this is a wait of a turn at most. The first turn after a busy one waits, too, however late it comes.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

log = structlog.get_logger("pointsman")

BUSY: Final = 16  # writes in a turn of the loop; after so many, those of the next turn wait for each other
MOST: Final = 8  # writes that wait: some four requests' work, unless a callback takes long
SMALL: Final = 16 * 1024  # bytes; larger pieces go at once. Of a full buffer who writes small ones hears a turn later


class Outbox:
    """One for a worker's clients and pools, in one event loop, which it must not outlive: a turn that never comes
    would keep what waits. Each connection's bytes keep their order.

    `flush` before a transport is closed, half-closed, closes by itself (`eof_received`), is written to past us, or is
    asked what it has not sent. What waits for one that is closing is dropped.
    """

    __slots__ = ("_waiting", "_writes", "is_busy")

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.WriteTransport, bytes]] = deque()
        self._writes = 0  # of this turn
        self.is_busy = False  # this turn's writes wait for each other

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Send now, or with the others of this turn."""
        self._writes += 1
        if self._writes == 1:
            asyncio.get_running_loop().call_soon(self._turn)
        if self.is_busy and len(data) <= SMALL:
            self._waiting.append((transport, data))
            if len(self._waiting) >= MOST:
                self.flush()
        else:
            if self._waiting:
                self.flush()
            transport.write(data)

    def flush(self) -> None:
        """Send what waits."""
        waiting = self._waiting
        while waiting:
            transport, data = waiting.popleft()
            if not transport.is_closing():
                self._send(transport, data)

    def _send(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        try:
            transport.write(data)
        except Exception as error:  # one connection's defect must not cost the others what waits behind it
            log.error("defect: bytes were not sent", error=type(error).__name__, exc_info=error)
            transport.abort()

    def _turn(self) -> None:
        """The loop has come round: all that was ready in that turn has run."""
        self.is_busy = self._writes >= BUSY
        self._writes = 0
        self.flush()
