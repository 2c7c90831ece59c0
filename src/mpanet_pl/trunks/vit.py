"""A plain vision transformer of timm's as a trunk: the tokens of its patches, back on their grid.

The positional embedding is resampled to the size that images have. Patches lie side by side, or overlap as TransReID's
do (He et al., ICCV 2021). There are no stages, so nothing can follow one.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.trunks.timm_models import Normalised, create, load_file, without_part

FAMILIES = ("vision_transformer", "deit", "beit", "eva")  # timm's files of models without stages


class ViTTrunk(nn.Module):
    """Keys are timm's behind `model.`, without the classifier.

    `last_stride` is 1 for patches side by side, or the pixels from one patch to the next, fewer than a patch has.
    """

    def __init__(
        self, name: str, *, pretrained: bool | str | Path = True, last_stride: int = 1, alleviation: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if alleviation:
            raise UserError(f"{name} has no stages that alleviation could follow: set model.network.alleviation=[].")
        self.model = create(name, pretrained is True, dynamic_img_size=True)
        if isinstance(pretrained, str | Path):
            load_file(self.model, name, pretrained)
        projection = self.model.patch_embed.proj
        self.patch: tuple[int, int] = projection.kernel_size
        if not 1 <= last_stride <= min(self.patch):
            raise UserError(
                f"last_stride of {name} is 1 (patches side by side) or the pixels from patch to patch, "
                f"2 to {min(self.patch)}, got {last_stride}"
            )
        projection.stride = self.stride = self.patch if last_stride == 1 else (last_stride, last_stride)
        self.normalised = Normalised(self.model)
        self.channels: int = self.model.num_features
        without_part(self, torch.zeros(1, 3, *self.patch))

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:  # (B, 3, H, W) -> (B, C, h, w)
        size = images.shape[2:]
        if any(pixels % patch for pixels, patch in zip(size, self.patch, strict=True)):
            raise UserError(
                f"Images of {' x '.join(map(str, size))} are no whole number of patches of "
                f"{' x '.join(map(str, self.patch))}: set data.height and data.width."
            )
        tokens = self.model.forward_features(self.normalised(images))[:, self.model.num_prefix_tokens :]  # (B, h·w, C)
        grid = [(pixels - patch) // step + 1 for pixels, patch, step in zip(size, self.patch, self.stride, strict=True)]
        return tokens.transpose(1, 2).unflatten(2, grid)
