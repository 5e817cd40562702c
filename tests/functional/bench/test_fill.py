"""vDisks that the bench makes by copying: are they what the API would have made?"""

import json
import subprocess
from pathlib import Path

from tests.bench.fill import PROTOTYPE, fill, filled_name
from tests.bench.pool import running

from openvstorage.edge.nbd import NbdClient


def backing_name(image: Path) -> str | None:
    """What an image's header says it lies on."""
    command = ["qemu-img", "info", "-U", "--output=json", str(image)]
    info = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    name = info.get("backing-filename")
    return str(name) if name else None


def test_copies_are_vdisks_like_any_other(tmp_path: Path) -> None:
    data = tmp_path / "pool"
    fill(data, 3)
    with running(data) as pool:
        client = pool.client
        below = [backing_name(path) for path in pool.layers.iterdir()]
        assert len({name for name in below if name}) == 4  # the one layer below of each
        assert all((pool.layers / name).exists() for name in below if name)
        found = {disk.name: disk.guid for disk in client.vdisks.list(pool.vpool)}
        assert set(found) == {PROTOTYPE, *(filled_name(number) for number in range(3))}
        vdisk = found[filled_name(1)]
        (snapshot,) = client.snapshots.list(vdisk)
        grant = client.grants.create(vdisk, "host", "test")
        with NbdClient.connect(grant.host, grant.port, grant.export_name) as disk:
            disk.write(4096, b"mine" * 1024)
            disk.flush()
            assert disk.read(4096, 4096) == b"mine" * 1024
        client.grants.revoke(grant.guid)
        clone = client.vdisks.clone(vdisk, "clone", snapshot.guid)
        other = client.grants.create(found[filled_name(2)], "host", "test")
        with NbdClient.connect(other.host, other.port, other.export_name) as disk:
            assert disk.read(4096, 4096) == bytes(4096)
        client.grants.revoke(other.guid)
        for guid in (*found.values(), clone):
            client.vdisks.delete(guid)
        assert list(client.vdisks.list(pool.vpool)) == []
    assert not (data / "lost+found").exists()
