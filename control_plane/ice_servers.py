"""The `RTCConfiguration` that a client of a stream is given, on whichever route it asks."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from rayrtc.cluster import codec
from rayrtc.errors import ICEServersUnavailable
from rayrtc.settings import Settings
from rayrtc.stream import Stream
from rayrtc.turn_secret import client_ice_servers

logger = logging.getLogger(__name__)

RTC_CONFIGURATION_TIMEOUT = 10.0
"""Seconds that a stream's callable may take for its configuration."""


async def client_configuration(stream: Stream, settings: Settings) -> dict[str, Any]:
    """The stream's own `rtc_configuration` as JSON data, with the cluster's TURN servers added.

    Those come last in `iceServers`, with credentials made for this client. The other members, such
    as `iceTransportPolicy`, are the stream's.

    Raises:
        ICEServersUnavailable: the stream's callable raised, took too long or gave no configuration.
    """
    try:
        async with asyncio.timeout(RTC_CONFIGURATION_TIMEOUT):
            own = await stream.resolve_rtc_configuration()
        configuration = {name: codec.to_json(value) for name, value in own.items()}
        if added := client_ice_servers(settings):
            servers = configuration.get("iceServers") or []
            # some providers give the one server that there is without a list round it
            configuration["iceServers"] = [
                *([servers] if isinstance(servers, Mapping) else servers),
                *added,
            ]
        return configuration
    except Exception as error:
        # it is the stream author's callable: anything may be raised
        logger.exception("rtc_configuration of stream %s failed", stream.name)
        raise ICEServersUnavailable from error
