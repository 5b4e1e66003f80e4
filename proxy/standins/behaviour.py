"""What a request asked a stand-in to do wrong, and the small language it is asked in.

`cut&after=3&how=rst` in a model name (`strong?cut&after=3&how=rst`), in the header `x-standin`, in a script, or in
the last user message as `[[fault cut after=3 how=rst]]`. Parts are parted by `&`, `,`, `;` or space; a part without
`=` names the fault, and so does `fault=`; `status=429` alone means the fault `status`. `faults.py` lists the names.

Options for every request, faulty or not: `on=tuned` (only this persona), `tokens=200` (length of the answer),
`ttft=0.5` (seconds to the first token), `pace=0.02` (seconds between tokens).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

# What each fault does, for `python -m proxy.standins --faults` and for refusing names that do not exist.
FAULTS: Final = {
    "status": "answer status=, body=openai|anthropic|html|empty|garbage|text, retry-after=, retry-after-ms=, code=",
    "refuse": "reset this connection and refuse new ones for seconds= (default 1)",
    "reset": "reset the connection after= request (default), head, or a number of content events",
    "cut": "end the answer after= as above (default 0), how=fin|rst|end (end: a proper end of the body, no [DONE])",
    "stall": "say nothing more after= request, head, or a number of content events, until the peer leaves",
    "malformed": "after= content events, one that is kind=json|array|empty|utf8|shape; count= of them, every= events",
    "error-event": "after= content events, an error event under 200 and the end, dialect=openai|anthropic",
    "error-json": "an error object as JSON under 200",
    "wrong-type": "the right answer with a wrong content type, type=text/html",
    "no-usage": "never report usage",
    "usage": "odd usage, kind=negative|huge|text|float|null|cached",
    "slow": "write rate= bytes a second (default 200)",
    "pings": "only comments, every= seconds (default 0.05), after= content events; count= of them, then the rest",
    "bytewise": "write byte by byte",
    "crlf": "end lines with CRLF",
    "joined": "the whole stream in one write and one chunk",
    "huge-line": "one event of size= bytes (default 2,000,000) before the others",
    "truncated": "a JSON body cut in half, properly framed",
    "gzip": "compress the answer, asked for or not",
    "idle-close": "close the connection ms= after the answer without having said so (default 0)",
    "close": "answer well, with `connection: close`",
    "no-done": "end the stream properly after the finish chunk, without [DONE]",
    "no-finish": "leave the finish chunk out",
    "extra-bytes": "send bytes after the end of the answer",
    "bad-chunk": "after= content events, a chunk size that is none",
    "huge-header": "a response header of size= bytes (default 100,000)",
}

_PART = re.compile(r"[&,;\s]+")
_IN_TEXT = re.compile(r"\[\[fault[\s=]([^\]]*)\]\]")


@dataclass(frozen=True, slots=True)
class Behaviour:
    fault: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Behaviour":
        """Read the language above. Raises ValueError for a fault that does not exist or a part that is no option."""
        fault: str | None = None
        options: dict[str, str] = {}
        for part in filter(None, _PART.split(text)):
            name, equals, value = part.partition("=")
            if not equals or name == "fault":
                fault = value or name
            else:
                options[name] = value
        if fault is None and "status" in options:
            fault = "status"
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
        return cls(fault, options)

    def number(self, name: str, default: float) -> float:
        return float(self.options.get(name, default))

    def count(self, name: str, default: int) -> int:
        return int(self.options.get(name, default))

    def text(self, name: str, default: str) -> str:
        return self.options.get(name, default)

    def meant_for(self, persona: str) -> bool:
        return self.options.get("on", persona) == persona

    def __str__(self) -> str:
        return "&".join([*([self.fault] if self.fault else []), *(f"{k}={v}" for k, v in self.options.items())])


BEHAVE = Behaviour()


def asked_in(text: str) -> Behaviour | None:
    """Find `[[fault ...]]` in a message."""
    found = _IN_TEXT.search(text) if "[[fault" in text else None
    return Behaviour.parse(found[1]) if found else None
