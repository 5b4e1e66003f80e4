"""`python -m tests.bench`: the data path beside nginx, and beside other gateways, in one run."""

import sys, tempfile, argparse
from pathlib import Path
from tests.bench.run import *
from tests.bench import subjects
from tests.bench.subjects import *
from tests.bench.process import SUBJECT_CORE
import time


def proto(origins):
    import os
    from tests.bench.process import free_ports

    (port,) = free_ports(1)
    p = Process(
        [sys.executable, "-m", "tests.bench.proto", str(port), *(str(origins.ports[w]) for w in WORKLOADS)],
        SUBJECT_CORE,
    )
    r = p.wait_ready(f"http://127.0.0.1:{port}/readyz", 10)
    return Subject("pointsman", p, {w: Address(port, w) for w in WORKLOADS}, r)


with tempfile.TemporaryDirectory() as t:
    plan = QUICK if "--quick" in sys.argv else FULL
    t0 = time.time()
    with Bench(plan, Path(t), lambda s: print(f"{time.time() - t0:5.1f} {s}", file=sys.stderr)) as b:
        b.start("nginx", subjects.nginx)
        if "--proto" in sys.argv:
            b.start("pointsman", proto)
        if "--peers" in sys.argv:
            from tests.bench import peers

            for n in peers.PEERS:
                b.start(n, peers.starter(n, Path(sys.argv[-1])))
        r = b.measure()
    import pprint

    pprint.pprint(dataclasses.asdict(r), width=150)
    print(time.time() - t0)
