"""Finds the application that a service runs, from `MODULE:ATTR`."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayrtc.stream import Stream

if TYPE_CHECKING:
    from fastapi import FastAPI


def load(spec: str) -> "Stream | FastAPI":
    """The `Stream` or FastAPI application named by `spec`, as `package.module:attribute`.

    The working directory is importable, as it is for `python -m`.

    Raises:
        ValueError: the text has no such form, or there is no such module, attribute or stream.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"{spec!r} is not of the form MODULE:ATTR, as in examples.echo:stream")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ValueError(f"there is no module {error.name!r} in {here} or installed") from error
        raise
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ValueError(f"module {module_name!r} has no attribute {attribute!r}")
        target = getattr(target, part)
    streams_of(target, spec)
    return target  # type: ignore[no-any-return]


def streams_of(target: "Stream | FastAPI", spec: str = "") -> dict[str, Stream]:
    """The streams of an application by name: the stream itself, or all that are mounted.

    Raises:
        ValueError: `target` is neither a stream nor an application with mounted streams.
    """
    if isinstance(target, Stream):
        target.name = target.name or "default"
        return {target.name: target}
    state = getattr(target, "state", None)
    streams: dict[str, Stream] | None = getattr(state, "rayrtc_streams", None)
    if not streams:
        raise ValueError(
            f"{spec or target!r} is neither a rayrtc.Stream nor a FastAPI application with mounted "
            "streams"
        )
    return streams
