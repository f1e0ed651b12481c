"""A deployment, a TURN server and two clients, each on a host of its own.

    server   the deployment             turn     coturn
    outside  a client with no obstacle  router - client   one behind a firewall and NAPT

Clients are programs of this package (`Host.report`).
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.network.coturn import Coturn
from tests.network.deployment import Deployment, deployed
from tests.network.hosts import Network

SECRET = "a secret for the tests only"


class Site:
    """What runs, and what may pass."""

    def __init__(self, network: Network, turn: Coturn, deployment: Deployment) -> None:
        self.network = network
        self.turn = turn
        self.deployment = deployment

    def firewall(self, *turn: tuple[str, int]) -> None:
        """Let the client behind the router through to the page and to the TURN server alone.

        Args:
            turn: protocol and port.
        """
        router, server = self.network["router"], self.network["server"].address
        begun = ("-m", "conntrack", "--ctstate", "ESTABLISHED")
        ways = [(server, "tcp", self.deployment.ports[0])]
        ways += [(self.network["turn"].address, protocol, port) for protocol, port in turn]
        router.run("iptables", "-P", "FORWARD", "DROP")
        router.run("iptables", "-F", "FORWARD")
        router.run("iptables", "-A", "FORWARD", *begun, "-j", "ACCEPT")
        for address, protocol, port in ways:
            way = ("-d", address, "-p", protocol, "--dport", str(port))
            router.run("iptables", "-A", "FORWARD", *way, "-j", "ACCEPT")

    @contextmanager
    def loss(self, probability: float) -> Iterator[None]:
        """Lose that part of the UDP packets that reach the server and the client outside."""
        ends = [self.network["server"], self.network["outside"]]
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(probability))
        for host in ends:
            host.run("iptables", "-A", "INPUT", "-p", "udp", *chance, "-j", "DROP")
        try:
            yield
        finally:
            for host in ends:
                host.run("iptables", "-F", "INPUT")


@contextmanager
def site(worker_turn: bool = True) -> Iterator[Site]:
    """All of it, running.

    Args:
        worker_turn: the workers have relayed addresses as well.
    """
    with (
        tempfile.TemporaryDirectory(prefix="rt-") as directory,
        Network(["server", "turn", "router", "outside"]) as network,
    ):
        network.add_behind("router", "client")
        turn = Coturn(network["turn"], SECRET, Path(directory) / "turn.log")
        address = network["turn"].address
        settings = {
            "RAYRTC_TURN_URLS": f"turn:{address}:3478, turn:{address}:443?transport=tcp",
            "RAYRTC_TURN_SECRET": SECRET,
        }
        if worker_turn:
            settings["RAYRTC_WORKER_TURN_URL"] = f"turn:{address}"
        try:
            with deployed(network["server"], **settings) as deployment:
                yield Site(network, turn, deployment)
        finally:
            turn.stop()
