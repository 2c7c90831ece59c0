"""Digests: the same whatever the order, others where anything that is asked differs."""

import pytest
import torch
from evaluation import made

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.fingerprint import images_digest
from mpanet_pl.evaluation import FolderProtocol, evaluate
from mpanet_pl.evaluation.digests import digest, digest_of


def test_what_was_met_does_not_depend_on_the_order_of_images() -> None:
    embeddings, catalogue = made.small(3)
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(0))
    one = evaluate(embeddings, catalogue, FolderProtocol())
    other = evaluate(embeddings[order], catalogue[order], FolderProtocol())
    assert {setting: scores.met for setting, scores in one.items()} == {
        setting: scores.met for setting, scores in other.items()
    }


def test_one_gallery_image_fewer_is_another_gallery() -> None:
    embeddings, catalogue = made.small(3)
    keep = torch.ones(len(catalogue), dtype=torch.bool)
    keep[(~catalogue.infrared).nonzero()[0]] = False
    one = evaluate(embeddings, catalogue, FolderProtocol())["infrared_to_visible"].met
    other = evaluate(embeddings[keep], catalogue[keep], FolderProtocol())["infrared_to_visible"].met
    assert one
    assert other
    assert (one.queries, one.people) == (other.queries, other.people)
    assert one.galleries != other.galleries


def test_other_people_under_the_same_names_are_others() -> None:
    embeddings, catalogue = made.small(3)
    renamed = Catalogue(catalogue.paths, catalogue.identities + 1, catalogue.cameras, catalogue.infrared)
    one, other = (evaluate(embeddings, of, FolderProtocol())["infrared_to_visible"].met for of in (catalogue, renamed))
    assert one
    assert other
    assert one.people != other.people
    assert one.queries != other.queries


def test_names_that_are_no_text_have_digests_of_their_own() -> None:
    """As a file system gives them that was written in another encoding."""
    assert digest([b"\xfe.jpg".decode(errors="surrogateescape")]) != digest(["\udcff.jpg"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_networks_digest_is_of_its_numbers(dtype: torch.dtype) -> None:
    weight = (torch.arange(24).view(2, 3, 2, 2) % 5).to(dtype)
    one = digest_of([weight, torch.tensor(3)])
    assert digest_of([weight.to(memory_format=torch.channels_last).clone(), torch.tensor(3)]) == one
    changed = weight.clone()
    changed[1, 2, 1, 1] = 0 if changed[1, 2, 1, 1] else 1
    assert digest_of([changed, torch.tensor(3)]) != one
    assert digest_of([weight, torch.tensor(4)]) != one
    assert digest_of([weight.view(6, 4), torch.tensor(3)]) != one


def test_images_are_told_by_their_content(tmp_path) -> None:
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    one = images_digest(tmp_path, names)
    assert one == images_digest(tmp_path, names[::-1])
    (tmp_path / "3.png").write_bytes(b"4.png")
    assert images_digest(tmp_path, names) not in (one, None)
    assert images_digest(tmp_path, [*names, "absent.png"]) is None
