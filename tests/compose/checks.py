"""What is true of the containers of a project that runs; each raises when it is not.

Calls are in `tests.compose.calls`, queries of Prometheus in `tests.compose.queries`.
"""

import secrets
import time
from pathlib import Path

import httpx

from tests.compose import queries
from tests.compose.project import Project, wait_until

OURS = ("ray-head", "workers", "control-plane")
IMAGE_MAX = 900
"""MiB that our image may have, with its base."""
SECRETS = ("cluster_secret", "ray_token", "turn_secret")


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
