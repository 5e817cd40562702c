from __future__ import annotations

import os
import socket
import subprocess

import pytest

from openvstorage.vpool.exports.errors import ListenerUnavailable, PortTaken
from openvstorage.vpool.exports.listener import listen, take_listener
from openvstorage.vpool.exports.sockets import peers

_HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6"))]


@pytest.fixture(params=_HOSTS)
def listener(request):
    try:
        opened = listen(request.param, 0)
    except OSError as error:
        pytest.skip(f"{request.param}: {error}")
    with opened:
        yield opened


def test_accepted_sockets_send_at_once(listener):
    with socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_told(listener):
    host, port = listener.getsockname()[:2]
    with pytest.raises(PortTaken) as caught:
        listen(host, port)
    assert (caught.value.host, caught.value.port) == (host, port)


def test_a_port_with_closing_connections_can_be_listened_on_again(listener):
    host, port = listener.getsockname()[:2]
    with socket.create_connection((host, port)):
        accepted, _ = listener.accept()
        accepted.close()  # this side closes first, so it keeps the TIME_WAIT
    listener.close()
    listen(host, port).close()


@pytest.mark.parametrize("host", ["", "no.such.host", "127.0.0.1 "])
def test_a_host_that_is_no_address_is_refused(host):
    with pytest.raises(ValueError, match="address"):
        listen(host or "x y", 0)


def test_the_clients_of_a_port_are_told_in_their_own_words(listener):
    host, port = listener.getsockname()[:2]
    assert peers(os.getpid(), port) == []
    with socket.create_connection((host, port)) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert peers(os.getpid(), port) == [client.getsockname()[:2]]


def test_a_process_without_a_listener_has_none_to_take():
    with subprocess.Popen(["sleep", "100"]) as child:
        pidfd = os.pidfd_open(child.pid)
        with pytest.raises(ListenerUnavailable, match="does not listen"):
            take_listener(child.pid, pidfd)
        os.close(pidfd)
        child.kill()


def test_an_ended_process_has_none_to_take():
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    with pytest.raises(ListenerUnavailable):
        take_listener(child.pid, pidfd)
    os.close(pidfd)


def test_our_own_listener_can_be_taken(listener):
    """Both handles are one socket: who connects to it is accepted through either."""
    pidfd = os.pidfd_open(os.getpid())
    with take_listener(os.getpid(), pidfd) as taken:
        address = listener.getsockname()
        assert taken.getsockname() == address
        listener.close()
        with socket.create_connection(address[:2]):
            taken.accept()[0].close()
    os.close(pidfd)
