"""Pixels of particles: ``N@stack`` names resolved, read in any order and mix of stacks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import check_pixel_size
from halfmap.io.mrc import MrcStack, open_stack
from halfmap.io.paths import resolve_path, split_image_name
from halfmap.typing import Array, FloatArray, PathLike

_OPEN_STACKS = 128
_UNKNOWN_PIXEL_A = 1.0
"""What many programs write into a header when they do not know the pixel size."""


class ParticleImages:
    """The images of a set of particles, memory-mapped.

    Parameters
    ----------
    image_set
        Particles with ``image_name``.
    root
        The STAR file that they were read from, or the folder that the names are relative to.

    Notes
    -----
    The object can be sent to other processes; files are opened where they are read. The pixel size
    in the header of each stack is compared with the optics group unless it is exactly 1, which many
    programs write for "unknown".
    """

    def __init__(self, image_set: ImageSet, root: PathLike) -> None:
        if image_set.kind != "particles":
            raise HalfmapError(f"{image_set.kind} have no particle images")
        root = Path(root)
        self.root = root / "particles.star" if root.is_dir() else root
        number_of: dict[str, int] = {}
        self._stack = np.empty(len(image_set), np.int32)
        self._section = np.empty(len(image_set), np.int64)
        for i, name in enumerate(image_set["image_name"].tolist()):
            section, stack = split_image_name(name, self.root)
            self._section[i] = section
            self._stack[i] = number_of.setdefault(stack, len(number_of))
        self.stack_names = list(number_of)
        self._pixel_size_A = image_set.pixel_size_A()
        self._opened: OrderedDict[int, MrcStack] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stack)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": OrderedDict()}

    def shape(self, index: int) -> tuple[int, int]:
        """Rows and columns of one image."""
        return self._open(int(self._stack[index]), int(index)).shape

    def read(self, indices: Sequence[int] | Array) -> FloatArray:
        """Return images as float32 ``[n, y, x]`` in the order asked for.

        Reads stack by stack in file order, whatever the order of ``indices``.

        Raises
        ------
        BadInputError
            A stack is missing, damaged, or too short, its pixel size is not that of the optics
            group, an image is constant or not finite; stack and number are named.
        HalfmapError
            The images asked for differ in shape.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size == 0:
            raise HalfmapError("no images were asked for")
        shape = self.shape(int(indices[0]))
        images = np.empty((len(indices), *shape), np.float32)
        order = np.argsort(self._stack[indices], kind="stable")
        bounds = np.flatnonzero(np.diff(self._stack[indices[order]])) + 1
        for positions in np.split(order, bounds):
            members = indices[positions]
            stack = self._open(int(self._stack[members[0]]), int(members[0]))
            if stack.shape != shape:
                raise HalfmapError(
                    f"{stack.path}: images of {stack.shape} pixels cannot be read together with images of {shape}; "
                    "read one optics group at a time"
                )
            images[positions] = stack.read(self._section[members])
            self._check(images, positions, members, stack)
        return images

    def _open(self, number: int, member: int) -> MrcStack:
        if number in self._opened:
            self._opened.move_to_end(number)
            return self._opened[number]
        stack = open_stack(resolve_path(self.stack_names[number], self.root))
        stated = stack.pixel_size_A
        if stated is not None and stated != _UNKNOWN_PIXEL_A:
            check_pixel_size(stack.path, stated, float(self._pixel_size_A[member]), f"{self.root} (rlnImagePixelSize)")
        self._opened[number] = stack
        if len(self._opened) > _OPEN_STACKS:
            self._opened.popitem(last=False)
        return stack

    def _check(self, images: FloatArray, positions: Array, members: Array, stack: MrcStack) -> None:
        some = images[positions]
        low, high = some.min(axis=(1, 2)), some.max(axis=(1, 2))
        finite = np.isfinite(low) & np.isfinite(high)
        bad = ~finite | (low == high)
        if bad.any():
            first = int(np.argmax(bad))
            what = f"constant ({low[first]:g} everywhere)" if finite[first] else "not finite"
            raise BadInputError(
                stack.path, f"image {self._section[members[first]] + 1}", found=what, expected="a particle image",
                remedy="Leave the particle out, or extract it again.",
            )  # fmt: skip
