"""The lines that a program prints about the server that it runs."""

from __future__ import annotations


def print_running(address: str, workers: int = 1) -> None:
    """Print that connections are accepted, and at which address."""
    by = f" with {workers} workers" if workers > 1 else ""
    print(f"SocketCluster is running on {address}{by} (Ctrl-C stops)", flush=True)


def print_stopping() -> None:
    """Print that the server finishes the calls under way and then stops."""
    print("Stopping: waiting for calls that are under way", flush=True)
