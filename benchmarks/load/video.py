"""Callers that send a pre-encoded picture over WebRTC; what comes back is decoded afterwards."""

import time

import numpy as np

from benchmarks.load import vp8
from benchmarks.load.callers import Callers
from benchmarks.load.protocol import Load, Result
from capacity.peer import Peer
from capacity.rtp import missing, parse_header, payload_of

TARGET = 1_000_000
"""Bit/s that every server is allowed (REMB)."""
SAMPLED = 2
"""Callers whose pictures are decoded and compared."""
COMPARED_EVERY = 5
"""Of their pictures, for the PSNR."""


class VideoCallers(Callers[Peer]):
    """All begin with the key frame; their frames are spread over the interval."""

    interval = 1 / vp8.FPS

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._video = vp8.video()
        self._sent_at: list[dict[int, list[float]]] = [{} for _ in self.peers]

    def make_peer(self) -> Peer:
        return Peer(self.load.url, "video", bitrate=TARGET)

    def send(self, caller: int, count: int) -> None:
        number = count % vp8.FRAMES
        payloads = self._video.frames[number]
        now = time.monotonic()
        for at, payload in enumerate(payloads):
            self.peers[caller].send(
                payload, count * vp8.CLOCK // vp8.FPS, marker=at == len(payloads) - 1
            )
        if self.recording:
            self._sent_at[caller].setdefault(number, []).append(now)

    def result(self) -> Result:
        received = [peer.decrypt() for peer in self.peers]
        result = self.counted(
            [len({parse_header(data).timestamp for _, data in packets}) for packets in received]
        )
        scores: list[float] = []
        for caller, packets in enumerate(received):
            headers = [parse_header(data) for _, data in packets]
            result.lost += missing([header.sequence_number for header in headers])
            payloads = [
                (h.timestamp, payload_of(d)) for h, (_, d) in zip(headers, packets, strict=True)
            ]
            size = sum(len(payload) for _, payload in payloads)
            result.bitrate += size * 8 / self.load.seconds / len(self.peers)
            if caller < SAMPLED:
                last = {
                    header.timestamp: at for header, (at, _) in zip(headers, packets, strict=True)
                }
                trips, compared = self._compare(caller, payloads, list(last.values()))
                result.markers += self.sent[caller]
                result.round_trips += trips
                scores += compared
        if scores:
            result.psnr = float(np.median(scores))
        return result

    def _compare(
        self, caller: int, payloads: list[tuple[int, bytes]], arrivals: list[float]
    ) -> tuple[list[float], list[float]]:
        """Round trips in seconds, from a frame's first packet to the last of the same picture, and
        PSNR in dB."""
        trips: list[float] = []
        scores: list[float] = []
        pictures = vp8.decode(vp8.assemble(payloads))
        for at, (picture, arrival) in enumerate(zip(pictures, arrivals, strict=True)):
            if picture is None:
                continue
            number = vp8.number_of(picture)
            sent = [arrival - s for s in self._sent_at[caller].get(number, []) if s < arrival]
            if sent:
                trips.append(min(sent))
            if not at % COMPARED_EVERY and number < vp8.FRAMES:
                reference = np.flip(self._video.pictures[number], axis=0).astype(np.float32)
                scores.append(vp8.psnr(picture, reference))
        return trips, scores
