"""Where the C libraries are that PyAV brings along for FFmpeg, or the system's."""

import ctypes.util
from pathlib import Path

import av


def path_of(name: str, package: str) -> str:
    """What `ctypes` loads as the library `lib{name}`.

    Args:
        package: Debian's, which the error names.

    Raises:
        OSError: there is none.
    """
    folder = Path(av.__file__).parent
    found = [*folder.parent.glob(f"av.libs/lib{name}*"), *folder.glob(f".dylibs/lib{name}*")]
    path = str(found[0]) if found else ctypes.util.find_library(name)
    if path is None:
        raise OSError(f"lib{name} was not found: install it (Debian: {package})")
    return path
