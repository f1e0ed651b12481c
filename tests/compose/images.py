"""Stand-ins for the public images, made of Debian's packages: no registry is needed.

They carry the names that the Dockerfile and the compose file use, so that both run as they are. A
stand-in has the same programs as the image it stands for, not the same versions; that of Grafana,
which Debian does not have, is a program of our own (grafana.py).
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_TIMEOUT = 900

SERVICES = {
    # The owner of /data is that of the image, which the compose file names.
    "redis": ("redis-server", "RUN install -d -o 999 -g 1000 /data\nWORKDIR /data"),
    "nginx": ("nginx-light wget", ""),
    "prom/prometheus": (
        "prometheus wget",
        'RUN install -d -o nobody /prometheus\nUSER nobody\nENTRYPOINT ["prometheus"]',
    ),
    # As in the image, the program may have a capability that an ordinary user has not.
    "coturn/coturn": (
        "coturn libcap2-bin",
        "RUN setcap CAP_NET_BIND_SERVICE=+ep /usr/bin/turnserver\nUSER nobody:nogroup",
    ),
    # Not in Debian: a program with as much of its API as the check asks for.
    "grafana/grafana": (
        "python3-yaml wget",
        'COPY grafana.py /\nUSER nobody\nCMD ["/usr/bin/python3", "/grafana.py"]',
    ),
}
"""Repository of an image: the packages with its programs, and what else it sets."""


def base_name() -> str:
    """The image that the project's own one is built from."""
    names = set(
        re.findall(r"^FROM (\S+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE)
    )
    (name,) = names
    return name


def service_names() -> dict[str, str]:
    """Name with tag of each public image of the compose file, by its repository."""
    text = (ROOT / "docker-compose.yml").read_text()
    images = re.findall(r"^ +image: (\S+):(\S+)$", text, re.MULTILINE)
    names = {repository: f"{repository}:{tag}" for repository, tag in images}
    assert names.keys() == SERVICES.keys(), f"not all of {sorted(names)} are known"
    return names


def make_base(docker: Callable[..., str], directory: Path) -> None:
    """Bootstrap Debian with its Python into `directory` and import it under the base's name."""
    root = directory / "base"
    include = "--include=ca-certificates,python3,python3-venv"
    _run(["debootstrap", "--variant=minbase", include, "bookworm", str(root), MIRROR])
    for leftover in [*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
    # A machine may reach the package registries through certificates of its own: pip in a build
    # needs them as well, and the project's Dockerfile is no place for that.
    shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    (root / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
    archive = directory / "base.tar"
    _run(["tar", "--directory", str(root), "--create", "--file", str(archive), "."])
    shutil.rmtree(root)
    docker("import", "--change", 'CMD ["python3"]', str(archive), base_name())
    archive.unlink()


def make_services(docker: Callable[..., str], directory: Path) -> None:
    """Build what stands for the images of the compose file that are not our own."""
    for repository, name in service_names().items():
        packages, more = SERVICES[repository]
        context = directory / repository.replace("/", "-")
        context.mkdir()
        shutil.copyfile(Path(__file__).with_name("grafana.py"), context / "grafana.py")
        (context / "Dockerfile").write_text(
            f"FROM {base_name()}\n"
            # Nothing may be started while packages are installed.
            "RUN printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d"
            " && chmod 755 /usr/sbin/policy-rc.d && apt-get update"
            " && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
            f"{packages} && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb\n{more}\n"
        )
        docker("build", "--tag", name, str(context), timeout=BUILD_TIMEOUT)
        shutil.rmtree(context)


def _run(command: list[str]) -> None:
    """Run a command; when this process is told to stop, nothing of it goes on."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=BUILD_TIMEOUT)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{printed[-2000:]}")
