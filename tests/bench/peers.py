"""Other gateways, each in a virtual environment of its own that is thrown away with the run."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.process import SUBJECT_CORE, Broken, Process
from tests.bench.subjects import KEY, WORKLOADS, Address, Origins, Starter, Subject, interpreter
from tests.ports import free_port

INSTALL_S = 180
# Known versions only: the releases 1.82.7 and 1.82.8 of litellm were malware.
TENSORZERO = "tensorzero==2026.6.0"
LITELLM = "litellm[proxy]==1.106.2"


def install(folder: Path, requirement: str) -> Path:
    """The interpreter of an environment that holds the package; raises Broken where it cannot be had."""
    home = folder / requirement.partition("=")[0].partition("[")[0]
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter(), "-m", "venv", home], capture_output=True, check=True)
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement]
        try:
            subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
            raise Broken(f"{requirement} does not install here ({type(failure).__name__})") from failure
    return python


# The wheel carries the gateway: the function that patches an OpenAI client starts it and tells where it listens.
_TENSORZERO_GATEWAY = """
import os, sys, types, tensorzero
client = tensorzero.patch_openai_client(types.SimpleNamespace(), config_file=sys.argv[1], async_setup=False)
print(client.base_url, flush=True)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its log
sys.stdin.read()
"""


def tensorzero(origins: Origins, python: Path) -> Subject:
    """Its gateway with observability off, which is its fastest setting; models alone, no templates."""
    config = origins.folder / "tensorzero.toml"
    config.write_text(
        "[gateway]\nobservability.enabled = false\n"
        + "".join(
            f'[models.{work}]\nrouting = ["origin"]\n[models.{work}.providers.origin]\ntype = "openai"\n'
            f'model_name = "stand-in"\napi_base = "{origins.url(work)}/"\napi_key_location = "none"\n'
            for work in WORKLOADS
        )
    )
    process = Process([str(python), "-c", _TENSORZERO_GATEWAY, str(config)], SUBJECT_CORE, talks=True)
    while not (said := process.hear(20)).startswith("http"):
        pass
    address = urlsplit(said)
    assert address.port
    path = f"{address.path}/chat/completions"
    addresses = {work: Address(address.port, f"tensorzero::model_name::{work}", path) for work in WORKLOADS}
    return Subject("tensorzero", process, addresses, process.age_s(), share=0.5, rewritten=True)


def litellm(origins: Origins, python: Path) -> Subject:
    port = free_port()
    config = origins.folder / "litellm.yaml"
    models = "".join(
        f"  - model_name: {work}\n    litellm_params:\n"
        f"      {{model: openai/stand-in, api_base: '{origins.url(work)}', api_key: none}}\n"
        for work in WORKLOADS
    )
    config.write_text(f"general_settings:\n  master_key: {KEY}\nmodel_list:\n{models}")
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Without these it would fetch its price table and send telemetry: everything stays on the loopback.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = Process([*command, "--telemetry", "False"], SUBJECT_CORE, env=quiet)
    ready = process.wait_ready(f"http://127.0.0.1:{port}/health/liveliness", 90)
    addresses = {work: Address(port, work) for work in WORKLOADS}
    return Subject("litellm", process, addresses, ready, share=0.01, rewritten=True)


PEERS: dict[str, tuple[str, Callable[[Origins, Path], Subject]]] = {
    "tensorzero": (TENSORZERO, tensorzero),
    "litellm": (LITELLM, litellm),
}


def starter(name: str, venvs: Path) -> Starter:
    requirement, start = PEERS[name]
    return lambda origins: start(origins, install(venvs, requirement))
