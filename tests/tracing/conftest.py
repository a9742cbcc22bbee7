"""Fixtures of the tests of tracing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tracing.recorded import Recorded


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    found = Recorded()
    yield found
    found.exporter.shutdown()
