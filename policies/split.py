"""A weighted draw that needs no memory: every replica gives one caller the same arm.

Weighted rendezvous: each arm scores `weight / -ln(u)` and the highest score wins, where u is the arm's own uniform
number for this caller. Changing one weight moves that arm's score alone, so only callers it wins or loses move.

u comes from BLAKE2b with an 8-byte digest over salt, arm and key, each as UTF-8 behind its length in bytes (8 bytes,
big-endian). The upper 52 bits k of the digest, big-endian, give u = (k + 1/2) / 2**52, which is never 0 or 1. Equal
scores go to the arm whose name sorts first.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from policies.decision import Decision
from policies.problems import Problem, Problems, kind_of

if TYPE_CHECKING:
    from policies.facts import Facts

_PERCENTAGE = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) ?%")


def encode(text: str) -> bytes:
    """Text as it is hashed. Lone surrogates, which JSON can spell, pass as they are."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8) + data


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a split."""

    decision: Decision
    weight: float  # share in [0, 1]; an arm of 0 % is written but never drawn
    name: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.decision.arm or self.decision.route)


@dataclass(frozen=True, slots=True)
class Split:
    """A weighted choice that gives one caller the same arm on every replica and after restarts."""

    arms: tuple[Arm, ...]
    salt: str  # `salt:` from config, else policy and rule
    sticky: "Callable[[Facts], str]"  # the caller's key
    seeds: tuple[bytes, ...] = field(init=False, repr=False, compare=False)  # what each arm hashes before the key

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(encode(self.salt) + encode(arm.name) for arm in self.arms))


def choose(split: Split, facts: "Facts", shares: Mapping[str, float] | None = None) -> Decision:
    """The arm that this caller gets. `shares` are live weights in place of the written ones: an arm they leave out is
    not drawn, and where they leave nothing to draw the written ones stand. The decision's propensity is the share
    that was in force."""
    key = split.sticky(facts)
    if shares is not None:
        total = sum(weight for arm in split.arms if (weight := shares.get(arm.name, 0.0)) > 0)
        if total > 0:
            arm = _draw(split, key, shares)
            return replace(arm.decision, propensity=shares[arm.name] / total)
    return _draw(split, key).decision


def score(weight: float, data: bytes) -> float:
    """One arm's score for one caller; `data` is the encoded salt, arm and key."""
    digest = blake2b(data, digest_size=8).digest()
    return weight / -math.log(((int.from_bytes(digest) >> 12) + 0.5) / 2**52)


def _draw(split: Split, key: str, shares: Mapping[str, float] | None = None) -> Arm:
    caller = encode(key)
    best, chosen = -1.0, split.arms[0]
    for arm, seed in zip(split.arms, split.seeds, strict=True):
        weight = arm.weight if shares is None else shares.get(arm.name, 0.0)
        if not weight > 0:
            continue
        found = score(weight, seed + caller)
        if found > best or (found == best and arm.name < chosen.name):
            best, chosen = found, arm
    return chosen


def parse_shares(raw: Any) -> dict[str, float]:
    """`{tuned: 25%, strong: rest}` as shares in [0, 1] that total 1, added exactly before they become floats. Raises
    `Problems` with paths into `raw`."""
    if not isinstance(raw, Mapping):
        raise Problems([Problem((), "wrong-type", f"shares are a map of names to percentages, not {kind_of(raw)}")])
    if not raw:
        raise Problems([Problem((), "empty-split", "there is nothing to choose from")])
    problems: list[Problem] = []
    shares = {name: _share(name, value, problems) for name, value in raw.items() if value != "rest"}
    rests = [name for name, value in raw.items() if value == "rest"]
    problems += [Problem((name,), "two-rests", f"only one share is `rest`: {rests[0]!r}") for name in rests[1:]]
    total = sum(shares.values(), Fraction(0))
    if not problems and (total > 1 or (total < 1 and not rests)):
        message = f"the shares total {_percent(total)}, not 100%"
        suggestion = None if rests else _repaired(raw, shares, total)
        problems.append(Problem((), "shares-total", message, suggestion))
    if problems:
        raise Problems(problems)
    return {name: float(shares.get(name, 1 - total)) for name in raw}


def _share(name: Any, value: Any, problems: list[Problem]) -> Fraction:
    found = _PERCENTAGE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        message = f"{value!r} is not a percentage such as 25%, nor `rest`"
        problems.append(Problem((name,), "bad-share", message, f"{value}%" if plain else None))
        return Fraction(0)
    share = Fraction(found[1]) / 100
    if not 0 <= share <= 1:
        problems.append(Problem((name,), "bad-share", f"{value} is not between 0% and 100%"))
    return share


def _repaired(raw: Mapping[Any, Any], shares: Mapping[Any, Fraction], total: Fraction) -> str | None:
    """The last share as it would have to be."""
    last = list(raw)[-1]
    needed = shares[last] + 1 - total
    return f"{last}: {_percent(needed)}" if needed >= 0 else None


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):.12g}%"
