"""How problems are said: order, excerpts, carets, stars, suggestions."""

import json

import pytest

from proxy.config.problems import Problem, as_json, as_text, did_you_mean, in_order, suggest, summary


def problem(line: int, col: int, **changed: str) -> Problem:
    return Problem(
        **{"file": "f.yaml", "line": line, "col": col, "severity": "error", "code": "c", "message": "m", **changed}
    )  # type: ignore[arg-type]


def caret(source: str, col: int) -> tuple[str, str]:
    _, line, mark = as_text([problem(1, col)], {"f.yaml": source}).split("\n")
    return line[8:], mark[8:]


def test_one_line_says_it_all() -> None:
    found = problem(12, 7, code="unknown-route", message="no route 'stron'", suggestion="did you mean 'strong'?")
    assert str(found) == "f.yaml:12:7: error[unknown-route]: no route 'stron'; did you mean 'strong'?"


def test_sorted_by_place_and_said_once() -> None:
    found = in_order([problem(10, 1), problem(9, 5), problem(9, 5), problem(9, 4), problem(1, 1, file="e.yaml")])
    assert [(each.file, each.line, each.col) for each in found] == [
        ("e.yaml", 1, 1),
        ("f.yaml", 9, 4),
        ("f.yaml", 9, 5),
        ("f.yaml", 10, 1),
    ]


@pytest.mark.parametrize(
    ("source", "col", "line", "mark"),
    [
        ("abc", 2, "abc", " ^"),
        ("a\tb", 3, "a b", "  ^"),
        ("日本 x", 4, "日本 x", "     ^"),
        ("e\N{COMBINING ACUTE ACCENT}x", 3, "e\N{COMBINING ACUTE ACCENT}x", " ^"),
        ("a\x1b[31mb", 3, "a\N{REPLACEMENT CHARACTER}[31mb", "  ^"),
    ],
)
def test_the_caret_is_below_its_character(source: str, col: int, line: str, mark: str) -> None:
    assert caret(source, col) == (line, mark)


def test_a_long_line_is_cut_around_the_caret() -> None:
    line, mark = caret("x" * 5000 + "Y" + "z" * 5000, 5001)
    assert len(line) == 160
    assert line[len(mark) - 1] == "Y"


def test_a_place_outside_the_text_has_no_excerpt() -> None:
    assert as_text([problem(99, 1)], {"f.yaml": "a"}) == "f.yaml:99:1: error[c]: m"
    assert as_text([problem(1, 1)], {}) == "f.yaml:1:1: error[c]: m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("api_key: sk-12345678", "api_key: ***********"),
        ('{name: a, key: "sk-12345678"}', '{name: a, key: "***********"}'),
        ("api_key: file:/run/key", "api_key: file:/run/key"),
        ('api_key: "${KEY}"', 'api_key: "${KEY}"'),
        ("authorization: Bearer abcdef", "authorization: Bearer ******"),
        ("proxy: http://user:hunter22@p:1", "proxy: http://user:********@p:1"),
        ("base_url: http://127.0.0.1:8080/v1", "base_url: http://127.0.0.1:8080/v1"),
        ("x-custom: known-secret", "x-custom: ************"),
    ],
)
def test_excerpts_star_out_credentials(line: str, shown: str) -> None:
    text = as_text([problem(1, 1)], {"f.yaml": line}, {"known-secret"})
    assert text.split("\n")[1] == f"    1 | {shown}"


def test_suggestions() -> None:
    assert did_you_mean("stron", ["tuned", "strong"]) == "did you mean 'strong'?"
    assert did_you_mean("STRONG", ["strong"]) == "did you mean 'strong'?"
    assert did_you_mean("nothing", ["strong"]) is None
    assert (suggest("gt"), suggest("{a: 1}"), suggest(None)) == ("did you mean 'gt'?", "did you mean `{a: 1}`?", None)


def test_summaries() -> None:
    warning = problem(1, 1, severity="warning")
    assert summary([], 1) == "1 file, no problems"
    assert summary([warning], 2) == "1 warning in 2 files"
    assert summary([problem(1, 1), problem(2, 1), warning], 3) == "2 errors, 1 warning in 3 files"


def test_json_has_every_field() -> None:
    assert json.loads(as_json([problem(1, 2)])) == {
        "problems": [
            {
                "file": "f.yaml",
                "line": 1,
                "col": 2,
                "severity": "error",
                "code": "c",
                "message": "m",
                "suggestion": None,
            }
        ]
    }
