"""Answers as the OpenAPI document describes them. They document; the values are made in :mod:`kinds`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from openvstorage.contract.codes import ErrorCode

__all__ = [
    "CapacityShape",
    "ErrorShape",
    "GrantShape",
    "ListShape",
    "MetadataShape",
    "StorageDriverShape",
    "StorageRouterShape",
    "TaskShape",
    "TokenShape",
    "VDiskShape",
    "VPoolShape",
]


class Shape(BaseModel):
    """Base: fields may be absent (``contents`` chooses) and more may come."""

    model_config = ConfigDict(extra="allow")


class ErrorShape(Shape):
    """An error: ``error`` and ``error_description``, with an ``error_code`` where there is one; or ``detail`` alone."""

    error: str | None = Field(None, description="Open vStorage's word, for programs")
    error_code: ErrorCode | None = Field(
        None, description="What a task would say that fails for the same reason (extension `error_codes`)"
    )
    error_description: str | None = Field(None, description="Sentence, for people")
    detail: str | None = Field(None, description="Sentence, where Open vStorage's web framework answers")


class Paging(Shape):
    """Where in the list the data is."""

    total_items: int
    current_page: int
    max_page: int
    page_size: int
    start_number: int
    end_number: int


class ListShape(BaseModel):
    """A list: guids, or objects when ``contents`` was given."""

    model_config = ConfigDict(populate_by_name=True)

    data: list[str | dict[str, Any]]
    paging: Paging = Field(alias="_paging")
    contents: list[str] | None = Field(alias="_contents")
    sorting: list[str] | None = Field(alias="_sorting")


class TaskShape(BaseModel):
    """A task. An unknown or forgotten one is PENDING."""

    id: str
    status: str = Field(description="PENDING, STARTED, SUCCESS, FAILURE or REVOKED")
    successful: bool
    failed: bool
    ready: bool
    result: Any = Field(description="The value on SUCCESS, a sentence on FAILURE, else null")
    error_code: ErrorCode | None = Field(
        None, description="Only on FAILURE: why, for programs (extension `error_codes`); new codes may come"
    )


class TokenShape(BaseModel):
    """An access token."""

    access_token: str
    token_type: str
    expires_in: int = Field(description="Seconds")


class MetadataShape(Shape):
    """What the service is, and who the caller is to it."""

    release: dict[str, Any]
    authenticated: bool
    authentication_state: str
    authentication_metadata: dict[str, Any]
    username: str | None
    userguid: str | None
    roles: list[str]
    identification: dict[str, Any]
    storagerouter_ips: list[str]
    versions: list[int]
    plugins: dict[str, list[str]]


class CapacityShape(BaseModel):
    """Capacity of a vPool in bytes."""

    total_bytes: int
    free_bytes: int
    used_bytes: int
    provisioned_bytes: int = Field(description="Sum of the sizes of all vDisks")
    vdisk_count: int
    age_seconds: float = Field(description="How old the numbers are")


class VDiskShape(Shape):
    """A vDisk; dynamics and relations are there as ``contents`` asks."""

    guid: str
    name: str
    description: str | None = None
    size: int = Field(description="Bytes")
    devicename: str = Field(description="Path in the vPool, unique in it")
    volume_id: str
    parentsnapshot: str | None = None
    cinder_id: str | None = None
    has_manual_dtl: bool
    pagecache_ratio: float
    metadata: dict[str, Any]
    cache_quota: dict[str, Any] | None = None
    scrubbing_information: dict[str, Any] | None = None
    qos: dict[str, int] = Field(description="Limits in force; absent or 0 is unlimited")
    durability: str = Field(description="acknowledged or flushed: what is kept when what serves it dies")
    snapshots: list[dict[str, Any]] | None = Field(None, description="Oldest first")
    statistics: dict[str, Any] | None = Field(
        None, description="`stored` is measured; the other counters of Open vStorage are not kept here and stay 0"
    )


class VPoolShape(Shape):
    """A vPool."""

    guid: str
    name: str
    description: str | None = None
    status: str


class StorageRouterShape(Shape):
    """A node."""

    guid: str
    name: str
    ip: str
    machine_id: str
    node_type: str


class StorageDriverShape(Shape):
    """A vPool's data service on a node."""

    guid: str
    name: str
    storagedriver_id: str
    storage_ip: str
    cluster_ip: str
    ports: dict[str, Any]
    mountpoint: str


class GrantLocationShape(BaseModel):
    """Where a grant is served."""

    guid: str
    mode: str = Field(description="rw or ro")
    state: str = Field(description="granting or granted")
    export_name: str
    host: str
    port: int
    tls: bool
    size: int = Field(description="Bytes")


class GrantShape(BaseModel):
    """The right of one client to open one vDisk for one consumer."""

    guid: str
    vdisk_guid: str
    snapshot_guid: str | None
    client: str
    certificate_name: str | None
    consumer: str
    mode: str = Field(description="rw or ro")
    state: str = Field(description="granting, granted or revoking")
    export_name: str | None = Field(description="null to callers without the role write, as is `uri`")
    host: str | None
    port: int | None
    tls: bool
    size: int = Field(description="Bytes")
    deadline: float | None = Field(description="Unix time after which it is revoked")
    cut_off_at: float | None = Field(
        description="Unix time at which the export got another name because acknowledged writes were lost; mostly null"
    )
    uri: str | None
