"""Starting workers, and restarting them without an outage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from socketcluster.cli.workers.link import WorkerLinkError
from socketcluster.cli.workers.process import WorkerProcess
from socketcluster.cli.workers.slot import Slot

STOP_ACCEPTING_SECONDS = 5.0
"""How long to wait for an old worker to close its listening sockets."""

SETTLE_SECONDS = 2.0
"""How long connections that an old worker has accepted may take for their handshakes. A worker that
drains refuses them."""

logger: logging.Logger = logging.getLogger("socketcluster.workers")


async def start_generation(slots: Sequence[Slot]) -> list[WorkerProcess] | None:
    """Start a process for each slot, and return them once all are ready.

    If one ends before that, the others are ended, too, and the result is None. The first is started
    alone, so that a fault of the target is reported once.
    """
    first, *others = slots
    processes = [first.launch()]
    if await _all_started(processes):
        processes += [slot.launch() for slot in others]
        if await _all_started(processes) and all(process.is_ready for process in processes):
            return processes
    for process in processes:
        process.stop(peers=True)
    for process in processes:
        await process.ended.wait()
    return None


async def _all_started(processes: Sequence[WorkerProcess]) -> bool:
    """Return whether all become ready, as soon as that is known."""
    waiting = {process.started for process in processes}
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not all(started.result() for started in done):
            return False
    return True


async def restart_generation(slots: Sequence[Slot], at_once: int) -> bool:
    """Replace all processes, `at_once` at a time; return whether all could be replaced.

    New processes start beside the old ones and share their listening sockets. When they are ready,
    the old ones stop accepting, all together, and drain one after the other. Their clients connect
    to new ones.
    """
    for start in range(0, len(slots), at_once):
        batch = slots[start : start + at_once]
        processes = await start_generation(batch)
        if processes is None:
            _report_failure(start, len(slots))
            return False
        former = [slot.adopt(process) for slot, process in zip(batch, processes, strict=True)]
        await _retire([process for process in former if process is not None])
    return True


async def _retire(processes: Sequence[WorkerProcess]) -> None:
    # A client of the first must not meet the listening socket of the second.
    await asyncio.gather(*(_stop_accepting(process) for process in processes))
    await asyncio.sleep(SETTLE_SECONDS)
    for process in processes:
        process.stop(peers=True)
        await process.ended.wait()


async def _stop_accepting(process: WorkerProcess) -> None:
    if not process.is_ready:
        return
    try:
        await process.link.stop_accepting(STOP_ACCEPTING_SECONDS)
    except WorkerLinkError as error:
        logger.warning("%s goes on accepting: %s", process.describe(), error)


def _report_failure(replaced: int, workers: int) -> None:
    if replaced:
        logger.error(
            "The restart failed after %d of %d workers, because a new worker ended before it was "
            "ready: the others serve on with the code that they have loaded",
            replaced,
            workers,
        )
    else:
        logger.error(
            "The restart failed, because a new worker ended before it was ready: "
            "the old workers serve on"
        )
