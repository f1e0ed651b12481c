"""A Server-Sent-Events client that reads in the background, as a browser's EventSource would."""

import asyncio
from dataclasses import dataclass

import aiohttp


@dataclass
class Event:
    name: str
    id: str
    data: str


class Reader:
    """Reads one event stream into `events` until its end, a lost connection or `close`."""

    def __init__(self, url: str, webrtc_id: str, last_event_id: str | None = None) -> None:
        self.url = url
        self.params = {"webrtc_id": webrtc_id}
        self.headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        self.events: list[Event] = []
        self.status: int | None = None
        self.lost = False
        self.opened = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url, params=self.params, headers=self.headers) as response,
            ):
                self.status = response.status
                self.opened.set()
                event = Event("message", "", "")
                data: list[str] = []
                async for raw in response.content:
                    line = raw.decode().rstrip("\n")
                    field, _, value = line.partition(": ")
                    if field == "event":
                        event.name = value
                    elif field == "id":
                        event.id = value
                    elif field == "data":
                        data.append(value)
                    elif not line and data:
                        event.data = "\n".join(data)
                        self.events.append(event)
                        event, data = Event("message", "", ""), []
        except (aiohttp.ClientError, ConnectionError):
            self.lost = True
        finally:
            self.opened.set()

    def __repr__(self) -> str:
        seen = ", ".join(f"{event.id} {event.name} {event.data}" for event in self.events[-30:])
        return f"<Reader status={self.status} lost={self.lost} {seen}>"

    def outputs(self, name: str = "message") -> list[Event]:
        return [event for event in self.events if event.name == name]

    @property
    def cursor(self) -> str:
        """What a browser would send as Last-Event-ID."""
        return self.events[-1].id if self.events else ""

    def honest(self) -> bool:
        """Whether outputs that count up have come each once, every hole announced as a gap."""
        last: int | None = None
        for event in self.events:
            if event.name == "gap":
                last = None
            elif event.name == "message":
                if last is not None and int(event.data) != last + 1:
                    return False
                last = int(event.data)
        return True

    async def wait_for(self, count: int, name: str = "message", timeout: float = 20) -> None:
        async with asyncio.timeout(timeout):
            while len(self.outputs(name)) < count:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
