"""Row 70, threat T6: how long a wrong key takes to be refused tells nothing of the right one."""

import gc
import math
import random
import statistics
import string
import time
from collections.abc import Callable, Sequence

from proxy.errors import Unauthorized
from proxy.keys import Caller, KeyRing, digest
from tests.faults.client import Answer, Client
from tests.faults.conftest import Form
from tests.faults.rig import KEYS, Rig
from tests.faults.rows import Rows

KEY = "sk-" + "Qw3rTy" * 8
LETTERS = string.ascii_letters + string.digits
RING = KeyRing({digest(KEY): Caller("a", "a"), **{digest(f"sk-other-{n}"): Caller(f"o{n}", "o") for n in range(200)}})


def refused(key: bytes) -> None:
    try:
        RING.caller(b"Bearer " + key)
    except Unauthorized:
        return
    raise AssertionError("a wrong key was taken")


def leaky(key: bytes) -> bool:
    """How not to do it: one character after the other, until one differs."""
    for one, known in zip(key, KEY.encode(), strict=False):  # noqa: SIM110 — it is the loop that tells
        if one != known:
            return False
    return True


def wrong(chance: random.Random, is_near: bool) -> bytes:
    """Another one each time: of a few, it is the places of their digests in a table that are measured. Both kinds
    are made in the same steps, which leave the same behind in the processor's caches."""
    drawn = "".join(chance.choices(LETTERS, k=len(KEY)))
    key = (KEY if is_near else drawn)[:-4] + drawn[-4:]
    return key.encode() if key != KEY else wrong(chance, is_near)


def timed(ask: Callable[[bytes], object], samples: int) -> tuple[list[int], list[int]]:
    """Nanoseconds of each call, near keys and far ones in turns of random order, so that what else the machine does
    falls on both alike. Each key is made before the clock starts: where an old one lies in memory would tell."""
    chance = random.Random(7)
    found: tuple[list[int], list[int]] = ([], [])
    clock = time.perf_counter_ns
    gc.disable()
    try:
        for _ in range(samples):
            for which in (0, 1) if chance.random() < 0.5 else (1, 0):
                key = wrong(chance, which == 0)
                begun = clock()
                ask(key)
                found[which].append(clock() - begun)
    finally:
        gc.enable()
    return found


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Welch's t, of what lies below the 90th percentile of both: above it are interrupts, and not the comparison."""
    bound = statistics.quantiles([*first, *second], n=10)[-1]
    a, b = ([x for x in each if x <= bound] for each in (first, second))
    spread = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    return abs(statistics.fmean(a) - statistics.fmean(b)) / spread


def test_a_keys_comparison_tells_nothing_by_its_time(form: Form, rows: Rows) -> None:
    """T6: a key that is nearly right is refused as fast as one that is not at all."""
    samples = 20_000 if form == "long" else 2_000
    t = statistics.median(welch(*timed(refused, samples)) for _ in range(3))
    control = welch(*timed(leaky, 2_000))
    rows.add(
        70,
        "wrong keys, nearly right and not at all",
        "Welch's t < 4.5 over 20,000 samples each",
        f"t = {t:.2f} over {samples:,}, median of three; of a naive comparison {control:.0f}",
        t < 4.5 and control > 4.5,
    )


async def test_the_answer_to_a_wrong_key_tells_nothing_by_its_time(rig: Rig, form: Form, rows: Rows) -> None:
    """The same through a socket, as an attacker would; and the words are the same."""
    samples = 20_000 if form == "long" else 500
    right = KEYS["acme"]
    near = [right[:-2] + a + b for a in LETTERS for b in LETTERS if a + b != right[-2:]]
    far = [a + b + right[2:][::-1] for a in LETTERS[::-1] for b in LETTERS]
    found: tuple[list[int], list[int]] = ([], [])
    bodies = set()
    chance = random.Random(7)
    async with await Client.open(rig.proxy.url) as client:
        for number in range(samples):
            for which in (0, 1) if chance.random() < 0.5 else (1, 0):
                key = (near, far)[which][number % 3000]
                wire = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode()
                begun = time.perf_counter_ns()
                client.send(wire)
                answer = await client.answer(Answer())
                found[which].append(time.perf_counter_ns() - begun)
                bodies.add((answer.status, bytes(answer.body)))
    assert len(bodies) == 1
    t = welch(*found)
    rows.add(70, "", "", f"through a socket t = {t:.2f} over {samples:,}", t < 4.5 or form == "short")
