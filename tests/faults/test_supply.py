"""Row 76 and threat T12: what runs is what is in the repository, and it starts nothing else."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from proxy.standins.standin import StandIn
from tests.faults.client import Answer, Client, request
from tests.faults.conftest import Form
from tests.faults.rows import Rows
from tests.harness import until

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy/locks/serve.txt"
PACKAGES = ("policies", "routes", "proxy")


def add(rows: Rows, measured: str, met: bool) -> None:
    required = "packages ≤ 40; hashes 100 %; `.pth` with code, sockets at import, execve after start: 0; wheel = tree"
    rows.add(76, "supply chain", required, measured, met)


def locked() -> dict[str, str]:
    """What serves, with the text of its pin."""
    blocks = re.split(r"^(?=[\w.-]+==)", LOCK.read_text(), flags=re.MULTILINE)[1:]
    return {block.split("==")[0]: block for block in blocks}


def test_few_packages_each_with_its_hash(form: Form, rows: Rows) -> None:
    pins = locked()
    unhashed = [name for name, block in pins.items() if "--hash=sha256:" not in block]
    add(rows, f"{len(pins)} packages, {len(unhashed)} without a hash", len(pins) <= 40 and not unhashed)


# --- `.pth` files run at every start of Python, imported or not: it is how LiteLLM 1.82.8 stole keys


def code_in(folder: Path) -> list[str]:
    """Lines of `.pth` files that are code, and modules that Python imports by itself."""
    found = [f"{path.name}: {line[:80]}" for path in folder.glob("*.pth") for line in path.read_text().splitlines()
             if line.startswith(("import ", "import\t"))]  # fmt: skip
    return found + [name for name in ("sitecustomize.py", "usercustomize.py") if (folder / name).exists()]


def test_no_package_brings_code_that_runs_at_every_start(form: Form, rows: Rows) -> None:
    """By the records of what is installed here."""
    found = []
    for name in locked():
        try:
            installed = files(name) or []
        except PackageNotFoundError:  # of another platform or Python
            continue
        for path in installed:
            if path.suffix == ".pth" or path.name in ("sitecustomize.py", "usercustomize.py"):
                found.append(str(path))
    add(rows, f"{len(found)} `.pth` {found or ''}", not found)


def test_code_that_runs_at_every_start_is_noticed(form: Form, tmp_path: Path) -> None:
    (tmp_path / "ours.pth").write_text("/srv/app\n")
    assert code_in(tmp_path) == []
    (tmp_path / "litellm_init.pth").write_text("import os, subprocess; subprocess.Popen(['sh'])\n")
    (tmp_path / "sitecustomize.py").write_text("")
    assert len(code_in(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_serving_environment(rows: Rows, tmp_path: Path) -> None:
    """Made from the lock file as the image is: hashes, wheels only, nothing beside them."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "-q", "--python", str(python), "install", "--no-input"]
    for what in (["--require-hashes", "--only-binary=:all:", "-r", str(LOCK)], ["--no-deps", str(wheel(tmp_path))]):
        done = subprocess.run([*pip, *what], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    distributions = [path.name for path in site.glob("*.dist-info") if not path.name.startswith("pointsman-")]
    helped = subprocess.run([python, "-I", "-m", "proxy", "--help"], capture_output=True, timeout=60, check=True)
    assert b"serve" in helped.stdout
    found = code_in(site)
    add(
        rows, f"{len(distributions)} installed, {len(found)} `.pth` with code", len(distributions) <= 40 and not found
    )


# --- the wheel is the tree


def tracked() -> dict[str, bytes]:
    done = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, check=True)
    names = [name for name in done.stdout.decode().split("\0") if name]
    return {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}


def wheel(folder: Path) -> Path:
    """Build from a copy of what is in git, as a release would."""
    tree = folder / "tree"
    for name, data in tracked().items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=tree, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return next((folder / "dist").glob("*.whl"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_wheel_is_the_tree(form: Form, rows: Rows, tmp_path: Path) -> None:
    """Byte for byte, nothing more: the malware in LiteLLM's wheels was never in its repository."""
    with zipfile.ZipFile(wheel(tmp_path)) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    metadata = {name for name in packed if ".dist-info/" in name}
    tree = tracked()
    stray = packed.keys() - metadata - tree.keys()
    missing = tree.keys() - packed.keys()
    changed = [name for name in tree if name in packed and packed[name] != tree[name]]
    assert not [name for name in metadata if name.endswith((".py", ".pth", ".so", ".data"))]
    add(rows, f"wheel: {len(tree)} files, {len(stray)} more, {len(missing)} less, {len(changed)} changed",
        not stray and not missing and not changed)  # fmt: skip


# --- importing does nothing


IMPORT = """
import sys
opened = []
events = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn",
          "os.system", "os.fork")
sys.addaudithook(lambda event, args: opened.append(f"{event} {args}"[:100]) if event in events else None)
import importlib, pkgutil, json
import policies, proxy, routes
modules = [m.name for p in (policies, routes, proxy) for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps([len(modules), opened]))
"""


def test_importing_opens_nothing(form: Form, rows: Rows) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT, timeout=120, check=True
    )
    modules, opened = json.loads(done.stdout)
    assert modules > 100
    add(rows, f"{len(opened)} sockets or programs in importing {modules} modules {opened or ''}", not opened)


# --- T12

# What would run text, unpickle, or start a program. Each exception is one place, and says what it is.
BANNED_MODULES = {
    "subprocess",
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "code",
    "pty",
    "runpy",
    "multiprocessing",
    "ctypes",
}
BANNED_CALLS = {
    "eval", "exec", "compile", "__import__", "system", "popen", "fork", "forkpty", "execv", "execve", "execvp",
    "execl", "spawnv", "spawnl", "posix_spawn", "create_subprocess_exec", "create_subprocess_shell",
    "subprocess_exec", "subprocess_shell", "import_module", "unsafe_load", "full_load", "load_module",
}  # fmt: skip
ALLOWED = {
    ("proxy/hands.py", "create_subprocess_exec"),  # the supervisor starts workers: this program again
    ("proxy/demo/stage.py", "create_subprocess_exec"),  # the demo starts its stand-ins
    ("proxy/allocator.py", "ctypes"),  # the C library's `malloc_trim` and `mallopt`, by these names alone
    ("proxy/cli/main.py", "import_module"),  # of a table of commands that is written there
}


def used(path: Path) -> set[str]:
    """The banned names that a file imports or calls; methods of `re` and the like are told by what they are of."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names} & BANNED_MODULES
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.partition(".")[0]} & BANNED_MODULES
            found |= {alias.name for alias in node.names} & (BANNED_CALLS - {"import_module"})
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name):
                found |= {called.id} & BANNED_CALLS
            elif isinstance(called, ast.Attribute):
                of = called.value.id if isinstance(called.value, ast.Name) else ""
                if not (called.attr == "compile" and of in ("re", "re2")):
                    found |= {called.attr} & BANNED_CALLS
    return found


def test_nothing_that_serves_can_run_a_text_or_a_program(form: Form) -> None:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    uses = {(str(path.relative_to(ROOT)), name) for path in paths for name in used(path)}
    assert uses - ALLOWED == set()
    assert ALLOWED - uses == set(), "no longer needed"


@pytest.mark.parametrize("line", ["import subprocess", "from pickle import loads", "eval('1')", "os.system('x')",
                                  "yaml.unsafe_load(x)", "asyncio.create_subprocess_shell('x')"])  # fmt: skip
def test_what_is_banned_is_noticed(form: Form, tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").write_text(line)
    assert used(tmp_path / "a.py")


CONFIG = """
version: 1
server: {{admin_key: sk-admin-canary-5555555555}}
upstreams: {{tuned: {{base_url: "{url}", api_key: sk-up}}}}
models: {{tuned: {{at: tuned, price: {{input: 1, output: 1}}}}, other: {{at: tuned, price: {{input: 1, output: 1}}}}}}
policies: {{alone: {{routes: {{a: {{model: tuned, fallback: b}}, b: {{model: other}}}}, default: a}}}}
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
async def test_no_program_is_started_while_serving(form: Form, rows: Rows) -> None:
    """All that the kernel is asked to execute, from the start to the end: nothing once it is ready."""
    with StandIn("tuned") as tuned, tempfile.TemporaryDirectory(prefix="strace-") as name:
        folder = Path(name)
        (folder / "pointsman.yaml").write_text(CONFIG.format(url=tuned.base_url))
        trace, log = folder / "trace", folder / "log"
        options = ["--port=0", "--admin-port=0", f"--workers={2 if form == 'long' else 1}"]
        served = [sys.executable, "-m", "proxy", "serve", "-c", str(folder / "pointsman.yaml"), *options]
        command = ["strace", "-f", "-qq", "-e", "trace=execve,execveat", "-o", str(trace), *served]
        with log.open("wb") as said:
            process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        try:
            for _ in until(60, "the proxy to be ready"):
                urls = re.findall(r"http://[\d.]+:\d+", log.read_text())
                if len(urls) >= 2 and await get(urls[1], "/readyz") == 200:
                    break
                assert process.poll() is None, log.read_text()
            before = len(trace.read_text().splitlines())
            for fault in ("", "status=500", "cut after=1", "malformed after=1", "gzip", "huge-header", "truncated"):
                for stream in (True, False):
                    await ask(urls[0], fault, stream)
            for path in ("/metrics", "/healthz", "/admin/config", "/admin/nothing"):
                await get(urls[1], path)
            (folder / "pointsman.yaml").write_text(CONFIG.format(url=tuned.base_url) + "# changed\n")
            for _ in until(30, "the reload"):
                if "config reloaded" in log.read_text():
                    break
            (folder / "pointsman.yaml").write_text(
                "version: 1\nserver: !!python/object/apply:os.system ['touch x']\n"
            )
            for _ in until(30, "the refusal"):
                if "yaml-tag" in log.read_text():
                    break
            after = trace.read_text().splitlines()[before:]
        finally:
            traced = children(process.pid)
            for pid in traced[:1]:
                os.kill(pid, signal.SIGTERM)
            process.wait(60)
    add(rows, f"{len(after)} execve after start", before >= 1 and not after)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def get(url: str, path: str) -> int:
    try:
        async with await Client.open(url) as client:
            client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            return (await client.answer(Answer())).status
    except ConnectionError:
        return 0


async def ask(url: str, fault: str, stream: bool) -> None:
    body = {"model": "alone", "messages": [{"role": "user", "content": f"x [[fault {fault}]]"}], "stream": stream}
    async with await Client.open(url) as client:
        client.send(request(json.dumps(body).encode()))
        await client.answer(Answer())
