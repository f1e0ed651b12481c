"""Who opens DTLS. Failing, clients with RSA certificates, such as GStreamer's, cannot connect."""

import pytest

from tests.clients import AiortcClient
from tests.workers.host import AsyncEcho, hosting


@pytest.mark.parametrize(
    ("offered", "answered"),
    [("actpass", "passive"), ("active", "passive"), ("passive", "active")],
)
async def test_the_client_opens_dtls_if_it_may(offered: str, answered: str) -> None:
    """RFC 8842, 5.3: the answer to `actpass` chooses, the other two leave no choice."""
    client = AiortcClient("", data_channel=True)
    try:
        sdp = (await client.create_offer())["sdp"].replace("setup:actpass", f"setup:{offered}")
        async with hosting(AsyncEcho()) as host:
            answer = await host.connections.offer(host.request("a", sdp))
    finally:
        await client.close()
    lines = [line for line in answer.sdp.splitlines() if line.startswith("a=setup:")]
    assert lines == [f"a=setup:{answered}"] * 2
