"""The Ray node of this machine: one that is there, one that joins, or a Ray of our own."""

import contextlib
import logging
import math
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from rayrtc.descendants import die_with_parent
from rayrtc.settings import Settings
from workers.ray_subscribers import patient_subscribers

logger = logging.getLogger(__name__)

OBJECT_STORE = 80_000_000
"""Bytes of Ray's object store; Ray's least is 75 MiB and nothing of ours is put there."""
TMP_PATH_MAX = 38
"""Longest temporary directory: the paths of Ray's sockets in it may have 103 bytes on macOS."""
JOIN_TIMEOUT = 60.0
"""Seconds for this machine to become a node of the cluster."""
END_TIMEOUT = 10.0
"""Seconds for Ray's processes to end by themselves."""

HEAD_AWAITED = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's name for the seconds after which what runs on a node ends, when the head stays away."""
HEAD_AWAITED_JOINED = "3600"
"""Running calls do not need the head, so a cluster's nodes wait long for it to come back."""

FAULT_DETECTION = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""A node that is cut off is noticed after 4 s instead of 64, and learns it soon after its link is
back: without the keepalive its connection to the head waits for TCP, which by then tries again
every half a minute. Read by the head and by every node."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    # a line of a worker stays the JSON that it is; it has the worker's id
    "RAY_DISABLE_WORKER_LOG_PREFIX": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would run workers at nice 15: audio is due every 20 ms
    "RAY_worker_niceness": "0",
}
LOOPBACK = {
    # The switch of Ray's desktop systems: node address and all servers on 127.0.0.1
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
UNWATCHED = {
    # what Ray would tell its dashboard of each task, of itself and of its time
    "RAY_task_events_report_interval_ms": "0",
    "RAY_enable_metrics_collection": "false",
    "RAY_enable_timeline": "false",
    "RAY_event_stats": "false",
    # Ray's objects, of which there are none, and idle processes that nobody waits for
    "RAY_object_manager_timer_freq_ms": "1000",
    "RAY_raylet_check_gc_period_milliseconds": "1000",
    "RAY_kill_idle_workers_interval_ms": "1000",
    # new files of output are looked for twice a second, not ten times
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "1",
}
"""For a Ray of our own, which has no dashboard, unless the environment has others: what its
processes take while nothing happens is less by a fifth."""
CHILD = {
    "RAY_LOG_TO_STDERR": "1",
    "RAY_BACKEND_LOG_LEVEL": "error",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # the supervisor has emptied the node before
}
"""For the processes of a node of our own."""
DAEMON_LINE = re.compile(
    rb"^(:job_id:|:actor_name:|:task_name:|\[[-\d: ,]+ I )|\t(INFO|DEBUG) \((dashboard_agent|"
    rb"runtime_env_agent|log_monitor)\)|\t(INFO|SUCC) scripts\.py|network_util\.cc|^=+ Running on |"
    rb"^\(Press CTRL\+C"
)
"""What Ray's own processes say on standard error and nobody needs to read."""


class RayNodeError(RuntimeError):
    """Ray cannot be started or joined; the text says why."""


class RayNode:
    """Makes this process a driver on a Ray node of this machine, and takes that back.

    All methods block, and are called from one thread that outlives the node: on Linux Ray's
    processes get SIGTERM or SIGKILL when the thread that started them ends.

    Attributes:
        own: whether Ray as a whole is ours: nobody else uses it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._child_log: threading.Thread | None = None
        self._directory: Path | None = None
        self._remove_directory = False
        self.own = settings.ray_address is None

    @property
    def node_id(self) -> str:
        """Ray's id of the node, hex."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def alive(self) -> bool:
        """Whether the node that was started for this process still runs."""
        return self._child is None or self._child.poll() is None

    def start(self, on_progress: Callable[[str], None]) -> None:
        """Start or join Ray and connect to it.

        Raises:
            RayNodeError: it cannot be done.
        """
        os.environ.update(FAULT_DETECTION | QUIET)
        os.environ.pop("RAY_ADDRESS", None)  # the settings say where Ray is
        try:
            if self._settings.ray_address is None:
                on_progress("starting Ray")
                self._start_own()
            else:
                self._join(self._settings.ray_address, on_progress)
        except RayNodeError:
            raise
        except Exception as error:
            raise RayNodeError(f"Ray cannot be started: {error}") from error

    def stop(self) -> None:
        """Disconnect, and end what `start` started. No process of ours remains."""
        ours = self._processes()
        if (ray := sys.modules.get("ray")) is not None:
            with contextlib.suppress(Exception):
                ray.shutdown()
        if self._child is not None:
            self._child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(END_TIMEOUT)
        self._end(ours, END_TIMEOUT if self._child else 2.0)
        if self._child is not None:
            self._child.wait(END_TIMEOUT)
        if self._child_log is not None:
            self._child_log.join(END_TIMEOUT)
        if self._remove_directory and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, processes: list[psutil.Process], timeout: float) -> None:
        """Wait `timeout` seconds for processes to end, then kill those that are left."""
        _, left = psutil.wait_procs(processes, timeout=timeout)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=END_TIMEOUT)

    def _start_own(self) -> None:
        settings = self._settings
        given = os.environ.get("RAYRTC_RAY_TMP")
        # not the system's own temporary directory: on macOS its path is too long
        self._directory = Path(given or tempfile.mkdtemp(prefix="rayrtc-", dir="/tmp"))
        self._remove_directory = given is None
        # Ray opens its directory to everybody, so it gets one inside of ours
        inner = self._directory / "r"
        if len(str(inner)) > TMP_PATH_MAX:
            raise RayNodeError(
                f"the path of the temporary directory {self._directory} is too long: Ray needs one "
                f"of at most {TMP_PATH_MAX - 2} characters"
            )
        inner.mkdir(parents=True, exist_ok=True)
        token = self._directory / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ.update(LOOPBACK | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)})
        for name, value in UNWATCHED.items():
            os.environ.setdefault(name, value)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        # Workers of a reload start beside the old ones. Cores that are not there are only a number
        # to Ray, so that a small machine can run the pool that was asked for.
        cpus = max(os.cpu_count() or 1, math.ceil(2 * settings.workers_max * settings.worker_cpus))
        options = {
            "address": "local",
            "namespace": settings.cluster,
            "num_cpus": cpus,
            "object_store_memory": OBJECT_STORE,
            "include_dashboard": False,
            "log_to_driver": True,
            "_temp_dir": str(inner),
        }
        try:
            _init(**options)
        except Exception as error:
            # on a busy machine a raylet now and then misses the time that Ray gives it
            logger.warning("Ray did not start, trying once more: %s", error)
            self._end(self._processes(), 0)
            _init(**options)

    def _join(self, address: str, on_progress: Callable[[str], None]) -> None:
        if "RAY_AUTH_MODE" not in os.environ:
            has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
            os.environ["RAY_AUTH_MODE"] = "token" if has_token else "disabled"
        os.environ.setdefault(HEAD_AWAITED, HEAD_AWAITED_JOINED)
        host = _node_host(address)
        if host is None:
            on_progress(f"joining Ray at {address}")
            host = self._start_child(address)
        on_progress(f"connecting to Ray at {address}")
        _init(
            address=address,
            namespace=self._settings.cluster,
            # a node of our own writes its workers' lines to our standard error
            log_to_driver=self._child is None,
            # Ray waits for this node to be registered, and takes no other that it can see
            _node_ip_address=None if host == "127.0.0.1" else host,
        )

    def _start_child(self, address: str) -> str:
        """Start a node in a process of its own; its host address."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}"]
        command += ["--block", f"--object-store-memory={OBJECT_STORE}", "--disable-usage-stats"]
        command += ["--include-log-monitor=false"]
        self._child = subprocess.Popen(
            command,
            env={**os.environ, **CHILD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),
            start_new_session=True,  # Ctrl-C in a terminal is ours to handle
        )
        assert self._child.stdout is not None
        self._child_log = threading.Thread(
            target=_pass_on, args=(self._child.stdout,), name="ray-log", daemon=True
        )
        self._child_log.start()
        deadline = time.monotonic() + JOIN_TIMEOUT
        while (host := _node_host(address)) is None:
            if (status := self._child.poll()) is not None:
                raise RayNodeError(
                    f"this machine could not join Ray at {address} (exit status {status})"
                )
            if time.monotonic() > deadline:
                raise RayNodeError(f"no node of Ray at {address} after {JOIN_TIMEOUT:g} s")
            time.sleep(0.2)
        return host

    def _processes(self) -> list[psutil.Process]:
        """Every process that `start` brought about."""
        found: list[psutil.Process] = []
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                mine = self._child is not None and process.pid == self._child.pid
                if mine or (self.own and self._directory and str(self._directory) in command):
                    found += [process, *process.children(recursive=True)]
        return found


def _init(**options: Any) -> None:
    """`ray.init` without its side effect on the process: it takes over SIGTERM."""
    import ray

    # A stop that arrives meanwhile makes Ray raise SystemExit: `stop` then takes all back.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with patient_subscribers():
            ray.init(configure_logging=False, logging_level=logging.WARNING, **options)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _node_host(address: str) -> str | None:
    """The host address of this machine's node of the cluster at `address`, if there is one."""
    here = {a.address for nic in psutil.net_if_addrs().values() for a in nic}
    cluster = _resolve(address)
    for options in _raylets():
        host = options.get("--node_ip_address", "")
        # a container's raylets can be seen from its host, but are not at an address of it
        if host in here and cluster & _resolve(options.get("--gcs-address", "")):
            return host
    return None


def _resolve(address: str) -> set[str]:
    """HOST:PORT with the host as it is and as all of its addresses."""
    host, _, port = address.rpartition(":")
    known = {address}
    with contextlib.suppress(OSError):
        known |= {f"{info[4][0]}:{port}" for info in socket.getaddrinfo(host.strip("[]"), None)}
    return known


def _raylets() -> Iterator[dict[str, str]]:
    """The options of every raylet that this process can see."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "raylet":
                parts = (argument.partition("=") for argument in process.cmdline())
                yield {option: value for option, _, value in parts}


def _pass_on(lines: IO[bytes]) -> None:
    """Give what the node's processes print to our standard error, without Ray's own chatter."""
    with lines:
        for line in lines:
            if DAEMON_LINE.search(line):
                continue
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()
