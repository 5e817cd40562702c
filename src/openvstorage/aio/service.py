"""Service: what OpenStack's services here have in common: a configuration, a database, and an API that uWSGI serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from openvstorage.aio.command import run
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import Sections, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Program, Supervisor
from openvstorage.aio.uwsgi import serve, uwsgi_program

__all__ = ["Place", "Service"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where services run: the directories, who starts programs, and the environment that these come from."""

    paths: Paths
    supervisor: Supervisor
    environment: Environment

    def once(self, name: str, about: str, action: Callable[[], object]) -> str:
        """Run an action unless it has succeeded before with the same OpenStack and the same ``about``.

        Blocks. Returns a word about what was done; raises what the action raises.
        """
        marker = self.paths.data / f".{name}"
        text = f"{self.environment.openstack_version} {about}"
        if marker.exists() and marker.read_text() == text:
            return "found"
        action()
        marker.write_text(text)
        return "made"


class Service:
    """One service of OpenStack, and the base of each.

    :param port: of its API on 127.0.0.1.
    :param file: name of its configuration file.
    :cvar name: names the directory of its configuration.
    :cvar title: what sentences call it.
    :cvar module: its ``application`` is the API.
    :cvar path: what follows the port in its endpoint.
    :cvar probe: what follows the endpoint where it is asked whether it serves.
    :cvar processes: how many serve the API.
    :cvar schema: the command that makes the database, and its words.
    :cvar made: what :meth:`prepare` makes.
    :cvar stop_stage: see :class:`Program`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    path: ClassVar[str] = ""
    probe: ClassVar[str] = ""
    processes: ClassVar[int] = 2
    schema: ClassVar[tuple[str, ...]] = ()
    made: ClassVar[str] = "database"
    stop_stage: ClassVar[int] = 0

    def __init__(self, place: Place, port: int, file: str) -> None:
        self._place = place
        self._paths, self._supervisor, self._environment = place.paths, place.supervisor, place.environment
        self._port = port
        self._configuration = place.paths.etc / self.name / file
        #: What the configuration says.
        self._sections: Sections = {}
        #: Directories of its data.
        self._directories: tuple[Path, ...] = ()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._port}{self.path}"

    def configure(self) -> None:
        """Write the configuration and make the directories of its data."""
        write_ini(self._configuration, self._sections)
        for directory in self._directories:
            directory.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> str:
        """Configure it, and bring its database's schema up to date unless this OpenStack has done so. Blocks.

        Returns a word about what was done. Raises CommandFailed.
        """
        self.configure()
        return self._place.once(f"{self.name}-{self.made}", self._about, self._make)

    def start(self) -> str:
        """Start it; blocks until the API answers. Returns a word about what was done. Raises ProgramFailed."""
        return serve(self._supervisor, self._api(), f"{self.url}{self.probe}", *self._others())

    @property
    def _about(self) -> str:
        """What is made anew when it changes."""
        return ""

    @property
    def _options(self) -> tuple[str, ...]:
        """The words that tell a program of its configuration."""
        return "--config-file", str(self._configuration)

    @property
    def _variables(self) -> Mapping[str, str]:
        """The environment variables that tell the API of its configuration."""
        prefix = f"OS_{self.name.upper()}_CONFIG"
        return {f"{prefix}_DIR": str(self._configuration.parent), f"{prefix}_FILES": self._configuration.name}

    @property
    def _version(self) -> str:
        """A text that changes when the code of its API does."""
        return self._environment.openstack_version

    def _make(self) -> None:
        program, *words = self.schema
        self._manage(program, *self._options, *words)

    def _manage(self, program: str, *words: str, environment: Mapping[str, str] | None = None) -> None:
        what = f"the set-up of {self.title}'s {self.made}"
        log = self._paths.log / f"{self.name}-manage.log"
        run(what, [self._environment.program(program), *words], log, environment=environment)

    def _api(self) -> Program:
        return uwsgi_program(
            self.name,
            self._environment,
            self.module,
            self._port,
            variables=self._variables,
            processes=self.processes,
            version=self._version,
            files=(self._configuration,),
            stop_stage=self.stop_stage,
        )

    def _others(self) -> tuple[Program, ...]:
        """The programs beside the API, which are not waited for."""
        return ()
