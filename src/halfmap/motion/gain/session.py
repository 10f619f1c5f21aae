"""Which movies are asked for a gain, and what is said of the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.io.star import StarBlock
from halfmap.motion.gain.files import GainReport, SummedMovie
from halfmap.motion.gain.pattern import Fit

NOISY_SHARE = 0.5
"""An estimated gain whose noise is more than this share of the pattern deserves a warning."""


def chosen_movies(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the movies, evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    return [paths[place] for place in places]


Summed = tuple[SummedMovie, Mapping[str, Any]]


def of_one_shape(summed: Sequence[Summed]) -> tuple[list[Summed], list[Summed]]:
    """The movies of the commonest size, and the others."""
    sizes = Counter(tuple(facts["shape"]) for _, facts in summed)
    usual = sizes.most_common(1)[0][0] if sizes else None
    used = [one for one in summed if tuple(one[1]["shape"]) == usual]
    return used, [one for one in summed if tuple(one[1]["shape"]) != usual]


def fits_block(ranked: Sequence[Fit]) -> StarBlock:
    """All orientations and what they scored, the best first."""
    return StarBlock(
        {
            "rlnHalfmapOrientation": np.array([fit.orientation.name for fit in ranked]),
            "rlnHalfmapFramesAre": np.array(["divided" if fit.inverted else "multiplied" for fit in ranked]),
            "rlnHalfmapCorrelation": np.array([fit.correlation for fit in ranked]),
        }
    )


def told_in_words(report: GainReport, movies: int) -> list[tuple[str, bool]]:
    """Lines for the log, each with whether it is a warning."""
    lines: list[tuple[str, bool]] = []
    if report.ranked:
        best = report.ranked[0]
        runner = next(fit for fit in report.ranked if fit.orientation != best.orientation)
        how = "divided by it" if best.inverted else "multiplied with it"
        lines.append(
            (
                f"the reference fits {best.orientation.name}, frames are {how}: correlation {best.correlation:.3f}, "
                f"next {runner.correlation:.3f} ({runner.orientation.name})",
                not report.told,
            )
        )
    if report.estimate is not None:
        sd, noise = report.estimate.pattern_sd, report.estimate.noise_sd
        lines.append(
            (
                f"gain estimated from {movies} movies: single pixels differ by {sd:.1%}, and what is left of the "
                f"counting noise in them is {noise:.1%}",
                noise > NOISY_SHARE * sd,
            )
        )
    defects = report.defects
    lines.append(
        (
            f"bad pixels: {int(defects.known.sum())} known, {int(defects.hot.sum())} hot, "
            f"{int(defects.dead.sum())} dead, {int(defects.unstable.sum())} unstable",
            False,
        )
    )
    pattern_line = f"fixed pattern that two halves of the movies share: {report.pattern_before:.2%} without a gain"
    if report.pattern_after is not None:
        pattern_line += f", {report.pattern_after:.2%} with it"
    lines.append((pattern_line, (report.pattern_after or 0.0) > report.pattern_before))
    return lines
