"""FastRTC's handlers and client protocol on a cluster: what a handler author imports."""

import sys
from typing import TYPE_CHECKING

from rayrtc.absent import no_name
from rayrtc.audio import (
    aggregate_bytes_to_16bit,
    async_aggregate_bytes_to_16bit,
    audio_to_bytes,
    audio_to_file,
    audio_to_float32,
    audio_to_int16,
)
from rayrtc.cartesia import CartesiaTTSModel, CartesiaTTSOptions
from rayrtc.espeak import EspeakTTSModel, EspeakTTSOptions
from rayrtc.handlers import (
    AsyncStreamHandler,
    AudioEmitType,
    AudioFrame,
    StreamHandler,
    StreamHandlerBase,
    StreamHandlerImpl,
    wait_for_item,
)
from rayrtc.handlers import AudioEmitType as EmitType
from rayrtc.kokoro import KokoroTTSModel, KokoroTTSOptions
from rayrtc.messages import (
    AdditionalOutputs,
    CloseStream,
    Context,
    Warning,
    WebRTCData,
    WebRTCError,
    create_message,
    current_channel,
    current_context,
    get_current_context,
)
from rayrtc.messages import Channel as DataChannel
from rayrtc.opus import OpusOptions
from rayrtc.reply_on_pause import ReplyFnGenerator, ReplyOnPause
from rayrtc.reply_on_stop_words import ReplyOnStopWords, ReplyOnStopWordsState
from rayrtc.silero import SileroVADModel, get_silero_model
from rayrtc.speech_recognition import MoonshineSTT, STTModel, get_stt_model, stt_for_chunks
from rayrtc.speech_synthesis import TTSModel, TTSOptions, get_tts_model
from rayrtc.stop_words import HeardStopWord, StopWordRecogniser, transcribing
from rayrtc.stream import RTCConfigurationSource as RTCConfigurationCallable
from rayrtc.stream import Stream, UIArgs
from rayrtc.turn_credentials import (
    TurnCredentialsError,
    get_cloudflare_turn_credentials,
    get_cloudflare_turn_credentials_async,
    get_hf_turn_credentials,
    get_hf_turn_credentials_async,
    get_turn_credentials,
    get_turn_credentials_async,
    get_twilio_turn_credentials,
)
from rayrtc.utterance import AlgoOptions, AppState
from rayrtc.video import (
    AsyncAudioVideoStreamHandler,
    AudioVideoEmitType,
    AudioVideoStreamHandler,
    AudioVideoStreamHandlerImpl,
    HandlerType,
    VideoEmitType,
    VideoStreamHandler,
)
from rayrtc.video import VideoFunction as VideoEventHandler
from rayrtc.voice_detection import (
    AudioChunk,
    ModelOptions,
    PauseDetectionModel,
    SileroVadOptions,
    VoiceStream,
)

__version__ = "0.1.0"

__all__ = [
    "AdditionalOutputs",
    "AlgoOptions",
    "AppState",
    "AsyncAudioVideoStreamHandler",
    "AsyncStreamHandler",
    "AudioChunk",
    "AudioEmitType",
    "AudioFrame",
    "AudioVideoEmitType",
    "AudioVideoStreamHandler",
    "AudioVideoStreamHandlerImpl",
    "CartesiaTTSModel",
    "CartesiaTTSOptions",
    "CloseStream",
    "Context",
    "DataChannel",
    "EmitType",
    "EspeakTTSModel",
    "EspeakTTSOptions",
    "HandlerType",
    "HeardStopWord",
    "KokoroTTSModel",
    "KokoroTTSOptions",
    "ModelOptions",
    "MoonshineSTT",
    "OpusOptions",
    "PauseDetectionModel",
    "RTCConfigurationCallable",
    "ReplyFnGenerator",
    "ReplyOnPause",
    "ReplyOnStopWords",
    "ReplyOnStopWordsState",
    "STTModel",
    "SileroVADModel",
    "SileroVadOptions",
    "StopWordRecogniser",
    "Stream",
    "StreamHandler",
    "StreamHandlerBase",
    "StreamHandlerImpl",
    "TTSModel",
    "TTSOptions",
    "TurnCredentialsError",
    "UIArgs",
    "VideoEmitType",
    "VideoEventHandler",
    "VideoStreamHandler",
    "VoiceStream",
    "Warning",
    "WebRTCData",
    "WebRTCError",
    "aggregate_bytes_to_16bit",
    "async_aggregate_bytes_to_16bit",
    "audio_to_bytes",
    "audio_to_file",
    "audio_to_float32",
    "audio_to_int16",
    "create_message",
    "current_channel",
    "current_context",
    "get_cloudflare_turn_credentials",
    "get_cloudflare_turn_credentials_async",
    "get_current_context",
    "get_hf_turn_credentials",
    "get_hf_turn_credentials_async",
    "get_silero_model",
    "get_stt_model",
    "get_tts_model",
    "get_turn_credentials",
    "get_turn_credentials_async",
    "get_twilio_turn_credentials",
    "stt_for_chunks",
    "transcribing",
    "wait_for_item",
]

# FastRTC's submodules are this one: `from fastrtc.utils import audio_to_bytes` moves by its first
# word. Type checkers know the names at `rayrtc` only.
for _path in (
    "credentials",
    "pause_detection",
    "pause_detection.protocol",
    "pause_detection.silero",
    "reply_on_stopwords",
    "speech_to_text",
    "speech_to_text.stt_",
    "text_to_speech",
    "text_to_speech.tts",
    "tracks",
    "utils",
):
    sys.modules[f"{__name__}.{_path}"] = sys.modules[__name__]
    globals()[_path.partition(".")[0]] = sys.modules[__name__]

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        raise no_name(name)
