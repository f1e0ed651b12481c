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

import httpx

from tests.compose import calls, queries
from tests.compose.engine import Engine, EngineError
from tests.compose.images import make_base, make_services
from tests.compose.project import BUILD_TIMEOUT, ROOT, Project, wait_until

SERVICES = 7
"""Containers of the compose file as it is: two of the control plane, one of each other service."""
PROFILES = ("grafana", "turn")
"""One more container each."""
OURS = ("ray-head", "workers", "control-plane")
OWN_IMAGE = "tests/compose/own_image/docker-compose.override.yml"
IMAGE_MAX = 900
"""MiB that our image may have, with its base."""
SECRETS = ("cluster_secret", "ray_token", "turn_secret")


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


ORPHAN = """
import os, pathlib, time
if not os.fork():
    if not os.fork():
        time.sleep(0.2)
    os._exit(0)
os.wait()
time.sleep(0.6)
states = [path.read_text() for path in pathlib.Path("/proc").glob("[0-9]*/status")]
print(os.getuid(), pathlib.Path("/proc/1/comm").read_text(), sum("State:\\tZ" in s for s in states))
"""
"""Prints the user, process 1, and how many ended processes wait for a parent to look."""


def image_alone(project: Project) -> str:
    """The image without the compose file: an ordinary user, an init, and signals that arrive."""
    size = int(project.docker("image", "inspect", "--format", "{{.Size}}", "rayrtc")) >> 20
    assert size <= IMAGE_MAX, f"{size} MiB"
    for options, init in (((), "tini"), (("--init",), "docker-init")):
        told = project.docker("run", "--rm", *options, "rayrtc", "python", "-c", ORPHAN).split()
        assert told == ["10001", init, "0"], told
    name = f"rayrtccheck-{secrets.token_hex(4)}"
    project.docker("run", "--detach", "--name", name, "rayrtc", "sleep", "600")
    try:
        begin = time.monotonic()
        project.docker("stop", "--time", "20", name)
        took = time.monotonic() - begin
        assert took < 10, f"SIGTERM took {took:.1f} s"
    finally:
        project.docker("rm", "--force", name)
    return f"{size} MiB, user 10001, process 1 is tini, SIGTERM ends it after {took:.1f} s"


def containers_are_as_described(project: Project) -> str:
    """Ordinary users without capabilities, limits that the engine keeps, secrets in files alone."""
    values = [(Path(project.secrets) / name).read_text().strip() for name in SECRETS]
    for container in project.containers():
        name, host = container["Name"].lstrip("/"), container["HostConfig"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["CapDrop"] == ["ALL"], name
        assert host["Memory"] > 0, f"{name} may take all memory"
        cpus = max(host["NanoCpus"] / 1e9, host["CpuQuota"] / 1e5)
        assert cpus == (0 if "workers" in name else 1), f"{name} may have {cpus} CPUs"
        told = str(container["Config"]["Env"]) + str(container["Args"])
        assert not any(value in told for value in values), f"{name} is told a secret"
        processes = project.docker("top", container["Id"], "-eo", "pid,args")
        assert not any(value in processes for value in values), f"{name} shows a secret"
    for service in (*OURS, "turn"):
        user = project.compose("exec", "-T", service, "id", "-u").strip()
        assert user == ("65534" if service == "turn" else "10001"), f"{service} is user {user}"
    return f"{len(project.containers())} containers with limits, none as root, no secret shown"


def ray_wants_its_token(project: Project) -> None:
    """A process without the right token gets nothing from Ray, and there is no dashboard."""
    ask = "ray health-check --address ray-head:6379"
    project.compose("exec", "-T", "workers", "sh", "-c", ask)
    for wrong in ("RAY_AUTH_TOKEN=not-the-token-of-this-cluster", "RAY_AUTH_MODE=disabled"):
        project.compose(
            "exec", "-T", "workers", "sh", "-c", f"! env {wrong} timeout 20 {ask} 2>/dev/null"
        )
    project.compose(
        "exec", "-T", "ray-head", "python", "-c",
        "import socket as s; assert s.socket().connect_ex((s.gethostname(), 8265)); "
        "assert s.socket().connect_ex(('127.0.0.1', 8265))",
    )  # fmt: skip


HANG = """
import os, pathlib, signal, subprocess, sys
ask = [sys.executable, "-I", "-S", "/opt/rayrtc/healthcheck.py"]
before = subprocess.run(ask).returncode
service = sys.argv[1].encode()
pids = [
    int(path.parent.name)
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")
    if service in path.read_bytes().split(b"\\0") and int(path.parent.name) not in (1, os.getpid())
]
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
hanging = subprocess.run(ask, stderr=subprocess.DEVNULL).returncode
for pid in pids:
    os.kill(pid, signal.SIGCONT)
print(len(pids), before, hanging)
"""
"""Prints how many processes a service is, and whether it is well: as it is, and while it hangs."""


def health_is_that_of_the_service(project: Project) -> None:
    """The image's one health check finds out what runs, and that it does not answer."""
    for service in ("workers", "control-plane"):
        told = project.compose("exec", "-T", service, "python", "-c", HANG, service)
        assert told.split() == ["1", "0", "1"], (service, told)
    command = ("python", "-I", "-S", "/opt/rayrtc/healthcheck.py")
    project.docker("run", "--rm", "rayrtc", "sh", "-c", f"! {' '.join(command)} 2>/dev/null")


def both_replicas_are_used(project: Project) -> str:
    """Requests through the port reach both; without one of them none fails, and it comes back."""
    for _ in range(20):
        project.get(project.url + "/healthz")
    log = project.compose("logs", "--no-color", "--tail", "200", "proxy")
    addresses = [project.address(container) for container in project.containers("control-plane")]
    counts = [log.count(f" {address}:8000") for address in addresses]
    assert len(counts) == 2, addresses
    assert all(counts), f"requests by replica: {counts}"
    victim = project.containers("control-plane")[0]
    project.crash(victim)
    for _ in range(40):
        project.get(project.url + "/readyz")
    project.wait_healthy(len(project.containers()), 60)
    return f"requests by replica: {counts}; none failed while one was restarted"


def all_targets_are_up(project: Project) -> list[str]:
    """Prometheus scrapes each replica and each node, and has a series of the product from both."""

    def targets() -> list[dict[str, str]]:
        found = project.get(f"{project.prometheus}/api/v1/targets?state=active")
        targets: list[dict[str, str]] = found["data"]["activeTargets"]
        return targets

    wait_until(
        lambda: len(targets()) == 5 and all(t["health"] == "up" for t in targets()),
        40,
        "five targets, all up",
    )
    for series in ("rayrtc_redis_up", "rayrtc_pool_up", "rayrtc_worker_slots"):
        query = f"count+by+(instance)+({series})"
        result = project.get(f"{project.prometheus}/api/v1/query?query={query}")["data"]["result"]
        assert len(result) == 2, (series, result)
    return sorted(f"{t['scrapeUrl']} {t['health']}" for t in targets())


def queries_find_something(project: Project) -> str:
    """Panels through Grafana's data source, alerts at Prometheus, which fires none of them."""
    source = f"{project.grafana}/api/datasources/proxy/uid/prometheus"
    board = project.get(f"{project.grafana}/api/dashboards/uid/rayrtc")["dashboard"]
    assert len(board["panels"]) > 20

    def at_prometheus(path: str) -> object:
        return project.get(project.prometheus + path)

    failures = queries.failures(at_prometheus, lambda path: project.get(source + path))
    assert not failures, "\n".join(failures)
    groups = project.get(f"{project.prometheus}/api/v1/rules?type=alert")["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert rules.keys() == {name for name, _ in queries.alerts()}
    wrong = [
        f"{name}: {rule['health']}, {rule['state']}"
        for name, rule in rules.items()
        if rule["health"] != "ok" or rule["state"] == "firing"
    ]
    assert not wrong, wrong
    return f"{len(queries.panels())} queries of panels, {len(rules)} alerts"


def redis_keeps_what_it_is_told_to(project: Project) -> str:
    """With REDIS_APPENDONLY its data are in the volume, and there after a restart."""
    project.compose("exec", "-T", "redis", "redis-cli", "set", "rayrtccheck", "kept")
    project.compose("restart", "--timeout", "10", "redis")
    wait_until(
        lambda: "PONG" in project.compose("exec", "-T", "redis", "redis-cli", "ping"), 20, "Redis"
    )
    kept = project.compose("exec", "-T", "redis", "redis-cli", "get", "rayrtccheck").strip()
    assert kept == "kept", kept
    project.wait_nodes(1, 60)
    return "a key outlived a restart"


def proxy_alone(project: Project) -> None:
    """Without any replica a client gets the contract's failure, not a page of the proxy."""
    project.compose("stop", "control-plane", timeout=120)
    answer = httpx.post(project.url + "/webrtc/offer", json={}, timeout=30)
    assert answer.status_code == 503, answer
    assert answer.headers["Retry-After"] == "2"
    assert answer.json()["meta"]["error"] == "no_worker_available"


def stop(project: Project) -> str:
    """Our services end by themselves when they are asked to."""
    project.compose("stop", timeout=180)
    codes = {
        c["Name"].removeprefix("/"): c["State"]["ExitCode"]
        for service in ("workers", "control-plane")
        for c in project.containers(service)
    }
    assert not any(codes.values()), f"exit codes: {codes}"
    return f"exit code 0 of {', '.join(codes)}"


def down(project: Project) -> None:
    project.compose("down", "--volumes", "--timeout", "20", timeout=180)
    assert not project.containers()


def as_it_is(project: Project) -> None:
    """`docker-compose up` with nothing set."""
    with check("`up` with nothing else: all containers are healthy") as seen:
        project.compose("up", "--detach", timeout=180)
        project.wait_healthy(SERVICES, 60)
        for container in project.containers():
            seen(container["Name"].removeprefix("/"))
    with check("a call from outside the containers") as seen:
        seen(asyncio.run(calls.through_the_port(project)))
    down(project)


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
        seen(containers_are_as_described(project))
    with check("Ray refuses without the token and has no dashboard"):
        ray_wants_its_token(project)
    with check("the health check knows what runs"):
        health_is_that_of_the_service(project)
    with check("a call over WebSocket") as seen:
        seen(asyncio.run(calls.over_websocket(project)))
    with check("calls through TURN alone") as seen:
        seen(asyncio.run(calls.through_turn(project, {"udp", "tcp"})))
        seen("refused: " + asyncio.run(calls.turn_refuses(project)))
    with check("both control-plane replicas serve the one port") as seen:
        seen(both_replicas_are_used(project))
    with check("`--scale control-plane=2 --scale workers=2`: a second node joins"):
        scaled = ("--scale", "control-plane=2", "--scale", "workers=2")
        project.compose("up", "--detach", *scaled, timeout=180)
        project.wait_healthy(count + 1, 90)
        project.wait_nodes(2, 30)
    with check("both nodes take calls") as seen:
        seen(asyncio.run(calls.on_both_nodes(project)))
    with check("Prometheus' targets are all up") as seen:
        for line in all_targets_are_up(project):
            seen(line)
    with check("every query of the dashboard and of the alerts finds something") as seen:
        seen(queries_find_something(project))
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
        proxy_alone(project)
    with check("`stop` ends our services in order") as seen:
        seen(stop(project))
    down(project)


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
        seen(redis_keeps_what_it_is_told_to(project))
    down(project)


def prove(project: Project) -> None:
    with check("the image is built"):
        project.compose("build", timeout=BUILD_TIMEOUT)
    with check("the image by itself") as seen:
        seen(image_alone(project))
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
    for name in SECRETS:
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
