"""Starts operators in a moment: `python -m faults.zygote <socket>` imports all of it once, and forks.

A connection is one operator: a line of JSON says how to start it, the answers are its process id and, once it has
ended, its exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from faults.hasty import hurry
from neuron_operator import __main__ as operator

_PR_SET_PDEATHSIG = 1


def serve(path: str) -> None:
    """Fork for each connection, until standard input ends. What was started ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
        server.bind(path)
        server.listen(64)
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while all(key.fileobj is server for key, _ in selector.select()):
            connection, _ = server.accept()
            if os.fork() == 0:
                _die_with_parent()
                _supervise(connection)
                os._exit(0)
            connection.close()


def _supervise(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection, connection.makefile("r") as lines:
        told = json.loads(lines.readline())
        child = os.fork()
        if child == 0:
            _die_with_parent()
            os._exit(_run(told))
        connection.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _run(told: dict[str, Any]) -> int:
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(told["environment"])
    random.seed()
    hurry(short_lease=told["short_lease"])
    return operator.main()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    serve(str(Path(sys.argv[1])))
