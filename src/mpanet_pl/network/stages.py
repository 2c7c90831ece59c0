"""The four stages of a trunk, by torchvision's names for a ResNet's."""

from collections.abc import Sequence

from mpanet_pl.errors import UserError

STAGES = ("layer1", "layer2", "layer3", "layer4")


def known(alleviation: Sequence[str], stages: Sequence[str] = STAGES) -> list[str]:
    """The chosen stages in their order."""
    unknown = [stage for stage in alleviation if stage not in stages]
    if unknown:
        raise UserError(f"alleviation comes after stages of {', '.join(stages)}, got {', '.join(map(str, unknown))}")
    return [stage for stage in stages if stage in alleviation]
