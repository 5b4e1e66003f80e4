"""One run: the model servers and every subject up at once, the workloads in turn, round by round."""

import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proxy.pressure import room_of
from tests.bench import modelserver, payloads
from tests.bench.load import Job, Outcome
from tests.bench.payloads import Expect
from tests.bench.process import (
    OTHER_CORE,
    SUBJECT_CORE,
    Broken,
    LeftOut,
    Process,
    core_busy_ns,
    many_files,
)
from tests.bench.subjects import CHAT, WORKLOADS, Address, Origins, Starter, Subject, Workload
from tests.ports import free_ports

CPU_WORKLOADS: tuple[Workload, ...] = ("json", "burst", "paced")
CONNECTIONS = 32
STREAMS = 100  # paced ones, at once
PACED_EVENTS = payloads.PACED_WORDS + payloads.AROUND_WORDS - 3  # the last four go out together
LATENCY_CONNECTIONS = 200  # of the latency run: enough that none has to wait for one
SLOW = 0.1  # a share of requests that only a very slow subject has
TOP_RATE = 4000.0  # requests per second, above which the load itself would be what is measured
ENOUGH = 300  # requests of a latency round, for its p99 to mean anything
QUIET = 0.1  # the share of the subject's core that others may take of a latency round
LOAD_S = 60.0  # no load takes longer


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rounds: int
    json: int  # requests a round
    burst: int
    latency_s: float
    open_streams: tuple[int, ...]
    starts: int
    limit_s: float  # after which what is left is left out


FULL = Plan(rounds=5, json=8000, burst=2000, latency_s=2.0, open_streams=(1000, 10_000), starts=3, limit_s=220)
QUICK = Plan(rounds=2, json=2500, burst=600, latency_s=1.0, open_streams=(1000,), starts=1, limit_s=40)


@dataclass
class Measured:
    """What one subject did, a value a round."""

    cpu_us: dict[Workload, list[float]] = field(default_factory=dict)  # per request, stream, or paced event
    per_second: list[float] = field(default_factory=list)  # JSON answers, as fast as the load could ask
    rate: float = 0.0  # of the latency run: half of the above
    added_p50_ms: list[float] = field(default_factory=list)  # over asking the model server directly, at that rate
    added_p99_ms: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    memory_mb: dict[str, float] = field(default_factory=dict)  # by moment
    open_mb: dict[int, float] = field(default_factory=dict)  # by number of open streams
    failed: dict[str, str] = field(default_factory=dict)  # what went wrong, and how
    left_out: dict[str, str] = field(default_factory=dict)  # what was not tried, and why


@dataclass
class Run:
    subjects: dict[str, Measured] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # subjects that could not be started, and why
    others: list[float] = field(default_factory=list)  # the share of the core that neighbours took, by CPU round
    others_latency: list[float] = field(default_factory=list)  # and by latency round


def drive(job: Job, held: Callable[[], object] | None = None) -> Outcome:
    """Put one load on and return its outcome; Broken unless every answer was right. `held` is called once the load is
    connected and warm; of a `hold` job, while its streams are open."""
    argv = [sys.executable, "-m", "tests.bench.load", json.dumps(dataclasses.asdict(job))]
    with Process(argv, OTHER_CORE, talks=True) as load:
        said = load.hear(LOAD_S)
        if said == "ready":
            if held:
                held()
            load.say()
            said = load.hear(LOAD_S)
    outcome = Outcome(**json.loads(said))
    if outcome.failed:
        raise Broken(f"{outcome.failed} of {outcome.answers} answers were wrong: {'; '.join(outcome.faults)}")
    return outcome


@dataclass
class Reading:
    """The clocks of a moment: the subject's, its core's, and the wall's. All in ns."""

    cpu_ns: int = 0
    core_ns: int = 0
    wall_ns: int = 0

    def take(self, process: Process) -> "Reading":
        self.cpu_ns, self.core_ns = process.cpu_ns(), core_busy_ns(Path("/proc/stat").read_text(), SUBJECT_CORE)
        self.wall_ns = time.monotonic_ns()
        return self

    def others_since(self, earlier: "Reading") -> float:
        """The share of the core that went to processes other than the subject: the noise of the neighbours."""
        foreign = (self.core_ns - earlier.core_ns) - (self.cpu_ns - earlier.cpu_ns)
        return max(foreign / (self.wall_ns - earlier.wall_ns), 0.0)


class Bench:
    """The rig of one run. Use as a context: it stops all that it started."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.run = Run()
        self.subjects: list[Subject] = []
        self.processes = contextlib.ExitStack()

    def __enter__(self) -> "Bench":
        with contextlib.ExitStack() as started:  # what a failure leaves ends here
            self._open(started)
            self.processes = started.pop_all()
        return self

    def _open(self, started: contextlib.ExitStack) -> None:
        files = started.enter_context(many_files(2 * max(self.plan.open_streams) + 1000))
        room = (room_of(files)[0] - 100) // 500 * 500  # some connections are others'
        fitting = tuple(min(streams, room) for streams in self.plan.open_streams)
        self.plan = dataclasses.replace(self.plan, open_streams=fitting)
        ports = dict(zip(WORKLOADS, free_ports(len(WORKLOADS)), strict=True))
        self.origins = Origins(ports, self.folder, files)
        command = modelserver.model_server(self.folder, files, ports["json"], ports["burst"])
        server = started.enter_context(Process(command, OTHER_CORE))
        server.wait_ready(f"http://127.0.0.1:{ports['json']}{modelserver.READY}", 10)
        command = [sys.executable, "-m", "tests.bench.paced", str(ports["paced"]), str(ports["idle"])]
        started.enter_context(Process(command, OTHER_CORE, talks=True)).hear(10)

    def __exit__(self, *_: object) -> None:
        self.processes.close()

    def start(self, name: str, starter: Starter, starts: int = 1) -> None:
        """Start a subject, more than once where its start is timed; one that cannot be had is noted as absent."""
        measured = Measured()
        try:
            for again in reversed(range(starts)):
                subject = starter(self.origins)
                measured.ready_s.append(subject.ready_s)
                if again:
                    subject.process.stop()
        except (Broken, OSError) as why:
            self.say(f"{name}: {why}")
            self.run.absent[name] = str(why)
            return
        self.processes.enter_context(subject.process)
        measured.memory_mb["ready"] = subject.process.rss_mb()
        self.run.subjects[name] = measured
        self.subjects.append(subject)

    def measure(self) -> Run:
        self.deadline = time.monotonic() + self.plan.limit_s
        for work in CPU_WORKLOADS:
            for number in range(self.plan.rounds):
                self.say(f"{work}, round {number + 1} of {self.plan.rounds}")
                for subject in self.subjects:
                    self.attempt(subject, work, partial(self.cpu_round, subject, work))
        for number in range(self.plan.rounds):
            self.say(f"latency, round {number + 1} of {self.plan.rounds}")
            for subject in self.subjects:
                self.attempt(subject, "latency", partial(self.latency_round, subject))
        for subject in self.subjects:
            self.run.subjects[subject.name].memory_mb["after load"] = subject.process.rss_mb()
        for streams in self.plan.open_streams:
            what = f"{streams:,} open streams"
            self.say(what)
            for subject in self.subjects:
                self.attempt(subject, what, partial(self.memory_round, subject, streams))
        return self.run

    def attempt(self, subject: Subject, what: str, measure: Callable[[], None]) -> None:
        """What has failed once is not tried again; the run goes on and says so."""
        measured = self.run.subjects[subject.name]
        if what in measured.failed or what in measured.left_out:
            return
        try:
            if time.monotonic() > self.deadline:
                raise LeftOut("the time of the run was up")
            measure()
        except LeftOut as why:
            measured.left_out[what] = str(why)
        except Broken as why:
            self.say(f"{subject.name}, {what}: {why}")
            measured.failed[what] = str(why)

    def job(self, subject: Subject, work: Workload, **changes: object) -> Job:
        address = subject.addresses[work]
        words = {"json": None, "burst": payloads.BURST_WORDS}.get(work, payloads.PACED_WORDS)
        fields = {
            "kind": "closed",
            "port": address.port,
            "path": address.path,
            "body": payloads.request(address.model, stream=work != "json").decode(),
            "expect": Expect(words, rewritten=subject.rewritten),
            "connections": CONNECTIONS,
            "headers": subject.headers,
        }
        return Job(**fields | changes)  # type: ignore[arg-type]

    def cpu_round(self, subject: Subject, work: Workload) -> None:
        if work == "paced":
            streams = STREAMS if subject.share > SLOW else 4
            job = self.job(subject, work, connections=streams, requests=streams)
        else:
            requests = int((self.plan.json if work == "json" else self.plan.burst) * subject.share)
            job = self.job(subject, work, requests=requests, warm=int(10 * CONNECTIONS * subject.share))
        started = Reading()
        outcome = drive(job, lambda: started.take(subject.process))
        ended = Reading().take(subject.process)
        measured = self.run.subjects[subject.name]
        units = outcome.answers * (PACED_EVENTS if work == "paced" else 1)
        measured.cpu_us.setdefault(work, []).append((ended.cpu_ns - started.cpu_ns) / 1000 / units)
        self.run.others.append(ended.others_since(started))
        if work == "json":
            measured.per_second.append(outcome.answers / outcome.seconds)

    def latency_round(self, subject: Subject) -> None:
        measured = self.run.subjects[subject.name]
        if not measured.per_second:
            raise LeftOut("there is no throughput to halve")
        measured.rate = min(statistics.median(measured.per_second) / 2, TOP_RATE)
        requests = int(measured.rate * self.plan.latency_s)
        if requests < ENOUGH:
            raise LeftOut(f"{measured.rate:.0f} requests per second are too few for a p99")
        changes = {"kind": "open", "rate": measured.rate, "requests": requests, "connections": LATENCY_CONNECTIONS}
        job = self.job(subject, "json", warm=400, **changes)
        tries = [self.alone(subject, job)]
        if tries[0][0] > QUIET:  # half load and a neighbour are full load: once more
            tries.append(self.alone(subject, job))
        others, through = min(tries, key=lambda tried: tried[0])
        direct = drive(self.job(self.direct(subject), "json", warm=400, **changes))
        self.run.others_latency.append(others)
        measured.added_p50_ms.append((through.p50_us - direct.p50_us) / 1000)
        measured.added_p99_ms.append((through.p99_us - direct.p99_us) / 1000)

    def alone(self, subject: Subject, job: Job) -> tuple[float, Outcome]:
        """The job's outcome after the share of the core that others took meanwhile."""
        started = Reading()
        outcome = drive(job, lambda: started.take(subject.process))
        return Reading().take(subject.process).others_since(started), outcome

    def direct(self, subject: Subject) -> Subject:
        """The same requests, straight to the model server."""
        address = Address(self.origins.ports["json"], subject.addresses["json"].model, CHAT)
        return dataclasses.replace(subject, addresses={"json": address}, rewritten=False)

    def memory_round(self, subject: Subject, streams: int) -> None:
        if subject.share <= SLOW:
            raise LeftOut("opening them would take the whole run")
        memory = self.run.subjects[subject.name].open_mb

        def read() -> None:
            memory[streams] = subject.process.rss_mb()

        drive(self.job(subject, "idle", kind="hold", connections=streams, requests=streams), read)
