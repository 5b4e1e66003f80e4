"""Finished requests are settled in the order in which they ended, a few at a time, and none is forgotten."""

import asyncio

import pytest
import structlog

from proxy.account import Account
from proxy.books import BATCH, Books
from proxy.settled import Settled
from tests.proxy.meter.samples import snapshot

SNAPSHOT = snapshot()


class Reserved:
    """A lease that notes what it was settled with."""

    def __init__(self) -> None:
        self.settled: list[str] = []

    def settle(self, settled: Settled) -> None:
        self.settled.append(settled.id)


def finished() -> Account:
    account = Account(SNAPSHOT, "chat", None)
    account.finish("ok", 200, None)
    return account


async def test_a_batch_is_settled_at_once_in_order() -> None:
    told: list[str] = []
    books = Books([lambda settled: told.append(settled.id)])
    accounts = [finished() for _ in range(BATCH)]
    for account in accounts[:-1]:
        books.enter(account, None)
    assert told == []
    books.enter(accounts[-1], None)
    assert told == [account.id for account in accounts]


async def test_a_lone_request_does_not_wait_for_others() -> None:
    settled: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    Books([settled.set_result]).enter(account := finished(), None)
    assert (await asyncio.wait_for(settled, 20)).id == account.id


async def test_closing_settles_what_is_open_and_only_once() -> None:
    """As `/metrics` and a stop do: what they read holds every request that has ended."""
    told: list[str] = []
    books = Books([lambda settled: told.append(settled.id)])
    first, second = finished(), finished()
    books.enter(first, None)
    books.close()
    books.close()
    assert told == [first.id]
    books.enter(second, None)
    books.close()
    assert told == [first.id, second.id]


async def test_a_lease_is_settled_before_the_sinks_are_told() -> None:
    lease = Reserved()
    seen: list[list[str]] = []
    books = Books([lambda _: seen.append([*lease.settled])])
    books.enter(account := finished(), lease)
    books.close()
    assert seen == [[account.id]]


async def test_a_request_that_cannot_be_settled_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    books = Books([lambda settled: told.append(settled.id)])
    odd, good = finished(), finished()
    monkeypatch.setattr(odd, "settle", lambda: 1 / 0)
    for account in (odd, good):
        books.enter(account, None)
    with structlog.testing.capture_logs() as logs:
        books.close()
    assert told == [good.id]
    assert [entry["id"] for entry in logs] == [odd.id]


async def test_a_sink_that_fails_costs_the_others_nothing() -> None:
    """Nor the requests after it; the defect is logged."""
    told: list[str] = []

    def broken(settled: Settled) -> None:
        raise ValueError(settled.id)

    books = Books([broken, lambda settled: told.append(settled.id)])
    accounts = [finished() for _ in range(2)]
    for account in accounts:
        books.enter(account, None)
    with structlog.testing.capture_logs() as logs:
        books.close()
    assert told == [account.id for account in accounts]
    assert [entry["log_level"] for entry in logs] == ["error", "error"]
