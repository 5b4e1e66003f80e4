"""A request's variables are checked against every prompt the policy can reach, whatever the arm."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from proxy import variables
from proxy.errors import BadRequest
from tests.proxy.meter.samples import service

SERVICE = replace(service(), variables=frozenset({"company", "tone"}), required=frozenset({"company"}))


def resolve(extracted: Mapping[str, str], given: Mapping[str, Any], near: bool = False) -> Mapping[str, Any]:
    return variables.resolve(SERVICE, extracted, given, near)


def test_the_bodys_win_over_a_caller_prompts() -> None:
    assert resolve({"company": "Old", "tone": "curt"}, {"company": "New"}) == {"company": "New", "tone": "curt"}
    assert resolve({}, {"company": "New"}) == {"company": "New"}


@pytest.mark.parametrize(
    ("name", "hint"), [("compny", "did you mean 'company'?"), ("COMPANY", "did you mean 'company'?"),
                       ("xyz", "known: company, tone")],
)  # fmt: skip
def test_a_name_unknown_to_every_prompt_is_refused(name: str, hint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        resolve({}, {"company": "ACME", name: 1})
    error = refused.value
    assert (error.code, error.param) == ("unknown_variable", f"pointsman.variables.{name}")
    assert error.message == f"no prompt of 'support' has a variable '{name}'; {hint}"


def test_a_long_name_is_cut_and_no_names_are_said_plainly() -> None:
    with pytest.raises(BadRequest, match=r"variable 'x{100}'; known: none$") as refused:
        variables.resolve(service(), {}, {"x" * 5000: 1}, near=False)
    assert refused.value.param == "pointsman.variables." + "x" * 100


def test_a_required_one_that_nobody_gave_is_refused_unless_no_prompt_is_added() -> None:
    with pytest.raises(BadRequest) as refused:
        resolve({}, {"tone": "curt"})
    assert (refused.value.code, refused.value.param) == ("missing_variable", "pointsman.variables.company")
    assert resolve({}, {}, near=True) == {}
