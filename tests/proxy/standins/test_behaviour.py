import pytest

from proxy.standins.behaviour import FAULTS, Behaviour, asked_in


@pytest.mark.parametrize("text", ["cut&after=3&how=rst", "fault=cut,after=3,how=rst", "cut after=3 how=rst"])
def test_one_behaviour_in_several_spellings(text: str) -> None:
    assert Behaviour.parse(text) == Behaviour("cut", {"after": "3", "how": "rst"})


def test_a_status_alone_is_a_fault() -> None:
    assert Behaviour.parse("status=429&retry-after=2").fault == "status"


def test_options_alone_are_no_fault() -> None:
    assert Behaviour.parse("tokens=200&pace=0.01").fault is None


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'stal'"):
        Behaviour.parse("stal")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_written_reads_back(fault: str) -> None:
    asked = Behaviour(fault, {"after": "3"})
    assert Behaviour.parse(str(asked)) == asked


def test_asked_in_a_message() -> None:
    assert asked_in("Where is it? [[fault stall after=2]] Thanks") == Behaviour("stall", {"after": "2"})
    assert asked_in("[[fault=status status=503]]") == Behaviour("status", {"status": "503"})
    assert asked_in("whose [[fault]] is it") is None


def test_meant_for_one_persona() -> None:
    assert Behaviour.parse("reset&on=tuned").meant_for("tuned")
    assert not Behaviour.parse("reset&on=tuned").meant_for("strong")
