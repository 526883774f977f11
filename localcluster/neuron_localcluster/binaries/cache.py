"""Where programs are kept between runs, and how a folder comes to be there: whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import StageClock

_REMEDY = "set XDG_CACHE_HOME to a folder that can be written and has room"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/neuron-operator`, or the same under `~/.cache`; raises ClusterError where there is no home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "neuron-operator"
    try:
        return Path.home() / ".cache" / "neuron-operator"
    except RuntimeError as error:
        raise ClusterError(f"no place to keep programs and models ({error}); {_REMEDY}") from error


@contextmanager
def locked(folder: Path, clock: StageClock) -> Iterator[None]:
    """Hold the folder's lock, so that of two processes that need it only one fills it.

    Raises ClusterError where nothing can be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        opened = folder.with_name(folder.name + ".lock").open("w")
    except OSError as error:
        raise ClusterError(f"cannot write in {folder.parent} ({error.strerror}); {_REMEDY}") from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            clock.update("another process is at it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(target: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder beside the target, then rename it: nobody sees half a folder.

    The caller holds the target's lock; what an installation left that was killed is removed first. Raises ClusterError
    when the disk does not take it.
    """
    try:
        _install(target, fill)
    except OSError as error:
        raise ClusterError(f"cannot fill {target}: {error}; {_REMEDY}") from error


def _install(target: Path, fill: Callable[[Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        fill(staged)
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)


def holds(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether the folder has all these programs."""
    return all(os.access(folder / name, os.X_OK) for name in names)
