"""Reloading a running proxy: every way in which files change, bad files, live streams, and reloads under load."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from proxy.config.load import load
from proxy.standins.standin import StandIn
from tests.harness import Proxy, until
from tests.proxy.callers import Load, ask, asks, paced, streams

CONFIG = """
version: 1
include: conf.d/*.yaml
upstreams:
  tuned: {base_url: "TUNED", api_key: "file:secret"}
models:
  tuned: {at: tuned, price: {input: 0.1, output: 0.4}}
prompts:
  support: support.1.yaml
policies:
  p: {default: {model: tuned, prompt: support}}
"""
FILES = {
    "secret": "sk-first",
    "conf.d/more.yaml": "policies: {more: {default: {model: tuned}}}\n",
    "support.1.yaml": "messages: [{system: Classify the request.}]\n",
}


@pytest.fixture(scope="module")
def tuned() -> Iterator[StandIn]:
    with StandIn("tuned") as standin:
        yield standin


@pytest.fixture(scope="module", params=[1, 2], ids=["1 worker", "2 workers"])
def proxy(request: pytest.FixtureRequest, tuned: StandIn) -> Iterator[Proxy]:
    args = (f"--workers={request.param}",)
    with Proxy(CONFIG.replace("TUNED", tuned.base_url), FILES, args=args) as running:
        yield running


def expected(proxy: Proxy) -> str:
    """The hash of what is on disk."""
    snapshot = load(proxy.config).snapshot
    assert snapshot is not None
    return snapshot.hash


def served(proxy: Proxy) -> set[str]:
    """The hashes that new requests are answered with."""
    return {answer.headers["x-pointsman-config"] for answer in asks(proxy, 12)}


def wait_until_served(proxy: Proxy, hash_: str) -> None:
    """Once the metric tells of a config, every worker answers with it."""
    proxy.wait_for_metric("pointsman_config_info", 1, hash=hash_)
    assert served(proxy) == {hash_}


def reloads(proxy: Proxy, result: str) -> float:
    return proxy.metric("pointsman_config_reloads_total", result=result)


def replace(path: Path, text: str) -> None:
    path.with_name(".new").write_text(text)
    os.replace(path.with_name(".new"), path)


def test_a_save_is_served_and_counted_once(proxy: Proxy) -> None:
    before = reloads(proxy, "success")
    old = expected(proxy)
    proxy.config.write_text(proxy.config.read_text() + "# saved\n  q: {default: {model: tuned}}\n")
    assert expected(proxy) != old
    wait_until_served(proxy, expected(proxy))
    assert ask(proxy, model="q").status_code == 200
    assert reloads(proxy, "success") == before + 1
    assert proxy.metric("pointsman_config_info") == 1, "only the config in use is shown"


def test_an_editor_replaces_the_file(proxy: Proxy) -> None:
    for name in ("r", "s"):
        replace(proxy.config, proxy.config.read_text() + f"  {name}: {{default: {{model: tuned}}}}\n")
        wait_until_served(proxy, expected(proxy))


def test_an_included_file_counts(proxy: Proxy) -> None:
    (proxy.folder / "conf.d/third.yaml").write_text("policies: {third: {default: {model: tuned}}}\n")
    wait_until_served(proxy, expected(proxy))
    assert ask(proxy, model="third").status_code == 200
    (proxy.folder / "conf.d/third.yaml").unlink()
    wait_until_served(proxy, expected(proxy))
    assert ask(proxy, model="third").status_code == 404


def test_a_prompt_file_counts(proxy: Proxy, tuned: StandIn) -> None:
    (proxy.folder / "support.1.yaml").write_text("messages: [{system: Classify it well.}]\n")
    wait_until_served(proxy, expected(proxy))
    ask(proxy)
    assert tuned.journal.last.json["messages"][0]["content"] == "Classify it well."


def test_a_rotated_secret_is_used(proxy: Proxy, tuned: StandIn) -> None:
    """The hash knows no secrets and stays; the upstream sees the new one."""
    hash_, before = expected(proxy), reloads(proxy, "success")
    replace(proxy.folder / "secret", "sk-second\n")
    proxy.wait_for_metric("pointsman_config_reloads_total", before + 1, result="success")
    assert served(proxy) == {hash_}
    assert {entry.header("authorization") for entry in list(tuned.journal)[-12:]} == {"Bearer sk-second"}


def test_sighup_reads_the_same_files_again(proxy: Proxy) -> None:
    before = reloads(proxy, "success")
    proxy.signal(signal.SIGHUP)
    proxy.wait_for_metric("pointsman_config_reloads_total", before + 1, result="success")
    assert served(proxy) == {expected(proxy)}


def test_a_bad_file_changes_nothing_but_metrics_and_the_log(proxy: Proxy) -> None:
    good, hash_ = proxy.config.read_text(), expected(proxy)
    failures, successes = reloads(proxy, "failure"), reloads(proxy, "success")
    proxy.config.write_text(good.replace("{default: {model: tuned, prompt: support}}", "{default: {model: tunde}}"))
    proxy.wait_for_metric("pointsman_config_reloads_total", failures + 1, result="failure")
    assert proxy.metric("pointsman_config_last_reload_successful") == 0
    assert reloads(proxy, "success") == successes
    assert served(proxy) == {hash_}
    problem = proxy.wait_for_log("error[unknown-model]")
    assert problem["level"] == "error"
    assert "pointsman.yaml:11:24: error[unknown-model]" in problem["problem"]
    assert "did you mean 'tuned'?" in problem["problem"]
    proxy.config.write_text(good + "# mended\n")
    proxy.wait_for_metric("pointsman_config_last_reload_successful", 1)
    assert reloads(proxy, "success") == successes + 1
    wait_until_served(proxy, expected(proxy))


def test_what_a_bad_config_misses_may_come_later(proxy: Proxy) -> None:
    """The files of the refused config are watched too: the one that mends it need not be known before."""
    failures = reloads(proxy, "failure")
    good = proxy.config.read_text()
    proxy.config.write_text(good.replace("support.1.yaml", "support.2.yaml"))
    proxy.wait_for_metric("pointsman_config_reloads_total", failures + 1, result="failure")
    (proxy.folder / "support.2.yaml").write_text("messages: [{system: The second version.}]\n")
    proxy.wait_for_metric("pointsman_config_last_reload_successful", 1)
    wait_until_served(proxy, expected(proxy))


async def test_running_streams_finish_on_the_config_they_began_with(proxy: Proxy) -> None:
    old = expected(proxy)
    async with streams(proxy, 4, paced(100)) as running:
        proxy.config.write_text(proxy.config.read_text() + "  later: {default: {model: tuned}}\n")
        await asyncio.to_thread(wait_until_served, proxy, expected(proxy))
        assert not any(stream.is_whole for stream in running), "they outlive the reload"
        for stream in running:
            await stream.ended()
            assert stream.is_whole
            assert stream.response is not None
            assert stream.response.headers["x-pointsman-config"] == old


async def test_reloads_under_load_fail_no_request_and_leak_nothing(proxy: Proxy, tuned: StandIn) -> None:
    """20 reloads, each with an upstream of its own name; memory, descriptors and upstream connections stay."""
    text = proxy.config.read_text()
    workers = [psutil.Process(proxy.pid), *psutil.Process(proxy.pid).children()]
    sizes: list[tuple[int, int]] = []
    async with Load(proxy, 4) as load_:
        for number in range(20):
            proxy.config.write_text(
                text.replace("tuned: {base_url", f"tuned: {{keep_alive: {20 + number}s, base_url")
            )
            await asyncio.to_thread(proxy.wait_for_metric, "pointsman_config_info", 1, hash=expected(proxy))
            await load_.more(20)
            sizes.append((sum(w.memory_info().rss for w in workers), sum(w.num_fds() for w in workers)))
    assert set(load_.seen) == {"200"}
    assert len(load_.hashes) >= 20
    assert sizes[-1][0] < sizes[4][0] * 1.1, f"memory grows: {sizes}"
    assert sizes[-1][1] <= sizes[4][1] + 8, f"descriptors grow: {sizes}"
    for _ in until(10, "the pools of removed upstreams to be closed"):
        if len(tuned.connections) <= 8:
            break


def test_a_config_map_swaps_its_link(tuned: StandIn) -> None:
    """As the kubelet does it: a new folder, a new link, and one rename over `..data`."""
    proxy = Proxy(CONFIG.replace("TUNED", tuned.base_url), FILES)

    def publish(version: str) -> None:
        inside = proxy.folder / f"..{version}"
        inside.mkdir()
        (inside / "pointsman.yaml").write_text(CONFIG.replace("TUNED", tuned.base_url))
        (inside / "support.1.yaml").write_text(f"messages: [{{system: This is {version}.}}]\n")
        (proxy.folder / "..data_tmp").symlink_to(inside.name)
        os.replace(proxy.folder / "..data_tmp", proxy.folder / "..data")

    publish("one")
    for name in ("pointsman.yaml", "support.1.yaml"):
        (proxy.folder / name).unlink()
        (proxy.folder / name).symlink_to(f"..data/{name}")
    with proxy:
        for version in ("two", "three"):
            publish(version)
            wait_until_served(proxy, expected(proxy))
            assert tuned.journal.last.json["messages"][0]["content"] == f"This is {version}."


def test_a_private_listener_never_becomes_an_open_one(tuned: StandIn) -> None:
    """Keys may not go away while others than this machine can reach the listener, whatever the config says of it."""
    keys = "keys: [{name: one, key: sk-one-0123456789}]\n"
    config = CONFIG.replace("TUNED", tuned.base_url)
    with Proxy(config + keys, FILES, args=("--host=0.0.0.0",)) as proxy:
        proxy.config.write_text(config)
        proxy.wait_for_metric("pointsman_config_reloads_total", 1, result="failure")
        proxy.wait_for_log("error[open-listener]")
        assert ask(proxy).status_code == 401
        assert ask(proxy, key="sk-one-0123456789").status_code == 200


def test_what_needs_a_restart_is_said(tuned: StandIn) -> None:
    config = CONFIG.replace("TUNED", tuned.base_url)
    with Proxy(config, FILES) as proxy:
        proxy.config.write_text(config + "server: {workers: 3, listen: 127.0.0.1:9999}\n")
        proxy.wait_for_metric("pointsman_config_reloads_total", 1, result="success")
        proxy.wait_for_log("warning[needs-restart]")
