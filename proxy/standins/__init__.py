"""Stand-in model servers: for the demo, the tests and the benchmarks. Nothing surprising but what is asked."""

from proxy.standins.behaviour import FAULTS, Behaviour
from proxy.standins.journal import Entry, Journal
from proxy.standins.persona import INSTANT, STRONG, TUNED, Latency, Persona
from proxy.standins.standin import StandIn

__all__ = ["FAULTS", "INSTANT", "STRONG", "TUNED", "Behaviour", "Entry", "Journal", "Latency", "Persona", "StandIn"]
