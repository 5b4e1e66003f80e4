"""Steady traffic while something happens to the proxy, and waiting for it to have happened."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.rig import Rig

MOST = 300.0  # requests per second of a row at "R", where the machine can do more
AT_ONCE = 100  # requests at most
SHARE = 0.6  # of what the machine can do, where it cannot


class Load:
    """Requests at a fixed rate, each on a connection of its own, until the block ends."""

    def __init__(self, rig: Rig, rate: float, *, policy: str = "alone", stream: bool = False) -> None:
        self.rig, self.rate, self.policy, self.stream = rig, rate, policy, stream
        self.endings: Counter[str] = Counter()
        self.configs: Counter[str] = Counter()
        self.measured = 0.0  # requests per second that were sent in fact
        self.longest = 0.0  # seconds that a request took
        self._stop = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Load":
        self._main = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._main
        await asyncio.gather(*self._running)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begun, sent = loop.time(), 0
        while not self._stop.is_set():
            task = loop.create_task(self._one())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            sent += 1
            # Behind: at once, to keep the rate; but a machine that cannot keep it must not drown.
            await asyncio.sleep(begun + sent / self.rate - loop.time())
            while len(self._running) >= AT_ONCE:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        self.measured = sent / (loop.time() - begun)

    async def _one(self) -> None:
        begun = time.perf_counter()
        try:
            asked = await self.rig.ask(self.policy, stream=self.stream)
        except OSError as error:
            self.endings[type(error).__name__] += 1
            return
        self.longest = max(self.longest, time.perf_counter() - begun)
        self.endings[asked.ending] += 1
        self.configs[asked.answer.headers.get("x-pointsman-config", "none")] += 1

    @property
    def bad(self) -> int:
        return self.endings.total() - self.endings["complete"]


async def rate(rig: Rig, count: int = 600) -> float:
    """R: 60 % of what clients, proxy and models do together on this machine, 300 requests per second at most."""
    begun = time.perf_counter()
    await rig.asks(count, "alone", stream=False)
    return min(MOST, SHARE * count / (time.perf_counter() - begun))


def said(rig: Rig, text: str, times: int = 1) -> Callable[[], bool]:
    """Whether the log has this text so often."""
    return lambda: rig.proxy.text.count(text) >= times


async def wait_for(what: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)
