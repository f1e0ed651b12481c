"""What handlers inherit."""

import asyncio

from rayrtc import WebRTCData, wait_for_item
from tests.workers.host import Echo


async def test_waiting_for_an_item_ends() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    assert await wait_for_item(queue, 0.01) is None
    queue.put_nowait(7)
    assert await wait_for_item(queue) == 7


async def test_the_first_argument_is_a_placeholder_or_the_callers_turn() -> None:
    handler = Echo()
    handler.set_args([0.5])
    assert handler.latest_args == ["__webrtc_value__", 0.5]
    turn = WebRTCData(webrtc_id="a", textbox="hello")
    handler.set_args([turn, 0.5])
    assert handler.latest_args == [turn, 0.5]
