"""Known prompts are recognised in what callers send: exactly, nearly or not, and never cut wrongly."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies.caller_prompt import KnownPrompt, KnownPrompts, Literal, Parts, Recognition, Slot, recognise

USER = {"role": "user", "content": "Where is my order?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


def parts(*mixed: str | Slot) -> Parts:
    return tuple(Literal(part) if isinstance(part, str) else part for part in mixed)


COMPANY, TONE = Slot("company"), Slot("tone")
SYSTEM = parts("You are the support assistant of ", COMPANY, ". Be ", TONE, ". Never guess.\n")
SHOTS = (("user", parts("Where is ", Slot("thing"), "?")), ("assistant", parts('{"intent": "order"}')))


def known(*messages: tuple[str, Parts], version: str = "1") -> KnownPrompt:
    return KnownPrompt(f"support@{version}", version, messages)


PLAIN = KnownPrompts([known(("system", SYSTEM))])
SHOT = KnownPrompts([known(("system", SYSTEM), *SHOTS)])
TEXT = "You are the support assistant of ACME. Be kind. Never guess."
VALUES = {"company": "ACME", "tone": "kind"}


def system(content: Any, role: str = "system", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def rendered(parts: Parts, values: dict[str, str]) -> str:
    return "".join(part.text if isinstance(part, Literal) else values[part.name] for part in parts)


def look(text: Any, prompts: KnownPrompts = PLAIN) -> Recognition:
    return recognise(prompts, [system(text), USER])


# Exact


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("tail", ["", "\n", " \n\t "])
def test_a_known_prompt_is_cut(role: str, tail: str) -> None:
    found = recognise(PLAIN, [system(TEXT + tail, role), USER])
    assert found == Recognition("exact", "support@1", VALUES, [USER], len(TEXT))


def test_text_parts_are_text() -> None:
    assert look([{"type": "text", "text": TEXT}]).messages == [USER]


def test_a_prompt_may_be_all_there_is() -> None:
    assert recognise(PLAIN, (system(TEXT),)).messages == []


def test_the_callers_list_is_not_changed() -> None:
    messages = [system(TEXT + "\n\nMore."), USER]
    recognise(PLAIN, messages)
    assert messages == [system(TEXT + "\n\nMore."), USER]


@pytest.mark.parametrize("between", ["\n\n", "\n", " "])
def test_text_after_the_prompt_survives_as_that_message(between: str) -> None:
    found = recognise(PLAIN, [system(TEXT + between + "The caller is Ann.\n", "developer", name="app"), USER])
    assert found.result == "exact"
    assert found.variables == VALUES
    assert found.messages == [system("The caller is Ann.", "developer", name="app"), USER]


def test_a_second_text_part_survives() -> None:
    found = look([{"type": "text", "text": TEXT}, {"type": "text", "text": "More."}])
    assert found.messages == [system("More."), USER]


@pytest.mark.parametrize("more", ["", "More."])
def test_parts_that_are_not_text_survive(more: str) -> None:
    found = look([{"type": "text", "text": f"{TEXT}\n{more}"}, IMAGE])
    text = [{"type": "text", "text": more}] if more else []
    assert found.messages == [system([*text, IMAGE]), USER]


def test_few_shots_follow_exactly_and_are_cut() -> None:
    shots = [{"role": "user", "content": "Where is it? "}, {"role": "assistant", "content": '{"intent": "order"}'}]
    found = recognise(SHOT, [system(TEXT + "\nMore."), *shots, USER])
    assert found.result == "exact"
    assert found.variables == {**VALUES, "thing": "it"}
    assert found.messages == [system("More."), USER]
    assert found.cut == len(TEXT) + len("Where is it?") + len('{"intent": "order"}')


ASSISTANT = {"role": "assistant", "content": '{"intent": "order"}'}


@pytest.mark.parametrize(
    "shots",
    [
        [],
        [{"role": "user", "content": "Where is it?"}],
        [{"role": "user", "content": "Where is it? Tell me."}, ASSISTANT],
        [{"role": "user", "content": "Who is it?"}, ASSISTANT],
        [{"role": "user", "content": "Where is "}, ASSISTANT],
        [{"role": "user", "content": "Where is it?"}, {**ASSISTANT, "tool_calls": [{"id": "1"}]}],
        [{"role": "user", "content": [{"type": "text", "text": "Where is it?"}, IMAGE]}, ASSISTANT],
        [{"role": "user", "content": None}, ASSISTANT],
        [{"role": "assistant", "content": "Where is it?"}, ASSISTANT],
        ["Where is it?", ASSISTANT],
    ],
)
def test_few_shots_that_differ_are_nearly_known(shots: list[Any]) -> None:
    messages = [system(TEXT), *shots, USER]
    found = recognise(SHOT, messages)
    assert (found.result, found.messages) == ("near", messages)


def test_what_else_software_writes_into_a_message_does_not_matter() -> None:
    assistant: dict[str, Any] = {**ASSISTANT, "refusal": None, "tool_calls": [], "name": "bot"}
    found = recognise(SHOT, [system(TEXT), {"role": "user", "content": "Where is it?"}, assistant, USER])
    assert found.result == "exact"


def test_an_empty_few_shot_is_one() -> None:
    prompts = KnownPrompts([known(("system", SYSTEM), ("user", parts("")))])
    assert recognise(prompts, [system(TEXT), {"role": "user", "content": ""}, USER]).messages == [USER]
    assert recognise(prompts, [system(TEXT), USER]).result == "near"


def test_a_variable_that_stands_twice_has_one_value() -> None:
    mixed = parts("Assistant of the firm ", COMPANY, ". Speak for ", COMPANY, " only.")
    twice = KnownPrompts([known(("system", mixed))])
    assert look("Assistant of the firm A. Speak for A only.", twice).variables == {"company": "A"}
    assert look("Assistant of the firm A. Speak for B only.", twice).result == "near"


def test_a_repeated_variable_at_the_end_loses_white_space_like_everything_there() -> None:
    twice = KnownPrompts([known(("system", parts("Firm ", COMPANY, ". Say ", COMPANY)))])
    assert look("Firm A . Say A", twice).variables == {"company": "A "}
    assert look("Firm A. Say A!", twice).result != "exact"


def test_a_prompt_that_ends_in_a_variable_takes_the_rest_of_its_message() -> None:
    ends = KnownPrompts([known(("user", parts("Classify this text: ", Slot("text"), "\n")))])
    found = recognise(ends, [{"role": "user", "content": "Classify this text: one\n\ntwo\n"}, ASSISTANT])
    assert found.variables == {"text": "one\n\ntwo"}
    assert found.messages == [ASSISTANT]


@pytest.mark.parametrize(
    "content", ["Known to us of the caller: ", "Known to us of the caller:", "Known to us of the caller:\n"]
)
def test_a_variable_at_the_end_may_be_empty(content: str) -> None:
    """The white space before it is then the end's."""
    ends = KnownPrompts([known(("system", parts("Known to us of the caller: ", Slot("facts"))))])
    found = look(content, ends)
    assert (found.result, found.variables, found.messages) == ("exact", {"facts": ""}, [USER])


def test_a_prompt_may_begin_with_a_variable() -> None:
    begins = KnownPrompts([known(("system", parts(COMPANY, " is who you speak for. Be ", TONE, ".")))])
    assert look("ACME is who you speak for. Be kind.", begins).variables == VALUES
    assert look("ACME is who you speak for. Be brief and kind", begins).result == "near"
    assert look("ACME is who I work for.", begins).result == "none"


def test_values_are_as_short_as_can_be() -> None:
    found = look("You are the support assistant of A. Be B. Be kind. Never guess.")
    assert found.variables == {"company": "A", "tone": "B. Be kind"}


# Where the prompt ends


SHORT = KnownPrompts([known(("system", parts("You are an assistant. Be ", TONE, ".")))])


def test_the_end_may_stand_again_on_later_lines() -> None:
    found = look("You are an assistant. Be kind.\n\nThe caller is Ann. She waits.", SHORT)
    assert (found.variables, found.messages[0]) == ({"tone": "kind"}, system("The caller is Ann. She waits."))


def test_an_end_inside_a_word_is_none() -> None:
    found = look("You are an assistant. Be 1.5 times kind.", SHORT)
    assert (found.variables, found.messages) == ({"tone": "1.5 times kind"}, [USER])


@pytest.mark.parametrize("text", ["Be like St. Nicholas.", "Be kind. The caller is Ann.", "Be kind. Hello. \nMore"])
def test_an_end_that_is_a_guess_is_only_near(text: str) -> None:
    """Cutting after the first full stop would be wrong for one of these, after the last for another."""
    assert look(f"You are an assistant. {text}", SHORT).result == "near"


def test_a_word_that_goes_on_is_not_the_prompt() -> None:
    kind = KnownPrompts([known(("system", parts("You are an assistant and you are kind")))])
    assert look("You are an assistant and you are kindly asked to go", kind).result == "near"
    assert look("You are an assistant and you are kind to all", kind).messages == [system("to all"), USER]


# Near and none


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("Never", "Always"),
        TEXT.replace(". Be", ", be"),
        TEXT[:-1],
        TEXT + "!",
        "\n" + TEXT,
        "You are the support assistant of ACME.",
    ],
)
def test_the_same_beginning_is_near(text: str) -> None:
    messages = [system(text), USER]
    found = recognise(PLAIN, messages)
    assert found == Recognition("near", "support@1", {}, messages, 0)
    assert found.messages is messages


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["text"],
        [USER],
        [system(None)],
        [system([IMAGE])],
        [system([{"type": "text", "text": 5}])],
        [system("")],
        [system("You are a pirate.")],
        [system("You are the support.")],
        [system(TEXT, "user")],
        [{"content": TEXT}],
        [USER, system(TEXT)],
    ],
)
def test_anything_else_is_none(messages: list[Any]) -> None:
    assert recognise(PLAIN, messages) == Recognition("none", None, {}, messages, 0)


def test_a_short_prompt_has_a_short_beginning() -> None:
    brief = KnownPrompts([known(("system", parts("Be kind.")))])
    assert look("Be kind. Be brief.", brief).messages[0] == system("Be brief.")
    assert look("Be kind!", brief).result == "none"


# Versions


def test_all_versions_match() -> None:
    prompts = KnownPrompts(
        [known(("system", parts(f"You are version {n} of the assistant.")), version=str(n)) for n in (9, 10)]
    )
    assert [prompt.version for prompt in prompts.prompts] == ["10", "9"]
    assert look("You are version 9 of the assistant.", prompts).prompt == "support@9"
    assert look("You are version 10 of the assistant.", prompts).prompt == "support@10"
    assert look("You are version 11 of the assistant.", prompts).result == "none"


def test_the_longest_prompt_wins_then_the_newest() -> None:
    short, long = parts("You are an assistant."), parts("You are an assistant. Never guess.")
    versions = (("2", long), ("10", short), ("9", long))
    prompts = KnownPrompts(known(("system", parts), version=version) for version, parts in versions)
    assert look("You are an assistant. Never guess.\nMore.", prompts).prompt == "support@9"
    assert look("You are an assistant. Always guess.", prompts).prompt == "support@10"


def test_of_near_ones_the_newest_is_named() -> None:
    text = "You are an assistant that helps and never "
    prompts = KnownPrompts([known(("system", parts(text + n)), version=n) for n in ("1", "1.10", "1.9-rc", "beta")])
    assert [prompt.version for prompt in prompts.prompts] == ["1.10", "1.9-rc", "1", "beta"]
    assert look(text + "guesses", prompts).prompt == "support@1.10"


def test_neighbouring_literals_are_one() -> None:
    prompts = KnownPrompts([known(("system", parts("You are ", "an assistant", "", ".", " \n", "\n")))])
    assert look("You are an assistant.", prompts).result == "exact"


def test_a_prompt_that_cannot_be_recognised_is_a_mistake_at_load() -> None:
    with pytest.raises(AssertionError, match="adjacent"):
        KnownPrompts([known(("system", parts("a", COMPANY, TONE)))])
    with pytest.raises(AssertionError, match="without text"):
        KnownPrompts([known(("system", parts(COMPANY, "\n")))])


# For all prompts


WORDS = st.text(st.sampled_from("abc .\n{}"), min_size=1, max_size=8)
NAMES = st.sampled_from([COMPANY, TONE, Slot("third")])
LEAD = "You are the assistant: "


@st.composite
def prompts(draw: st.DrawFn) -> Parts:
    mixed: list[str | Slot] = [LEAD]
    for slot, literal in draw(st.lists(st.tuples(NAMES, WORDS), max_size=4)):
        mixed += [slot, literal]
    if draw(st.booleans()):
        mixed.append(draw(NAMES))
    return parts(*mixed)


VALUE = st.text(st.sampled_from("abxyz .\n"), max_size=6)
VALUE_MAP = st.fixed_dictionaries({"company": VALUE, "tone": VALUE, "third": VALUE})


@given(prompts(), VALUE_MAP, st.sampled_from(["", "\n", "\n\nMore of it.", " More"]))
def test_what_is_cut_is_what_the_prompt_gives_back(parts: Parts, values: dict[str, str], tail: str) -> None:
    """The proof, whatever values and literals hold: prompt and rest together are the caller's text."""
    text = rendered(parts, values) + tail
    found = look(text, KnownPrompts([known(("system", parts))]))
    assert found.result != "none"
    if found.result == "near":
        assert found.messages == [system(text), USER]
        return
    assert found.messages[-1] == USER
    rest = "".join(message["content"] for message in found.messages[:-1])
    again = rendered(parts, dict(found.variables)).rstrip()
    assert text.startswith(again)
    assert text[len(again) :].strip() == rest
    assert text[: found.cut].rstrip() == again


SAFE = st.text(st.sampled_from("xyz-"), min_size=1, max_size=6)


@given(prompts(), st.fixed_dictionaries({"company": SAFE, "tone": SAFE, "third": SAFE}))
def test_values_come_back(parts: Parts, values: dict[str, str]) -> None:
    """Values that share no character with the literals are found as they were."""
    found = look(rendered(parts, values), KnownPrompts([known(("system", parts))]))
    assert found.result == "exact"
    assert found.messages == [USER]
    assert found.variables == {part.name: values[part.name] for part in parts if isinstance(part, Slot)}


@given(st.data())
def test_one_changed_character_of_the_prompt_is_near(data: st.DataObject) -> None:
    parts = SYSTEM
    place = data.draw(st.integers(len("You are the support assistant of"), len(TEXT) - 1))
    changed = TEXT[:place] + data.draw(st.sampled_from("#\n")) + TEXT[place + 1 :]
    assume(changed != TEXT)
    found = look(changed)
    if found.result == "exact":  # the change was inside a value
        assert rendered(parts, dict(found.variables)).rstrip() == changed
    else:
        assert found.result == "near"
        assert found.messages == [system(changed), USER]


@given(st.text())
def test_unrelated_text_is_none(text: str) -> None:
    assume(not text.lstrip().startswith("You are the supp"))
    assert look(text).result == "none"


class Counting(str):
    """A text that counts the characters that searches may have to look at."""

    looked = 0

    def find(self, *given: Any) -> int:
        at = super().find(*given)
        Counting.looked += (at if at >= 0 else len(self)) - given[1] + 1
        return at

    def rstrip(self, *_: Any) -> "Counting":
        return self


@pytest.mark.parametrize("filling", [". ", "a", ". Be ", "Be a. ", "Never guess. ", ". Never guess."])
def test_hostile_texts_take_linear_work(filling: str) -> None:
    """Searches only move on: what they look at in all is a few times the text."""
    text = Counting("You are the support assistant of " + filling * 20_000)
    Counting.looked = 0
    look(text)
    assert 0 < Counting.looked < 4 * len(text)
