"""`pointsman test`: do the policies decide as their tests say?"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.offline import load_offline, tell
from proxy.cli.options import DEFAULT_CONFIG, AsJson, ConfigFile
from proxy.cli.terminal import Paint, count, painter

if TYPE_CHECKING:
    from policies.policy import Rule
    from proxy.config.load import Loaded, PlacedTest
    from proxy.policytest import Difference, Result


def run_tests(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH", help="Further test files, or folders of *.test.yaml.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    strict: Annotated[bool, typer.Option("--strict", help="Rules that no test reaches fail, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the policy tests.

    Those of the config, of the *.test.yaml files beside it, and of PATHs. Each test's request is decided as when
    serving; nothing is sent, and no secrets are needed. A test that gives no time gets noon (UTC) of a Wednesday;
    one that gives neither chance nor request_id has no `chance`.

    Rules that no test reaches are warned of.

    Exits with 1 when a test fails, or when there is none.
    """
    from proxy.policytest import run, unreached

    loaded, snapshot = load_offline(config, as_json=as_json)
    tests = [*loaded.tests, *_further(paths or (), loaded, as_json=as_json)]
    results = [run(snapshot, placed) for placed in tests]
    missed = unreached(snapshot, results)
    failed = sum(not result.ok for result in results)
    if as_json:
        typer.echo(json.dumps(_document(results, missed), indent=2))
    else:
        paint = painter(sys.stdout)
        for result in results:
            typer.echo("\n".join(_lines(result, paint)))
        for policy, rule in missed:
            typer.echo(_missed(policy, rule, paint))
    typer.echo(_summary(len(results), failed, len(missed)), err=True)
    if failed or not results or (strict and missed):
        raise typer.Exit(1)


def _further(paths: Sequence[str], loaded: "Loaded", *, as_json: bool) -> "list[PlacedTest]":
    from proxy.cli.testfiles import find, read
    from proxy.config import problems as report

    tests, files = read(find(paths), loaded)
    if files.problems:
        problems = report.in_order(files.problems)
        tell(problems, files.sources, loaded.secrets, as_json=as_json)
        raise typer.Exit(1)
    return tests


def _lines(result: "Result", paint: Paint) -> Iterator[str]:
    place = f"({result.placed.file}:{result.placed.line})"
    verdict = paint("ok  ", "green") if result.ok else paint("FAIL", "red")
    yield f"{verdict} {result.placed.test.name} {paint(place, 'dim')}"
    for difference in result.differences:
        note = f"; {difference.note}" if difference.note else ""
        wanted = " or ".join(difference.expected)
        expected, got = paint(wanted, "green"), paint(difference.got, "red")
        yield f"       {difference.field}: expected {expected}, got {got}{note}"
    if not result.ok and result.explanation is not None:
        yield from (f"       {line}" for line in _why(result, paint))


def _why(result: "Result", paint: Paint) -> Iterator[str]:
    """The rules concerned: the one that matched, and those that the test expected."""
    from proxy.cli.explanation import rule_lines
    from proxy.policytest import leading_to

    found = result.explanation
    assert found is not None
    concerned = leading_to(found, result.differences)
    for trace in found.trace:
        if trace.matched or trace.rule in concerned:
            yield from rule_lines(trace, found, paint)
    asked = {trace.rule for trace in found.trace}
    for name in sorted(concerned - asked):
        yield paint(f"{name} was not asked: {found.decision.rule} comes first", "dim")


def _missed(policy: str, rule: "Rule", paint: Paint) -> str:
    what = "the default" if rule.name == "default" else f"rule {rule.name!r}"
    warning = paint("warning[untested-rule]", "yellow")
    return f"{rule.file}:{rule.line}: {warning}: no test reaches {what} of policy {policy!r}"


def _summary(tests: int, failed: int, missed: int) -> str:
    if not tests:
        return "no tests: write some under `tests:` in the config, or in a *.test.yaml beside it"
    said = [count(tests, "test"), f"{failed} failed" if failed else "all passed"]
    if missed:
        said.append(f"{count(missed, 'rule')} untested")
    return ", ".join(said)


def _document(results: "Sequence[Result]", missed: "Sequence[tuple[str, Rule]]") -> dict[str, Any]:
    return {
        "tests": [
            {
                "name": result.placed.test.name,
                "file": result.placed.file,
                "line": result.placed.line,
                "ok": result.ok,
                "differences": [_difference(each) for each in result.differences],
            }
            for result in results
        ],
        "unreached": [
            {"policy": policy, "rule": rule.name, "file": rule.file, "line": rule.line} for policy, rule in missed
        ],
    }


def _difference(difference: "Difference") -> dict[str, Any]:
    return {
        "field": difference.field,
        "expected": list(difference.expected),
        "got": difference.got,
        "note": difference.note,
    }
