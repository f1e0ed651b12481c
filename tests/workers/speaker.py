"""A handler that emits what a test says."""

import asyncio
from typing import Any

import numpy as np

from rayrtc import AsyncStreamHandler


def tone(frequency: float, seconds: float) -> tuple[int, np.ndarray]:
    at = np.arange(round(24000 * seconds)) / 24000
    return 24000, (np.sin(2 * np.pi * frequency * at) * 12000).astype(np.int16).reshape(1, -1)


class Speaker(AsyncStreamHandler):
    """Emits what its test puts into `script`."""

    script: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.todo = list(self.script)
        self.events: list[str] = []

    def copy(self) -> "Speaker":
        return type(self)()

    async def start_up(self) -> None:
        self.events.append("start_up")

    async def receive(self, frame: Any) -> None:
        pass

    async def emit(self) -> Any:
        if not self.todo:
            await asyncio.sleep(0.1)
            return None
        item = self.todo.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item() if callable(item) else item

    async def shutdown(self) -> None:
        self.events.append("shutdown")


def speaker(*script: Any) -> Speaker:
    return type("Scripted", (Speaker,), {"script": list(script)})()
