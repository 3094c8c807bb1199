"""What our tools say when something cannot be."""


class ConfigError(ValueError):
    """A config or an option that can't be run, with a message that says what to do."""
