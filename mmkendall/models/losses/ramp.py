"""How far a run has come on a ramp over its first epochs, for losses that start gently."""

from __future__ import annotations

import warnings
from numbers import Integral

from mmengine.logging import MessageHub


def check_ramp(name: str, epochs: int) -> None:
    """Raises for a length that is no whole number of epochs.

    Args:
        name: the option, for the message.
        epochs: its value; 0 means no ramp.
    """
    if not isinstance(epochs, Integral) or isinstance(epochs, bool) or epochs < 0:
        raise ValueError(f'{name} must be a whole number of epochs, 0 for none, got {epochs!r}')


def ramp_share(epochs: int) -> float:
    """The share of a ramp that the present epoch has reached, 1 from its last epoch on.

    The first epoch counts as one, as in the published code of DKD and CTKD: a ramp of 20 epochs
    begins at 1/20. It is read from mmengine's message hub, so it is right after a resume. Outside
    a training by a runner it is 1: a loss that is called by itself has its full strength. An
    iteration-based loop counts as one epoch, so there a ramp stays where it begins, with a
    warning.

    Args:
        epochs: its length.
    """
    hub = MessageHub.get_current_instance()
    if epochs == 0 or hub.get_info('loop_stage') != 'train':
        return 1.0
    max_epochs = hub.get_info('max_epochs', epochs)
    if max_epochs < epochs:
        warnings.warn(
            f'a ramp of {epochs} epochs does not end in a training of {max_epochs} (an '
            'iteration-based loop counts as one epoch)',
            stacklevel=2,
        )
    return min((hub.get_info('epoch', 0) + 1) / epochs, 1.0)
