"""Gets the programs of the local cluster before they are needed: tests with a time limit cannot wait for a build."""

from __future__ import annotations

import sys

from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import LinePrinter


def main() -> int:
    """Make sure that the programs are there; returns the exit code."""
    try:
        ensure_binaries(LinePrinter(sys.stdout))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
