"""Whether a file lies where other machines may have it open too."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SHARED = re.compile(
    r"nfs4?|cifs|smb3?|smbfs|fuse(\..+)?|lustre|gpfs|beegfs|ceph|glusterfs|9p|afs|pvfs2|orangefs"
)


def is_shared(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether the file system at `path` is one of several machines (NFS, FUSE, …).

    Told by the kernel's table of mounts; where there is none (macOS) the answer is no.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    kinds = dict(found for line in lines if (found := _mount(line)))
    place = path.expanduser().resolve()
    kind = next((kinds[str(at)] for at in (place, *place.parents) if str(at) in kinds), "")
    return _SHARED.fullmatch(kind) is not None


def _mount(line: str) -> tuple[str, str] | None:
    """(mount point, type) of a line `36 35 98:0 /root /mount rw - ext4 /dev/sda rw`; see proc(5)."""
    before, separator, after = line.partition(" - ")
    fields = before.split(" ")
    if not separator or len(fields) < 5:
        return None
    point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    return point, after.split(" ")[0]
