"""How full the memory is, by the kernel's own files, of either version of cgroups."""

from pathlib import Path

import pytest

from proxy.memory import Memory

MIB = 2**20


def kernel(root: Path, **files: str) -> Path:
    """A file system with these files; `__` in a name is a folder's end."""
    for name, text in {"proc__self__statm": "30000 25600 900 1 0 9000 0\n", **files}.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(folder: str, limit: str, used: int, inactive: int = 0) -> dict[str, str]:
    place = f"sys__fs__cgroup__{folder}"
    return {
        f"{place}memory_dot_max": f"{limit}\n",
        f"{place}memory_dot_current": f"{used}\n",
        f"{place}memory_dot_stat": f"anon 1\ninactive_file {inactive}\nactive_file 5\n",
    }


def v1(folder: str, limit: int, used: int, inactive: int = 0) -> dict[str, str]:
    place = f"sys__fs__cgroup__memory__{folder}"
    return {
        f"{place}memory_dot_limit_in_bytes": f"{limit}\n",
        f"{place}memory_dot_usage_in_bytes": f"{used}\n",
        f"{place}memory_dot_stat": f"cache 1\ninactive_file 7\ntotal_inactive_file {inactive}\n",
    }


def share(root: Path, limit: int | None = None) -> float:
    with Memory(root) as memory:
        return memory.share(limit)


V2 = {"proc__self__cgroup": "0::/a/b\n"}
V1 = {"proc__self__cgroup": "9:name=systemd:/\n4:memory:/a\n3:cpu,cpuacct:/x\n0::/\n"}


def test_the_fullest_of_the_cgroups_around_it_counts(tmp_path: Path) -> None:
    around = v2("a__", str(100 * MIB), 60 * MIB) | v2("a__b__", str(1000 * MIB), 300 * MIB)
    assert share(kernel(tmp_path, **V2, **around)) == pytest.approx(0.6)


def test_what_the_kernel_would_take_back_does_not_count(tmp_path: Path) -> None:
    full = v2("a__b__", str(100 * MIB), 99 * MIB, inactive=40 * MIB)
    assert share(kernel(tmp_path, **V2, **full)) == pytest.approx(0.59)


def test_version_1(tmp_path: Path) -> None:
    full = v1("a__", 100 * MIB, 95 * MIB, inactive=5 * MIB) | v1("", 2**63 - 4096, 10**9)
    assert share(kernel(tmp_path, **V1, **full)) == pytest.approx(0.9)


def test_in_a_container_its_own_cgroup_is_what_is_mounted(tmp_path: Path) -> None:
    """The path is the host's, and not to be seen from inside."""
    assert share(kernel(tmp_path, **V1, **v1("", 100 * MIB, 50 * MIB))) == pytest.approx(0.5)


@pytest.mark.parametrize("limit", ["max", "0", "", "what"])
def test_no_limit_is_no_pressure(tmp_path: Path, limit: str) -> None:
    assert share(kernel(tmp_path, **V2, **v2("a__b__", limit, 10**9))) == 0.0


def test_a_configured_limit_is_for_the_process(tmp_path: Path) -> None:
    """25,600 pages of 4 KiB are 100 MiB; the worse of the two limits holds."""
    root = kernel(tmp_path, **V2, **v2("a__b__", str(100 * MIB), 30 * MIB))
    assert share(root) == pytest.approx(0.3)
    assert share(root, 200 * MIB) == pytest.approx(0.5)
    assert share(root, 1000 * MIB) == pytest.approx(0.3)


def test_what_is_left_until_the_nearest_limit(tmp_path: Path) -> None:
    around = v2("a__", str(100 * MIB), 60 * MIB) | v2("a__b__", str(1000 * MIB), 300 * MIB)
    root = kernel(tmp_path, **V2, **around)
    with Memory(root) as memory:
        assert memory.left(None) == 40 * MIB
        assert memory.left(110 * MIB) == 10 * MIB
        assert memory.left(90 * MIB) == 0
        assert memory.left(None, until=0.9) == 30 * MIB
        assert memory.left(110 * MIB, workers=8) == 5 * MIB  # of the cgroup's; its own limit is each one's
        assert memory.left(110 * MIB, workers=2) == 10 * MIB
    with Memory(tmp_path / "nowhere") as memory:
        assert memory.left(None) is None


def test_where_there_is_nothing_to_read_nothing_is_limited(tmp_path: Path) -> None:
    assert share(tmp_path, 100 * MIB) == 0.0


def test_this_process_can_be_read() -> None:
    with Memory() as memory:
        assert memory.share(2**40) > 0
