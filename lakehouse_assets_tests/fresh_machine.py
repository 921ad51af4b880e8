"""The README's two commands on a machine that has nothing: a minimal Debian in a folder, with Python, make and git.

    python -m lakehouse_assets_tests.fresh_machine [--folder DIR] [--user USER]... [--whole USER]...

As root and as another user, each in a clone of its own at a path with a blank in it, with an empty home. `make demo`
has to pass, once more with the clone mounted read-only, for root too, and then `make test`. With `--whole USER` only
those users run all of `make test`, and the others the part of it that starts Dagster's services.

It needs root and mmdebstrap. Only what the package clients of this machine need to reach their registries
(certificates, pip's settings, variables) is taken along. Mounts and processes are a command's own and end with it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = "bookworm"  # the oldest Debian with a Python that the project runs on, 3.11
PACKAGES = ("python3", "python3-venv", "make", "git", "ca-certificates")
USERS = {"root": "/root", "tester": "/home/tester"}
DEMO, TEST, PART = "make demo", "make test", "make tests-of-dev"
# what the package clients of this machine need to reach their registries
CLIENTS_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
# in mounts and processes of its own: machine, user, folder, ro or rw, command
_IN_THE_MACHINE = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --bind "$1$3" "$1$3"
mount -o "remount,bind,$4" "$1$3"
exec chroot --userspec="$2" "$1" /bin/sh -c 'cd "$0" && eval "$1"' "$3" "$5"
"""
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


def run(machine: Path, user: str, folder: str, command: str, mode: str = "rw", **environment: str) -> bool:
    """Run a command as a user of the machine; says how long it took, and where it failed its last lines.

    Args:
        machine: its folder.
        user: one of `USERS`.
        folder: of the clone, in the machine.
        command: a line of shell.
        mode: of the clone; ``ro`` read-only.
        environment: more of it.
    """
    inside = {"HOME": USERS[user], "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "LANG": "C.UTF-8"}
    inside |= clients_variables() | environment
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _IN_THE_MACHINE, "sh"]
    began = time.monotonic()
    done = subprocess.run(
        [*apart, machine, user, folder, mode, command],
        env=inside,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = done.stdout.rstrip().splitlines()
    how = "passed" if done.returncode == 0 else "FAILED"
    where = " (clone read-only)" if mode == "ro" else ""
    print(f"{user}: {command}{where}: {how}, {time.monotonic() - began:.0f} s")
    # tests run in parts, and each part's failures end its own output
    named = [line for line in said[:-40] if line.startswith(("FAILED", "ERROR", "make"))] if done.returncode else []
    print("\n".join(f"    {line}" for line in [*named, *said[-2 if done.returncode == 0 else -40 :]]), flush=True)
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the machine and run the commands; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the machine is built; default a temporary folder")
    parser.add_argument("--user", action="append", choices=USERS, help="instead of all; may be repeated")
    parser.add_argument(
        "--whole", action="append", choices=USERS, help="who runs all of `make test`; default everybody"
    )
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        sys.exit("fresh: this needs root and mmdebstrap (Debian: apt-get install mmdebstrap)")
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    passed = []
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="fresh-") as name:
        machine = Path(name) / "machine"
        began = time.monotonic()
        build(machine)
        print(f"a Debian with {', '.join(PACKAGES)}: {time.monotonic() - began:.0f} s", flush=True)
        folders = {user: f"{USERS[user]}/a clone" for user in options.user or USERS}
        for user, folder in folders.items():
            subprocess.run(["git", "clone", "--quiet", ROOT, machine / folder.lstrip("/")], check=True)
            subprocess.run(["chroot", machine, "chown", "-R", f"{user}:", folder], check=True)
            passed.append(run(machine, user, folder, DEMO))
            passed.append(run(machine, user, folder, DEMO, "ro", LAKEHOUSE_HOME=f"{USERS[user]}/lake"))
        whole = options.whole or USERS
        for user in sorted(folders, key=lambda user: user in whole):  # what takes longest last
            passed.append(run(machine, user, folders[user], TEST if user in whole else PART))
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
