"""dcbench: a benchmark suite for dataset condensation.

``dcbench.api`` is what plugin authors import; the ``dcbench`` command is what everyone else uses.
Importing this package imports nothing heavy.
"""

from dcbench.utils.cores import let_waiting_threads_sleep

__version__ = "0.1.0"

DISTRIBUTION = "dcbench-suite"

let_waiting_threads_sleep()
