"""Model sources, brought to a local folder and verified. Only compile and inspect Jobs read them: servers read the
store."""

from .base import Source
from .opening import open_source
from .snapshot import copy_snapshot

__all__ = ["Source", "copy_snapshot", "open_source"]
