"""What all tests share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import shutil
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"


def shape_annotated_modules() -> list[str]:
    """Modules whose signatures state shapes; numba's compiler cannot see through the check."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if "jaxtyping" in text and "njit" not in text:
            found.append(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    return found


# From here on every shape in a signature is checked when the function is called.
install_import_hook(shape_annotated_modules(), "beartype.beartype")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data: $HALFMAP_TEST_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("HALFMAP_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: no folder {folder}; name one with HALFMAP_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def relion() -> Path:
    """Folder of RELION's programs; absent is a skip that says so, and an error where CI requires them."""
    program = shutil.which("relion_refine")
    if program is None:
        message = "ORACLE NOT RUN: RELION's programs are not installed (Debian: apt-get install relion)"
        if os.environ.get("HALFMAP_REQUIRE_RELION"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(program).parent
