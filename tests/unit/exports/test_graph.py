from __future__ import annotations

from openvstorage.vpool.exports import graph

_GRAPH = {
    "nodes": [
        {"id": 1, "type": "block-backend", "name": ""},
        {"id": 2, "type": "block-driver", "name": "top"},
        {"id": 3, "type": "block-driver", "name": "b"},
        {"id": 4, "type": "block-driver", "name": "a"},
        {"id": 5, "type": "block-job", "name": "b"},
    ],
    "edges": [
        {"name": "root", "parent": 1, "child": 2},
        {"name": "main node", "parent": 5, "child": 2},
        {"name": "file", "parent": 2, "child": 3},
        {"name": "backing", "parent": 3, "child": 4},
    ],
}


def test_children_are_found_by_edge():
    assert graph.child(_GRAPH, "top", "file") == "b"
    assert graph.child(_GRAPH, "b", "backing") == "a"


def test_no_edge_is_no_child():
    assert graph.child(_GRAPH, "a", "backing") is None
    assert graph.child(_GRAPH, "nowhere", "file") is None


def test_a_job_of_a_nodes_name_is_not_the_node():
    assert graph.child(_GRAPH, "b", "main node") is None


def test_files_are_those_of_the_host_only():
    nodes = [
        {"drv": "throttle", "file": "json:{}"},
        {"drv": "qcow2", "file": "json:{}"},
        {"drv": "file", "file": "/z"},
        {"drv": "host_device", "file": "/a"},
    ]
    assert graph.files(nodes) == ["/a", "/z"]
