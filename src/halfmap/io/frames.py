"""What every movie offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from halfmap.errors import BadInputError
from halfmap.typing import Array


class Movie(ABC):
    """Frames of one exposure, read one at a time.

    All formats give row 0 first as MRC files have it: TIFF frames are turned upside down on the
    way, as SerialEM, IMOD, MotionCor2 and RELION do, so that one gain reference fits all of them.
    """

    path: Path
    n_frames: int
    shape: tuple[int, int]
    """Rows and columns of a frame."""
    pixel_size_A: float | None = None
    """None where the file does not tell."""
    dose_per_frame_e_per_A2: float | None = None
    """Exposure of one frame as it follows from the grouping of an EER movie; None otherwise."""
    dropped_frames: int = 0
    """Recorded frames at the end that are in none of the frames given out."""
    message: str = ""
    """What a person should know about how the file was read; empty if nothing."""

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[Array]:
        return self.frames()

    def frame(self, index: int) -> Array:
        """One frame ``[y, x]`` from 0 in the type of the file.

        Raises
        ------
        BadInputError
            The frame is damaged, cut short, or not there.
        """
        if not 0 <= index < self.n_frames:
            raise BadInputError(
                self.path, "frame", found=index + 1, expected=f"from 1 to {self.n_frames}",
                remedy="Use frames that the movie has.",
            )  # fmt: skip
        return self._frame(index)

    def frames(self) -> Iterator[Array]:
        """All frames in order, one in memory at a time."""
        return (self._frame(index) for index in range(self.n_frames))

    @abstractmethod
    def _frame(self, index: int) -> Array:
        """Read a frame that exists."""
