"""Stand-in for torchvision: the names that mosaicml-streaming imports from it, so that a peer needs no CUDA build."""

from torchvision import datasets, transforms

__all__ = ["datasets", "transforms"]
