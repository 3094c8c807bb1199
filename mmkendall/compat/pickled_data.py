"""mmengine reads a ``.pkl``, such as annotations, with a pickle that may run anything.

It is read by the list of :mod:`mmkendall.compat.safe_loading` instead, like checkpoints. The files
of CIFAR, which mmpretrain reads by itself, it compares with their checksums first. Until mmengine
has a way to read data alone.
"""

BREAKS = 'a .pkl of annotations or results may run code as mmengine reads it'
PACKAGES = ('mmengine',)


def is_broken() -> bool:
    from mmengine.fileio.handlers import PickleHandler

    return PickleHandler.load_from_fileobj.__module__ == PickleHandler.__module__


def mend() -> None:
    from mmengine.fileio.handlers import PickleHandler

    from mmkendall.compat.safe_loading import load_pickle

    def load_from_fileobj(self, file, **kwargs):
        """What mmengine's own returns, for content that safe_loading lists."""
        return load_pickle(file, **kwargs)

    PickleHandler.load_from_fileobj = load_from_fileobj
