"""Ports for the servers of tests."""

import socket
from contextlib import ExitStack
from random import SystemRandom

# Below the range for clients: a client could take such a port before its server has started, or
# while the server restarts.
_SERVERS = range(15_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return different ports on which no server listens and which no client gets."""
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
