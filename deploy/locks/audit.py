"""Check the lock files against published advisories: the snapshot beside this file, and `pip-audit` where it can ask.

    python deploy/locks/audit.py [PIP-AUDIT]

Ends with 1 if something is found. A vulnerability service that does not answer is said, and is no finding.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCKS = ("serve.txt", "demo.txt", "dev.txt")

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\\n]+)(?P<rest>.*(?:\n[ \t]+.*)*)", re.MULTILINE)


def pins(text: str) -> Iterator[tuple[str, str, int]]:
    """Name, version and number of hashes of everything in a lock file."""
    for found in _PIN.finditer(text):
        yield normal(found["name"]), found["version"], found["rest"].count("--hash=sha256:")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version. What is locked has no pre-releases; one would count as its release."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:4])


def findings(text: str, advisories: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with a lock file, a line each."""
    known = {normal(advisory["package"]): advisory for advisory in advisories}
    for name, version, hashes in pins(text):
        if not hashes:
            yield f"{name} {version} has no hash"
        advisory = known.get(name)
        if advisory is None:
            continue
        bad = version in advisory.get("refuse", ()) or not advisory.keys() & {"least", "refuse"}
        if bad or release(version) < release(advisory.get("least", "0")):
            yield f"{name} {version}: {advisory['why']}"
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or line.lstrip().startswith(("--index", "--extra-index", "--find-links", "-e ", "git+")):
            yield f"line {number} names a place to install from"


def ask(program: str, lock: Path) -> tuple[list[str], bool]:
    """What pip-audit finds in a lock file, and whether its service answered."""
    command = [
        program,
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner=off",
        "--format=json",
        "-r",
        str(lock),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
        answered = [each for each in json.loads(done.stdout)["dependencies"] if "skip_reason" not in each]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return [], False
    found = [
        f"{each['name']} {each['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none yet'}"
        for each in answered
        for flaw in each["vulns"]
    ]
    return found, bool(answered)


def main(program: str | None = None) -> int:
    snapshot = tomllib.loads((HERE / "advisories.toml").read_text())
    count = 0
    for name in LOCKS:
        lock = HERE / name
        found = list(findings(lock.read_text(), snapshot["advisory"]))
        answered = False
        if program is not None:
            more, answered = ask(program, lock)
            found += more
        asked = "and pip-audit's service" if answered else "alone: no vulnerability service answered"
        head = f"{name}: {len(found)} findings, by the advisories of {snapshot['date']} {asked}\n"
        sys.stdout.write(head + "".join(f"  {line}\n" for line in found))
        count += len(found)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
