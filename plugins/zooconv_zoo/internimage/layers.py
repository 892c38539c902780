"""What the stages of an InternImage are made of: norms, deformable convolutions, perceptrons."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, linear

from zooconv_zoo.layers import DropPath, Mlp

from .family import POINTS, InternImageConfig

EPS = 1e-6


class Axes(nn.Module):
    """The axes of a map in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.order)


def norm(dim: int, *, first: bool = False, back: bool = False) -> nn.Sequential:
    """A norm over channels, which come last; `first` where they come first, `back` where they shall again."""
    layers = [*([Axes(0, 2, 3, 1)] if first else []), nn.LayerNorm(dim, EPS), *([Axes(0, 3, 1, 2)] if back else [])]
    return nn.Sequential(*layers)


def gathered(x: Tensor, offsets: Tensor, masks: Tensor, scale: float) -> Tensor:
    """What each place of a map (N, H, W, C) gathers, for each group of channels, from nine places around it (Eq. 2).

    `offsets` (N, H, W, groups, 9, 2) say by how many pixels, to the right and down, each of the nine is off its place
    in a 3x3 convolution; `masks` (N, H, W, groups, 9) are their weights. The nine go down first, then to the right.
    Between pixels the map is interpolated, beyond its edges it is zero.
    """
    number, height, width, groups, _ = masks.shape
    step = torch.arange(-1, 2, device=x.device, dtype=x.dtype)
    down, right = (torch.arange(side, device=x.device, dtype=x.dtype) for side in (height, width))
    here = torch.stack(torch.meshgrid(right, down, indexing="xy"), -1)[:, :, None, None]
    places = here + (torch.cartesian_prod(step, step) + offsets) * scale
    grid = (2 * places + 1) / x.new_tensor([width, height]) - 1  # as grid_sample counts: -1 to 1, edge to edge
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(number * groups, height * width, POINTS, 2)
    maps = x.view(number, height, width, groups, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
    found = grid_sample(maps, grid, align_corners=False)
    weights = masks.permute(0, 3, 1, 2, 4).reshape(number * groups, 1, height * width, POINTS)
    return (found * weights).sum(-1).view(number, -1, height, width).permute(0, 2, 3, 1)


class DCNv3(nn.Module):
    """Deformable convolution, version 3: offsets and weights of nine places are read off a depthwise convolution."""

    def __init__(self, dim: int, groups: int, kernel: int, scale: float, *, center: bool) -> None:
        super().__init__()
        self.groups, self.scale, self.center = groups, scale, center
        if center:
            self.center_feature_scale_proj_weight = nn.Parameter(torch.zeros(groups, dim))
            self.center_feature_scale_proj_bias = nn.Parameter(torch.zeros(groups))
        self.dw_conv = nn.Sequential(nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim),
                                     norm(dim, first=True), nn.GELU())
        self.offset = nn.Linear(dim, 2 * POINTS * groups)
        self.mask = nn.Linear(dim, POINTS * groups)
        self.input_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        own, around = self.input_proj(x), self.dw_conv(x.permute(0, 3, 1, 2))
        shape = (*x.shape[:3], self.groups, POINTS)
        offsets, masks = self.offset(around).view(*shape, 2), self.mask(around).view(shape).softmax(-1)
        found = gathered(own, offsets, masks, self.scale)
        if self.center:  # how much of each place's own features goes into what it gathers
            share = linear(around, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias).sigmoid()
            found = found.lerp(own, share.repeat_interleave(x.shape[-1] // self.groups, -1))
        out: Tensor = self.output_proj(found)
        return out



class Block(nn.Module):
    """A deformable convolution and a perceptron, with norms before, behind, or at both ends of each."""

    def __init__(self, config: InternImageConfig, s: int, drop: float) -> None:
        super().__init__()
        dim, self.config = config.dims[s], config
        self.drop_path = DropPath(drop)
        if config.layer_scale:
            self.gamma1, self.gamma2 = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        self.norm1 = norm(dim)
        self.dcn = DCNv3(dim, config.groups[s], config.dw_kernel, config.offset_scale,
                         center=config.center_feature_scale)
        self.norm2 = norm(dim)
        self.mlp = Mlp(dim)
        if config.res_post_norm:
            self.res_post_norm1, self.res_post_norm2 = norm(dim), norm(dim)

    def forward(self, x: Tensor) -> Tensor:
        for n, layer in ((1, self.dcn), (2, self.mlp)):
            before = getattr(self, f"norm{n}")
            y = before(layer(x)) if self.config.post_norm else layer(before(x))
            y = getattr(self, f"res_post_norm{n}")(y) if self.config.res_post_norm else y
            y = getattr(self, f"gamma{n}") * y if self.config.layer_scale else y
            x = x + self.drop_path(y)
        return x
