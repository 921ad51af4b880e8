"""A Docker of its own: dockerd, a registry that is its mirror of Docker Hub, and Compose; nothing of it outlives a run.

Needs root and Debian's docker.io, iptables and docker-registry. Compose is built with Go from its module. What was
pulled and built is kept in the folder, so that a second run begins where the first one ended.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lakehouse_assets.errors import SetupError
from lakehouse_assets_tests.stack import tools
from lakehouse_assets_tests.stack.services import Service, free_port, serves

COMPOSE = "github.com/docker/compose/v2/cmd@v2.29.7"
PACKAGES = {"dockerd": "docker.io", "iptables": "iptables", "docker-registry": "docker-registry"}
_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"  # where Debian's daemons look for iptables and containerd
_STOP_SECONDS = 60
_ANSWER_SECONDS = 1800  # of a command of Docker's; a build on a slow network takes minutes


class Docker:
    """A running dockerd, its registry, and the environment in which `docker` and `docker compose` use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = f"127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ,
            "PATH": f"{os.environ['PATH']}:{_SYSTEM}",
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_CONFIG": str(folder / "client"),
            "DOCKER_BUILDKIT": "0",  # the client needs a plugin for the other builder; Compose brings it along
        }

    def __call__(self, *arguments: str | Path, told: str = "") -> str:
        """Run a command of Docker's; what it said.

        Raises:
            SetupError: it failed.
        """
        return self.run(["docker", *map(str, arguments)], told=told)

    def run(
        self, command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] = {}, told: str = ""
    ) -> str:
        """Run any command in the environment of this Docker, with something on its standard input; what it said.

        Raises:
            SetupError: it failed.
        """
        done = self.tried(command, folder, environment, told)
        if done.returncode:
            raise SetupError(f"{' '.join(command)} failed: {(done.stdout + done.stderr).strip()[-3000:]}")
        return done.stdout.strip()

    def tried(
        self, command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] = {}, told: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            command,
            cwd=folder,
            env={**self.environment, **environment},
            input=told,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )

    def in_registry(self, name: str, tag: str) -> bool:
        """Whether the registry has an image."""
        asked = urllib.request.Request(
            f"http://{self.registry}/v2/{name}/manifests/{tag}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def running(folder: Path) -> Iterator[Docker]:
    """The daemons, for as long as the block takes.

    Raises:
        SetupError: a package is missing, this is not root, or another Docker runs on the machine.
        ServiceFailed: one of them did not start.
    """
    docker = Docker(folder)
    path = docker.environment["PATH"]
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=path)]
    if os.geteuid() != 0 or missing:
        names = " ".join(missing or PACKAGES.values())
        raise SetupError(f"this needs root and Debian's {names}: apt-get install --no-install-recommends {names}")
    if Path("/var/run/docker.pid").exists():
        raise SetupError("another Docker runs on this machine, whose network this one would change; stop it first")
    if docker.tried(["docker", "version"]).returncode == 0:
        raise SetupError(
            f"the Docker of {folder} runs already; wait for its end, or end it: it is process "
            f"{(folder / 'docker.pid').read_text()}"
        )
    plugins = folder / "client" / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tools.build_go("docker-compose", COMPOSE), plugins / "docker-compose")
    (plugins / "docker-compose").chmod(0o755)
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": docker.registry},
    }
    (folder / "registry.json").write_text(json.dumps(settings))  # JSON is YAML

    with ExitStack() as ends:

        def part(name: str, *command: str | Path) -> Service:
            # the certificates that this machine's clients take along would be Docker's own as well
            environment = {"PATH": path}
            service = Service(name, command, environment, folder / f"{name}.log")
            ends.callback(service.stop, _STOP_SECONDS)
            return service

        registry = part("registry", "docker-registry", "serve", folder / "registry.json")
        registry.start(lambda: serves(f"http://{docker.registry}/v2/"))
        where: list[str | Path] = [
            *("--host", docker.environment["DOCKER_HOST"], "--pidfile", folder / "docker.pid"),
            *("--data-root", folder / "data", "--exec-root", folder / "exec"),
        ]
        mirror = ["--registry-mirror", f"http://{docker.registry}"]
        part("dockerd", "dockerd", *where, *mirror).start(lambda: docker.tried(["docker", "version"]).returncode == 0)
        yield docker
