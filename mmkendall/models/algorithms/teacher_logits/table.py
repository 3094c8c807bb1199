"""Tables of scores: what a teacher of any kind says of each training sample, as teacher logits.

A table is either

``.npy``
    (N, C) numbers, row i for sample i of the training set and column c for its class c.
``.csv``
    With a header: one column of sample ids and one column a class, by the class's name, in any
    order. Rows stand in any order, too.
``.parquet``
    The same columns, the scores as numbers. What pandas notes as its index is no class.

What a number means is its kind, one of :data:`KINDS`:

``scores``
    Whatever is higher for a likelier class: logits, margins of a decision function, cosines. They
    stay as they are. Minus infinity is a class that is last.
``probabilities``
    Of each row, with a sum of 1. They become their logarithms.
``votes``
    Counts, how many of an ensemble chose the class. They become the logarithms of their shares.
``ranking``
    The lowest number is the best class. They change their sign. Infinity is a class that is not
    ranked, hence last.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmkendall.models.algorithms.teacher_logits.files import TeacherLogitsError

KINDS = ('scores', 'probabilities', 'votes', 'ranking')
# Kinds whose zeros have no logarithm.
WITH_ZEROS = ('probabilities', 'votes')
# How far from 1 the sum of rounded probabilities may be.
SUM_TOLERANCE = 1e-2
# Rows that are converted at once.
CHUNK_ROWS = 4096
# The lowest is the first that was built for NumPy 2 and for NumPy 1.
NEEDS_PYARROW = "reading a .parquet needs pyarrow: pip install 'pyarrow>=16'"


class ScoreTableError(TeacherLogitsError):
    """A table of scores that cannot be the teacher logits of a training set."""


@dataclass(frozen=True)
class ScoreTable:
    """What a file says, row by row.

    Args:
        source: the file's name, for messages.
        scores: (N, C).
        ids: of the rows, N of them; None where row i is sample i.
        names: of the columns, C of them; None where column c is class c.
    """

    source: str
    scores: np.ndarray
    ids: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None

    def columns_of(self, classes: Sequence[str] | None) -> np.ndarray:
        """Which column belongs to each class of the data set, in the order of its labels.

        Columns are found by the names of the classes, or, if they are called so, by their numbers
        from 0 on.

        Args:
            classes: the data set's names; None if it has none.

        Raises:
            ScoreTableError: a class has no column, a column no class, or two have one name.
        """
        number = self.scores.shape[1]
        if self.names is None:
            if classes is not None and len(classes) != number:
                raise ScoreTableError(
                    f'{self.source} has {number} columns, and the training set has {len(classes)} '
                    'classes: it must have one column a class, in the order of the labels'
                )
            return np.arange(number)
        numbers = [str(place) for place in range(number if classes is None else len(classes))]
        wanted = numbers if classes is None else list(classes)
        if set(self.names) == set(numbers) != set(wanted):
            wanted = numbers
        return self._places('column', self.names, 'class', wanted)

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Which row belongs to each sample of the training set, in its order.

        Args:
            ids: of the samples.

        Raises:
            ScoreTableError: a sample has no row, a row no sample, or two have one id.
        """
        if self.ids is not None:
            return self._places('row', self.ids, 'sample', ids)
        if len(self.scores) != len(ids):
            raise ScoreTableError(
                f'{self.source} has {len(self.scores)} rows, and the training set has {len(ids)} '
                'samples: without ids it must have one row a sample, in the order of the set'
            )
        return np.arange(len(ids))

    def _places(
        self, part: str, ours: Sequence[str], counterpart: str, wanted: Sequence[str]
    ) -> np.ndarray:
        """Where each wanted name is among ours, every one exactly once."""
        plural = 'classes' if counterpart == 'class' else 'samples'
        for whose, given, what in (
            (self.source, ours, f'{part}s'),
            ('the training set', wanted, plural),
        ):
            name, times = Counter(given).most_common(1)[0] if given else ('', 0)
            if times > 1:
                raise ScoreTableError(
                    f'{whose} has {times} {what} called {name!r}, and {self.source} is matched by '
                    'these names: each must be there once; columns may be called by the numbers '
                    'of the classes, from 0 on'
                )
        places = {name: place for place, name in enumerate(ours)}
        missing = [name for name in wanted if name not in places]
        known = set(wanted)
        extra = [name for name in ours if name not in known]
        found = []
        if missing:
            found.append(
                f'{len(missing)} of the {len(wanted)} {plural} of the training set have no '
                f'{part}, first {missing[0]!r}'
            )
        if extra:
            found.append(
                f'{len(extra)} of its {len(ours)} {part}s belong to no {counterpart} of the '
                f'training set, first {extra[0]!r}'
            )
        if found:
            raise ScoreTableError(
                f'{self.source}: {"; ".join(found)}. It must have one {part} for each '
                f'{counterpart}, each once'
            )
        return np.array([places[name] for name in wanted], dtype=np.int64)

    def check(
        self,
        kind: str,
        floor: float | None = None,
        keep_zeros: bool = False,
        dtype: str = 'float32',
    ) -> None:
        """Raises ScoreTableError unless every row can be turned into logits.

        Args:
            kind: one of :data:`KINDS`.
            floor: as in :func:`as_logits`.
            keep_zeros: without a floor, whether zeros that become minus infinity are meant.
            dtype: as which the logits are stored.
        """
        looks = kind == 'scores' and len(self.scores) > 0
        for first in range(0, len(self.scores), CHUNK_ROWS):
            rows = np.asarray(self.scores[first : first + CHUNK_ROWS], dtype=np.float64)
            self._check_rows(rows, first, kind, floor is not None or keep_zeros)
            logits = as_logits(rows, kind, floor)
            large = np.isfinite(logits) & (abs(logits) > np.finfo(dtype).max)
            if large.any():
                row, column = np.argwhere(large)[0]
                raise ScoreTableError(
                    f'{self.source}: logits must be in the range of {dtype}, got '
                    f'{logits[row, column]:g} for {self._row_name(first + row)}, '
                    f'{self._column_name(column)}: pass --dtype float32, or divide the scores'
                )
            looks = looks and bool((rows >= 0).all() and (abs(rows.sum(axis=1) - 1) < 1e-4).all())
        if looks and self.scores.shape[1] > 1:
            raise ScoreTableError(
                f'{self.source}: the kind must be probabilities where every row is 0 at least '
                "with a sum of 1, got 'scores', whose softmax would be taken: pass --kind "
                'probabilities'
            )

    def _check_rows(self, rows: np.ndarray, first: int, kind: str, zeros_are_meant: bool) -> None:
        expected = {
            'scores': 'numbers, or minus infinity for a class that is last',
            'probabilities': 'between 0 and 1',
            'votes': 'whole numbers of 0 at least',
            'ranking': 'numbers, the lowest for the best class, or infinity for one not ranked',
        }[kind]
        with np.errstate(invalid='ignore'):
            bad = {
                'scores': lambda: np.isnan(rows) | (rows == math.inf),
                'probabilities': lambda: ~((rows >= 0) & (rows <= 1 + 1e-6)),
                'votes': lambda: ~((rows >= 0) & (rows < math.inf) & (rows == np.floor(rows))),
                'ranking': lambda: np.isnan(rows) | (rows == -math.inf),
            }[kind]()
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ScoreTableError(
                f'{self.source}: {kind} must be {expected}, got {rows[row, column]:g} for '
                f'{self._row_name(first + row)}, {self._column_name(column)}'
            )
        none = {
            'scores': lambda: (rows == -math.inf).all(axis=1),
            'probabilities': lambda: abs(rows.sum(axis=1) - 1) > SUM_TOLERANCE,
            'votes': lambda: ~(rows > 0).any(axis=1),
            'ranking': lambda: (rows == math.inf).all(axis=1),
        }[kind]()
        if none.any():
            row = np.flatnonzero(none)[0]
            wrong = (
                f'have a sum of 1, got {rows[row].sum():g}'
                if kind == 'probabilities'
                else 'name one class at least, got none'
            )
            raise ScoreTableError(
                f'{self.source}: the {kind} of a row must {wrong} for '
                f'{self._row_name(first + row)}'
            )
        zeros = rows == 0
        if kind in WITH_ZEROS and zeros.any() and not zeros_are_meant:
            row, column = np.argwhere(zeros)[0]
            raise ScoreTableError(
                f'{self.source}: {int(zeros[row].sum())} of the {rows.shape[1]} {kind} of '
                f'{self._row_name(first + row)} are 0, whose logarithm is minus infinity: pass '
                '--floor P to raise shares below P to P, for a KL divergence, or --keep-zeros to '
                'keep these classes last and tied, for a loss on the order'
            )

    def _row_name(self, row: int) -> str:
        return f'row {row}' if self.ids is None else f'sample {self.ids[row]!r}'

    def _column_name(self, column: int) -> str:
        return f'column {column}' if self.names is None else f'class {self.names[column]!r}'


def as_logits(rows: np.ndarray, kind: str, floor: float | None = None) -> np.ndarray:
    """Scores of a kind as logits, float64 (n, C), for rows that :meth:`ScoreTable.check` passed.

    Args:
        rows: (n, C).
        kind: one of :data:`KINDS`.
        floor: a share between 0 and 1, to which smaller probabilities and shares of votes are
            raised. Defaults to None: their zeros become minus infinity.
    """
    rows = np.asarray(rows, dtype=np.float64)
    if kind == 'ranking':
        return -rows
    if kind == 'scores':
        return rows
    shares = rows / rows.sum(axis=1, keepdims=True) if kind == 'votes' else rows
    if floor is not None:
        shares = np.maximum(shares, floor)
    with np.errstate(divide='ignore'):
        return np.log(shares)


def read_table(path: str | Path, id_column: str = 'id') -> ScoreTable:
    """Reads a table; of a ``.npy`` only what is asked for, later.

    Args:
        path: the file, ``.npy``, ``.csv`` or ``.parquet``.
        id_column: the column of the sample ids in a ``.csv`` or ``.parquet``.

    Raises:
        ScoreTableError: it is not there, or no such table.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in ('.npy', '.csv', '.parquet'):
        raise ScoreTableError(
            f'{path.name} must be a .npy, .csv or .parquet, got the ending {ending!r}'
        )
    if path.is_dir():
        raise ScoreTableError(
            f'{str(path)!r} is a folder, and a table of scores is one file: write the parts as one'
        )
    if not path.is_file():
        raise ScoreTableError(f'{str(path)!r} does not exist: pass the path of a table of scores')
    try:
        if ending == '.npy':
            table = _read_npy(path)
        elif ending == '.csv':
            table = _read_csv(path, id_column)
        else:
            table = _read_parquet(path, id_column)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise ScoreTableError(
            f"{path.name} can't be read: {str(error) or type(error).__name__}"
        ) from error
    if not table.scores.size:
        raise ScoreTableError(f'{path.name} holds no scores')
    return table


def _read_npy(path: Path) -> ScoreTable:
    try:
        scores = np.load(path, mmap_mode='r', allow_pickle=False)
    except ValueError as error:
        raise ScoreTableError(f"{path.name} can't be read: {error}") from error
    if scores.ndim != 2 or scores.dtype.kind not in 'fiu':
        raise ScoreTableError(
            f'{path.name} must hold numbers of shape (samples, classes), got {scores.dtype} of '
            f'shape {scores.shape}'
        )
    return ScoreTable(path.name, scores)


def _place_of_ids(source: str, header: Sequence[str], id_column: str, mend: str = '') -> int:
    """Which column holds the sample ids; `mend` is added to the message if it is not clear."""
    if header.count(id_column) != 1:
        raise ScoreTableError(
            f'{source} must have one column {id_column!r} of sample ids in its header, got '
            f'{header.count(id_column)} among {", ".join(header[:4]) or "nothing"}, ...: '
            f'name another with --id-column{mend}'
        )
    return header.index(id_column)


def _read_csv(path: Path, id_column: str) -> ScoreTable:
    ids, rows = [], []
    # Excel puts a mark before the first name.
    with open(path, newline='', encoding='utf-8-sig') as file:
        lines = csv.reader(file, strict=True)
        header = [name.strip() for name in next(lines, [])]
        place = _place_of_ids(path.name, header, id_column)
        names = header[:place] + header[place + 1 :]
        for line in lines:
            if not line:
                continue
            if len(line) != len(header):
                raise ScoreTableError(
                    f'{path.name}, line {lines.line_num}: {len(line)} fields, and the header has '
                    f'{len(header)}'
                )
            ids.append(line.pop(place).strip())
            try:
                rows.append(np.array(line, dtype=np.float64))
            except ValueError as error:
                raise ScoreTableError(
                    f'{path.name}, line {lines.line_num}: scores must be numbers, {error}'
                ) from error
    scores = np.stack(rows) if rows else np.empty((0, len(names)))
    return ScoreTable(path.name, scores, tuple(ids), tuple(names))


def _read_parquet(path: Path, id_column: str) -> ScoreTable:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ScoreTableError(f'{path.name}: {NEEDS_PYARROW}') from error
    try:
        # Not read_table, which finds columns by name and so refuses two of one name in words of
        # its own.
        with pa.parquet.ParquetFile(path) as file:
            return _table_of_parquet(path.name, file, id_column)
    except pa.ArrowException as error:
        reason = ' '.join(str(error).split())
        raise ScoreTableError(f"{path.name} can't be read: {reason}") from error


def _table_of_parquet(source: str, file, id_column: str) -> ScoreTable:
    """What an open ``pyarrow.parquet.ParquetFile`` says."""
    import pyarrow as pa

    schema, number = file.schema_arrow, file.metadata.num_rows
    header = [name.strip() for name in schema.names]
    # pandas writes an index as a column, but one that counts from 0 on as a note alone. Neither is
    # a class, and both may be the ids.
    index = (schema.pandas_metadata or {}).get('index_columns', [])
    counted = [
        range(each['start'], each['stop'], each['step'])
        for each in index
        if isinstance(each, dict) and each.get('kind') == 'range' and each['name'] == id_column
    ]
    index = {name.strip() for name in index if isinstance(name, str)}
    ids: list[str] = []
    place = None
    if counted and id_column not in header:
        ids = [str(each) for each in counted[0]]
    else:
        unnamed = sorted(index - {id_column})
        mend = f", such as pandas' index {unnamed[0]!r}" if unnamed else ''
        place = _place_of_ids(source, header, id_column, mend)
    columns = [
        column for column, name in enumerate(header) if column != place and name not in index
    ]
    types = [schema.types[column] for column in columns]
    for column, kind in zip(columns, types, strict=True):
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ScoreTableError(
                f'{source}, column {header[column]!r}: scores must be numbers, got the type '
                f'{kind}: write it as float64'
            )
    narrow = all(pa.types.is_float16(kind) or pa.types.is_float32(kind) for kind in types)
    scores = np.empty((number, len(columns)), dtype=np.float32 if narrow else np.float64)
    first = 0
    for batch in file.iter_batches(CHUNK_ROWS):
        rows = slice(first, first + len(batch))
        for target, column in enumerate(columns):
            # What is null becomes NaN, as pandas writes it, and is refused as such.
            scores[rows, target] = batch.column(column).to_numpy(zero_copy_only=False)
        if place is not None:
            ids += [
                '' if each is None else str(each).strip()
                for each in batch.column(place).to_pylist()
            ]
        first += len(batch)
    names = tuple(header[column] for column in columns)
    return ScoreTable(source, scores, tuple(ids), names)


def table_fingerprint(path: str | Path, options: dict) -> dict:
    """What teacher logits from a table depend on beside the images, in place of a network's.

    Args:
        path: the file.
        options: how its numbers become logits.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {'weights': [digest.hexdigest()], 'table': {'file': Path(path).name, **options}}
