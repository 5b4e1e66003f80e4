"""The header lines of answers. What depends only on the decision and the serving route is encoded once."""

from policies.decision import Decision
from proxy.account import Account, new_id
from proxy.exchange import Exchange, encode
from proxy.meter.cost import to_usd
from routes.route import Route

JSON = b"content-type: application/json\r\n"
STREAM = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"  # nginx in front would hold events back
)


def reply_json(exchange: Exchange, status: int, body: bytes) -> None:
    """Answer with JSON of ours, under a request id like every answer."""
    exchange.reply(status, b"%bx-request-id: %b\r\n" % (JSON, new_id().encode()), body)


class Heads:
    """Of one snapshot."""

    def __init__(self, config_hash: str) -> None:
        self._config = config_hash
        self._known: dict[tuple[str, str, str, str], bytes] = {}

    def named(self, decision: Decision, served: Route) -> bytes:
        """Policy, rule, route, the route that answered, its model and prompt, the config's hash."""
        key = (decision.policy, decision.rule, decision.route, served.name)
        lines = self._known.get(key)
        if lines is None:
            prompt = None if decision.untouched else served.prompt
            lines = self._known[key] = encode(
                [
                    (b"x-pointsman-policy", visible(decision.policy)),
                    (b"x-pointsman-rule", visible(decision.rule)),
                    (b"x-pointsman-route", visible(decision.route)),
                    (b"x-pointsman-served-by", visible(served.name)),
                    (b"x-pointsman-model", visible(served.model)),
                    (b"x-pointsman-prompt", visible(prompt.id if prompt is not None else "none")),
                    (b"x-pointsman-config", visible(self._config)),
                ]
            )
        return lines

    def stream(self, request_id: str, decision: Decision, served: Route, attempts: int) -> bytes:
        return b"%bx-request-id: %b\r\nx-pointsman-attempts: %d\r\n%b" % (
            STREAM,
            request_id.encode(),
            attempts,
            self.named(decision, served),
        )

    def whole(self, account: Account, decision: Decision, served: Route) -> bytes:
        """The head of a whole answer, with what all attempts cost and what the baseline would have."""
        baseline = account.baseline.cost
        lines = b"%bx-request-id: %b\r\n%b" % (JSON, account.id.encode(), self.failed(account, decision, served))
        if baseline is None:
            return lines
        return lines + b"x-pointsman-baseline-cost-usd: %b\r\n" % to_usd(baseline).encode()

    def failed(self, account: Account, decision: Decision, served: Route) -> bytes:
        """What an error says besides its own: the decision, the last route tried, what all attempts cost."""
        return b"x-pointsman-attempts: %d\r\n%bx-pointsman-cost-usd: %b\r\n" % (
            len(account.attempts),
            self.named(decision, served),
            to_usd(account.spent).encode(),
        )


def visible(text: str) -> bytes:
    """A name from config as a header value: anything but visible ASCII is percent-encoded."""
    return "".join(c if " " <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text).encode()
