from proxy.standins.cache import TTL, PromptCache


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def words(count: int, start: str = "w") -> list[str]:
    return [f"{start}{n}" for n in range(count)]


def test_short_prompts_are_never_cached() -> None:
    cache = PromptCache(Clock())
    assert [cache.use("m", words(1023)) for _ in range(2)] == [0, 0]


def test_hits_come_in_steps_of_128_from_1024() -> None:
    cache = PromptCache(Clock())
    assert cache.use("m", words(1300)) == 0
    assert cache.use("m", words(1300)) == 1280
    assert cache.use("m", [*words(1200), *words(300, "other")]) == 1152
    assert cache.use("m", [*words(1024), "x"]) == 1024


def test_a_prefix_must_be_the_same_from_its_first_token_and_for_the_same_model() -> None:
    cache = PromptCache(Clock())
    cache.use("m", words(1300))
    assert cache.use("m", ["x", *words(1299)]) == 0
    assert cache.use("n", words(1300)) == 0


def test_five_minutes_after_its_last_use_a_prefix_is_gone() -> None:
    clock = Clock()
    cache = PromptCache(clock)
    cache.use("m", words(1024))
    clock.now = TTL
    assert cache.use("m", words(1024)) == 1024
    clock.now = 2 * TTL
    assert cache.use("m", words(1024)) == 1024
    clock.now = 3 * TTL + 0.1
    assert cache.use("m", words(1024)) == 0
