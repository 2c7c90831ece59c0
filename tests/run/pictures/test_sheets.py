"""Sheets of images: contact sheets, rank lists, pattern maps. Their pixels are looked at where they carry meaning."""

import math

import pytest
import torch
from PIL import Image, ImageColor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import evaluate
from mpanet_pl.evaluation.protocols import FolderProtocol, LLCMProtocol, RegDBProtocol, SYSUProtocol
from mpanet_pl.run.pictures.pattern_maps import BOX, draw_patterns
from mpanet_pl.run.pictures.rank_list import RIGHT, WRONG, RankList, _note, best_ranked, draw_rank_list
from mpanet_pl.system.sheet import GAP, LINE, NOTE_LINE, TILE_HEIGHT

WIDTH = TILE_HEIGHT // 2  # of a tile of a 16×8 image
FIRST, HEAD = GAP, LINE + GAP  # where a sheet with titles has its first tile
STEP, APART = WIDTH + GAP, 2 * GAP


def grey(count, level=100):
    return torch.full((count, 3, 16, 8), level, dtype=torch.uint8)


def pixels(path):
    with Image.open(path) as picture:
        return picture.convert("RGB")


CATALOGUE = Catalogue.from_rows(
    [
        (f"{modality}/{identity:04d}_c{camera}_{number}.png", identity, camera, modality == "infrared")
        for identity in range(1, 7)
        for modality, cameras in (("visible", (1, 2, 4, 5)), ("infrared", (3, 6)))
        for camera in cameras
        for number in range(2)
    ]
)
PROTOCOLS = [SYSUProtocol(trials=1), RegDBProtocol(), LLCMProtocol(trials=1), FolderProtocol(same_camera=True)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: type(protocol).__name__)
def test_places_are_the_most_similar_that_may_meet(protocol):
    embeddings = torch.randn(len(CATALOGUE), 5, generator=torch.Generator().manual_seed(2))
    ranks = best_ranked(embeddings, CATALOGUE, protocol, queries=4, places=6)
    search = protocol.searches(CATALOGUE)[0]
    gallery = next(iter(search.galleries.values()))[0].tolist()
    vectors = torch.nn.functional.normalize(embeddings, dim=1) if protocol.normalise else embeddings
    assert len(ranks.queries) == 4
    for query, ranked, right, similarity in zip(*(column.tolist() for column in ranks[:4]), strict=True):
        meets = [
            row
            for row in gallery
            if (ignored := protocol.ignored(CATALOGUE[torch.tensor([query])], CATALOGUE[torch.tensor([row])])) is None
            or not ignored.item()
        ]
        truth = sorted(meets, key=lambda row: (vectors[query] - vectors[row]).norm().item())[:6]
        assert ranked == truth
        assert right == [bool(CATALOGUE.identities[row] == CATALOGUE.identities[query]) for row in truth]
        if protocol.similarity == "cosine":
            assert similarity == pytest.approx([float(vectors[query] @ vectors[row]) for row in truth], abs=1e-6)


def test_queries_are_spread_over_those_whose_identity_can_be_found():
    only_three = CATALOGUE[CATALOGUE.infrared | (CATALOGUE.identities <= 3)]
    ranks = best_ranked(torch.randn(len(only_three), 5), only_three, RegDBProtocol(), queries=3, places=99)
    assert ranks.ranked.shape == (3, 24)
    infrared_queries = best_ranked(torch.randn(len(only_three), 5), only_three, SYSUProtocol(trials=1), queries=9)
    assert set(only_three.identities[infrared_queries.queries].tolist()) == {1, 2, 3}


def test_a_rank_list_frames_right_and_wrong_and_leaves_gaps(tmp_path):
    places = [torch.tensor([[1, 2, -1]]), torch.tensor([[True, False, False]]), torch.tensor([[0.9, 0.5, 0.0]])]
    draw_rank_list(RankList(torch.tensor([0]), *places), grey(3), CATALOGUE, tmp_path / "ranks.png")
    sheet = pixels(tmp_path / "ranks.png")
    below = sheet.crop((0, HEAD + TILE_HEIGHT, sheet.width, sheet.height)).convert("L").point(lambda dark: dark < 200)
    written = [below.crop((left, 0, left + WIDTH, below.height)).getbbox() for left in (FIRST, FIRST + STEP + APART)]
    assert None not in written, "person and camera below the query; mark, person, camera and similarity below a place"
    assert [(left + right) / 2 for left, _, right, _ in written] == pytest.approx([WIDTH / 2] * 2, abs=2)
    assert sheet.height == HEAD + TILE_HEIGHT + 2 * NOTE_LINE + GAP
    edges = [(FIRST + i * STEP + APART * (i > 0), HEAD + TILE_HEIGHT // 2) for i in range(3)]
    assert [sheet.getpixel(edge) for edge in edges] == [(100,) * 3, ImageColor.getrgb(RIGHT), ImageColor.getrgb(WRONG)]
    assert sheet.width == FIRST + 4 * STEP + APART


@pytest.mark.parametrize(("right", "note"), [(True, "✓ 1  c2\n0.912"), (False, "✗ 1  c2\n0.912")])
def test_a_place_says_whom_it_shows_and_how_alike_with_a_mark(right, note):
    row = next(row for row, path in enumerate(CATALOGUE.paths) if "0001_c2" in path)
    assert _note(CATALOGUE, row, right, 0.9123).text == note


def test_a_rank_list_says_how_its_queries_were_chosen(tmp_path):
    embeddings = torch.randn(len(CATALOGUE), 5, generator=torch.Generator().manual_seed(2))
    protocol = FolderProtocol()
    whole = evaluate(embeddings, CATALOGUE, protocol)["infrared_to_visible"].outcomes
    by_result = whole.average_precision[0].argsort(stable=True)
    told = {
        "spread": ("4 of 24 queries with a true match, at equal distances", whole.queries[[0, 7, 15, 23]]),
        "first": ("the first 4 of 24 queries", whole.queries[:4]),
        "worst": ("the WORST 4 of 24 queries with a true match, by average", whole.queries[by_result[:4]]),
        3: ("the first 4 queries of person 3", whole.queries[whole.identities == 3]),
    }
    heights = set()
    for choice, (words, queries) in told.items():
        ranks = best_ranked(embeddings, CATALOGUE, protocol, choice=choice, queries=4, places=3)
        assert f"infrared_to_visible: {words}" in ranks.chosen
        assert ranks.queries.tolist() == queries.tolist()
        draw_rank_list(ranks, grey(len(CATALOGUE)), CATALOGUE, tmp_path / "said.png")
        draw_rank_list(ranks._replace(chosen=""), grey(len(CATALOGUE)), CATALOGUE, tmp_path / "bare.png")
        said, bare = pixels(tmp_path / "said.png"), pixels(tmp_path / "bare.png")
        heights.add(said.height - bare.height)
        written = said.crop((0, 0, said.width, said.height - bare.height)).convert("L").point(lambda value: value < 128)
        assert written.getbbox()[0] >= GAP
        assert written.getbbox()[2] <= said.width - GAP
    assert all(height % LINE == GAP and height > 0 for height in heights)


@pytest.mark.parametrize(("choice", "sentence"), [("best", "got 'best'"), (77, "person 77 has no query")])
def test_a_rank_list_of_nobody_is_a_sentence(choice, sentence):
    with pytest.raises(UserError, match=sentence):
        best_ranked(torch.randn(len(CATALOGUE), 5), CATALOGUE, FolderProtocol(), choice=choice)


def test_a_map_glows_where_it_is_strong_and_boxes_are_outlined(tmp_path):
    maps = torch.zeros(2, 2, 8, 4)
    maps[0, 0, 6, 1] = maps[0, 1, 1, 2] = 0.01  # the colours are each pattern's own
    maps[1, 1, 1, 2] = 0.005
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 1.0], [math.nan] * 4]]).expand(2, -1, -1)
    draw_patterns(grey(2), maps, tmp_path / "patterns.png", boxes=boxes)
    sheet = pixels(tmp_path / "patterns.png")

    def glow(row, pattern, i, j):
        left, top = FIRST + pattern * STEP + APART, HEAD + row * (TILE_HEIGHT + GAP)
        x, y = int(left + (j + 0.5) * WIDTH / 4), int(top + (i + 0.5) * TILE_HEIGHT / 8)
        return sheet.getpixel((x + 4, y + 4))[0]  # beside the cross

    assert glow(0, 1, 6, 1) > glow(0, 1, 3, 1) + 20
    assert glow(0, 2, 1, 2) > glow(1, 2, 1, 2) > glow(0, 2, 6, 1)
    assert glow(1, 1, 6, 1) == glow(0, 1, 3, 1)
    assert sheet.getpixel((FIRST + WIDTH // 4, HEAD + 3 * TILE_HEIGHT // 4)) == ImageColor.getrgb(BOX)


def test_rows_of_patterns_have_captions(tmp_path):
    draw_patterns(grey(1), torch.rand(1, 2, 8, 4), tmp_path / "bare.png")
    draw_patterns(grey(1), torch.rand(1, 2, 8, 4), tmp_path / "captioned.png", captions=["person 10\nvisible"])
    captioned, bare = pixels(tmp_path / "captioned.png"), pixels(tmp_path / "bare.png")
    margin = captioned.width - bare.width
    assert margin > 40
    middle = HEAD + TILE_HEIGHT // 2
    lines = [captioned.crop((0, top, margin, top + LINE)) for top in (middle - LINE, middle)]
    ink = [line.convert("L").point(lambda dark: dark < 200).getbbox() for line in lines]
    assert None not in ink, "a line above the tile's middle and one below"
    assert ink[0][2] == pytest.approx(ink[1][2], abs=2), "both end beside the tile"
    assert ink[0][0] < ink[1][0] - 2
