"""While a stream's status is held, comments go out: after the wait, then one each interval, until it ends."""

import asyncio

from proxy.hold import Hold


class Comments:
    def __init__(self) -> None:
        self.count = 0
        self._due: asyncio.Queue[None] = asyncio.Queue()

    def __call__(self) -> None:
        self.count += 1
        self._due.put_nowait(None)

    async def next(self) -> None:
        await asyncio.wait_for(self._due.get(), 20)


async def test_comments_come_after_the_wait_and_again_each_interval() -> None:
    comments = Comments()
    hold = Hold(0.001, 0.001, comments)
    for _ in range(3):
        await comments.next()
    hold.end()


async def test_none_comes_once_content_is_there() -> None:
    """Ended before the wait is over, or between two comments: whatever was due then, nothing follows."""
    early, late = Comments(), Comments()
    Hold(0.0, 0.0, early).end()
    hold = Hold(0.0, 0.0, late)
    await late.next()
    hold.end()
    said = late.count
    for _ in range(10):
        await asyncio.sleep(0)
    assert (early.count, late.count) == (0, said)
