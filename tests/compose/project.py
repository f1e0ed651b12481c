"""The compose file as a project of its own on some engine: started, looked into, taken down."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayrtc.free_port import free_port

ROOT = Path(__file__).parents[2]
NAME = "rayrtccheck"
COMMAND_TIMEOUT = 120
BUILD_TIMEOUT = 1200
# What the compose file takes from the environment is unset: its defaults are what is checked.
VARIABLES = {
    *re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()),
    *re.findall(r"^ +([A-Z_]+):$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE),
    "COMPOSE_FILE",
    "COMPOSE_PROFILES",
}


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """The first true value of `condition`; AssertionError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.5)
    return value


class Project:
    """All commands go to the engine at `host`, or to the one of the environment.

    Args:
        secrets: folder with secrets that only this project has, and an empty `none.env`.
    """

    def __init__(self, host: str | None, secrets: str) -> None:
        names = ("PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "TURN_PORT")
        ports = {name: free_port() for name in names}
        self.url = f"http://127.0.0.1:{ports['PORT']}"
        self.prometheus = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}"
        self.grafana = f"http://127.0.0.1:{ports['GRAFANA_PORT']}"
        self.secrets = secrets
        self.turn_port = ports["TURN_PORT"]
        self.environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        self.environment |= {name: str(port) for name, port in ports.items()}
        if host:
            self.environment["DOCKER_HOST"] = host
        if subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode:
            self.environment["DOCKER_BUILDKIT"] = "0"
        alone = shutil.which("docker-compose") is not None
        self._compose = ["docker-compose"] if alone else ["docker", "compose"]

    def _run(self, command: list[str], timeout: float) -> str:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        printed = (done.stdout + done.stderr)[-3000:]
        assert not done.returncode, f"{' '.join(command)}: {done.returncode}\n{printed}"
        return done.stdout

    def docker(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """What `docker ...` prints; AssertionError when it fails."""
        return self._run(["docker", *arguments], timeout)

    def compose(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """What `docker-compose ...` prints; AssertionError when it fails."""
        # Not the `.env` of whoever runs the check.
        options = ("--project-name", NAME, "--env-file", f"{self.secrets}/none.env")
        return self._run([*self._compose, *options, *arguments], timeout)

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows of each container, of all services or of one, oldest first."""
        labels = [f"label=com.docker.compose.project={NAME}"]
        if service:
            labels.append(f"label=com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", label)]
        ids = self.docker("ps", "--all", "--quiet", *filters).split()
        if not ids:
            return []
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids))
        return sorted(found, key=lambda container: container["Created"])

    def unhealthy(self) -> list[str]:
        """Each container that is not (yet) healthy, with its state."""
        return [
            f"{container['Name'].lstrip('/')} is {state}"
            for container in self.containers()
            if (state := container["State"].get("Health", {}).get("Status", "without a check"))
            != "healthy"
        ]

    def wait_healthy(self, count: int, timeout: float) -> None:
        """Until there are `count` containers and all are healthy."""
        deadline = time.monotonic() + timeout
        while len(self.containers()) != count or self.unhealthy():
            assert time.monotonic() < deadline, (
                f"{len(self.containers())} containers, not {count}; {', '.join(self.unhealthy())}"
            )
            time.sleep(0.5)

    def crash(self, container: dict[str, Any]) -> None:
        """Kill a container's first process from outside, as running out of memory would.

        `docker kill` would not do: what an operator kills is not restarted.
        """
        os.kill(container["State"]["Pid"], signal.SIGKILL)

    def stop_container(self, container: dict[str, Any]) -> None:
        """SIGTERM, as `docker-compose stop` and a smaller `--scale` do, and wait for the end."""
        self.docker("stop", "--time", "60", container["Id"])

    def address(self, container: dict[str, Any]) -> str:
        """Where a container is in the project's network."""
        (network,) = container["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def status(self) -> dict[str, Any]:
        """What `rayrtc status --json` prints in a control-plane container."""
        replica = self.containers("control-plane")[0]["Id"]
        result: dict[str, Any] = json.loads(
            self.docker("exec", replica, "rayrtc", "status", "--json")
        )
        return result

    def wait_nodes(self, nodes: int, timeout: float) -> None:
        """Until all containers are healthy and that many nodes have a worker that takes calls."""
        begin = time.monotonic()
        self.wait_healthy(len(self.containers()), timeout)
        wait_until(
            lambda: (
                len({w["node"] for w in self.status()["workers"] if w["state"] != "draining"})
                == nodes
            ),
            timeout - (time.monotonic() - begin),
            f"workers on {nodes} nodes",
        )

    def get(self, url: str) -> Any:
        """The JSON of a URL; OSError or one of its subclasses when it is not answered with 200."""
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)

    def logs(self) -> str:
        """The ends of all containers' logs."""
        return self.compose("logs", "--no-color", "--tail", "15")
