"""Loads, and running them: the Python side of native/scload.c."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass

from bench.contenders import HERE, LOAD_CORE, Contender, Running, running
from bench.processes import StartError

Sample = dict[str, float]
"""What was measured, by name."""

MAX_SECONDS = 240.0
_SPARE_FILES = 200


class LoadError(Exception):
    """A load could not be run to its end; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """What scload does; see native/scload.c. `seconds` None is the run's own.

    Mode "hop" is hop.py's: the sockets are the processes that receive.
    """

    mode: str
    sockets: int
    in_flight: int = 1
    payload: int = 100
    channels: int = 1
    subscribers: int | None = None
    published: int | None = None
    lockstep: bool = False
    seconds: float | None = None

    def arguments(self, seconds: float, warm_up: float) -> list[str]:
        """The command line, without server."""
        found = [self.mode, "--sockets", str(self.sockets), "--in-flight", str(self.in_flight)]
        found += ["--payload", str(self.payload), "--channels", str(self.channels)]
        found += ["--seconds", str(self.seconds or seconds), "--warm-up", str(warm_up)]
        if self.subscribers is not None:
            found += ["--subscribers", str(self.subscribers)]
        if self.published is not None:
            found += ["--published", str(self.published)]
        return [*found, "--lockstep"] if self.lockstep else found


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds measured, and before that seconds that are not."""

    seconds: float = 3.0
    warm_up: float = 1.0


def build() -> None:
    """Compile the load generator and the bare server.

    Raises:
        LoadError: the compiler is missing or failed.
    """
    native, out = HERE / "native", HERE / "build"
    out.mkdir(exist_ok=True)
    for name, sources in {
        "scload": ("scload.c", "connection.c", "dialect.c"),
        "limit": ("limit.c",),
    }.items():
        paths = [str(native / source) for source in sources]
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(out / name), *paths]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LoadError(f"{name} could not be compiled: {error}") from error


def allow_files(sockets: int) -> None:
    """Raise the limit of open files of what is started here, for this many sockets.

    Raises:
        LoadError: the system allows fewer.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < sockets + _SPARE_FILES:
        raise LoadError(
            f"{sockets} sockets need {sockets + _SPARE_FILES} open files and the system allows "
            f"{hard}: raise its hard limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(contender: Contender, load: Load, timing: Timing) -> Sample:
    """Start a server, load it, stop it.

    Raises:
        LoadError: the server did not start, or failed under the load.
    """
    make_command = _hop if load.mode == "hop" else _scload
    try:
        with running(contender) as server:
            done = subprocess.run(
                ["taskset", "-c", str(LOAD_CORE), *make_command(contender, load, timing, server)],
                cwd=HERE.parent,
                capture_output=True,
                text=True,
                timeout=MAX_SECONDS,
                check=False,
            )
    except (StartError, subprocess.TimeoutExpired) as error:
        raise LoadError(str(error)) from error
    if done.returncode:
        raise LoadError(f"{contender.title}, {load.mode}: {done.stderr.strip()}")
    sample: Sample = json.loads(done.stdout)
    if load.lockstep:
        sample["copies"] = sample["peak_kb"] * 1024 / (load.sockets * load.payload)
    return sample


def _scload(contender: Contender, load: Load, timing: Timing, server: Running) -> list[str]:
    command = [str(HERE / "build" / "scload"), *load.arguments(timing.seconds, timing.warm_up)]
    command += ["--dialect", contender.dialect, "--port", str(server.port)]
    command += ["--publisher-port", str(server.publisher_port), *contender.arguments]
    for pid in server.pids:
        command += ["--pid", str(pid)]
    return command


def _hop(contender: Contender, load: Load, timing: Timing, server: Running) -> list[str]:
    assert server.engine is not None, f"{contender.title} has no engine"
    numbers = (load.sockets, load.in_flight, load.payload, timing.seconds, server.engine.pid)
    return [sys.executable, "-m", "bench.hop", server.engine.url, *map(str, numbers)]
