"""From one run's numbers to the tables on stdout and in RESULTS.md. Ratios first: microseconds are one machine's."""

import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.bench import modelserver
from tests.bench.figures import TARGETS, Figure, ratio
from tests.bench.process import ROOT
from tests.bench.run import CONNECTIONS, CPU_WORKLOADS, STREAMS, Measured, Run
from tests.bench.subjects import Workload, interpreter

RESULTS = Path(__file__).with_name("RESULTS.md")
HISTORY = "## History"
HISTORY_KEPT = 20
HISTORY_OF = ("JSON / nginx", "burst / nginx", "paced / nginx", "added latency, p50", "added latency, p99")
SHORT: dict[Workload, str] = {"json": "JSON", "burst": "burst", "paced": "paced"}
UNITS: dict[Workload, str] = {"json": "JSON request", "burst": "burst stream", "paced": "paced event"}
NOTHING = "–"
MANY = 10_000  # open streams, in the targets


def cpu_ratio(run: Run, subject: str, reference: str, work: Workload) -> Figure | None:
    mine, theirs = (run.subjects.get(name, Measured()).cpu_us.get(work, []) for name in (subject, reference))
    return ratio(mine, theirs) if mine and len(mine) == len(theirs) else None


def figures(run: Run) -> dict[str, Figure]:
    """What was measured of Pointsman, by the names that targets use."""
    mine = run.subjects.get("pointsman", Measured())
    found = {
        f"{SHORT[work]} / {reference}": cpu_ratio(run, "pointsman", reference, work)
        for reference in ("nginx", "tensorzero")
        for work in CPU_WORKLOADS
    }
    rounds = {
        "added latency, p50": mine.added_p50_ms,
        "added latency, p99": mine.added_p99_ms,
        "start to ready": mine.ready_s,
        **{f"memory, {when}": [megabytes] for when, megabytes in mine.memory_mb.items()},
    }
    if mine.open_mb and (most := max(mine.open_mb)) >= MANY / 2:
        # Where fewer files may be open than that takes, all of the memory is scaled up: never too low.
        rounds[f"memory, {MANY:,} open streams"] = [mine.open_mb[most] * max(MANY / most, 1)]
    found |= {name: Figure.of(values) for name, values in rounds.items() if values}
    return {name: figure for name, figure in found.items() if figure}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cpu_table(run: Run) -> str:
    def row(name: str, cells: Sequence[Figure | None], unit: str) -> list[str]:
        return [name, *(cell.show(unit) if cell else NOTHING for cell in cells)]

    floor = run.subjects["nginx"].cpu_us
    rows = [row("nginx `proxy_pass`, the reference", [Figure.of(floor[work]) for work in CPU_WORKLOADS], "µs")]
    others = [name for name in run.subjects if name != "nginx"]
    pairs = [(name, "nginx") for name in others] + [("pointsman", name) for name in others if name != "pointsman"]
    for name, reference in pairs:
        ratios = [cpu_ratio(run, name, reference, work) for work in CPU_WORKLOADS]
        rows.append(row(f"{name} / {reference}", ratios, "x"))
    return table(["CPU time per", *(UNITS[work] for work in CPU_WORKLOADS)], rows)


def target_table(run: Run) -> str:
    measured = figures(run)
    rows = []
    for target in TARGETS:
        figure = measured.get(target.figure)
        limit = Figure.of([target.limit]).show(target.unit)
        rows.append([target.figure, limit, figure.show(target.unit) if figure else NOTHING, target.verdict(figure)])
    return table(["pointsman", "at most", "measured", ""], rows)


def other_table(run: Run) -> str:
    """Start, memory and latency of every subject."""
    moments = list(dict.fromkeys(when for subject in run.subjects.values() for when in _memory(subject)))
    head = ["", "start to ready", *(f"memory, {when}" for when in moments), "added p50", "added p99", "at"]
    rows = []
    for name, subject in run.subjects.items():
        memory = _memory(subject)
        added = (subject.added_p50_ms, subject.added_p99_ms)
        rows.append(
            [
                name,
                Figure.of(subject.ready_s).show("s"),
                *(f"{memory[when]:,.0f} MB" if when in memory else NOTHING for when in moments),
                *(Figure.of(values).show("ms") if values else NOTHING for values in added),
                f"{subject.rate:,.0f}/s" if subject.added_p50_ms else NOTHING,
            ]
        )
    return table(head, rows)


def _memory(subject: Measured) -> dict[str, float]:
    return subject.memory_mb | {f"{count:,} open streams": held for count, held in subject.open_mb.items()}


def neighbours(run: Run) -> str:
    """How far the run was alone on its core: CPU time bears neighbours, latency does not."""

    def told(shares: Sequence[float]) -> str:
        return f"{100 * median(shares):.0f} % ({100 * max(shares):.0f} % at worst)" if shares else "an unknown share"

    cpu, latency = told(run.others), told(run.others_latency)
    return f"Other processes took {cpu} of the subject's core while CPU was measured, {latency} while latency was."


def omissions(run: Run) -> str:
    lines = [f"- {name}: {why}" for name, why in run.absent.items()]
    for name, subject in run.subjects.items():
        lines += [f"- {name}, {what}: {why}" for what, why in (subject.failed | subject.left_out).items()]
    return "\n".join(["Not measured:", "", *lines]) if lines else ""


def summary(run: Run) -> str:
    parts = [cpu_table(run), target_table(run), other_table(run), omissions(run), neighbours(run)]
    return "\n\n".join(part for part in parts if part)


def machine() -> str:
    """The machine in one line, without its name or paths."""
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    system = re.search(r'PRETTY_NAME="(.+)"', Path("/etc/os-release").read_text())
    cores = len(re.findall(r"^processor\s*:", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    parts = [
        f"{cores} cores of {cpu[1].strip()}" if cpu else f"{cores} cores ({platform.machine()})",
        system[1] if system else platform.system(),
        f"Linux {platform.release().partition('-')[0]}",
        python(),
        f"nginx {modelserver.version()}",
    ]
    return ", ".join(parts)


def python() -> str:
    """The interpreter that Pointsman ran on, with its compiler."""
    asked = "import platform as p; print('Python', p.python_version(), f'({p.python_compiler()})')"
    return subprocess.run([interpreter(), "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


def commit() -> str:
    """The commit that was measured; `+` when there was more than is committed."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", f":!{RESULTS.relative_to(ROOT)}")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def history_rows(text: str) -> list[list[str]]:
    """The rows of the history table in a RESULTS.md, newest first."""
    lines = text.partition(HISTORY)[2].splitlines()
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    return cells[2:]


def history_row(run: Run, date: str, measured_commit: str) -> list[str]:
    measured = figures(run)
    units = {target.figure: target.unit for target in TARGETS}
    cells = [
        Figure.of([measured[name].middle]).show(units[name]) if name in measured else NOTHING for name in HISTORY_OF
    ]
    return [date, measured_commit, *cells]


def document(run: Run, date: str, measured_commit: str, before: str, versions: Sequence[str] = ()) -> str:
    """The whole RESULTS.md; `before` is its present text, whose history goes on."""
    rows = [history_row(run, date, measured_commit), *history_rows(before)][:HISTORY_KEPT]
    about = (
        f"{date}, commit {measured_commit}. {machine()}{''.join(f', {name}' for name in versions)}.\n"
        f"JSON: a request of 325 bytes, an answer of 844. Burst: an answer of 203 events at once. Both over "
        f"{CONNECTIONS} connections. Paced: {STREAMS} streams, an event each 20 ms.\n"
        "CPU time is the operating system's, of the whole process and its children; a ratio is taken round by round, "
        "and shown is the median (lowest–highest) of the rounds.\n"
        "Latency is what a subject adds to asking the model server directly, at half of what it can carry, or at the "
        "rate named where the load cannot go higher."
    )
    return "\n\n".join(
        [
            "# The data path, measured",
            "Written by `make bench` and `make bench-peers`; not by hand.",
            about,
            summary(run),
            HISTORY,
            table(["date", "commit", *HISTORY_OF], rows) + "\n",
        ]
    )
