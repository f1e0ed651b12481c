"""eSpeak NG, the library: quick, small, in many languages, and it sounds like a machine.

From the `espeakng-loader` wheel, which has its voices too (`rayrtc[espeak]`), or from the system.
"""

import ctypes
import ctypes.util
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayrtc.speech_synthesis import SentenceTTSModel, TTSOptions

# of speak_lib.h
_RETRIEVAL = 1  # give the samples to the callback
_DONT_EXIT = 0x8000  # not even when there are no voices
_UTF8 = 1
_RATE, _PITCH = 1, 3
_SYNTHESISED = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass
class EspeakTTSOptions(TTSOptions):
    """How it speaks.

    Attributes:
        voice: a language, and perhaps a variant: `en-us`, `en-gb+f2`, `de`.
        speed: words a minute, 80 to 450.
        pitch: 0 to 99.
    """

    voice: str = "en-us"
    speed: int = 160
    pitch: int = 50


class EspeakTTSModel(SentenceTTSModel[EspeakTTSOptions]):
    """Speaks at 22,050 Hz, a hundred times faster than it lasts; one text at a time in a process.

    Raises:
        ImportError: neither the wheel nor the system has the library.
    """

    def tts(
        self, text: str, options: EspeakTTSOptions | None = None
    ) -> tuple[int, NDArray[np.int16]]:
        return _library.speak(text, options or EspeakTTSOptions())

    def __init__(self) -> None:
        _library.loaded  # noqa: B018


class _Library:
    """The library and its global state."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[NDArray[np.int16]] = []
        self._callback = _SYNTHESISED(self._take)  # the library keeps the pointer
        self._rate = 0

    @cached_property
    def loaded(self) -> Any:
        path, data = _paths()
        library = ctypes.CDLL(path)
        rate = library.espeak_Initialize(_RETRIEVAL, 0, data, _DONT_EXIT)
        if rate <= 0:
            raise ImportError(f"eSpeak NG of {path} has no voices")
        self._rate = rate
        library.espeak_SetSynthCallback(self._callback)
        return library

    def speak(self, text: str, options: EspeakTTSOptions) -> tuple[int, NDArray[np.int16]]:
        with self._lock:
            library = self.loaded
            if library.espeak_SetVoiceByName(options.voice.encode()):
                raise ValueError(f"eSpeak NG has no voice {options.voice!r}")
            library.espeak_SetParameter(_RATE, options.speed, 0)
            library.espeak_SetParameter(_PITCH, options.pitch, 0)
            self._pieces.clear()
            spoken = text.replace("\0", " ").encode()
            size = ctypes.c_size_t(len(spoken) + 1)
            library.espeak_Synth(spoken, size, 0, 0, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            return self._rate, np.concatenate([np.zeros(0, np.int16), *self._pieces])

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0  # go on


def _paths() -> tuple[str, bytes | None]:
    """Of the library, and of its voices if they are not where it expects them."""
    try:
        import espeakng_loader
    except ImportError:
        path = ctypes.util.find_library("espeak-ng")
        if path is None:
            raise ImportError("eSpeak NG needs `pip install rayrtc[espeak]`") from None
        return path, None
    return espeakng_loader.get_library_path(), str(espeakng_loader.get_data_path()).encode()


_library = _Library()
