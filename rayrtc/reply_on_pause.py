"""`ReplyOnPause`: listens until the speaker pauses, then plays what a function replies.

Two threads of the worker meet here. `receive` listens, ends the reply when it is talked over, and
makes a turn of each utterance; `emit` runs the turns, one after the other.
"""

import asyncio
import copy
import inspect
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from rayrtc.handlers import ARGS_TIMEOUT, AudioEmitType, StreamHandler
from rayrtc.messages import AdditionalOutputs, WebRTCData, create_message
from rayrtc.replies import CLOSE_TIMEOUT, Reply, ReplyEnded, create_reply
from rayrtc.silero import get_silero_model
from rayrtc.utterance import AlgoOptions, AppState
from rayrtc.voice_detection import (
    ModelOptions,
    PauseDetectionModel,
    StreamingModel,
    VoiceStream,
)

logger = logging.getLogger(__name__)

INTERRUPTION = 0.12
"""Seconds of speech without a break that end a reply."""
KNOWN_ARGS_TIMEOUT = 3.0
"""Seconds that a turn waits for new inputs of a client that has sent some before."""
IDLE_WAIT = 0.5
"""Seconds after which an `emit` without a turn returns None."""

ReplyFunction = Callable[..., Any]
ReplyFnGenerator = ReplyFunction
"""FastRTC's name."""


@dataclass
class _Turn:
    """A reply, from its cause to the end of its generation."""

    function: ReplyFunction
    audio: tuple[int, NDArray[np.int16]] | None
    """The utterance, shape (1, n); None for `startup_fn`."""
    reply: Reply | None = None
    waiting: "Future[None] | None" = None
    """For the inputs."""
    announced: bool = False
    """Whether the client knows that the response has started."""
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, reply: Reply) -> None:
        with self.lock:
            self.reply = reply
            cancelled = self.cancelled
        if cancelled:  # while the function was called
            reply.cancel()

    def cancel(self) -> None:
        """From any thread; does not wait."""
        with self.lock:
            self.cancelled = True
            waiting, reply = self.waiting, self.reply
        if waiting is not None:
            waiting.cancel()
        if reply is not None:
            reply.cancel()


class ReplyOnPause(StreamHandler):
    """Calls `fn((rate, audio), *inputs)` when the speaker pauses and plays what it gives.

    The client is told by `log` messages: `started_talking`, `pause_detected`, `response_starting`.
    A copy shares the attributes that a subclass adds.

    Args:
        fn: a generator function, sync or async, or a function with one result. The audio is the
            utterance, mono, shape (1, n). More parameters get the client's inputs: it is sent
            `send_input` each turn, and waited for.
        startup_fn: called once at the beginning, with the inputs if `fn` takes any; what it gives
            is played.
        algo_options: when an utterance begins and ends.
        model_options: for the model.
        can_interrupt: whether speech ends the reply that is playing. If not, nothing is heard until
            its playback has ended.
        expected_layout, output_sample_rate, output_frame_size, input_sample_rate: see
            `StreamHandler`; stereo is mixed to mono.
        model: what finds speech; by default Silero's model. One without `stream` sees the beginning
            of speech a chunk later.
        needs_args: whether `fn` takes inputs although its signature does not show it.
    """

    state_type: type[AppState] = AppState

    def __init__(
        self,
        fn: ReplyFunction,
        startup_fn: ReplyFunction | None = None,
        algo_options: AlgoOptions | None = None,
        model_options: ModelOptions | None = None,
        can_interrupt: bool = True,
        expected_layout: Literal["mono", "stereo"] = "mono",
        output_sample_rate: int = 24000,
        output_frame_size: int | None = None,
        input_sample_rate: int = 48000,
        model: PauseDetectionModel | None = None,
        needs_args: bool = False,
    ) -> None:
        super().__init__(expected_layout, output_sample_rate, output_frame_size, input_sample_rate)
        self.fn = fn
        self.startup_fn = startup_fn
        self.algo_options = algo_options or AlgoOptions()
        self.model_options = model_options
        self.can_interrupt = can_interrupt
        self.model: PauseDetectionModel = model or get_silero_model()
        self.needs_args = needs_args or _parameters(fn) > 1
        self._begin()

    def _begin(self) -> None:
        """What each connection has for itself."""
        self.state = self.state_type()
        self._stream: VoiceStream | None = None
        self._armed = False  # whether the speaker has been silent since the last turn began
        self._generating = threading.Lock()
        self._turns = threading.Condition()  # guards what follows
        self._turn: _Turn | None = None
        self._following: _Turn | None = None
        self._emitted: _Turn | None = None  # whose item `emit` gave and is not written yet
        self._ended = False

    def copy(self) -> Self:
        clone = copy.copy(self)
        StreamHandler.__init__(
            clone,
            self.expected_layout,
            self.output_sample_rate,
            input_sample_rate=self.input_sample_rate,
            fps=self.fps,
        )
        clone._begin()
        if isinstance(self.model, StreamingModel):
            clone.model = clone._stream = self.model.stream(self.model_options)
        return clone

    # listening

    def determine_pause(
        self, audio: NDArray[np.int16], sampling_rate: int, state: AppState
    ) -> bool:
        """Whether the speaker has finished. Override it for another rule.

        Called with all audio since `state.buffer` was None, shape (n,), each time 20 ms are added.
        What it puts into `state.stream` is what the reply function gets.
        """
        if len(audio) < self.algo_options.audio_chunk_duration * sampling_rate:
            return False
        speech, _ = self.model.vad((sampling_rate, audio), self.model_options)
        if not state.started_talking and speech > self.algo_options.started_talking_threshold:
            state.started_talking = True
            self.send_message_sync(create_message("log", "started_talking"))
            state.stream = state.before
        state.buffer, state.before = None, audio
        if not state.started_talking:
            return False
        state.stream = _joined(state.stream, audio)
        longest = self.algo_options.max_continuous_speech_s
        return (
            speech < self.algo_options.speech_threshold
            or len(state.stream) >= longest * sampling_rate
        )

    def interrupts(self, state: AppState) -> bool:
        """Whether the speaker means to end the reply that is playing. Override it to be stricter.

        Called for each 20 ms that come while a reply is made or played.
        """
        if self._stream is None:
            return state.started_talking
        speaking = self._stream.speaking_for
        self._armed = self._armed or not speaking
        return self._armed and speaking >= INTERRUPTION

    def process_audio(self, audio: tuple[int, NDArray[np.int16]], state: AppState) -> None:
        """Add audio of shape (n,) to the state, and see whether the speaker has finished."""
        state.sampling_rate, samples = audio
        state.buffer = _joined(state.buffer, samples)
        state.pause_detected = self.determine_pause(state.buffer, state.sampling_rate, state)

    def receive(self, frame: tuple[int, NDArray[np.int16]]) -> None:
        state = self.state
        state.responding = self._responding()
        if state.responding and not self.can_interrupt:
            return
        audio = frame[0], self._mono(frame[1])
        if self._stream is not None:
            self._stream.hear(audio)
        self.process_audio(audio, state)
        if state.responding and self.interrupts(state):
            self._interrupt()
        emitted = self._emitted
        if emitted is not None and emitted.cancelled:
            self.clear_queue()  # `emit` gave it before it was interrupted
        if state.pause_detected:
            self._take_turn(state, state.stream)

    def trigger_response(self) -> None:
        """Reply now to what was heard since the last turn, as if the speaker had paused.

        Does nothing while a reply that must not be interrupted is made or played. May be called
        from any thread.
        """
        if self.can_interrupt or not self._responding():
            state = self.state
            heard = state.stream
            if state.started_talking and state.buffer is not None:
                heard = _joined(heard, state.buffer)
            self._take_turn(state, heard)

    def _mono(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        if self.expected_layout == "mono":
            return samples.reshape(-1)
        mixed = samples.reshape(-1, 2).mean(axis=1)
        return np.asarray(mixed, np.int16)

    def _responding(self) -> bool:
        # in the order in which audio moves on, so that none escapes
        if self._turn is not None or self._following is not None or self._emitted is not None:
            return True
        return self.playing

    def _interrupt(self) -> None:
        with self._turns:
            turns = [turn for turn in (self._turn, self._following) if turn is not None]
            self._following = None
        for turn in turns:
            turn.cancel()
        self.clear_queue()

    def _take_turn(self, state: AppState, heard: NDArray[np.int16] | None) -> None:
        samples = np.zeros(0, np.int16) if heard is None else heard
        rate = state.sampling_rate or self.input_sample_rate
        with self._turns:
            if self.state is not state:
                return  # somebody else has made a turn of it
            self.state = state.new()
            self._armed = False
        if self.can_interrupt:
            self._interrupt()
        self.send_message_sync(create_message("log", "pause_detected"))
        self._put(_Turn(self.fn, (rate, samples.reshape(1, -1))))

    def _put(self, turn: _Turn) -> None:
        with self._turns:
            self._following = turn
            self._turns.notify_all()

    # replying

    def start_up(self) -> None:
        if self.startup_fn is not None:
            if self.needs_args:
                self.wait_for_args_sync()
            self._put(_Turn(self.startup_fn, None))

    def emit(self) -> AudioEmitType:
        turn = self._current()
        if turn is None:
            return None
        try:
            with self._generating:
                item = self._next(turn)
        except ReplyEnded:
            self._finish(turn)
            return None
        except BaseException:
            self._finish(turn, failed=True)
            raise
        if not turn.announced and _is_audio(item):
            self._announce(turn)
        if self.phone_mode:
            self._keep_outputs(item)
        with self._turns:
            if turn.cancelled:
                return None
            self._emitted = turn
        return item  # type: ignore[no-any-return]

    def shutdown(self) -> None:
        """End the reply that is being made; its `finally` has run afterwards, if it can."""
        with self._turns:
            self._ended = True
            turn = self._turn
            self._turns.notify_all()
        self._interrupt()
        if turn is not None and self._generating.acquire(timeout=CLOSE_TIMEOUT):
            try:
                if turn.reply is not None:
                    turn.reply.close()
            finally:
                self._generating.release()
        if self._stream is not None:
            self._stream.close()

    def reset(self) -> None:
        """Forget what was heard, the inputs, and the reply that is being made."""
        super().reset()
        if self.phone_mode:
            self.args_set.set()
        self._interrupt()
        self.state = self.state.new()

    def _current(self) -> _Turn | None:
        """The turn that runs, waiting a while for one."""
        with self._turns:
            self._emitted = None
            if self._turn is None and self._following is None and not self._ended:
                self._turns.wait(IDLE_WAIT)
            if self._turn is None:
                self._turn, self._following = self._following, None
            return self._turn

    def _next(self, turn: _Turn) -> Any:
        reply = turn.reply
        if reply is None:
            args = self._args(turn)
            if turn.cancelled:
                raise ReplyEnded
            reply = create_reply(turn.function(*args), self.loop)
            turn.start(reply)
        return reply.next()

    def _args(self, turn: _Turn) -> list[Any]:
        """What the turn's function is called with."""
        if self.needs_args and not self.phone_mode and turn.audio is not None:
            self._wait_for_inputs(turn)
        inputs = self.latest_args[1:] if self.needs_args else []
        if turn.audio is None:
            return inputs
        first = self.latest_args[0] if self.latest_args else None
        if isinstance(first, WebRTCData):
            return [first.model_copy(update={"audio": turn.audio}), *inputs]
        return [turn.audio, *inputs]

    def _wait_for_inputs(self, turn: _Turn) -> None:
        """Ask for inputs; those of the last turn do when no new ones come.

        Raises:
            ReplyEnded: the turn was cancelled meanwhile.
            TimeoutError: the client has never sent any.
        """
        known = bool(self.latest_args)
        limit = KNOWN_ARGS_TIMEOUT if known else ARGS_TIMEOUT
        with turn.lock:
            if turn.cancelled:
                raise ReplyEnded
            turn.waiting = asyncio.run_coroutine_threadsafe(self._inputs(limit), self.loop)
        try:
            turn.waiting.result(limit + 1)
        except CancelledError:
            raise ReplyEnded from None
        except TimeoutError:
            if not known:
                raise TimeoutError("the client did not send its inputs") from None

    async def _inputs(self, limit: float) -> None:
        async with asyncio.timeout(limit):
            await self.wait_for_args()

    def _announce(self, turn: _Turn) -> None:
        turn.announced = True
        self.send_message_sync(create_message("log", "response_starting"))

    def _keep_outputs(self, item: Any) -> None:
        """A phone has no inputs: the outputs of a turn are the inputs of the next one."""
        outputs = item[1] if isinstance(item, tuple) else item
        if isinstance(outputs, AdditionalOutputs):
            self.latest_args = ["__webrtc_value__", *outputs.args]

    def _finish(self, turn: _Turn, *, failed: bool = False) -> None:
        with self._turns:
            self._turn = None
        if turn.audio is not None and not (turn.announced or turn.cancelled or failed):
            self._announce(turn)
        if self.needs_args and not self.phone_mode:
            self.args_set.clear()  # the next turn has inputs of its own


def _parameters(function: ReplyFunction) -> int:
    """How many arguments it takes by position."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1  # it has no signature
    return sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters)


def _joined(first: NDArray[np.int16] | None, second: NDArray[np.int16]) -> NDArray[np.int16]:
    return second if first is None else np.concatenate((first, second))


def _is_audio(item: Any) -> bool:
    return isinstance(item, tuple) and item[0] is not None
