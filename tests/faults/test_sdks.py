"""Row 17 with the official clients, Python's and JavaScript's: a stream that is cut is an error to both."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.faults.conftest import Form
from tests.faults.rig import KEYS, ORDERS, Rig
from tests.faults.rows import Rows

JS = Path(__file__).with_name("js")
WAYS = ("cut after={k}", "cut after={k} how=rst pace=0.001", "error-event after={k}")
AT_ONCE = 8


def faults(tokens: int) -> list[str]:
    """A cut at each place, in each way."""
    return [f"{way.format(k=k)} tokens={tokens}" for k in range(1, tokens) for way in WAYS]


def asking(fault: str) -> str:
    return f"where is my order {ORDERS['acme']}? [[fault {fault}]]"


async def with_python(rig: Rig, asked: list[str]) -> list[dict[str, Any]]:
    """How each ended, and the text until then."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ending(client: openai.AsyncOpenAI, fault: str) -> dict[str, Any]:
        text = ""
        messages: Any = [{"role": "user", "content": asking(fault)}]
        async with gate:
            try:
                stream = await client.chat.completions.create(model="alone", messages=messages, stream=True)
                async for chunk in stream:
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            except openai.APIError as error:
                return {"ended": "api error", "code": error.code, "text": text}
        return {"ended": "complete", "code": None, "text": text}

    url = f"{rig.proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=KEYS["acme"], max_retries=0) as client:
        return await asyncio.gather(*(ending(client, fault) for fault in asked))


def installed(folder: Path) -> Path:
    """The client from npm, as locked, in a folder that lasts. On CI it must be there; elsewhere the test may miss."""
    for file in JS.iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    lock = (folder / "package-lock.json").read_text()
    done = folder / "installed"
    if not done.exists() or done.read_text() != lock:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        got = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if got.returncode and not os.environ.get("CI"):
            pytest.skip(f"npm could not install the client: {got.stderr[-300:]}")
        assert got.returncode == 0, got.stderr
        done.write_text(lock)
    return folder


def with_javascript(rig: Rig, asked: list[str], folder: Path) -> list[dict[str, Any]]:
    ask = {"base_url": f"{rig.proxy.url}/v1", "key": KEYS["acme"], "contents": list(map(asking, asked)),
           "at_once": AT_ONCE}  # fmt: skip
    got = subprocess.run(
        ["node", "ask.mjs"],
        cwd=folder,
        input=json.dumps(ask),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert got.returncode == 0, got.stderr
    found: list[dict[str, Any]] = json.loads(got.stdout)
    return found


def judge(rows: Rows, client: str, asked: list[str], found: list[dict[str, Any]], whole: dict[str, Any]) -> None:
    """A good stream is whole; of cut ones, none is taken for a whole one."""
    assert whole["ended"] == "complete"
    assert len(whole["text"]) > 20
    codes = {each["code"] for each in found}
    silent = [fault for fault, each in zip(asked, found, strict=True) if each["ended"] != "api error"]
    in_band = sum(bool(each["text"]) for each in found)
    assert codes <= {"upstream_bad_answer", "upstream_5xx"}, codes
    rows.add(
        "17c",
        "the same with the official clients, at every place",
        "an error to the Python and the JavaScript client, 100 %",
        f"{client}: {len(found) - len(silent)} of {len(found)}, {in_band} of them after content",
        not silent and in_band > len(found) // 2,
    )


async def test_the_python_client_sees_every_cut(rig: Rig, form: Form, rows: Rows) -> None:
    asked = faults(8 if form == "short" else 60)
    whole, *found = await with_python(rig, ["tokens=8", *asked])
    judge(rows, "Python", asked, found, whole)


@pytest.mark.needs("node", "npm")
@pytest.mark.xdist_group("npm")
async def test_the_javascript_client_sees_every_cut(
    rig: Rig, form: Form, rows: Rows, pytestconfig: pytest.Config
) -> None:
    folder = await asyncio.to_thread(installed, pytestconfig.cache.mkdir("openai-js"))
    asked = faults(8 if form == "short" else 60)
    whole, *found = await asyncio.to_thread(with_javascript, rig, ["tokens=8", *asked], folder)
    judge(rows, "JavaScript", asked, found, whole)
