"""File names as they stand in tables: found again from wherever the table lies."""

from __future__ import annotations

from pathlib import Path

from halfmap.errors import BadInputError
from halfmap.typing import PathLike


def resolve_path(name: str, star_path: PathLike) -> Path:
    """Find the file that a STAR file names.

    A relative name is looked for in the working directory and in the folder of the STAR file; if
    it is in neither, in the folders above that one, the nearest first, because RELION's names are
    relative to the project.

    Raises
    ------
    BadInputError
        No such file, or two different ones in the working directory and beside the STAR file: the
        name would then mean what nobody can know.
    """
    star_path = Path(star_path)
    path = Path(name)
    if path.is_absolute():
        if path.exists():
            return path
        raise _not_found(name, star_path, [path.parent])
    folders = [Path(), *star_path.absolute().parents]
    found = [folder / path for folder in folders if (folder / path).exists()]
    if not found:
        raise _not_found(name, star_path, folders)
    close = [folder / path for folder in folders[:2] if (folder / path).exists()]
    different = [other for other in close if not other.samefile(found[0])]
    if different:
        raise BadInputError(
            star_path, f"the file name {name}", found=f"ambiguous: {found[0].absolute()} and {different[0]}",
            expected="one file", remedy="Move one of them, or start the program from another folder.",
        )  # fmt: skip
    return found[0]


def split_image_name(name: str, star_path: PathLike) -> tuple[int, str]:
    """Split ``N@stack`` into the index from 0 and the name of the stack.

    >>> split_image_name("000012@Extract/a.mrcs", "p.star")
    (11, 'Extract/a.mrcs')
    >>> split_image_name("single.mrc", "p.star")
    (0, 'single.mrc')
    """
    number, at, stack = name.rpartition("@")
    if not at:
        return 0, name
    if not number.strip().isdecimal() or int(number) < 1 or not stack:
        raise BadInputError(
            Path(star_path), "rlnImageName", found=repr(name), expected="NUMBER@stack, counted from 1",
            remedy="Correct the file or write it again.",
        )  # fmt: skip
    return int(number) - 1, stack


def _not_found(name: str, star_path: Path, folders: list[Path]) -> BadInputError:
    places = ", ".join(dict.fromkeys(str(folder.absolute()) for folder in folders[:3]))
    return BadInputError(
        star_path, f"the file name {name}", found=f"not there (looked in {places})", expected="an existing file",
        remedy="Start the program from the folder that the names are relative to.",
    )  # fmt: skip
