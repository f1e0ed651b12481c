"""What can be found wrong with a command before anything is started."""

import importlib.util
import socket
import sys
from pathlib import Path


class UsageError(Exception):
    """The command cannot do what it was asked to; the text says why and what would help."""


def check_port(host: str, port: int) -> None:
    """See whether the control plane will be able to listen.

    Raises:
        UsageError: the address is not of this machine, or the port is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror}. Choose another with --port, "
            "or make run PORT=..."
        ) from error


def source_folder(spec: str) -> Path:
    """The folder of the application's module. The module itself is not imported.

    Raises:
        UsageError: `spec` is not of the form MODULE:ATTR, or there is no such module.
    """
    module, _, attribute = spec.partition(":")
    if not module or not attribute:
        raise UsageError(
            f"{spec!r} is not of the form MODULE:ATTR, for example examples.echo:stream"
        )
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        # The parent packages are imported for this, the module itself is not.
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None:
        raise UsageError(f"there is no module {module!r} in {here} or installed")
    return Path(found.origin).parent
