"""The calls of one process: made and ended at a steady rate, all measured at the same time."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

import aiohttp
import psutil

from capacity.arrivals import percentile
from capacity.call import PACKET, Call, make_call
from capacity.pace import Pace
from capacity.protocol import Calls, Sample, Target
from capacity.refusal import PATIENCE, Refused

CONNECT_TIMEOUT = 20.0
MEDIA_TIMEOUT = 10.0
"""Seconds from the connection to the first media, where the handler sends any."""
FINISH_TIMEOUT = 5.0
"""Seconds at the end for calls that are being made: one that is given up holds its slot longer."""
CLOSE_TIMEOUT = 5.0
PLACES = 10
"""Moments within 20 ms at which packets are sent."""
HEARD = 8
"""Calls whose sound is decoded to find the round trips."""
REST = 3.0
"""Seconds of rest for each second of work on what was received: all cores busy at once would stop a
deployment on the same machine."""
ASKED = 8
"""Calls that ended whose reason is asked for."""


class Load:
    """Calls to one stream. To be entered; leaving it ends all of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._calls: list[Call] = []
        self._made = 0
        self._pace = Pace(PACKET, PLACES)
        self._connecting: set[asyncio.Task[None]] = set()
        self._full = ""

    @property
    def live(self) -> int:
        """Calls that are connected."""
        return len(self._calls)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector)
        self._pacing = asyncio.create_task(self._pace.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._full = "closing"
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=FINISH_TIMEOUT)
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await self._hang_up(self._calls)
        self._pacing.cancel()
        await asyncio.gather(self._pacing, return_exceptions=True)
        await self._session.close()

    async def set_calls(self, wanted: int, every: float, tell: Callable[[int], None]) -> Calls:
        """Have `wanted` calls; `tell` is given the number of them when it changes.

        Args:
            every: seconds between the beginnings of two calls.
        """
        made = Calls()
        self._full = ""
        gone = [call for call in self._calls if call.peer.ended]
        made.ended = await self._reasons(gone)
        await self._hang_up(gone)
        await self._hang_up(self._calls[wanted:])
        begin = time.monotonic()
        for count in range(wanted - self.live):
            await asyncio.sleep(max(0.0, begin + count * every - time.monotonic()))
            if self._full:
                break
            task = asyncio.create_task(self._make(made, tell))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        if self._connecting:
            await asyncio.wait(self._connecting)  # each has its deadline
        made.full, made.live = self._full, self.live
        return made

    async def _make(self, made: Calls, tell: Callable[[int], None]) -> None:
        """Make one call; what comes of it is put down."""
        begin = time.monotonic()
        while True:
            call = make_call(self.target, self._made)
            self._made += 1
            try:
                await self._connect(call, made)
                tell(self.live)
                return
            except Refused as refused:
                code, pause = refused.code, refused.retry_after
            except Exception as error:  # whatever it was, the call has failed
                code, pause = _code_of(error), 0.0
            if code not in PATIENCE:
                made.failed[code] = made.failed.get(code, 0) + 1
                return
            if self._full or time.monotonic() + pause > begin + PATIENCE[code]:
                self._full = self._full or code
                return
            await asyncio.sleep(pause)

    async def _connect(self, call: Call, made: Calls) -> None:
        """Connect and talk; a call that fails is hung up."""
        try:
            await call.connect(self._session, CONNECT_TIMEOUT)
            self._pace.add(call.send)
            peer = call.peer
            if self.target.media:
                connected = await peer.first_media(MEDIA_TIMEOUT)
            else:
                connected = peer.connected_time
            made.answer.append(peer.answer_time - peer.offer_time)
            made.media.append(connected - peer.offer_time)
            self._calls.append(call)
        except BaseException:
            await self._hang_up([call])
            raise

    async def _hang_up(self, calls: list[Call]) -> None:
        ended = list(calls)
        self._calls = [call for call in self._calls if call not in ended]
        for call in ended:
            self._pace.remove(call.send)
        closing = [asyncio.create_task(call.close()) for call in ended]
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)

    async def measure(self, seconds: float) -> Sample:
        """Look at all calls for so long."""
        measured = list(self._calls)
        for call in measured:
            call.begin()
        self._pace.late.clear()
        begin, cpu = time.monotonic(), time.process_time()
        psutil.cpu_percent()  # the next one is of the time since this one
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu) / (time.monotonic() - begin)
        machine = psutil.cpu_percent() / 100
        late = percentile(self._pace.late, 99) if self._pace.late else 0.0
        for call in measured:
            call.end()
        if self._pacing.done():
            self._pacing.result()  # it never ends by itself: raises what ended it
        sample = Sample(late=late, cpu=share, machine=machine)
        gone = [call for call in measured if call.peer.ended or call.silent]
        await self._look([call for call in measured if call not in gone], sample)
        sample.ended = await self._reasons(gone)
        await self._hang_up(gone)
        return sample

    async def _look(self, calls: list[Call], sample: Sample) -> None:
        """What was received, on threads: the calls go on meanwhile."""
        for number, call in enumerate(calls):
            begin = time.monotonic()
            heard = self.target.echo and number < HEARD
            of_call, trips = await asyncio.to_thread(call.sample, heard)
            sample.calls.append(of_call)
            sample.round_trips += trips
            await asyncio.sleep(REST * (time.monotonic() - begin))

    async def _reasons(self, gone: list[Call]) -> dict[str, int]:
        """Why calls have ended, as the deployment says."""
        asked = await asyncio.gather(*(self._reason(call) for call in gone[:ASKED]))
        reasons = Counter(asked)
        if len(gone) > ASKED:
            reasons[reasons.most_common(1)[0][0]] += len(gone) - ASKED
        return dict(reasons)

    async def _reason(self, call: Call) -> str:
        if not call.peer.ended:
            return "silent"
        body = {"type": "ice-candidate", "webrtc_id": call.peer.webrtc_id, "candidate": None}
        try:
            async with (
                asyncio.timeout(CLOSE_TIMEOUT),
                self._session.post(
                    self.target.url + "/webrtc/offer", json=body, headers=self.target.headers
                ) as response,
            ):
                meta = (await response.json())["meta"]
                return str(meta.get("detail", meta["error"]))
        except (TimeoutError, aiohttp.ClientError, ValueError, KeyError, TypeError):
            return "unknown"


def _code_of(error: Exception) -> str:
    """The name of a failure that the deployment has not named."""
    names = {
        TimeoutError: "timeout",
        aiohttp.ClientError: "unreachable",
        ConnectionError: "not_connected",
    }
    found = (name for kind, name in names.items() if isinstance(error, kind))
    return next(found, type(error).__name__)
