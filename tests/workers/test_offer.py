"""What an offer may leave out. Failing, clients that are in the right are refused."""

from tests.clients import AiortcClient
from workers.offer import parse_offer


async def test_media_without_a_direction_is_sent_and_received() -> None:
    """RFC 8866, 6.7: "sendrecv" is the default."""
    client = AiortcClient("")
    sdp = (await client.create_offer())["sdp"]
    await client.close()
    silent = sdp.replace("a=sendrecv\r\n", "")
    assert silent != sdp
    complete, completed = (parse_offer(text, ["audio"], False).sdp for text in (sdp, silent))
    assert completed == complete
