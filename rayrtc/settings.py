"""Every option of every service, once. Set by environment variables with the prefix `RAYRTC_`."""

import re
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from rayrtc import redis_url
from rayrtc.secret_files import SecretFiles

_HOST = r"[^\s,?:/@\[\]]+"
TURN_URL = re.compile(rf"turns?:({_HOST}|\[[0-9A-Fa-f:.]+\])(:\d{{1,5}})?(\?transport=(udp|tcp))?")
"""RFC 7065."""
WORKER_TURN_URL = re.compile(
    rf"turn:{_HOST}(:\d{{1,5}})?(\?transport=(udp|tcp))?|turns:{_HOST}(:\d{{1,5}})?(\?transport=tcp)?"
)
"""What aiortc takes of it: no IPv6 literal, TLS over TCP alone."""


class Settings(BaseSettings):
    """The options of the control plane, the workers and the command line.

    Times are seconds unless the name says otherwise. `rayrtc config` prints all of them. Secrets
    may be in files (`rayrtc/secret_files.py`).
    """

    model_config = SettingsConfigDict(env_prefix="RAYRTC_", extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code goes before the environment, and that before files."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    # Shared by all services
    cluster: str = Field(
        "rayrtc",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the cluster: prefix of all Redis keys and the Ray namespace.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey 7+, as redis://, rediss:// or unix:// URL, or its Sentinels: "
        "redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB. Or "
        "RAYRTC_REDIS_URL_FILE, a file with it.",
    )
    cluster_secret: SecretStr | None = Field(
        None,
        description="Secret between control plane and workers: 16 characters or more, "
        "the same on all services. Or RAYRTC_CLUSTER_SECRET_FILE, a file with it.",
        min_length=16,
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text in a terminal, JSON elsewhere."
    )

    # Control plane
    host: str = Field("127.0.0.1", description="Address the control plane listens on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port of the control plane.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses or networks of proxies, comma-separated, whose X-Forwarded-For, "
        "-Proto, -Host, -Port and -Prefix headers are believed.",
    )
    twilio_auth_token: SecretStr | None = Field(
        None,
        description="Twilio's auth token: with it, telephone requests without Twilio's signature "
        "are refused. Or RAYRTC_TWILIO_AUTH_TOKEN_FILE, a file with it.",
        min_length=1,
    )
    sse_heartbeat: float = Field(15.0, gt=0, description="Comment interval on idle event streams.")
    sse_clients_max: int = Field(10_000, ge=1, description="Event-stream clients of one replica.")
    worker_timeout: float = Field(
        8.0, gt=0, description="Longest wait of the control plane for a worker's answer."
    )

    # Assignment
    lease_interval: float = Field(1.0, gt=0, description="A worker renews its lease this often.")
    lease_ttl: float = Field(
        3.0, gt=0, description="A worker that does not renew for this long is lost."
    )
    reservation_ttl: float = Field(
        10.0, gt=0, description="A reserved slot that no worker confirms is free after this."
    )
    record_ttl: float = Field(
        60.0, gt=0, description="How long an ended connection's outputs and reason can be read."
    )

    # Relay
    output_history: int = Field(
        2048, ge=1, description="Outputs kept for each connection's readers."
    )
    output_queue: int = Field(
        1024, ge=1, description="Outputs a worker holds per connection while Redis is away."
    )
    payload_max: int = Field(1 << 20, ge=1024, description="Bytes of one input or output, encoded.")

    # Workers
    ray_address: str | None = Field(
        None,
        description="Address of the Ray head, HOST:PORT. Unset: start a Ray on this machine.",
    )
    workers_min: int = Field(
        1, ge=0, description="Least workers in the pool; every node has at least one."
    )
    workers_max: int = Field(8, ge=1, description="Most workers in the pool.")
    slots: int = Field(8, ge=1, le=1024, description="Connections of one worker.")
    load_max: float = Field(
        0.95,
        gt=0,
        le=1,
        description="A worker whose load (CPU, lag of its event loop; an average of some seconds) "
        "is above this takes no more calls, though it may have slots. 1: it always does.",
    )
    worker_cpus: float = Field(1.0, gt=0, description="Ray CPUs a worker takes; one GIL fills one.")
    worker_gpus: float = Field(0.0, ge=0, description="Ray GPUs a worker takes; may be a fraction.")
    worker_max_sessions: int = Field(
        10_000, ge=1, description="A worker is replaced after this many connections."
    )
    worker_memory_max: int = Field(
        2048,
        ge=128,
        description="A worker is drained and replaced above this resident memory, MiB.",
    )
    worker_memory_limit: int | None = Field(
        None,
        ge=128,
        description="A worker is ended at once above this memory, MiB. Unset: when less than 15 % "
        "of the machine's or container's memory is left, the worker that uses the most.",
    )
    worker_start_timeout: float = Field(
        60.0, gt=0, description="A worker that is not ready after this is replaced."
    )
    hang_timeout: float = Field(
        10.0,
        gt=0,
        description="A worker whose event loop stands still this long writes its stacks and ends.",
    )
    drain_timeout: float = Field(
        300.0,
        ge=0,
        description="How long the calls of a worker that has to go may last: after SIGTERM, "
        "`rayrtc drain`, or new code.",
    )
    stop_timeout: float = Field(
        5.0, ge=0, description="How long a stopping worker may take to close its connections."
    )
    worker_bind: str = Field("0.0.0.0", description="Address of the workers' internal HTTP server.")
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="Metrics of all workers of a node; 0 picks a free port."
    )

    # Media
    udp_ports: str = Field(
        "",
        description="UDP ports for media, FIRST-LAST or a single one. Each worker takes the first "
        "that is free, for all of its connections. Unset: any free port.",
    )
    ice_addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Local addresses for media, comma-separated. "
        "Unset: those of the interfaces in RAYRTC_ICE_INTERFACES.",
    )
    ice_interfaces: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Network interfaces for media, comma-separated names or patterns (eth0,ens*). "
        "Unset: all but loopback and the bridges of containers and virtual machines.",
    )
    advertised_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or host names that clients are told in place of the local "
        "addresses, comma-separated: where a NAT with the same port leads to the worker.",
    )
    connect_timeout: float = Field(
        30.0, gt=0, description="A connection that is not connected by then is closed."
    )
    trickle_window: float = Field(
        10.0, gt=0, description="Remote candidates are awaited this long after the offer."
    )

    # TURN (docs/turn.md). The secret is last: whether it is needed depends on the others.
    turn_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="TURN servers that clients are given, as turn: and turns: URLs, "
        "comma-separated.",
    )
    worker_turn_url: str | None = Field(
        None,
        description="TURN server through which workers can be reached whose own addresses clients "
        "cannot reach. One relayed address for each connection.",
    )
    turn_ttl: int = Field(
        86400,
        ge=60,
        description="TURN credentials begin no new use after this. Should outlast the longest "
        "call: some servers check it during the call too.",
    )
    turn_secret: SecretStr | None = Field(
        None,
        description="Secret shared with the TURN servers (coturn: static-auth-secret), of which "
        "each client and connection gets credentials of its own. Or RAYRTC_TURN_SECRET_FILE, a "
        "file with it.",
        min_length=1,
        validate_default=True,
    )

    @field_validator(
        "advertised_hosts",
        "ice_addresses",
        "ice_interfaces",
        "trusted_proxies",
        "turn_urls",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: str) -> str:
        redis_url.parse(value)
        return value

    @field_validator("udp_ports")
    @classmethod
    def _is_port_range(cls, value: str) -> str:
        _port_range(value)
        return value

    @field_validator("ice_addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_address(address)) for address in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("turn_urls")
    @classmethod
    def _turn_urls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not TURN_URL.fullmatch(url):
                raise ValueError("a URL is not of the form turn:HOST:PORT?transport=udp")
        return value

    @field_validator("worker_turn_url")
    @classmethod
    def _worker_turn_url(cls, value: str | None) -> str | None:
        if value is not None and not WORKER_TURN_URL.fullmatch(value):
            raise ValueError("is not of the form turn:HOST:PORT?transport=udp (or tcp), turns:HOST")
        return value

    @field_validator("turn_secret")
    @classmethod
    def _turn_secret(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and (info.data.get("turn_urls") or info.data.get("worker_turn_url")):
            raise ValueError("is needed with RAYRTC_TURN_URLS and RAYRTC_WORKER_TURN_URL")
        return value

    def secret(self) -> str:
        """The cluster secret.

        Raises:
            ValueError: it is not set.
        """
        if self.cluster_secret is None:
            raise ValueError(
                "RAYRTC_CLUSTER_SECRET is not set: give the control plane and the workers "
                "the same secret of 16 characters or more, or start both with "
                "`rayrtc dev MODULE:ATTRIBUTE`"
            )
        return self.cluster_secret.get_secret_value()

    def udp_port_range(self) -> range:
        """The ports in `udp_ports`; 0 alone, which is any, when it is unset."""
        return _port_range(self.udp_ports)

    def environment(self) -> dict[str, str]:
        """The environment variables that make these settings elsewhere, secrets included."""
        variables: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = ",".join(value)
            if value is not None:
                variables[f"RAYRTC_{name.upper()}"] = str(value)
        return variables


def _port_range(text: str) -> range:
    if not text:
        return range(1)
    first, dash, last = text.partition("-")
    if not (first.strip().isdecimal() and (not dash or last.strip().isdecimal())):
        raise ValueError("must be FIRST-LAST or one port")
    ports = range(int(first), int(last if dash else first) + 1)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise ValueError("must be ports from 1 to 65535, the first not above the last")
    return ports


@cache
def get_settings() -> Settings:
    """The settings of this process, read from the environment once."""
    return Settings()
