"""A long conversation through Chromium's microphone: what a caller gets who talks as people do."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from capacity.conversation import conversation
from tests.e2e.stack import Stack
from tests.e2e.talking_page import BLOCK, RATE, TalkingPage, microphone
from tests.speech import noise, not_speech

pytestmark = pytest.mark.timeout(240)
TURN = ["started_talking", "pause_detected", "response_starting"]
PAUSE = 1.7
"""Seconds between two utterances. After the last chunk of 0.6 s with speech comes one without, so
the reply begins after 1.3 s at most, and is playing when the next utterance begins."""
SECOND = RATE // BLOCK


def room(seconds: float) -> np.ndarray:
    return noise(seconds, level=0.0005)


async def reported(url: str, call: str) -> list[list[Any]]:
    """The arguments of each output of a connection that has ended."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(url + "/outputs", params={"webrtc_id": call}) as response,
    ):
        text = await response.text()
    events = [event.split("\n") for event in text.split("\n\n") if "event: output" in event]
    data = [line[6:] for event in events for line in event if line.startswith("data: ")]
    return [json.loads(line) for line in data]


def interrupted(levels: np.ndarray, count: int) -> tuple[int, int]:
    """How many replies played when each of the utterances but the first began; how many 0.75 s
    later."""
    talking, sounding = levels.T > 0.05
    starts = [
        at for at in np.flatnonzero(talking) if at > SECOND and not talking[at - SECOND : at].any()
    ][: count - 1]
    assert len(starts) == count - 1
    later = 3 * SECOND // 4
    return (
        sum(sounding[at - 10 : at].any() for at in starts),
        sum(sounding[at + later - 10 : at + later].any() for at in starts),
    )


@pytest.mark.quiet
async def test_twenty_utterances_get_a_reply_each_and_noise_and_tones_none(
    talkers: Stack, tmp_path: Path
) -> None:
    """Defect 9: each utterance but a caller's first interrupts a reply; noise and tones do not.

    How fast a reply falls silent, `benchmarks.interruption` measures.
    """
    spoken = conversation()
    assert len(spoken) == 20
    calls = {"a": spoken[:10], "b": spoken[10:]}
    for name in calls:
        (tmp_path / name).mkdir()
    replies = await asyncio.gather(
        *(
            replied(talkers.replicas[name], utterances, tmp_path / name)
            for name, utterances in calls.items()
        )
    )
    assert sum(before for before, _ in replies) >= 15
    assert [after for _, after in replies] == [0, 0]


async def replied(replica: str, spoken: list[np.ndarray], directory: Path) -> tuple[int, int]:
    """Say utterances, then what is no speech. What `interrupted` finds in the call."""
    sounds = [sound for utterance in spoken for sound in (utterance, room(PAUSE))]
    sounds += [part for sound in not_speech().values() for part in (sound, room(0.3))]
    recorded = np.concatenate([room(0.3), *sounds, room(0.7)])
    url = replica + "/answer"
    async with microphone(recorded, directory) as page:
        call = TalkingPage(page, url)
        await call.connect()
        await call.speak()
        await asyncio.sleep(len(recorded) / RATE)
        logs = await call.logs()
        levels = await call.levels()
        await call.close()
    assert logs == TURN * len(spoken)
    told = await reported(url, call.id)
    numbers = [finished for _, finished in told]
    assert numbers == list(range(len(spoken))), "each reply ran its `finally`"
    for (seconds, _), utterance in zip(told, spoken, strict=True):
        assert 0 <= seconds - len(utterance) / RATE <= 2.4, "another's words"
    assert sum(seconds for seconds, _ in told) < len(recorded) / RATE, "words told twice"
    return interrupted(levels, len(spoken))


async def test_an_endless_reply_of_a_coroutine_falls_silent_when_the_caller_goes_on(
    talkers: Stack, tmp_path: Path
) -> None:
    spoken = conversation()[:3]
    sounds = [sound for utterance in spoken for sound in (utterance, room(3.0))]
    recorded = np.concatenate([room(0.3), *sounds])
    url = talkers.replicas["b"] + "/endless"
    async with microphone(recorded, tmp_path) as page:
        call = TalkingPage(page, url)
        await call.connect()
        await call.speak()
        await asyncio.sleep(len(recorded) / RATE)
        logs = await call.logs()
        levels = await call.levels()
        await call.close()
    assert logs == TURN * 3
    assert [finished for _, finished in await reported(url, call.id)] == [0, 1, 2]
    assert interrupted(levels, 3) == (2, 0)
