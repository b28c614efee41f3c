"""A PostgreSQL server of the test's own: a temporary folder, a free port, a password; ended with the session.

PostgreSQL refuses to run as root, so as root it runs as an unprivileged user that owns its folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

PASSWORD = "hunter2-never-in-a-log"
UNPRIVILEGED = ("postgres", "nobody")


class Postgres:
    """The server; each `url()` is a new, empty database."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="evenkeel-postgres-", dir="/tmp"))
        self.port = _free_port()
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self._numbers = count()
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            for path in (self.folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self._run(
            "initdb", "-D", self.data, "-U", "keeper", "--auth=scram-sha-256", f"--pwfile={password}", "-N"
        )
        self.start()

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off -c max_connections=60"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """At once; connections break."""
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def url(self) -> str:
        name = f"journal{next(self._numbers)}"
        with psycopg.connect(self.address("postgres").replace("+psycopg", ""), autocommit=True) as db:
            db.execute(f"create database {name}")  # type: ignore[call-overload]
        return self.address(name)

    def address(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://keeper:{password}@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        user = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid}
        done = subprocess.run(
            [str(_binaries() / program), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE,  # the server inherits it
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            extra_groups=[] if user else None,
            **user,  # type: ignore[call-overload]
        )
        log = self.folder / "log"
        assert done.returncode == 0, (program, done.stderr, log.read_text() if log.exists() else "")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


def _binaries() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert folders, "PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)"
    return folders[-1]


def _unprivileged() -> pwd.struct_passwd:
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError(f"as root, PostgreSQL needs one of the users {UNPRIVILEGED}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
