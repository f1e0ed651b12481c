"""A recorded call of Twilio's, played to a running cluster."""

import uuid

import numpy as np
import pytest

from tests.e2e.stack import Stack
from tests.e2e.talkers import FREQUENCY
from tests.e2e.test_conversation import TURN, reported
from tests.twilio import SPOKEN, Twilio

pytestmark = pytest.mark.timeout(240)


async def test_a_recorded_call_plays_through(talkers: Stack) -> None:
    """Defect 9 on a phone: speech in, a reply, an interruption, a reply to its end, a key, the end.

    The webhook is another replica than the one that gets the call, as behind one address.
    """
    twilio = Twilio("MZ" + uuid.uuid4().hex)
    first, second = (talkers.replicas[name] for name in ("a", "b"))
    host = second.removeprefix("http://")
    url = await twilio.incoming(first + "/answer", host)
    assert url == f"wss://{host}/answer/telephone/handler"
    await twilio.call(url.replace("wss://", "ws://"))

    assert twilio.close_code == 1000
    assert twilio.logs == TURN * 2
    told = await reported(first + "/answer", twilio.sid)
    assert [finished for _, finished in told] == [0, 1], "the first reply ran its `finally`"
    for (seconds, _), (begin, end) in zip(told, SPOKEN, strict=True):
        assert 0 <= seconds - (end - begin) / 50 <= 2.4

    sounding = twilio.sounding()
    (_, asked), (interrupting, interrupted) = SPOKEN
    assert not sounding[:asked].any()
    assert sounding[interrupting - 5 : interrupting].any(), "the first reply plays"
    cleared = twilio.events("clear")
    assert cleared, "Twilio was not told to forget what it holds"
    assert all(interrupting < frame < interrupted for frame in cleared)
    assert not sounding[cleared[-1] + 1 : interrupted].any(), "a packet was sent after the last"

    (again,) = np.nonzero(sounding[interrupted:])
    assert abs(len(again) - 125) <= 5, "2.5 s: the second reply is played to its end"
    heard = np.concatenate(twilio.heard[interrupted + again[0] : interrupted + again[-1]])
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(spectrum.argmax() * 8000 / len(heard) - FREQUENCY) < 5
    assert twilio.events("mark")[-1] >= interrupted + again[0] + 100, "a mark behind the reply"
    assert twilio.marks == [
        message["mark"]["name"] for message in twilio.received if message.get("event") == "mark"
    ]
