"""Settings that releases before 0.3 stored, in today's words."""

from mpanet_pl.stored import translated_model
from mpanet_pl.system.targets import named


def test_settings_of_0_2_name_todays_parts() -> None:
    network = {"trunk": "resnet50", "patterns": 6, "maps": "local", "pooling": "gem", "two_stream": ["conv1"]}
    weights = {"mutual": 2.5, "triplet": 0.5, "triplet_margin": 0.1, "overlap": 2.0, "concentration": 0.0}
    now = translated_model({"network": network, "criterion": weights, "num_identities": 4})
    parts = {
        "maps": "mpanet_pl.methods.local_maps.LocalMPANet",
        "trunk": "mpanet_pl.trunks.two_streams.TwoStreams",
        "pooling": "mpanet_pl.trunks.gem.GeneralisedMean",
        "triplet": "mpanet_pl.methods.triplet.Triplet",
        "overlap": "mpanet_pl.methods.local_maps.Overlap",
    }
    assert now == {
        "network": {
            "_target_": parts["maps"],
            "trunk": {"_target_": parts["trunk"], "name": "resnet50", "own": ["conv1"]},
            "patterns": 6,
            "pooling": {"_target_": parts["pooling"]},
        },
        "criterion": {
            "mutual": 2.5,
            "extra": {
                "overlap": {"_target_": parts["overlap"], "weight": 2.0},
                "triplet": {"_target_": parts["triplet"], "weight": 0.5, "margin": 0.1},
            },
        },
        "num_identities": 4,
    }
    assert {named(target, "here").__name__ for target in parts.values()} == {
        target.rsplit(".", 1)[1] for target in parts.values()
    }


def test_what_needs_no_other_words_stays() -> None:
    plain = {"trunk": "resnet50", "maps": "deep", "pooling": "mean", "two_stream": None}
    assert translated_model({"network": plain, "criterion": {"triplet_margin": 0.3, "triplet": 0}}) == {
        "network": {"trunk": "resnet50"},
        "criterion": {},
    }
    own = {"_target_": "my_lab.Net", "two_stream": 1}
    assert translated_model({"network": own, "criterion": own}) == {"network": own, "criterion": own}
