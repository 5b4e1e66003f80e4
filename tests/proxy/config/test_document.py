"""YAML as we read it: types, places, encodings and what is refused. The words are in the golden folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.document import MAX_BYTES, Node, Place, Refused, parse, read_text, scalar, without


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1", 1), ("-7", -7), ("0", 0), ("0x1F", 31), ("0o17", 15), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0)],
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None)],
        *[(word, word) for word in ("on", "off", "yes", "No", "y", "010", "1_000", "22:00", "1:30", "2026-11-21")],
        *[(word, word) for word in (".inf", ".nan", "1e999", "0b1", "+", "-", ".", "1.2.3", "08", "=", "0x", "１")],
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))


def test_quoted_scalars_are_text() -> None:
    assert parse("a: '1'\nb: \"true\"\nc: |\n  null\n", "f").plain() == {"a": "1", "b": "true", "c": "null\n"}


def test_every_key_and_value_knows_its_place() -> None:
    root = parse("a:\n  - {b: 1, ü: [x, y]}\n  - 'z'\n", "f.yaml")
    assert root.place_of(("a",), key=True) == Place("f.yaml", 1, 1)
    assert root.place_of(("a", 0, "b"), key=True) == Place("f.yaml", 2, 6)
    assert root.place_of(("a", 0, "b")) == Place("f.yaml", 2, 9)
    assert root.place_of(("a", 0, "ü", 1)) == Place("f.yaml", 2, 19)
    assert root.place_of(("a", 1)) == Place("f.yaml", 3, 5)


def test_what_is_not_there_has_the_place_around_it() -> None:
    root = parse("a:\n  b: {c: 1}\n", "f.yaml")
    assert root.place_of(("a", "b", "missing", "deeper")) == root.place_of(("a", "b"), key=True)
    assert root.place_of(("nothing",)) == Place("f.yaml", 1, 1)


def test_cutting_keeps_places() -> None:
    root = parse("a: [1, 2, 3]\nb: {c: 1, d: 2}\n", "f.yaml")
    cut = without(root, [("a", 0), ("b", "c")])
    assert cut.plain() == {"a": [2, 3], "b": {"d": 2}}
    assert cut.place_of(("a", 0)) == Place("f.yaml", 1, 8)
    assert root.plain() == {"a": [1, 2, 3], "b": {"c": 1, "d": 2}}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "---\n...\n", "null\n"])
def test_an_empty_document_is_an_empty_map(text: str) -> None:
    assert parse(text, "f").plain() == {}


def test_windows_line_ends_and_byte_order_marks_are_fine(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x]\r\n")
    assert parse(read_text(tmp_path / "f", "f"), "f").plain() == {"a": 1, "b": ["x"]}


@pytest.mark.parametrize(
    ("data", "code", "line", "col"),
    [
        ("a: 1".encode("utf-16"), "not-utf8", 1, 1),
        ("a: ü\nb: é".encode("latin-1"), "not-utf8", 1, 4),
        (b"a: 1\nbc: \xff\xff", "not-utf8", 2, 5),
        (b"#" * (MAX_BYTES + 1), "file-too-large", 1, 1),
    ],
)
def test_unreadable_files(tmp_path: Path, data: bytes, code: str, line: int, col: int) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(Refused) as refused:
        read_text(tmp_path / "f", "f")
    problem = refused.value.problem
    assert (problem.code, problem.line, problem.col) == (code, line, col)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "gone", "file-not-found"), (tmp_path, "file-unreadable")):
        with pytest.raises(Refused) as refused:
            read_text(path, "f")
        assert refused.value.problem.code == code


def test_aliases_cannot_nest_without_end() -> None:
    """Each anchor is shallow, but the chain of them is not."""
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} {'[' * 20}*a{i - 1}{']' * 20}\n" for i in range(1, 9))
    with pytest.raises(Refused) as refused:
        parse(text, "f")
    assert refused.value.problem.code == "yaml-depth"


def test_aliases_of_a_long_text_are_counted_by_its_length() -> None:
    def text(count: int) -> str:
        return "a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * count + "]"

    parse(text(1900), "f")
    with pytest.raises(Refused, match="more than 200,000 values"):
        parse(text(2000), "f")


def test_many_brackets_end_quickly() -> None:
    with pytest.raises(Refused):
        parse("[" * 200_000, "f")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`,?\n \t01~.$"), max_size=60))
def test_any_text_is_a_tree_or_one_problem_inside_it(text: str) -> None:
    """Nothing but `Refused` comes out, and its place is in the text."""
    try:
        found: Node | Refused = parse(text, "f")
    except Refused as refused:
        found = refused
    if isinstance(found, Refused):
        assert 1 <= found.problem.line <= text.count("\n") + 2
        assert found.problem.col >= 1
    else:
        assert found.place.line >= 1
