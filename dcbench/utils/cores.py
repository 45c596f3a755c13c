"""The cores of the CPU: threads that wait for each other, and other programs that want them, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SPINS = "1000"
"""How often a thread of OpenMP looks for work before it sleeps.

On quiet cores it is as fast as the default of about 300,000. Beside one busy process a ConvNet on ten images takes
half the time, because threads that look for work keep those from a core that have some.
"""


def let_waiting_threads_sleep() -> None:
    """Set how long threads of GNU's OpenMP, which torch has on Linux, wait awake: before torch is imported.

    What the user has set stays; where torch is imported already, it would change nothing here, so it is left.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def advice_where_shared(threads: int, loadavg: Path = Path("/proc/loadavg")) -> str:
    """Return a line for the user where other programs use the cores; empty where they do not, or it is not known.

    Args:
        threads: the number that is about to compute.
        loadavg: Linux's file of the load. Its average over a minute counts what has just ended, and the number of
            threads that run now may be a moment's: the smaller of the two counts.
    """
    cores = os.cpu_count() or 1
    try:
        average, _, _, running, _ = loadavg.read_text().split()
        others = min(cores, round(min(float(average), int(running.partition("/")[0]) - 1)))
    except (OSError, ValueError):
        return ""
    if threads == 1 or others + threads <= cores:
        return ""
    return (
        f"Other programs use about {others} of {cores} cores, where threads that wait for each other are slow: "
        f"--threads {max(1, cores - others)} may be quicker. The last digits of results depend on it.\n"
    )
