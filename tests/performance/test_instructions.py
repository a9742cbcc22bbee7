"""No path of the server gets longer unnoticed, however noisy the machine is."""

from __future__ import annotations

import shutil

import pytest

from performance.counting import MAX_SECONDS, bounds, count
from performance.workload import OPERATIONS
from support import require

# The counting ends first, so that the error says what took so long.
pytestmark = pytest.mark.timeout(MAX_SECONDS + 40)

LONGER = 1.10
SHORTER = 0.80
"""A path that got so much shorter needs a lower bound, or it could grow again unnoticed."""
ELSEWHERE = 1.25
"""With another version of Python, or another processor, than those on record."""


RATIOS = [
    ("handler", "rpc", 0.66),
    ("handler pipelined", "rpc pipelined", 0.72),
    ("typed add", "plain add", 1.2),
    ("async handler", "rpc", 1.0),
    ("async handler pipelined", "rpc pipelined", 1.0),
    ("shared stored publish", "shared publish", 2.0),
    ("backend stored publish", "backend publish", 2.0),
]
"""(path, the path it is compared with, the greatest ratio): "rpc" is a loop over a procedure, and
"shared" publishes are in memory."""

MOST_WITH_METRICS = 1.02
"""How much longer metrics may make a path."""


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    require(shutil.which("valgrind") is not None, "valgrind")
    return count()


@pytest.fixture(scope="module")
def metered() -> dict[str, int]:
    return count("metrics")


@pytest.mark.parametrize("path", OPERATIONS)
def test_path_is_not_longer(path: str, counted: dict[str, int]) -> None:
    recorded, exact = bounds()
    found, bound = counted[path], recorded[path]
    told = f"{path} takes {found:,} instructions; {bound:,} are on record"
    assert found <= bound * (LONGER if exact else ELSEWHERE), (
        f"{told}. If that is the price of something, `make instructions` records it."
    )
    if exact:
        assert found >= bound * SHORTER, f"{told}. Keep it so: `make instructions` records it."


@pytest.mark.parametrize(("path", "other", "most"), RATIOS)
def test_paths_take_no_more_than_others(
    path: str, other: str, most: float, counted: dict[str, int]
) -> None:
    _, exact = bounds()
    ratio = counted[path] / counted[other]
    assert ratio <= most * (1 if exact else ELSEWHERE), f"{path}: {ratio:.3f} of {other}"


@pytest.mark.parametrize("path", OPERATIONS)
def test_metrics_make_no_path_much_longer(
    path: str, counted: dict[str, int], metered: dict[str, int]
) -> None:
    ratio = metered[path] / counted[path]
    assert ratio <= MOST_WITH_METRICS, f"{path} takes {ratio:.2%} of its instructions with metrics"
