"""Our own HTTP/1.1 connection pool: one per target, the default upstream client.

A slot is one of the target's `max_connections`. It is held by who holds the connection: the idle list, a call, a
reply. Every change of hands is synchronous, so a cancel can only fall between two of them.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from typing import Any

from proxy import late
from proxy.outbox import Outbox
from proxy.upstreams import tls
from proxy.upstreams.address import Addresses, Origin
from proxy.upstreams.base import Call, Failed, Take, Target, connect_failed
from proxy.upstreams.connection import Connection, Stale
from proxy.upstreams.descriptors import Descriptors
from proxy.upstreams.incoming import Encrypted, Plain
from proxy.upstreams.request import Heads
from routes import failure


class PoolReply:
    """An answer being read from its connection. A `base.Reply`."""

    __slots__ = ("_connection", "_pool", "headers", "retried_stale", "status")

    def __init__(self, pool: "Pool", connection: Connection, retried_stale: bool) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self.status: int = connection.status
        self.headers: Mapping[bytes, bytes] = connection.headers
        self.retried_stale: bool = retried_stale

    def read(self, deadline: float) -> Coroutine[Any, Any, bytes]:
        # Not `async`: the connection's coroutine is the caller's, without one of our own around it.
        if self._connection is None:
            raise RuntimeError("read after close")
        return self._connection.read(deadline)

    def pour(self, take: Take, deadline: float) -> Coroutine[Any, Any, bool]:
        if self._connection is None:
            raise RuntimeError("read after close")
        return self._connection.pour(take, deadline)

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = None
            self._pool.release(connection)


class Pool:
    """Connections to one target. A `base.Upstream`; make it in the event loop that uses it."""

    def __init__(self, target: Target, descriptors: Descriptors, outbox: Outbox) -> None:
        origin = Origin.parse(target.base_url)
        self._name = target.name
        self._origin = origin
        self._heads = Heads(target, origin)
        self._context = tls.context(target.tls) if origin.secure else None
        self._addresses = Addresses(origin.host, origin.port)
        self._keep_alive = target.keep_alive
        self._max = target.max_connections
        self._descriptors = descriptors
        self._descriptors.add(self)
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []  # the last one used is the next one taken
        self._waiters: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.size = 0  # slots taken
        self.connecting = 0  # of them, those without a connection yet
        self.stale_retries = 0

    @property
    def idle(self) -> int:
        return sum(connection.idle for connection in self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def send(self, call: Call, deadline: float) -> PoolReply:
        head = self._heads.encode(call)
        connection = self._take() or await self._acquire(call, deadline)
        retried = False
        while True:
            try:
                await connection.exchange(head, call.body, deadline)
            except Stale:
                # Only ever once: what comes next is fresh, and a fresh connection is never stale.
                retried = True
                self.stale_retries += 1
                connection.finish()  # it lets go of the error, whose frames hold it
                connection.abort()
                connection = await self._open(call, deadline)
            except BaseException:  # also a cancellation: whatever ends the call, its slot goes back
                self.release(connection)
                raise
            else:
                return PoolReply(self, connection, retried)

    async def close(self) -> None:
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self.close_idle()

    def close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            self._discard(connection)

    # Slots

    def _take(self) -> Connection | None:
        """Return an idle connection, the one used last. None when there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.idle:
                continue  # lost meanwhile, its slot is already free
            if connection.expires > self._loop.time():
                connection.idle = False
                return connection
            self._discard(connection)
        return None

    async def _acquire(self, call: Call, deadline: float) -> Connection:
        """Open a connection, or queue for one when all slots are taken: first come, first served."""
        if self.size < self._max:
            self.size += 1
            return await self._open(call, deadline)
        give_up = min(self._loop.time() + call.connect_timeout, deadline)
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters[waiter] = None
        timer = late.Timer(self._loop, give_up, late.TAKEN, self._give_up, waiter)
        try:
            connection = await waiter
        except BaseException:  # a cancellation, or the queue's own `Failed`: leave the queue
            self._waiters.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())  # cancelled in the moment it was served
            raise
        finally:
            timer.cancel()
        return connection or await self._open(call, deadline)

    def _give_up(self, waiter: asyncio.Future[Connection | None]) -> None:
        self._waiters.pop(waiter, None)
        if not waiter.done():
            why = f"no free connection to {self._name!r} in time (all {self._max} are in use)"
            waiter.set_exception(Failed(failure.TIMEOUT, why, phase="connect"))

    def release(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over: kept when it is clean, else closed."""
        if not connection.finish():
            connection.abort()
            self._free_slot()
            return
        connection.expires = self._loop.time() + min(self._keep_alive, connection.keep_alive_hint - 1.0)
        self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        """Give a clean connection, or with None a bare slot, to the first waiter; else keep it idle."""
        if connection is None:
            self._free_slot()
            return
        if waiter := self._next_waiter():
            waiter.set_result(connection)
        elif self._is_closed or connection.lost:
            connection.abort()
            self._free_slot()
        else:
            connection.idle = True
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(max(0.05, min(self._keep_alive, 5.0)), self._sweep)

    def _free_slot(self) -> None:
        if waiter := self._next_waiter():
            waiter.set_result(None)
        else:
            self.size -= 1

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                return waiter
        return None

    def _discard(self, connection: Connection) -> None:
        """Close a connection of the idle list and free its slot, unless it was lost before."""
        if connection.idle:
            connection.idle = False
            connection.abort()
            self._free_slot()

    def _on_idle_loss(self, connection: Connection) -> None:
        connection.idle = False  # it stays in the list until met there: searching would cost more
        self._free_slot()

    def _sweep(self) -> None:
        """Close idle connections before the server does: a closed one met by a call costs a retry."""
        self._sweeper = None
        now = self._loop.time()
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.idle and connection.expires > now:
                self._idle.append(connection)
            else:
                self._discard(connection)
        if self._idle:
            self._sweeper = self._loop.call_later(max(0.05, min(self._keep_alive, 5.0)), self._sweep)

    # Connecting

    async def _open(self, call: Call, deadline: float) -> Connection:
        """Connect on a slot already taken; the slot is freed when that fails."""
        self.connecting += 1
        phase = "connect"
        try:
            give_up = min(self._loop.time() + call.connect_timeout, deadline)
            async with late.until(give_up):
                sock = await self._dial(give_up)
            phase = "tls"
            async with late.until(min(self._loop.time() + call.tls_timeout, deadline)):
                return await self._wrap(sock)
        except BaseException as error:  # also a cancellation: the slot was taken before
            self._free_slot()
            if isinstance(error, TimeoutError):
                what = "could not be connected to" if phase == "connect" else "did not end its TLS handshake"
                raise Failed(failure.TIMEOUT, f"{self._name!r} {what} in time", phase=phase) from None
            if isinstance(error, OSError):
                why = f"{self._name!r} could not be connected to: {tls.reason(error)}"
                raise connect_failed(why, phase if self._context else "connect") from error
            raise
        finally:
            self.connecting -= 1

    async def _dial(self, give_up: float) -> socket.socket:
        """Try the host's addresses in order. None may use up the time of those after it."""
        addresses = await self._addresses.get()
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            now = self._loop.time()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = await self._descriptors.open(family)
            try:
                sock.setblocking(False)
                async with late.until(now + (give_up - now) / left):
                    await self._loop.sock_connect(sock, (address, self._origin.port))
                return sock
            except BaseException as error:  # also a cancellation: nobody else knows this socket
                sock.close()
                if left == 1 or not isinstance(error, OSError):  # TimeoutError is one
                    raise
        raise OSError("no address")

    async def _wrap(self, sock: socket.socket) -> Connection:
        """Make a connection of a connected socket, with TLS where the target has it."""
        connection: Plain | Encrypted
        try:
            if self._context is None:
                connection = Plain(self._name, self._on_idle_loss, self._outbox)
                await connection.over(sock)
            else:
                connection = Encrypted(self._name, self._on_idle_loss, self._outbox)
                await connection.over(sock, self._context, self._origin.host)
        except BaseException:  # a cancellation may come when the connection is made already
            connection.abort()
            if connection.lost:
                sock.close()
            raise
        return connection
