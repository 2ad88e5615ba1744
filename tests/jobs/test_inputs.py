"""What a job takes as input, in bounded memory: directories, patterns, lists of paths, tar files, shards."""

from __future__ import annotations

import io
import itertools
import os
import sys
import tarfile
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from detr_onnx.errors import DatasetError, DetrError, ImageError, UsageError
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.files import find_images
from detr_onnx.jobs.inputs import Inputs
from detr_onnx.jobs.manifests import MAX_LINE_BYTES
from detr_onnx.jobs.seen import open_seen
from detr_onnx.jobs.shard import Shard
from tests.small_model import sample_image

FLAT_BYTES = 1 << 20  # 100,000 names would take 10 MB; the pages of SQLite are not counted


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*arguments: str, shard: Shard | None = None) -> list[str]:
    """The paths of the inputs that are new."""
    with open_seen() as seen:
        return [item.path for item in Inputs(arguments, shard).read(seen.add)]


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def jpeg() -> bytes:
    file = io.BytesIO()
    sample_image(40, 30).save(file, "JPEG")
    return file.getvalue()


def write_tar(path: str, members: dict[str, bytes], mode: str = "w") -> bytes:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Path(path).read_bytes()


# Directories and patterns


def test_a_directory_and_a_pattern_give_what_detect_finds(here):
    touch("a/1.jpg", "a/b/2.PNG", "a/b/notes.txt", "a/.hidden/3.jpg", "a/.4.jpg", "a/__MACOSX/5.jpg", "a/c d/6.webp")
    for argument in ("a", "a/", "./a", str(here / "a"), "a/*.jpg", "a/**/*.*", "**", "a/*/*"):
        expected, errors = find_images([argument])
        assert not errors
        assert sorted(paths(argument)) == sorted(image.name for image in expected), argument


def test_the_current_directory_gives_names_without_a_dot(here):
    touch("1.jpg", "a/2.jpg")
    assert sorted(paths(".")) == ["1.jpg", "a/2.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_within_a_directory_are_left_out_and_those_that_lead_out_of_it_are_followed(here):
    touch("a/1.jpg", "a/b/2.jpg", "other/3.jpg", "other/more/4.jpg")
    Path("a/link.jpg").symlink_to("1.jpg")
    Path("a/out.jpg").symlink_to(here / "other" / "3.jpg")
    Path("a/loop").symlink_to(here / "a")
    Path("a/more").symlink_to(here / "other" / "more")
    assert sorted(paths("a")) == ["a/1.jpg", "a/b/2.jpg", "a/more/4.jpg", "a/out.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_images_that_are_hidden_or_have_no_suffix_are_followed(here):
    touch("a/.git/annex/1.jpg", "a/blobs/2f0c")
    Path("a/1.jpg").symlink_to(".git/annex/1.jpg")
    Path("a/2.jpg").symlink_to("blobs/2f0c")
    assert sorted(paths("a")) == sorted(image.name for image in find_images(["a"])[0]) == ["a/1.jpg", "a/2.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_nowhere_is_an_input_so_that_its_row_says_so(here):
    touch("a/1.jpg")
    Path("a/2.jpg").symlink_to("gone.jpg")
    assert sorted(paths("a")) == ["a/1.jpg", "a/2.jpg"]


def test_a_directory_that_is_called_like_an_image_is_not_an_input(here):
    touch("a/1.jpg", "a/album.jpg/2.jpg")
    assert sorted(paths("a")) == ["a/1.jpg", "a/album.jpg/2.jpg"]


@pytest.mark.parametrize("argument", ["a", "a/*.jpg", "@list.txt"])
def test_an_argument_without_images_is_one_error(here, argument):
    touch("a/notes.txt", "list.txt")
    inputs = Inputs([argument])
    assert list(inputs.read(lambda name: True)) == []
    assert [type(problem) for problem in inputs.problems] == [DatasetError if argument[0] == "@" else ImageError]
    assert argument.lstrip("@") in str(inputs.problems[0])


def test_a_path_is_read_once_however_often_it_is_named(here):
    touch("a/1.jpg", "a/2.jpg")
    Path("list.txt").write_text("a/1.jpg\na/3.jpg\na/3.jpg\n")
    assert paths("a", "a/1.jpg", "a/*.jpg", "@list.txt") == ["a/1.jpg", "a/2.jpg", "a/3.jpg"]


def test_stdin_as_an_image_is_refused():
    with pytest.raises(UsageError, match="use @- for a list of paths"):
        Inputs(["-"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are not UTF-8")
def test_a_name_that_is_not_utf8_has_a_printable_path_and_can_still_be_read(here):
    name = os.fsdecode(b"caf\xe9.jpg")
    Path(name).write_bytes(jpeg())
    with open_seen() as seen:
        (item,) = Inputs(["."]).read(seen.add)
    assert (item.path, item.source) == ("caf\\xe9.jpg", name)


# Lists


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        (b'"new\\nline.jpg"\n#1.jpg\n@2.jpg\n*.jpg\n', ["new\nline.jpg", "#1.jpg", "@2.jpg", "*.jpg"]),
        (b"new\nline.jpg\0b.jpg\0", ["new\nline.jpg", "b.jpg"]),
        (b'"quoted".jpg\0b.jpg', ['"quoted".jpg', "b.jpg"]),
    ],
)
def test_a_list_has_a_path_a_line_a_json_string_or_nul_bytes(here, content, expected):
    Path("list.txt").write_bytes(content)
    assert paths("@list.txt") == expected


def test_a_list_comes_from_stdin(here, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\nb.jpg\n")))
    assert paths("@-") == ["a.jpg", "b.jpg"]
    assert Inputs(["@-"]).count() is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_nul_bytes_are_found_though_a_slow_pipe_has_not_written_the_first_yet(here, monkeypatch):
    class Slow(io.RawIOBase):
        pieces: ClassVar = [b"", b"c.jpg\0", b"g\0b\nb.jpg\0", b"a.jp"]

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            piece = self.pieces.pop() if self.pieces else b""
            buffer[: len(piece)] = piece
            return len(piece)

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(Slow())))
    assert paths("@-") == ["a.jpg", "b\nb.jpg", "c.jpg"]


def test_a_list_that_comes_from_a_pipe_is_read_once_and_its_writer_is_not_cut_off(here):
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_text, args=("a.jpg\nb.jpg\n",), daemon=True)
    writer.start()
    inputs = Inputs(["@pipe"])
    assert inputs.count() is None
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(i.path for i in inputs.read(lambda _: True)), daemon=True)
    reader.start()
    reader.join(20)
    assert found == ["a.jpg", "b.jpg"]


def test_an_argument_that_is_only_an_at_sign_names_no_list():
    with pytest.raises(
        DatasetError, match=r"^@ names no list of paths: expected a file, such as @list\.txt, or @- for"
    ):
        Inputs(["@"])


@pytest.mark.skipif(sys.platform == "win32", reason="names there may have half a character")
def test_a_path_with_half_a_character_is_an_input_that_cannot_be_read(here):
    Path("list.txt").write_text('"\\ud800.jpg"\n')
    ((path, source),) = [(item.path, item.source) for item in Inputs(["@list.txt"]).read(lambda _: True)]
    assert path == "\\ud800.jpg"
    with pytest.raises(ImageError, match="cannot read "):
        read_rgb(source, name=path)


def test_ndjson_has_paths_or_objects(here):
    Path("list.ndjson").write_text('"a.jpg"\n{"path": "b.jpg", "error": null}\n')
    Path("other.jsonl").write_text('{"file": "c.jpg"}\n')
    assert paths("@list.ndjson", "@other.jsonl:file") == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_list_in_parquet_is_a_column(here):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    names = ["a.jpg", None, "new\nline.jpg"]
    encoded = pa.array(names).dictionary_encode()
    table = {"path": names, "n": [1, 2, 3], "file": encoded, "large": pa.array(names, pa.large_string())}
    pq.write_table(pa.table(table), "list.parquet")
    for column in ("", ":file", ":large"):
        assert paths(f"@list.parquet{column}") == ["a.jpg", "new\nline.jpg"]
    for column, found in (("nothing", "found the columns path, n, file, large"), ("n", "found the type int64")):
        with pytest.raises(DatasetError, match=f"{found}, expected a column '{column}' of texts"):
            Inputs([f"@list.parquet:{column}"])


def test_a_column_of_views_is_one_of_texts(here):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    try:
        pq.write_table(pa.table({"path": pa.array(["a.jpg"], pa.string_view())}), "list.parquet")
    except (AttributeError, NotImplementedError, pa.ArrowException):
        pytest.skip("this pyarrow does not write views")
    assert paths("@list.parquet") == ["a.jpg"]


def test_a_path_in_parquet_that_is_not_utf8_is_an_error(here):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"path": pa.array([b"caf\xe9.jpg"]).view(pa.string())}), "list.parquet")
    with pytest.raises(
        DatasetError, match=r"list\.parquet cannot be read: found b'caf\\xe9\.jpg' in the column 'path'"
    ):
        paths("@list.parquet")


@pytest.mark.parametrize("name", ["list.txt", "list.parquet"])
def test_a_list_that_is_missing_is_an_error_before_anything_is_read(here, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(DatasetError, match=f"the list {name} cannot be read: found [Nn]o such file"):
        Inputs([f"@{name}"])


def test_a_damaged_parquet_list_is_an_error(here):
    pytest.importorskip("pyarrow")
    Path("list.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DatasetError, match=r"the list list.parquet cannot be read: .*expected a Parquet file"):
        Inputs(["@list.parquet"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", b"x" * (MAX_LINE_BYTES + 1)),
        ("list.txt", b"\0" + b"x" * 3 * MAX_LINE_BYTES),
        ("list.txt", b'"a.jpg\n'),
        ("list.ndjson", b"a.jpg\n"),
        ("list.ndjson", b'{"file": "a.jpg"}\n'),
        ("list.ndjson", b"[1]\n"),
    ],
)
def test_what_is_not_a_list_is_an_error(here, name, content):
    Path(name).write_bytes(content)
    with pytest.raises(DatasetError, match=name):
        paths(f"@{name}")


def held(pattern: str) -> int:
    """Bytes that were allocated in files of these names and are held; other threads of the process may hold more."""
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, pattern)])
    return sum(statistic.size for statistic in snapshot.statistics("filename"))


def test_a_hundred_thousand_names_take_no_more_memory_than_ten_thousand(here):
    with Path("list.txt").open("w") as file:
        file.writelines(f"/data/photographs/{number:012d}.jpg\n" for number in range(120_000))
    with open_seen() as seen:
        items = Inputs(["@list.txt"]).read(seen.add)
        tracemalloc.start()
        try:
            for _ in itertools.islice(items, 10_000):
                pass
            early = held("*/detr_onnx/*")
            for _ in itertools.islice(items, 100_000):
                pass
            late = held("*/detr_onnx/*")
        finally:
            tracemalloc.stop()
    assert late - early < FLAT_BYTES


# Tar files


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_the_images_of_a_tar_file_are_inputs(here, suffix, mode):
    image = jpeg()
    members = {"a/1.jpg": image, "a/1.json": b"{}", "a/._1.jpg": b"x", "2.png": b"broken", "a/1.jpg ": b"x"}
    write_tar(f"shard{suffix}", members, mode)
    with open_seen() as seen:
        items = list(Inputs([f"shard{suffix}"]).read(seen.add))
    assert [(item.path, item.source) for item in items] == [
        (f"shard{suffix}/a/1.jpg", image),
        (f"shard{suffix}/2.png", b"broken"),
    ]


def test_tar_files_match_patterns_and_lists_and_members_that_are_done_are_not_read(here):
    write_tar("s-0.tar", {"1.jpg": jpeg(), "2.jpg": jpeg()})
    write_tar("s-1.tar", {"1.jpg": jpeg()})
    Path("list.txt").write_text("s-0.tar\ns-1.tar\n")
    every = ["s-0.tar/1.jpg", "s-0.tar/2.jpg", "s-1.tar/1.jpg"]
    assert sorted(paths("*.tar")) == paths("@list.txt") == every
    assert [item.path for item in Inputs(["@list.txt"]).read(lambda name: name.endswith("2.jpg"))] == every[1:2]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_file_that_is_cut_short_gives_what_it_has_and_an_error(here, mode):
    whole = write_tar("cut.tar", {f"{n}.jpg": os.urandom(5000) for n in range(10)}, mode)
    for length in (len(whole) // 2, len(whole) * 3 // 4 // 512 * 512, 45_000):
        Path("cut.tar").write_bytes(whole[:length])
        with open_seen() as seen:
            *images, last = Inputs(["cut.tar"]).read(seen.add)
        assert images
        assert last.path == "cut.tar"
        assert "cut.tar is damaged or cut short after" in str(last.source)


@pytest.mark.parametrize("content", [b"", b"x" * 2000, None])
def test_a_tar_file_that_cannot_be_read_is_one_input_with_an_error(here, content):
    if content is not None:
        Path("bad.tar").write_bytes(content)
    with open_seen() as seen:
        (item,) = Inputs(["bad.tar"]).read(seen.add)
    assert isinstance(item.source, DetrError)
    assert "cannot read bad.tar" in str(item.source)
    assert [*Inputs(["bad.tar"]).read(lambda name: False)] == []  # it has a row already


def test_tarfile_does_not_keep_the_members_of_a_tar_file(here):
    write_tar("many.tar", {f"{number:06d}.jpg": b"" for number in range(5000)})
    items = Inputs(["many.tar"]).read(lambda name: True)
    tracemalloc.start()
    try:
        assert sum(1 for _ in itertools.islice(items, 1000)) == 1000
        early = held(tarfile.__file__)
        assert sum(1 for _ in itertools.islice(items, 3900)) == 3900
        late = held(tarfile.__file__)
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in items) == 100
    assert early > 0
    assert late - early < FLAT_BYTES / 2  # a TarInfo has 500 bytes or more


# Shards


@pytest.mark.parametrize("text", ["5/4", "4/4", "0/0", "", "3", "-1/4", "1/-4", "1.5/4", "a/b", "1/4/2", "9999999/1"])
def test_an_impossible_shard_is_refused(text):
    with pytest.raises(UsageError, match="--shard is wrong: found"):
        Shard.parse(text)


def test_shards_share_the_names_without_agreeing_on_an_order():
    names = [f"photos/{number}.jpg" for number in range(6400)]
    shares = [{name for name in names if Shard.parse(f"{index}/64").holds(name)} for index in range(64)]
    assert sum(map(len, shares)) == len(set().union(*shares)) == len(names)
    assert min(map(len, shares)) > 50


def test_the_share_of_a_name_never_changes():
    held = [index for index in range(64) if Shard(index, 64).holds("photos/street.jpg")]
    assert held == [SHARE_OF_STREET]


SHARE_OF_STREET = 13  # another value would make a job that was cut off detect again what other shards have


def test_the_images_of_a_tar_file_stay_together(here):
    for number in range(12):
        write_tar(f"{number}.tar", {f"{n}.jpg": b"x" for n in range(3)})
    shares = [paths("*.tar", shard=Shard(index, 3)) for index in range(3)]
    assert sorted(itertools.chain(*shares)) == sorted(f"{number}.tar/{n}.jpg" for number in range(12) for n in range(3))
    assert all(len({path.split("/")[0] for path in share}) * 3 == len(share) for share in shares)


def test_the_count_is_that_of_the_shard(here):
    touch(*(f"a/{number}.jpg" for number in range(50)))
    counts = [Inputs(["a"], Shard(index, 4)).count() for index in range(4)]
    assert sum(counts) == 50
    assert counts == [len(paths("a", shard=Shard(index, 4))) for index in range(4)]
    write_tar("s.tar", {"1.jpg": b"x"})
    assert Inputs(["a", "s.tar"]).count() is None


def test_a_parquet_list_needs_pyarrow(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DetrError, match=r"Parquet needs the package pyarrow; run pip install 'detr-onnx\[parquet\]'"):
        Inputs(["@list.parquet"])
