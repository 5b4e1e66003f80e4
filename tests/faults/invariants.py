"""What must hold whatever happened: eight invariants, checked after every scenario.

I1 every request ends in exactly one of: complete, HTTP error, in-band error · I2 the ledger (metrics and access log)
equals the models' journals, or is flagged as estimated · I3 when nothing runs, nothing is in flight, and descriptors
and tasks are back where they were · I4 a client that leaves takes its upstream call with it within a second · I5
exactly one record for each request · I6 at most three attempts, none after content · I7 nothing of a tenant reaches
another one · I8 no secret and no prompt in logs, metrics, errors, or at a model that it is not for.
"""

import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from proxy.standins.journal import Entry
from tests.proxy import oracle

if TYPE_CHECKING:
    from tests.faults.rig import Rig

SOON = 5.0  # seconds until all must be quiet
CANCEL = 1.0  # seconds until an upstream call must have ended after its client
ATTEMPTS = 3


class Violated(AssertionError):
    """The invariant's name, and what broke it."""


def check(rig: "Rig") -> None:
    every_request_has_one_ending(rig)
    quiet(rig)
    calls = rig.calls()
    records = one_record_each(rig)
    ledger_is_the_journals(rig, records, calls)
    upstream_calls_end(rig, records, calls)
    attempts_are_few(rig, records, calls)
    tenants_are_apart(rig)
    secrets_stay(rig)
    no_defect(rig)


def no_defect(rig: "Rig") -> None:
    """None of the above, and yet never right: an exception that nobody foresaw."""
    for sign in (b'"event":"defect', b"Traceback", b"background task failed", b"never retrieved"):
        if sign in rig.log_bytes:
            at = rig.log_bytes.index(sign)
            raise Violated(f"a defect was logged: {bytes(rig.log_bytes[max(0, at - 200) : at + 1500]).decode()}")


def every_request_has_one_ending(rig: "Rig") -> None:
    """I1."""
    for asked in rig.asked:
        if asked.ending.startswith("silent"):
            raise Violated(f"I1: request {asked.number} ({asked.policy}, {asked.fault}): {asked.ending}")
        if asked.answer.whole and asked.answer.rest and asked.client.writer.transport.is_closing():
            raise Violated(f"I1: request {asked.number} was answered more than once: {asked.answer.rest[:80]!r}")
        usage = [data for data in asked.answer.payloads if b'"usage":{' in data.replace(b" ", b"")]
        if asked.stream and usage and not asked.wants_usage:
            raise Violated(f"I1: request {asked.number} was sent a usage that it did not ask for")


def quiet(rig: "Rig") -> None:
    """I3."""
    end = time.monotonic() + rig.patience
    while True:
        found = _noise(rig)
        if not found:
            return
        if time.monotonic() > end:
            raise Violated(f"I3: {found}")
        time.sleep(0.02)


def _noise(rig: "Rig") -> str:
    running = rig.proxy.metric("pointsman_inflight_requests")
    if running:
        return f"{running:g} requests are in flight, says the gauge"
    open_calls = sum(standin.journal.running() for standin in rig.standins)
    if open_calls:
        return f"{open_calls} upstream calls are open"
    (descriptors, tasks), (before, tasks_before) = rig.resources(), rig.baseline
    if descriptors > before:
        return f"{descriptors} descriptors, {before} before"
    if tasks > tasks_before:
        return f"{tasks} tasks, {tasks_before} before"
    return ""


def one_record_each(rig: "Rig") -> dict[int, dict[str, Any]]:
    """I5. Returns the records by request."""
    counting = [asked for asked in rig.asked if asked.counts]
    lines, counted = _written(rig, len(counting))
    twice = [name for name, count in Counter(line["id"] for line in lines).items() if count > 1]
    if twice:
        raise Violated(f"I5: {len(twice)} request ids have more than one record, as {twice[0]}")
    found = {int(line["client_id"]): line for line in lines if line.get("client_id", "").isdigit()}
    if missing := [asked.number for asked in counting if asked.number not in found]:
        raise Violated(f"I5: {len(missing)} requests have no record, as {missing[0]}")
    for asked in counting:
        line = found[asked.number]
        if line["status"] != 401 and line["tenant"] != asked.tenant:
            raise Violated(f"I2: request {asked.number} of {asked.tenant} is booked on {line['tenant']}")
        if asked.ending == "complete" and line["outcome"] != "ok":
            raise Violated(f"I2: request {asked.number} was answered and is booked as {line['outcome']}")
        if asked.ending == "left" and line["outcome"] not in ("cancelled", "ok"):
            raise Violated(f"I2: the client of {asked.number} left; it is booked as {line['outcome']}")
        if asked.ending in ("http error", "in-band error") and line["outcome"] == "ok":
            raise Violated(f"I2: request {asked.number} failed and is booked as ok")
    if counted != len(lines):
        raise Violated(f"I5: {len(lines)} records, but the metric counts {counted:g}")
    return found


def _written(rig: "Rig", count: int) -> tuple[list[dict[str, Any]], float]:
    """The records, at least so many, and what the metric counts: the log's writer is a thread, and may be behind."""
    rig.settled(count)
    end = time.monotonic() + rig.patience
    while True:
        counted = sum(rig.growth(rig.proxy.metrics(), "pointsman_requests_total").values())
        lines = rig.records()
        if counted == len(lines) or time.monotonic() > end:
            return lines, counted
        time.sleep(0.02)


def ledger_is_the_journals(rig: "Rig", records: dict[int, dict[str, Any]], calls: dict[int, list[Entry]]) -> None:
    """I2. What models reported is booked exactly; what they did not is flagged, and never nothing."""
    booked = sum(sum(line["tokens"].values()) for line in rig.records())
    possible = sum(sum(oracle.reported(entry.reported) or [0]) for each in rig.standins for entry in each.journal)
    certain = 0
    for asked in rig.asked:
        line = records.get(asked.number)
        if line is None:
            continue
        entries = [entry for entry in calls.get(asked.number, []) if entry.status is not None]
        reported = [sum(oracle.reported(entry.reported) or [0]) for entry in entries]
        if line["outcome"] == "ok" and reported:
            certain += reported[-1]
            if reported[-1] > sum(line["tokens"].values()):
                raise Violated(f"I2: request {asked.number}: {line['tokens']} booked, {reported[-1]} reported")
        delivered = asked.stream and len(asked.answer.stamps) > 0
        if delivered and not line["tokens"].get("output", 0) + line["tokens"].get("reasoning", 0):
            raise Violated(f"I2: request {asked.number} was answered for nothing: {line['tokens']}")
    grown = rig.growth(rig.proxy.metrics(), "pointsman_tokens_total")
    upstream = sum(value for labels, value in grown.items() if ("source", "upstream") in labels)
    total = sum(grown.values())
    if total != booked:
        raise Violated(f"I2: the metrics count {total:g} tokens, the access log {booked}")
    if not certain <= upstream <= possible:
        raise Violated(f"I2: {upstream:g} tokens are booked as reported; the journals say {certain} to {possible}")


def upstream_calls_end(rig: "Rig", records: dict[int, dict[str, Any]], calls: dict[int, list[Entry]]) -> None:
    """I4."""
    for asked in rig.asked:
        if asked.left is None:
            continue
        for entry in calls.get(asked.number, []):
            late = (entry.finished or time.time()) - asked.left
            booked = records.get(asked.number)
            if booked is not None and entry.finished is not None:  # a stand-in in a busy thread notices late
                late = min(late, datetime.fromisoformat(booked["timestamp"]).timestamp() - asked.left)
            if late > CANCEL:
                raise Violated(f"I4: request {asked.number}: its upstream call ended {late:.2f} s after its client")


def attempts_are_few(rig: "Rig", records: dict[int, dict[str, Any]], calls: dict[int, list[Entry]]) -> None:
    """I6."""
    for asked in rig.asked:
        line = records.get(asked.number, {"attempts": []})
        entries = [entry for entry in calls.get(asked.number, []) if entry.status is not None]
        if max(len(line["attempts"]), len(entries)) > ATTEMPTS:
            raise Violated(f"I6: request {asked.number} was tried {len(line['attempts'])} times")
        texts = asked.answer.payloads
        ids = {
            data.split(b'"id":"')[1].split(b'"')[0] for data in texts if b'"content":' in data and b'"id":"' in data
        }
        if len(ids) > 1:
            raise Violated(f"I6: request {asked.number} was sent the content of {len(ids)} answers")


def tenants_are_apart(rig: "Rig") -> None:
    """I7."""
    from tests.faults.rig import ORDERS

    for asked in rig.asked:
        for tenant, order in ORDERS.items():
            if tenant != asked.tenant and order.encode() in asked.client.received:
                raise Violated(f"I7: request {asked.number} of {asked.tenant} was given something of {tenant}")


def secrets_stay(rig: "Rig") -> None:
    """I8."""
    from tests.faults.rig import ADMIN_KEY, KEYS, ORDERS, PROMPT_CANARY, UPSTREAM_KEYS, USER_CANARY

    keys = {*KEYS.values(), *UPSTREAM_KEYS.values(), ADMIN_KEY}
    private = {*keys, PROMPT_CANARY, USER_CANARY, *ORDERS.values()}
    _absent("the log", bytes(rig.log_bytes), private)
    _absent("the metrics", rig.proxy.metrics_text().encode(), private)
    seen = b"".join(bytes(asked.client.received) for asked in rig.asked) + bytes(rig.heard)
    _absent("an answer", seen, keys | {PROMPT_CANARY, USER_CANARY})
    for standin in rig.standins:
        own = UPSTREAM_KEYS[standin.persona.name]
        for entry in standin.journal:
            headers = b"\n".join(b": ".join(header) for header in entry.raw_headers)
            _absent(f"a request to {standin.persona.name}", headers + entry.body, keys - {own})


def _absent(where: str, data: bytes, secrets: set[str]) -> None:
    for secret in secrets:
        if secret.encode() in data:
            at = data.index(secret.encode())
            raise Violated(f"I8: {where} holds {secret!r}: {data[max(0, at - 60) : at + 60]!r}")
