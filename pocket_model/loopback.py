"""Sockets that only this machine can reach."""

import os
import socket


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises `OSError` when taken."""
    listener = socket.socket()
    if os.name == "posix":  # on Windows the option would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener
