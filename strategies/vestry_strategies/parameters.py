"""The model as one flat float32 vector, and the layout that names its parts (docs/adr/0003).

The first ``trainable`` values are the parameters, the rest floating-point buffers (running means of
batch normalisation). Parameters and gradients of a :class:`FlatModel` are views into two flat
tensors, so a local step is one fused operation and nothing is copied between model and vector.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["FlatModel", "Layout", "TensorPlace", "Vector", "model_hash"]

Vector = NDArray[np.float32]
"""Model or update, shape (d,), float32."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a named tensor lies in the vector."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Names and places of all tensors.

    Attributes:
        tensors: in the order of the vector.
        trainable: number of leading values that are parameters; the rest are buffers.
        size: length d of the vector.
    """

    tensors: tuple[TensorPlace, ...]
    trainable: int
    size: int

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Named views into a vector of shape (d,), each in its own shape."""
        return {
            place.name: vector[place.offset : place.offset + place.size].reshape(place.shape)
            for place in self.tensors
        }

    def join(self, tensors: dict[str, Vector]) -> Vector:
        """The vector of named tensors.

        Raises:
            ValueError: names or shapes differ from the layout.
        """
        if tensors.keys() != {place.name for place in self.tensors}:
            raise ValueError(f"names={sorted(tensors)} are not those of the model")
        vector = np.empty(self.size, dtype=np.float32)
        for place in self.tensors:
            if tensors[place.name].shape != place.shape:
                raise ValueError(f"{place.name}: shape={tensors[place.name].shape} != {place.shape}")
            vector[place.offset : place.offset + place.size] = tensors[place.name].ravel()
        return vector


def model_hash(vector: Vector) -> str:
    """SHA-256 of the vector's little-endian float32 bytes, 64 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").tobytes()).hexdigest()


class FlatModel:
    """A module whose parameters and gradients live in two flat tensors.

    Attributes:
        module: the network; its parameters are views of ``weights``.
        layout: names and places.
        weights: (trainable,) float32 leaf tensor for an optimizer; its ``.grad`` is filled by backward.
    """

    def __init__(self, module: nn.Module, device: torch.device | None = None) -> None:
        device = device or torch.device("cpu")
        self.module = module.to(device=device, dtype=torch.float32)
        named = list(self.module.named_parameters())
        self._buffers = [
            (name, buffer) for name, buffer in self.module.named_buffers() if buffer.is_floating_point()
        ]
        places: list[TensorPlace] = []
        offset = 0
        for name, tensor in [*named, *self._buffers]:
            places.append(TensorPlace(name, tuple(tensor.shape), offset))
            offset += tensor.numel()
        trainable = sum(parameter.numel() for _, parameter in named)
        self.layout = Layout(tuple(places), trainable, offset)
        self.weights = torch.zeros(trainable, device=device)
        self.weights.grad = torch.zeros(trainable, device=device)
        with torch.no_grad():
            for place, (_, parameter) in zip(places, named, strict=False):
                part = slice(place.offset, place.offset + place.size)
                self.weights[part] = parameter.detach().reshape(-1)
                parameter.data = self.weights[part].view(place.shape)
                parameter.grad = self.weights.grad[part].view(place.shape)

    @property
    def gradient(self) -> torch.Tensor:
        """(trainable,) the gradient that backward passes add to."""
        gradient = self.weights.grad
        assert gradient is not None  # noqa: S101  set in __init__ and never taken away
        return gradient

    def load(self, vector: Vector) -> None:
        """Set parameters and buffers from a vector of shape (d,).

        Raises:
            ValueError: another length.
        """
        if vector.shape != (self.layout.size,):
            raise ValueError(f"shape={vector.shape} must be ({self.layout.size},)")
        values = torch.from_numpy(np.array(vector, dtype=np.float32))
        with torch.no_grad():
            self.weights.copy_(values[: self.layout.trainable])
            offset = self.layout.trainable
            for _, buffer in self._buffers:
                buffer.copy_(values[offset : offset + buffer.numel()].view(buffer.shape))
                offset += buffer.numel()

    def read(self) -> Vector:
        """Parameters and buffers as a new vector of shape (d,)."""
        parts = [self.weights.detach(), *(buffer.reshape(-1) for _, buffer in self._buffers)]
        vector: Vector = torch.cat(parts).cpu().numpy().astype(np.float32, copy=False)
        return vector
