"""Where bytes live: stores of blobs by URL, and the thread in which their event loop runs.

Runs in a store are `crown_exp.storage.runs`, this machine's own facts `crown_exp.storage.machine`.
"""

from crown_exp.storage.base import AlreadyExists, BlobStore, Entry, NotFound, WrongSize
from crown_exp.storage.manager import StorageManager
from crown_exp.storage.portal import Portal
from crown_exp.storage.urls import open_blobs

__all__ = [
    "AlreadyExists",
    "BlobStore",
    "Entry",
    "NotFound",
    "Portal",
    "StorageManager",
    "WrongSize",
    "open_blobs",
]
