"""Model sources, brought to a local folder and verified. Only the compile Job reads them: servers read the store."""

from .hugging_face import fetch

__all__ = ["fetch"]
