from pathlib import Path

from rich.console import Console

from proxy.demo.figures import figures
from proxy.demo.table import screen, summary, table
from proxy.demo.traffic import Outcome

RECORDED = figures((Path(__file__).parent / "metrics.txt").read_text())


def printed(what: object) -> str:
    console = Console(width=150, force_terminal=False)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_a_row_for_each_route_and_the_total() -> None:
    lines = [" ".join(line.split()) for line in printed(table(RECORDED, "100 requests")).splitlines()]
    assert lines[0] == "100 requests"
    assert "strong * 40 60,000 50,000 2,000 0.0500 0.0000 0.0900 667 ms 967 ms -" in lines
    assert any(line.startswith("tuned 60 (2 failed) 2,000 0 1,200 0.0007 0.0693") for line in lines)
    assert any(line.startswith("total 100 (2 failed) 62,000 50,000") for line in lines)


def test_it_fits_a_terminal_of_100_columns() -> None:
    assert max(len(line.rstrip()) for line in printed(table(RECORDED, "x")).splitlines()) <= 100


def test_the_summary_gives_both_savings() -> None:
    said = summary(RECORDED)
    assert "Saved 57.7 % ($0.0693)" in said
    assert "it would look like 85.2 %" in said


def test_the_summary_without_a_baseline() -> None:
    assert summary(figures("")).startswith("No savings yet")


def test_the_screen_shows_the_last_answer() -> None:
    last = Outcome("gold", 200, "strong", "strong", 0.5)
    assert "last: gold -> strong, 200, 0.50 s" in printed(screen(RECORDED, "x", last))
