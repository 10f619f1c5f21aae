"""A pretended CUDA device: its tensors lie in the CPU's memory, but have the manners of a device.

Where no GPU is at hand, most of what goes wrong on one can still be seen: operands of two devices, a tensor of the
device given to NumPy or numba, a generator of the CPU for numbers of the device, and sums whose order CUDA leaves
open, so that bits would not repeat. ``pretended_cuda()`` makes all of these errors. Kernels, speed and memory it
cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch import Tensor

FACTORIES = (
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor",
    "tril_indices", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like",
)  # fmt: skip
CUDA = torch.device("cuda", 0)
MIXES = {Tensor.copy_}
BAD_INDEX = "indices should be either on cpu or on the same device as the indexed tensor"
WHOLE = {torch.stack, torch.cat, torch.einsum, torch.matmul, torch.bmm, torch.baddbmm, Tensor.matmul, Tensor.bmm}
"""Operations that take no numbers of the CPU among tensors of a device."""

UNORDERED = {
    torch.index_add, Tensor.index_add, Tensor.index_add_, torch.scatter_add, Tensor.scatter_add, Tensor.scatter_add_,
    Tensor.put_, torch.histc, Tensor.histc, torch.bincount, Tensor.bincount,
}  # fmt: skip
"""Sums whose terms CUDA adds in any order; exact for integers only."""


class OnDevice(Tensor):
    """A tensor of the pretended device."""

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.numpy:
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if func not in MIXES:
                _check_devices(func, [*_flat(args), *_flat(given.values())])
            _check_order(func, args, given)
            return _as_device(func(*args, **given))

    def cpu(self) -> Tensor:
        return _to(self, "cpu")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _as_device(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.as_subclass(OnDevice)
    if isinstance(found, (list, tuple)):
        parts = [_as_device(part) for part in found]
        return type(found)(parts) if type(found) in (list, tuple) else type(found)(tuple(parts))
    return found


def _check_devices(func: Callable[..., Any], values: list[Any]) -> None:
    """Raise where whole tensors of the CPU meet those of the device, as CUDA does."""
    strict = func in WHOLE
    if func is Tensor.__setitem__:  # Copies between devices are allowed, indices may be the CPU's.
        into, where, what = values[0], values[1:-1], values[-1]
        by_index = any(isinstance(part, Tensor) for part in where)
        if not isinstance(into, OnDevice) and any(isinstance(part, OnDevice) for part in where):
            raise RuntimeError(f"{BAD_INDEX} (cpu)")
        values = [into, what] if by_index else []
    if func is Tensor.__getitem__:
        into, *where = values
        if not isinstance(into, OnDevice) and any(isinstance(part, OnDevice) for part in where):
            raise RuntimeError(f"{BAD_INDEX} (cpu)")
        return
    foreign = [v for v in values if isinstance(v, Tensor) and not isinstance(v, OnDevice) and (v.dim() > 0 or strict)]
    if foreign and any(isinstance(v, OnDevice) for v in values):
        name = getattr(func, "__name__", func)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} found cuda:0 and cpu")


def _check_order(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
    """Raise where CUDA adds rounded numbers in an order of its own."""
    whole = [v for v in (*args, *given.values()) if isinstance(v, Tensor)]
    rounded = any(v.is_floating_point() or v.is_complex() for v in whole)
    if rounded and func in UNORDERED:
        raise RuntimeError(f"{func.__name__} of rounded numbers does not repeat its bits on CUDA")


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _factory(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(original)
    def make(*args: Any, **given: Any) -> Tensor:
        if not _is_cuda(given.get("device")):
            return original(*args, **given)
        if given.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        plain = [a.as_subclass(Tensor) if isinstance(a, OnDevice) else a for a in args]
        return original(*plain, **(given | {"device": "cpu"})).as_subclass(OnDevice)

    return make


TO = Tensor.to


def _to(self: Tensor, *args: Any, **given: Any) -> Tensor:
    """``Tensor.to`` from and to both devices."""
    rest, target = list(args), given.pop("device", None)
    if rest and isinstance(rest[0], (str, torch.device)):
        target = rest.pop(0)
    elif rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
        target, rest = other.device, [other.dtype, *rest]
    target = self.device if target is None else torch.device(target)
    with torch._C.DisableTorchFunctionSubclass():
        plain = self.as_subclass(Tensor)
        changed = TO(plain, *rest, **given) if rest or given else plain
        if target.type != self.device.type and changed is plain:
            changed = plain.clone()
        return changed.as_subclass(OnDevice if target.type == "cuda" else Tensor)


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Let ``cuda`` name the pretended device until the block ends, in all threads of this process."""
    with ExitStack() as stack:
        for name in FACTORIES:
            stack.enter_context(mock.patch.object(torch, name, _factory(getattr(torch, name))))
        for name in ("fftfreq", "rfftfreq"):
            stack.enter_context(mock.patch.object(torch.fft, name, _factory(getattr(torch.fft, name))))
        stack.enter_context(mock.patch.object(Tensor, "to", _to))
        stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=True))
        stack.enter_context(mock.patch.object(torch.cuda, "device_count", return_value=1))
        yield
