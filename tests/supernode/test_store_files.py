"""The files of the state folder: who can read them, and what is said when one cannot be used."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cubecast.engine.protocol.records import Tree
from cubecast.errors import LocalError, StoreError
from cubecast.keys import private_key
from cubecast.overlay.cube import Cube
from cubecast.supernode import sqlite
from cubecast.supernode.server import write_join_token
from cubecast.supernode.sqlite import SCHEMA_VERSION, SqliteStore
from cubecast.tokens.authority import Authority
from cubecast.tokens.permission import Permission
from cubecast.types import HostId
from tests.conditions import eventually
from tests.supernode.node import CLIP, node, request

SHAPE = Cube(2, 3)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def listed(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "directory.sqlite"


@pytest.mark.usefixtures("umask")
async def test_every_file_of_the_state_folder_can_be_read_by_its_owner_only(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        await client.join(request(client, "a"))
        await client.leave(HostId("a"))
        files = {each.name: mode(each) for each in listed(tmp_path)}
        assert {"authority.pem", "join.token", "directory.sqlite", "directory.sqlite-wal"} <= files.keys()
        assert set(files.values()) == {0o600}, files


@pytest.mark.parametrize("open_mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, open_mode: int) -> None:
    authority = Authority.load(tmp_path / "authority.pem")
    write_join_token(tmp_path, authority)
    uses: dict[str, Callable[[], object]] = {
        "authority.pem": lambda: private_key(tmp_path / "authority.pem"),
        "join.token": lambda: write_join_token(tmp_path, authority),
    }
    for name, use in uses.items():
        file = tmp_path / name
        use()
        file.chmod(open_mode)
        with pytest.raises(
            LocalError, match=rf"other users can read {file} \(mode {open_mode:o}\).*: chmod 600 {file}$"
        ):
            use()
        file.chmod(0o600)
        use()


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("content", ["no token", ""])
def test_a_join_token_that_is_worth_nothing_is_replaced_by_one_that_only_the_owner_can_read(
    tmp_path: Path, content: str
) -> None:
    authority, file = Authority.load(tmp_path / "authority.pem"), tmp_path / "join.token"
    file.write_text(content)
    file.chmod(0o644)
    with file.open("rb") as reader:  # somebody has it open
        write_join_token(tmp_path, authority)
        assert reader.read().decode() == content
    assert mode(file) == 0o600
    assert authority.verifier.join(file.read_text().strip()).permission == Permission()


def test_a_store_that_others_can_read_is_closed_to_them(path: Path) -> None:
    SqliteStore(path).close()
    path.chmod(0o644)
    with closing(SqliteStore(path)):
        assert mode(path) == 0o600


def test_a_store_has_a_version_and_commits_are_synchronous(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        assert store._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    SqliteStore(path).close()
    edit(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            LocalError, match=f"{path} was made by a newer cubecast; upgrade this one, or choose another"
        ):
            SqliteStore(path)
    assert path.read_bytes() == before


def test_a_store_from_before_there_were_versions_is_taken_over(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.first_shape(SHAPE, SHAPE)
    edit(path, "PRAGMA user_version = 0", "DROP TABLE names")
    with closing(SqliteStore(path)) as store:
        assert store.first_shape(None, Cube(2, 4)) == SHAPE
        assert store.names() == []
        assert store._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_other_files_are_refused_with_the_reason(path: Path) -> None:
    edit(path, "CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(LocalError, match="is not a directory store; move it away, or choose another --state"):
        SqliteStore(path)
    assert path.read_bytes() == before
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(LocalError, match="is not a directory store; move it away, or choose another --state"):
        SqliteStore(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(LocalError, match=f"cannot use directory store {path}"):
        SqliteStore(path)


def test_a_store_with_other_tables_of_the_same_names_is_refused(path: Path) -> None:
    edit(path, "CREATE TABLE overlay (name TEXT, value TEXT)", "CREATE TABLE hosts (host TEXT)")
    with closing(SqliteStore(path)) as store:
        store.first_shape(SHAPE, SHAPE)
        with pytest.raises(LocalError, match="its tables are not those of this version; move it away"):
            store.hosts()


def test_a_store_that_another_super_node_uses_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.0)
    with (
        closing(SqliteStore(path)),
        pytest.raises(LocalError, match="another super-node uses it; stop that one, or choose"),
    ):
        SqliteStore(path)


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        ("PRAGMA max_page_count = 1", "the disk is full; free some space"),
        ("PRAGMA query_only = 1", "it cannot be written; run this as the user that owns it"),
    ],
)
def test_a_failure_to_write_says_what_to_do(path: Path, cause: str, hint: str) -> None:
    with closing(SqliteStore(path)) as store:
        store._db.execute(cause)
        with pytest.raises(StoreError, match=hint):
            store._run(lambda: store._db.execute("INSERT INTO overlay VALUES ('x', ?)", ("x" * 100_000,)))


DAMAGE = {
    "host a": [
        "UPDATE hosts SET record = x'00'",
        "UPDATE hosts SET record = CAST('{}' AS BLOB)",
        "UPDATE hosts SET record = CAST(replace(CAST(record AS TEXT), '\"seat\":', '\"seat\":99') AS BLOB)",
    ],
    "channel clip": ["UPDATE channels SET record = CAST('[1]' AS BLOB)"],
    "shape": ["UPDATE overlay SET value = 'round' WHERE name = 'shape'"],
    "epoch": ["INSERT OR REPLACE INTO overlay VALUES ('epoch', 'many')"],
    "clock": ["INSERT OR REPLACE INTO overlay VALUES ('clock', 'nan')"],
}


@pytest.mark.parametrize(("where", "statement"), [(where, each) for where, all_ in DAMAGE.items() for each in all_])
async def test_a_malformed_record_is_one_line_that_names_it(
    tmp_path: Path, path: Path, where: str, statement: str
) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        await client.join(request(client, "a"))
        await client.announce(CLIP, Tree.HYBRID)
    edit(path, statement)
    with pytest.raises(
        LocalError, match=rf"{path} is damaged \({where}: .*move it away: hosts then join anew"
    ) as error:
        async with node(tmp_path):
            raise AssertionError("it was taken")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_store_that_is_deleted_while_the_super_node_runs_stops_it(
    tmp_path: Path, path: Path, suffix: str
) -> None:
    async with node(tmp_path) as running:
        path.with_name(path.name + suffix).unlink()
        running.service._runner._marked_s = 0.0  # the time is stored with the next tick
        await eventually(running.service.broken.done)
        with pytest.raises(StoreError, match=r"was deleted or replaced while this super-node used it; start it again"):
            await running.service.broken
    async with node(tmp_path) as running:
        client = running.client()
        await client.join(request(client, "a"))


def test_a_store_that_was_replaced_is_not_written(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)
        with pytest.raises(StoreError, match="deleted or replaced"):
            store.store_clock(1.0)
