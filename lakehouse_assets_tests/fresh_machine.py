"""The README's two commands on a machine that has nothing: a minimal Debian in a folder, with Python, make and git.

    python -m lakehouse_assets_tests.fresh_machine [--folder DIR] [--command "make demo"]...

As root and as another user, each in a clone of its own at a path with a blank in it, with an empty home. When the
commands have passed, the clone is made read-only and `make demo` has to pass once more. It needs root and
mmdebstrap. Only what the package clients of this machine need to reach their registries (certificates, pip's
settings, variables) is taken along.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = "bookworm"  # the oldest Debian with a Python that the project runs on, 3.11
PACKAGES = ("python3", "python3-venv", "make", "git", "ca-certificates")
USERS = {"root": "/root", "tester": "/home/tester"}
# what the package clients of this machine need to reach their registries
CLIENTS_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
_NAMES = ("/etc/resolv.conf", "/etc/hosts")
_CLIENTS_VARIABLES = ("PIP_", "UV_", "SSL_CERT", "REQUESTS_CA", "GOPROXY", "GOSUMDB", "HTTP_", "HTTPS_", "NO_PROXY")


def build(machine: Path) -> None:
    """Install the minimal Debian into a folder."""
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, machine], check=True
    )
    for place in map(Path, CLIENTS_FILES + _NAMES):
        if place.exists():
            shutil.copyfile(place, machine / place.relative_to("/"))
    subprocess.run(["chroot", machine, "useradd", "--create-home", "tester"], check=True)


def clients_variables() -> dict[str, str]:
    """What the package clients of this machine have in their environment."""
    return {key: value for key, value in os.environ.items() if key.upper().startswith(_CLIENTS_VARIABLES)}


@contextmanager
def mounted(machine: Path) -> Iterator[None]:
    """The machine with the kernel's file systems that Java and Python read."""
    places = ("proc", "dev")
    for place in places:
        subprocess.run(["mount", "--rbind", f"/{place}", machine / place], check=True)
        subprocess.run(["mount", "--make-rslave", machine / place], check=True)
    try:
        yield
    finally:
        for place in places:
            subprocess.run(["umount", "--recursive", "--lazy", machine / place], check=True)


def run(machine: Path, user: str, folder: str, command: str, **environment: str) -> bool:
    """Run a command as a user of the machine; says how long it took, and where it failed its last lines."""
    home = USERS[user]
    inside = {
        "HOME": home,
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin",
        "LANG": "C.UTF-8",
        **clients_variables(),
        **environment,
    }
    began = time.monotonic()
    done = subprocess.run(
        ["chroot", f"--userspec={user}", machine, "/bin/sh", "-c", f'cd "{folder}" && {command}'],
        env=inside,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = done.stdout.rstrip().splitlines()
    print(f"{user}: {command}: {'passed' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - began:.0f} s")
    print("\n".join(f"    {line}" for line in said[-2 if done.returncode == 0 else -40 :]), flush=True)
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the machine and run the commands; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the machine is built; default a temporary folder")
    parser.add_argument("--command", action="append", help="instead of `make demo` and `make test`; may be repeated")
    parser.add_argument("--user", action="append", choices=USERS, help="instead of all; may be repeated")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        sys.exit("fresh: this needs root and mmdebstrap (Debian: apt-get install mmdebstrap)")
    passed = []
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="fresh-") as name:
        machine = Path(name) / "machine"
        began = time.monotonic()
        build(machine)
        print(f"a Debian with {', '.join(PACKAGES)}: {time.monotonic() - began:.0f} s", flush=True)
        with mounted(machine):
            for user in options.user or USERS:
                folder = f"{USERS[user]}/a clone"
                clone = machine / folder.lstrip("/")
                subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
                subprocess.run(["chroot", machine, "chown", "-R", f"{user}:", folder], check=True)
                passed += [
                    run(machine, user, folder, command) for command in options.command or ("make demo", "make test")
                ]
                read_only = f"chmod -R a-w . && LAKEHOUSE_HOME={USERS[user]}/lake make demo"
                passed.append(run(machine, user, folder, read_only))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
