"""Artifacts and source snapshots in S3: committed by a manifest that is put last, verified by whoever reads them."""

from .arrival import Arrival
from .files import Arrived, Report, describe_files
from .s3 import Store, open_store

__all__ = ["Arrival", "Arrived", "Report", "Store", "describe_files", "open_store"]
