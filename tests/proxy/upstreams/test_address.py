"""Names and their addresses, with the resolver played by the test."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import pytest

from proxy.upstreams import address
from proxy.upstreams.address import Addresses, Origin

Rows = list[tuple[object, ...]]


class Resolver:
    """Stands in for getaddrinfo: answers, fails, or hangs until told."""

    def __init__(self) -> None:
        self.answer: list[str] | OSError = ["10.0.0.1"]
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str, port: int, **_: object) -> Rows:
        self.asked += 1
        self.may_answer.wait(10)
        if isinstance(self.answer, OSError):
            raise self.answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port)) for found in self.answer]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@pytest.fixture
async def age(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the loop's clock on for what reads it."""
    loop = asyncio.get_running_loop()
    ahead = 0.0

    class Loop:
        def __getattr__(self, name: str) -> object:
            return getattr(loop, name)

        def time(self) -> float:
            return loop.time() + ahead

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)

    def move(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    return move


NONAME = socket.gaierror(socket.EAI_NONAME, "not known")


class TestAddresses:
    async def test_literals_are_not_looked_up(self, resolver: Resolver) -> None:
        assert await Addresses("127.0.0.1", 80).get() == ["127.0.0.1"]
        assert await Addresses("::1", 80).get() == ["::1"]
        assert not resolver.asked

    async def test_callers_share_one_look_up_and_its_answer(self, resolver: Resolver) -> None:
        resolver.answer = ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
        names = Addresses("a.test", 80)
        found = await asyncio.gather(*(names.get() for _ in range(50)))
        assert found == [["10.0.0.1", "10.0.0.2"]] * 50
        await names.get()
        assert resolver.asked == 1

    async def test_a_cancelled_caller_does_not_cancel_the_others(self, resolver: Resolver) -> None:
        resolver.may_answer.clear()
        names = Addresses("a.test", 80)
        loop = asyncio.get_running_loop()
        first, second = loop.create_task(names.get()), loop.create_task(names.get())
        await asyncio.sleep(0.01)
        first.cancel()
        resolver.may_answer.set()
        assert await second == ["10.0.0.1"]
        assert first.cancelled()

    async def test_an_old_answer_serves_while_the_new_one_is_on_its_way(
        self, resolver: Resolver, age: Callable[[float], None]
    ) -> None:
        """Also when the name server hangs for ever."""
        names = Addresses("a.test", 80)
        await names.get()
        age(address.FRESH + 1)
        resolver.may_answer.clear()
        resolver.answer = ["10.0.0.9"]
        assert await names.get() == ["10.0.0.1"]
        assert await names.get() == ["10.0.0.1"]
        resolver.may_answer.set()
        async with asyncio.timeout(5):
            while await names.get() == ["10.0.0.1"]:
                await asyncio.sleep(0.001)
        assert (await names.get(), resolver.asked) == (["10.0.0.9"], 2)

    async def test_an_old_answer_serves_ten_minutes_of_failures(
        self, resolver: Resolver, age: Callable[[float], None]
    ) -> None:
        names = Addresses("a.test", 80)
        await names.get()
        resolver.answer = NONAME
        for _ in range(9):
            age(60)
            assert await names.get() == ["10.0.0.1"]
            await asyncio.sleep(0.005)
        age(120)
        with pytest.raises(socket.gaierror):
            await names.get()

    async def test_a_failure_is_remembered_for_a_moment(
        self, resolver: Resolver, age: Callable[[float], None]
    ) -> None:
        resolver.answer = NONAME
        names = Addresses("a.test", 80)
        for _ in range(5):
            with pytest.raises(socket.gaierror):
                await names.get()
        assert resolver.asked == 1
        age(address.NEGATIVE + 0.1)
        resolver.answer = ["10.0.0.1"]
        assert await names.get() == ["10.0.0.1"]

    async def test_hung_look_ups_hold_up_nobody_else(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A hundred names whose server is silent, and one that answers at once."""
        quick = Resolver()
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, port, **_: (quick if host == "ok.test" else resolver)(host, port)
        )
        resolver.may_answer.clear()
        loop = asyncio.get_running_loop()
        hung = [loop.create_task(Addresses(f"hung{number}.test", 80).get()) for number in range(100)]
        await asyncio.sleep(0)
        started = time.monotonic()
        assert await Addresses("ok.test", 80).get() == ["10.0.0.1"]
        assert time.monotonic() - started < 2  # not the ten seconds that the others hang
        resolver.may_answer.set()
        await asyncio.gather(*hung)

    async def test_no_thread_is_a_failure_like_others(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another endpoint may be asked; it is no defect of ours."""

        def none_left(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(address._thread, "start_new_thread", none_left)
        with pytest.raises(OSError, match="thread"):
            await Addresses("model.test", 80).get()
        assert not resolver.asked

    async def test_a_name_too_long_for_dns_is_no_crash(self) -> None:
        with pytest.raises(OSError, match="label"):
            await Addresses("a" * 70 + ".test", 80).get()


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "origin", "header"),
        [
            ("https://api.openai.com/v1", Origin("api.openai.com", 443, True, "/v1"), "api.openai.com"),
            ("http://vllm:8000/v1/", Origin("vllm", 8000, False, "/v1"), "vllm:8000"),
            ("http://[::1]:80", Origin("::1", 80, False, ""), "[::1]"),
            ("https://bücher.test:8443", Origin("xn--bcher-kva.test", 8443, True, ""), "xn--bcher-kva.test:8443"),
        ],
    )
    def test_a_base_url_taken_apart(self, url: str, origin: Origin, header: str) -> None:
        assert Origin.parse(url) == origin
        assert origin.host_header == header
