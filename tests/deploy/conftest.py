"""One Prometheus for the whole folder, scraping a stand-in for a busy proxy."""

from collections.abc import Iterator

import pytest

from tests.deploy.exporter import Traffic, serving
from tests.deploy.prometheus import Prometheus, scraping, wait_until


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that has seen traffic of every kind. Tests that use it need the program."""
    with serving(Traffic()) as target, scraping(target, tmp_path_factory.mktemp("prometheus")) as running:
        wait_until(lambda: running.has_scraped(3), "three scrapes")
        yield running
