"""How many examples the property tests try: 50 each in `make test`, many more in `make soak`.

Without SOAK the examples are the same in every run, so that a failure is one of the change made.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "test",
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "soak",
    settings.get_profile("test"),
    max_examples=int(os.environ.get("EXAMPLES", 5000)),
    derandomize=False,
    print_blob=True,
)
settings.load_profile("soak" if os.environ.get("SOAK") else "test")
