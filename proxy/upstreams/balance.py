"""Which endpoint of a model is called: by priority, health, weight and load; and which takes over when it fails.

Weights come first: less for failures of late, they draw two candidates, and the first is only passed over for the
second when it is clearly busier or slower. So equal endpoints at low load get their weights in the long run, and a
slow one is left alone.
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from policies.split import encode, score
from proxy.runtime import Endpoint, Model
from proxy.upstreams.base import Failed, Target
from proxy.upstreams.budget import Budget, Retries, Stakes
from proxy.upstreams.health import DECAY, IN, Ejection, Health
from proxy.upstreams.silence import Silence, Waiting
from routes import failure

PENDING: Final = 8  # connects under way to an endpoint; with more it may be a black hole, and others are asked first
CLEARLY: Final = 2.5  # times the cost of the other candidate: less may be noise
FAILING: Final = 16.0  # times its share of failures, and 1, divides its weight: at 10 % it is clearly busier
FILLS: Final = 3.0  # slow starts until one that came back has as many long answers under way as the others
LOOK: Final = 0.05  # seconds between two looks at who has fallen silent
NOISE: Final = 0.1  # seconds of latency that say nothing of a model: a connection opened, a busy moment
SAME_UPSTREAM: Final = 2  # calls of one upstream for one request
FULL_WAIT: Final = 1.0  # seconds a caller is told to wait for a place below `max_in_flight`
SUSPECT_FOR: Final = 10.0  # seconds that a request which failed everywhere is not held against anyone
SUSPECTS: Final = 256  # remembered at most

# The server's fault: they count against its health, and another endpoint may do better.
FAULTS: Final = frozenset({failure.CONNECT, failure.TIMEOUT, failure.UPSTREAM_5XX, failure.BAD_ANSWER, failure.AUTH})
RETRIED: Final = FAULTS | {failure.RATE_LIMITED}


class Place:
    """An endpoint in a model's rotation."""

    __slots__ = ("endpoint", "health", "index", "seed", "upstream", "weight")

    def __init__(self, index: int, endpoint: Endpoint, health: Health, count: int) -> None:
        self.index = index
        self.endpoint = endpoint
        self.health = health
        self.weight = endpoint.weight * count  # 1: a fair share
        self.upstream = endpoint.target.upstream
        self.seed = encode(endpoint.target.name) + encode(endpoint.model)

    @property
    def has_room(self) -> bool:
        limit = self.endpoint.max_in_flight
        return limit is None or self.health.in_flight < limit


class Rotation:
    """The endpoints of one model. `choose` one, then say what became of the call."""

    def __init__(
        self,
        model: Model,
        healths: Sequence[Health],
        ejection: Ejection,
        budget: Budget,
        stakes: Stakes,
        pending: Callable[[Target], int],
        ejected: Callable[[str, str, float], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.model = model
        self.budget = budget
        self.stakes = stakes
        self.places = tuple(
            Place(index, endpoint, health, len(healths))
            for index, (endpoint, health) in enumerate(zip(model.endpoints, healths, strict=True))
        )
        self.ejection = ejection
        self._pending = pending
        self._ejected = ejected
        self._chance = chance
        self._only = self.places[0] if len(self.places) == 1 else None
        self.is_pool = self._only is None
        self._look = 0.0  # when to listen for silence again
        self._groups = tuple(
            tuple(place for place in self.places if place.endpoint.priority == priority)
            for priority in sorted({endpoint.priority for endpoint in model.endpoints})
        )

    @property
    def in_flight(self) -> int:
        return sum(place.health.in_flight for place in self.places)

    # --- choosing

    def choose(self, now: float, tried: Sequence[Place] = (), key: str | None = None) -> Place | None:
        """The endpoint to call now; None when none may be asked: `refusal` says why.

        `tried`: those that have failed this request. `key`: what should stay at one endpoint.
        """
        if self._only is not None:
            # Never left out, not even while it cools: nobody could answer instead, and what one large request was
            # refused, a small one may get.
            return self._only if not tried and self._only.has_room else None
        if now >= self._look:
            self._listen(now)
        for group in self._groups:
            left = [place for place in group if place.has_room and may(place, tried)] if tried else group
            found = self._of_group(left, now, not tried, key)
            if found is not None:
                return found
        return self._guessed(now, tried)

    def _of_group(self, group: Sequence[Place], now: float, may_probe: bool, key: str | None) -> Place | None:
        ready = []
        for place in group:
            health = place.health
            if health.is_out:
                if may_probe and health.is_due(now) and place.has_room:
                    return place
            elif now >= health.cool_until and place.has_room and not (health.is_wary and health.is_awaited):
                ready.append(place)
        if len(ready) < 2:
            return ready[0] if ready else None
        reachable = [place for place in ready if self._pending(place.endpoint.target) < PENDING] or ready
        if key is not None:
            data = encode(key)
            return max(reachable, key=lambda place: score(self._share(place, now), place.seed + data))
        return self._lighter(reachable, now)

    def _guessed(self, now: float, tried: Sequence[Place]) -> Place | None:
        """Where our own guesses alone keep everyone cooling: the one whose time is up first."""
        guessed = [
            place
            for place in self.places
            if not place.health.is_out
            and not (place.health.is_told and now < place.health.cool_until)
            and place.has_room
            and may(place, tried)
        ]
        return min(guessed, key=lambda place: place.health.cool_until, default=None)

    def _share(self, place: Place, now: float) -> float:
        return place.weight * place.health.ramp(now, self.ejection)

    def _lighter(self, ready: Sequence[Place], now: float) -> Place:
        """Draw two by weight, less for failures; the first, unless it is clearly busier or slower."""
        if len(ready) == 1:
            return ready[0]
        penalties = [1 + FAILING * place.health.failure_rate(now, self.ejection) for place in ready]
        shares = [self._share(place, now) / penalty for place, penalty in zip(ready, penalties, strict=True)]
        first = _draw(shares, self._chance())
        share, shares[first] = shares[first], 0.0
        if sum(shares) <= 0:
            return ready[first]
        second = _draw(shares, self._chance())
        one, other = ready[first], ready[second]
        load = (one.health.in_flight + 1) / share / ((other.health.in_flight + 1) / shares[second])
        if not one.health.in_flight:  # not busy, however small its weight: only its failures count
            load = min(load, penalties[first] / penalties[second])
        if now - other.health.back < FILLS * self.ejection.slow_start:
            load = min(load, 1.0)  # of one that has just come back, idleness says nothing
        load *= slowness(one.health, other.health, now)
        return other if load > CLEARLY else one

    # --- refusing

    def wait(self, now: float) -> float:
        """The smallest time until an endpoint may be asked, as far as it is known."""
        cooling = [place.health.cool_until - now for place in self.places if place.health.cool_until > now]
        return min(cooling, default=FULL_WAIT)

    def refusal(self, now: float) -> Failed:
        """Why `choose` found none."""
        wait = self.wait(now)
        full = any(not place.has_room for place in self.places)
        why = "all its endpoints are as busy as they may be" if full else "it asked for a pause"
        message = f"model '{self.model.name}' cannot be called now: {why}"
        return Failed(failure.RATE_LIMITED, message, retry_after=min(wait, FULL_WAIT) if full else wait)

    def begin(self, place: Place, now: float = 0.0, streamed: bool = False, call: Waiting | None = None) -> "Turn":
        """A call of it begins. `call`: what can be taken back when it falls silent; then `now` counts, too."""
        return Turn(self, place, now, streamed, call)

    def eject(self, place: Place, now: float, probe: bool) -> bool:
        """Take it out of rotation, unless no other is left in it."""
        if not probe and not any(other.health.state(now) == IN for other in self.places if other is not place):
            return False
        wait = place.health.eject(now, self.ejection, self._chance())
        self._ejected(self.model.name, place.endpoint.target.name, wait)
        return True

    def _listen(self, now: float) -> None:
        """Whoever has stopped answering is out, and what waits for it goes elsewhere, as far as it may."""
        self._look = now + LOOK
        for place in self.places:
            health = place.health
            if not health.is_awaited:
                continue
            if health.is_out:
                if health.is_probed and health.is_hushed and health.is_silent(now, True):
                    take_back(health)  # the probe: its caller need not wait for the timeout
            elif health.is_silent(now) and self.eject(place, now, False):
                health.is_hushed = True
                take_back(health)

    @property
    def ejected(self) -> int:
        return sum(place.health.is_out for place in self.places)


class Turn:
    """One call of an endpoint while it runs: begun when it is made, to be `end`ed in a `finally`."""

    __slots__ = ("_call", "_had_answered", "_is_probe", "_place", "_rotation", "_silence", "_streak")
    _silence: Silence  # where there is a call

    def __init__(
        self, rotation: Rotation, place: Place, now: float = 0.0, streamed: bool = False, call: Waiting | None = None
    ) -> None:
        self._rotation = rotation
        self._place = place
        self._had_answered = False
        self._is_probe = place.health.begin()
        self._streak = place.health.streak
        self._call = call
        if call is not None:
            self._silence = place.health.silences[streamed]
            self._silence.begin(call, now)

    def answered(self, now: float, latency: float | None) -> None:
        """Content has come, after so many seconds."""
        self._had_answered = True
        if self._call is not None and latency is not None:
            self._silence.answered(self._call, now, latency)
        self._place.health.answered(now, self._rotation.ejection, self._is_probe, latency, self._streak)

    def failed(self, now: float, failed: Failed, is_known: bool = False) -> None:
        """`is_known`: this very request has failed everywhere before, so it is held against no one."""
        rotation, health = self._rotation, self._place.health
        if self._call is not None and failed.failure != failure.TIMEOUT:
            self._silence.heard(now)
        if failed.failure == failure.RATE_LIMITED:
            if rotation.model.forwards:  # the limit may be of one model among those that callers name
                health.answered(now, rotation.ejection, self._is_probe, None, self._streak)
            else:
                health.refused(now, failed.retry_after, self._is_probe)
        elif failed.failure not in FAULTS:
            if not self._had_answered:
                health.answered(now, rotation.ejection, self._is_probe, None, self._streak)
        elif is_known and not self._is_probe:
            return
        elif health.failed(now, rotation.ejection, self._is_probe, self._had_answered):
            rotation.eject(self._place, now, self._is_probe)

    def end(self) -> None:
        if self._call is not None:
            self._silence.end(self._call)
            self._call = None  # it knows its request, which knows this turn
        self._place.health.end(self._is_probe, self._streak)


def take_back(health: Health) -> None:
    """What waits for its first content goes elsewhere, as far as it may; the rest waits on."""
    for silence in health.silences:
        for call in silence:
            call.move()


def may(place: Place, tried: Sequence[Place]) -> bool:
    """Whether it may be asked after those: never twice, and no upstream more than twice."""
    return place not in tried and sum(each.upstream == place.upstream for each in tried) < SAME_UPSTREAM


def slowness(one: Health, other: Health, now: float) -> float:
    """How many times slower `one` is, a tenth of a second aside.

    Old figures lose their weight: whoever is left alone is forgiven in time, and tried by one call at a time.
    """
    a, b = one.latency, other.latency
    if not a or not b:
        return 1.0
    if (one if a > b else other).is_awaited:
        pass
    elif a > b:
        a = b + (a - b) * math.exp((one.measured - now) / DECAY)
    else:
        b = a + (b - a) * math.exp((other.measured - now) / DECAY)
    return (a + NOISE) / (b + NOISE)


def _draw(shares: Sequence[float], chance: float) -> int:
    point = chance * sum(shares)
    last = 0
    for index, share in enumerate(shares):
        if share > 0:
            last = index
            point -= share
            if point < 0:
                break
    return last


class Rotations:
    """Of one worker: every model's rotation. The health of an endpoint outlives reloads that leave it as it is."""

    def __init__(
        self,
        pending: Callable[[Target], int] = lambda target: 0,
        ejected: Callable[[str, str, float], None] = lambda model, endpoint, seconds: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._pending = pending
        self._ejected = ejected
        self.chance = chance
        self._healths: dict[tuple[Target, str], Health] = {}
        self._budgets: dict[str, tuple[Budget, Stakes]] = {}
        # by identity: hashing a model takes longer than choosing; the rotation keeps its model alive
        self._by_id: dict[int, Rotation] = {}
        self.suspects: dict[int, float] = {}  # requests, hashed, that have just failed everywhere: until when
        self.budget = Budget()  # of all models together

    def of(self, model: Model, ejection: Ejection) -> Rotation:
        return self._by_id.get(id(model)) or self._make(model, ejection)

    def _make(self, model: Model, ejection: Ejection) -> Rotation:
        healths = [self._healths.setdefault((each.target, each.model), Health()) for each in model.endpoints]
        budget, stakes = self._budgets.setdefault(model.name, (Budget(), Stakes()))
        made = Rotation(model, healths, ejection, budget, stakes, self._pending, self._ejected, self.chance)
        self._by_id[id(model)] = made
        return made

    def retire(self, models: Mapping[str, Model]) -> None:
        """After a reload: forget what these do not use. Requests of the old snapshot make theirs anew."""
        used = {(each.target, each.model) for model in models.values() for each in model.endpoints}
        self._healths = {key: health for key, health in self._healths.items() if key in used}
        self._budgets = {name: budget for name, budget in self._budgets.items() if name in models}
        self._by_id = {}

    def states(self, models: Collection[Model], now: float) -> list[tuple[str, str, int]]:
        """Model, endpoint and state of each."""
        found = []
        for model in models:
            for each in model.endpoints:
                health = self._healths.get((each.target, each.model))
                found.append((model.name, each.target.name, health.state(now) if health is not None else IN))
        return found

    # --- retries

    def may_retry(self, rotation: Rotation, now: float, limits: Retries, wasted: int) -> bool:
        """Ask both budgets, and note the retry where they allow it."""
        every = sum(health.in_flight for health in self._healths.values())
        if not rotation.budget.allows(now, limits, rotation.in_flight, wasted):
            return False
        if not self.budget.allows(now, limits, every, wasted):
            return False
        rotation.budget.retried(wasted)
        self.budget.retried(wasted)
        return True

    def begin(self, rotation: Rotation, now: float) -> None:
        """A request begins: the budgets for retries grow with it."""
        rotation.budget.begin(now)
        self.budget.begin(now)

    def pay(self, rotation: Rotation, cost: int, is_wasted: bool) -> None:
        rotation.budget.pay(cost, is_wasted)
        self.budget.pay(cost, is_wasted)

    def is_suspect(self, request: int, now: float) -> bool:
        """Whether this request (a hash of it) has just failed at one endpoint after another."""
        return self.suspects.get(request, 0.0) > now

    def suspect(self, request: int, now: float) -> None:
        if len(self.suspects) >= SUSPECTS:
            self.suspects = {each: until for each, until in self.suspects.items() if until > now}
        if len(self.suspects) < SUSPECTS:
            self.suspects[request] = now + SUSPECT_FOR
