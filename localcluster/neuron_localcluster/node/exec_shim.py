"""Becomes another program that dies with the agent: `exec_shim.py AGENT_PID PROGRAM ARGV0 [ARGUMENT...]`.

It stays a script of the standard library alone: it runs between fork and exec of every container.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    agent, program, *arguments = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The agent may have ended before the kernel was told.
    if os.getppid() != int(agent):
        os.kill(os.getpid(), signal.SIGKILL)
    # Python ignores SIGPIPE, and that would be inherited.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(program, arguments)  # noqa: S606 - the one purpose


if __name__ == "__main__":
    main()
