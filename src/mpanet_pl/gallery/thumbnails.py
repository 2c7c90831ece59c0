"""Thumbnails of a gallery's rows: those that were shown lately are kept, until the gallery or their files change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mpanet_pl.gallery.store import Gallery
from mpanet_pl.gallery.uploads import Decoder

BOX = (192, 384)  # at most, width and height
MOST = 2048  # that are kept, 60 MB at most
Key = tuple[str | int, ...]  # a path, and what says that its file is another


class Thumbnails:
    def __init__(self, decoder: Decoder, most: int = MOST) -> None:
        self.decoder, self.most = decoder, most
        self._generation, self._kept = "", dict[Key, bytes]()

    async def of(self, client: str, gallery: Gallery, paths: Sequence[str]) -> list[bytes | None]:
        """JPEGs; None where there is no picture."""
        if gallery.generation != self._generation:  # whoever was forgotten leaves the memory, too
            self._generation, self._kept = gallery.generation, {}
        kept = self._kept
        keys = await asyncio.to_thread(_keys, gallery.root, paths)
        found: dict[Key, bytes | None] = {key: kept.pop(key) for key in dict.fromkeys(keys) if key in kept}
        kept |= {key: made for key, made in found.items() if made}  # now the latest
        new = [key for key in dict.fromkeys(keys) if key not in found]
        made = await self.decoder.thumbnails(client, gallery.root, [str(path) for path, *_ in new], BOX)
        found |= zip(new, made, strict=True)
        kept |= {key: jpeg for key, jpeg in zip(new, made, strict=True) if jpeg}
        while len(kept) > self.most:
            del kept[next(iter(kept))]
        return [found[key] for key in keys]


def _keys(root: Path, paths: Sequence[str]) -> list[Key]:
    keys: list[Key] = []
    for path in paths:
        try:
            stat = (root / path).stat()
            keys.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except (OSError, ValueError):  # nor will it be opened
            keys.append((path,))
    return keys
