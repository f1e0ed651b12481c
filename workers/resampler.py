"""A stateful audio converter. Knows FFmpeg's filter graph and nothing of connections."""

from fractions import Fraction

from av.audio.frame import AudioFrame
from av.error import BlockingIOError as AgainError
from av.error import EOFError as EndError
from av.filter import Graph


class Resampler:
    """Converts format, layout, rate and frame size of consecutive frames without clicks.

    It has the interface of `av.AudioResampler`, which starts one thread per CPU and instance; this
    one works on the calling thread only. A change of the source's settings starts a new graph.

    Args:
        format: sample format of the result, such as "s16".
        layout: "mono" or "stereo"; None keeps that of the source.
        rate: Hz.
        frame_size: samples of each resulting frame; None gives what is ready.
    """

    def __init__(
        self, format: str, layout: str | None, rate: int, frame_size: int | None = None
    ) -> None:
        self.format = format
        self.layout = layout
        self.rate = rate
        self.frame_size = frame_size
        self._graph: Graph | None = None
        self._source: tuple[str, str, int, Fraction | None] | None = None

    def resample(self, frame: AudioFrame) -> list[AudioFrame]:
        """The frames that are complete with `frame`; some of it may stay until the next call.

        Raises:
            av.FFmpegError: the frame cannot be converted.
        """
        source = (frame.format.name, frame.layout.name, frame.sample_rate, frame.time_base)
        if self._graph is None or source != self._source:
            self._graph = self._build(*source)
            self._source = source
        self._graph.push(frame)
        frames: list[AudioFrame] = []
        while True:
            try:
                pulled = self._graph.pull()
            except (AgainError, EndError):
                return frames
            assert isinstance(pulled, AudioFrame)
            frames.append(pulled)

    def _build(self, format: str, layout: str, rate: int, time_base: Fraction | None) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "abuffer",
            sample_rate=str(rate),
            sample_fmt=format,
            channel_layout=layout,
            time_base=str(time_base or Fraction(1, rate)),
        )
        target = graph.add(
            "aformat",
            sample_rates=str(self.rate),
            sample_fmts=self.format,
            channel_layouts=self.layout or layout,
        )
        sink = graph.add("abuffersink")
        graph.link_nodes(source, target, sink)
        graph.configure()
        if self.frame_size:
            graph.set_audio_frame_size(self.frame_size)
        return graph
