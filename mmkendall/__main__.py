"""``mmkendall TOOL ...`` and ``python -m mmkendall TOOL ...``: our tools, wherever pip put them.

    mmkendall train mmkendall::digits/resnet18-w4_1xb64_digits.py --work-dir work_dirs/digits
    mmkendall dist_train CONFIG 2
    mmkendall model_converters/student_from_distill CHECKPOINT

A tool is a script of ``tools/``, which the package ships, named without its ending.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / '.mim' / 'tools'


def tool_names() -> list[str]:
    """Every script of ``tools/`` that is run by itself, without its ending."""
    files = [*TOOLS.rglob('*.py'), *TOOLS.rglob('*.sh')]
    return sorted(str(file.relative_to(TOOLS).with_suffix('')) for file in files)


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__.strip(), '\n\nTools:', ', '.join(tool_names()))
        return 0
    name = sys.argv[1]
    if name not in tool_names():
        print(
            f'mmkendall: error: there is no tool {name!r}; there are {", ".join(tool_names())}',
            file=sys.stderr,
        )
        return 2
    script = (TOOLS / name).with_suffix('.sh')
    if script.is_file():
        # The launchers call `python`, which has to be the one that runs this.
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ.get("PATH", "")}'
        os.execvpe('bash', ['bash', str(script), *sys.argv[2:]], {**os.environ, 'PATH': path})
    script = script.with_suffix('.py')
    sys.argv[:2] = [str(script)]
    # As Python does for a script: tools import what lies beside them.
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name='__main__')
    return 0


if __name__ == '__main__':
    sys.exit(main())
