"""Routes that pages of other origins may use: WHIP and WHEP clients in browsers (Fetch standard).

Where the application has Starlette's `CORSMiddleware`, that one says which origins may.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from control_plane.limits import ContractRoute

EXPOSED = "Accept-Patch, Accept-Post, ETag, Link, Location, Retry-After, X-Request-ID"
"""Headers of an answer that the page may read."""
ACCEPTED = "Authorization, Content-Type, If-Match, X-Request-ID"
"""Headers of a request that the page may set. A wildcard would not cover the first."""


class CrossOriginRoute(ContractRoute):
    """A route of the contract whose answers, failures among them, reach pages of all origins."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the contract inside of ours."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            headers = {"Access-Control-Expose-Headers": EXPOSED}
            if not has_own_policy(request):
                headers["Access-Control-Allow-Origin"] = "*"
            try:
                response = await handler(request)
            except HTTPException as error:  # of a dependency that refuses the request
                error.headers = {**(error.headers or {}), **headers}
                raise
            response.headers.update(headers)
            return response

        return handle


def preflight(request: Request, methods: str) -> dict[str, str]:
    """The headers of an answer to OPTIONS, where `methods` can be used."""
    headers = {"Allow": methods}
    if not has_own_policy(request):
        headers["Access-Control-Allow-Methods"] = methods
        headers["Access-Control-Allow-Headers"] = ACCEPTED
    return headers


def has_own_policy(request: Request) -> bool:
    """Whether the application says itself which origins may use it."""
    return any(
        isinstance(middleware.cls, type) and issubclass(middleware.cls, CORSMiddleware)
        for middleware in request.app.user_middleware
    )
