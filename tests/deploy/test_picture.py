"""The preview page draws every panel in a real browser."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.prometheus import DEPLOY, Prometheus

pytestmark = [pytest.mark.needs("prometheus", "chromium"), pytest.mark.xdist_group("prometheus")]


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", DEPLOY / "grafana/preview/picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_draws_every_panel(picture: ModuleType, prometheus: Prometheus) -> None:
    assert picture.state(prometheus.url, minutes="1", window="1m") == "drawn"


def test_page_says_what_failed(picture: ModuleType) -> None:
    """Without a Prometheus to ask, it is not taken for drawn."""
    assert picture.state("http://127.0.0.1:1") != "drawn"


def test_photograph_is_a_png_of_the_asked_rows(picture: ModuleType, prometheus: Prometheus, tmp_path: Path) -> None:
    output = tmp_path / "top.png"
    picture.photograph(prometheus.url, output, width=1200, until="Money", minutes="1", window="1m")
    image = output.read_bytes()
    assert image.startswith(b"\x89PNG\r\n")
    size = int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
    height = picture.rows_before("Money") * (picture.CELL + picture.GAP) + picture.AROUND
    assert size == (1200 * picture.SCALE, math.ceil(height * picture.SCALE))
