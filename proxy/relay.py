"""The `Relay` effect: send a body to a route's model and relay the answer to the caller.

Until the first content event nothing of an attempt reaches the caller, so that another one may still answer; the
status is held meanwhile. After it, a failure is an event in the stream.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, cast

from policies.decision import Decision
from policies.facts import Facts
from proxy.account import Account, Trial
from proxy.deadlines import Deadlines
from proxy.exchange import Exchange
from proxy.heads import Heads
from proxy.hedging import Race, hedged
from proxy.hold import WAITING, Hold
from proxy.means import Means
from proxy.retrying import Retrying, Silent, Wait
from proxy.runtime import Endpoint, Model
from proxy.sending import encoded
from proxy.upstreams.balance import Place, Rotation, Turn
from proxy.upstreams.base import Call, Failed, Reply
from proxy.upstreams.classify import classify, from_error_object
from proxy.upstreams.redact import secrets_of
from proxy.wire import answer
from proxy.wire.stream import Stream
from routes import failure
from routes.chat import with_stream_usage
from routes.effects import Relay, Relayed

CHAT = b"/chat/completions"
MAX_ANSWER = 64 * 1024 * 1024  # bytes of a JSON answer kept to be judged
MAX_HELD = 256 * 1024  # bytes of a stream's events before its first content
REST = 0.5  # seconds for a stream's body to end after its [DONE]
ANSWERED: Final = Relayed()  # one for all: nobody may change it
MAX_ERROR = 256 * 1024  # bytes of an error's body read: servers quote the request they refuse


class Relaying:
    """All attempts of one request: what the caller has had so far, and the last failure."""

    def __init__(
        self,
        exchange: Exchange,
        account: Account,
        decision: Decision,
        facts: Facts,
        means: Means,
        heads: Heads,
        forwarded: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self.exchange = exchange
        self.account = account
        self.decision = decision
        self.facts = facts  # what affinity looks at
        self.upstreams = means.upstreams
        self.rotations = means.rotations
        self.learned = means.learned
        self.orphans = means.orphans
        self.heads = heads
        self.forwarded = forwarded  # the few of the caller's headers that models may see
        self._loop = asyncio.get_running_loop()

        # Here rather than on the class, where to read what has not changed yet takes several times as long.
        self.failed: Failed | None = None  # of the last attempt
        self.retry_after: float | None = None  # the smallest that any attempt was told
        self.committed = False  # content has gone out: no other answer is possible
        self.served = False  # an answer has gone out whole
        self.last: Trial | None = None  # the newest, or the one that answers
        self.stream: Stream | None = None  # the one whose content went out
        self.answer: bytes | None = None  # a whole answer, ready to be sent
        self.race: Race | None = None  # of two calls for the first content
        self.orphan: asyncio.Task[Failed | None] | None = None  # a call that goes on although the caller has left
        self._asked = False  # the caller asked for a stream's usage
        self._hold: Hold | None = None
        self._seat: Place | None = None  # taken for a call that is about to be moved there

    end: float  # of the attempt's total time

    async def relay(self, effect: Relay) -> Relayed:
        """Call the route's model: one endpoint, or one after the other while they fail and another may be asked."""
        account, route = self.account, effect.route
        snapshot, now = account.snapshot, self._loop.time()
        model = snapshot.models[route.model]
        rotation = self.rotations.of(model, snapshot.ejection)
        self.rotations.begin(rotation, now)
        place = rotation.choose(now, (), self._key(model))
        if place is None:
            self._remember(rotation.refusal(now))
            return Relayed(failure=failure.RATE_LIMITED)
        if model.forwards:
            model = model.asking(account.asked)
        self._asked = with_stream_usage(effect.body)
        tried = [place]
        if route.hedge is not None and rotation.is_pool:
            failed = await hedged(self, effect, model, rotation, tried, route.hedge)
        else:
            data = encoded(effect.body, model.endpoints[place.index])
            failed = await self._made(self.call(effect, data, model, rotation, tried, None), place)
        if failed is not None:
            failed = await self._again(effect, model, rotation, tried, failed)
        elif self.rotations.suspects and rotation.is_pool:  # a request that is answered in the end is no suspect
            self.rotations.suspects.pop(hash(self.exchange.body), None)
        return self._relayed(failed)

    async def _again(
        self, effect: Relay, model: Model, rotation: Rotation, tried: list[Place], failed: Failed
    ) -> Failed | None:
        """Call once more, and again, while that may help."""
        retrying = Retrying(self, rotation, effect.route, tried)
        while (place := await retrying.next(failed, self._loop.time())) is not None:
            data = encoded(effect.body, model.endpoints[place.index])
            again = await self._made(self.call(effect, data, model, rotation, tried, self.end), place)
            if again is None:
                return None
            failed = again
        retrying.judge(failed, self._loop.time())
        return failed

    def _relayed(self, failed: Failed | None) -> Relayed:
        if failed is None:
            return ANSWERED
        spent = len(self.account.attempts) >= self.account.snapshot.retries.attempts
        return Relayed(failure=failed.failure, committed=self.committed, spent=spent)

    async def call(
        self,
        effect: Relay,
        data: bytes,
        model: Model,
        rotation: Rotation,
        tried: list[Place],
        end: float | None,
    ) -> Failed | None:
        """One attempt, at the last of the places, booked."""
        account, place = self.account, tried[-1]
        wait: Wait | None = None
        trial = self.last = account.open_trial(effect.route, effect.role, model, model.endpoints[place.index])
        if account.stream and self._hold is None:
            limits = account.snapshot.server.limits
            self._hold = Hold(limits.hold, limits.keep_alive_comment, self._comment)
        if self.race is not None:
            self.race.enter(trial)
        if rotation.is_pool:
            wait = Wait(self, rotation, effect.route, tried, cast("asyncio.Task[object]", asyncio.current_task()))
            turn = trial.turn = rotation.begin(place, self._loop.time(), account.stream, wait)
        else:
            turn = trial.turn = rotation.begin(place)
        result = "cancelled"
        try:
            await self._attempt(trial, data, end)
            result = "ok"
        except Failed as failed:
            result = failed.failure
            return self._failed(turn, failed)
        except asyncio.CancelledError:
            if wait is None or not wait.is_over():
                raise
            result = failure.TIMEOUT
            return self._failed(turn, Silent(trial.endpoint.target.name))
        finally:
            turn.end()
            cost = account.close_trial(trial, result, self.learned).cost.total
            if cost:
                self.rotations.pay(rotation, cost, result not in ("ok", "cancelled"))
        self._complete(trial)
        return None

    def _made(self, call: Coroutine[Any, Any, Failed | None], place: Place) -> Coroutine[Any, Any, Failed | None]:
        return self._outlive(call, place.endpoint) if place.endpoint.bills_after_disconnect else call

    async def _outlive(self, call: Coroutine[Any, Any, Failed | None], endpoint: Endpoint) -> Failed | None:
        """A call whose vendor bills its whole answer, also when the caller leaves: then it goes on, for its usage."""
        task = self._loop.create_task(call, name="a call that outlives its client")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not self.outlives(task, endpoint):
                task.cancel()
                await asyncio.wait((task,))  # until it is booked
            raise

    def outlives(self, call: asyncio.Task[Failed | None], endpoint: Endpoint) -> bool:
        """Let a call go on, whoever waits for it being cancelled: if the caller has left, and it is billed anyway."""
        if not (endpoint.bills_after_disconnect and self.exchange.disconnected) or call.done():
            return False
        if self.orphans.adopt(call):
            self.orphan = call
        return self.orphan is call

    # --- another endpoint

    def _key(self, model: Model) -> str | None:
        """What stays at one endpoint."""
        if model.affinity == "none":
            return None
        own = self.facts.user if model.affinity == "user" else self.facts.session
        return own or self.facts.conversation

    def _failed(self, turn: Turn, failed: Failed) -> Failed:
        self._remember(failed)
        turn.failed(self._loop.time(), failed, self.is_suspect())
        return failed

    def is_suspect(self) -> bool:
        """Whether this very request has just failed at one endpoint after another."""
        rotations = self.rotations
        return bool(rotations.suspects) and rotations.is_suspect(hash(self.exchange.body), self._loop.time())

    def take_seat(self, place: Place) -> None:
        """Keep one of its `max_in_flight` until `leave_seat`, which whoever calls it, or the request's end, does."""
        self._seat = place
        place.health.in_flight += 1

    def leave_seat(self) -> None:
        if self._seat is not None:
            self._seat.health.in_flight -= 1
            self._seat = None

    def close(self) -> None:
        self.leave_seat()
        if self._hold is not None:
            self._hold.end()

    # --- one attempt

    async def _attempt(self, trial: Trial, body: bytes, end: float | None) -> None:
        deadlines = Deadlines(trial.route, trial.endpoint.timeouts, self._loop, self.account.stream, end)
        self.end = deadlines.end
        call = Call(CHAT, body, self.forwarded, self.account.stream, deadlines.connect, deadlines.tls)
        upstream = self.upstreams.get(trial.endpoint.target)
        waited = time.perf_counter()
        try:
            reply = await upstream.send(call, deadlines.first)
        except Failed as failed:
            raise deadlines.explain(failed, False) from None
        finally:
            self.account.waited += time.perf_counter() - waited
        try:
            trial.status = reply.status
            if not 200 <= reply.status < 300:
                error = await self._read_error(reply, deadlines)
                secrets = secrets_of(trial.endpoint.target)
                raise classify(reply.status, reply.headers, error, model=trial.model.name, secrets=secrets)
            trial.billable = True
            if self.account.stream:
                await self._stream(reply, trial, deadlines)
            else:
                await self._whole(reply, trial, deadlines)
        except answer.ErrorObject as found:
            trial.billable = found.after_content  # an error in place of an answer is not billed
            secrets = secrets_of(trial.endpoint.target)
            raise from_error_object(found.error, model=trial.model.name, secrets=secrets) from None
        finally:
            reply.close()

    async def _whole(self, reply: Reply, trial: Trial, deadlines: Deadlines) -> None:
        """Read and judge a JSON answer; it is sent once the attempt is booked, with its cost."""
        data = await self._read_all(reply, trial, deadlines, MAX_ANSWER)
        read = answer.read(data, trial.model.name)
        trial.usage, trial.characters, trial.answered_model = read.usage, read.characters, read.model
        self._saw_content(trial)
        if self.race is not None:
            self.last = trial
            await self.race.won(trial)
        self.answer = data

    async def _stream(self, reply: Reply, trial: Trial, deadlines: Deadlines) -> None:
        content_type = reply.headers.get(b"content-type", b"")
        if not content_type.startswith(b"text/event-stream") and not is_stream(content_type):
            await self._not_a_stream(reply, trial, deadlines, content_type)
        trial.held = []
        stream = Stream(trial.model.name, self._asked)
        try:
            await self._events(reply, trial, deadlines, stream)
        finally:
            trial.usage, trial.characters, trial.answered_model = stream.usage, stream.characters, stream.model

    async def _events(self, reply: Reply, trial: Trial, deadlines: Deadlines, stream: Stream) -> None:
        """Hold events until one has content; from then on relay them as they come."""
        exchange, account = self.exchange, self.account
        waited = time.perf_counter()
        try:
            while True:
                data = await reply.read(deadlines.first)
                now = time.perf_counter()
                account.waited += now - waited
                waited = now
                out = stream.feed(data) if data else stream.end()
                if stream.content:
                    break
                if out:
                    self._hold_back(out, trial)
                if stream.done:
                    raise Failed(failure.BAD_ANSWER, f"model '{trial.model.name}' ended its stream without an answer")
            if self.race is not None:
                self.last = trial
                await self.race.won(trial)
            self._commit(trial, stream)
            exchange.write(out)
            await self._flow(reply, stream, deadlines)
        except Failed as failed:
            if self.stream is not stream or not (stream.is_whole or stream.done):
                raise deadlines.explain(failed, stream.content) from None
            exchange.write(stream.left)
            exchange.write(stream.end())  # all that is missing is [DONE], or the usage
        finally:
            account.waited += time.perf_counter() - waited  # after the first content nearly all time is waiting
        exchange.finish()  # the caller has it all, and may go
        await self._rest(reply)

    def _hold_back(self, out: bytes, trial: Trial) -> None:
        trial.held.append(out)
        if sum(map(len, trial.held)) > MAX_HELD:  # rarely more than the role chunk
            name = trial.model.name
            raise Failed(
                failure.BAD_ANSWER, f"model '{name}' sent more than {MAX_HELD} bytes of events without content"
            )

    async def _flow(self, reply: Reply, stream: Stream, deadlines: Deadlines) -> None:
        """Relay content as it comes, without waking this task for each event."""
        exchange = self.exchange

        def take(data: bytes) -> float | None:
            exchange.write(stream.feed(data))
            if stream.done or exchange.is_congested:
                return None
            return deadlines.next(stream.characters)

        while not stream.done:
            if not await reply.pour(take, deadlines.next(stream.characters)):
                exchange.write(stream.end())
            if exchange.is_congested:
                await exchange.drain(deadlines.client)
                if self._loop.time() > deadlines.end:
                    raise Failed(failure.TIMEOUT, f"model '{stream.config_model}' could not end its answer in time")

    async def _rest(self, reply: Reply) -> None:
        """After [DONE], let the body end too, so that the connection can serve again; but not for long."""
        self.exchange.keep()
        until = self._loop.time() + REST
        waited = time.perf_counter()
        try:
            while await reply.read(until):
                pass
        except (Failed, asyncio.CancelledError):
            return  # the answer is whole; only the connection is lost
        finally:
            self.account.waited += time.perf_counter() - waited

    async def _not_a_stream(self, reply: Reply, trial: Trial, deadlines: Deadlines, content_type: bytes) -> None:
        """Judge a 2xx answer to a streamed request that is not an event stream: an error object, or garbage."""
        data = await self._read_all(reply, trial, deadlines, MAX_ERROR)
        trial.usage = answer.read(data, trial.model.name).usage
        kind = content_type.decode("latin-1") or "nothing"
        raise Failed(
            failure.BAD_ANSWER, f"model '{trial.model.name}' was asked for an event stream and sent {kind[:60]}"
        )

    async def _read_all(self, reply: Reply, trial: Trial, deadlines: Deadlines, limit: int) -> bytes:
        """Read a body to its end. Its bytes stand for what was generated, should it turn out to be no answer."""
        parts: list[bytes] = []
        waited = time.perf_counter()
        try:
            while data := await reply.read(deadlines.first):
                parts.append(data)
                trial.characters += len(data)
                if trial.characters > limit:
                    raise Failed(failure.BAD_ANSWER, f"the model's answer is larger than {limit} bytes")
        except Failed as failed:
            raise deadlines.explain(failed, False) from None
        finally:
            self.account.waited += time.perf_counter() - waited
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _saw_content(self, trial: Trial) -> None:
        trial.saw_content()
        trial.turn.answered(self._loop.time(), trial.first_content)

    async def _read_error(self, reply: Reply, deadlines: Deadlines) -> bytes:
        """Read an error's body, or its beginning: the status has said what failed, whatever becomes of the words."""
        found = b""
        waited = time.perf_counter()
        try:
            while len(found) < MAX_ERROR and (data := await reply.read(deadlines.first)):
                found += data
        except Failed:
            return found
        finally:
            self.account.waited += time.perf_counter() - waited
        return found

    # --- the caller's side

    def _commit(self, trial: Trial, stream: Stream) -> None:
        """The first content event is here: from now on this attempt is the answer."""
        self.close()
        self.committed = True
        self.stream = stream
        self._saw_content(trial)
        self.account.saw_content()
        self._start(trial)
        for held in trial.held:
            self.exchange.write(held)

    def _start(self, trial: Trial) -> None:
        if not self.exchange.started:
            attempts = len(self.account.attempts) + 1
            self.exchange.start(200, self.heads.stream(self.account.id, self.decision, trial.route, attempts))

    def _comment(self) -> None:
        if self.last is not None:
            self._start(self.last)
            self.exchange.write(WAITING)

    def _complete(self, trial: Trial) -> None:
        """The attempt is booked: end the stream, or send the whole answer with what it cost."""
        account = self.account
        self.served = True
        account.close_baseline(trial, self.learned)
        if account.stream:
            self.exchange.finish()
            return
        account.saw_content()
        self.committed = True
        data, self.answer = self.answer or b"", None
        if self.race is not None:
            self.exchange.keep()  # the race has yet to end
        self.exchange.reply(200, self.heads.whole(account, self.decision, trial.route), data)

    def _remember(self, failed: Failed) -> None:
        # Its frames hold what was being read, up to megabytes, and us: a cycle that would wait for the collector.
        failed.__traceback__ = failed.__context__ = failed.__cause__ = None
        self.failed = failed
        if failed.retry_after is not None:
            waits = [failed.retry_after] if self.retry_after is None else [failed.retry_after, self.retry_after]
            self.retry_after = min(waits)


def is_stream(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"text/event-stream"
