"""The descriptors that calls need: where none is left, idle connections make room, or the call is refused.

That is no fault of a model server, so it is no `Failed`: no endpoint's health hears of it.
"""

import asyncio
import errno
from socket import IPPROTO_TCP, SOCK_STREAM, socket
from typing import Final, Protocol
from weakref import WeakSet

from proxy.errors import Overloaded

OUT_OF_THEM: Final = frozenset({errno.EMFILE, errno.ENFILE})  # of the process, of the machine


class Keeper(Protocol):
    """Who keeps idle connections."""

    def close_idle(self) -> None: ...


class Descriptors:
    """Of one worker, shared by its pools."""

    def __init__(self) -> None:
        self.refused = 0  # calls, for want of a descriptor
        self._keepers: WeakSet[Keeper] = WeakSet()

    def add(self, keeper: Keeper) -> None:
        self._keepers.add(keeper)

    async def open(self, family: int) -> socket:
        """A TCP socket, if need be in place of idle connections. Raises `Overloaded` where there is still none, and
        OSError."""
        try:
            return _socket(family)
        except OSError as error:
            if error.errno not in OUT_OF_THEM:
                raise
        for keeper in tuple(self._keepers):
            keeper.close_idle()
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn
        try:
            return _socket(family)
        except OSError as error:
            if error.errno not in OUT_OF_THEM:
                raise
            self.refused += 1
            raise Overloaded("too many connections at once") from None


def _socket(family: int) -> socket:
    return socket(family, SOCK_STREAM, IPPROTO_TCP)  # the protocol is named: else small packets wait
