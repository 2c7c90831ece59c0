import pytest
import torch
from PIL import Image

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.run.pictures import embeddings as pictured
from mpanet_pl.run.pictures.embeddings import Cut, draw_embeddings, draw_similarities
from mpanet_pl.run.pictures.tsne import neighbourhoods, principal_components, tsne

IDENTITIES = torch.arange(120) % 12
INFRARED = torch.arange(120) % 24 >= 12


@pytest.fixture
def people():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 16, generator=generator)[IDENTITIES] + 0.3 * torch.randn(120, 16, generator=generator)
    return embeddings, Catalogue(tuple(map(str, range(120))), IDENTITIES, INFRARED.long(), INFRARED)


def test_tsne_keeps_clusters_together_and_repeats_itself(people):
    places = tsne(people[0], perplexity=5, steps=500)
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(dim=1)
    assert (IDENTITIES[nearest] == IDENTITIES).float().mean() > 0.98
    assert tsne(people[0], perplexity=5, steps=500).equal(places)


def test_neighbourhoods_are_as_broad_as_asked():
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    weights = neighbourhoods(torch.cdist(vectors, vectors).square(), perplexity=10)
    assert torch.allclose(weights.sum(dim=1), torch.ones(50).double())
    assert torch.allclose(torch.special.entr(weights).sum(dim=1).exp(), torch.full((50,), 10.0).double(), rtol=1e-4)
    assert weights.diagonal().eq(0).all()


def test_principal_components_hold_the_most_variance():
    vectors = torch.randn(100, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 0.1, 4.0, 0.1])
    components = principal_components(vectors)
    centred = vectors - vectors.mean(dim=0)
    assert torch.cosine_similarity(components[:, 0], centred[:, 1], dim=0).abs() > 0.98
    assert torch.cosine_similarity(components[:, 1], centred[:, 3], dim=0).abs() > 0.98


def test_the_cut_says_the_errors_that_it_buys(people, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictured, "save", lambda figure, path: drawn.append(figure))
    embeddings, catalogue = people
    for cut in (Cut(0.5, "mine"), None):
        draw_similarities(embeddings, catalogue, tmp_path / "similarities.png", cut)
    unit = torch.nn.functional.normalize(embeddings)
    cosines = unit[~INFRARED] @ unit[INFRARED].T
    same = IDENTITIES[~INFRARED, None] == IDENTITIES[INFRARED]
    told, usual = ([text.get_text() for text in figure.axes[0].get_legend().texts] for figure in drawn)
    assert f"accepted wrongly {100 * (cosines[~same] >= 0.5).float().mean():.1f} %" in told[0]
    assert f"missed {100 * (cosines[same] < 0.5).float().mean():.1f} %" in told[1]
    assert told[2] == "mine: cosine 0.500"
    errors = [float(text.removesuffix(" %").rpartition(" ")[2]) for text in usual[:2]]
    assert abs(errors[0] - errors[1]) < 100 / int(same.sum())
    assert usual[2].startswith("equal error: cosine ")


def test_neighbourhoods_of_a_few_images_are_narrow_and_hold_one_at_least(people, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pictured, "tsne", lambda rows, perplexity: asked.append(perplexity) or rows[:, :2])
    monkeypatch.setattr(pictured, "save", lambda figure, path: drawn.append(figure))
    drawn = []
    embeddings, catalogue = people
    few = torch.tensor([0, 12, 1, 13])  # two people, an image of each modality
    for rows in (few, torch.arange(120)):
        draw_embeddings(embeddings[rows], catalogue[rows], tmp_path / "embeddings.png")
    assert asked == [1, 20]
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["0", "1"]
    assert all(text.get_path_effects() for text in drawn[0].axes[0].texts), "legible upon the points"


def test_both_pictures_are_drawn(people, tmp_path):
    draw_embeddings(*people, tmp_path / "embeddings.png")
    draw_similarities(*people, tmp_path / "similarities.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            colours = picture.convert("RGB").quantize(64).getcolors()
        assert len(colours) > 8
