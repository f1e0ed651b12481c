"""A program that calls a stream several times and prints a line of JSON for each call.

`python -m tests.network.caller URL aiortc|libwebrtc COUNT`; for a network namespace, as one
process has one network.
"""

import asyncio
import json
import re
import sys

from tests.clients import AiortcClient
from tests.e2e.libwebrtc import LibwebrtcClient
from tests.workers.host import peak, until

FREQUENCY = 440.0


async def call(url: str, kind: str) -> dict[str, object]:
    """What was answered and heard."""
    client: AiortcClient | LibwebrtcClient
    if kind == "aiortc":
        client = AiortcClient(url, FREQUENCY, loopback=False)
    else:
        client = LibwebrtcClient(url, FREQUENCY)
    try:
        await client.connect()
        await until(lambda: sum(map(len, client.samples)) > client.rate / 2)
        if isinstance(client, AiortcClient):
            sdp = client.pc.remoteDescription.sdp
        else:
            sdp = client.pc.remote_description.sdp
        lines = re.findall(r"^a=candidate:(.*?)\r?$", sdp, re.MULTILINE)
        candidates = {(line.split()[7], line.split()[4], int(line.split()[5])) for line in lines}
        return {
            "candidates": sorted(candidates),
            "address": re.findall(r"^c=IN IP[46] (\S+)", sdp, re.MULTILINE),
            "hertz": peak(client, 0.3),  # type: ignore[arg-type]
        }
    finally:
        await client.close()


async def main(url: str, kind: str, count: int) -> None:
    for _ in range(count):
        try:
            answer: dict[str, object] = await call(url, kind)
        except (TimeoutError, AssertionError) as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
