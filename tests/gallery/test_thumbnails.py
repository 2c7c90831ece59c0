"""Thumbnails that are kept: of files as they are now, of rows that the gallery has now."""

import asyncio
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gallery.made import made
from gallery.served import Here
from PIL import Image

from mpanet_pl.gallery.forgetting import forget
from mpanet_pl.gallery.store import Gallery, write_record
from mpanet_pl.gallery.thumbnails import Thumbnails


class Counting(Here):
    made = 0

    async def run(self, client: str, work: Callable[..., Any], *arguments: Any) -> Any:
        self.made += len(arguments[1])
        return await super().run(client, work, *arguments)


def test_a_thumbnail_is_made_once_and_of_the_file_that_is_there(tmp_path: Path) -> None:
    gallery, decoder = made(tmp_path / "g", 5), Counting()
    write_record(gallery.folder, gallery.record | {"root": str(tmp_path)})
    names = [f"{row}.png" for row in range(5)]
    for name in names[:3]:
        Image.new("RGB", (20, 40), "red").save(tmp_path / name)
    (tmp_path / "3.png").write_bytes(b"garbage")
    thumbnails = Thumbnails(decoder, most=2)

    def shown(*names: str) -> list[str | None]:
        jpegs = asyncio.run(thumbnails.of("a", Gallery(gallery.folder), names))
        colours = [jpeg and Image.open(io.BytesIO(jpeg)).resize((1, 1)).getpixel((0, 0)) for jpeg in jpegs]
        return [colour and "rgb"[colour.index(max(colour))] for colour in colours]

    assert (shown("0.png", "1.png", "0.png", "3.png", "4.png"), decoder.made) == (["r", "r", "r", None, None], 4)
    assert (shown("1.png", "0.png", "1.png"), decoder.made) == (["r", "r", "r"], 4)
    Image.new("RGB", (20, 40), "blue").save(tmp_path / "0.png")
    assert (shown("0.png", "1.png"), decoder.made) == (["b", "r"], 5)
    (tmp_path / "1.png").unlink()
    assert (shown("0.png", "1.png", "2.png"), decoder.made) == (["b", None, "r"], 7)
    forget(gallery.folder, path=["2.png"])
    assert shown("0.png") == ["b"]
    assert [key[0] for key in thumbnails._kept] == ["0.png"], "the forgotten leave the memory"


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: Any) -> None:
    made(tmp_path / "g", 6)
    forget(tmp_path / "g", path=["1.png"])  # it has a list of shards now
    gallery, reads = Gallery(tmp_path / "g"), []
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *given, **words: reads.append(path) or read(path, *given, **words)
    )
    assert (gallery.current, reads) == (True, [])
    manifest = tmp_path / "g/manifest.json"
    stat = manifest.stat()
    text = read(manifest)
    (tmp_path / "aside").write_text(text.replace("part-000001", "part-000009"))
    os.utime(tmp_path / "aside", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as large, and of the same time
    os.replace(tmp_path / "aside", manifest)
    assert (gallery.current, bool(reads)) == (False, True)
    (tmp_path / "aside").write_text(text)
    os.replace(tmp_path / "aside", manifest)
    assert gallery.current, "it has the same rows again"
