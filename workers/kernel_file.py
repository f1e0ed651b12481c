"""A file in which the kernel tells a state, such as one of /proc, read many times a second."""

import os
from pathlib import Path

SIZE_MAX = 16 << 10
"""Bytes that are read of it."""


class KernelFile:
    """It is opened once, as that costs more than to read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def read(self) -> bytes:
        """What it says now.

        Raises:
            OSError: it is not there, or what it is about is not there any more.
        """
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._file, SIZE_MAX, 0)

    def read_or_none(self) -> bytes | None:
        """The same; None when it cannot be read."""
        try:
            return self.read()
        except OSError:
            return None

    def close(self) -> None:
        """Close it; the next `read` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()
