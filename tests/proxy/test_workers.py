"""Several workers on one socket: sums, workers that die or are replaced, a supervisor that dies."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import certifi
import httpx
import psutil
import pytest

from proxy.standins.standin import StandIn
from tests.harness import ROOT, Proxy, until
from tests.proxy.callers import Load, ask, asks, get, paced, streams

CONFIG = """
version: 1
upstreams:
  tuned: {base_url: "TUNED"}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
policies:
  p: {default: {model: tuned}}
"""


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture
def proxy(tuned: StandIn) -> Iterator[Proxy]:
    """For a test that kills."""
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), args=("--workers=2",)) as running:
        yield running


@pytest.fixture(scope="module")
def healthy(tuned: StandIn) -> Iterator[Proxy]:
    """For tests that leave it as it was."""
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), args=("--workers=2",)) as running:
        yield running


def workers(proxy: Proxy) -> list[psutil.Process]:
    return psutil.Process(proxy.pid).children()


def requests(proxy: Proxy) -> float:
    return proxy.metric("pointsman_requests_total")


def wait_until_gone(process: psutil.Process, seconds: float = 20) -> None:
    for _ in until(seconds, f"process {process.pid} to end"):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return


async def test_metrics_are_the_sum_of_all_workers(healthy: Proxy) -> None:
    """200 requests are 200, however often one asks, and on whichever worker they were; it never goes back."""
    before = requests(healthy)
    async with Load(healthy, 8) as load:
        scraped = []
        while load.total < 200:
            scraped.append(await asyncio.to_thread(requests, healthy))
    assert scraped == sorted(scraped)
    assert set(load.seen) == {"200"}
    assert {requests(healthy) - before for _ in range(5)} == {load.total}
    assert healthy.metric("pointsman_request_duration_seconds_count") == before + load.total
    assert healthy.metric("pointsman_cost_usd_total") > 0
    assert healthy.metric("pointsman_inflight_requests") == 0


def test_a_killed_worker_is_replaced_and_its_counters_stay(proxy: Proxy) -> None:
    asks(proxy, 30)
    assert requests(proxy) == 30  # asking collects: what a worker loses is what it did since
    victim, other = workers(proxy)
    victim.kill()
    proxy.wait_for_log('"a worker was started"')
    assert requests(proxy) == 30
    assert {answer.status_code for answer in asks(proxy, 20)} == {200}
    assert requests(proxy) == 50
    pids = [worker.pid for worker in workers(proxy)]
    assert len(pids) == 2
    assert other.pid in pids
    assert victim.pid not in pids


async def test_the_others_serve_on_while_one_is_dead(proxy: Proxy) -> None:
    """Streams on other workers go on, new requests are answered; those of the dead one break off."""
    async with streams(proxy, 12, paced(100)) as running:
        workers(proxy)[0].kill()
        assert (await asyncio.to_thread(ask, proxy)).status_code == 200
        for stream in running:
            await stream.ended()
    whole = [stream for stream in running if stream.is_whole]
    assert 0 < len(whole) < len(running)


def test_a_worker_that_keeps_dying_is_started_with_growing_waits(proxy: Proxy) -> None:
    waits = []
    stable, victim = workers(proxy)
    for round_ in range(1, 5):
        victim.kill()
        started = proxy.wait_for_log('"a worker was started"', round_)
        waits.append(started["waited_s"])
        victim = psutil.Process(started["pid"])
    assert waits == [0.1, 0.5, 1.0, 2.0]
    assert ask(proxy).status_code == 200
    assert stable.is_running()


def test_callers_wait_while_no_worker_lives(proxy: Proxy) -> None:
    """Not ready meanwhile; who connects all the same is answered once a worker is back."""
    for worker in workers(proxy):
        worker.kill()
    for _ in until(10, "it to be not ready"):
        if get(f"{proxy.admin}/readyz").status_code == 503:
            break
    assert ask(proxy).status_code == 200
    for _ in until(20, "it to be ready again"):
        if get(f"{proxy.admin}/readyz").status_code == 200:
            break


async def test_sigusr2_replaces_the_workers_without_a_failed_request(healthy: Proxy) -> None:
    """One by one, under load, with a live stream; the sums stay."""
    old, before = {worker.pid for worker in workers(healthy)}, requests(healthy)
    async with streams(healthy, 4, paced(250)) as running, Load(healthy, 6) as load:
        await load.more(50)
        healthy.signal(signal.SIGUSR2)
        await asyncio.to_thread(healthy.wait_for_log, '"a worker was replaced"', 2)
        await load.more(100)
        scraped = [await asyncio.to_thread(requests, healthy) for _ in range(5)]
        assert scraped == sorted(scraped)
        for stream in running:
            await stream.ended()
            assert stream.is_whole
    assert set(load.seen) == {"200"}
    for _ in until(10, "the old workers to end"):
        if {worker.pid for worker in workers(healthy)}.isdisjoint(old):
            break
    assert len(workers(healthy)) == 2
    assert requests(healthy) == before + load.total + 4
    assert healthy.metric("pointsman_inflight_requests") == 0


async def test_workers_finish_what_runs_when_the_supervisor_is_killed(proxy: Proxy) -> None:
    """They notice the closed line, take nothing new, finish their streams, and end."""
    crew = workers(proxy)
    async with streams(proxy, 4, paced(100)) as running:
        os.kill(proxy.pid, signal.SIGKILL)
        for _ in until(10, "the listener to be closed"):
            try:
                await asyncio.to_thread(get, f"{proxy.url}/healthz")
            except httpx.TransportError:
                break
        for stream in running:
            await stream.ended()
            assert stream.is_whole
    for worker in crew:
        await asyncio.to_thread(wait_until_gone, worker)


async def test_workers_never_outlive_a_killed_supervisor_for_long(tuned: StandIn) -> None:
    """A stream that would go on for minutes is ended with its error event after the drain limit."""
    config = CONFIG.replace("TUNED", tuned.base_url) + "server: {drain: 1s}\n"
    with Proxy(config, args=("--workers=2",)) as proxy:
        crew = workers(proxy)
        async with streams(proxy, 2, paced(10_000)) as running:
            os.kill(proxy.pid, signal.SIGKILL)
            for stream in running:
                await stream.ended()
                assert stream.last["error"]["code"] == "server_shutting_down"
        for worker in crew:
            await asyncio.to_thread(wait_until_gone, worker)


def test_workers_leave_signals_to_the_supervisor(healthy: Proxy) -> None:
    """A signal to the whole group, as Ctrl-C or a service manager sends it, ends nobody early."""
    pids = [worker.pid for worker in workers(healthy)]
    for worker in workers(healthy):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
            worker.send_signal(number)
    assert {answer.status_code for answer in asks(healthy, 10)} == {200}
    assert [worker.pid for worker in workers(healthy)] == pids


def test_connections_are_shared_out(healthy: Proxy) -> None:
    """Of 40 kept connections each worker has some."""
    url = healthy.url.removeprefix("http://").partition(":")
    with_ = [httpx.Client() for _ in range(40)]
    try:
        for client in with_:
            client.get(f"{healthy.url}/healthz")
        port = int(url[2])
        held = [
            sum(c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in worker.net_connections())
            for worker in workers(healthy)
        ]
    finally:
        for client in with_:
            client.close()
    assert sum(held) == 40
    assert min(held) > 0, held


async def test_a_worker_that_hangs_is_replaced(proxy: Proxy) -> None:
    """The other one serves on meanwhile; what hung is counted, and how many requests went with it is told."""
    stopped = workers(proxy)[0]
    stopped.suspend()
    async with Load(proxy, 4) as load:
        await asyncio.to_thread(proxy.wait_for_log, '"a worker is stuck')
        await asyncio.to_thread(proxy.wait_for_log, '"a worker was started"')
    assert set(load.seen) == {"200"}
    assert stopped.pid not in [worker.pid for worker in workers(proxy)]
    assert proxy.metric("pointsman_workers_lost_total", reason="stuck") == 1
    assert proxy.metric("pointsman_workers_lost_total", reason="ended") == 0
    assert proxy.wait_for_log('"a worker ended"')["lost_requests"] == 0


def test_a_machine_that_slept_is_no_reason_to_replace_workers(proxy: Proxy) -> None:
    before = workers(proxy)
    everybody = [psutil.Process(proxy.pid), *before]
    for process in everybody:
        process.suspend()
    time.sleep(5)  # it is the sleep itself: longer than a worker may hang
    for process in reversed(everybody):
        process.resume()
    assert {answer.status_code for answer in asks(proxy, 10)} == {200}
    assert workers(proxy) == before
    assert "stuck" not in proxy.text


def test_as_many_descriptors_as_are_allowed(tuned: StandIn) -> None:
    """The soft limit is for programs that cannot deal with more; workers inherit nothing of it."""
    config = CONFIG.replace("TUNED", tuned.base_url)
    few = ("sh", "-c", 'ulimit -S -n 256 && ulimit -H -n 2000 && exec "$@"', "sh")
    with Proxy(config, args=("--workers=2",), prefix=few) as running:
        assert running.metric("process_max_fds") == 2000


# --- what they serve is what was accepted, whatever the files hold


OPEN = CONFIG.replace("policies:", "keys: [{name: a, key: sk-a-secret-of-this-test}]\npolicies:")


def wait_until_ready(proxy: Proxy) -> None:
    for _ in until(30, "workers that serve"):
        if get(f"{proxy.admin}/readyz").status_code == 200 and len(workers(proxy)) == 2:
            return


def served_without_a_key(proxy: Proxy) -> set[int]:
    return {ask(proxy).status_code for _ in range(12)}


@pytest.mark.parametrize("replaced", ["by a signal", "after a death"])
def test_a_config_that_was_refused_is_not_what_a_new_worker_serves(tuned: StandIn, replaced: str) -> None:
    """Here for want of keys on a listener that others reach: they would spend on the accounts."""
    with Proxy(OPEN.replace("TUNED", tuned.base_url), args=("--workers=2", "--host=0.0.0.0")) as proxy:
        assert served_without_a_key(proxy) == {401}
        before = {worker.pid for worker in workers(proxy)}
        proxy.config.write_text(CONFIG.replace("TUNED", tuned.base_url))
        proxy.wait_for_log("config refused, the last good one stays")
        if replaced == "by a signal":
            proxy.signal(signal.SIGUSR2)
        else:
            for worker in workers(proxy):
                worker.kill()
        for _ in until(30, "other workers"):
            now = {worker.pid for worker in workers(proxy)}
            if len(now) == 2 and not now & before:
                break
        wait_until_ready(proxy)
        assert served_without_a_key(proxy) == {401}


def test_workers_come_back_while_the_file_is_broken(proxy: Proxy) -> None:
    """The last good config stays, they were told."""
    proxy.config.write_text("policies: [")
    proxy.wait_for_log("config refused, the last good one stays")
    for worker in workers(proxy):
        worker.kill()
    wait_until_ready(proxy)
    assert {ask(proxy).status_code for _ in range(12)} == {200}


def test_a_config_that_can_be_read_once_serves_several(tuned: StandIn) -> None:
    """As what a shell substitutes."""
    serve = 'exec timeout -s TERM 15 "$0" -m proxy serve --workers 2 --port 0 -c <(echo "$1")'
    command = ["bash", "-c", serve, sys.executable, CONFIG.replace("TUNED", tuned.base_url)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert '"ready"' in done.stderr, done.stderr


def config_served(proxy: Proxy) -> set[str]:
    return {ask(proxy).headers["x-pointsman-config"] for _ in range(20)}


def test_a_config_that_only_some_workers_could_take_is_taken_back(proxy: Proxy) -> None:
    """LiteLLM is imported in workers of their own, one after the other; here the second cannot have the config."""
    old = config_served(proxy)
    ca = proxy.folder / "ca.pem"
    ca.write_bytes(Path(certifi.where()).read_bytes())
    more = "  vendor: {provider: openai, price: {input: 1, output: 1}}\n"
    more += "  far: {at: far, price: {input: 1, output: 1}}\n"
    far = f'  far: {{base_url: "https://127.0.0.1:1/v1", tls: {{ca: "{ca}"}}}}\n'
    text = proxy.config.read_text()
    text = text.replace("models:\n", f"{far}models:\n{more}")
    proxy.config.write_text(text + "  q: {default: {model: vendor}}\n  r: {default: {model: far}}\n")
    proxy.wait_for_log('"a worker was replaced"')
    ca.unlink()
    proxy.wait_for_log("config refused, the last good one stays")
    assert len(workers(proxy)) >= 2
    assert config_served(proxy) == old


def test_a_config_that_holds_up_every_worker_is_not_served(proxy: Proxy) -> None:
    """A CA that is on a dead mount, say: here a pipe that nobody writes to."""
    old = config_served(proxy)
    os.mkfifo(ca := proxy.folder / "ca.pem")
    text = proxy.config.read_text().replace('"}', f'", tls: {{ca: "{ca}"}}}}', 1).replace("http://", "https://")
    proxy.config.write_text(text)
    proxy.wait_for_log("config refused, the last good one stays")
    wait_until_ready(proxy)
    assert config_served(proxy) == old


def test_a_reload_during_the_start_waits_for_workers_to_judge_it(tuned: StandIn) -> None:
    """Else they would meet it while they start, and what they refuse would end the start of a good config."""
    good = CONFIG.replace("TUNED", tuned.base_url) + "server: {admin_key: sk-admin-of-this-test}\n"
    with Proxy(good, {"ca.pem": "no certificate"}, args=("--workers=2",), wait_until_ready=False) as proxy:
        ca = proxy.folder / "ca.pem"
        text = good.replace('"}', f'", tls: {{ca: "{ca}"}}}}', 1).replace("http://", "https://")
        proxy.config.write_text(text)
        key = {"authorization": "Bearer sk-admin-of-this-test"}
        answer = httpx.post(f"{proxy.admin}/admin/reload", headers=key, timeout=60)
        assert answer.status_code == 409
        assert "an upstream cannot be called" in answer.text
        wait_until_ready(proxy)
        assert {ask(proxy).status_code for _ in range(12)} == {200}
