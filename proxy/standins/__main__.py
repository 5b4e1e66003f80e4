"""`python -m proxy.standins strong --port 9101`: a stand-in as its own process. Prints its base URL."""

import argparse
import asyncio
import os
import signal
import sys

import uvloop

from proxy.standins.behaviour import FAULTS, Behaviour
from proxy.standins.persona import INSTANT, PERSONAS
from proxy.standins.standin import StandIn


def main() -> None:
    args = _arguments()
    persona = PERSONAS[args.persona]
    standin = StandIn(
        persona,
        seed=args.seed,
        latency=INSTANT if args.instant else persona.latency,
        key=args.key,
        host=args.host,
        port=args.port,
        keep_alive=args.keep_alive,
        room=args.room,
    )
    if args.every:
        every, _, fault = args.every.partition(":")
        standin.every = (int(every), Behaviour.parse(fault))
    uvloop.run(serve(standin, watch_stdin=args.until_stdin_closes))


def _arguments() -> argparse.Namespace:
    faults = "\n".join(f"  {name:12} {text}" for name, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m proxy.standins",
        description="A stand-in model server that speaks OpenAI's dialect and misbehaves on demand.",
        epilog=f"faults, asked for as in `--every 40:status=503`, `model=strong?cut&after=3`:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("persona", choices=sorted(PERSONAS))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", help="callers must send it")
    parser.add_argument("--instant", action="store_true", help="answer without waiting")
    parser.add_argument("--keep-alive", type=float, metavar="SECONDS", help="close idle connections after this")
    parser.add_argument("--room", type=int, default=2_000, metavar="N", help="entries that the journal keeps")
    parser.add_argument("--every", metavar="N:FAULT", help="misbehave at each N-th request")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this one"
    )
    return parser.parse_args()


async def serve(standin: StandIn, *, watch_stdin: bool) -> None:
    """Serve until SIGINT or SIGTERM, or until standard input closes if it is to be watched."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with standin:
        sys.stdout.write(standin.base_url + "\n")
        sys.stdout.flush()
        if watch_stdin:
            loop.add_reader(sys.stdin.fileno(), _stop_at_end, sys.stdin.fileno(), stop)
        await stop.wait()


def _stop_at_end(fd: int, stop: asyncio.Event) -> None:
    if not os.read(fd, 1024):
        asyncio.get_running_loop().remove_reader(fd)
        stop.set()


if __name__ == "__main__":
    main()
