"""Arguments and outputs as JSON text: what crosses Redis is data, never code.

JSON types stand for themselves (a tuple becomes a list). Bytes, NumPy arrays and pydantic models
are objects with the single marker key `$rayrtc`; a dictionary of the user that has that key is
wrapped, so nothing a client sends can pass for a marker.
"""

import base64
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from rayrtc.errors import TooLarge

MARK: Final = "$rayrtc"
ARRAY_KINDS: Final = "biufc"
"""Array types that are sent (`numpy.dtype.kind`): booleans, integers, floats, complex numbers."""
DEPTH_MAX: Final = 100
"""Levels of lists and dictionaries in each other."""


def encode(args: Sequence[Any], limit: int) -> str:
    """JSON text of a list of arguments.

    Args:
        args: JSON types, bytes, NumPy arrays (booleans, integers, floats, complex) and pydantic
            models, in any combination.
        limit: most bytes of the text in UTF-8.

    Raises:
        TypeError: a value is of another type, a dictionary key is no string, or the nesting is
            deeper than 100 levels.
        TooLarge: the text is longer than `limit`.
    """
    packed = [_pack(value, limit, 0) for value in args]
    try:
        text = json.dumps(packed, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:  # lone surrogates, which UTF-8 does not have
        text = json.dumps(packed, separators=(",", ":"))
        size = len(text)
    if size > limit:
        raise _too_large(size, limit)
    return text


def decode(text: str) -> list[Any]:
    """The arguments that `encode` was given.

    Classes of models are looked up among the modules that are already imported. A model whose class
    is not found, or does not take the data any more, becomes a dictionary.

    Raises:
        ValueError: `text` is not what `encode` makes.
    """
    try:
        value = json.loads(text)
        if not isinstance(value, list):
            raise ValueError("encoded arguments are no list")
        return [_unpack(item) for item in value]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"encoded arguments are malformed: {error!r}") from error


def to_json(value: Any) -> Any:
    """A plain JSON view of a decoded value, for clients that are no Python.

    Bytes become base64 text, arrays nested lists (a complex number is a pair), models dictionaries.
    NaN and infinity, which JSON does not have, become null; lone surrogates become U+FFFD.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray):
        plain = np.stack((value.real, value.imag), -1) if value.dtype.kind == "c" else value
        items = plain.tolist()
        return items if plain.dtype.kind != "f" or np.isfinite(plain).all() else to_json(items)
    if isinstance(value, RootModel):
        return to_json(value.root)
    if isinstance(value, BaseModel):
        return {str(to_json(name)): to_json(item) for name, item in value}
    if isinstance(value, dict):
        return {str(to_json(str(name))): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    return to_jsonable_python(value, serialize_unknown=True)


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"{size} bytes encoded, at most {limit} are allowed")


def _pack(value: Any, limit: int, depth: int, *, in_model: bool = False) -> Any:
    if depth > DEPTH_MAX:
        raise TypeError(f"nested deeper than {DEPTH_MAX} levels")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _pack(value.item(), limit, depth)
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return {MARK: "bytes", "data": _base64(data, len(data), limit)}
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in ARRAY_KINDS:
            raise TypeError(f"arrays of {value.dtype} cannot be sent")
        if value.nbytes > limit:
            raise _too_large(value.nbytes, limit)
        return {
            MARK: "ndarray",
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "data": _base64(value.tobytes(), value.nbytes, limit),
        }
    if isinstance(value, BaseModel):
        return {
            MARK: "model",
            "type": f"{type(value).__module__}:{type(value).__qualname__}",
            "data": _pack(
                value.root if isinstance(value, RootModel) else dict(value),
                limit,
                depth + 1,
                in_model=True,
            ),
        }
    if isinstance(value, dict):
        packed = {}
        for name, item in value.items():
            if not isinstance(name, str):
                if not in_model:  # a model turns its keys back into their type
                    raise TypeError(f"dictionary key {name!r} is no string")
                name = str(to_jsonable_python(name))
            packed[name] = _pack(item, limit, depth + 1, in_model=in_model)
        return {MARK: "dict", "data": packed} if MARK in packed else packed
    if isinstance(value, list | tuple) or (in_model and isinstance(value, set | frozenset)):
        return [_pack(item, limit, depth + 1, in_model=in_model) for item in value]
    if in_model:  # its class turns dates, decimals, ... back
        try:
            return to_jsonable_python(value)
        except PydanticSerializationError as error:
            raise TypeError(str(error)) from error
    raise TypeError(
        f"{type(value).__name__} cannot be sent; JSON types, bytes, NumPy arrays and pydantic "
        "models can"
    )


def _base64(data: bytes, size: int, limit: int) -> str:
    if size > limit:
        raise _too_large(size, limit)
    return base64.b64encode(data).decode()


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {name: _unpack(item) for name, item in value.items()}
    kind, data = value[MARK], value["data"]
    if kind == "bytes":
        return base64.b64decode(data, validate=True)
    if kind == "ndarray":
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in ARRAY_KINDS:
            raise ValueError(f"arrays of {dtype} are not accepted")
        raw = base64.b64decode(data, validate=True)
        return np.frombuffer(raw, dtype).reshape(value["shape"]).copy()
    if kind == "dict":
        return {name: _unpack(item) for name, item in data.items()}
    if kind == "model":
        fields = _unpack(data)
        model = _find_model(value["type"])
        if model is None:
            return fields
        try:
            return model.model_validate(fields, strict=False, by_alias=True, by_name=True)
        except ValidationError:
            return fields
    raise ValueError(f"unknown kind {kind!r}")


def _find_model(name: str) -> type[BaseModel] | None:
    module_name, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
