"""A small language for testing routes: `<<` is what the route should ask for, `>>` is what it is told.

    with Playbook(run(route, ask)) as play:
        play << Relay(route, body)
        play >> Relayed(failure="timeout")
        play << FellBack("cheap", "strong", "timeout")   # asks for no answer, so none is given
        ...

A difference is shown line by line; at the end of the block the generator must have finished.
"""

import difflib
import pprint
from collections.abc import Generator
from types import TracebackType
from typing import Any


class Playbook:
    def __init__(self, story: Generator[Any, Any, None]) -> None:
        self.story = story
        self.asked: Any = None  # the effect that waits for its reply
        self.ended = False
        self._seen = False  # whether what is asked for has been looked at
        self._advance(None)

    def __lshift__(self, expected: Any) -> "Playbook":
        """Claim that the story asks for exactly this now."""
        if self.asked is not None and self._seen:
            self._advance(None)
        if self.ended:
            raise AssertionError(f"the story has ended; expected {expected!r}")
        if self.asked != expected:
            raise AssertionError("the story asks for something else\n" + difference(expected, self.asked))
        self._seen = True
        return self

    def __rshift__(self, reply: Any) -> "Playbook":
        """Answer what was asked for."""
        if self.ended:
            raise AssertionError(f"the story has ended; nobody waits for {reply!r}")
        if not self._seen:
            raise AssertionError(f"not looked at yet, before the reply {reply!r}: {self.asked!r}")
        self._advance(reply)
        return self

    def close(self) -> None:
        """Hang up, as the driver does when the caller has gone."""
        self.story.close()
        self.ended = True

    def finish(self) -> None:
        """Claim that the story is over."""
        if not self.ended and self._seen:
            self._advance(None)
        if not self.ended:
            raise AssertionError(f"the story is not finished; it asks for\n{pprint.pformat(self.asked)}")

    def _advance(self, reply: Any) -> None:
        self._seen = False
        try:
            self.asked = self.story.send(reply)
        except StopIteration:
            self.asked, self.ended = None, True

    def __enter__(self) -> "Playbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()


def difference(expected: Any, found: Any) -> str:
    lines = difflib.ndiff(pprint.pformat(expected).splitlines(), pprint.pformat(found).splitlines())
    return "\n".join(["- expected", "+ found", "", *lines])
