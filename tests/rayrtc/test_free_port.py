"""A port that is picked ahead and taken by another server is a service that does not start."""

import socket

import pytest

from rayrtc import free_port as module
from rayrtc.free_port import FIRST, LAST, free_port


def test_it_is_another_one_each_time_and_can_be_bound() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(FIRST <= port <= LAST for port in ports)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", ports[-1]))


def test_one_that_somebody_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port, free = taken.getsockname()[1], free_port()
        monkeypatch.setattr(module, "_ports", iter([port, free]))
        assert free_port() == free


def test_when_all_are_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(module, "_ports", iter([taken.getsockname()[1]] * 200))
        with pytest.raises(OSError, match="no TCP port is free"):
            free_port()
