"""A compile job that does as it is told: `python -m support.scripted_job`, with JSON on stdin."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Write, leave a file, start a process, wait for ever, or die: what the document says, in this order."""
    told = json.loads(sys.stdin.read())
    sys.stdout.write(told.get("stdout", ""))
    sys.stderr.write(told.get("stderr", ""))
    sys.stdout.flush()
    if "touch" in told:
        Path(told["touch"]).touch()
    if "child" in told:
        child = subprocess.Popen(["sleep", "600"])
        Path(told["child"]).write_text(str(child.pid))
    if told.get("wait"):
        signal.pause()
    if "signal" in told:
        os.kill(os.getpid(), told["signal"])
    exit_code: int = told.get("exit", 0)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
