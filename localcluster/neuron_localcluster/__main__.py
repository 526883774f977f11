"""`python -m neuron_localcluster`: bring a local cluster up and down, and look at it."""

from __future__ import annotations

import sys

from neuron_localcluster.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
