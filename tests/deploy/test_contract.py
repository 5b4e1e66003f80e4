"""The check of a page of metrics against the contract, on the stand-in's page."""

import pytest

from tests.deploy.contract import METRICS, breaches
from tests.deploy.exporter import Traffic


@pytest.fixture(scope="module")
def page() -> str:
    return Traffic().text().decode()


def test_the_stand_in_keeps_the_contract(page: str) -> None:
    assert list(breaches(page)) == []


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_metric_is_noticed(page: str, name: str) -> None:
    assert list(breaches(page.replace(name, "other"))) == [f"{name} is missing"]


def test_other_labels_are_noticed(page: str) -> None:
    (first, *_) = breaches(page.replace('hash="', 'digest="'))
    assert first == "pointsman_config_info has ['digest'], not ['hash']"
