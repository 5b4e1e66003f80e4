"""Request parameters changed for a model or a route: default, set, drop, rename."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Params:
    def apply(self, body: dict[str, Any]) -> None:
        raise NotImplementedError
