"""What every test may use: the `needs` marker for tests that talk to real programs."""

import os
import shutil

import pytest


def pytest_configure() -> None:
    # Debian keeps nginx in /usr/sbin, which is not on an ordinary user's PATH.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


@pytest.hookimpl(tryfirst=True)  # before fixtures try to start the missing program
def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [program for marker in item.iter_markers("needs") for program in marker.args]
    missing = sorted({program for program in wanted if shutil.which(program) is None})
    if not missing:
        return
    reason = f"needs {', '.join(missing)} on PATH"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: run deploy/install-test-programs", pytrace=False)
    pytest.skip(reason)
