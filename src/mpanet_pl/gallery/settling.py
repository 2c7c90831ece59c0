"""A request to forget, from what was typed to the places that hold copies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.copies import Copy, copies_of
from mpanet_pl.gallery.forgetting import NAMED, Forgotten, moment
from mpanet_pl.gallery.image_table import lines_of
from mpanet_pl.gallery.known import limit_of
from mpanet_pl.gallery.searching import open_queries
from mpanet_pl.gallery.store import Gallery


def whom_of(gallery: Gallery, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `forget` that the command's keys mean."""
    asked: dict[str, Any] = {name: list(cfg[name]) for name in NAMED}
    if cfg["path_list"] is not None:
        asked["path"] += lines_of(Path(cfg["path_list"]))
    if cfg["older_than"] is not None and cfg["before"] is not None:
        raise UserError("Give before or older_than, not both.")
    asked["before"] = cfg["before"] if cfg["older_than"] is None else moment(gallery, str(cfg["older_than"]))
    if cfg["like"] is not None:
        limit = limit_of(gallery, cfg["threshold"])
        if limit is None:
            raise UserError(f"{gallery.folder} has no threshold of its own: say from which cosine on, threshold=0.7.")
        with open_queries(gallery, cfg["like"], ckpt=cfg["ckpt"], device=cfg["device"], trust=cfg["trust"]) as queries:
            found = resembling(gallery, queries.vectors, limit)
        if not found:
            raise UserError(f"No row of {gallery.folder} reaches a cosine of {limit:.3f} with {cfg['like']}.")
        asked["path"] += found
    return asked


def resembling(gallery: Gallery, vectors: torch.Tensor, limit: float) -> list[str]:
    """The rows whose cosine with one of these vectors (Q, D) is at least `limit`."""
    found: list[str] = []
    for block in gallery.blocks(("path",)):
        near = (torch.from_numpy(block.vectors).float() @ vectors.T).amax(1) >= limit
        found += block.columns.filter(near.numpy())["path"].to_pylist()
    return found


def settled(folder: Path, cfg: Mapping[str, Any], done: Forgotten | None) -> tuple[list[str], list[str]]:
    """What copies were made to forget, and which still hold the people: a sentence each.

    Only what this user filled on this machine, or names now, is connected to.
    """
    copies = copies_of(folder)
    if not copies and cfg["uri"] is None:
        return [], []
    from mpanet_pl.gallery.milvus import copy_at, drop_holding, settle, still_in

    named = None if cfg["uri"] is None else copy_at(cfg["uri"], cfg["collection"], cfg["index"])
    gallery = Gallery(folder)
    mine = [copy for copy in copies if copy.is_of(folder) and copy.owed and _may(copy, named)]
    faults = settle(gallery, mine, token=cfg["uri_token"])
    told = [f"{copy.uri} holds them no more." for copy in mine if copy.uri not in faults]
    failed = [f"{uri} still holds them: {reason}." for uri, reason in faults.items()]
    failed += [
        f"{copy.uri} still holds them: this gallery's copies.json names it, but it was not filled by you on this "
        f"machine, so nothing was sent there; with uri={copy.uri} it forgets them."
        for copy in copies
        if copy.is_of(folder) and copy.owed and not _may(copy, named)
    ]
    if done is None:
        return told, failed
    if named is not None and named.where not in [copy.where for copy in copies]:
        dropped = drop_holding(named, done.paths, token=cfg["uri_token"])
        told += [
            f"{named.uri}: the collection {name} held them and is gone; its gallery fills it anew." for name in dropped
        ]
        mine.append(named)
    for copy in mine:
        if copy.uri not in faults and (files := still_in(copy.uri, done.vectors)):
            failed.append(f"{copy.uri} still holds them: their vectors stand in {', '.join(map(str, files))}.")
    return told, failed


def _may(copy: Copy, named: Copy | None) -> bool:
    return copy.own or (named is not None and copy.where == named.where)
