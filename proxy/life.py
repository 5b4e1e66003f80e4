"""Where the process is in its life: starting, ready, or draining. Probes ask, signals tell."""

from typing import Literal

State = Literal["starting", "ready", "draining"]


class Life:
    def __init__(self) -> None:
        self.state: State = "starting"

    def serves(self, now: bool) -> None:
        """Ready, or not: yet, or for a while. Draining is the end: nothing comes after it."""
        if not self.is_draining:
            self.state = "ready" if now else "starting"

    def drains(self) -> None:
        self.state = "draining"

    @property
    def is_draining(self) -> bool:
        return self.state == "draining"

    def readiness(self) -> tuple[int, bytes]:
        """Status and body of `/readyz`: 503 until workers serve, and again once draining is announced."""
        return (200 if self.state == "ready" else 503), b'{"status":"%s"}' % self.state.encode()
