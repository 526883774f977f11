"""How fast one thread reads memory: `python -m serving.bandwidth` prints bytes per second, one pass in each line.

A decode step reads every weight once, so this bounds it. A process of its own, because BLAS takes its number of threads
from the environment when it is loaded.
"""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np

# Far beyond any cache.
_BYTES = 512 * 2**20
_PASSES = 9


def main() -> None:
    """Measure a product of a vector with itself: the fastest of numpy's ways to read a buffer once."""
    buffer = np.ones(_BYTES // 4, np.float32)
    for _ in range(_PASSES):
        started = perf_counter()
        np.dot(buffer, buffer)
        sys.stdout.write(f"{buffer.nbytes / (perf_counter() - started)}\n")


if __name__ == "__main__":
    main()
