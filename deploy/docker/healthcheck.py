"""Is what runs in this container well? Exit status 0 when it is; the image's HEALTHCHECK.

Finds out from /proc which services run here, and asks each. Knows nothing but Python's standard
library, so that it starts within a few hundredths of a second: it runs every few seconds.
"""

import http.client
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT = 3.0
"""Seconds for each answer; the image's own timeout is a second more."""
PROGRAMS = {"rayrtc", "rayrtc.cli", "ray"}


def services(proc: Path = Path("/proc")) -> dict[tuple[str, ...], dict[str, str]]:
    """What our programs were started with, without their names; and the environment of each.

    The init in front of a service has the same words behind its own: they are one.
    """
    found = {}
    for path in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            words = _strings(path / "cmdline")
            at = next(at for at, w in enumerate(words) if w.rpartition("/")[2] in PROGRAMS)
            pairs = (pair.partition("=") for pair in _strings(path / "environ"))
            found[tuple(words[at + 1 :])] = {name: value for name, _, value in pairs}
        except (OSError, StopIteration):
            continue  # it has ended, is another user's, or not ours
    return found


def _strings(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def option(words: Sequence[str], name: str, default: str) -> str:
    """The value of `--name VALUE` or `--name=VALUE`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == f"--{name}":
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return default


def local(host: str) -> str:
    """Where a service that listens at `host` is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def answers(host: str, port: str, path: str) -> None:
    """OSError or HTTPException unless `path` is answered with 200."""
    connection = http.client.HTTPConnection(local(host), int(port), timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise OSError(f"{path} of port {port} answers {status}")


def check(words: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Ask the service that was started with these words; False when they start none.

    Raises:
        OSError, http.client.HTTPException: it does not answer as it should.
    """
    match words:
        case ["control-plane", *_]:
            host = option(words, "host", variables.get("RAYRTC_HOST", "127.0.0.1"))
            answers(host, option(words, "port", variables.get("RAYRTC_PORT", "8000")), "/readyz")
        case ["workers", *_]:
            host = variables.get("RAYRTC_WORKER_BIND", "0.0.0.0")
            answers(host, variables.get("RAYRTC_METRICS_PORT", "9464"), "/healthz")
        case ["start", *_] if "--head" in words:
            port = int(option(words, "port", "6379"))
            socket.create_connection((socket.gethostname(), port), TIMEOUT).close()
        case _:
            return False
    return True


def main() -> int:
    try:
        asked = [check(words, variables) for words, variables in services().items()]
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"unhealthy: {error}", file=sys.stderr)
        return 1
    if not any(asked):
        print("unhealthy: no service runs here", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
