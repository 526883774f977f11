"""`python -m neuron_localcluster.node --config agent.json`"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from neuron_localcluster.errors import ClusterError
from neuron_localcluster.node import agent, config


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m neuron_localcluster.node", description="Runs pods as processes.")
    parser.add_argument("--config", type=Path, required=True, help="agent.json")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(config.load(arguments.config)))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _run(loaded: config.AgentConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await agent.run(loaded, stop)


if __name__ == "__main__":
    sys.exit(main())
