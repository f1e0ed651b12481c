"""What the code that runs here works for: fields that all of its log lines carry.

They are in a context variable. So tasks have those of the code that made them, and other threads
those of the context that they are started in; whatever a library or a handler logs has them too.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

REQUEST_ID = "request_id"
"""The field by which the lines of all services that a client's request caused are found."""

_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields")
_NONE: Mapping[str, Any] = {}


def current() -> Mapping[str, Any]:
    """The fields of the code that runs here."""
    return _fields.get(_NONE)


def current_request_id() -> str:
    """Of the request that is being served; empty when there is none."""
    return str(current().get(REQUEST_ID, ""))


def begin(**fields: Any) -> None:
    """Have these fields and no others until the end of this task."""
    _fields.set(fields)


def add(**fields: Any) -> None:
    """Add fields until the end of this task; None and empty ones are left out."""
    _fields.set({**current(), **{name: value for name, value in fields.items() if value}})


@contextmanager
def added(**fields: Any) -> Iterator[None]:
    """Add fields inside of the block, as `add` does."""
    before = current()
    add(**fields)
    try:
        yield
    finally:
        _fields.set(before)
