"""Defects on purpose, one function each: they break the product in the child process, and a scenario must notice.

A rig that passes with any of these switched on proves nothing. `tests/faults/test_sabotage.py` names the scenario and
the invariant that catch each.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import structlog

from proxy import account, app, books, deadlines, exchange, handler, relay, server, worker
from proxy.meter import metrics
from proxy.runtime import Limits
from proxy.upstreams import classify, pool, redact
from proxy.wire import stream
from routes import route

SABOTAGES: dict[str, Callable[[], None]] = {}


_undo: list[Callable[[], None]] = []


def put(owner: Any, name: str, value: Any) -> None:
    """Patch, and remember how to undo it."""
    before = vars(owner)[name] if name in vars(owner) else getattr(owner, name)
    _undo.append(lambda: setattr(owner, name, before))
    setattr(owner, name, value)


def switch(name: str) -> None:
    """Sabotage the product in this process in this way alone; with no name, mend it."""
    while _undo:
        _undo.pop()()
    if name:
        SABOTAGES[name]()


def sabotage(change: Callable[[], None]) -> Callable[[], None]:
    SABOTAGES[change.__name__.replace("_", "-")] = change
    return change


@sabotage
def no_upstream_cancel() -> None:
    """The upstream call of a client that left goes on to its end."""
    lost = server.Protocol.connection_lost

    def spare(self: Any, exc: Any) -> None:
        if self.current is not None:
            self.current.disconnected, self.current.task = True, None
        lost(self, exc)

    put(server.Protocol, "connection_lost", spare)


@sabotage
def no_error_on_truncation() -> None:
    """A stream that breaks off ends as if it had been complete."""

    def fail(self: Any, caller: Any, account: Any, error: Any, stream: Any = None) -> None:
        if caller.started:
            caller.finish(b"data: [DONE]\n\n")
        else:
            original(self, caller, account, error, stream)

    original = handler.Chat._fail
    put(handler.Chat, "_fail", fail)


@sabotage
def double_settle() -> None:
    enter = books.Books.enter

    def twice(self: Any, account: Any, lease: Any) -> None:
        enter(self, account, lease)
        enter(self, account, lease)

    put(books.Books, "enter", twice)


@sabotage
def swallowed_done() -> None:
    feed = stream.Stream.feed
    put(stream.Stream, "feed", lambda self, data: feed(self, data).replace(stream.DONE, b""))


@sabotage
def ignored_limits() -> None:
    none = 2**40
    limits = Limits(max_body=none, body_memory=none, max_head=none, max_header=none, max_headers=none)
    put(app.App, "limits", property(lambda self: limits))


@sabotage
def unbounded_buffer() -> None:
    put(exchange.Exchange, "is_congested", property(lambda self: False))


@sabotage
def leaked_inflight() -> None:
    put(metrics.Meters, "end", lambda self, policy: None)


@sabotage
def leaked_connection() -> None:
    """A reply that was not read to its end keeps its connection, and its slot, for ever."""
    close = pool.PoolReply.close
    kept: list[Any] = []

    def leak(self: Any) -> None:
        connection = self._connection
        if connection is not None and not connection._complete:
            kept.append(connection)
            self._connection = None
            return
        close(self)

    put(pool.PoolReply, "close", leak)


@sabotage
def leaked_task() -> None:
    begin = metrics.Meters.begin
    kept: list[asyncio.Task[None]] = []

    def leak(self: Any, policy: str) -> None:
        kept.append(asyncio.get_running_loop().create_task(asyncio.sleep(3600)))
        begin(self, policy)

    put(metrics.Meters, "begin", leak)


@sabotage
def secret_in_error() -> None:
    """What an upstream says of our key reaches the caller."""
    put(classify, "redact", lambda text, secrets=(): text)
    put(redact, "redact", lambda text, secrets=(): text)


@sabotage
def prompt_in_log() -> None:
    parse = vars(handler)["parse"]

    def tell(data: bytes, *more: Any) -> Any:
        structlog.get_logger().info("asked", body=data.decode(errors="replace"))
        return parse(data, *more)

    put(handler, "parse", tell)


@sabotage
def wrong_label() -> None:
    """Every request is booked under the first tenant."""
    settle = account.Account.settle
    put(account.Account, "settle", lambda self: dataclasses.replace(settle(self), tenant="acme"))


@sabotage
def retry_after_content() -> None:
    """Another attempt although the caller has had content of this one."""
    original = relay.Relaying.relay

    async def again(self: Any, effect: Any) -> Any:
        return dataclasses.replace(await original(self, effect), committed=False)

    put(relay.Relaying, "relay", again)


@sabotage
def too_many_attempts() -> None:
    """Fallbacks go on although as many calls have been made as one request may make."""
    relayed = relay.Relaying._relayed
    put(route, "MAX_ATTEMPTS", 10)
    put(relay.Relaying, "_relayed", lambda self, failed: dataclasses.replace(relayed(self, failed), spent=False))


@sabotage
def forwarded_malformed() -> None:
    """An event that is no chunk goes out as it came."""
    event = stream.Stream._event

    def forward(self: Any, raw: bytes) -> bytes:
        before = self.malformed
        out = event(self, raw)
        return raw + b"\n\n" if self.malformed > before else out

    put(stream.Stream, "_event", forward)


@sabotage
def usage_not_hidden() -> None:
    init = stream.Stream.__init__
    put(stream.Stream, "__init__", lambda self, model, usage_asked: init(self, model, True))


@sabotage
def no_idle_timeout() -> None:
    put(deadlines.Deadlines, "next", lambda self, progress=0: self._loop.time() + 3600)


@sabotage
def free_of_charge() -> None:
    """What has no usage is booked as nothing."""
    from proxy.meter import estimate
    from proxy.meter.usage import NO_USAGE

    put(estimate, "usage", lambda *_: NO_USAGE)


@sabotage
def crossed_answers() -> None:
    """A caller gets the answer to the request before."""
    reply = exchange.Exchange.reply
    last: list[bytes] = []

    def cross(self: Any, status: int, headers: bytes, body: bytes) -> None:
        if self.path.endswith("/chat/completions") and status == 200:
            last.append(body)
            body = last.pop(0) if len(last) > 1 else body
        reply(self, status, headers, body)

    put(exchange.Exchange, "reply", cross)


@sabotage
def all_headers_forwarded() -> None:
    hidden = (b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type")

    def forwarded(caller: Any) -> Any:
        return tuple((name, value) for name, value in caller.headers.items() if name not in hidden)

    put(handler, "forwarded", forwarded)


@sabotage
def no_drain() -> None:
    """A stop cuts what runs."""
    drain = worker.Worker.drain
    put(worker.Worker, "drain", lambda self, announce, limit: drain(self, 0.0, 0.0))


@sabotage
def silent_goodbye() -> None:
    """What the drain's limit cuts hears nothing."""

    def leave(self: Any, caller: Any, account: Any, relaying: Any) -> Any:
        caller.abort()
        return "cancelled", None

    put(handler.Chat, "_leave", leave)


@sabotage
def blocking_call() -> None:
    """A request holds the event loop up."""
    import time

    decide = vars(handler)["decide"]

    def slow(*args: Any) -> Any:
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass
        return decide(*args)

    put(handler, "decide", slow)


@sabotage
def unbounded_labels() -> None:
    """The names that callers ask for become labels."""
    finish = account.Account.finish

    def name(self: Any, outcome: str, status: int, error: str | None) -> None:
        finish(self, outcome, status, error)
        if self.service is None:
            self.service = _Named(self.asked)

    class _Named:
        baseline = None

        def __init__(self, name: str) -> None:
            self.policy = self
            self.name = name
            self.baseline = None

    put(account.Account, "finish", name)
    put(metrics.Meters, "_clean", lambda self, label, name: name)
