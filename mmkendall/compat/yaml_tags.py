"""mmengine reads YAML with a loader that makes any Python object and calls any function.

A config in YAML could so run code as it is read. Tags of Python are refused instead; data is read
as before. Until mmengine reads with yaml's safe loader.
"""

BREAKS = 'a YAML config with a tag of Python runs code as mmengine reads it'
PACKAGES = ('mmengine', 'yaml')


def is_broken() -> bool:
    import yaml
    from mmengine.fileio.handlers import yaml_handler

    # The safe one reads data alone, and the others derive from the full one.
    return issubclass(yaml_handler.Loader, yaml.constructor.FullConstructor)


def mend() -> None:
    import yaml
    from mmengine.fileio.handlers import yaml_handler

    yaml_handler.Loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
