"""The reader of templates agrees with the engine, and says what a prompt may not contain, with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment, TemplateError

from routes.syntax import FILTERS, TESTS, Ref, read

ENGINE = Environment(keep_trailing_newline=True, pycompat=False)


def faults(source: str) -> list[tuple[str, int]]:
    return [(fault.code, fault.line) for fault in read(source).faults]


def test_literals_and_plain_variables() -> None:
    found = read("You are {{ company }}.\nBe {{tone}}!{# not for\nthe model #} Bye")
    assert found.plain
    assert found.parts == ["You are ", Ref("company"), ".\nBe ", Ref("tone"), "! Bye"]
    assert found.names == {"company": 1, "tone": 2}


def test_raw_text_is_a_literal() -> None:
    found = read('{% raw %}{"a": {{ x }}}{% endraw %} and {{ y }}')
    assert found.plain
    assert found.parts == ['{"a": {{ x }}} and ', Ref("y")]


@pytest.mark.parametrize(
    "source",
    [
        "a {{- x }} b",
        "a {{ x -}} b",
        "a {{+ x }} b",
        "a {#- x #} b",
        "a {# x -#} b",
        "a {%- raw %} b {% endraw %}",
        "a {% raw -%} b {% endraw %}",
        "a {% raw %} b {%- endraw %}",
        "a {% raw %} b {% endraw -%}",
        "{{ x|upper }}",
        "{{ 'x' }}",
        "{{ true }}",
        "{% if x %}y{% endif %}",
    ],
)
def test_all_else_is_the_engines(source: str) -> None:
    found = read(source)
    assert not found.plain
    assert not found.faults


def test_names_are_told_from_filters_tests_arguments_and_keywords() -> None:
    found = read(
        "{% if a is defined and not b is not none or c in ['x', d] %}{{ e|default(f, boolean=true) }}"
        "{% elif g|length >= 3 and (h == 1.5 or i is divisibleby 2) %}{{ j[1:-2]|replace('}}', \"%}\") }}"
        "{% else %}{{ k if l else 'm' }}{{ -n }}{% endif %}"
    )
    assert found.faults == []
    assert list(found.names) == list("abcdefghijkln"), "in order of use"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("{{ x|shout }}", "unknown-filter"),
        ("{{ x|map('upper') }}", "unknown-filter"),
        ("{{ x is pretty }}", "unknown-test"),
        ("{{ x is not pretty }}", "unknown-test"),
        ("{{ range(9) }}", "function"),
        ("{{ lipsum() }}", "function"),
        ("{{ x.upper() }}", "attribute"),
        ("{{ x.__class__ }}", "attribute"),
        ("{{ 'a' * 9 }}", "operator"),
        ("{{ 9 ** 9 }}", "operator"),
        ("{{ x ~ x }}", "operator"),
        ("{{ x + x }}", "operator"),
        ("{{ {'a': 1}['a'] }}", "map"),
        ("{% for c in x %}{{ x }}{% endfor %}", "statement"),
        ("{% set x = 1 %}", "statement"),
        ("{% with x = 1 %}{% endwith %}", "statement"),
        ("{% macro m() %}{% endmacro %}", "statement"),
        ("{% include 'x' %}", "statement"),
        ("{% import 'x' as y %}", "statement"),
        ("{% from 'x' import y %}", "statement"),
        ("{% extends 'x' %}", "statement"),
        ("{% block b %}{% endblock %}", "statement"),
        ("{% filter upper %}{% endfilter %}", "statement"),
        ("{% autoescape true %}{% endautoescape %}", "statement"),
        ("{%- do x() -%}", "statement"),
    ],
)
def test_what_a_prompt_may_not_contain(source: str, code: str) -> None:
    assert faults("one\n\n" + source) == [(code, 3)]


def test_all_faults_come_at_once_with_a_suggestion() -> None:
    found = read("{{ a|uper }}\n{{\n b is defned\n}} {{ c.d }}")
    assert [(f.code, f.line, f.suggestion) for f in found.faults] == [
        ("unknown-filter", 1, "upper"),
        ("unknown-test", 3, "defined"),
        ("attribute", 4, None),
    ]


def error_kind(expression: str) -> str:
    try:
        ENGINE.eval_expr(expression, x="a")
    except TemplateError as error:
        return error.kind
    return ""


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_the_engine_has_every_filter_that_is_allowed(name: str) -> None:
    assert error_kind(f"x|{name}") != "UnknownFilter"


@pytest.mark.parametrize("name", sorted(TESTS))
def test_the_engine_has_every_test_that_is_allowed(name: str) -> None:
    assert error_kind(f"x is {name}") != "UnknownTest"


def test_an_unfinished_block_ends_with_the_text() -> None:
    """The engine refuses these; reading them must end all the same."""
    assert read("{{ x").names == {"x": 1}
    assert read("{{ 'x").names == {"x": 1}
    assert read("{# x").parts == []


PIECES = st.sampled_from(
    [
        "text", " ", "\n", "{", "}", "%", "#", "-", "'", '"', "{{ a }}", "{{b}}", "{{- c -}}", "{# {{ d }} #}",
        "{% raw %}{{ e }}{% endraw %}", "{% if f %}", "{% elif g|length > 2 %}", "{% else %}", "{% endif %}", "{{",
        "}}", "{%", "%}", "{#", "#}", "{{ h|default('}}') }}", "{{ i is defined }}", "{{ 'j' if k else l[0] }}",
        "{{ m\n}}", "{{ (n) }}", "{{ o|replace(p, \"q\") }}", "{{ r in [s, 'x', 1.5e3] }}", "{{ -t // 2 % 3 - 1 }}",
        "{{ not u }}",
        "{%- if v -%}", "{{ w == 'y\\'z' }}", "{#- x -#}", "{{ y|truncate(length=3) }}", "{{ ünï }}",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map("".join))
def test_it_finds_the_variables_that_the_engine_finds(source: str) -> None:
    """On whatever the engine accepts."""
    try:
        expected = ENGINE.undeclared_variables_in_str(source)
        ENGINE.add_template("t", source)
    except TemplateError:
        return
    found = read(source)
    if not found.faults:
        assert set(found.names) == expected
