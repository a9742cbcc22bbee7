"""What the figures were measured on and with, without names of hosts or folders."""

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
    """Processor, memory, kernel."""
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
    """Python, Node, the packages and the engines."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    package = HERE / "js" / "node_modules" / "socketcluster-server" / "package.json"
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    found += [f"{name} {version(name)}" for name in _PACKAGES]
    found += [f"Node {node.stdout.strip().lstrip('v')}"]
    found += [f"socketcluster-server {loads(package.read_text())['version']}"]
    for engine in ("redis-server", "nats-server"):
        if shutil.which(engine) is not None:
            said = subprocess.run([engine, "--version"], capture_output=True, text=True, check=True)
            found += [f"{engine} {number.group()}" for number in _VERSION.finditer(said.stdout)][:1]
    return ", ".join(found)


class OtherLoad:
    """How busy the machine's cores were with something else since this was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before = _busy_seconds() - _own_seconds()

    def share(self) -> float:
        """Of all cores, 0 to 1."""
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
