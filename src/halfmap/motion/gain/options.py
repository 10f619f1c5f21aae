"""Options of the work on gain references."""

from __future__ import annotations

from pathlib import Path

from halfmap.options import Options, option


class GainOptions(Options):
    """What is known of the camera, and how many movies are asked."""

    gain: Path | None = option(
        None, help="Gain reference whose orientation is to be found; one is estimated from the movies if not given."
    )
    defects: Path | None = option(
        None, help="Known defects: text with 'x y width height' in each line, or an image that is not 0 there."
    )
    max_movies: int = option(40, help="Movies that are added at most, spread over the session.", ge=2, le=1000)
