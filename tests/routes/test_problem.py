from routes.problem import Problem, Problems, nearest


def test_problems_print_as_their_messages() -> None:
    assert str(Problems([Problem((), "a", "one"), Problem((), "b", "two")])) == "one; two"


def test_nearest_is_a_close_name_or_none() -> None:
    assert nearest("stron", {"strong", "tuned"}) == "strong"
    assert nearest("zzz", {"strong", "tuned"}) is None
