"""Sphinx's settings for the site: `make docs`.

The sources are the Markdown files of the whole repository that `include_patterns` names, so that a
link between two of them is the same in a checkout and on the site.
"""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

# Before anything of OpenMMLab is imported, as in our tools.
from mmkendall import __version__, compat

compat.apply()

project = 'mmkendall'
author = copyright = 'The mmkendall authors'
version = release = __version__

root_doc = 'docs/index'
include_patterns = ['docs/**.md', 'configs/*/README.md', 'examples/README.md',
                    'CHANGELOG.md', 'CONTRIBUTING.md']  # fmt: skip
exclude_patterns = ['.*', '*.egg-info', 'build', 'mmkendall', 'requirements', 'tests', 'tools',
                    'work_dirs', 'docs/_root']  # fmt: skip

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]

myst_enable_extensions = ['attrs_inline', 'dollarmath']
myst_heading_anchors = 4

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
# A parameter a line where they do not fit.
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [('Shape', 'notes_style'), ('Cost', 'notes_style'), 'Metrics']
# What other projects' documentation describes: nothing here is fetched to link to it. The last two
# are of this package, and docstrings name them without their module.
nitpick_ignore_regex = [
    (r'py:.*', r'(torch|mmengine|mmrazor|mmpretrain|mmdet|mmseg|numpy|np|nn|collections)\b.*'),
    (r'py:.*', r'(numbers\.Number|os\.PathLike|pathlib\.Path|Any|Module|Path|Tensor)'),
    (r'py:class', r'(TeacherInput|LoadingCheck)'),
]

html_theme = 'furo'
html_title = f'mmkendall {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
# The site's first page is docs/index.html; this folder holds an index.html that leads there.
html_extra_path = ['_root']
html_theme_options = {'navigation_with_keys': True}
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True

linkcheck_timeout = 20
linkcheck_workers = 4

# Formulas become MathML, which browsers draw by themselves: no script is fetched to show them.
html_math_renderer = 'mathml'


def write_formula(writer: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer('mathml', (write_formula, None), (write_formula, None))
