"""A compile job that does as it is told: `python -m support.scripted_job`, with JSON on stdin."""

import json
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    """Write, leave a file, wait for ever, or die: what the document says, in this order."""
    told = json.loads(sys.stdin.read())
    sys.stdout.write(told.get("stdout", ""))
    sys.stderr.write(told.get("stderr", ""))
    sys.stdout.flush()
    if "touch" in told:
        Path(told["touch"]).touch()
    if told.get("wait"):
        signal.pause()
    if "signal" in told:
        os.kill(os.getpid(), told["signal"])
    exit_code: int = told.get("exit", 0)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
