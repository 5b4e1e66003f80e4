"""A config on its way to a snapshot: typed, planned, its parts compiled. What the cross-checks look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.conditions import Condition
from proxy.config.document import Node, PathKey
from proxy.config.files import Files
from proxy.config.plan import PlannedPolicy
from proxy.config.problems import did_you_mean
from proxy.config.prompts import Library
from proxy.config.schema import SHARED, Config
from proxy.config.values import Secret, is_unknown


@dataclass(slots=True)
class Draft:
    config: Config
    root: Node
    files: Files
    written: Mapping[str, frozenset[str]]  # section -> the names in the file, those that failed validation too
    policies: Mapping[str, PlannedPolicy]
    library: Library
    secrets: Mapping[PathKey, Secret]
    whole: bool  # False: parts were cut out as wrong, so what seems unused may not be
    conditions: dict[PathKey, Condition] = field(default_factory=dict)  # by the path of the rule

    def error(self, path: PathKey, code: str, message: str, instead: str | None = None, *, key: bool = False) -> None:
        """Report what is wrong with the value at `path`, or with its key."""
        self.files.report(self.root.place_of(path, key=key), "error", code, message, instead)

    def warn(self, path: PathKey, code: str, message: str, instead: str | None = None, *, key: bool = False) -> None:
        self.files.report(self.root.place_of(path, key=key), "warning", code, message, instead)

    def is_known(self, section: str, name: str) -> bool:
        return name in self.written[section] or is_unknown(name)

    def refer(self, section: str, name: str, path: PathKey, owner: str) -> None:
        """Report a name that the section does not have."""
        if not self.is_known(section, name):
            kind = SHARED[section]
            message = f"no {kind} {name!r}{owner and f' for {owner}'}"
            self.error(path, f"unknown-{kind}", message, did_you_mean(name, self.written[section]))
