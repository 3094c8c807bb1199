"""The code blocks of a page of docs/."""

from __future__ import annotations

import re

from ..conftest import REPOSITORY

FENCE = re.compile(
    r'^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$', re.M | re.S
)


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """Caption, empty where there is none, and text of each block of a language, in order."""
    text = (REPOSITORY / 'docs' / page).read_text()
    return [(caption, body) for found, caption, body in FENCE.findall(text) if found == language]


def write_files(page: str, folder) -> list[str]:
    """Writes the blocks that have a file's name into a folder, and returns the names."""
    named = [(name, body) for name, body in blocks(page, 'python') if name]
    for name, body in named:
        (folder / name).write_text(body)
    return [name for name, _ in named]


def commands(page: str) -> list[list[str]]:
    """The words of every command in the blocks of a shell, continued lines joined."""
    lines = '\n'.join(body for _, body in blocks(page, 'bash')).replace('\\\n', ' ').splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith('#')]
