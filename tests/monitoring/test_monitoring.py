"""deploy/monitoring: every name exists, and a real Prometheus scrapes, evaluates and fires."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from broker_servers import environment
from cli.commands import run_here
from socketcluster import create
from socketcluster.errors import SocketClusterError
from support import require

MONITORING = Path(__file__).resolve().parents[2] / "deploy/monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0][
    "rules"
]
SERVER = """
from socketcluster import AGServer
server = AGServer()

@server.procedure("fail")
def fail(data: bool) -> None:
    if data:
        raise KeyError(data)
"""
SECONDS = 60

NAME = re.compile(r"\b(?:socketcluster|process)_[a-z_]+\b|\bup\b")


def names_in(text: str) -> set[str]:
    return set(NAME.findall(text))


async def line_with(process: Process, text: str, stream: str = "stdout") -> str:
    """The next line of a program's output that has a text."""
    reader = getattr(process, stream)
    async with asyncio.timeout(SECONDS):
        while line := (await reader.readline()).decode():
            if text in line:
                return str(line)
    raise AssertionError(f"The program ended without {text!r}")


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[Process]:
    """A program, until the end of the block; the rest of its output is dropped."""
    process = await asyncio.create_subprocess_exec(
        *command, **{"stdout": PIPE, "stderr": DEVNULL, **options}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), SECONDS)


@asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[tuple[int, str]]:
    """`serve` with its metrics on a port of their own: the clients' port and their URL."""
    (folder / "mine.py").write_text(SERVER)
    command = (sys.executable, "-m", "socketcluster", "serve", "mine:server", "--port", "0")
    async with running(
        *command, *("--metrics-port", "0", *options), cwd=folder, env=environment()
    ) as process:
        found: dict[str, str] = {}
        while len(found) < 2:
            line = await line_with(process, "http://")
            found["metrics" if line.startswith("Metrics") else "server"] = line
        port = re.search(r"127\.0\.0\.1:(\d+)", found["server"])
        url = re.search(r"http://\S+", found["metrics"])
        assert port is not None
        assert url is not None
        yield int(port[1]), url[0]


def checked(*command: str | Path) -> str:
    """Run promtool, which has to find nothing wrong."""
    require(shutil.which("promtool") is not None, "promtool")
    done = subprocess.run(["promtool", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_every_name_exists_in_a_scrape(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as (_, url), httpx.AsyncClient() as http:
        text = (await http.get(url)).text
    types = re.findall(r"^# TYPE (\S+) (\S+)", text, re.MULTILINE)
    assert len(types) == len({name for name, _ in types}), "a name has its type once"
    there = {"up"}
    for name, kind in types:
        there |= {name} if kind != "histogram" else {f"{name}_{x}" for x in ("bucket", "count")}
    queries = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    queries += [each["query"] for each in DASHBOARD["templating"]["list"]]
    for query in [*queries, *(rule["expr"] for rule in ALERTS)]:
        assert names_in(query) <= there, query
    used = set().union(*map(names_in, queries))
    ours = {name for name in there if name.startswith("socketcluster_") and "_count" not in name}
    assert ours <= used, "the dashboard shows every metric"


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] == 39
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        *("Connections", "Traffic", "Calls", "Backpressure", "Broker"),
        *("History and presence", "Process"),
    ]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, "no panel lies on another"
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_alerts_say_what_to_do() -> None:
    assert "SUCCESS" in checked("check", "rules", MONITORING / "alerts.yml")
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    shutil.copytree(MONITORING, tmp_path, dirs_exist_ok=True)
    (tmp_path / "token").write_text("secret")
    assert "SUCCESS" in checked("check", "config", tmp_path / "prometheus.yml")


def test_rules_fire_when_they_should(tmp_path: Path) -> None:
    """Each alert, given the series that it is about and quiet ones beside them."""
    who = 'job="socketcluster",instance="a"'

    def series(name: str, values: str, labels: str = "") -> dict[str, str]:
        return {"series": f"{name}{{{who}{labels}}}", "values": values}

    lag = [
        series("socketcluster_loop_lag_seconds_bucket", "0+1x30", ',le="0.25"'),
        series("socketcluster_loop_lag_seconds_bucket", "0+2x30", ',le="0.5"'),
        series("socketcluster_loop_lag_seconds_bucket", "0+2x30", ',le="+Inf"'),
    ]
    slow = [
        series("socketcluster_call_duration_seconds_bucket", "0+1x30", ',procedure="p",le="1.0"'),
        series("socketcluster_call_duration_seconds_bucket", "0+9x30", ',procedure="p",le="2.5"'),
        series("socketcluster_call_duration_seconds_bucket", "0+9x30", ',procedure="p",le="+Inf"'),
    ]
    errors = [
        series("socketcluster_calls_total", f"0+{count}x30", f',procedure="p",result="{result}"')
        for count, result in ((1, "error"), (9, "ok"))
    ]
    cases: dict[str, list[dict[str, str]]] = {
        "Down": [series("up", "0x30")],
        "WorkerDown": [series("socketcluster_worker_up", "0x30", ',worker="1"')],
        "WorkerRestarts": [series("socketcluster_worker_restarts_total", "0+1x30")],
        "LoopLag": lag,
        "BrokerDown": [series("socketcluster_broker_up", "0x30")],
        "BrokerGap": [series("socketcluster_broker_gaps_total", "0+1x30")],
        "HistoryGap": [series("socketcluster_history_gaps_unfilled_total", "0+1x30")],
        "IncompleteRecoveries": [
            series("socketcluster_recoveries_total", f"0+{count}x30", f',result="{result}"')
            for count, result in ((1, "incomplete"), (8, "recovered"))
        ],
        "SlowCalls": slow,
        "CallErrors": errors,
        "DroppedPublishes": [series("socketcluster_dropped_publishes_total", "0+1x30")],
        "PausedSockets": [series("socketcluster_paused_sockets", "11x30")],
        "OutboundBuffers": [series("socketcluster_outbound_buffer_bytes_max", "4000000x30")],
        "AuthFailures": [
            series("socketcluster_auth_failures_total", "0+600x30", ',reason="invalid"')
        ],
        "RateLimited": [series("socketcluster_rate_limited_total", "0+900x30", ',kind="message"')],
        "NearConnectionLimit": [
            series("process_open_fds", "900x30"),
            series("process_max_fds", "1000x30"),
        ],
        "NearConnectionLimit of the option": [
            series("socketcluster_clients", "800x30"),
            series("socketcluster_pending_clients", "50x30"),
            series("socketcluster_max_connections", "1000x30"),
        ],
        "RefusedConnections": [
            series("socketcluster_connections_total", "0+90x30", ',result="refused"')
        ],
    }
    names = {name: f"SocketCluster{name.split()[0]}" for name in cases}
    assert {rule["alert"] for rule in ALERTS} == set(names.values())
    tests = [
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{names[name]}",alertstate="firing"}})',
                    "eval_time": "25m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                },
                {
                    "expr": 'count(ALERTS{alertstate="firing"})',
                    "eval_time": "25m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                },
            ],
        }
        for name, given in cases.items()
    ]
    tests.append(
        {
            "interval": "1m",
            "input_series": [series("up", "1x30"), series("socketcluster_broker_up", "1x30")],
            "promql_expr_test": [{"expr": "ALERTS", "eval_time": "25m", "exp_samples": []}],
        }
    )
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    text = yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": tests})
    (tmp_path / "tests.yml").write_text(text)
    assert "SUCCESS" in checked("test", "rules", tmp_path / "tests.yml")


async def test_a_real_prometheus_scrapes_and_fires(tmp_path: Path) -> None:
    require(shutil.which("prometheus") is not None, "prometheus")
    alerts = re.sub(r"for: \S+", "for: 0s", (MONITORING / "alerts.yml").read_text())
    (tmp_path / "alerts.yml").write_text(alerts)
    (tmp_path / "token").write_text("unused")
    async with serving(tmp_path) as (port, url):
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms"}
        (scrape,) = config["scrape_configs"]
        scrape["static_configs"] = [{"targets": [url.split("/")[2]]}]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        arguments = [
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=127.0.0.1:0",
        ]
        log = {"stdout": DEVNULL, "stderr": PIPE}
        async with running("prometheus", *arguments, **log) as prometheus:
            line = await line_with(prometheus, "address=127.0.0.1:", "stderr")
            while line.rstrip().endswith(":0"):
                line = await line_with(prometheus, "address=127.0.0.1:", "stderr")
            draining = asyncio.ensure_future(prometheus.stderr.read())  # type: ignore[union-attr]
            api = "http://" + line.rpartition("address=")[2].strip()
            client = create(hostname="127.0.0.1", port=port)
            load = asyncio.create_task(_call_and_fail(client))
            async with httpx.AsyncClient(base_url=api) as http, asyncio.timeout(3 * SECONDS):
                while True:
                    alerts_now = (await http.get("/api/v1/alerts")).json()["data"]["alerts"]
                    firing = [each for each in alerts_now if each["state"] == "firing"]
                    if firing:
                        break
                    await asyncio.sleep(0.2)
                query = {"query": "socketcluster_clients"}
                found = (await http.get("/api/v1/query", params=query)).json()["data"]["result"]
            load.cancel()
            client.disconnect()
            draining.cancel()
    assert {each["labels"]["alertname"] for each in firing} == {"SocketClusterCallErrors"}
    assert [each["value"][1] for each in found] == ["1"]


async def _call_and_fail(client: Any) -> None:
    number = 0
    while True:
        number += 1
        try:
            await client.invoke("fail", bool(number % 2))
        except SocketClusterError:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("port", ["http", "1:2:x", "65536", "-1"])
def test_a_wrong_port_is_refused(port: str) -> None:
    result = run_here("serve", f"--metrics-port={port}")
    assert result.status == 1
    assert "metrics_port option must be a port such as 9100" in result.err
