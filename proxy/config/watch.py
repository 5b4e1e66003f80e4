"""Notice that a config's files have changed.

Directories are watched, not files: editors and Kubernetes replace files by renaming (a ConfigMap swaps the
link `..data`). A poll stands behind the watch, for file systems that do not notify. What counts is content: a file
that was only touched is no change.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

import watchfiles

from proxy.config.fingerprint import Fingerprint, fingerprint

QUIET: Final = 0.1  # seconds without a further change before one is told: a save is often several
POLL: Final = 5.0  # seconds between looks where nothing notifies


async def changes(
    files: Callable[[], Mapping[str, Fingerprint]], *, quiet: float = QUIET, poll: float = POLL
) -> AsyncGenerator[None]:
    """Yield whenever the files are not what `files()` says, once things are quiet. Ends only by being closed.

    `files`: what the last load saw, asked again at each look. Where a load leaves it as it was, one is told of
    the same change only once.
    """
    told: tuple[Mapping[str, Fingerprint], Mapping[str, Fingerprint]] | None = None
    while True:
        folders = await asyncio.to_thread(_folders, files())  # as all looks at files: a mount may hang
        async with aclosing(_nudges(folders, quiet, poll)) as nudges:
            async for _ in nudges:
                seen = files()
                now = await asyncio.to_thread(_look, seen)
                if now == seen:
                    told = None
                elif (seen, now) != told:
                    told = seen, now
                    yield
                if await asyncio.to_thread(_folders, files()) != folders:
                    break


def _look(files: Iterable[str]) -> dict[str, Fingerprint]:
    return {file: fingerprint(file) for file in files}


def _folders(files: Iterable[str]) -> list[str]:
    """The folders to watch: those of the files, or the nearest ones that exist; and those that are folders."""
    found = set()
    for file in files:
        if os.path.isdir(file):
            found.add(str(Path(file)))  # and the one it is in: it may become a file
        folder = Path(file).parent
        while not os.path.isdir(folder) and folder != folder.parent:
            folder = folder.parent
        found.add(str(folder))
    return sorted(found)


async def _nudges(folders: list[str], quiet: float, poll: float) -> AsyncGenerator[None]:
    """Yield when something may have happened in the folders, and at least every `poll` seconds."""
    try:
        async with aclosing(_notified(folders, quiet, poll)) as notified:
            async for _ in notified:
                yield
    except (OSError, RuntimeError):  # no inotify left, or a folder went away: the poll goes on alone
        while True:
            await asyncio.sleep(poll)
            yield


async def _notified(folders: list[str], quiet: float, poll: float) -> AsyncGenerator[None]:
    watch = watchfiles.awatch(
        *folders,
        watch_filter=None,
        recursive=False,
        step=int(quiet * 1000),
        debounce=int(quiet * 10_000),
        rust_timeout=int(poll * 1000),
        yield_on_timeout=True,
    )
    first = asyncio.get_running_loop().create_task(_next(watch))
    try:
        await asyncio.sleep(0)
        yield  # the watch is on from here: look for what happened before
        await first
        yield
        async for _ in watch:
            yield
    finally:
        first.cancel()


async def _next(watch: AsyncIterator[object]) -> None:
    await anext(watch)
