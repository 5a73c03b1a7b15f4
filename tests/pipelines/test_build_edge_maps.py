"""From photos to edge maps, again where it stopped, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from aopsam.photos.decode import Photo, open_photo
from pipelines import build_edge_maps
from stages.edge_maps.files import read_edge_maps
from tests.helpers.in_process import WorkerDeath, without_ray
from tests.helpers.made_edges import save_random_hed
from tests.helpers.made_shard import jpeg, two_objects, write_shard


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    without_ray(monkeypatch)
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(1, (96, 128)), two_objects())})
    hed = save_random_hed(tmp_path / "hed.safetensors")
    return ["--data", str(shard), "--hed", str(hed), "--out", str(tmp_path / "out")]


def test_the_same_command_again_finds_the_edges_of_new_photos_alone(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_edge_maps.main(command) == 0
    assert "1 edge maps more in" in capsys.readouterr().out
    assert (tmp_path / "out/sheet.png").read_bytes().startswith(b"\x89PNG")
    files = set((tmp_path / "out").glob("*.parquet"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/b.jpg").write_bytes(jpeg(2, (96, 128)))
    (tmp_path / "photos/broken.jpg").write_bytes(b"no photo")
    assert build_edge_maps.main([*command, "--unlabelled", str(tmp_path / "photos")]) == 0
    printed = capsys.readouterr()
    assert "1 edge maps more in" in printed.out
    assert "left out: broken.jpg: not_an_image" in printed.err
    assert files < set((tmp_path / "out").glob("*.parquet"))
    assert len(read_edge_maps(str(tmp_path / "out"))) == 2


def test_a_photo_that_ends_its_worker_costs_itself(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("b", "killer", "c"), 2):
        (tmp_path / f"photos/{name}.jpg").write_bytes(jpeg(seed, (96, 128)))
    killer = jpeg(3, (96, 128))

    def open_or_die(data: bytes) -> Photo:
        if data == killer:
            raise WorkerDeath
        return open_photo(data)

    monkeypatch.setattr("stages.edge_maps.actor.open_photo", open_or_die)
    more = [*command, "--unlabelled", str(tmp_path / "photos")]
    assert build_edge_maps.main([*more, "--max-failed", "0.2"]) == 3
    assert "left out: killer.jpg: worker_died: " in capsys.readouterr().err
    assert len(read_edge_maps(str(tmp_path / "out"))) == 3


def test_what_cannot_be_used_ends_in_a_line(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    for wrong, said in (
        (command[2:], "needs photos: --data, --unlabelled or both"),
        ([*command, "--data", str(tmp_path / "none")], "no shard"),
        ([*command, "--unlabelled", str(tmp_path / "none")], "none"),
        ([*command, "--hed", str(tmp_path / "junk.safetensors")], "junk.safetensors"),
        ([*command, "--hed", str(tmp_path / "none.safetensors")], "none.safetensors"),
    ):
        assert build_edge_maps.main(wrong) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("build_edge_maps: ")
        assert said in line
    write_shard(tmp_path / "s.tar", {"a": (b"no photo", two_objects())})
    assert build_edge_maps.main(command) == 3
    assert "no photo could be used" in capsys.readouterr().err
