"""Convolutions with what follows them fused in, on the CPU."""

from resnet_cli.convolution.fused import FusedConv
from resnet_cli.convolution.traced import Traced, can_trace
from resnet_cli.convolution.winograd import WinogradConv, saves, suits

__all__ = ["FusedConv", "Traced", "WinogradConv", "can_trace", "saves", "suits"]
