"""The answering machine, called by telephone."""

import json
import shutil

import numpy as np
import pytest

from examples import phone
from rayrtc.cluster.models import EndReason
from tests.socket_client import SocketMicrophone
from tests.speech import recording
from tests.workers.host import until
from tests.workers.test_reply_on_pause_sockets import clears
from tests.workers.test_websocket import calling


@pytest.mark.parametrize("voice", [True, False])
def test_it_has_a_voice(voice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not voice:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    rate, samples = phone.say("one two")
    assert 0.2 < samples.size / rate < 3
    assert np.abs(samples).max() > 2000


async def test_a_message_is_taken_and_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(phone, "TIME_TO_OBJECT", 0.2)
    async with (
        calling(phone.stream.handler, phone=True) as (client, host),
        SocketMicrophone(client) as microphone,
    ):
        await client.wait_for_event("mark")  # the greeting was played
        assert len(client.heard()) == pytest.approx(5 / 8 * 8000, abs=400)
        await microphone.say(recording("story", 8000))
        await until(lambda: len(host.recorder.outputs) == 1)
        await until(lambda: len(client.heard()) > 8000 * 1.5)  # in the middle of the message
        await microphone.say(recording("weather", 8000))
        assert clears(client), "the caller spoke, and Twilio was not told to be silent"
        await until(lambda: len(host.recorder.outputs) == 2)
        first, second = (json.loads(output[2])[0]["seconds"] for output in host.recorder.outputs)
        assert 1.3 <= first <= 1.3 + 2.4
        assert 1.7 <= second <= 1.7 + 2.4
        assert await client.wait_closed(timeout=20) == 1000
        assert (await client.wait_for_message("end_stream"))["data"] == "the message is taken"
        await until(lambda: host.reasons == [EndReason.HANDLER_CLOSED])
