"""The tracker, shown a red square that moves."""

import json
from typing import Any

import av
import numpy as np

from examples import tracker
from tests.clients import AiortcClient, PictureTrack
from tests.workers.host import hosting, until
from tests.workers.test_combinations import set_input


class SquareTrack(PictureTrack):
    """Grey, with a red square of a fifth of its height at `place` (0 to 1, from top left)."""

    place = (0.25, 0.25)

    async def recv(self) -> av.VideoFrame:
        frame = await super().recv()
        pixels = np.full((240, 320, 3), 90, np.uint8)
        x, y = round(self.place[0] * 320), round(self.place[1] * 240)
        pixels[y - 24 : y + 24, x - 24 : x + 24] = 30, 30, 220
        shown = av.VideoFrame.from_ndarray(pixels, format="bgr24")
        shown.pts, shown.time_base = frame.pts, frame.time_base
        return shown


async def test_tracker_follows_a_red_square() -> None:
    async with hosting(tracker.stream.handler, modality="video") as host:
        client = AiortcClient("", kinds=["video"])
        client.picture = square = SquareTrack()
        try:
            connection = await host.call(client)

            def seen() -> dict[str, Any]:
                outputs = [json.loads(text)[0] for *_, text in host.recorder.outputs]
                return outputs[-1] if outputs else {"found": False}

            await until(lambda: seen()["found"] and abs(seen()["x"] - 0.25) < 0.02)
            square.place = (0.7, 0.6)
            await until(lambda: abs(seen()["x"] - 0.7) < 0.02 and abs(seen()["y"] - 0.6) < 0.02)
            assert abs(seen()["share"] - 48 * 48 / (320 * 240)) < 0.006
            # a white line where the square's left edge is
            edge = round(0.7 * 320) - 24
            await until(lambda: len(client.pictures) > 0)
            await until(lambda: client.pictures[-1][125:160, edge - 2 : edge + 4].max() > 200)
            set_input(connection, 1, "blue", 0.25)
            await until(lambda: not seen()["found"])
        finally:
            await client.close()
