"""Shorthands written out: every outcome names a route, every route has a name and a place."""

from proxy.config.document import parse
from proxy.config.plan import PlannedPolicy, plan
from proxy.config.validate import validate


def planned(policies: str) -> dict[str, PlannedPolicy]:
    found = validate(parse(policies, "f.yaml"))
    assert found.config is not None, found.problems
    return plan(found.config, found.root)


def test_a_policy_may_be_a_routes_name_or_a_route() -> None:
    found = planned("{routes: {r: {model: m}}, policies: {a: r, b: {model: n}}}")
    assert (found["a"].default.route, found["a"].default.name) == ("r", "default")
    assert found["b"].default.route == "n"
    assert found["b"].routes["n"].spec.model == "n"


def test_a_route_written_in_a_rule_is_called_like_its_model_and_like_its_rule_if_that_is_taken() -> None:
    policy = planned("""
policies:
  p:
    routes: {m: {model: other}}
    rules:
      - {when: {user: a}, route: {model: m}}
      - {name: gold, when: {user: b}, route: {model: m, prompt: s@1}}
    default: {model: x}
""")["p"]
    assert [(rule.name, rule.route) for rule in policy.outcomes] == [
        ("rule-1", "m-rule-1"), ("gold", "m-gold"), ("default", "x"),
    ]  # fmt: skip
    assert policy.routes["m-gold"].path == ("policies", "p", "rules", 1, "route")


def test_the_same_route_written_twice_is_one() -> None:
    policy = planned("{policies: {p: {rules: [{when: {user: a}, route: {model: m}}], default: {model: m}}}}")["p"]
    assert list(policy.routes) == ["m"]


def test_a_policys_own_routes_go_over_the_shared_ones() -> None:
    policy = planned(
        "{routes: {r: {model: m}, s: {model: m}}, policies: {p: {routes: {r: {model: n}}, default: s}}}"
    )["p"]
    assert (policy.routes["r"].spec.model, policy.routes["r"].shared) == ("n", False)
    assert (policy.routes["s"].spec.model, policy.routes["s"].shared) == ("m", True)


def test_a_split_leads_to_each_of_its_arms() -> None:
    policy = planned("{policies: {p: {default: {split: {a: 25%, b: rest}}}}}")["p"]
    arms = [(name, path[-2:]) for name, path in policy.default.named_routes]
    assert arms == [("a", ("split", "a")), ("b", ("split", "b"))]


def test_routes_are_reached_by_rules_as_baseline_and_as_fallbacks_of_these() -> None:
    policy = planned("""
policies:
  p:
    baseline: base
    routes:
      a: {model: m, fallback: b}
      b: {model: m, fallback: [a, nowhere]}
      base: {model: m}
      alone: {model: m, fallback: base}
    rules: [{when: {user: x}, route: missing}]
    default: {split: {a: 50%, rule: rest}}
""")["p"]
    assert policy.reachable == {"a", "b", "base"}
