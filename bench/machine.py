"""The machine and the versions of a measurement, without names of hosts or directories."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import time
from importlib.metadata import version
from json import loads
from pathlib import Path

from bench.contenders import HERE

_PACKAGES = (
    "socketcluster",
    "picows",
    "uvloop",
    "uvicorn",
    "msgspec",
    "websockets",
    "python-socketio",
    "pyzmq",
    "redis",
    "nats-py",
)

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def description() -> str:
    """Return the processor, memory and kernel as text."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]} ({platform.machine()})"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "an unknown processor"


def versions() -> str:
    """Return the versions of Python, Node, the packages and the backends as text."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    package = HERE / "js" / "node_modules" / "socketcluster-server" / "package.json"
    names = [f"{platform.python_implementation()} {platform.python_version()}"]
    names += [f"{name} {version(name)}" for name in _PACKAGES]
    names += [f"Node {node.stdout.strip().lstrip('v')}"]
    names += [f"socketcluster-server {loads(package.read_text())['version']}"]
    for backend in ("redis-server", "nats-server"):
        if shutil.which(backend) is not None:
            printed = subprocess.run(
                [backend, "--version"], capture_output=True, text=True, check=True
            )
            names += [
                f"{backend} {number.group()}" for number in _VERSION.finditer(printed.stdout)
            ][:1]
    return ", ".join(names)


class OtherLoad:
    """The load of other programs on this machine, since the object was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before = _busy_seconds() - _own_seconds()

    def share(self) -> float:
        """Return the share of all cores that other programs used, from 0 to 1."""
        spent = _busy_seconds() - _own_seconds() - self._before
        return max(0.0, spent / (time.monotonic() - self._started) / (os.cpu_count() or 1))


def _busy_seconds() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, interrupt, soft_interrupt, steal = map(int, fields[:8])
    busy = user + nice + system + interrupt + soft_interrupt + steal
    return busy / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    spent = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        spent += usage.ru_utime + usage.ru_stime
    return spent
