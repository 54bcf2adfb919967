"""The documentation's examples run as they stand, and print what they say."""

import re
import sys
from pathlib import Path

import examples
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts}
WITH_EXAMPLES = [
    name
    for name, page in PAGES.items()
    if any("class" not in block.options and block.language != "text" for block in examples.blocks(page.read_text()))
]
# Neither Ray nor Dask closes all that it opens, and both speak of what they will change.
NOISY = [
    pytest.mark.filterwarnings(f"ignore:{what}")
    for what in (".*:ResourceWarning", ".*:FutureWarning", ".*:DeprecationWarning")
]
NOISY.append(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
MARKS = {"tutorials/cluster.md": [*NOISY, pytest.mark.xdist_group("ray")]}

pytestmark = pytest.mark.usefixtures("isolated_ray")


# Lightning recommends workers, fewer batches and a GPU; the examples are too small for them.
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*number of training batches.*")
# A resumed run writes its checkpoints elsewhere.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
# Lightning 2.6 uses what torch 2.14 wants named otherwise.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in WITH_EXAMPLES])
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A page's own files can be imported, by the page and by what it runs.
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        examples.run(PAGES[name].read_text(), name, {"__name__": "__main__"})
    finally:
        for own in tmp_path.glob("*.py"):
            if own.stem not in before:
                sys.modules.pop(own.stem, None)


def test_a_wrong_output_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    with pytest.raises(AssertionError, match="prints\n2"):
        examples.run(page, "page", {})


def test_every_page_is_in_the_contents():
    listed = set(re.findall(r"^([a-z_]+(?:/[a-z_]+)?)$", PAGES["index.md"].read_text(), flags=re.MULTILINE))
    assert listed == {name.removesuffix(".md") for name in PAGES} - {"index"}
