"""What goes over the wire to a cluster with extensions, and to one without them."""

import json
from urllib.parse import urlsplit

import pytest
from tests.support.standin29_wire import FakeClock, ScriptedWire, answer, caller, refusal

from openvstorage.client import HasClones, InUse, InvalidRequest, NotSupported, Qos, UnexpectedAnswer
from openvstorage.client.grant import Grants
from openvstorage.client.snapshot import Snapshots
from openvstorage.client.task import Tasks
from openvstorage.client.vdisk import VDisks
from openvstorage.client.vpool import VPools

ALL = [
    "atomic_group_snapshots",
    "capacity",
    "clone_size",
    "grants",
    "idempotency_keys",
    "keep_newer",
    "qos",
    "task_wait",
]
GRANT = {
    "guid": "g1",
    "vdisk_guid": "v1",
    "snapshot_guid": None,
    "client": "host1",
    "certificate_name": None,
    "consumer": "instance1",
    "mode": "rw",
    "state": "ACTIVE",
    "export_name": "e1",
    "host": "127.0.0.1",
    "port": 30001,
    "tls": False,
    "size": 4096,
    "deadline": None,
    "uri": "nbd://127.0.0.1:30001/e1",
    "novelty": 1,
}


class Cluster:
    """Answers every change with a task of that result, and every reading with that object."""

    def __init__(self, features, result=None, read=None, refused=None):
        self.wire = ScriptedWire(self._reply, features)
        self.result, self.read, self.refused = result, read, refused
        api = caller(self.wire, FakeClock())
        tasks = Tasks(api)
        self.snapshots = Snapshots(api, tasks)
        self.vdisks = VDisks(api, tasks, self.snapshots)
        self.vpools = VPools(api)
        self.grants = Grants(api, tasks)

    def _reply(self, endpoint, request):
        if request.method == "POST":
            return self.refused or answer("task1")
        if request.path == "tasks/task1/":
            return answer({"id": "task1", "status": "SUCCESS", "result": self.result})
        return answer(self.read)

    def posted(self):
        """Give path and body of the only change."""
        [request] = [request for _, request in self.wire.sent if request.method == "POST"]
        return request.path, json.loads(request.body)


def test_a_clone_with_size_is_one_request_where_the_cluster_can():
    cluster = Cluster(ALL, {"vdisk_guid": "v2", "name": "b", "backingdevice": "/b.raw"})
    assert cluster.vdisks.clone("v1", "b", "s1", size=8192) == "v2"
    body = {"name": "b", "storagerouter_guid": None, "snapshot_id": "s1", "size": 8192}
    assert cluster.posted() == ("vdisks/v1/clone/", body)


def test_rollback_names_the_snapshot_where_the_cluster_can():
    cluster = Cluster(ALL, True)
    cluster.vdisks.rollback("v1", "s1", keep_newer=True)
    assert cluster.posted() == ("vdisks/v1/rollback/", {"snapshot_id": "s1", "keep_newer": True})


def test_creating_leaves_the_node_to_the_cluster_where_it_chooses():
    cluster = Cluster(ALL, "v1")
    assert cluster.vdisks.create("a", 4096, "p1") == "v1"
    body = {"name": "a", "size": 4096, "vpool_guid": "p1", "storagerouter_guid": None}
    assert cluster.posted() == ("vdisks/", body)


def test_deleting_says_force_only_when_asked():
    cluster = Cluster(ALL)
    cluster.vdisks.delete("v1")
    assert cluster.posted() == ("vdisks/v1/delete/", {})
    cluster = Cluster(ALL)
    cluster.vdisks.delete("v1", force=True)
    assert cluster.posted() == ("vdisks/v1/delete/", {"force": True})


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("impossible_request", "the vDisk cannot go", HasClones),
        ("invalid_data", "force is no bool", InvalidRequest),
        ("in_use", "2 grants are live", InUse),
    ],
)
def test_the_reasons_why_a_vdisk_is_not_deleted(code, text, kind):
    with pytest.raises(kind, match=text) as caught:
        Cluster(ALL, refused=refusal(406, code, text)).vdisks.delete("v1")
    assert type(caught.value) is kind


def test_a_cluster_that_ignores_the_query_does_not_give_a_wrong_vdisk():
    other = {"guid": "v9", "name": "other", "devicename": "/other.raw", "size": 1}
    cluster = Cluster(None, read={"data": [other], "_paging": {}})
    assert cluster.vdisks.find("mine", "p1") is None
    assert cluster.vdisks.find("other", "p1").guid == "v9"


def test_qos_and_capacity():
    cluster = Cluster(ALL)
    cluster.vdisks.set_qos("v1", Qos(iops_total=5))
    path, body = cluster.posted()
    assert path == "vdisks/v1/set_qos/"
    assert body["qos"] == {
        "iops_total": 5, "iops_read": 0, "iops_write": 0, "bps_total": 0, "bps_read": 0, "bps_write": 0,
    }  # fmt: skip
    figures = {"total_bytes": 10, "free_bytes": 4, "used_bytes": 6, "provisioned_bytes": 99, "vdisk_count": 3}
    capacity = Cluster(ALL, read={**figures, "age_seconds": 1.5}).vpools.capacity("p1")
    assert (capacity.total_bytes, capacity.free_bytes, capacity.vdisk_count, capacity.age_seconds) == (10, 4, 3, 1.5)


def test_an_atomic_group_is_one_request():
    cluster = Cluster(ALL, {"v1": [True, "s1"], "v2": [True, "s2"]})
    assert cluster.snapshots.create_group("p1", ["v1", "v2"], "g") == {"v1": "s1", "v2": "s2"}
    body = {"vdisk_guids": ["v1", "v2"], "name": "g", "atomic": True}
    assert cluster.posted() == ("vpools/p1/create_snapshots/", body)


def test_a_group_without_a_result_for_each_vdisk_is_not_taken_for_a_success():
    with pytest.raises(UnexpectedAnswer, match="v2"):
        Cluster(ALL, {"v1": [True, "s1"]}).snapshots.create_group("p1", ["v1", "v2"], "g")


def test_a_grant_is_asked_for_with_everything_and_read_back():
    cluster = Cluster(ALL, GRANT)
    grant = cluster.grants.create("v1", "host1", "instance1", mode="ro", snapshot_guid="s1", deadline_seconds=60)
    assert (grant.guid, grant.export_name, grant.port, grant.deadline) == ("g1", "e1", 30001, None)
    assert urlsplit(grant.uri).port == grant.port
    body = {
        "vdisk_guid": "v1", "client": "host1", "consumer": "instance1", "mode": "ro", "snapshot_guid": "s1",
        "deadline_seconds": 60,
    }  # fmt: skip
    assert cluster.posted() == ("grants/", body)


def test_grants_of_other_vdisks_are_not_taken_for_this_ones():
    assert len(Cluster(ALL, read={"data": [GRANT]}).grants.list("v1")) == 1
    with pytest.raises(UnexpectedAnswer, match="other vDisks"):
        Cluster(ALL, read={"data": [{**GRANT, "vdisk_guid": "v2"}]}).grants.list("v1")


def test_revoking_is_a_task():
    cluster = Cluster(ALL)
    cluster.grants.revoke("g1")
    assert cluster.posted() == ("grants/g1/revoke/", {})


def test_without_extensions_nothing_is_sent_that_the_cluster_cannot_do():
    cluster = Cluster(None)
    for call in (
        lambda: cluster.grants.create("v1", "host1", "instance1"),
        lambda: cluster.grants.get("g1"),
        lambda: cluster.grants.list("v1"),
        lambda: cluster.grants.revoke("g1"),
        lambda: cluster.vdisks.set_qos("v1", Qos()),
        lambda: cluster.snapshots.create_group("p1", ["v1"], "g"),
    ):
        with pytest.raises(NotSupported):
            call()
    assert cluster.vpools.capacity("p1") is None
    assert cluster.wire.sent == []
