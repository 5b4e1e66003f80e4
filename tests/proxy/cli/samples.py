"""A config with something of everything, for the commands that look at one, and ways to run them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from proxy.cli.main import app

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "cli"

CONFIG = """\
version: 1
keys:
  - {name: search-team, key: "${SEARCH_KEY:-sk-search-0123456789}", tenant: search, policies: [support]}
  - {name: night-team, key: sk-night-0123456789, tenant: night}
upstreams:
  one: {base_url: "${UPSTREAM:-http://127.0.0.1:9/v1}", api_key: "${UPSTREAM_KEY:-sk-upstream-canary}"}
models:
  strong: {at: one, price: {input: 2.5, cached_input: 1.25, output: 10}}
  cheap: {at: one, price: {input: 0.5, output: 2}}
  tuned: {at: one, price: {input: 0.1, output: 0.4}}
  lab: {at: one}
prompts:
  support: prompts/support/
conditions:
  big: {prompt_tokens: {gt: 6000}}
policies:
  support:
    caller_prompt: support@*
    baseline: strong
    routes:
      strong: {model: strong, prompt: support@2}
      cheap: {model: cheap, prompt: support@2, fallback: strong}
      tuned: {model: tuned, fallback: [{to: cheap, if: timeout}, strong], params: {set: {temperature: 0}}}
      lab: {model: lab, fallback: strong}
    rules:
      - {name: gold, when: {header.x-tier: gold}, route: strong}
      - {name: heavy, when: {any: [big, {tools: true}]}, route: strong}
      - {name: night, when: {tenant: night, time: {between: "22:00-06:00", tz: Europe/Berlin}}, route: cheap}
      - {name: canary, when: {header.x-canary-token: sesame}, route: lab}
      - {name: lucky, when: {chance: {lt: 0.02}}, route: lab}
    default: {split: {tuned: 25%, strong: rest}, sticky: user}
  "*": {model: request, at: one}
"""

LONG = "Answer with one JSON object and nothing else. Never promise a date, a sum or an exception. " * 50

PROMPTS = {
    "prompts/support/1.yaml": """\
variables: {company: {required: true}}
messages:
  - system: You are the support assistant of {{ company }}. Find the intent of what the customer writes.
""",
    "prompts/support/2.yaml": f"""\
variables: {{company: {{required: true}}, tone: {{default: friendly}}}}
messages:
  - system: |
      You are the support assistant of {{{{ company }}}}. Be {{{{ tone }}}}.
      {LONG}
  - user: Where is my order?
  - assistant: '{{"intent": "order_status"}}'
""",
}

# what a caller sends who still has version 1, and one who changed it
OLD_PROMPT = "You are the support assistant of Initech. Find the intent of what the customer writes."
NEAR_PROMPT = "You are the support assistant of Initech. Find out what on earth the customer wants."

VARIABLES = {"variables": {"company": "ACME"}}


def write(folder: Path, config: str = CONFIG, **files: str) -> Path:
    """The config and its prompts; `files` by name, with `__` for a dot."""
    given = {name.replace("__", "."): text for name, text in files.items()}
    for name, text in {"pointsman.yaml": config, **PROMPTS, **given}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "pointsman.yaml"


def ask(text: str = "Where is my order?", model: str = "support", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "pointsman": VARIABLES, **more}


def run(*args: str, given: str | None = None, env: dict[str, str | None] | None = None) -> Any:
    """A command in this process."""
    return CliRunner().invoke(app, list(args), input=given, env=env, prog_name="pointsman")


def child(
    *args: str, given: str = "", cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The real command, as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *args],
        input=given,
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "80", **(env or {})},
        timeout=60,
        check=False,
    )
