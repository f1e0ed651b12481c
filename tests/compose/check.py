"""Proves docker-compose.yml under a real Docker engine. Run it as `tests/compose/check.sh`.

Without DOCKER_HOST it starts an engine of its own and needs no image registry; with DOCKER_HOST it
takes that engine and the public images. Everything that it starts or makes is gone at its end.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import aiohttp
import httpx
import numpy as np

from tests.clients import AiortcClient
from tests.compose.engine import Engine, EngineError
from tests.compose.images import make_base, make_services
from tests.compose.project import BUILD_TIMEOUT, ROOT, Project, wait_until
from tests.e2e.spectrum import peak
from tests.e2e.sse import Reader

SERVICES = 7
"""Containers of the compose file as it is: two of the control plane, one of each other service."""
TONE = 440.0


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


def client_of(project: Project) -> AiortcClient:
    return AiortcClient(project.url, TONE, loopback=False)


def tone_of(client: AiortcClient) -> float:
    """Frequency that the client heard in the last two seconds; AssertionError if it heard less."""
    heard = np.concatenate(client.samples or [np.zeros(0)])[-2 * client.rate :]
    assert len(heard) == 2 * client.rate, (
        f"only {len(heard) / client.rate:.1f} s of audio came back"
    )
    return peak(heard, client.rate)


def containers_are_as_described(project: Project) -> str:
    """Our containers run as an ordinary user below an init that reaps."""
    for service in ("ray-head", "workers", "control-plane"):
        shell = "id -u && cat /proc/1/comm && echo $RAY_AUTH_MODE"
        user, init, *_ = project.compose("exec", "-T", service, "sh", "-c", shell).split()
        assert user == "10001", f"{service} runs as user {user}"
        assert init in ("docker-init", "tini"), f"{service} has {init} as process 1"
    return f"user {user}, process 1 is {init}"


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


async def call_through_the_port(project: Project) -> str:
    """Audio there and back, an input, its outputs by an event stream through the proxy."""
    client = client_of(project)
    await client.connect()
    try:
        reader = Reader(project.url + "/updates", client.webrtc_id)
        await asyncio.sleep(4)
        frequency = tone_of(client)
        assert abs(frequency - TONE) < 5, f"{frequency} Hz came back"
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                project.url + "/input_hook", json={"webrtc_id": client.webrtc_id, "volume": 0.5}
            ) as response,
        ):
            assert response.status == 200, await response.text()
        deadline = time.monotonic() + 5
        while not any(json.loads(event.data)["volume"] == 0.5 for event in reader.outputs()):
            assert time.monotonic() < deadline, f"no output with the input: {reader.events}"
            await asyncio.sleep(0.1)
        candidates = re.findall(r"a=candidate:\S+ 1 \w+ \d+ (\S+)", client.pc.remoteDescription.sdp)
    finally:
        await client.close()
    await reader.wait_for(1, "end")
    media = ", ".join(sorted(set(candidates)))
    return f"{frequency:.1f} Hz of {TONE:.1f} Hz came back; media with {media}"


def both_replicas_are_used(project: Project) -> str:
    """Requests through the port reach both; without one of them none fails, and it comes back."""

    def served() -> dict[str, float]:
        query = f"{project.prometheus}/api/v1/query?query=up%7Bjob%3D%22control-plane%22%7D"
        return {
            sample["metric"]["instance"]: float(sample["value"][1])
            for sample in project.get(query)["data"]["result"]
        }

    for _ in range(20):
        project.get(project.url + "/healthz")
    log = project.compose("logs", "--no-color", "--tail", "200", "proxy")
    replicas = [c["NetworkSettings"]["Networks"] for c in project.containers("control-plane")]
    addresses = [network["IPAddress"] for found in replicas for network in found.values()]
    counts = [log.count(f" {address}:8000") for address in addresses]
    assert len(counts) == 2, addresses
    assert all(counts), f"requests by replica: {counts}"
    victim = project.containers("control-plane")[0]
    project.crash(victim)
    for _ in range(40):
        project.get(project.url + "/readyz")
    project.wait_healthy(SERVICES, 60)
    return f"requests by replica: {counts}; none failed while one was restarted"


def scale(project: Project) -> None:
    project.compose("up", "--detach", "--scale", "workers=2", timeout=180)
    project.wait_healthy(SERVICES + 1, 90)
    project.wait_spread(nodes=2, timeout=30)


async def call_both_nodes(project: Project, stack: AsyncExitStack) -> list[AiortcClient]:
    """At least four calls, and as many as it takes until each of the two nodes has one.

    A worker has eight slots, so at the latest the ninth has to go to the other one.
    """
    clients: list[AiortcClient] = []
    while True:
        client = client_of(project)
        clients.append(client)
        stack.push_async_callback(client.close)
        await client.connect()
        if len(clients) >= 4 and all(w["used"] for w in project.status()["workers"]):
            return clients
        assert len(clients) < 9, project.status()


async def calls_on_both_nodes(project: Project) -> str:
    """Several calls at once: each node's worker has some, all hear their echo."""
    async with AsyncExitStack() as stack:
        clients = await call_both_nodes(project, stack)
        await asyncio.sleep(4)
        used = {w["host"]: w["used"] for w in project.status()["workers"]}
        tones = [tone_of(client) for client in clients]
    assert len(used) == 2, used
    assert min(used.values()) >= 1, used
    assert sum(used.values()) == len(clients), used
    assert all(abs(tone - TONE) < 5 for tone in tones), tones
    return "calls by node: " + ", ".join(f"{host} {count}" for host, count in used.items())


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
        result = project.get(f"{project.prometheus}/api/v1/query?query={series}")["data"]["result"]
        assert len(result) == 2, (series, result)
    return sorted(f"{t['scrapeUrl']} {t['health']}" for t in targets())


async def a_node_crashes(project: Project) -> str:
    """Its calls end with `worker_lost`, the others go on, and the node comes back by itself."""
    async with AsyncExitStack() as stack:
        clients = await call_both_nodes(project, stack)
        readers = [Reader(project.url + "/updates", c.webrtc_id) for c in clients]
        await asyncio.sleep(2)
        status = project.status()
        nodes = {worker["worker_id"]: worker["host"] for worker in status["workers"]}
        hosts = {c["connection_id"]: nodes[c["worker_id"]] for c in status["connections"]}
        victim, _ = project.containers("workers")
        (network,) = victim["NetworkSettings"]["Networks"].values()
        project.crash(victim)
        begin = time.monotonic()
        lost = [hosts[c.webrtc_id] == network["IPAddress"] for c in clients]
        assert any(lost), hosts
        assert not all(lost), hosts
        for reader, is_lost in zip(readers, lost, strict=True):
            if is_lost:
                await reader.wait_for(1, "end", 10)
                end = json.loads(reader.outputs("end")[0].data)
                assert end["reason"] == "worker_lost", end
        told = time.monotonic() - begin
        for client, reader, is_lost in zip(clients, readers, lost, strict=True):
            if not is_lost:
                # The node that starts again takes all of a small machine's processors for a while.
                async with asyncio.timeout(20):
                    while client.samples_since(2) < 1.9 * client.rate:
                        await asyncio.sleep(0.2)
                assert not reader.outputs("end"), reader.events[-1]
                frequency = tone_of(client)
                assert abs(frequency - TONE) < 5, f"{frequency} Hz came back"
    project.wait_healthy(SERVICES + 1, 120)
    project.wait_spread(nodes=2, timeout=60)
    whole = time.monotonic() - begin
    return (
        f"{sum(lost)} of {len(lost)} calls were told after {told:.1f} s; whole after {whole:.0f} s"
    )


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


def prove(project: Project) -> None:
    with check("the image is built"):
        project.compose("build", timeout=BUILD_TIMEOUT)
    try:
        with check("`up` with nothing else: all containers are healthy") as seen:
            project.compose("up", "--detach", timeout=180)
            project.wait_healthy(SERVICES, 60)
            for container in project.containers():
                seen(container["Name"].removeprefix("/"))
        with check("no root, and an init") as seen:
            seen(containers_are_as_described(project))
        with check("Ray refuses without the token and has no dashboard"):
            ray_wants_its_token(project)
        with check("a call from outside the containers") as seen:
            seen(asyncio.run(call_through_the_port(project)))
        with check("both control-plane replicas serve the one port") as seen:
            seen(both_replicas_are_used(project))
        with check("`--scale workers=2`: a second node joins"):
            scale(project)
        with check("both nodes take calls") as seen:
            seen(asyncio.run(calls_on_both_nodes(project)))
        with check("Prometheus' targets are all up") as seen:
            for line in all_targets_are_up(project):
                seen(line)
        with check("a crashed node is replaced") as seen:
            seen(asyncio.run(a_node_crashes(project)))
        with check("a call after that") as seen:
            seen(asyncio.run(call_through_the_port(project)))
        with check("the proxy without replicas"):
            proxy_alone(project)
        with check("`stop` ends our services in order") as seen:
            seen(stop(project))
    except BaseException:
        print(project.logs(), flush=True)
        raise
    finally:
        project.compose("down", "--volumes", "--timeout", "20", timeout=180)


def main() -> int:
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up, as Ctrl-C does
    try:
        if os.environ.get("DOCKER_HOST"):
            prove(Project(None))
        else:
            with check("a Docker engine of our own"):
                engine = Engine()
            with engine:
                project = Project(engine.socket)
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
