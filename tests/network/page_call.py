"""Calls a stream from its page in Chromium, to be run on a host of its own.

Prints a JSON line for each call: `connect`, the seconds from the click to connected media; the type
of this side's address and the protocol to the TURN server; the packets that have come.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from playwright.async_api import Browser, expect

from tests.browser import browsing

PACKETS = 25
"""Half a second of sound."""
KEEP_PEERS = """
const Peer = RTCPeerConnection;
window.peers = [];
window.RTCPeerConnection = class extends Peer {
  constructor(...args) { super(...args); window.peers.push(this); }
};
"""
READ = """async () => {
  const stats = await window.peers.at(-1).getStats();
  const all = [...stats.values()];
  const transport = all.find((entry) => entry.type === "transport");
  const pair = stats.get(transport?.selectedCandidatePairId);
  const local = stats.get(pair?.localCandidateId);
  return {
    type: local?.candidateType,
    protocol: local?.relayProtocol,
    server: local?.url,
    packets: all.find((entry) => entry.type === "inbound-rtp")?.packetsReceived ?? 0,
  };
}"""


async def call(browser: Browser, url: str) -> dict[str, Any]:
    """One call, until half a second of sound has come back."""
    page = await browser.new_page()
    await page.add_init_script(KEEP_PEERS)
    await page.goto(url)
    begin = time.monotonic()
    await page.click("#connect")
    await expect(page.locator("#state")).to_have_attribute("data-state", "connected", timeout=30000)
    connected = time.monotonic() - begin
    async with asyncio.timeout(15):
        while (report := await page.evaluate(READ))["packets"] < PACKETS:
            await asyncio.sleep(0.1)
    await page.click("#connect")
    await page.close()
    return {"connect": round(connected, 2), **report}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--calls", type=int, default=1)
    arguments = parser.parse_args()
    async with browsing(trusted=arguments.url) as browser:
        for _ in range(arguments.calls):
            print(json.dumps(await call(browser, arguments.url)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
