"""dcbench: a benchmark suite for dataset condensation.

``dcbench.api`` is what plugin authors import; the ``dcbench`` command is what everyone else uses.
Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"

DISTRIBUTION = "dcbench-suite"
