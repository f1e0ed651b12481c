"""The media of a connection between its transport and its handler, of one or both kinds."""

import asyncio
from dataclasses import dataclass

from workers.audio import AudioInput
from workers.playback import Playback
from workers.video import VideoInput, VideoOutput


@dataclass(frozen=True)
class Media:
    """Where received media goes to and where emitted media comes from; None for what is not."""

    input: AudioInput | None = None
    """Audio."""
    output: Playback | None = None
    """Audio."""
    video_input: VideoInput | None = None
    video_output: VideoOutput | None = None

    @property
    def outputs(self) -> list[Playback | VideoOutput]:
        return [output for output in (self.output, self.video_output) if output is not None]

    @property
    def buffered(self) -> float:
        """Seconds of emitted media not played yet."""
        return max((output.buffered for output in self.outputs), default=0.0)

    @property
    def playing(self) -> bool:
        """Whether emitted audio is still being played."""
        return self.output is not None and self.output.playing

    async def drained(self) -> None:
        """Wait until everything emitted was played."""
        await asyncio.gather(*(output.drained() for output in self.outputs))

    def clear(self) -> None:
        """Drop what was emitted and not played yet. May be called from any thread."""
        for output in self.outputs:
            output.clear()

    def close_inputs(self) -> None:
        """Wake the handler where it waits for media. Called on the loop."""
        for input in (self.input, self.video_input):
            if input is not None:
                input.close()

    def stop(self) -> None:
        """End the tracks and the inputs, and all waiting. Called on the loop."""
        self.close_inputs()
        for output in self.outputs:
            output.stop()
