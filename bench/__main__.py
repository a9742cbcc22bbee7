"""The benchmark's command line: measure, print the tables, write the results."""

from __future__ import annotations

import argparse
import sys

from bench import plan as plans
from bench.contenders import HERE
from bench.load import LoadError, Timing, allow_files, build
from bench.machine import OtherLoad, description, versions
from bench.report import Circumstances, markdown, measurements_table, summary, targets_table
from bench.rounds import run


def main() -> int:
    """Run the benchmark, and return the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round; nothing is written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="per figure and round")
    arguments = parser.parse_args()
    plan = plans.quick() if arguments.quick else plans.full()
    timing = Timing(0.6, 0.3) if arguments.quick else Timing(arguments.seconds)
    rounds = 1 if arguments.quick else arguments.rounds
    other_load = OtherLoad()
    try:
        build()
        allow_files(plan.most_sockets())
        results = run(plan, timing, rounds)
    except LoadError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    tables = [measurements_table(table, results) for table in plan.tables]
    for table in (*tables, targets_table(plan.targets, results)):
        print("\n".join(table), end="\n\n")
    print(summary(plan.targets, results))
    print("\n".join(results.faults))
    if not arguments.quick:
        from bench.chart import draw

        circumstances = Circumstances(
            description(), versions(), rounds, timing.seconds, other_load.share()
        )
        (HERE / "results.md").write_text(markdown(plan, results, circumstances))
        draw(plan, results, HERE / "results.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
