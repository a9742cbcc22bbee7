"""Console lines about a running server."""

from __future__ import annotations


def print_running(address: str, workers: int = 1) -> None:
    """Print that the server accepts connections, and its address."""
    by = f" with {workers} workers" if workers > 1 else ""
    print(f"SocketCluster is running on {address}{by} (Ctrl-C stops)", flush=True)


def print_stopping() -> None:
    """Print that the server is stopping once the calls under way are answered."""
    print("Stopping: waiting for calls that are under way", flush=True)
