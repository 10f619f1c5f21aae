"""Options of ``halfmap live``."""

from __future__ import annotations

from pathlib import Path

from halfmap.optics.options import OpticsOptions
from halfmap.options import option


class LiveOptions(OpticsOptions):
    """What is true of the movies that come, and how the folder is watched."""

    gain: Path | None = option(None, help="Gain reference of the movies; it may lie in the folder.")
    diameter_A: float | None = option(None, help="Particle diameter; estimated by pick if not given.", gt=0)
    pattern: tuple[str, ...] = option(
        (), help="Names of movies to take, such as '*_fractions.tiff'; all that end as movies do if not given."
    )
    settle_s: float = option(10.0, help="A file is taken when it is unchanged for so long, and opens.", ge=0, le=3600)
    give_up_s: float = option(
        600.0, help="A file that has not changed for so long and does not open is reported.", ge=0, le=1e6
    )
    poll_s: float = option(5.0, help="Time between two looks at the folder.", gt=0, le=3600)
    stop_after_idle_s: float | None = option(
        None, help="End when nothing new has come for so long and all is done; Ctrl-C if not given.", gt=0, le=1e7
    )
    once: bool = option(False, help="Do what is there, and end.")
