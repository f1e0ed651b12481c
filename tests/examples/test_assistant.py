"""The talking assistant, with and without a voice of its own."""

import asyncio
import json

import numpy as np
import pytest

from examples import assistant
from tests.clients import AiortcClient
from tests.speech import Microphone, recording
from tests.workers.host import hosting, until


@pytest.mark.parametrize("voice", [True, False])
async def test_it_answers(voice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert assistant.voice is not None
    if not voice:
        monkeypatch.setattr(assistant, "voice", None)
    client = AiortcClient("")
    client.tone = microphone = Microphone()
    async with hosting(assistant.stream.handler) as host:
        try:
            connection = await host.call(client)
            await asyncio.sleep(0.3)
            await microphone.say(recording("weather"))
            await client.wait_for_message("send_input")
            assert connection._handler is not None
            connection._handler.set_args([1.0, "Ada"])
            await until(lambda: host.recorder.outputs)
            (heard,) = json.loads(host.recorder.outputs[0][2])
            assert 1.5 < heard["seconds"] < 4
            assert -40 < heard["level"] < -5
            await until(lambda: client.samples and np.abs(client.samples[-1]).max() > 1000)
        finally:
            await client.close()
