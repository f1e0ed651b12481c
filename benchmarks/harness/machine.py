"""On what a benchmark ran."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel


class Machine(BaseModel):
    """Processor, memory and versions."""

    processor: str
    cores: int
    memory: float
    """GiB."""
    system: str
    python: str
    load_average: float
    """Of the minute before."""
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        """This machine, now."""
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 1,
            memory=round(psutil.virtual_memory().total / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            load_average=round(os.getloadavg()[0], 2),
            versions={name: version(name) for name in ("aiortc", "aioice", "av", "ray", "uvloop")},
        )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
