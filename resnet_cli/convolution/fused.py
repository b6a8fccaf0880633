"""A convolution with what follows it fused in, by operators of oneDNN.

They have no public name in torch; they are those that ``torch.compile`` calls on the CPU.
"""

from threading import Lock

import torch
from torch import Tensor, nn

PACKING = Lock()  # workers share a network


class FusedConv(nn.Module):
    """A convolution whose weights are packed once, with what follows it fused in.

    They are packed in the first pass: the order that oneDNN wants them in depends on the height and
    width of what comes, though not on how many images do. In another order they would be packed
    again in every pass, which takes longer than the convolution.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self.settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.weight = conv.weight.detach()
        self.packed = False
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.after = "relu" if relu else "none"

    def forward(self, images: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolve [N, C, H, W], add ``shortcut`` where there is one, and rectify."""
        if not self.packed:
            self.pack(images.shape)
        run = torch.ops.mkldnn._convolution_pointwise
        given = (self.weight, self.bias, *self.settings)
        if shortcut is None:
            output: Tensor = run(images, *given, self.after, [], "")
        elif shortcut.shape[2:] == (1, 1):  # torch 2.11 cannot fuse a single pixel
            output = run(images, *given, "none", [], "").add_(shortcut).relu_()
        else:
            output = run.binary(images, shortcut, *given, "add", None, self.after, [], "")
        return output

    def pack(self, shape: torch.Size) -> None:
        """Bring the weights into the order for images [N, C, H, W], unless another worker did."""
        with PACKING:
            if not self.packed:
                reorder = torch.ops.mkldnn._reorder_convolution_weight
                self.weight = reorder(self.weight, *self.settings, list(shape))
                self.packed = True
