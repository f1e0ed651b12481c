"""Proves docker-compose.yml under a real Docker engine. Run it as `tests/compose/check.sh`.

Without DOCKER_HOST it starts an engine of its own and needs no image registry; with DOCKER_HOST it
takes that engine and the public images. Everything that it starts or makes is gone at its end.
"""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compose import calls, checks
from tests.compose.engine import Engine, EngineError
from tests.compose.images import make_base, make_services
from tests.compose.project import BUILD_TIMEOUT, ROOT, Project

SERVICES = 7
"""Containers of the compose file as it is: two of the control plane, one of each other service."""
PROFILES = ("grafana", "turn")
"""One more container each."""
OWN_IMAGE = "tests/compose/own_image/docker-compose.override.yml"


@contextmanager
def check(what: str) -> Iterator[Callable[[str], None]]:
    """Print how a step ends and how long it took; the block may add what it saw."""
    seen: list[str] = []
    begin = time.monotonic()
    try:
        yield seen.append
    except BaseException:
        print(f"FAILED  {what} ({time.monotonic() - begin:.1f} s)", flush=True)
        raise
    details = "".join(f"\n          {line}" for line in seen)
    print(f"ok      {what} ({time.monotonic() - begin:.1f} s){details}", flush=True)


def as_it_is(project: Project) -> None:
    """`docker-compose up` with nothing set."""
    with check("`up` with nothing else: all containers are healthy") as seen:
        project.compose("up", "--detach", timeout=180)
        project.wait_healthy(SERVICES, 60)
        for container in project.containers():
            seen(container["Name"].removeprefix("/"))
    with check("a call from outside the containers") as seen:
        seen(asyncio.run(calls.through_the_port(project)))
    checks.down(project)


def with_everything(project: Project) -> None:
    """Every profile, secrets of our own, and two of what can be scaled."""
    project.environment |= {
        "COMPOSE_PROFILES": ",".join(PROFILES),
        "SECRETS": project.secrets,
        "RAYRTC_TURN_URLS": ",".join(
            f"turn:127.0.0.1:{project.turn_port}?transport={transport}"
            for transport in ("udp", "tcp")
        ),
    }
    count = SERVICES + len(PROFILES)
    with check(f"every profile ({', '.join(PROFILES)}) with secrets of our own: all are healthy"):
        project.compose("up", "--detach", timeout=180)
        project.wait_healthy(count, 60)
    with check("limits, users, secrets") as seen:
        seen(checks.containers_are_as_described(project))
    with check("Ray refuses without the token and has no dashboard"):
        checks.ray_wants_its_token(project)
    with check("the health check knows what runs"):
        checks.health_is_that_of_the_service(project)
    with check("a call over WebSocket") as seen:
        seen(asyncio.run(calls.over_websocket(project)))
    with check("calls through TURN alone") as seen:
        seen(asyncio.run(calls.through_turn(project, {"udp", "tcp"})))
        seen("refused: " + asyncio.run(calls.turn_refuses(project)))
    with check("both control-plane replicas serve the one port") as seen:
        seen(checks.both_replicas_are_used(project))
    with check("a call with an input and its outputs") as seen:
        seen(asyncio.run(calls.through_the_port(project)))
    with check("`--scale control-plane=2 --scale workers=2`: a second node joins"):
        scaled = ("--scale", "control-plane=2", "--scale", "workers=2")
        project.compose("up", "--detach", *scaled, timeout=180)
        project.wait_healthy(count + 1, 90)
        project.wait_nodes(2, 30)
    with check("both nodes take calls") as seen:
        seen(asyncio.run(calls.on_both_nodes(project)))
    with check("Prometheus' targets are all up") as seen:
        for line in checks.all_targets_are_up(project):
            seen(line)
    with check("every query of the dashboard and of the alerts finds something") as seen:
        seen(checks.queries_find_something(project))
    with check("SIGTERM of a node drains it without loss") as seen:
        seen(asyncio.run(calls.a_node_drains(project)))
    with check("it comes back when it is started"):
        project.compose("start", "workers")
        project.wait_nodes(2, 90)
    with check("a crashed node is replaced") as seen:
        seen(asyncio.run(calls.a_node_crashes(project)))
    with check("a call after that") as seen:
        seen(asyncio.run(calls.through_the_port(project)))
    with check("the proxy without replicas"):
        checks.proxy_alone(project)
    with check("`stop` ends our services in order") as seen:
        seen(checks.stop(project))
    checks.down(project)


def with_an_image_of_ones_own(project: Project) -> None:
    """`FROM rayrtc` with handlers and a package of theirs; and a Redis that keeps its data."""
    project.environment |= {
        "COMPOSE_FILE": os.pathsep.join(("docker-compose.yml", OWN_IMAGE)),
        "COMPOSE_PROFILES": "",
        "APP": "mycalls.app:stream",
        "REDIS_APPENDONLY": "yes",
    }
    with check("an image `FROM rayrtc` is built"):
        project.compose("build", "workers", timeout=BUILD_TIMEOUT)
    with check("`up` with it: all are healthy"):
        project.compose("up", "--detach", timeout=180)
        project.wait_healthy(SERVICES, 60)
    with check("a call to the handler in it") as seen:
        seen(asyncio.run(calls.to_own_image(project)))
    with check("Redis with its data in a volume") as seen:
        seen(checks.redis_keeps_what_it_is_told_to(project))
    checks.down(project)


def prove(project: Project) -> None:
    with check("the image is built"):
        project.compose("build", timeout=BUILD_TIMEOUT)
    with check("the image by itself") as seen:
        seen(checks.image_alone(project))
    try:
        as_it_is(project)
        with_everything(project)
        with_an_image_of_ones_own(project)
    except BaseException:
        print(project.logs(), flush=True)
        raise
    finally:
        project.compose("down", "--volumes", "--timeout", "20", timeout=180)


def make_secrets(folder: Path) -> str:
    """As docs/compose.md says: files that the containers' users can read."""
    folder.chmod(0o755)
    for name in checks.SECRETS:
        (folder / name).write_text(secrets.token_hex(32) + "\n")
        (folder / name).chmod(0o644)
    (folder / "none.env").touch()
    return str(folder)


def main() -> int:
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up, as Ctrl-C does
    try:
        with tempfile.TemporaryDirectory() as folder:
            own_secrets = make_secrets(Path(folder))
            if os.environ.get("DOCKER_HOST"):
                prove(Project(None, own_secrets))
            else:
                with check("a Docker engine of our own"):
                    engine = Engine()
                with engine:
                    project = Project(engine.socket, own_secrets)
                    with check("stand-ins for the public images"):
                        make_base(project.docker, engine.directory)
                        make_services(project.docker, engine.directory)
                    prove(project)
    except (AssertionError, EngineError, OSError, RuntimeError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"all of it holds ({time.monotonic() - begin:.0f} s)")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
