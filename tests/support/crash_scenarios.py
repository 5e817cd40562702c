"""Every operation, in each of its variants, as something to be killed in.

A scenario says what the vPool looks like before and after it. Killed anywhere, the vPool must come up as the one or the
other, as the task's verdict says: SUCCESS is ``after``, FAILURE is ``before``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.support.crash_acts import (
    Act,
    cloned,
    daemon_killed,
    disk,
    done,
    dropped,
    first,
    granted,
    respawn_refused,
    revoked,
    settled,
    snapped,
    snapshot,
    vdisk,
    written,
)
from tests.support.crash_world import BLOCK, Disk, World
from tests.support.engine import Engine

#: The block that a guest writes when the service is dead; its place in a pattern of four.
GUEST_BLOCK = 3


@dataclass(frozen=True)
class Scenario:
    """One change, and what it is made in.

    :ivar passes: the boundaries that it passes when nobody kills it, in order: ``type: name name; type: name``.
    :ivar recovers: boundaries that only its recovery passes.
    :ivar setup: what is there before.
    :ivar act: the change: one task, or background work.
    :ivar guest: name of the vDisk that has a guest, which writes on while the service is dead.
    :ivar may_fail: recovery may take it back.
    :ivar broken: the tools fail in the first life, so that it is taken back if it gets that far.
    """

    name: str
    passes: str
    act: Act
    before: World
    after: World
    setup: Act
    recovers: str = ""
    guest: str | None = None
    may_fail: bool = False
    broken: str | None = None

    def boundaries(self) -> list[str]:
        """:returns: ``type:name`` of all it passes."""
        return _expand(self.passes)

    def all_boundaries(self) -> set[str]:
        """:returns: the same with those of its recovery."""
        return {*_expand(self.passes), *_expand(self.recovers)}


def _expand(text: str) -> list[str]:
    parts = (part.partition(": ") for part in text.split("; ") if part)
    return [f"{kind}:{name}" for kind, _, names in parts for name in names.split()]


# -- the list --------------------------------------------------------------------------------------------------------

TASK = "task: submitted; "
A = World({"a": Disk("A...")})
S = World({"a": Disk("A...", {"s": "A..."})})
#: With a guest, that writes its block at some time.
GUEST = World({"a": Disk("A..!")}, frozenset({"a:guest"}))
TWO = World({"a": Disk("ABC.", {"s1": "A...", "s2": "AB.."})})
ONLINE = first(disk("a", "A..."), granted("a", "guest"))
TWO_SNAPSHOTS = first(disk("a", "A..."), snapped("a", "s1"), written("a", 1, "B"), snapped("a", "s2"))
TWO_AND_MORE = first(TWO_SNAPSHOTS, written("a", 2, "C"))
SNAPSHOT_STEPS = "snapshot: begin make finish; "
ONLINE_STEPS = "snapshot: begin make switch:committed switch finish"
REVOKE_STEPS = "revoke: begin fence close finish"
GROUP = {"vdisk_guids": lambda engine: _all(engine, "a", "b", "c", "d"), "label": "g"}


async def _all(engine: Engine, *names: str) -> list[str]:
    return [await vdisk(engine, name) for name in names]


async def _both_snapshots(engine: Engine) -> dict[str, list[str]]:
    return {await vdisk(engine, "a"): [await snapshot(engine, "a", label) for label in ("s1", "s2")]}


def with_disks(world: World, **disks: Disk) -> World:
    """:returns: the world with these vDisks added or replaced."""
    return replace(world, disks={**world.disks, **disks})


def with_grants(world: World, *grants: str) -> World:
    """:returns: the world with exactly these grants."""
    return replace(world, grants=frozenset(grants))


async def nothing(_engine: Engine) -> None:
    """An empty vPool."""


def _creating() -> list[Scenario]:
    clone_of_s = done("vdisk.clone", "a", name="c", snapshot_guid=lambda engine: snapshot(engine, "a", "s"))
    with_s = first(disk("a", "A..."), snapped("a", "s"))
    template = first(disk("t", "T..."), done("vdisk.set_as_template", "t"))
    made = done("vdisk.create_from_template", "t", name="n")
    is_template = World({"t": Disk("T...", template=True)})
    larger = done("vdisk.clone", "a", name="c", size=6 * BLOCK)
    found = [
        Scenario(
            "create",
            TASK + "create: begin make finish",
            done("vdisk.create", name="n", size=4 * BLOCK),
            World(),
            World({"n": Disk("....")}),
            nothing,
        ),
        Scenario(
            "clone-snapshot",
            TASK + "clone: begin make finish",
            clone_of_s,
            S,
            with_disks(S, c=Disk("A...")),
            with_s,
        ),
        Scenario(
            "template",
            TASK + "create_from_template: begin make finish",
            made,
            is_template,
            with_disks(is_template, n=Disk("T...")),
            template,
        ),
    ]
    broken = [
        replace(
            scenario,
            name=f"{scenario.name}-fails",
            passes=scenario.passes.replace("make finish", "abort"),
            broken="qemu-img",
            may_fail=True,
        )
        for scenario in found
    ]
    return [
        *found,
        *broken,
        Scenario(
            "clone-volume",
            TASK + SNAPSHOT_STEPS + "clone: begin make finish",
            larger,
            A,
            World({"a": Disk("A...", {"(clone)": "A..."}), "c": Disk("A.....")}),
            disk("a", "A..."),
        ),
        Scenario(
            "clone-volume-online",
            TASK + ONLINE_STEPS + "; clone: begin make finish",
            larger,
            GUEST,
            with_disks(GUEST, a=Disk("A..!", {"(clone)": "A..?"}), c=Disk("A..?..")),
            ONLINE,
            guest="a",
        ),
    ]


def _snapshots() -> list[Scenario]:
    snap = done("snapshot.create", "a", label="s")
    three = first(
        *(disk(name, f"{name}...") for name in "bcd"),
        ONLINE,
        granted("b", "other"),
        snapped("d", "old"),
    )
    disks = {"b": Disk("b..."), "c": Disk("c..."), "d": Disk("d...", {"old": "d..."})}
    four = World({**GUEST.disks, **disks}, frozenset({"a:guest", "b:other"}))
    four_after = World(
        {
            "a": Disk("A..!", {"g": "A..?"}),
            "b": Disk("b...", {"g": "b..."}),
            "c": Disk("c...", {"g": "c..."}),
            "d": Disk("d...", {"old": "d...", "g": "d..."}),
        },
        four.grants,
    )
    offline = Scenario("snapshot", TASK + "snapshot: begin make finish", snap, A, S, disk("a", "A..."))
    group = Scenario(
        "group",
        TASK + "group_snapshot: begin make switch:committed switch lift:committed lift finish",
        done("snapshot.create_atomic_group", **GROUP),
        four,
        four_after,
        three,
        recovers="group_snapshot: abort",
        guest="a",
        may_fail=True,
    )
    return [
        offline,
        replace(
            offline,
            name="snapshot-fails",
            passes=TASK + "snapshot: begin abort",
            broken="qemu-img",
            may_fail=True,
        ),
        Scenario(
            "snapshot-online",
            TASK + ONLINE_STEPS,
            snap,
            GUEST,
            with_disks(GUEST, a=Disk("A..!", {"s": "A..?"})),
            ONLINE,
            guest="a",
        ),
        Scenario(
            "snapshot-without-bytes",
            TASK + "snapshot: begin",
            done("snapshot.create", "a", label="again"),
            S,
            World({"a": Disk("A...", {"s": "A...", "again": "A..."})}),
            first(disk("a", "A..."), snapped("a", "s")),
        ),
        Scenario(
            "snapshot-after-growth",
            TASK + SNAPSHOT_STEPS.removesuffix("; "),
            done("snapshot.create", "a", label="big"),
            World({"a": Disk("A.....", {"s": "A..."})}),
            World({"a": Disk("A.....", {"s": "A...", "big": "A....."})}),
            first(disk("a", "A..."), snapped("a", "s"), done("vdisk.extend", "a", size=6 * BLOCK)),
        ),
        group,
        replace(group, name="group-fails", passes=TASK + "group_snapshot: begin abort", broken="qemu-img"),
        Scenario(
            "snapshots-of-many",
            TASK + SNAPSHOT_STEPS + SNAPSHOT_STEPS + "create_snapshots: begin",
            done("snapshot.create_group", vdisk_guids=lambda engine: _all(engine, "a", "b"), label="s"),
            with_disks(A, b=Disk("b...")),
            with_disks(S, b=Disk("b...", {"s": "b..."})),
            first(disk("a", "A..."), disk("b", "b...")),
        ),
        Scenario(
            "delete-snapshot",
            TASK + "delete_snapshot: begin",
            dropped("a", "s1"),
            TWO,
            World({"a": Disk("ABC.", {"s2": "AB.."})}),
            TWO_AND_MORE,
        ),
        Scenario(
            "delete-many-snapshots",
            TASK + "delete_snapshot: begin begin; delete_snapshots: begin",
            done("snapshot.delete_many", mapping=_both_snapshots),
            TWO,
            World({"a": Disk("ABC.")}),
            TWO_AND_MORE,
        ),
        Scenario(
            "is-synced",
            TASK + "is_synced: begin",
            done("snapshot.is_synced", "a", snapshot_guid=lambda engine: snapshot(engine, "a", "s")),
            S,
            S,
            first(disk("a", "A..."), snapped("a", "s")),
        ),
    ]


def _changes() -> list[Scenario]:
    steps = TASK + "rollback: begin quit make finish"
    to_s1 = {"snapshot_guid": lambda engine: snapshot(engine, "a", "s1")}
    rolled = World({"a": Disk("A...", {"s1": "A..."})})
    kept = World({"a": Disk("A...", {"s1": "A...", "s2": "AB.."})})
    rollback = Scenario("rollback", steps, done("vdisk.rollback", "a", **to_s1), TWO, rolled, TWO_AND_MORE)
    grown = done("vdisk.extend", "a", size=6 * BLOCK)
    extend = Scenario(
        "extend",
        TASK + "extend: begin grow finish",
        grown,
        A,
        World({"a": Disk("A.....")}),
        disk("a", "A..."),
    )
    failed = TASK + "extend: begin abort"
    online = replace(
        extend,
        name="extend-online",
        setup=ONLINE,
        before=GUEST,
        after=with_disks(GUEST, a=Disk("A..!..")),
        guest="a",
    )
    return [
        rollback,
        replace(
            rollback,
            name="rollback-keep-newer",
            act=done("vdisk.rollback", "a", keep_newer=True, **to_s1),
            after=kept,
        ),
        replace(
            rollback,
            name="rollback-with-reader",
            setup=first(TWO_AND_MORE, granted("a", "reader", "ro", "s1")),
            before=with_grants(TWO, "a:reader"),
            after=with_grants(rolled, "a:reader"),
        ),
        replace(
            rollback,
            name="rollback-with-reader-fails",
            passes=TASK + "rollback: begin quit abort",
            setup=first(TWO_AND_MORE, granted("a", "reader", "ro", "s1")),
            before=with_grants(TWO, "a:reader"),
            after=with_grants(rolled, "a:reader"),
            broken="qemu-img",
            may_fail=True,
        ),
        extend,
        replace(extend, name="extend-fails", passes=failed, broken="qemu-img", may_fail=True),
        online,
        replace(online, name="extend-online-fails", passes=failed, broken="qemu-img", may_fail=True),
        replace(
            online,
            name="extend-online-with-reader",
            setup=first(ONLINE, snapped("a", "s"), granted("a", "reader", "ro", "s")),
            before=with_grants(World({"a": Disk("A..!", {"s": "A..."})}), "a:guest", "a:reader"),
            after=with_grants(World({"a": Disk("A..!..", {"s": "A..."})}), "a:guest", "a:reader"),
        ),
        *_deletes(),
    ]


def _deletes() -> list[Scenario]:
    with_clone = first(disk("a", "A..."), snapped("a", "s"), cloned("a", "c", "s"))
    clone = World({"c": Disk("A...")})
    used = first(with_clone, granted("a", "guest"), granted("a", "reader", "ro", "s"))
    in_use = World({"a": Disk("A..!", {"s": "A..."}), "c": Disk("A...")}, frozenset({"a:guest", "a:reader"}))
    delete = done("vdisk.delete", "a")
    return [
        Scenario("delete", TASK + "delete: begin", delete, with_disks(clone, **S.disks), clone, with_clone),
        Scenario(
            "delete-forced",
            TASK + f"{REVOKE_STEPS}; {REVOKE_STEPS}; delete: begin",
            done("vdisk.delete", "a", force=True),
            in_use,
            clone,
            used,
            guest="a",
        ),
        Scenario(
            "delete-last-clone",
            TASK + "delete: begin",
            done("vdisk.delete", "c"),
            World({"a": Disk("A...", {"(clone)": "A..."}), "c": Disk("A...")}),
            A,
            first(disk("a", "A..."), cloned("a", "c")),
        ),
        Scenario(
            "delete-template",
            TASK + "delete_template: begin",
            done("vdisk.delete_template", "a"),
            World({"a": Disk("A...", template=True)}),
            World(),
            first(disk("a", "A..."), done("vdisk.set_as_template", "a")),
        ),
    ]


def _serving() -> list[Scenario]:
    steps = TASK + "grant: begin serve finish"
    reader = with_grants(GUEST, "a:guest", "a:reader")
    twice = first(ONLINE, granted("a", "reader", "ro"))
    granting = Scenario("grant-first", steps, granted("a", "new"), A, with_grants(A, "a:new"), disk("a", "A..."))
    revoking = TASK + REVOKE_STEPS
    limits = {"iops_total": 1000}
    return [
        granting,
        replace(
            granting,
            name="grant-fails",
            passes=TASK + "grant: begin abort",
            broken="qemu-storage-daemon",
            may_fail=True,
        ),
        replace(
            granting,
            name="grant-second",
            act=granted("a", "reader", "ro"),
            setup=ONLINE,
            before=GUEST,
            after=reader,
            guest="a",
        ),
        replace(
            granting,
            name="grant-snapshot",
            act=granted("a", "reader", "ro", "s1"),
            setup=TWO_AND_MORE,
            before=TWO,
            after=with_grants(TWO, "a:reader"),
        ),
        replace(
            granting,
            name="grant-rolled-back-snapshot",
            act=granted("a", "reader", "ro", "s2"),
            setup=first(
                TWO_SNAPSHOTS,
                done("vdisk.rollback", "a", keep_newer=True, snapshot_guid=lambda engine: snapshot(engine, "a", "s1")),
                granted("a", "guest"),
            ),
            before=World({"a": Disk("A..!", {"s1": "A...", "s2": "AB.."})}, frozenset({"a:guest"})),
            after=World({"a": Disk("A..!", {"s1": "A...", "s2": "AB.."})}, frozenset({"a:guest", "a:reader"})),
            guest="a",
        ),
        Scenario("revoke-one", revoking, revoked("a", "reader"), reader, GUEST, twice, guest="a"),
        Scenario("revoke-last", revoking, revoked("a", "guest"), GUEST, World({"a": Disk("A..!")}), ONLINE, guest="a"),
        Scenario(
            "revoke-rolled-back-snapshot",
            revoking,
            revoked("a", "reader"),
            World({"a": Disk("A..!", {"s1": "A...", "s2": "AB.."})}, frozenset({"a:guest", "a:reader"})),
            World({"a": Disk("A..!", {"s1": "A...", "s2": "AB.."})}, frozenset({"a:guest"})),
            first(
                TWO_SNAPSHOTS,
                done("vdisk.rollback", "a", keep_newer=True, snapshot_guid=lambda engine: snapshot(engine, "a", "s1")),
                granted("a", "guest"),
                granted("a", "reader", "ro", "s2"),
            ),
            guest="a",
        ),
        Scenario(
            "restart",
            TASK + "restart: begin quit serve finish",
            done("vdisk.restart", "a", force=True),
            GUEST,
            GUEST,
            ONLINE,
            guest="a",
        ),
        Scenario(
            "restart-fails",
            TASK + "restart: begin quit abort",
            done("vdisk.restart", "a", force=True),
            GUEST,
            GUEST,
            ONLINE,
            guest="a",
            broken="qemu-storage-daemon",
            may_fail=True,
        ),
        Scenario("respawn", "respawn: begin serve finish", daemon_killed, GUEST, GUEST, ONLINE, guest="a"),
        Scenario(
            "respawn-fails",
            "respawn: begin abort",
            respawn_refused,
            GUEST,
            GUEST,
            ONLINE,
            guest="a",
            broken="qemu-storage-daemon",
        ),
        Scenario(
            "set-qos",
            TASK + "set_qos: begin apply finish",
            done("vdisk.set_qos", "a", qos=limits),
            GUEST,
            with_disks(GUEST, a=Disk("A..!", qos=limits)),
            ONLINE,
            guest="a",
        ),
        Scenario(
            "set-durability",
            TASK + "set_durability: begin apply finish",
            done("vdisk.set_durability", "a", durability="flushed"),
            GUEST,
            GUEST,
            ONLINE,
            guest="a",
        ),
        *_settings(),
    ]


def _settings() -> list[Scenario]:
    def trivial(type_: str, act: Act, after: World = A) -> Scenario:
        return Scenario(type_.replace("_", "-"), TASK + f"{type_}: begin", act, A, after, disk("a", "A..."))

    async def own_node(engine: Engine) -> str:
        return str(engine.context.node.guid)

    return [
        trivial("set_as_template", done("vdisk.set_as_template", "a"), World({"a": Disk("A...", template=True)})),
        trivial("move", done("vdisk.move", "a", storagerouter_guid=own_node)),
        trivial("get_config", done("vdisk.get_config", "a")),
        trivial("set_config", done("vdisk.set_config", "a", params={"sco_size": 32})),
        trivial("sync", done("vpool.sync")),
    ]


def _merges() -> list[Scenario]:
    merging = "merge: begin stream finish"
    ready = first(disk("a", "A..."), snapped("a", "s"), written("a", 1, "B"), dropped("a", "s"))
    merged = World({"a": Disk("AB..")})
    online = World({"a": Disk("AB.!")}, frozenset({"a:guest"}))
    s2 = World({"a": Disk("ABC.", {"s2": "AB.."})})
    fold = Scenario(
        "fold",
        "fold: begin copy stream swap:committed swap finish",
        settled,
        s2,
        s2,
        first(TWO_AND_MORE, dropped("a", "s1")),
        recovers="fold: abort",
    )
    return [
        Scenario("merge", merging, settled, merged, merged, ready, recovers="merge: abort"),
        Scenario(
            "merge-online",
            merging,
            settled,
            online,
            online,
            first(ready, granted("a", "guest")),
            recovers="merge: abort",
            guest="a",
        ),
        fold,
        replace(
            fold,
            name="fold-under-readers",
            setup=first(TWO_AND_MORE, dropped("a", "s1"), granted("a", "guest"), granted("a", "reader", "ro", "s2")),
            before=World({"a": Disk("ABC!", {"s2": "AB.."})}, frozenset({"a:guest", "a:reader"})),
            after=World({"a": Disk("ABC!", {"s2": "AB.."})}, frozenset({"a:guest", "a:reader"})),
            guest="a",
        ),
    ]


SCENARIOS = [*_creating(), *_snapshots(), *_changes(), *_serving(), *_merges()]
