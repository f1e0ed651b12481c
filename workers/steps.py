"""How long a coroutine holds the event loop while it is awaited."""

import time
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """Awaits in place of what it is given.

    Attributes:
        held: seconds of its steps, without waits.
        waited: whether it has let others run meanwhile.
    """

    def __init__(self, work: Awaitable[T]) -> None:
        self._work = work
        self.held = 0.0
        self.waited = False

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            began = time.monotonic()
            try:
                if error is None:
                    waits_for = next(steps)
                elif hasattr(steps, "throw"):
                    waits_for = steps.throw(error)
                else:  # a plain iterator, which cannot be told
                    raise error
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                self.held += time.monotonic() - began
            self.waited = True
            try:
                # a loop sends nothing into what it runs: the result is the future's
                yield waits_for
                error = None
            except BaseException as raised:
                error = raised
