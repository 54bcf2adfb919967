r"""How the documentation is built: ``make docs`` writes it to ``docs/_build``."""

from gae_augment import __version__

project = "gae-augment"
author = "The gae-augment developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "gae-augment"
maximum_signature_line_length = 100

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# Of docstrings with types in the signature.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True

# What a docstring refers to has to be there.
nitpicky = True
# Types in signatures, of libraries whose own pages are not at hand where these are built.
nitpick_ignore_regex = [("py:.*", r"(?!gae_augment\.).*")]
