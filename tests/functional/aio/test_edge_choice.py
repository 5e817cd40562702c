"""Whether the all-in-one's edge has TLS: it is remembered, and not changed under guests that run."""

from __future__ import annotations

import datetime
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from openvstorage.aio import commands
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.errors import InstancesRun
from openvstorage.aio.paths import Paths
from openvstorage.vpool.access import authority


def cloud_of(state: Path) -> Cloud:
    return Cloud(Paths.of(state), Console(quiet=True))


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = cloud_of(tmp_path / "state")
    cloud.paths.create()
    return cloud


def served(cloud: Cloud, edge_tls: bool | None) -> None:
    """As the service leaves its settings."""
    cloud.vpool.data.mkdir(exist_ok=True)
    (cloud.vpool.data / "config.json").write_text(json.dumps({"edge_tls": edge_tls}))


@contextmanager
def guest(cloud: Cloud) -> Iterator[None]:
    """A process as libvirt leaves its environment."""
    home = {"HOME": str(cloud.paths.guests / "home")}
    with subprocess.Popen(["cat"], env=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Between exec and the first instruction a process has no environment to be known by.
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def test_it_has_tls_unless_plain_is_chosen_and_then_is_as_it_was_chosen_last(cloud: Cloud) -> None:
    assert cloud.vpool.edge_tls
    assert not cloud.vpool.serves_tls, "nothing is served yet"
    for choice in (False, True):
        cloud._choose_edge(choice)
        assert cloud_of(cloud.paths.state).vpool.edge_tls is choice
    (cloud.paths.etc / "edge-tls").write_text("")
    assert cloud.vpool.edge_tls, "a damaged choice must not take TLS away"


@pytest.mark.parametrize("before", [None, False, True])
def test_one_of_before_choices_were_kept_stays_as_it_is(cloud: Cloud, before: bool | None) -> None:
    served(cloud, before)
    assert cloud.vpool.edge_tls is bool(before)


@pytest.mark.parametrize("before", [None, False, True])
def test_it_is_not_changed_while_guests_run(cloud: Cloud, before: bool | None) -> None:
    served(cloud, before)
    with guest(cloud):
        with pytest.raises(InstancesRun, match=r"instances run \(1\).*openstack server stop"):
            cloud._choose_edge(not before)
        cloud._choose_edge(bool(before))
        assert cloud.vpool.edge_tls is bool(before)
    cloud._choose_edge(not before)
    assert cloud.vpool.edge_tls is not before


def test_a_choice_that_a_killed_start_left_is_not_carried_out_under_guests_either(cloud: Cloud) -> None:
    cloud._choose_edge(True)
    with guest(cloud), pytest.raises(InstancesRun, match="without TLS"):
        cloud._choose_edge(cloud.vpool.edge_tls)


def told_of_edge(cloud: Cloud) -> str:
    console = Console(file=io.StringIO(), width=1000)
    commands._tell_of_edge(cloud, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_status_tells_how_the_edge_is_and_what_is_still_to_be_done(cloud: Cloud) -> None:
    served(cloud, False)
    plain = "Edge: plain NBD on loopback: every user of this machine can read and write all volumes; "
    assert told_of_edge(cloud) == f"{plain}'openvstorage aio up --edge-tls' ends that\n"
    cloud._choose_edge(True)
    assert told_of_edge(cloud) == f"{plain}it was told to be with TLS, which 'openvstorage aio up' completes\n"
    served(cloud, True)
    assert "TLS, but certificate for the edge: " in told_of_edge(cloud)
    authority.ensure(cloud.vpool.data / "tls", ["127.0.0.1"])
    now = datetime.datetime.now(datetime.UTC)
    for age, says in ((100, "TLS, with certificates until 20"), (900, "TLS, but a certificate ended on 20")):
        for host in cloud.certificates.hosts:
            directory = cloud.certificates.directory(host)
            shutil.rmtree(directory, ignore_errors=True)
            issued = now - datetime.timedelta(days=age)
            authority.issue_client(cloud.vpool.data / "tls", host, directory, now=issued)
        assert says in told_of_edge(cloud)


def test_certificates_are_issued_where_there_is_tls_only(cloud: Cloud) -> None:
    for choice in (False, True):
        cloud._choose_edge(choice)
        names = [step.name for step in cloud._steps([], storage_only=False)]
        assert ("certificates" in names) is choice
