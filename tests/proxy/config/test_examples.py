"""The configs that ship are clean, complete and what the documents say."""

from pathlib import Path

import pytest

from proxy.config.load import load

EXAMPLES = sorted((Path(__file__).parents[3] / "policies" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_check_clean(example: Path) -> None:
    """As `pointsman check --strict --no-env` does in CI."""
    loaded = load(example, env={}, strict_env=False)
    assert loaded.problems == []
    assert loaded.snapshot is not None


def test_the_demo_needs_no_environment() -> None:
    loaded = load(next(path for path in EXAMPLES if path.stem == "demo"), env={})
    assert loaded.problems == []
    assert loaded.snapshot is not None
    service = loaded.snapshot.services["support"]
    assert service.baseline is service.routes["strong"]
    assert service.required == frozenset()
    assert service.policy.known_prompts is not None
    assert [known.id for known in service.policy.known_prompts.prompts] == ["support@3", "support@2", "support@1"]
    targets = {name: model.endpoints[0].target.base_url for name, model in loaded.snapshot.models.items()}
    assert targets == {"strong": "http://127.0.0.1:9101/v1", "tuned": "http://127.0.0.1:9102/v1"}
