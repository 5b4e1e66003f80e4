"""The table of figures: what each row requires, what was measured, and the file that tells."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Faults: required and measured

Written by `make faults`; each row is one or more scenarios in this folder, in its long form. Measured on {cores}
cores that everything shares: clients, model servers and proxy. `runs` counts the runs in a row that met it.

| row | fault | required | measured | met | runs | date |
| --- | --- | --- | --- | --- | --- | --- |
"""
LINE = re.compile(r"^\| (\d+\w?) \| (.*?) \| (.*?) \| (.*?) \| (yes|no|.+?) \| (\d+) \| (.*?) \|$", re.MULTILINE)


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


def written(rows: Mapping[str, Row], before: str, cores: int, today: str | None = None) -> str:
    """The results file: rows of this run over those that stand in `before`."""
    today = today or datetime.now(UTC).date().isoformat()
    lines = {number: (fault, required, measured, met, int(runs), date)
             for number, fault, required, measured, met, runs, date in LINE.findall(before)}  # fmt: skip
    for number, row in rows.items():
        runs = lines[number][4] if number in lines else 0
        clean = (row.fault, row.required, row.measured.replace("|", "/").replace("\n", " "))
        lines[number] = (*clean, "yes" if row.met else "no", runs + 1 if row.met else 0, today)
    ordered = sorted(lines, key=lambda number: (int(re.match(r"\d+", number)[0]), number))  # type: ignore[index]
    return HEAD.format(cores=cores) + "".join(
        f"| {number} | {' | '.join(map(str, lines[number]))} |\n" for number in ordered
    )
