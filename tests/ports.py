"""Ports for servers of tests."""

import socket
from contextlib import ExitStack
from random import SystemRandom

# Below what systems give to clients: a port chosen among those may be a client's before its
# server has started, or while that is away for a moment.
_SERVERS = range(15_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return different ports without a listener; no client gets them."""
    with ExitStack() as probes:
        ports: list[int] = []
        while len(ports) < count:
            probe = probes.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", SystemRandom().choice(_SERVERS)))
            except OSError:
                continue
            ports.append(probe.getsockname()[1])
        return ports
