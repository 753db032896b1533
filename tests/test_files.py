from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from pyalexnet import files
from pyalexnet.errors import DataError, MachineError, NetError, UserError

pytestmark = pytest.mark.host_only("computes nothing")

LEFT = ".pyalexnet-0123456789abcdef.tmp"


def test_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.replace(path, b"old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    path.chmod(0o640)
    files.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.txt"]


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_text_keeps_bytes_of_names(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a.txt", text=True) as file:
        file.write("é \udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9 \xe9\n"


def test_target_of_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    files.replace(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a.txt").read_bytes() == b"x"


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, loop / "a.txt"):
        with pytest.raises(UserError, match=f"{re.escape(str(path))}: cannot be written: "):
            files.replace(path, b"x")
        with pytest.raises(UserError, match="is one of the inputs"):
            files.check_targets({"figure": path}, [path])
    assert loop.is_symlink()
    (tmp_path / "link").symlink_to(tmp_path / "new.txt")
    files.replace(tmp_path / "link", b"x")
    assert (tmp_path / "new.txt").read_bytes() == b"x"


def test_empty_path() -> None:
    with pytest.raises(UserError, match="path is ''; expected a file or folder"):
        files.expanded("")


@pytest.mark.parametrize("error", [RuntimeError("of the block"), OSError(5, "of another file")])
def test_error_in_the_block_changes_nothing(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    files.replace(path, b"old")
    with pytest.raises(type(error), match="of"), files.replacing(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_failed_write_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path = tmp_path / "a.txt"
    files.replace(path, b"old")

    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(
            UserError, match=rf"a\.txt: cannot be written: {os.strerror(number)}"
        ) as e:
            files.replace(path, b"new")
    assert isinstance(e.value, MachineError) == (number != errno.EACCES)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_what_only_adds_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    def only_files(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(errno.EIO, "a folder")
        fail()

    monkeypatch.setattr(os, "fsync", only_files)
    monkeypatch.setattr(os, "fchmod", fail)
    monkeypatch.setattr(fcntl, "flock", fail)
    files.replace(tmp_path / "a.txt", b"x")
    assert (tmp_path / "a.txt").read_bytes() == b"x"


def test_links_at_the_temporary_name_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").write_bytes(b"kept")
    (tmp_path / LEFT).symlink_to(tmp_path / "victim")
    monkeypatch.setattr("secrets.token_hex", lambda count: LEFT[11:-4])
    with pytest.raises(UserError, match="File exists"):
        files.replace(tmp_path / "a.txt", b"x")
    assert (tmp_path / "victim").read_bytes() == b"kept"


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / LEFT).write_bytes(b"of a killed process")
    (tmp_path / ".other.tmp").write_bytes(b"of another program")
    with files.replacing(tmp_path / "a") as file:
        file.write(b"a")
        files.replace(tmp_path / "b", b"b")  # as another process would
        assert len(os.listdir(tmp_path)) == 3
    assert sorted(os.listdir(tmp_path)) == [".other.tmp", "a", "b"]
    assert (tmp_path / "a").read_bytes() == b"a"


def test_file_taken_for_a_leftover_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = fcntl.flock, []

    def late(number: int, how: int) -> None:
        if not removed:
            removed.append(number)
            files.remove_leftovers(tmp_path)
            assert not os.listdir(tmp_path)
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", late)
    files.replace(tmp_path / "a", b"a")
    assert removed and (tmp_path / "a").read_bytes() == b"a"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, problem in (
            ("pipe", "not a regular file"),
            ("link", "not a regular file"),
            ("socket", "not a regular file"),
            ("/dev/zero", "not a regular file"),
            ("", "it is a folder"),
            ("loop", "symbolic links"),
            ("none", "no such file"),
            ("x" * 300, "File name too long"),
        ):
            with pytest.raises(DataError, match=f"{re.escape(name)}.*: .*{problem}"):
                files.read_bytes(tmp_path / name, 10)
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "other").symlink_to(tmp_path / "file")
    assert files.read_bytes(tmp_path / "other", 10) == b"0123456789"
    with pytest.raises(DataError, match=r"file: has more than 9 bytes"):
        files.read_bytes(tmp_path / "file", 9)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"\xff", b"NaN", b"[1, -Infinity]", b"1e999", b"9" * 5000),
        *(b"[" * 100_000, b"[" * 70 + b"]" * 70, b'{"a":' * 990 + b"1" + b"}" * 990),
    ],
)
def test_damaged_json(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(NetError, match=r"a\.json: damaged") as error:
        files.read_json(tmp_path / "a.json", NetError)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "text", [b"[", b"\xff", b"a = " + b"[" * 5000, b"a = [[" + b"[" * 70 + b"]" * 72]
)
def test_damaged_toml(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(DataError, match=r"a\.toml: damaged"):
        files.read_toml(tmp_path / "a.toml")


def test_json_and_toml(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "é", null]}')
    assert files.read_json(tmp_path / "a.json") == {"a": [1, 2.5, "é", None]}
    for text, value in (("24", 24), ("null", None), ('"abc"', "abc")):
        assert files.parse_json(text, "a") == value
    (tmp_path / "a.toml").write_text("[a]\nb = 'é'")
    assert files.read_toml(tmp_path / "a.toml") == {"a": {"b": "é"}}


def test_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert files.expanded("~/a") == Path("/home/x/a")
    with pytest.raises(UserError, match="~nosuchuser/x: there is no user nosuchuser"):
        files.expanded("~nosuchuser/x")
    with pytest.raises(UserError, match="null character"):
        files.expanded("a\0b")


def test_targets_are_no_inputs(tmp_path: Path) -> None:
    image, folder = tmp_path / "a.png", tmp_path / "photos"
    folder.mkdir()
    image.write_bytes(b"x")
    (folder / "b.png").write_bytes(b"x")
    (folder / "p.csv").write_bytes(b"x")
    (tmp_path / "link").symlink_to(image)
    os.link(image, tmp_path / "hard")
    for target in (image, tmp_path / "link", tmp_path / "hard", folder / "b.png", folder):
        with pytest.raises(UserError, match=r"figure .*: is one of the inputs; expected another"):
            files.check_targets({"figure": target}, [image, folder])
    with pytest.raises(UserError, match="a and b are both"):
        files.check_targets({"a": tmp_path / "n", "b": tmp_path / "photos" / ".." / "n"}, [])
    wanted = {"figure": tmp_path / "c.png", "csv": folder / "p.csv", "new": folder / "n.png"}
    files.check_targets(wanted | {"none": None}, [image, folder])


def test_lock_keeps_others_out(tmp_path: Path) -> None:
    with files.locked(tmp_path):
        other = files.locked(tmp_path)
        with pytest.raises(UserError, match="another process is writing to it"):
            other.__enter__()
        assert os.listdir(tmp_path) == [files.LOCK]
    assert not os.listdir(tmp_path)
    (tmp_path / files.LOCK).write_bytes(b"")  # of a killed process
    with files.locked(tmp_path):
        pass
    assert not os.listdir(tmp_path)


def test_lock_of_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / files.LOCK).symlink_to(tmp_path / "victim")
    lock = files.locked(tmp_path)
    with pytest.raises(UserError, match=r"output folder .*: cannot be written"):
        lock.__enter__()
    assert not (tmp_path / "victim").exists()


def test_lock_that_was_removed_before_it_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, calls = tmp_path / files.LOCK, fcntl.flock, []

    def late(number: int, how: int) -> None:
        if not calls:  # its last owner ends between the opening and the locking
            path.unlink()
        calls.append(how)
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with files.locked(tmp_path):
        assert path.exists() and len(calls) == 2


def test_folder_whose_new_files_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    with pytest.raises(MachineError, match=r"a\.txt: cannot be written: new files are removed"):
        files.replace(tmp_path / "a.txt", b"x")


@pytest.mark.parametrize(("text", "value"), [("null", None), ("7", 7), ('"a"', "a")])
def test_json_without_any_list_is_a_value(text: str, value: object) -> None:
    assert files.parse_json(text, "a") == value
