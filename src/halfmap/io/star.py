"""STAR files: data blocks of label-value pairs or of one loop.

Plain loops, however long, go through pandas' C parser. Blocks with quoted values, text fields,
or comments at line ends are parsed word by word. Values are text unless a type is asked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import DECOMPRESSION_ERRORS, open_binary, whole_file
from halfmap.typing import Array, PathLike

ValueType = Literal["float", "int", "str"]

_DTYPES: dict[str, type] = {"float": np.float64, "int": np.int64, "str": object}
_BAD_BYTES = "surrogateescape"  # names that are not UTF-8 come out as they went in
# pandas 3.1 reads floats exactly and deprecates the option that older versions need for it.
_EXACT: dict[str, Any] = {} if pd.__version__ >= "3.1" else {"float_precision": "round_trip"}
_RELION_VERSION = "# version 30001"
_ROWS_PER_CHUNK = 50_000
_REPAIR = "Correct the file or write it again."


@dataclass(frozen=True, eq=False)
class StarBlock(Mapping[str, Array]):
    """One data block: label (without the leading underscore) -> values.

    A pair block has one value a label; ``is_loop`` tells a loop of one row from it.
    """

    columns: Mapping[str, Array] = field(default_factory=dict)
    is_loop: bool = True

    def __getitem__(self, label: str) -> Array:
        return self.columns[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        for values in self.columns.values():
            return len(values)
        return 0

    @classmethod
    def pairs(cls, **values: Any) -> StarBlock:
        """Build a block of label-value pairs."""
        return cls({label: np.array([value]) for label, value in values.items()}, is_loop=False)


Types = Mapping[str, ValueType]


def read_star(path: PathLike, types: Types | Callable[[str], Types] | None = None) -> dict[str, StarBlock]:
    """Read all data blocks of a STAR file.

    Parameters
    ----------
    path
        The file; it may be compressed (.gz, .bz2).
    types
        Label -> type of the columns to convert to float64 or int64 without loss, or a function
        that gives these for the name of a block; all other columns are text, exactly as in the file.

    Returns
    -------
    dict
        Block name (without ``data_``) -> block, in the order of the file.

    Raises
    ------
    BadInputError
        Not a STAR file, rows of unequal length, a value that is not of its type, a repeated label.
    """
    path = Path(path)
    with open_binary(path) as stream:
        data = _read_all(stream, path)
    data = b"\n" + data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    blocks: dict[str, StarBlock] = {}
    for name, body in _split_blocks(data, path):
        if name in blocks:
            raise BadInputError(path, f"data_{name}", found="there twice", expected="once", remedy=_REPAIR)
        blocks[name] = _parse_block(body, path, name, types(name) if callable(types) else types or {})
    return blocks


def write_star(path: PathLike, blocks: Mapping[str, Mapping[str, Sequence[Any] | Array]]) -> None:
    """Write data blocks; the file appears whole or not at all.

    A ``StarBlock`` says itself whether it is a loop; any other mapping is written as a loop.
    Floats are written with the fewest digits that give the same float64 again.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8", errors=_BAD_BYTES, newline="\n") as file:
        for name, block in blocks.items():
            file.write(f"\n{_RELION_VERSION}\n\ndata_{name}\n\n")
            if isinstance(block, StarBlock) and not block.is_loop:
                for label, values in block.items():
                    file.write(f"_{label:<44} {_as_text(values)[0]}\n")
            elif block:
                file.writelines(_loop_lines(block, path))
            file.write("\n")


def as_types(block: StarBlock, types: Types, path: Path, name: str) -> StarBlock:
    """The same block with its text columns converted to the types asked for."""
    text = {label: values for label, values in block.items() if values.dtype == object}
    typed = _typed_block(text, path, name, types, is_loop=block.is_loop)
    return StarBlock({label: typed.get(label, values) for label, values in block.items()}, block.is_loop)


def _read_all(stream: BinaryIO, path: Path) -> bytes:
    try:
        return stream.read()
    except DECOMPRESSION_ERRORS as error:
        raise BadInputError(
            path, "content", found=f"damaged ({error})", expected="a STAR file", remedy="Copy the file again."
        ) from error


def _split_blocks(data: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    if b"\0" in data:
        raise BadInputError(path, "content", found="binary data", expected="a STAR file", remedy="Give a STAR file.")
    starts = [m.start(1) for m in re.finditer(rb"\n[ \t]*(data_)", data)]
    if not starts:
        raise BadInputError(
            path, "data_ block", found="absent", expected="at least one", remedy="Check that this is a STAR file."
        )
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        line_end = data.find(b"\n", start, end)
        line_end = end if line_end < 0 else line_end
        header = data[start:line_end].split()
        yield header[0][len(b"data_") :].decode("utf-8", _BAD_BYTES), data[line_end:end]


def _parse_block(body: bytes, path: Path, name: str, types: Types) -> StarBlock:
    if _needs_tokens(body):
        return _parse_tokens(body, path, name, types)
    labels: list[str] = []
    pairs: dict[str, list[str]] = {}
    in_loop, position = False, len(body)
    for line in re.finditer(rb"[^\n]*(?:\n|\Z)", body):
        tokens = line.group().split()
        if not tokens or tokens[0].startswith(b"#"):
            continue
        if tokens[0] == b"loop_" and not (in_loop or pairs):
            in_loop = True
        elif tokens[0].startswith(b"_") and in_loop:
            labels.append(tokens[0][1:].decode("utf-8", _BAD_BYTES))
        elif tokens[0].startswith(b"_") and len(tokens) == 2:
            pairs.setdefault(tokens[0][1:].decode("utf-8", _BAD_BYTES), []).append(
                tokens[1].decode("utf-8", _BAD_BYTES)
            )
        elif in_loop and labels:
            position = line.start()
            break
        else:
            return _parse_tokens(body, path, name, types)
    if not in_loop:
        return _typed_block(pairs, path, name, types, is_loop=False)
    _check_labels(labels, path, name)
    return _parse_rows(body[position:], labels, path, name, types)


def _needs_tokens(body: bytes) -> bool:
    """Whether quotes, text fields or comments after values rule the fast parser out."""
    if b'"' in body or b"'" in body or b"\n;" in body:
        return True
    position = body.find(b"#")
    while position >= 0:
        # "_rlnLabel #3" is how RELION numbers labels; that and comments on lines of their own are harmless.
        before = body[body.rfind(b"\n", 0, position) + 1 : position]
        if before.strip() and before[-1:].isspace() and not before.lstrip().startswith(b"_"):
            return True
        position = body.find(b"#", position + 1)
    return False


def _parse_rows(body: bytes, labels: list[str], path: Path, name: str, types: Types) -> StarBlock:
    if b"#" in body:
        body = re.sub(rb"(?m)^[ \t]*#[^\n]*", b"", body)
    if not body.strip():
        return _typed_block({label: [] for label in labels}, path, name, types, is_loop=True)
    if b"\n_" in body or b"\nloop_" in body:
        raise BadInputError(
            path, f"data_{name}", found="several tables in one block", expected="one loop a block", remedy=_REPAIR
        )
    wanted = {i: types.get(label, "str") for i, label in enumerate(labels)}
    try:
        return _pandas_block(body, labels, {i: _DTYPES[t] for i, t in wanted.items()}, path, name)
    except (ValueError, OverflowError):
        # A value is nan, inf, an integer written as 1.0, or wrong: look at each one as text.
        block = _pandas_block(body, labels, dict.fromkeys(wanted, object), path, name)
        return _typed_block(block.columns, path, name, types, is_loop=True)


def _pandas_block(body: bytes, labels: list[str], dtypes: Mapping[int, type], path: Path, name: str) -> StarBlock:
    try:
        frame = pd.read_csv(
            io.BytesIO(body), sep=r"\s+", header=None, dtype=dtypes, engine="c", quoting=3, na_filter=False,
            encoding="utf-8", encoding_errors=_BAD_BYTES, **_EXACT,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadInputError(
            path, f"data_{name}", found=str(error).strip(), expected=f"{len(labels)} values a row", remedy=_REPAIR
        ) from error
    if frame.shape[1] != len(labels):
        raise BadInputError(
            path, f"data_{name}", found=f"{frame.shape[1]} values in the first row",
            expected=f"{len(labels)}, one for each label", remedy=_REPAIR,
        )  # fmt: skip
    columns = {label: frame[i].to_numpy() for i, label in enumerate(labels)}
    last = columns[labels[-1]]
    if last.dtype == object and (last == "").any():
        row = int(np.argmax(last == ""))
        raise BadInputError(
            path, f"data_{name}, row {row + 1}", found="cut short", expected=f"{len(labels)} values", remedy=_REPAIR
        )
    return StarBlock(columns, is_loop=True)


def _parse_tokens(body: bytes, path: Path, name: str, types: Types) -> StarBlock:
    """Parse a block with quotes, text fields or comments after values, token by token."""
    words, is_key = _tokens(body.decode("utf-8", _BAD_BYTES), path, name)
    keys = [position for position, key in enumerate(is_key) if key]
    if words and words[0] == "loop_" and is_key[0]:
        labels = [word[1:] for word in words[1 : len(keys)]]
        _check_labels(labels, path, name)
        values = words[1 + len(labels) :]
        if keys[-1] != len(labels) or len(values) % len(labels):
            raise BadInputError(
                path, f"data_{name}", found=f"{len(labels)} labels and {len(values)} values, or several tables",
                expected="one loop with a value for each label in every row", remedy=_REPAIR,
            )  # fmt: skip
        columns = {label: values[i :: len(labels)] for i, label in enumerate(labels)}
        return _typed_block(columns, path, name, types, is_loop=True)
    if keys != list(range(0, len(words), 2)) or len(words) % 2 or "loop_" in (words[k] for k in keys):
        raise BadInputError(
            path, f"data_{name}", found="labels without values, values without labels, or several tables",
            expected="pairs or one loop", remedy=_REPAIR,
        )  # fmt: skip
    pairs: dict[str, list[str]] = {}
    for label, value in zip(words[::2], words[1::2], strict=True):
        pairs.setdefault(label[1:], []).append(value)
    return _typed_block(pairs, path, name, types, is_loop=False)


_TOKEN = re.compile(
    r"""^;(?P<text>.*?)\n;(?=[ \t\n]|\Z) | (?P<comment>\#[^\n]*)
    | "(?P<double>[^\n]*?)"(?=[ \t\n]|\Z) | '(?P<single>[^\n]*?)'(?=[ \t\n]|\Z) | (?P<bare>[^ \t\n]+)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


def _tokens(body: str, path: Path, name: str) -> tuple[list[str], list[bool]]:
    """Split a block into words, and tell which are labels or ``loop_`` rather than values."""
    words, is_key = [], []
    for match in _TOKEN.finditer(body):
        word, group = match.group(match.lastgroup or 0), match.lastgroup
        if group == "comment":
            continue
        if (
            group == "bare"
            and word[0] in "\"';"
            and not (word[0] == ";" and match.start() and body[match.start() - 1] != "\n")
        ):
            line = body.count("\n", 0, match.start()) + 1
            raise BadInputError(
                path, f"data_{name}, line {line} of the block", found=f"a quote that does not end: {word[:40]}",
                expected="a closed quote", remedy=_REPAIR,
            )  # fmt: skip
        words.append(word)
        is_key.append(group == "bare" and (word.startswith("_") or word == "loop_"))
    return words, is_key


def _check_labels(labels: list[str], path: Path, name: str) -> None:
    if not labels:
        raise BadInputError(path, f"data_{name}", found="a loop without labels", expected="labels", remedy=_REPAIR)
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise BadInputError(
            path, f"data_{name}", found=f"the labels {repeated} twice", expected="each once", remedy=_REPAIR
        )


def _typed_block(
    columns: Mapping[str, Sequence[str] | Array],
    path: Path,
    name: str,
    types: Types,
    *,
    is_loop: bool,
) -> StarBlock:
    typed: dict[str, Array] = {}
    for label, values in columns.items():
        if not is_loop and len(values) != 1:
            raise BadInputError(
                path, f"data_{name}, _{label}", found=f"there {len(values)} times", expected="once", remedy=_REPAIR
            )
        wanted = types.get(label, "str")
        if wanted == "str":
            typed[label] = np.array(values, dtype=object)
        else:
            typed[label] = _numbers(values, wanted, f"data_{name}, _{label}", path)
    return StarBlock(typed, is_loop)


def _numbers(values: Sequence[str] | Array, wanted: ValueType, where: str, path: Path) -> Array:
    numbers: Array = np.empty(len(values), _DTYPES[wanted])
    for row, value in enumerate(values):
        try:
            if wanted == "float":
                numbers[row] = float(value)
            else:
                numbers[row] = _integer(value)
        except (ValueError, OverflowError) as error:
            kind = "a number" if wanted == "float" else "an integer"
            raise BadInputError(
                path, f"{where}, row {row + 1}", found=repr(value), expected=kind, remedy=_REPAIR
            ) from error
    return numbers


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _loop_lines(block: Mapping[str, Sequence[Any] | Array], path: PathLike) -> Iterator[str]:
    lengths = {label: len(values) for label, values in block.items()}
    if len(set(lengths.values())) != 1:
        raise HalfmapError(f"{path}: columns differ in length: {lengths}")
    yield "loop_\n"
    for number, label in enumerate(block, start=1):
        yield f"_{label} #{number}\n"
    n_rows = next(iter(lengths.values()))
    for start in range(0, n_rows, _ROWS_PER_CHUNK):
        texts = [_as_text(values[start : start + _ROWS_PER_CHUNK]) for values in block.values()]
        yield from (" ".join(row) + "\n" for row in zip(*texts, strict=True))


def _as_text(values: Sequence[Any] | Array) -> list[str]:
    """Text of each value: floats with the fewest digits that give them again, text quoted where needed."""
    array = np.asarray(values)
    # tolist() would widen float32 and show digits that it does not have.
    plain = list(array) if array.dtype.kind == "f" and array.dtype.itemsize < 8 else array.tolist()
    to_text: Callable[[Any], str] = str
    if array.dtype.kind == "b":
        to_text = _bool_text
    elif array.dtype.kind not in "fiu":
        to_text = _quoted_text
    distinct = set(plain)
    if len(distinct) > len(plain) // 2:
        return list(map(to_text, plain))
    text_of = {value: to_text(value) for value in distinct}
    return [text_of[value] for value in plain]


def _bool_text(value: bool) -> str:
    return str(int(value))


_SPECIAL = re.compile(r"[\x00-\x20\x7f]|^$|^[\"'_#;]|^(?:data_|loop_|save_|stop_|global_)", re.IGNORECASE)


def _quoted_text(value: object) -> str:
    text = str(value)
    if not _SPECIAL.search(text):
        return text
    for quote in ('"', "'"):
        if not re.search(quote + r"( |$)|[\x00-\x1f\x7f]", text):
            return f"{quote}{text}{quote}"
    raise HalfmapError(f"the text {text!r} cannot be written into a STAR file")
