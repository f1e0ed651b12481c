"""The page in Chromium from behind a firewall, five times for each way that is left to it.

    python -m tests.network.firewall

Needs root, Chromium, coturn and iptables (`make test-install`).
"""

import argparse
import sys

from tests.network.site import site

CALLS = 5


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    good = 0
    with site(worker_turn=False) as running:
        for protocol, port in (("udp", 3478), ("tcp", 443)):
            running.firewall((protocol, port))
            arguments = (running.deployment.page, "--calls", str(CALLS))
            calls = running.network["client"].report("page_call", *arguments, timeout=150)
            passed = [c for c in calls if (c["type"], c["protocol"]) == ("relay", protocol)]
            for call in calls:
                print(f"TURN/{protocol.upper()} {port}: {call}")
            print(f"TURN/{protocol.upper()} {port}: {len(passed)} of {CALLS}", flush=True)
            good += len(passed)
    return 0 if good == 2 * CALLS else 1


if __name__ == "__main__":
    sys.exit(main())
