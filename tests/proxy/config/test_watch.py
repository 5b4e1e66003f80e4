"""Reloading on real files: saves, renames, link swaps, rotated secrets, and bad files that change nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.config.fingerprint import Fingerprint
from proxy.config.load import Loaded, load
from proxy.config.watch import changes
from proxy.runtime import Holder

GOOD = """
models:
  strong: {base_url: http://127.0.0.1:9101/v1, api_key: file:key, price: {input: 2, output: 8}}
policies:
  NAME: {model: strong}
"""


class Watched:
    """A config that is reloaded as serving would."""

    def __init__(self, path: Path) -> None:
        self.load: Callable[[], Loaded] = lambda: load(path, env={})
        first = self.load()
        assert first.snapshot is not None, first.problems
        self.holder = Holder(first.snapshot)
        self.files = first.files
        self.changes = changes(lambda: self.files, quiet=0.02, poll=0.1)
        self.results: asyncio.Queue[Loaded] = asyncio.Queue()

    async def run(self) -> None:
        async for _ in self.changes:
            loaded = self.load()
            self.files = loaded.files
            if loaded.snapshot is not None:
                self.holder.swap(loaded.snapshot)
            self.results.put_nowait(loaded)

    async def next(self) -> Loaded:
        return await asyncio.wait_for(self.results.get(), 20)

    @property
    def policies(self) -> list[str]:
        return sorted(self.holder.snapshot.services)


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watched]:
    watched = Watched(path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched.run())
        yield watched
        task.cancel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pointsman.yaml").write_text(GOOD.replace("NAME", "one"))
    (tmp_path / "key").write_text("first-key\n")
    return tmp_path


async def test_a_save_is_served(folder: Path) -> None:
    async with watching(folder / "pointsman.yaml") as watched:
        (folder / "pointsman.yaml").write_text(GOOD.replace("NAME", "two"))
        await watched.next()
        assert watched.policies == ["two"]


async def test_a_change_before_the_watch_is_on_is_found_at_once(folder: Path) -> None:
    """Long before the next poll: a start takes a while, and files may change meanwhile."""
    files = load(folder / "pointsman.yaml", env={}).files
    told = changes(lambda: files, poll=3600)
    (folder / "pointsman.yaml").write_text(GOOD.replace("NAME", "two"))
    await asyncio.wait_for(anext(told), 20)
    await told.aclose()


async def test_an_editor_replaces_the_file(folder: Path) -> None:
    """Save to another name, rename over: the inode is a new one."""
    async with watching(folder / "pointsman.yaml") as watched:
        for name in ("two", "three"):
            (folder / ".pointsman.yaml.swp").write_text(GOOD.replace("NAME", name))
            os.replace(folder / ".pointsman.yaml.swp", folder / "pointsman.yaml")
            await watched.next()
            assert watched.policies == [name]


async def test_a_bad_file_never_replaces_a_good_one(folder: Path) -> None:
    async with watching(folder / "pointsman.yaml") as watched:
        before = watched.holder.snapshot
        (folder / "pointsman.yaml").write_text("policies: [")
        refused = await watched.next()
        assert refused.problems[0].code == "yaml-syntax"
        assert watched.holder.snapshot is before
        (folder / "pointsman.yaml").write_text(GOOD.replace("NAME", "two"))
        await watched.next()
        assert watched.policies == ["two"]


@pytest.mark.parametrize("what", ["secret", "include", "prompts", "prompt", "template"])
async def test_what_a_bad_config_misses_may_come_before_it_is_refused(folder: Path, what: str) -> None:
    """Written after the load has found it missing, before anyone else looks: nothing tells of it later."""
    good = GOOD.replace("NAME", "two")
    uses = good.replace("{model: strong}", "{default: {model: strong, prompt: p}}")
    config, missing, content = {
        "secret": (good.replace("file:key", "file:later"), "later", "sk-1"),
        "include": (good + "include: later.yaml\n", "later.yaml", "policies: {}\n"),
        "prompts": (uses + "prompts: {p: later}\n", "later/1.yaml", "messages: [{system: Hi.}]\n"),
        "prompt": (uses + "prompts: {p: later.1.yaml}\n", "later.1.yaml", "messages: [{system: Hi.}]\n"),
        "template": (uses + "prompts: {p: {'1': {messages: [{system: {file: later.md}}]}}}\n", "later.md", "Hi."),
    }[what]

    def load_and_be_late() -> Loaded:
        loaded = load(folder / "pointsman.yaml", env={})
        if loaded.snapshot is None:
            (folder / missing).parent.mkdir(exist_ok=True)
            (folder / missing).write_text(content)
        return loaded

    async with watching(folder / "pointsman.yaml") as watched:
        watched.load = load_and_be_late
        (folder / "pointsman.yaml").write_text(config)
        assert (await watched.next()).snapshot is None
        loaded = await watched.next()
        assert loaded.snapshot is not None, loaded.problems
        assert watched.policies == ["two"]


LONG = "x" * 300  # more than a name may have: looking for it fails, as it does in a folder that may not be entered


@pytest.mark.parametrize(
    "wrong", [f"api_key: file:{LONG}/key", f"tls: {{ca: {LONG}/ca.pem}}, api_key: file:{LONG}/{LONG}/key"]
)
async def test_what_cannot_be_looked_for_does_not_end_the_watch(folder: Path, wrong: str) -> None:
    async with watching(folder / "pointsman.yaml") as watched:
        (folder / "pointsman.yaml").write_text(GOOD.replace("api_key: file:key", wrong))
        assert (await watched.next()).snapshot is None
        (folder / "pointsman.yaml").write_text(GOOD.replace("NAME", "two"))
        await watched.next()
        assert watched.policies == ["two"]


async def test_a_file_that_became_a_folder_may_come_back(folder: Path) -> None:
    """Which the folder itself does not tell: it is gone."""
    config, kept = folder / "pointsman.yaml", folder / "kept.yaml"
    async with watching(config) as watched:
        watched.changes = changes(lambda: watched.files, quiet=0.02, poll=3600)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched.run())
        await asyncio.sleep(0.2)
        config.rename(kept)
        config.mkdir()
        assert (await watched.next()).problems[0].code == "file-unreadable"
        config.rmdir()
        kept.write_text(GOOD.replace("NAME", "two"))
        kept.rename(config)
        while (await watched.next()).snapshot is None:
            pass
        task.cancel()
    assert watched.policies == ["two"]


async def test_a_load_that_fails_is_not_tried_again_and_again(folder: Path) -> None:
    """By a defect of ours, say. The next change is a new try."""
    config = folder / "pointsman.yaml"
    files = load(config, env={}).files
    looks = 0

    def loaded() -> Mapping[str, Fingerprint]:
        nonlocal looks
        looks += 1
        return files

    async def quietly() -> None:
        """Until it has looked some more."""
        async with asyncio.timeout(20):
            enough = looks + 6
            while looks < enough:
                await asyncio.sleep(0.01)

    def save(text: str) -> None:
        """At once: half a text would be a change of its own."""
        (folder / "new").write_text(text)
        os.replace(folder / "new", config)

    told = changes(loaded, quiet=0.02, poll=0.05)
    good = config.read_text()
    for text in ("two", "three"):
        save(good + f"# {text}")
        await asyncio.wait_for(anext(told), 20)
    again = asyncio.create_task(anext(told))
    await quietly()
    assert not again.done()
    save(good)  # as loaded: nothing to tell, and the change after it is a new one
    await quietly()
    assert not again.done()
    save(good + "# three")
    await asyncio.wait_for(again, 20)
    await told.aclose()


async def test_a_rotated_secret_is_read_again(folder: Path) -> None:
    """The new key is in the header; the hash, which knows no secrets, stays."""
    async with watching(folder / "pointsman.yaml") as watched:
        before = watched.holder.snapshot.hash
        (folder / "key").write_text("second-key\n")
        await watched.next()
        assert watched.holder.snapshot.hash == before
        target = watched.holder.snapshot.models["strong"].endpoints[0].target
        assert target.headers == ((b"authorization", b"Bearer second-key"),)


async def test_a_config_map_swaps_its_link(tmp_path: Path) -> None:
    """As the kubelet does it: a new folder, a new link, and one rename over `..data`."""
    mount = tmp_path / "mount"

    def publish(version: str) -> None:
        inside = mount / f"..{version}"
        inside.mkdir(parents=True)
        text = GOOD.replace("file:key", "k-1").replace(
            "{model: strong}", "{default: {model: strong, prompt: support}}"
        )
        (inside / "pointsman.yaml").write_text(text.replace("NAME", version) + "prompts: {support: .}\n")
        (inside / "support.1.yaml").write_text(f"messages: [{{system: You are {version}.}}]\n")
        (mount / "..data_tmp").symlink_to(inside.name)
        os.replace(mount / "..data_tmp", mount / "..data")

    publish("one")
    for name in ("pointsman.yaml", "support.1.yaml"):
        (mount / name).symlink_to(f"..data/{name}")
    async with watching(mount / "pointsman.yaml") as watched:
        hashes = {watched.holder.snapshot.hash}
        for version in ("two", "three"):
            publish(version)
            await watched.next()
            assert watched.policies == [version]
            hashes.add(watched.holder.snapshot.hash)
        assert len(hashes) == 3


async def test_a_new_file_can_match_an_include(folder: Path) -> None:
    (folder / "pointsman.yaml").write_text("include: conf.d/*.yaml\n" + GOOD.replace("NAME", "one"))
    (folder / "conf.d").mkdir()
    async with watching(folder / "pointsman.yaml") as watched:
        (folder / "conf.d" / "more.yaml").write_text("policies: {two: {model: strong}}\n")
        await watched.next()
        assert watched.policies == ["one", "two"]


async def test_touching_is_no_change(folder: Path) -> None:
    """Only the later save is told: the touch before it, with the same content, was none."""
    async with watching(folder / "pointsman.yaml") as watched:
        os.utime(folder / "pointsman.yaml", (1, 1))
        os.utime(folder / "key", (1, 1))
        (folder / "key").write_text("second-key\n")
        await watched.next()
        target = watched.holder.snapshot.models["strong"].endpoints[0].target
        assert target.headers == ((b"authorization", b"Bearer second-key"),)
        assert watched.results.empty()


async def test_the_poll_goes_on_where_nothing_notifies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be out of inotify watches."""

    def no_watches(*folders: str, **options: object) -> None:
        raise OSError("inotify limit reached")

    monkeypatch.setattr("watchfiles.awatch", no_watches)
    async with watching(folder / "pointsman.yaml") as watched:
        (folder / "pointsman.yaml").write_text(GOOD.replace("NAME", "two"))
        await watched.next()
        assert watched.policies == ["two"]


async def test_a_folder_that_comes_later_is_watched(folder: Path) -> None:
    """An include may name a folder that is not there yet."""
    (folder / "pointsman.yaml").write_text("include: later/*.yaml\n" + GOOD.replace("NAME", "one"))
    async with watching(folder / "pointsman.yaml") as watched:
        (folder / "later").mkdir()
        (folder / "later" / "more.yaml").write_text("policies: {two: {model: strong}}\n")
        while watched.policies != ["one", "two"]:
            await watched.next()
