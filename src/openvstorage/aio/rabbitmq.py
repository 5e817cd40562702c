"""RabbitMQ: the message broker between Cinder's services, with an epmd and an Erlang cookie of its own.

Erlang nodes find each other through epmd, a daemon that is shared by default: started with our broker it would stay
when ours is gone, and another's would know our node. So ours has its own, on a port of its own.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping

from openvstorage.aio.paths import Paths, write_private
from openvstorage.aio.ports import accepts
from openvstorage.aio.supervisor import Program, Supervisor

__all__ = ["RabbitMQ"]

# A greeting of no version there is; a broker that serves answers it with the one it wants.
_GREETING = b"AMQP\x00\x00\x00\x00"


class RabbitMQ:
    """One RabbitMQ node and its epmd.

    :param ports: ``rabbitmq`` (AMQP), ``rabbitmq-distribution`` and ``epmd``, all on 127.0.0.1.
    :param password: of the user ``openstack``.
    """

    name = "rabbitmq"
    epmd = "epmd"

    def __init__(self, paths: Paths, supervisor: Supervisor, ports: Mapping[str, int], password: str) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._ports = ports
        self._password = password
        self._data = paths.data / "rabbitmq"

    @property
    def url(self) -> str:
        """The transport URL for oslo.messaging. It holds the password."""
        return f"rabbit://openstack:{self._password}@127.0.0.1:{self._ports['rabbitmq']}/"

    def start(self) -> str:
        """Start epmd and the broker; blocks until the broker answers. Raises ProgramFailed."""
        self._write_configuration()
        self._supervisor.start(self._epmd_program())
        self._supervisor.wait_ready(self.epmd, lambda: accepts(self._ports["epmd"]))
        started = self._supervisor.start(self._program())
        self._supervisor.wait_ready(self.name, self._answers)
        return "started" if started else "running"

    def _write_configuration(self) -> None:
        home = self._data / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            write_private(cookie, secrets.token_hex(20))
            cookie.chmod(0o400)
        write_private(
            self._paths.etc / "rabbitmq.conf",
            # The user is made with an empty data directory only, so the password must stay the same (credentials.py).
            f"default_user = openstack\ndefault_pass = {self._password}\n"
            f"listeners.tcp.local = 127.0.0.1:{self._ports['rabbitmq']}\n"
            # What disk and memory there is was looked at before; a broker that blocks says so to nobody here.
            "disk_free_limit.absolute = 50MB\n"
            "log.console = true\nlog.console.level = info\nlog.file = false\n",
        )
        write_private(self._paths.etc / "rabbitmq-plugins", "[].\n")

    def _epmd_program(self) -> Program:
        port = str(self._ports["epmd"])
        argv = ("/usr/bin/epmd", "-address", "127.0.0.1", "-port", port)
        return Program(name=self.epmd, argv=argv, stop_stage=3)

    def _program(self) -> Program:
        environment = {
            "HOME": str(self._data / "home"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "RABBITMQ_NODENAME": "openvstorage-aio@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._ports["rabbitmq"]),
            "RABBITMQ_DIST_PORT": str(self._ports["rabbitmq-distribution"]),
            "RABBITMQ_MNESIA_BASE": str(self._data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._paths.log),
            "RABBITMQ_LOGS": "-",
            # Nothing of a broker that the machine may have.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self._paths.etc / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._paths.etc / "rabbitmq-advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._paths.etc / "rabbitmq-plugins"),
            "RABBITMQ_PID_FILE": str(self._paths.run / "rabbitmq.pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._data / "generated"),
            # Without "+sbwt none" idle schedulers spin.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +S 2:2",
        }
        return Program(
            name=self.name,
            # Not /usr/sbin/rabbitmq-server: that wrapper changes to the packaged user and directories.
            argv=("/usr/lib/rabbitmq/bin/rabbitmq-server",),
            environment=environment,
            files=(self._paths.etc / "rabbitmq.conf",),
            stop_seconds=30,
            stop_stage=2,
        )

    def _answers(self) -> bool:
        # The port may be open before the broker serves.
        try:
            with socket.create_connection(("127.0.0.1", self._ports["rabbitmq"]), timeout=5) as connection:
                connection.sendall(_GREETING)
                return connection.recv(8)[:4] == b"AMQP"
        except OSError:
            return False
