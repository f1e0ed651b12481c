"""Virtual environments of the peers and of the plots, made under `.bench/` when first needed.

Each has its pinned packages in `benchmarks/requirements/NAME.txt`. A stamp holds what was
installed, so that a changed file makes the environment anew.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / ".bench"
REQUIREMENTS = ROOT / "benchmarks" / "requirements"
INSTALL_TIMEOUT = 900.0
"""Seconds for one environment's packages to be downloaded and installed."""


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made if it is not there as pinned.

    Raises:
        subprocess.CalledProcessError: a package cannot be installed.
    """
    pins = (REQUIREMENTS / f"{name}.txt").read_text()
    home = DIRECTORY / name
    stamp = home / "installed.txt"
    python = home / "bin" / "python"
    if stamp.exists() and stamp.read_text() == pins:
        return python
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    subprocess.run(
        [
            *(str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
            *("--no-input", "--only-binary", ":all:", "-r", str(REQUIREMENTS / f"{name}.txt")),
        ],
        check=True,
        timeout=INSTALL_TIMEOUT,
    )
    stamp.write_text(pins)
    return python
