import asyncio

import pytest

from proxy.standins.journal import Entry, Journal


def entry(number: int = 1) -> Entry:
    headers = [(b"X-Tier", b"gold"), (b"x-tier", b"silver")]
    return Entry(f"req_{number}", number, 1, "POST", "/v1/chat/completions?x=1", headers, b'{"a": 1}', 0.0)


def test_headers_and_body_read_back() -> None:
    assert entry().headers == {"x-tier": "silver"}
    assert entry().header("x-tier") == "gold"
    assert entry().header("x-other") == ""
    assert entry().json == {"a": 1}


def test_only_the_last_entries_are_kept() -> None:
    journal = Journal(room=2)
    for number in (1, 2, 3):
        journal.add(entry(number))
    assert [each.number for each in journal] == [2, 3]
    assert journal.total == 3
    assert len(journal.chats()) == 2


def test_the_first_end_counts() -> None:
    journal = Journal()
    journal.add(entry())
    journal.end(journal.last, "fault: cut")
    journal.end(journal.last, "complete")
    assert journal.last.ended == "fault: cut"
    assert journal.running() == 0


async def test_until_wakes_when_it_holds() -> None:
    journal = Journal()
    waiting = asyncio.gather(journal.until(lambda j: len(j) == 2), journal.until(lambda j: j.running() == 1))
    await asyncio.sleep(0)
    journal.add(entry(1))
    journal.add(entry(2))
    journal.end(journal.last, "complete")
    await waiting


async def test_until_gives_up() -> None:
    with pytest.raises(TimeoutError):
        await Journal().until(lambda journal: False, timeout=0.001)


def test_wait_gives_up() -> None:
    with pytest.raises(TimeoutError):
        Journal().wait(lambda journal: False, timeout=0.001)
