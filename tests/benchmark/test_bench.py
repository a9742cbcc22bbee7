"""The benchmark: its load generator, ratios and tables."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import pytest

from bench import plan
from bench.contenders import (
    DEFLATE,
    LIMIT,
    MIN_BIN,
    NATS,
    NPM,
    PICOWS,
    REDIS,
    WORKERS,
    ZEROMQ,
    Contender,
    running,
)
from bench.load import Load, LoadError, Timing, allow_files, build, measure
from bench.plan import Measurement, Plan, Point, Table, Target
from bench.processes import StartError
from bench.report import Circumstances, markdown, summary
from bench.rounds import Figure, Results
from support import require

SHORT = Timing(0.1, 0.02)


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    require(shutil.which("cc") is not None, "a C compiler")
    require(shutil.which("taskset") is not None, "taskset")
    build()


@pytest.mark.parametrize(
    ("contender", "load", "counted"),
    [
        (PICOWS, Load("rpc", 3, 2), "operations"),
        (PICOWS, Load("publish", 3, 2), "operations"),
        (PICOWS, Load("publish", 3, payload=1_000_000, lockstep=True), "operations"),
        (PICOWS, Load("channels", 3, 2, channels=4), "operations"),
        (PICOWS, Load("connect", 20, 4), "connect_per_s"),
        (PICOWS, Load("idle", 3), "connect_per_s"),
        (PICOWS, Load("close", 500), "seconds"),
        (MIN_BIN, Load("rpc", 3, 2), "operations"),
        (MIN_BIN, Load("publish", 3, 2), "operations"),
        (DEFLATE, Load("publish", 3, payload=2048), "operations"),
        (LIMIT, Load("rpc", 3, 2), "operations"),
        (LIMIT, Load("publish", 3, 2), "operations"),
        (LIMIT, Load("channels", 3, 2, channels=4), "operations"),
        (WORKERS, Load("rpc", 3, 2), "operations"),
        (WORKERS, Load("publish", 3, 2), "operations"),
    ],
    ids=lambda value: getattr(value, "key", None) or getattr(value, "mode", None),
)
def test_every_mode_runs(contender: Contender, load: Load, counted: str) -> None:
    sample = measure(contender, load, SHORT)
    assert sample[counted] > 0
    assert sample["sockets"] == load.sockets + (load.mode in ("publish", "channels"))


@pytest.fixture(params=[ZEROMQ, REDIS, NATS], ids=lambda contender: contender.key)
def across(request: pytest.FixtureRequest) -> Contender:
    """Two servers with a backend between them."""
    contender: Contender = request.param
    assert contender.backend is not None
    program = contender.backend.command("", 0)[0]
    require(shutil.which(program) is not None, program)
    return contender


def test_a_publish_to_one_server_arrives_at_the_other(across: Contender) -> None:
    sample = measure(across, Load("publish", 3, 2), SHORT)
    assert sample["operations"] > 0


@pytest.mark.parametrize("mode", ["hop", "hop-stored"])
def test_a_hop_includes_the_backend(across: Contender, mode: str) -> None:
    sample = measure(across, Load(mode, 3, 10), SHORT)
    assert 0 < sample["backend_us"] < sample["cpu_us"]
    assert 0 < sample["own_us"] < sample["cpu_us"]
    assert {"more_us", "backend_more_us"} <= sample.keys()


def test_workers_are_measured_with_their_supervisor() -> None:
    with running(WORKERS) as workers:
        assert len(set(workers.pids)) == 3
        assert workers.port == workers.publisher_port


def test_servers_are_measured_with_their_backend(across: Contender) -> None:
    with running(across) as servers:
        assert len(set(servers.pids)) == 3
        assert servers.backend is not None
        assert servers.backend.pid in servers.pids
        assert servers.port != servers.publisher_port


def test_a_missing_backend_is_reported() -> None:
    assert ZEROMQ.backend is not None
    backend = replace(
        ZEROMQ.backend, title="the backend", command=lambda folder, port: ["no-backend"]
    )
    broken = replace(PICOWS, backend=backend)
    with (
        pytest.raises(StartError, match=r"the backend did not start: .*no-backend"),
        running(broken),
    ):
        pass


def test_a_server_that_does_not_start_is_reported() -> None:
    broken = Contender("x", "Broken", lambda port: ["sh", "-c", "echo no luck; exit 1"], NPM.folder)
    with pytest.raises(StartError, match="Broken did not start: no luck"), running(broken):
        pass


def test_a_load_that_the_server_refuses_is_an_error() -> None:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]

    web = Contender("web", "web server", command, LIMIT.folder)
    with pytest.raises(LoadError, match="web server, rpc: The upgrade was refused"):
        measure(web, Load("rpc", 1), SHORT)


def test_too_few_files_are_reported() -> None:
    with pytest.raises(LoadError, match="open files"):
        allow_files(10**9)


ONE, OTHER = Point(PICOWS, plan.RPC_1), Point(LIMIT, plan.RPC_1)


def test_a_ratio_is_taken_in_each_round() -> None:
    # The second round was twice as slow for both, and the third failed for one.
    results = Results({ONE: [{"cpu_us": 4}, {"cpu_us": 10}, None], OTHER: [{"cpu_us": 2}] * 3})
    results.samples[OTHER][1] = {"cpu_us": 4}
    assert results.result(Target("", ONE, OTHER, 1)) == Figure(2.25, 2, 2.5)
    assert results.figure(ONE, "cpu_us") == Figure(7, 4, 10)


@pytest.mark.parametrize(("limit", "met"), [(2.0, "yes"), (1.9, "**no**"), (None, "-")])
def test_tables(limit: float | None, met: str) -> None:
    results = Results({ONE: [{"cpu_us": 4}], OTHER: [{"cpu_us": 2}]}, ["npm: it broke"])
    table = Table("One", plan.ALONE, [Measurement("calls", plan.RPC_1)])
    small = Plan([table], [Target("calls", ONE, OTHER, limit)])
    text = markdown(small, results, Circumstances("a machine", "Python", 1, 3, 0.2))
    assert "## One\n" in text
    assert "| calls | µs | 2 | 4 | failed | failed | failed |" in text
    assert f"| calls | to bare C server | 2 | {'-' if limit is None else f'≤ {limit:g}'}" in text
    assert f"| {met} |" in text
    assert "npm: it broke" in text
    assert "20% of the machine's cores" in text
    assert summary(small.targets, results) in text
