"""`python -m demo up|down`: exit codes are 0 for done, 1 for a stage that failed, 130 for an interrupted start."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from demo import settings
from demo.screen import Screen
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import LinePrinter


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    return _down(purge=options.purge) if options.command == "down" else _up(detach=options.detach)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description="Compile and serve a model on a local cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start all that does not run yet, and ask the model a question")
    up.add_argument("--detach", action="store_true", help="leave it running in the background")
    down = commands.add_parser("down", help="end everything that was started")
    down.add_argument("--purge", action="store_true", help="delete the data too: cluster and artifacts")
    return parser


def _up(*, detach: bool) -> int:
    # Ending everything should not wait for what only a run needs.
    from demo.run import Demo

    settings.STATE.mkdir(exist_ok=True)
    interrupted = 130
    with settings.LOG.open("w", encoding="utf-8") as log:
        screen = Screen(sys.stdout, log)
        try:
            demo = Demo(screen, log)
            code = demo.run()
            if code or detach:
                return code
            screen.text("\nIt runs until Ctrl-C.")
            interrupted = 0
            return demo.attend()
        except KeyboardInterrupt:
            screen.fail("interrupted")
        finally:
            screen.close()
    print("\nStopping everything; the data is kept.", flush=True)
    return _down(purge=False) or interrupted


def _down(*, purge: bool) -> int:
    # Half of a cluster left behind would be in the way of the next run: what is being ended is ended to the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        Cluster(settings.CLUSTER).down(purge=purge, progress=LinePrinter(sys.stdout))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if purge:
        for path in (settings.VALUES, settings.LOG):
            path.unlink(missing_ok=True)
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
