"""The rig's own arithmetic, wire shapes and documents. Nothing here puts a load on."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
import yaml

from tests.bench import modelserver, payloads, peers, report, subjects
from tests.bench.figures import TARGETS, Figure, Target, percentile, ratio
from tests.bench.load import Job, Outcome
from tests.bench.payloads import Expect
from tests.bench.process import Broken, Process, core_busy_ns, cpu_ns, resident_bytes
from tests.bench.run import Measured, Reading, Run

BURST = b"".join(payloads.events(payloads.BURST_WORDS))


def test_percentile_is_the_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0, 20, 21, 50, 99, 100)] == [1, 1, 2, 3, 5, 5]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_ratio_divides_round_by_round() -> None:
    """A machine half as fast in one round slows both sides, and the ratio stays."""
    assert ratio([40, 80, 60], [10, 20, 10]) == Figure(4, 4, 6)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


@pytest.mark.parametrize(
    ("figure", "unit", "shown"),
    [
        (Figure(4.123, 3.951, 4.404), "x", "4.12x (3.95–4.40)"),
        (Figure(0.25, 0.25, 0.25), "ms", "0.25 ms"),
        (Figure(62.54, 61, 70), "µs", "62.5 µs (61.0–70.0)"),
        (Figure(0.0034, 0.0034, 0.0034), "x", "0.003x"),
        (Figure(1234.5, 1234.5, 1234.5), "MB", "1,234 MB"),
    ],
)
def test_figure_shows_three_digits(figure: Figure, unit: str, shown: str) -> None:
    assert figure.show(unit) == shown


def test_target_is_met_at_its_limit() -> None:
    target = Target("JSON / nginx", 6, "x")
    assert target.verdict(Figure(6, 5, 9)) == "met"
    assert target.verdict(Figure(6.01, 5, 9)) == "missed"
    assert target.verdict(None) == "not measured"


def test_proc_files_are_read() -> None:
    assert resident_bytes("2345 678 90 1 0 2 0") == 678 * os.sysconf("SC_PAGESIZE")
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 1000 50 60 70 4 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\n"
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert core_busy_ns(stat, 0) == (1 + 2 + 3 + 4) * tick
    assert core_busy_ns(stat, 1) == 100 * tick


def test_the_clock_of_another_process_is_its_cpu_time() -> None:
    """Our own process through the clock by id is what the standard library says of it."""
    before = time.process_time_ns()
    assert before <= cpu_ns(os.getpid()) <= time.process_time_ns()


def test_others_are_what_the_subject_did_not_use() -> None:
    earlier = Reading(cpu_ns=0, core_ns=0, wall_ns=0)
    assert Reading(cpu_ns=60, core_ns=80, wall_ns=100).others_since(earlier) == pytest.approx(0.2)
    assert Reading(cpu_ns=60, core_ns=50, wall_ns=100).others_since(earlier) == 0  # ticks are coarse


def test_a_process_counts_its_children_and_leaves_none_behind() -> None:
    with Process(["sh", "-c", "sleep 60 & echo up; wait"], core=min(os.sched_getaffinity(0)), talks=True) as process:
        assert process.hear(10) == "up"
        family = process.family()
        assert len(family) == 2
        assert process.rss_mb() > 0
        assert process.cpu_ns() > 0
    assert not any(_lives(pid) for pid in family)


def _lives(pid: int) -> bool:
    """Neither gone nor a corpse that its new parent has not fetched."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_command_that_fails_is_told_in_its_own_words() -> None:
    with (
        Process(["sh", "-c", "echo 'no such config' >&2; exit 3"], core=min(os.sched_getaffinity(0))) as process,
        pytest.raises(Broken, match="exits with 3 and says: no such config"),
    ):
        process.wait_ready("http://127.0.0.1:1/readyz", 5)


@pytest.mark.parametrize("model", ["json", "tensorzero::model_name::json"])
@pytest.mark.parametrize("stream", [False, True])
def test_requests_are_of_one_size_whoever_is_asked(model: str, *, stream: bool) -> None:
    wire = payloads.request(model, stream=stream)
    assert len(wire) == payloads.REQUEST_BYTES
    body = json.loads(wire)
    assert body["model"] == model
    assert body.get("stream", False) is stream
    assert body["messages"][0]["content"].startswith("Where is my order?")


def test_answers_are_of_the_announced_size() -> None:
    answer = payloads.answer()
    assert len(answer) == payloads.ANSWER_BYTES
    assert json.loads(answer)["usage"]["total_tokens"] > 0
    assert payloads.text_of_answer(answer).endswith(payloads.LAST_WORDS)
    assert BURST.count(b"data: ") == 203
    assert payloads.text_of_stream(BURST).endswith(payloads.LAST_WORDS)


JSON, STREAM = Expect(None), Expect(payloads.BURST_WORDS)
REWRITTEN = Expect(payloads.BURST_WORDS, rewritten=True)


@pytest.mark.parametrize(
    ("expect", "status", "body", "fault"),
    [
        (JSON, 200, payloads.answer(), None),
        (JSON, 502, b'{"error": {}}', "status 502"),
        (JSON, 0, b"connection lost", "status 0"),
        (JSON, 200, payloads.answer()[:-1], "cut short"),
        (JSON, 200, payloads.answer().replace(b"order", b"orders"), "bytes where 844 were sent"),
        (JSON, 200, b"{}", "last words are missing"),
        (STREAM, 200, BURST, None),
        (STREAM, 200, BURST.removesuffix(payloads.DONE), "cut short"),
        (STREAM, 200, b"\n\n".join(BURST.split(b"\n\n")[1:]), "202 events where 203 were sent"),
        (REWRITTEN, 200, b"\n\n".join(BURST.split(b"\n\n")[1:]), None),
    ],
)
def test_wrong_answers_are_seen(expect: Expect, status: int, body: bytes, fault: str | None) -> None:
    found = expect.fault(status, body)
    assert found is None if fault is None else found is not None and fault in found


def test_one_answer_is_read_as_a_client_would() -> None:
    """A proxy that keeps the frame and garbles the words in the middle is found out."""
    garbled = BURST.replace(b"warehouse ", b"storehouse ")
    assert REWRITTEN.fault(200, garbled) is None
    assert REWRITTEN.deep_fault(garbled)
    assert REWRITTEN.deep_fault(BURST) is None
    assert JSON.deep_fault(payloads.answer()) is None


def test_an_outcome_keeps_the_first_faults_and_counts_all() -> None:
    outcome = Outcome()
    outcome.judge(JSON, 200, payloads.answer())
    for _ in range(9):
        outcome.judge(JSON, 503, b"busy")
    assert (outcome.answers, outcome.failed, len(outcome.faults)) == (10, 9, 5)


def test_a_job_survives_the_command_line() -> None:
    job = Job("open", 80, "/v1", "{}", REWRITTEN, connections=2, requests=3, rate=4.5, headers={"a": "b"})
    assert Job.read(json.dumps(dataclasses.asdict(job))) == job
    head, _, body = job.wire().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1 HTTP/1.1\r\n")
    assert b"content-length: 2" in head
    assert b"a: b" in head
    assert body == b"{}"


@pytest.fixture
def origins(tmp_path: Path) -> subjects.Origins:
    return subjects.Origins(dict(zip(subjects.WORKLOADS, range(9001, 9005), strict=True)), tmp_path, 1024)


def test_every_policy_has_its_rules(origins: subjects.Origins) -> None:
    config = yaml.safe_load(subjects.pointsman_config(origins, 8080, 8081))
    assert set(config["policies"]) == set(subjects.WORKLOADS)
    for policy in config["policies"].values():
        assert len(policy["rules"]) == len({rule["name"] for rule in policy["rules"]}) == subjects.RULES
        assert all(route["model"] in config["models"] for route in policy["routes"].values())
    assert {model["at"] for model in config["models"].values()} == set(config["upstreams"])
    assert set(yaml.safe_load(subjects.PROMPT)) == {"variables", "messages"}


def test_nginx_is_told_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelserver, "program", lambda: "nginx")
    command = modelserver.model_server(tmp_path, 4096, 9001, 9002)
    modelserver.reverse_proxy(tmp_path, 4096, {8001: 9001, 8002: 9002}, {9002})
    assert command[-1] == str(tmp_path / "model-server.conf")
    assert (tmp_path / "burst.sse").read_bytes() == BURST
    assert payloads.answer().decode() in (tmp_path / "model-server.conf").read_text()
    proxy = (tmp_path / "proxy.conf").read_text()
    assert proxy.count("proxy_buffering on;") == proxy.count("proxy_buffering off;") == 1


def test_peers_are_pinned_to_versions_known_to_be_sound() -> None:
    pins = [requirement for requirement, _ in peers.PEERS.values()]
    assert all("==" in pin for pin in pins)
    assert not any(pin.endswith(("==1.82.7", "==1.82.8")) for pin in pins)


def measured(scale: float) -> Measured:
    return Measured(
        cpu_us={"json": [scale * 10, scale * 11], "burst": [scale * 70, scale * 70], "paced": [scale * 12]},
        added_p50_ms=[0.1, 0.2],
        added_p99_ms=[0.5, 3.0],
        rate=4000,
        ready_s=[0.5],
        memory_mb={"ready": 40},
        open_mb={5000: 200},
    )


@pytest.fixture
def run() -> Run:
    mine = measured(4)
    mine.left_out["latency"] = "it was late"
    subjects_measured = {"nginx": measured(1), "pointsman": mine, "tensorzero": measured(16)}
    return Run(subjects_measured, absent={"litellm": "it does not install here"}, others=[0.0, 0.1, 0.2])


def test_figures_have_the_names_of_targets(run: Run) -> None:
    found = report.figures(run)
    assert {target.figure for target in TARGETS} <= set(found)
    assert found["JSON / nginx"].middle == 4
    assert found["paced / tensorzero"].middle == 0.25
    assert found["memory, 10,000 open streams"].middle == 400  # scaled up from 5,000


def test_summary_tells_ratios_verdicts_and_what_is_missing(run: Run) -> None:
    text = report.summary(run)
    assert "| pointsman / nginx | 4.00x | 4.00x | 4.00x |" in text
    assert "| pointsman / tensorzero | 0.25x | 0.25x | 0.25x |" in text
    assert "| JSON / nginx | 6.00x | 4.00x | met |" in text
    assert "| burst / nginx | 3.00x | 4.00x | missed |" in text
    assert "- litellm: it does not install here" in text
    assert "- pointsman, latency: it was late" in text
    assert "took 10 % (20 % at worst) of the subject's core while CPU was measured, an unknown share" in text


def test_a_subject_that_failed_in_one_round_has_no_ratio(run: Run) -> None:
    run.subjects["pointsman"].cpu_us["json"].pop()
    assert "JSON / nginx" not in report.figures(run)
    assert "| JSON / nginx | 6.00x | – | not measured |" in report.summary(run)


def test_history_grows_at_the_top_and_stays_short(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "machine", lambda: "a machine")
    text = ""
    for number in range(report.HISTORY_KEPT + 2):
        text = report.document(run, "2026-11-21", f"c{number}", text)
    rows = report.history_rows(text)
    assert len(rows) == report.HISTORY_KEPT
    assert rows[0] == ["2026-11-21", "c21", "4.00x", "4.00x", "4.00x", "0.15 ms", "1.75 ms"]
    assert rows[-1][1] == "c2"


@pytest.mark.skipif(not report.RESULTS.exists(), reason="nothing has been measured yet")
def test_results_are_as_the_tool_writes_them() -> None:
    """Tables are whole, every target has its line, and no address or path of a machine slipped in."""
    text = report.RESULTS.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    verdicts = {row[0]: row[3] for row in rows if len(row) == 4}
    for target in TARGETS:
        assert verdicts[target.figure] in {"met", "missed", "not measured"}
    assert report.history_rows(text)
    assert not any(word in text for word in ("127.0.0.1", "/home", "/tmp", "/root", "http://"))
