"""The table of figures: what each row requires, what was measured, of which product, and the file that tells."""

import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
PRODUCT = ("proxy", "routes", "policies", "pyproject.toml")
HEAD = """# Faults: required and measured

Written by `make faults`, `make soak` and `make fuzz`; each row is one or more scenarios in this folder, in its long
form. Measured on {cores} cores that everything shares: clients, model servers and proxy. `product` is the last commit
that changed {product}, with a `+` where more was changed since; `runs` counts the
runs in a row that met it: of that product, and with fault and requirement in these words.

| row | fault | required | measured | met | runs | product | date |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
LINE = re.compile(
    r"^\| (\d+\w?) \| (.*?) \| (.*?) \| (.*?) \| (yes|no) \| (\d+) \| (?:(\S+) \| )?(\S+) \|$", re.MULTILINE
)
ADDED = re.compile(r'\brows\.add\(\s*"?(\d+\w?)"?,')
UNKNOWN = "–"  # the product of a figure from before it was noted, or from a copy without history


@dataclass(frozen=True)
class Row:
    number: str
    fault: str
    required: str
    measured: str
    met: bool


class Rows:
    """The figures of one run; with the same number twice, both must be met."""

    def __init__(self) -> None:
        self.found: dict[str, Row] = {}

    def add(self, number: int | str, fault: str, required: str, measured: str, met: bool) -> None:
        """Note a figure, print it, and fail the test if it is not what is required."""
        row = Row(str(number), fault, required, measured, met)
        print(f"\nrow {row.number} | {row.required} | {row.measured}")
        if (old := self.found.get(row.number)) is not None:
            row = Row(row.number, old.fault, old.required, f"{old.measured}; {row.measured}", old.met and met)
        self.found[row.number] = row
        assert met, f"row {number}: required {required}; measured {measured}"


def known() -> set[str]:
    """The rows that a scenario in this folder measures."""
    return {number for path in FOLDER.glob("test_*.py") for number in ADDED.findall(path.read_text())}


def product() -> str:
    """What was measured: a commit, with a `+` if files of the product differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words, "--", *PRODUCT], cwd=FOLDER.parents[1], capture_output=True, text=True)
        return done.stdout.strip()

    try:
        commit = git("log", "-1", "--format=%h", "--abbrev=8")
        return f"{commit}+" if git("status", "--porcelain") else commit or UNKNOWN
    except FileNotFoundError:  # no git
        return UNKNOWN


def as_before(now: str, rows: Collection[str], replaced: dict[str, str]) -> str:
    """The results file as it is `now`, but for these rows as it was before this run, which `replaced` remembers."""
    lines = {found[1]: found[0] for found in LINE.finditer(now)}
    for number in rows:
        was = replaced.setdefault(number, lines.get(number, ""))
        if number in lines:
            now = now.replace(lines[number], was)
    return now


def written(
    rows: Mapping[str, Row], before: str, cores: int, *, of: str, live: Collection[str], today: str | None = None
) -> str:
    """The results file: rows of this run, of the product `of`, over those in `before`; none but `live` ones."""
    today = today or datetime.now(UTC).date().isoformat()
    lines = {number: (fault, required, measured, met, int(runs), commit or UNKNOWN, date)
             for number, fault, required, measured, met, runs, commit, date in LINE.findall(before)}  # fmt: skip
    for number, row in rows.items():
        is_told = of != UNKNOWN and not of.endswith("+")
        same = (row.fault, row.required, of)  # in other words it is another measurement
        goes_on = is_told and number in lines and (*lines[number][:2], lines[number][5]) == same
        runs = lines[number][4] if goes_on else 0
        clean = (row.fault, row.required, row.measured.replace("|", "/").replace("\n", " "))
        lines[number] = (*clean, "yes" if row.met else "no", runs + 1 if row.met else 0, of, today)
    ordered = sorted(lines.keys() & set(live), key=lambda number: (int(re.match(r"\d+", number)[0]), number))  # type: ignore[index]
    head = HEAD.format(cores=cores, product=", ".join(f"`{path}`" for path in PRODUCT))
    return head + "".join(f"| {number} | {' | '.join(map(str, lines[number]))} |\n" for number in ordered)
