"""The all-in-one: it comes up, proves that it works, and notices when it does not.

The tests share one cloud, run in this order, and each leaves it running.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from tests.e2e.conftest import AllInOne

from openvstorage.aio.catalog import offered_backends
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.paths import Paths
from openvstorage.aio.shell import OpenStackShell, ShellError

pytestmark = pytest.mark.timeout(900)


def alive(pid: int | None) -> bool:
    return pid is not None and Path(f"/proc/{pid}").exists()


def shell(all_in_one: AllInOne) -> OpenStackShell:
    state = all_in_one.state
    return OpenStackShell(str(state / "venv" / "bin" / "openstack"), state / "clouds.yaml", "aio")


def test_one_wrong_byte_fails_the_tour(all_in_one: AllInOne) -> None:
    printed = all_in_one.tour("--storage-only", "--corrupt-for-test", status=1)
    failed = all_in_one.steps()[-1]
    assert failed["name"] == "create a volume from the image"
    assert not failed["ok"]
    assert "expected" in failed["evidence"]
    assert "create a volume from the image" in printed


def test_tour_passes_with_evidence_and_removes_what_a_failed_one_left(all_in_one: AllInOne) -> None:
    with shell(all_in_one) as openstack:
        assert openstack.ask("volume", "list")
    all_in_one.tour()
    steps = all_in_one.steps()
    assert [sorted(step) for step in steps] == [["command", "evidence", "name", "ok", "seconds"]] * len(steps)
    assert all(step["ok"] for step in steps)
    assert all(len(step["evidence"]) > 20 for step in steps)
    assert len(steps) == 20
    assert steps[13]["name"] == "boot an instance from a volume"
    with shell(all_in_one) as openstack:
        assert openstack.ask("volume", "list") == openstack.ask("volume", "snapshot", "list") == []


def test_second_time_changes_nothing(all_in_one: AllInOne) -> None:
    before = all_in_one.pids()
    assert all(alive(pid) for pid in before.values())
    all_in_one.up()
    assert all_in_one.pids() == before


def test_the_client_tells_of_a_refused_command_and_goes_on(all_in_one: AllInOne) -> None:
    with shell(all_in_one) as openstack:
        with pytest.raises(ShellError, match="No Volume found for nonsense"):
            openstack.ask("volume", "show", "nonsense")
        assert openstack.ask("volume", "type", "show", "myvpool01")["name"] == "myvpool01"


def test_no_secret_is_in_a_process_list_or_a_log(all_in_one: AllInOne) -> None:
    secrets = list(json.loads((all_in_one.state / "etc" / "passwords.json").read_text()).values())
    status = [str(all_in_one.argv("status")[0]), "status", "--data", str(all_in_one.state / "data" / "vpool"), "--json"]
    vpool = json.loads(subprocess.run(status, capture_output=True, text=True, check=True).stdout)
    secrets.append(Path(vpool["password_file"]).read_text().strip())
    assert len(secrets) >= 6
    places = {path: path.read_bytes() for path in all_in_one.state.joinpath("log").glob("*.log")}
    for pid in all_in_one.marked():
        places[Path(f"/proc/{pid}/cmdline")] = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert len(places) > 15
    assert [
        (place, secret[:4]) for place, text in places.items() for secret in secrets if secret.encode() in text
    ] == []


def listening_addresses(pids: list[int]) -> list[str]:
    """Return the local addresses, as /proc writes them, on which these processes accept TCP connections."""
    inodes = {os.readlink(fd) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


def test_everything_listens_on_loopback_only(all_in_one: AllInOne) -> None:
    addresses = listening_addresses(all_in_one.marked())
    assert len(addresses) >= 8
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert set(addresses) <= loopback


def test_a_dead_program_is_told_and_started_again(all_in_one: AllInOne) -> None:
    before = all_in_one.pids()
    victim = before["cinder-volume"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    all_in_one.run("status", status=3)
    all_in_one.up()
    # The scheduler has heard of the new process already, not only of the dead one.
    cloud = Cloud(Paths.of(all_in_one.state), Console(quiet=True))
    started = cloud.supervisor.started("cinder-volume")
    assert started is not None
    assert offered_backends(cloud.connect(), started) == ["aio@myvpool01#myvpool01"]
    after = all_in_one.pids()
    assert alive(after["cinder-volume"])
    assert {name: pid for name, pid in after.items() if name != "cinder-volume"} == {
        name: pid for name, pid in before.items() if name != "cinder-volume"
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("logs", "nonsense"), "there is no program 'nonsense'"),
        (("up", "--wheel", "/nowhere.whl"), "does not exist"),
        (("tour", "--nonsense"), "No such option"),
    ],
)
def test_nonsense_gets_a_sentence(all_in_one: AllInOne, words: tuple[str, ...], says: str) -> None:
    done = subprocess.run(all_in_one.argv(*words), capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for words in (("up",), ("down", "--purge")):
        assert "was not made by" in AllInOne(tmp_path).run(*words, status=1)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
