"""The series that a config can reach: labels that fit, and what requests really touch among them."""

from dataclasses import replace

from proxy.meter import reach
from proxy.meter.families import COST, FALLBACKS, FAMILIES, INFLIGHT, OVERHEAD, REQUESTS, RETRIES, UNPRICED
from proxy.meter.metrics import Meters
from routes.route import Hedge
from tests.proxy.meter.samples import service, settled, snapshot

SNAPSHOT = snapshot(service(), service("chat", rules=3), tenants=("search", "chat"))


def test_every_family_of_requests_is_reached_with_the_labels_it_has() -> None:
    found = list(reach.series(SNAPSHOT))
    assert all(len(labels) == len(family.labels) for family, labels in found)
    process = {"shed_total", "connections", "memory_used_ratio", "event_loop_lag_seconds", "workers_lost_total"}
    process |= {"log_lines_dropped_total"}
    config = {"split_share", "config_reloads_total", "config_last_reload_successful", "config_info", "build_info"}
    wanted = {name for name in FAMILIES if name.startswith("pointsman_")}
    wanted -= {f"pointsman_{name}" for name in config | process}
    assert {family.name for family, _ in found} == wanted


def test_every_label_that_config_gives_is_a_name_of_it() -> None:
    names = reach.names(SNAPSHOT)
    assert names["tenant"] == {"search", "chat"}
    assert names["policy"] == {"support", "chat"}
    assert names["rule"] == {"gold0", "gold1", "gold2", "default", "caller-prompt-near"}
    assert names["route"] == {"strong", "tuned", "unpriced"}
    for family, labels in reach.series(SNAPSHOT):
        for label, value in zip(family.labels, labels, strict=True):
            assert label not in names or value in names[label] | {reach.NONE}


def test_fallbacks_are_those_that_routes_have_with_their_causes() -> None:
    found = {labels for family, labels in reach.series(SNAPSHOT) if family is FALLBACKS}
    causes = ("timeout", "connect")
    assert found == {(policy, "tuned", "strong", cause) for policy in ("support", "chat") for cause in causes}


def test_series_that_need_no_traffic_are_there() -> None:
    found = set(reach.series(SNAPSHOT))
    assert (INFLIGHT, (reach.NONE,)) in found
    assert (UNPRICED, ("free",)) in found
    assert {(OVERHEAD, (api,)) for api in reach.APIS} <= found
    assert (REQUESTS, (reach.NONE,) * 6 + ("rejected",)) in found


def test_a_settled_request_finds_all_its_series_made() -> None:
    meters = Meters("0")
    meters.use(snapshot())
    before = made(meters)
    meters.settled(settled())
    assert made(meters) == before


def made(meters: Meters) -> set[tuple[str, tuple[str, ...]]]:
    return {(name, tuple(labels)) for name, series in meters.state().items() for labels, _ in series}


def test_retries_are_those_of_all_models() -> None:
    """Of one endpoint, too: it may be called once more."""
    found = {labels for family, labels in reach.series(SNAPSHOT) if family is RETRIES}
    reasons = ("connect", "timeout", "rate_limited", "upstream_5xx", "bad_answer", "auth")
    assert found == {(model, reason) for model in SNAPSHOT.models for reason in reasons}


def test_a_route_that_is_hedged_can_be_booked_as_the_loser() -> None:
    service = next(iter(SNAPSHOT.services.values()))
    hedged = {name: replace(route, hedge=Hedge(1.0, 0.02)) for name, route in service.routes.items()}
    snapshot = replace(SNAPSHOT, services={service.policy.name: replace(service, routes=hedged)})
    role = COST.labels.index("role")
    for given, wanted in ((SNAPSHOT, False), (snapshot, True)):
        roles = {labels[role] for family, labels in reach.series(given) if family is COST}
        assert ("hedge" in roles) is wanted
