"""The manifest: any changed bit is named; whoever kills a writer, at any moment, leaves an archive that holds."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from pimllm_lib.archive import attested, manifest, verify
from pimllm_lib.core import files, paths

pytestmark = pytest.mark.adversity
OLD = {"a.nc": b"old a", "results/b.nc": b"old b" * 1000}
NEW = {"a.nc": b"new a", "results/b.nc": b"new b" * 2000, "results/c.nc": b"new c"}


def holds(folder):
    """Return whether an archive is as its manifest says, each file in its old or its new state."""
    assert manifest.damage(folder) == []
    for name in NEW:
        content = (folder / name).read_bytes() if (folder / name).exists() else None
        assert content in (OLD.get(name), NEW[name])
    return True


def in_a_child(work):
    """Run some work in a process of its own and return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_what_is_published_is_listed_with_size_and_hash(tmp_path):
    manifest.publish(tmp_path, OLD)
    listed = manifest.load(tmp_path)
    assert listed == {name: {"bytes": len(data), "sha256": files.hash_of(data)} for name, data in OLD.items()}
    assert manifest.damage(tmp_path) == []
    before = (tmp_path / manifest.NAME).read_bytes()
    manifest.publish(tmp_path, OLD)
    assert (tmp_path / manifest.NAME).read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_writer_that_dies_at_any_of_its_steps_leaves_an_archive_that_holds(tmp_path, monkeypatch):
    """The process ends, without a word, just before each of its calls that change the disk."""
    calls = {name: getattr(os, name) for name in ("replace", "fsync", "unlink")}
    for step in range(100):
        folder = tmp_path / str(step)
        manifest.publish(folder, OLD)
        left = [step]

        def dying(name, left=left):
            def call(*args, **keywords):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return calls[name](*args, **keywords)

            return call

        def work(folder=folder):
            for name in calls:
                setattr(os, name, dying(name))
            manifest.publish(folder, NEW)

        _, status = os.waitpid(in_a_child(work), 0)
        assert holds(folder)
        manifest.publish(folder, NEW)
        assert {name: (folder / name).read_bytes() for name in NEW} == NEW
        assert not [path for path in folder.rglob(".*") if path.name != files.LOCK]
        if os.waitstatus_to_exitcode(status) == 0:
            break
    assert 10 < step < 99  # every step was the last one of some process


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_hundred_writers_killed_at_random_moments_leave_an_archive_that_holds(tmp_path):
    manifest.publish(tmp_path, OLD)

    def work():
        while True:
            manifest.publish(tmp_path, NEW)
            manifest.publish(tmp_path, {**NEW, **OLD})

    choose = random.Random(6)
    for _ in range(100):
        pid = in_a_child(work)
        time.sleep(choose.uniform(0.001, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert holds(tmp_path)
    manifest.publish(tmp_path, NEW)
    assert {name: (tmp_path / name).read_bytes() for name in NEW} == NEW


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_writers_at_once_leave_the_whole_work_of_both(tmp_path):
    pids = [
        in_a_child(lambda i=i: [manifest.publish(tmp_path, {f"{i}.nc": bytes([n])}) for n in range(20)])
        for i in range(4)
    ]
    for pid in pids:
        os.waitpid(pid, 0)
    assert manifest.damage(tmp_path) == []
    assert {path.read_bytes() for path in manifest.datasets(tmp_path)} == {bytes([19])}
    assert len(manifest.load(tmp_path)) == 4


def flip(path, choose):
    """Turn one bit of a file, and return what it was."""
    whole = path.read_bytes()
    bit = choose.randrange(8 * len(whole))
    path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
    return whole


@pytest.mark.slow
def test_any_flipped_bit_in_any_archived_file_is_found_and_named(tmp_path):
    """A manifest and a list of what is attested have digests of themselves, every other file has its own in the manifest."""
    shutil.copytree(paths.DATA, tmp_path / "data", ignore=shutil.ignore_patterns(files.LOCK))
    folder = tmp_path / "data"
    attested.add(folder, {"0" * 64: "0" * 16})  # so that the list has a digest, whoever wrote it before
    listed, choose, flipped = list(manifest.load(folder)), random.Random(200), 0
    while flipped < 300:
        for names in ([manifest.NAME], [attested.NAME], listed):
            whole = {name: flip(folder / name, choose) for name in names}
            problems = verify.verify(folder, recompute=False).problems
            assert len(problems) == len(names)
            assert all(any(f"{name} " in line for line in problems) for name in names)
            for name, content in whole.items():
                (folder / name).write_bytes(content)
            flipped += len(names)
    assert verify.verify(folder, recompute=False).problems == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_reader_is_not_alarmed_by_a_writer_at_work(tmp_path):
    manifest.publish(tmp_path, {"large.nc": bytes(3_000_000)})
    pid = in_a_child(lambda: [manifest.publish(tmp_path, {"z.nc": bytes([n])}) for n in range(60)])
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert manifest.damage(tmp_path) == []


def test_what_is_gone_leaves_the_manifest_of_a_whole_renewal_and_an_old_announcement_too(tmp_path):
    manifest.publish(tmp_path, OLD)
    before = (tmp_path / manifest.NAME).read_bytes()
    announced = manifest.load(tmp_path) | {"new.nc": {"next": manifest.entry(b"")}}
    (tmp_path / manifest.NAME).write_bytes(manifest.compose(announced))
    manifest.publish(tmp_path, OLD)
    assert (tmp_path / manifest.NAME).read_bytes() == before
    (tmp_path / "results/b.nc").unlink()
    manifest.publish(tmp_path, {"a.nc": OLD["a.nc"]}, whole=True)
    assert manifest.damage(tmp_path) == []


def test_a_damaged_manifest_is_not_taken_for_none(tmp_path):
    manifest.publish(tmp_path, OLD)
    (tmp_path / manifest.NAME).write_text("{}")
    with pytest.raises(ValueError, match="is not a manifest"):
        manifest.publish(tmp_path, NEW)
    assert (tmp_path / "a.nc").read_bytes() == OLD["a.nc"]


def test_a_manifest_that_was_edited_by_hand_is_refused(tmp_path):
    manifest.publish(tmp_path, OLD)
    content = json.loads((tmp_path / manifest.NAME).read_text())
    content["files"]["a.nc"]["bytes"] += 1
    (tmp_path / manifest.NAME).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is damaged: its digest does not fit"):
        manifest.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../../x", "C:x", "a\\..\\x", "", ".", "a//b", "a/./b", "a\0b", "a\nb"]
)
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    text = manifest.compose({name: manifest.entry(b"")})
    (tmp_path / manifest.NAME).write_bytes(text)
    with pytest.raises(ValueError, match="leaves its folder"):
        manifest.load(tmp_path)


def test_a_link_that_leaves_its_folder_is_refused(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "results").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leaves its folder"):
        manifest.publish(tmp_path / "archive", {"results/x.nc": b""})
    assert list((tmp_path / "secret").iterdir()) == []
