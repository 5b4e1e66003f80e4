"""Any order of events: requests, chunks, stalls, cuts, leaving clients, reloads good and bad; then the invariants."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.faults.rig import Asked, Rig

T = TypeVar("T")

OPEN = 6  # streams at once
HOLDS = "stall after={k}"  # a model that waits for nothing but its peer's end


class Machine(RuleBasedStateMachine):
    rig: Rig  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.rig.forget()
        self.loop = asyncio.new_event_loop()
        self.live: list[Asked] = []
        self.good = self.rig.proxy.config.read_text()
        self.reloads = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    @rule(policy=st.sampled_from(["alone", "pair", "strong"]), tenant=st.sampled_from(["acme", "bolt"]),
          stream=st.booleans(), usage=st.booleans(),
          fault=st.sampled_from(["", "", "tokens=40", "status=500", "status=429", "reset", "no-usage",
          "malformed after=1",
                                 "truncated", "error-event", "bytewise tokens=3", "gzip", "joined"]))  # fmt: skip
    def request(self, policy: str, tenant: str, stream: bool, usage: bool, fault: str) -> None:
        asked = self.run(self.rig.ask(policy, tenant=tenant, stream=stream, usage=usage and stream, fault=fault))
        assert not asked.ending.startswith("silent"), asked.ending

    @rule(k=st.integers(0, 6), how=st.sampled_from(["cut after={k}", "cut after={k} how=rst", "cut after={k} how=end",
                                                    "error-event after={k}", "bad-chunk after={k}"]))  # fmt: skip
    def cut(self, k: int, how: str) -> None:
        asked = self.run(self.rig.ask("alone", fault=f"{how.format(k=k)} tokens=9"))
        assert asked.ending in ("in-band error", "http error"), asked.ending

    @precondition(lambda self: len(self.live) < OPEN)
    @rule(k=st.integers(1, 5), tenant=st.sampled_from(["acme", "bolt"]))
    def open_stream(self, k: int, tenant: str) -> None:
        asked = self.run(self.rig.start("alone", tenant=tenant, fault=f"{HOLDS.format(k=k)} tokens=9"))
        self.live.append(asked)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def chunk(self, data: st.DataObject) -> None:
        self.run(data.draw(st.sampled_from(self.live)).until(1))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["fin", "rst", "half"]))
    def disconnect(self, data: st.DataObject, how: str) -> None:
        asked = data.draw(st.sampled_from(self.live))
        self.live.remove(asked)
        asked.leave(how)
        self.run(asked.client.__aexit__(None, None, None))

    @rule()
    def reload(self) -> None:
        self.reloads += 1
        self.rig.proxy.config.write_text(f"{self.good}# {self.reloads}\n")

    @rule()
    def bad_reload(self) -> None:
        self.rig.proxy.config.write_text(self.good + "nonsense: [\n")

    def teardown(self) -> None:
        try:
            for asked in self.live:
                asked.leave("rst")
                self.run(asked.client.__aexit__(None, None, None))
            self.rig.proxy.config.write_text(self.good)
            self.rig.check()
        finally:
            with contextlib.suppress(RuntimeError):
                self.loop.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[type[Machine]]:
    with Rig() as rig:
        yield type("Running", (Machine,), {"rig": rig})


@pytest.mark.parametrize("examples", [6, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_any_order_of_events(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            derandomize=examples < 100,
            suppress_health_check=list(HealthCheck),
        ),
    )
