from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmkendall.class_names import class_names
from mmkendall.registry import MODELS


@MODELS.register_module()
class SelectClasses(nn.Module):
    """A connector that picks classes out of a teacher's logits, in the order of the student's.

    For a teacher that knows more classes than the student, or numbers them otherwise.

    Args:
        classes: the student's classes in the order of its logits: their numbers in the logits that
            come in, counted from 0, or their names.
        of: what the classes of the logits that come in are called, in order; or a checkpoint that
            says so, as mmengine's Runner writes it. Needed for names. Defaults to None.
        dim: the dimension of the classes. Defaults to 1.

    Shape:
        - input: (N, C) or (N, C, ...).
        - output: the same with ``len(classes)`` in ``dim``.

    Raises:
        ValueError: no classes, one of them twice, a name that ``of`` has not or has twice, names
            without ``of``, when it is built; a number beyond the logits, when it is called.
        TypeError: no list or tuple, or neither numbers nor names.

    Attributes:
        names: the names of the classes that come out, None where ``classes`` are numbers.

    Example:
        In a ``ConfigurableDistiller`` that records the logits as ``fc``, the student's two
        classes out of the teacher's thousand::

            connectors=dict(pick=dict(
                type='mmkendall.SelectClasses', classes=('tench', 'bee'), of='teacher.pth')),
            loss_forward_mappings=dict(
                loss_rank=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc', connector='pick')))
    """

    def __init__(
        self,
        classes: Sequence[int] | Sequence[str],
        of: Sequence[str] | str | None = None,
        dim: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (('classes', classes), ('of', [] if isinstance(of, str) else of or [])):
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise TypeError(f'SelectClasses: {name} must be a list or tuple, got {value!r}')
        classes = tuple(classes)
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f'SelectClasses: classes must be at least one, each once: {classes}')
        named = all(isinstance(name, str) for name in classes)
        if not named and not all(type(number) is int and number >= 0 for number in classes):
            raise TypeError(
                f'SelectClasses: classes must be numbers from 0 or names, not both: {classes}'
            )
        self.names = classes if named else None
        self.dim = dim
        numbers = self._numbers_of(classes, of) if named else classes
        self.register_buffer('numbers', torch.tensor(numbers), persistent=False)
        self.num_needed = max(numbers) + 1

    @staticmethod
    def _numbers_of(names: tuple[str, ...], of: Sequence[str] | str | None) -> list[int]:
        where = 'of'
        if isinstance(of, str):
            where = repr(of)
            checkpoint = CheckpointLoader.load_checkpoint(of, 'cpu', logger='silent')
            of = class_names(checkpoint.get('meta'))
        if of is None:
            raise ValueError(
                'SelectClasses picks by name, and '
                + ('of is None' if where == 'of' else f'{where} does not name its classes')
                + ': pass of=[...], all names in the order of the logits, or pick by number'
            )
        counts = Counter(of)
        wrong = [name for name in names if counts[name] != 1]
        if wrong:
            number = counts[wrong[0]]
            found = f'{number} classes in {where} are' if number else f'no class in {where} is'
            raise ValueError(
                f'SelectClasses: {found} called {wrong[0]!r}, of {len(of)} such as {of[0]!r}'
            )
        places = {name: place for place, name in enumerate(of)}
        return [places[name] for name in names]

    def forward(self, logits: Tensor) -> Tensor:
        """The picked classes; see the class for shapes."""
        if logits.shape[self.dim] < self.num_needed:
            raise ValueError(
                f'SelectClasses picks class {self.num_needed - 1}, counted from 0, and logits of '
                f'shape {tuple(logits.shape)} have {logits.shape[self.dim]} in dim={self.dim}'
            )
        return logits.index_select(self.dim, self.numbers)

    def extra_repr(self) -> str:
        return f'{len(self.numbers)} classes, dim={self.dim}'
