"""With this folder on PYTHONPATH, no Python process can write into the package or beside the notebooks.

Permissions would not do: a test that runs as root may write everywhere.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = tuple(f"{ROOT / name}{os.sep}" for name in ("pgcourse", "book", "_build/student"))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {
    "open": 1,
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.rename": 2,
    "os.symlink": 2,
    "os.truncate": 1,
}  # how many are given


def refuse(event, arguments):
    if event not in PATHS or (event == "open" and not arguments[2] & WRITING):
        return
    for path in arguments[: PATHS[event]]:
        if isinstance(path, str | bytes | os.PathLike) and os.path.realpath(os.fsdecode(path)).startswith(
            KEPT
        ):
            raise PermissionError(f"{event} of {os.fsdecode(path)}, which is to be left as it is")


sys.dont_write_bytecode = True
sys.addaudithook(refuse)
