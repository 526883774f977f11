"""`python -m demo up|down`: exit codes are 0 for done, 1 for a stage that failed, 130 for an interrupted start."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from demo import settings
from demo.screen import Screen
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import LinePrinter

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    for number in _ENDINGS:
        # Whoever has called it with nohup wants it to go on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
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
    settings.STATE.mkdir(exist_ok=True)
    with settings.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("error: another `make demo` is at work here; end it with Ctrl-C there first", file=sys.stderr)
            return 1
        return _run(detach=detach)


def _run(*, detach: bool) -> int:
    # Ending everything should not wait for what only a run needs.
    from demo.run import Demo

    interrupted = 130
    with settings.LOG.open("w", encoding="utf-8") as log:
        screen = Screen(sys.stdout, log)
        try:
            demo = Demo(screen, log)
            code = demo.run()
            if code or detach:
                return code
            interrupted = 0
            screen.text("\nIt runs until Ctrl-C.")
            return demo.attend()
        except (KeyboardInterrupt, BrokenPipeError):
            # Ctrl-C reaches the program that reads the output, too, and may end it first.
            _say(lambda: screen.fail("interrupted"))
        finally:
            screen.close()
    _say(lambda: print("\nStopping everything; the data is kept.", flush=True))
    return _down(purge=False) or interrupted


def _down(*, purge: bool) -> int:
    # Half of a cluster left behind would be in the way of the next run: what is being ended is ended to the end.
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    show = LinePrinter(sys.stdout)
    try:
        Cluster(settings.CLUSTER).down(purge=purge, progress=lambda step: _say(lambda: show(step)))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if purge:
        for path in (settings.VALUES, settings.LOG):
            path.unlink(missing_ok=True)
    return 0


def _say(speak: Callable[[], object]) -> None:
    """Speak as long as anybody listens: a closed terminal must not keep the cluster from being ended."""
    try:
        speak()
    except OSError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
