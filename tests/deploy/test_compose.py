"""compose.yaml, checked where no engine can run it: what it names exists, and the parts fit one another."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from proxy.config.load import load
from tests.deploy.prometheus import DEPLOY

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
VOLUMES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
CONFIG: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/pointsman.yaml").read_text())
DEMO_KEY = "demo"  # what `pointsman demo --target` sends


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and mode of each volume."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return [(source, target, "".join(mode)) for source, target, *mode in parts]


def in_repository(service: dict[str, Any], path: str) -> Path:
    """The file that a container sees at this path."""
    for source, target, _ in mounts(service):
        if Path(path).is_relative_to(target):
            return DEPLOY / source / Path(path).relative_to(target)
    raise AssertionError(f"{path} is not mounted")


def listening_port(name: str) -> int:
    service = SERVICES[name]
    if name in ("strong", "tuned"):
        command = service["command"]
        return int(command[command.index("--port") + 1])
    ports = {"pointsman": CONFIG["server"]["listen"].split(":")[1], "prometheus": 9090, "grafana": 3000}
    return int(ports[name])


@pytest.mark.parametrize("name", SERVICES)
def test_runs_as_nobody_on_a_read_only_file_system(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_mounts_exist_and_are_not_written(name: str) -> None:
    for source, _, mode in mounts(SERVICES[name]):
        if source.startswith("."):
            assert (DEPLOY / source).is_dir()
            assert mode == "ro"
        else:
            assert source in VOLUMES


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - OURS))
def test_images_of_others_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_our_services_share_one_image() -> None:
    (build,) = {(DEPLOY / SERVICES[name]["build"]["context"]).resolve() for name in OURS}
    assert build == DEPLOY.parent
    assert all((build / SERVICES[name]["build"]["dockerfile"]).is_file() for name in OURS)
    assert len({SERVICES[name]["image"] for name in OURS}) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_asked_at_the_port_that_listens(name: str) -> None:
    """The proxy's check is the image's own; the load serves nothing."""
    check = SERVICES[name].get("healthcheck")
    if name == "load":
        assert check == {"disable": True}
    elif check is None:
        assert name == "pointsman"
        assert CONFIG["server"]["admin"].split(":")[1] == "8081"
    else:
        assert str(listening_port(name)) in check["test"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_waits_only_for_services_that_report_health(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert SERVICES[other].get("healthcheck", {}).get("disable") is not True


@pytest.mark.parametrize("name", OURS)
def test_addresses_name_services_and_their_ports(name: str) -> None:
    service = SERVICES[name]
    values = [*service.get("environment", {}).values(), *service["command"]]
    for url in filter(lambda value: value.startswith("http"), values):
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port == listening_port(parts.hostname)
        assert parts.path == "/v1"


def test_proxy_runs_the_mounted_config() -> None:
    service = SERVICES["pointsman"]
    command = service["command"]
    assert command[:2] == ["serve", "-c"]
    assert in_repository(service, command[2]) == DEPLOY / "compose/pointsman.yaml"
    published = {port.split(":")[-1] for port in service["ports"]}
    assert published == {CONFIG["server"][name].split(":")[1] for name in ("listen", "admin")}
    assert DEMO_KEY in [key["key"] for key in CONFIG["keys"]]


def test_config_takes_the_addresses_that_compose_gives() -> None:
    """The variables are the ones set, and the defaults say the same."""
    for upstream in CONFIG["upstreams"].values():
        found = re.fullmatch(r"\$\{(\w+):-(.+)\}", upstream["base_url"])
        assert found
        assert SERVICES["pointsman"]["environment"][found[1]] == found[2]


def test_time_to_stop_is_longer_than_the_drain() -> None:
    server = CONFIG["server"]
    needed = sum(int(server[name].removesuffix("s")) for name in ("announce", "drain"))
    assert int(SERVICES["pointsman"]["stop_grace_period"].removesuffix("s")) > needed


def test_prometheus_scrapes_the_admin_listener() -> None:
    service = SERVICES["prometheus"]
    path = service["command"][0].removeprefix("--config.file=")
    config = yaml.safe_load(in_repository(service, path).read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "pointsman"
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"pointsman:{CONFIG['server']['admin'].split(':')[1]}"
    assert all(in_repository(service, f"{Path(path).parent}/{name}").is_file() for name in config["rule_files"])


def test_grafana_finds_data_and_dashboard() -> None:
    service = SERVICES["grafana"]
    provisioning = in_repository(service, "/etc/grafana/provisioning")
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{listening_port('prometheus')}"
    environment = service["environment"]
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert in_repository(service, home).is_file()
    assert (environment["GF_AUTH_ANONYMOUS_ENABLED"], environment["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")


def test_config_is_one_the_proxy_accepts() -> None:
    """No finding at all, with the variables that compose sets."""

    loaded = load(DEPLOY / "compose/pointsman.yaml", env=SERVICES["pointsman"]["environment"])
    assert list(loaded.problems) == []
