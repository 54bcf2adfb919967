r"""Renders the contents of a report as HTML."""

__all__ = ["render_page"]

from .contents import Contents
from .figures import code_chart, count_chart, curve_chart, png_address

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("A report needs matplotlib and Jinja: pip install 'gae-augment[report]'") from error


def render_page(contents: Contents) -> str:
    r"""Returns the HTML text of a report, with all images and charts embedded."""
    environment = Environment(
        loader=PackageLoader("gae_augment.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals.update(
        png_address=png_address, count_chart=count_chart, curve_chart=curve_chart, code_chart=code_chart
    )
    return environment.get_template("page.html").render(contents=contents)
