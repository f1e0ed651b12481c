"""A Redis client whose commands share one connection."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

WAITING_MAX: Final = 10_000
"""Commands that wait for their turn; further ones are refused."""
TOGETHER_MAX: Final = 500
"""Commands sent before the first answer is read."""
RETRIES: Final = 2
"""Further attempts to have commands answered, after short jittered pauses."""

LOST: Final = (RedisConnectionError, RedisTimeoutError, InvalidResponse, ReadOnlyError, OSError)
"""After these the connection is of no use, also as what was the primary is a replica now; any other
error is the answer to one command."""


@dataclass(slots=True)
class _Command:
    name: str
    packed: list[bytes]
    options: dict[str, Any]
    answer: "asyncio.Future[Any]"


class SharedConnection(Redis):
    """Sends over one connection what all tasks of this process ask, in the order of the calls.

    A command that comes while others are on their way goes with all that have come since, in one
    write (https://redis.io/docs/latest/develop/using-commands/pipelining/). Redis executes one
    command at a time, so that more connections would gain nothing, and cost: with fifty commands at
    a time a pool needs five times the CPU for each (`python -m benchmarks.redis_commands`).

    Commands that were not answered are sent again when the connection fails, three times in all.
    Then those that wait fail with them: Redis is away. A caller that is cancelled waits no longer;
    its command may still take effect.

    Only single commands are sent so; `pipeline` and `pubsub` take connections of the pool.

    Args:
        pool: makes the connection, whose own attempts have to be none: here they are counted.
        timeout: seconds to an answer, unless the pool has less.
    """

    def __init__(self, pool: ConnectionPool, timeout: float) -> None:
        super().__init__(connection_pool=pool)
        self._shared: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._shared.socket_timeout = min(self._shared.socket_timeout, timeout)
        backoff = ExponentialWithJitterBackoff(base=0.02, cap=0.2)
        self._attempts = Retry(backoff, RETRIES, supported_errors=LOST)  # type: ignore[arg-type]
        self._waiting: deque[_Command] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Have a command executed.

        Raises:
            RedisError: it is refused, or Redis is away.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise RedisError("too many commands wait for Redis")
        loop = asyncio.get_running_loop()
        packed = list(self._shared.pack_command(*args))
        command = _Command(args[0], packed, options, loop.create_future())
        self._waiting.append(command)
        if self._sender is None:
            self._sender = loop.create_task(self._send_waiting(), name="redis-commands")
        return await command.answer

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give up what waits and close the connection; the pool is its owner's."""
        if (sender := self._sender) is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            if self._sender is sender:  # it was cancelled before its first step
                self._sender = None
                self._give_up((), RedisConnectionError("closed"))
        await self._shared.disconnect()

    def _give_up(self, sent: Sequence[_Command], error: Exception) -> None:
        for command in (*sent, *self._waiting):
            if not command.answer.done():
                command.answer.set_exception(error)
        self._waiting.clear()

    async def _send_waiting(self) -> None:
        commands: list[_Command] = []
        try:
            while self._waiting:
                count = min(len(self._waiting), TOGETHER_MAX)
                commands = [self._waiting.popleft() for _ in range(count)]
                await self._attempts.call_with_retry(
                    lambda commands=commands: self._exchange(commands),  # type: ignore[misc]
                    lambda _: self._shared.disconnect(),
                )
        except BaseException as error:
            given = error if isinstance(error, Exception) else RedisConnectionError("closed")
            self._give_up(commands, given)
            if not isinstance(error, Exception):
                raise
        finally:
            self._sender = None

    async def _exchange(self, commands: list[_Command]) -> None:
        """Send what has no answer yet, and read the answers.

        Raises:
            RedisError, OSError: one of `LOST`.
        """
        commands = [command for command in commands if not command.answer.done()]
        await self._shared.connect()
        await self._shared.send_packed_command(
            [part for command in commands for part in command.packed], check_health=False
        )
        for command in commands:
            answer: Any
            try:
                answer = await self.parse_response(self._shared, command.name, **command.options)
            except LOST:
                raise
            except Exception as error:
                if not command.answer.done():
                    command.answer.set_exception(error)
                continue
            if not command.answer.done():
                command.answer.set_result(answer)
