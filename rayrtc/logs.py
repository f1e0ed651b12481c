"""Structured logs of all services: one JSON object a line in production, readable in a terminal.

Whatever a call gives as `extra` becomes a field of its line: `connection_id`, `worker_id`, ...
So do the fields of the code that runs (`rayrtc.log_fields`): `request_id`, ...
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from rayrtc import log_fields
from rayrtc.settings import Settings

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes that every record has; all others came as `extra`."""

QUIET = (
    "aioice",
    "aiohttp.access",
    "aiortc",
    "asyncio",
    "filelock",
    "httpcore",
    "httpx",
    "libav",
    "opentelemetry",
    "ray",
    "redis",
    "urllib3",
    "uvicorn",
    "watchfiles",
    "websockets",
)
"""Loggers of third parties that are heard from `warning` on."""


class _Fields(logging.Formatter):
    """What both formats share: the fields of a service, of what runs there and of a record."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        self._fields = fields

    def extra(self, record: logging.LogRecord) -> dict[str, Any]:
        # uvicorn's colored copy of its message and what Ray adds with an underscore are no fields
        own = {
            key: value
            for key, value in record.__dict__.items()
            if key not in STANDARD and key != "color_message" and not key.startswith("_")
        }
        return {**self._fields, **log_fields.current(), **own}


class JSONFormatter(_Fields):
    """`ts` (RFC 3339, UTC, ms), `level`, `logger`, `message`, the extra fields, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "ts": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in self.extra(record).items():
            line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(_Fields):
    """`12:00:00.123 info    control_plane.routes  message  connection_id=...`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = (
            f"{clock}.{int(record.msecs):03d} {record.levelname.lower():<7} "
            f"{record.name}  {record.getMessage()}"
        )
        fields = "".join(f"  {key}={value}" for key, value in self.extra(record).items())
        text = line + fields
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def configure(settings: Settings, stream: TextIO | None = None, **fields: Any) -> None:
    """Log to `stream` (stderr) as `log_level` and `log_format` say, in place of what was set.

    `fields` are part of every line of this process, for example `worker_id`.
    """
    target = stream if stream is not None else sys.stderr
    json_lines = settings.log_format == "json" or (
        settings.log_format == "auto" and not target.isatty()
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(JSONFormatter(fields) if json_lines else TextFormatter(fields))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
