"""The manifests: they select one another, probe the right listener, and leave time to drain."""

from typing import Any

import yaml

from tests.deploy.prometheus import DEPLOY

FOLDER = DEPLOY / "kubernetes"
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (found["kind"], found.get("metadata", {}).get("name", "")): found
    for path in sorted(FOLDER.glob("*.yaml"))
    for found in yaml.safe_load_all(path.read_text())
}
DEPLOYMENT = OBJECTS["Deployment", "pointsman"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
DATA = OBJECTS["ConfigMap", "pointsman"]["data"]
CONFIG = yaml.safe_load(DATA["pointsman.yaml"])
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}


def seconds(written: str) -> int:
    return int(written.removesuffix("s"))


def test_kustomization_lists_files_that_exist() -> None:
    listed = OBJECTS["Kustomization", ""]["resources"]
    assert all((FOLDER / name).is_file() for name in listed)
    assert {path.name for path in FOLDER.glob("*.yaml")} - {*listed, "kustomization.yaml"} == {"servicemonitor.yaml"}


def test_everything_selects_the_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        OBJECTS["PodDisruptionBudget", "pointsman"]["spec"]["selector"]["matchLabels"],
        OBJECTS["Service", "pointsman"]["spec"]["selector"],
        OBJECTS["Service", "pointsman-admin"]["spec"]["selector"],
        *[each["labelSelector"]["matchLabels"] for each in POD["topologySpreadConstraints"]],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_ports_are_those_of_the_config() -> None:
    assert {f"0.0.0.0:{PORTS['http']}", f"0.0.0.0:{PORTS['admin']}"} == {
        CONFIG["server"]["listen"],
        CONFIG["server"]["admin"],
    }
    for name, port in (("pointsman", "http"), ("pointsman-admin", "admin")):
        (served,) = OBJECTS["Service", name]["spec"]["ports"]
        assert (served["port"], served["targetPort"]) == (PORTS[port], port)


def test_scrapes_reach_the_admin_service_under_the_job_that_alerts_expect() -> None:
    monitor = OBJECTS["ServiceMonitor", "pointsman"]["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    labels = OBJECTS["Service", "pointsman-admin"]["metadata"]["labels"]
    assert wanted <= labels.items()
    assert not wanted <= OBJECTS["Service", "pointsman"]["metadata"]["labels"].items()
    assert labels[monitor["jobLabel"]] == "pointsman"
    assert monitor["endpoints"][0]["port"] == "admin"


def test_probes_ask_the_admin_listener() -> None:
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert all(probe["port"] == "admin" for probe in probes.values())


def test_there_is_time_to_stop() -> None:
    """Kubelet notices before the listener closes, and waits until the last stream may have ended."""
    server = CONFIG["server"]
    readiness = CONTAINER["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < seconds(server["announce"])
    assert POD["terminationGracePeriodSeconds"] > seconds(server["announce"]) + seconds(server["drain"])


def test_config_names_what_is_mounted() -> None:
    paths = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert paths.keys() == {volume["name"] for volume in POD["volumes"]}
    assert CONTAINER["args"] == ["serve", "-c", f"{paths['config']}/pointsman.yaml"]
    secrets = [CONFIG["keys"][0]["key"], CONFIG["upstreams"]["openai"]["api_key"]]
    assert all(secret.startswith(f"file:{paths['secrets']}/") for secret in secrets)
    assert CONFIG["prompts"] == {"support": "."}
    assert "support.1.yaml" in DATA


def test_container_is_confined() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert f"USER {POD['securityContext']['runAsUser']}:" in (DEPLOY / "Dockerfile").read_text()
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
