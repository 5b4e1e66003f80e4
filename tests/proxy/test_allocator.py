"""What is freed goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.allocator import give_back

ROOT = Path(__file__).parents[2]

GIVING_BACK = """
import resource, sys
from proxy.allocator import keep_large_apart
keep_large_apart()
def used():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
bytearray(2**20)  # freed at once: from here on glibc would keep what is smaller
before, small = used(), []
for _ in range(5):
    large = []
    for _ in range(100):
        large.append(bytearray(2**19))
        small.append(bytearray(1000))  # stays, and lies between
print(used() - before)
del large
print(used() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_of_large_bodies_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", GIVING_BACK], capture_output=True, text=True, check=True, cwd=ROOT)
    full, after = map(int, done.stdout.split())
    assert 50 * 2**20 <= full <= 60 * 2**20
    assert after <= 5 * 2**20


def test_freed_memory_can_be_given_back() -> None:
    give_back()
