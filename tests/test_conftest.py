"""The `needs` marker: a missing program skips a test on a laptop and fails it on CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = """
import pytest

@pytest.fixture
def started():
    raise AssertionError("fixtures must not run")

@pytest.mark.needs("{program}")
def test_it(started):
    pass
"""


@pytest.mark.parametrize(
    ("program", "ci", "said"),
    [
        ("no-such-program", "", "1 skipped"),
        ("no-such-program", "true", "Failed: needs no-such-program on PATH: run deploy/install-test-programs"),
        ("sh", "", "fixtures must not run"),
    ],
)
def test_missing_programs(tmp_path: Path, program: str, ci: str, said: str) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE.format(program=program))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = needs\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:asyncio", "-ra", str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"needs {program} on PATH" in done.stdout or program == "sh"
    assert said in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if "skipped" in said else 1)
