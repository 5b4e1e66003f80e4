"""The systemd unit."""

from tests.deploy.prometheus import DEPLOY

LINES = [
    line.partition("=")[::2]
    for line in (DEPLOY / "systemd/pointsman.service").read_text().splitlines()
    if "=" in line and not line.startswith("#")
]
UNIT = dict(LINES)
LONGEST_DRAIN = 600  # seconds: the default of server.drain


def test_checks_the_config_that_it_serves() -> None:
    check, serve = UNIT["ExecStartPre"].split(), UNIT["ExecStart"].split()
    assert (check[0], check[2:]) == (serve[0], serve[2:])
    assert (check[1], serve[1]) == ("check", "serve")


def test_drains_before_it_kills() -> None:
    """Only the supervisor is asked to stop; the workers' answers end first."""
    assert UNIT["KillMode"] == "mixed"
    assert int(UNIT["TimeoutStopSec"]) > LONGEST_DRAIN


def test_reloads_by_signal() -> None:
    assert UNIT["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_secrets_are_the_services_own() -> None:
    assert UNIT["DynamicUser"] == "yes"
    credentials = [value.partition(":")[2] for name, value in LINES if name == "LoadCredential"]
    assert credentials
    assert all(path.startswith("/etc/pointsman/secrets/") for path in credentials)
