"""The data path beside nginx, and beside other gateways, in one run.

    python -m tests.bench [--peers] [--quick] [--json FILE] [--venvs DIR]

Exit 1 when an answer was wrong or a subject of ours did not start; a missed target is told, and is no failure.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import peers, report, subjects
from tests.bench.process import Broken
from tests.bench.run import FULL, QUICK, Bench, Run

OURS = {"nginx": subjects.nginx, "pointsman": subjects.pointsman}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description="The data path beside nginx, in one run.")
    parser.add_argument("--peers", action="store_true", help="install other gateways and measure them too")
    parser.add_argument(
        "--quick", action="store_true", help="less of everything, within a minute; writes no RESULTS.md"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    parser.add_argument(
        "--venvs", type=Path, metavar="DIR", help="keep the peers' environments there, for the next run"
    )
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> Run:
    plan = QUICK if options.quick else FULL
    if options.peers:
        plan = replace(plan, rounds=min(plan.rounds, 3), limit_s=FULL.limit_s)
    with Bench(plan, folder, lambda line: print(line, file=sys.stderr, flush=True)) as bench:
        for name, starter in OURS.items():
            bench.start(name, starter, plan.starts)
        for name in peers.PEERS if options.peers else ():
            bench.start(name, peers.starter(name, options.venvs or folder))
        return bench.measure()


def failures(run: Run) -> list[str]:
    """What went wrong with the two that must work; peers may fail."""
    found = [f"{name}: {run.absent[name]}" for name in OURS if name in run.absent]
    for name in OURS.keys() & run.subjects.keys():
        found += [f"{name}, {what}: {why}" for what, why in run.subjects[name].failed.items()]
    return found


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            run = measure(options, Path(folder))
        except Broken as why:
            print(f"bench: {why}", file=sys.stderr)
            return 1
    if "nginx" not in run.subjects:
        print(f"bench: without nginx there is no ratio: {run.absent['nginx']}", file=sys.stderr)
        return 1
    print(report.summary(run))
    date, commit = datetime.now(UTC).date().isoformat(), report.commit()
    if options.json:
        about = {"date": date, "commit": commit, "machine": report.machine()}
        options.json.write_text(json.dumps(about | asdict(run), indent=2) + "\n")
    if failed := failures(run):
        print("\n".join(["", "FAILED", *failed]), file=sys.stderr)
        return 1
    if not options.quick:
        before = report.RESULTS.read_text() if report.RESULTS.exists() else ""
        versions = [peers.PEERS[name][0].replace("==", " ") for name in run.subjects if name in peers.PEERS]
        report.RESULTS.write_text(report.document(run, date, commit, before, versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
