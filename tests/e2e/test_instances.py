"""An instance on vPool volumes outlives what happens to the services below it, and that they go down and come up again.

The tests share one guest, run in this order, and leave it running, writing numbers to its second volume. In the middle
the cloud's edge does without TLS for a while.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal
from tests.e2e.conftest import AllInOne

from openvstorage.aio import image
from openvstorage.aio.certificates import TOUR
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.evidence import EdgeEvidence
from openvstorage.aio.nova import Nova
from openvstorage.aio.paths import Paths
from openvstorage.aio.shell import OpenStackShell
from openvstorage.aio.tour_instance import Console, InstanceSteps, processes_of, storage_daemons
from openvstorage.aio.user import User
from openvstorage.client import Client, Qos
from openvstorage.edge.errors import TlsFailed
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context

pytestmark = pytest.mark.timeout(900)

# Steps of the tour.
_ON_THE_DATA_VOLUME = ("extend the volume", "kill the storage daemon")


class Guest:
    """An instance with a root volume and a second one, and who looks after it; ports are asked for anew each time."""

    def __init__(self, all_in_one: AllInOne) -> None:
        self._all_in_one = all_in_one
        self.ids: dict[str, str] = {}

    @contextmanager
    def opened(self) -> Iterator[tuple[User, EdgeEvidence, InstanceSteps, Client]]:
        cloud = Cloud(Paths.of(self._all_in_one.state), Terminal())
        status = cloud.vpool.status()
        clouds = cloud.paths.state / "clouds.yaml"
        with (
            Client.from_status(status) as client,
            OpenStackShell(cloud.environment.program("openstack"), clouds, "aio") as shell,
        ):
            user = User(shell, "instances-", cloud.paths.log)
            user.ids = self.ids
            certificate = cloud.certificates.directory(TOUR)
            edge = EdgeEvidence(client, status["vpool_guid"], cloud.paths.log / "e2e.log", certificate)
            picture = image.make_image(cloud.paths)
            steps = InstanceSteps(
                user,
                edge,
                picture,
                cloud.vpool.pool,
                instances=cloud.instances.nova.instances,
                compute_log=cloud.supervisor.log("nova-compute"),
                libvirt_version=cloud.libvirt.version,
            )
            yield user, edge, steps, client

    @property
    def server(self) -> str:
        return self.ids["guest"]

    @property
    def console(self) -> Console:
        return Console(self._all_in_one.state / "data" / "nova" / "instances" / self.server / "console.log")

    def disks(self) -> list[dict[str, Any]]:
        """Give the network disks that it was started with, as QEMU was told."""
        return [json.loads(text) for text in re.findall(r'(\{"driver":"nbd".*?\}) -', self.command_line())]

    def command_line(self) -> str:
        (pid,) = processes_of(self.server)
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()

    def boot_id(self) -> str:
        return self.console.wait(rf"^{image.BOOT_ID_LINE} (\S+)$")

    def next_boot_id(self, last: str) -> str:
        return self.console.wait(rf"^{image.BOOT_ID_LINE} (?!{last})(\S+)$")


@pytest.fixture(scope="module")
def guest(all_in_one: AllInOne) -> Iterator[Guest]:
    guest = Guest(all_in_one)
    with guest.opened() as (_, _, steps, _):
        # Boot, attach, snapshot: the tour's own, and as thorough.
        for _, action in steps.all()[:3]:
            action()
    yield guest
    with guest.opened() as (_, _, steps, _):
        steps.all()[-1][1]()


def show(guest: Guest) -> dict[str, Any]:
    with guest.opened() as (user, _, _, _):
        return user.show("server", "guest")


def test_no_secret_of_a_grant_is_in_a_log_or_a_process_list(all_in_one: AllInOne, guest: Guest) -> None:
    with guest.opened() as (user, _, _, _):
        attachments = [each for each in user.ask("volume", "attachment", "list") if each["Server ID"] == guest.server]
        shown = [user.ask("volume", "attachment", "show", each["ID"]) for each in attachments]
    secrets = re.findall(r"['\"]secret['\"]: ['\"]([A-Za-z0-9_-]{20,})['\"]", json.dumps(shown).replace("\\", ""))
    assert len(secrets) == 2
    places = {path: path.read_text(errors="replace") for path in all_in_one.state.joinpath("log").glob("*.log")}
    assert any(path.name == "nova-compute.log" and "libovsvolumedriver.init" in places[path] for path in places)
    for pid in [*all_in_one.marked(), *processes_of(guest.server)]:
        places[Path(f"/proc/{pid}/cmdline")] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    assert [path for path, text in places.items() for secret in secrets if secret in text] == []


def test_a_retyped_volume_has_its_limits_at_once_and_the_guest_goes_on(guest: Guest) -> None:
    with guest.opened() as (user, edge, _, client):
        user.ids["limits"] = user.ask(
            *("volume", "qos", "create", "--consumer", "back-end", "--property", "total_iops_sec=500", "limits")
        )["id"]
        user.begin("volume type", "limited", "--property", "volume_backend_name=myvpool01")
        user.run("volume", "qos", "associate", user.ids["limits"], user.ids["limited"])
        user.run("volume", "set", "--type", "instances-limited", user.ids["data"])
        user.wait("volume", "data", "in-use")
        assert user.show("volume", "data")["type"] == "instances-limited"
        vdisk = edge.vdisk(user.ids["data"])
        assert client.vdisks.get(vdisk).qos == Qos(iops_total=500)
        guest.console.wait_for_more()
        user.run("volume", "set", "--type", "myvpool01", user.ids["data"])
        user.wait("volume", "data", "in-use")
        assert client.vdisks.get(vdisk).qos == Qos()
        user.run("volume", "type", "delete", user.ids.pop("limited"))
        user.run("volume", "qos", "delete", user.ids.pop("limits"))
    guest.console.wait_for_more()
    assert guest.console.errors() == []


def test_a_guest_does_not_notice_that_libvirt_and_nova_compute_are_killed(all_in_one: AllInOne, guest: Guest) -> None:
    before, processes = all_in_one.pids(), processes_of(guest.server)
    for name in ("libvirtd", "nova-compute"):
        pid = before[name]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    all_in_one.run("status", status=3)
    all_in_one.up()
    after = all_in_one.pids()
    assert all(after[name] not in (None, before[name]) for name in ("libvirtd", "nova-compute"))
    assert processes_of(guest.server) == processes
    guest.console.wait_for_more()
    assert guest.console.errors() == []
    assert show(guest)["status"] == "ACTIVE"


def test_a_guest_is_told_of_a_growth_that_the_next_cinder_volume_ends(all_in_one: AllInOne, guest: Guest) -> None:
    with guest.opened() as (user, edge, _, client):
        root = user.ids["root"]
        vdisk, size = edge.vdisk(root), 2 * 1024**3
        # As cinder-volume leaves it when it dies between the vPool's answer and its own database.
        client.vdisks.extend(vdisk, size)
        Cloud(Paths.of(all_in_one.state), Terminal()).connect().block_storage.reset_volume_status(root, "extending")
        pid = all_in_one.pids()["cinder-volume"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        all_in_one.up()
        user.wait("volume", "root", "in-use")
        assert user.show("volume", "root")["size"] == 2
        guest.console.wait(rf"^{image.DISKS_LINE} .*(vda:{size // 1024}) ")
    guest.console.wait_for_more()
    assert guest.console.errors() == []


def test_a_hard_reboot_boots_from_the_volume_again(guest: Guest) -> None:
    last = guest.boot_id()
    with guest.opened() as (user, edge, _, _):
        user.run("server", "reboot", "--hard", guest.server)
        boot = guest.next_boot_id(last)
        user.wait("server", "guest", "ACTIVE")
        assert edge.get(edge.vdisk(user.ids["root"]), image.BOOT_ID_OFFSET, len(boot)) == boot.encode()
    guest.console.wait_for_more()


def test_the_edge_does_not_change_under_a_guest(all_in_one: AllInOne, guest: Guest) -> None:
    before = all_in_one.pids()
    assert "instances run (1) and have their disks open with TLS" in all_in_one.run("up", "--no-edge-tls", status=1)
    assert all_in_one.pids() == before
    guest.console.wait_for_more()


@dataclass(frozen=True)
class Before:
    """What was before the cloud went down: the guest's last boot, the ports of its disks, and their vDisks."""

    boot: str
    ports: frozenset[int]
    vdisks: tuple[str, ...]


@pytest.fixture(scope="module")
def before(guest: Guest) -> Before:
    disks = guest.disks()
    assert all("tls-creds" in disk for disk in disks)
    with guest.opened() as (user, edge, _, _):
        vdisks = tuple(edge.vdisk(user.ids[name]) for name in ("root", "data"))
    return Before(guest.boot_id(), frozenset(int(disk["server"]["port"]) for disk in disks), vdisks)


def test_down_ends_everything_of_ours_and_nothing_else(all_in_one: AllInOne, guest: Guest, before: Before) -> None:
    assert all(storage_daemons(vdisk) for vdisk in before.vdisks)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        assert all_in_one.marked()
        all_in_one.run("down")
        assert all_in_one.marked() == []
        assert processes_of(guest.server) == []
        assert [storage_daemons(vdisk) for vdisk in before.vdisks] == [[], []]
        assert stranger.poll() is None
        all_in_one.run("status", status=3)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_start_and_taken_ports_are_survived(all_in_one: AllInOne, before: Before) -> None:
    ports = all_in_one.state / "etc" / "ports.json"
    keystone = json.loads(ports.read_text())["keystone"]
    with ExitStack() as strangers:
        for port in (keystone, *before.ports):
            stranger = strangers.enter_context(socket.socket())
            # As servers do: connections of the program that had the port may be in TIME_WAIT.
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
        start = subprocess.Popen(all_in_one.argv("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while "mariadb" not in all_in_one.pids() and time.monotonic() < deadline:
            time.sleep(0.1)
        start.kill()
        start.wait()
        assert "Edge: plain NBD on loopback" in all_in_one.up("--no-edge-tls")
        assert json.loads(ports.read_text())["keystone"] != keystone


def test_a_server_starts_where_and_how_its_volumes_are_served_now(guest: Guest, before: Before) -> None:
    with guest.opened() as (user, edge, _, _):
        user.wait("server", "guest", "SHUTOFF")
        user.run("server", "start", guest.server)
        user.wait("server", "guest", "ACTIVE")
        boot = guest.next_boot_id(before.boot)
        assert edge.get(edge.vdisk(user.ids["root"]), image.BOOT_ID_OFFSET, len(boot)) == boot.encode()
    guest.console.wait_for_more()
    disks = guest.disks()
    assert len(disks) == 2
    assert not {int(disk["server"]["port"]) for disk in disks} & before.ports
    assert not any("tls-creds" in disk for disk in disks)


def test_a_plain_edge_gets_tls_between_two_starts_of_a_guest(all_in_one: AllInOne, guest: Guest) -> None:
    last = guest.boot_id()
    assert "instances run (1) and have their disks open without TLS" in all_in_one.run("up", "--edge-tls", status=1)
    with guest.opened() as (user, _, _, _):
        user.run("server", "stop", guest.server)
        user.wait("server", "guest", "SHUTOFF")
    assert "Edge: TLS" in all_in_one.up("--edge-tls")
    with guest.opened() as (user, _, _, _):
        user.run("server", "start", guest.server)
        user.wait("server", "guest", "ACTIVE")
        guest.next_boot_id(last)
    guest.console.wait_for_more()
    disks = guest.disks()
    assert len(disks) == 2
    assert all("tls-creds" in disk for disk in disks)


def test_the_edge_of_the_guest_is_open_to_nobody_else(all_in_one: AllInOne, guest: Guest) -> None:
    edge = all_in_one.state / "etc" / "edge"
    assert f'"dir":"{edge / Nova.host}"' in guest.command_line()
    for disk in guest.disks():
        place = (disk["server"]["host"], int(disk["server"]["port"]), disk["export"])
        location = "nbd://{}:{}/{}".format(*place)
        plain = subprocess.run(["qemu-img", "info", location], capture_output=True, text=True, check=False)
        assert plain.returncode != 0
        assert "TLS" in plain.stderr
        with pytest.raises(TlsFailed, match="no grant"):
            NbdClient.connect(*place, tls=client_context(edge / TOUR))
        # The name and the certificate are good: the guest's own host gets in by them.
        NbdClient.connect(*place, tls=client_context(edge / Nova.host)).close()
    guest.console.wait_for_more()
    assert guest.console.errors() == []


def test_with_tls_volumes_come_grow_go_and_outlive_their_daemon(guest: Guest) -> None:
    write = "printf over-TLS | dd of=$1 bs=512 seek=8 conv=notrunc,fsync 2>/dev/null"
    order = f"{image.ORDER}\n{write} && echo GUEST WROTE over-TLS\n"
    with guest.opened() as (user, edge, steps, _):
        user.make("volume", "extra", "--type", "myvpool01", "--size", "1")
        vdisk = edge.vdisk(user.ids["extra"])
        edge.put(vdisk, 0, order.encode().ljust(image.ORDER_BYTES, b"\0"))
        user.ask("server", "add", "volume", guest.server, user.ids["extra"])
        guest.console.wait("^(GUEST WROTE over-TLS)$")
        assert edge.get(vdisk, 8 * 512, 8) == b"over-TLS"
        extend, kill = (dict(steps.all())[f"{what} while the guest writes"] for what in _ON_THE_DATA_VOLUME)
        extend()
        kill()
        user.run("server", "remove", "volume", guest.server, user.ids["extra"])
        user.wait("volume", "extra", "available")
        user.delete("volume", "extra")
    guest.console.wait_for_more()
    assert guest.console.errors() == []
