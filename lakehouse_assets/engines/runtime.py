"""Java and jars for Spark: fetched once, by `make setup` or when Spark is first needed; afterwards only looked up.

A start of Spark is what a person waits for, so nothing here resolves, downloads or starts a Java at a normal start:
`java_home`, `jar_paths` and `class_archive` only look at files. `setup` does the slow work, and doing it again is
cheap and safe, also for two at once: every file appears in the cache under its name when it is complete. `ensure` does
it where something is not there.

Everything lives in the folder `LAKEHOUSE_CACHE` (default `~/.cache/lakehouse_assets`):

    java.json     what each `java` that was looked at turned out to be
    java/         a Java home that starts the Java without Spark's vector module (see `_without_vector_flag`)
    jars/         the jars of `JARS`
    classes/      class-data archives, one for each pair of Java and jars

Only the standard library is imported, so that a command can look for Java before it pays for anything else.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lakehouse_assets.cache import say
from lakehouse_assets.engines.class_archive import archive_path, blank_in_the_way, exercise_spark, make_class_archive
from lakehouse_assets.engines.jars import JARS, S3_JARS, Jar, fetch_jars, has_right_size, is_intact, jar_dir
from lakehouse_assets.engines.java import find_java, install_java, without_vector_flag
from lakehouse_assets.errors import SetupError


def ensure(jars: Sequence[Jar]) -> None:
    """Fetch what Spark needs if it is missing on this machine.

    Raises:
        SetupError: something could not be had; says what and why.
    """
    java, _ = find_java()
    if java is None or not all(has_right_size(jar) for jar in jars):
        say("Spark is needed for the first time on this machine; fetching what it needs, once")
        setup(jars)


def setup(jars: Sequence[Jar] = JARS, *, with_archive: bool = True) -> None:
    """Find or install Java, fetch the jars and make the class archive, as far as they are missing.

    Args:
        jars: what to fetch; those of `JARS` and perhaps more.
        with_archive: make the class archive too.

    Raises:
        SetupError: something could not be had; says what and why.
    """
    java, _ = find_java()
    if java is None:
        java = install_java()
    say(f"Java {java.major} in {java.home}")
    without_vector_flag(java.home)  # now, as later the cache may be read-only

    absent = [jar for jar in jars if not is_intact(jar)]
    if absent:
        say(f"fetching {len(absent)} jars ({sum(jar.size for jar in absent) / 1e6:.0f} MB)")
        fetch_jars(java, absent)
    say(f"{len(jars)} jars in {jar_dir()}")

    if not with_archive:
        return
    if folder := blank_in_the_way():
        say(f"Spark starts some seconds slower: Java archives no classes where a path has a blank, as {folder} has")
        return
    archive = archive_path(java)
    if not archive.exists():
        say("preparing Spark's classes for faster starts, once (about a minute)")
        try:
            make_class_archive(java, archive)
        except (SetupError, OSError, subprocess.SubprocessError) as error:
            say(f"going on without it: {error}")
            return
    say(f"class archive in {archive}")


def main() -> int:
    """`python -m lakehouse_assets.engines.runtime`: set up what Spark needs."""
    parser = argparse.ArgumentParser(prog="python -m lakehouse_assets.engines.runtime", description=main.__doc__)
    parser.add_argument("--s3", action="store_true", help="also fetch what a warehouse in an S3 store needs (69 MB)")
    parser.add_argument("--no-archive", action="store_true", help="make no archive of Spark's classes")
    parser.add_argument("--exercise-spark", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--java-options", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.exercise_spark:
            exercise_spark(options.exercise_spark, options.java_options)
        else:
            setup(JARS + S3_JARS if options.s3 else JARS, with_archive=not options.no_archive)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
