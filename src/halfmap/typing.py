"""Shape-annotated array types, checked at run time in the tests (jaxtyping + beartype).

Write ``Float[Tensor, "n y x"]`` in signatures of science modules that import torch, and the
aliases below where only numpy is at hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FloatArray = NDArray[np.floating[Any]]
PathLike = str | os.PathLike[str] | Path
