"""Log lines that a log collector can parse and a person can read."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from rayrtc import logs
from rayrtc.settings import Settings


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines_of(level: str = "info", log_format: str = "json", **fields: str) -> io.StringIO:
    stream = io.StringIO()
    settings = Settings.model_validate({"log_level": level, "log_format": log_format})
    logs.configure(settings, stream, **fields)
    return stream


def test_json_lines_carry_the_ids() -> None:
    stream = lines_of(worker_id="w1")
    logging.getLogger("workers.x").info("offer %s", "answered", extra={"connection_id": "c1"})
    line = json.loads(stream.getvalue())
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "workers.x",
        "message": "offer answered",
        "worker_id": "w1",
        "connection_id": "c1",
    }


def test_what_others_put_into_a_record_is_no_field() -> None:
    stream = lines_of()
    fields = {"_ray_timestamp_ns": 1, "color_message": "x", "stream": "echo"}
    logger = logging.getLogger("workers.x")
    logger.handle(logging.makeLogRecord({"levelno": logging.INFO, "msg": "up"} | fields))
    line = json.loads(stream.getvalue())
    assert set(line) == {"ts", "level", "logger", "message", "stream"}


def test_an_exception_is_one_json_line() -> None:
    stream = lines_of()
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("workers.x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: no" in json.loads(line)["exception"]


def test_text_has_the_fields_at_the_end() -> None:
    stream = lines_of(log_format="text")
    logging.getLogger("workers.x").warning("slow", extra={"connection_id": "c1"})
    assert stream.getvalue().endswith("warning workers.x  slow  connection_id=c1\n")


def test_auto_is_json_where_there_is_no_terminal() -> None:
    stream = lines_of(log_format="auto")
    logging.getLogger("workers.x").info("one")
    assert json.loads(stream.getvalue())["message"] == "one"


def test_the_level_holds_and_third_parties_are_quiet_even_at_debug() -> None:
    stream = lines_of(level="debug")
    logging.getLogger("workers.x").debug("ours")
    logging.getLogger("aioice.ice").info("theirs")
    logging.getLogger("aioice.ice").warning("their warning")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "ours",
        "their warning",
    ]
