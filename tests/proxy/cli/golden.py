"""Golden files: what a command prints, word for word. `POINTSMAN_GOLDEN=write pytest tests/proxy/cli` renews them."""

import os

from tests.proxy.cli.samples import GOLDEN


def check(name: str, said: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("POINTSMAN_GOLDEN") == "write":
        path.write_text(said)
    assert said == path.read_text(), f"{path.name} differs; POINTSMAN_GOLDEN=write renews it"
