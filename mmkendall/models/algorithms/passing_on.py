"""What a plain model has, its wrapper has too."""

from __future__ import annotations

from typing import Any

from torch import nn


class PassesOn(nn.Module):
    """Reads and sets in its ``architecture`` what it does not have itself.

    Hooks reach for parts of a plain model: mmpretrain's ``SwitchRecipeHook`` puts a loss into
    ``model.head``, ``SetAdaptiveMarginsHook`` sets the margins there. Reading and setting go
    together, else what was found in the student would be set where nobody looks.

    Names with a leading underscore, and so what Python and torch look for when they copy, pickle
    or print, are of the object itself; so is what is set while it is built, and ``module``, by
    which mmengine knows the wrappers of torch.
    """

    _built = False

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A property of ours that failed comes here, too: the student's is not meant.
            if not self._passed_on(name):
                raise
        return getattr(self.architecture, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._built and self._passed_on(name) and hasattr(self.architecture, name):
            setattr(self.architecture, name, value)
        else:
            super().__setattr__(name, value)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Depth of a parameter's layer and of all, for layer-wise learning-rate decay.

        Args:
            param_name: one of this model. Other than the student's are as deep as its head.

        Raises:
            NotImplementedError: the student does not tell.
        """
        student = self.architecture
        try:
            if hasattr(student, 'get_layer_depth'):
                return student.get_layer_depth(param_name.removeprefix('architecture.'))
        except NotImplementedError:
            student = getattr(student, 'backbone', student)
        raise NotImplementedError(
            'layer-wise learning-rate decay needs a student that tells how deep a layer is '
            f'(get_layer_depth), and a {type(student).__name__} does not'
        )

    def _passed_on(self, name: str) -> bool:
        own = self.__dict__
        return (
            not name.startswith('_')
            and name != 'module'
            and name not in own
            and not hasattr(type(self), name)
            and 'architecture' in own.get('_modules', {})
            and not any(name in own[kind] for kind in ('_modules', '_parameters', '_buffers'))
        )
