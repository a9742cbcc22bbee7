"""Loads, and their measurement: the Python side of native/scload.c."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass

from bench.contenders import HERE, LOAD_CORE, Contender, Running, running
from bench.processes import StartError

Sample = dict[str, float]
"""The figures of one measurement, by metric."""

MAX_SECONDS = 240.0
_SPARE_FILES = 200


class LoadError(Exception):
    """A load could not be completed; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Load:
    """The arguments of scload, which native/scload.c explains.

    `seconds` overrides the duration of the run. The modes of hop.py run it instead; its `sockets`
    are the receiving processes.
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
        """Return the arguments for scload, without those of the server."""
        arguments = [self.mode, "--sockets", str(self.sockets), "--in-flight", str(self.in_flight)]
        arguments += ["--payload", str(self.payload), "--channels", str(self.channels)]
        arguments += ["--seconds", str(self.seconds or seconds), "--warm-up", str(warm_up)]
        if self.subscribers is not None:
            arguments += ["--subscribers", str(self.subscribers)]
        if self.published is not None:
            arguments += ["--published", str(self.published)]
        return [*arguments, "--lockstep"] if self.lockstep else arguments


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds that are measured, and those of the warm-up before."""

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
    """Raise the limit of open files for this process and its children.

    Raises:
        LoadError: the hard limit is too low for this many sockets.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < sockets + _SPARE_FILES:
        raise LoadError(
            f"{sockets} sockets need {sockets + _SPARE_FILES} open files and the system allows "
            f"{hard}: raise its hard limit (ulimit -Hn)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(contender: Contender, load: Load, timing: Timing) -> Sample:
    """Start a server, run a load against it, and stop it.

    Raises:
        LoadError: the server did not start, or failed under the load.
    """
    make_command = _hop if load.mode.startswith("hop") else _scload
    try:
        with running(contender) as server:
            completed = subprocess.run(
                ["taskset", "-c", str(LOAD_CORE), *make_command(contender, load, timing, server)],
                cwd=HERE.parent,
                capture_output=True,
                text=True,
                timeout=MAX_SECONDS,
                check=False,
            )
    except (StartError, subprocess.TimeoutExpired) as error:
        raise LoadError(str(error)) from error
    if completed.returncode:
        raise LoadError(f"{contender.title}, {load.mode}: {completed.stderr.strip()}")
    sample: Sample = json.loads(completed.stdout)
    if load.lockstep:
        # The server's peak memory as a multiple of one payload for each socket.
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
    assert server.backend is not None, f"{contender.title} has no backend"
    numbers = (load.sockets, load.in_flight, load.payload, timing.seconds, server.backend.pid)
    arguments = [load.mode, server.backend.url, *map(str, numbers)]
    return [sys.executable, "-m", "bench.hop", *arguments]
