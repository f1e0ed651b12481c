"""A user would lose an argument, or run a stranger's code, if these failed."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, RootModel

from rayrtc.cluster.codec import decode, encode, to_json
from rayrtc.errors import TooLarge

LIMIT = 1 << 20


class Point(BaseModel):
    x: int
    y: float = 0.5


class Settings(BaseModel):
    """One field of each kind that JSON does not have."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    at: Point
    others: list[Point] = []
    raw: bytes = b""
    when: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    day: date = date(2026, 1, 2)
    price: Decimal = Decimal("1.10")
    tags: set[str] = set()
    by_number: dict[int, str] = {}
    anything: Any = None


class Names(RootModel[list[str]]):
    pass


def round_trip(*args: Any) -> list[Any]:
    return decode(encode(args, LIMIT))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        2**70,
        -1.5,
        "",
        "héllo 世界 \0 \u2028",
        "lone \ud800 surrogate",
        [],
        [1, [2, {"a": [None]}]],
        {"a": {"b": "c"}},
        {"$rayrtc": "bytes", "data": "AAAA"},
        {"$rayrtc": {"$rayrtc": 1}},
        b"\0\xff",
        {"nested": [b"x"]},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert round_trip(value, value) == [value, value]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(1, 6),
        np.zeros((0, 3), np.float32),
        np.array(5, np.uint8),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.arange(6, dtype=">i4"),
        np.arange(12).reshape(3, 4).T[::2],
    ],
)
def test_arrays_keep_shape_and_type(array: np.ndarray[Any, Any]) -> None:
    (back,) = round_trip(array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


def test_other_kinds_of_the_same_data() -> None:
    assert round_trip((1, 2), bytearray(b"a"), np.float32(0.5)) == [[1, 2], b"a", 0.5]


def test_models_come_back_as_their_class() -> None:
    settings = Settings(
        at=Point(x=1),
        others=[Point(x=2, y=3)],
        raw=b"\xff",
        tags={"a", "b"},
        by_number={1: "one"},
        anything=Point(x=9),
    )
    (back,) = round_trip(settings)
    assert type(back) is Settings
    assert back == settings
    assert round_trip(Names(["a"])) == [Names(["a"])]


def test_a_model_whose_class_is_not_imported_is_a_dictionary() -> None:
    text = encode([Point(x=1)], LIMIT).replace("test_codec:Point", "not_imported:Point")
    assert decode(text) == [{"x": 1, "y": 0.5}]


def test_a_local_model_is_a_dictionary() -> None:
    class Local(BaseModel):
        a: int

    assert round_trip(Local(a=1)) == [{"a": 1}]


def test_a_name_that_is_no_model_is_not_called() -> None:
    text = encode([Point(x=1)], LIMIT)
    name = json.loads(text)[0]["type"]
    for other in ("os:system", "builtins:dict", "json:JSONDecoder", "os", ":", "rayrtc:"):
        assert decode(text.replace(name, other)) == [{"x": 1, "y": 0.5}]


def test_a_client_cannot_forge_a_marker() -> None:
    """What a client posts is encoded like everything else, so a marker in it stays data."""
    forged = json.loads(encode([Point(x=1), b"x", np.zeros(2)], LIMIT))
    assert decode(encode(forged, LIMIT)) == forged


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        {1: "a"},
        lambda: None,
        np.array(["text"]),
        np.array([object()]),
        np.zeros(2, [("a", "i4")]),
        datetime(2026, 1, 2, tzinfo=UTC),
        Settings(at=Point(x=1), anything=object()),
    ],
)
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode([value], LIMIT)


def test_endless_nesting_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="nested"):
        encode(circle, LIMIT)


@pytest.mark.parametrize("value", ["a" * 1000, "é" * 500, b"a" * 750, np.zeros(750, np.uint8)])
def test_the_limit_counts_encoded_bytes(value: Any) -> None:
    size = len(encode([value], LIMIT).encode())
    assert encode([value], size)
    with pytest.raises(TooLarge):
        encode([value], size - 1)
    with pytest.raises(TooLarge):
        encode([value], 100)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[",
        '[{"$rayrtc":"pickle","data":""}]',
        '[{"$rayrtc":"bytes"}]',
        '[{"$rayrtc":"bytes","data":"*"}]',
        '[{"$rayrtc":"ndarray","data":"","dtype":"O","shape":[1]}]',
        '[{"$rayrtc":"ndarray","data":"AAAA","dtype":"i2","shape":[9]}]',
        '[{"$rayrtc":"ndarray","data":"","dtype":"no","shape":[0]}]',
        '[{"$rayrtc":"model","data":{},"type":1}]',
        "[" * 100_000,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        decode(text)


def test_the_plain_view_is_valid_json() -> None:
    values = [
        b"\0",
        np.array([[1, 2]], np.int16),
        np.array([1.5, np.nan]),
        np.array([1 + 2j]),
        Settings(at=Point(x=1), raw=b"\xff", tags={"t"}, by_number={1: "one"}),
        Names(["a"]),
        float("inf"),
        "lone \ud800 surrogate",
        {"$rayrtc": "bytes"},
    ]
    plain = [to_json(value) for value in decode(encode(values, LIMIT))]
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    assert json.loads(text.encode()) == [
        "AA==",
        [[1, 2]],
        [1.5, None],
        [[1.0, 2.0]],
        {
            "at": {"x": 1, "y": 0.5},
            "others": [],
            "raw": "/w==",
            "when": "2026-01-02T00:00:00Z",
            "day": "2026-01-02",
            "price": "1.10",
            "tags": ["t"],
            "by_number": {"1": "one"},
            "anything": None,
        },
        ["a"],
        None,
        "lone \ufffd surrogate".replace("\ufffd", "\ufffd" * 3),
        {"$rayrtc": "bytes"},
    ]
