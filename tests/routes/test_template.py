"""Templates render as minijinja does, insert values as data, and have bounded cost."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from minijinja import Environment

from routes.template import MAX_OUTPUT, MissingVariable, RenderError, Template, compile_template

PLAIN_ENGINE = Environment(
    undefined_behavior="strict",
    auto_escape_callback=lambda _name: False,
    keep_trailing_newline=True,
    pycompat=False,
)


def template(source: str) -> Template:
    found, reading = compile_template(source)
    assert found is not None, reading.faults
    return found


def render(source: str, **values: Any) -> str:
    return template(source).render(values)


SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.booleans(),
    st.none(),
)


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.sampled_from(
                ["{{ a }}", "{{b}}", "{{ a\n}}", "{# c #}", "{% raw %}{{ b }}{% endraw %}", "\r\n", "<&>"]
            ),
        ),
        max_size=8,
    ).map("".join),
    SCALARS,
    SCALARS,
)
@example("{{ a }}", 1e22, None)
@example("{{ a }}", -0.0, None)
@example("{{ a }}", float("nan"), None)
def test_joining_is_what_the_engine_would_do(source: str, a: Any, b: Any) -> None:
    found, _ = compile_template(source)
    if found is None or found.engine:
        return
    expected = PLAIN_ENGINE.render_str(source, a=a, b=b)
    assert found.render({"a": a, "b": b}) == expected
    assert found.length({"a": a, "b": b}) == len(expected)


@given(SCALARS)
def test_the_engine_path_prints_alike(a: Any) -> None:
    assert render("{{ a }}{% if true %}{% endif %}", a=a) == render("{{ a }}", a=a)


@pytest.mark.parametrize("source", ["{{ x }}", "{{- x -}}", "{{ x|string }}", "{% if true %}{{ x }}{% endif %}"])
@pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% raw %}", "{{ x }}", "<b>&'\"", "${HOME}", "{#", "\x00"])
def test_values_are_data(source: str, value: str) -> None:
    """Never escaped, expanded or read as a template."""
    assert render(source, x=value) == value


def test_environment_variables_are_plain_text() -> None:
    assert render("${HOME} {{ x }}", x=1) == "${HOME} 1"


def test_a_text_without_variables_is_rendered_at_load() -> None:
    found = template("{{ '{{' }}a{{ 'b'|upper }}")
    assert found.engine is None
    assert found.static == "{{aB"
    assert template("{{ x }}").static is None
    assert template("{{ x|upper }}").static is None


def test_conditions_and_filters() -> None:
    source = "{% if tone == 'kind' %}Be kind{% else %}Be {{ tone|upper }}{% endif %}{{ name|default(' and brief') }}."
    assert render(source, tone="kind") == "Be kind and brief."
    assert render(source, tone="curt", name="!") == "Be CURT!."
    assert template(source).length({"tone": "kind"}) == len("Be kind and brief.")


@pytest.mark.parametrize(
    "source", ["{{ y }}", "{{ y|upper }}", "{{ y|length }}", "{{ y|replace('a', 'b') }}", "{% if y %}{% endif %}"]
)
def test_a_missing_variable_is_named(source: str) -> None:
    with pytest.raises(MissingVariable) as caught:
        render("{{ x }}" + source, x=1)
    assert caught.value.name == "y"


@pytest.mark.parametrize("source", ["{{ x }}", "{{ x|string }}"])
@pytest.mark.parametrize("value", [["a"], {"a": 1}, object(), b"a"])
def test_only_scalars_are_rendered(source: str, value: Any) -> None:
    with pytest.raises(RenderError, match="`x` must be a text, a number"):
        render(source, x=value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ x|abs }}", "cannot be rendered"),
        ("{{ x|int }}", "invalid float"),
        ("{{ x|replace('a') }}", "missing 1 required"),
        ("{{ x|replace(none, 'a') }}", "needs a text"),
        ("{{ x|indent(y) }}", "cannot be rendered"),
    ],
)
def test_other_failures_have_a_reason_and_no_value(source: str, reason: str) -> None:
    with pytest.raises(RenderError, match=reason) as caught:
        render(source, x="secret", y="wide")
    assert not isinstance(caught.value, MissingVariable)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("{{ x }}", {"x": "a" * (MAX_OUTPUT + 1)}),
        ("{{ x }}{{ x }}", {"x": "a" * (MAX_OUTPUT // 2 + 1)}),
        ("{{ x|upper }}", {"x": "a" * (MAX_OUTPUT + 1)}),
        ("{{ x|upper }}{{ x }}", {"x": "a" * (MAX_OUTPUT // 2 + 1)}),
        ("{{ x|upper }}" * 100, {"x": "a" * 300_000}),
        ("{{ x|replace('a', y) }}", {"x": "a" * 2000, "y": "b" * 2000}),
        ("{{ x|replace('', y) }}", {"x": "a" * 2000, "y": "b" * 2000}),
        ("{{ x|indent(1000000000) }}", {"x": "a\nb"}),
        ("{{ x|indent(y) }}", {"x": "a\nb", "y": 10**12}),
        ("{{ x" + "|tojson" * 25 + " }}", {"x": '"'}),
        ("{{ x|title|title|title }}", {"x": "\u03a3" * 200_000}),
        ("{{ y }}{% if x == y %}{% endif %}" * 3, {"x": "\u03a3" * 300_000, "y": "z"}),
    ],
)
def test_no_render_grows_without_end(source: str, values: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match="too long"):
        render(source, **values)


def test_long_texts_pass_where_little_is_done_with_them() -> None:
    assert len(render("{% if x %}{{ x|trim }}{% endif %}{{ y|title }}", x="a" * 1_000_000, y="a" * 1000)) == 1_001_000


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("\n{{ " + "not " * 100_000 + "x }}", 2),
        ("{{ x" + "|upper" * 100_000 + " }}", 1),
        ("{{ x" + " and x" * 100_000 + " }}", 1),
        ("{{ " + "-" * 100_000 + "1 }}", 1),
        ("{% if x %}" + "\n{% elif x %}" * 100_000 + "{% endif %}", 2001),
        ("{{ x }}\n" * 100_000, 2001),
    ],
)
def test_what_would_overflow_the_engine_never_reaches_it(source: str, line: int) -> None:
    """Its parser recurses: such a text would end the process."""
    found, reading = compile_template(source)
    assert found is None
    assert [(fault.code, fault.line) for fault in reading.faults] == [("template", line)]
    assert "more than" in reading.faults[0].message


def test_comments_and_raw_texts_may_be_many() -> None:
    assert render("{# a #}" * 3000 + "{% raw %}{{{% endraw %}" * 3000 + "{{ x }}", x="y") == "{{" * 3000 + "y"


def test_a_text_of_its_own_may_be_too_long_for_its_filters() -> None:
    found, reading = compile_template("{{ '" + "a" * 900_000 + "'|title|title }}")
    assert found is None
    assert [fault.message for fault in reading.faults] == ["its own texts are too long for their filters"]


@given(st.text(st.sampled_from("ab\n\r <"), max_size=12), st.integers(0, 5), st.booleans(), st.booleans())
def test_indent_is_the_engines(text: str, width: int, first: bool, blank: bool) -> None:
    source = "{{ x|indent(w, f, b) }}"
    expected = PLAIN_ENGINE.render_str(source, x=text, w=width, f=first, b=blank)
    assert render(source, x=text, w=width, f=first, b=blank) == expected


@given(st.text(st.sampled_from("ab\n"), max_size=9), st.text(st.sampled_from("ab"), max_size=2), st.text(max_size=3))
def test_replace_is_the_engines(text: str, old: str, new: str) -> None:
    new = new.encode("utf-8", "replace").decode()
    source = "{{ x|replace(o, n) }}"
    assert render(source, x=text, o=old, n=new) == PLAIN_ENGINE.render_str(source, x=text, o=old, n=new)


def test_numbers_can_be_filtered_as_texts() -> None:
    assert render("{{ x|replace(1, 2) }} {{ y|indent }}", x=11, y=1.5) == "22 1.5"


def test_tojson_is_for_models_not_for_browsers() -> None:
    assert render("{{ x|tojson }}", x='<"ü">') == '"<\\"ü\\">"'


def test_syntax_errors_have_their_line() -> None:
    found, reading = compile_template("fine\n{{ x")
    assert found is None
    assert [(fault.code, fault.line) for fault in reading.faults] == [("template-syntax", 2)]


def test_a_text_that_can_never_be_rendered_is_found_at_load() -> None:
    found, reading = compile_template("{{ 'a'|abs }}")
    assert found is None
    assert [fault.code for fault in reading.faults] == ["template"]
