"""Peers of this machine alone: aioice offers no loopback address by itself.

Imported for its effect by the servers that are plain aiortc or FastRTC; rayrtc has an option.
"""

import aioice.ice

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
