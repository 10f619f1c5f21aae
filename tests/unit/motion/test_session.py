import re

import pytest

from halfmap.motion.session import statistics_of, verdict

GOOD = {
    "micrograph_name": "a.mrc", "frames": 10, "left_out": {}, "aligned": True, "converged": True,
    "motion_total_A": 5.0, "motion_early_A": 2.0, "motion_late_A": 3.0, "motion_local_A": 1.0, "motion_fastest_A": 1.0,
    "shift_error_px": 0.1, "sharpness_global": 1.2, "sharpness_local": 1.0, "local_reason": "", "local_order": [2, 3],
    "patches": [4, 4], "frames_grouped": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aligned": False}, "no signal"),
        ({"converged": False}, "not converge"),
        ({"motion_fastest_A": 7.25}, r"7\.2 Å from one frame"),
        ({"left_out": {str(i): "empty" for i in range(6)}}, "6 of 10 frames"),
    ],
)
def test_a_bad_movie_gets_a_reason(changes, words):
    assert verdict(GOOD) == ""
    rows = statistics_of([(0, GOOD), (1, GOOD | changes)])
    assert rows[0]["verdict"] == ""
    assert re.search(words, rows[1]["verdict"])
