"""The examples of the documentation run as they stand, and print the output that the pages show."""

import pkgutil
import re
import sys
from contextlib import nullcontext
from pathlib import Path

import examples
import pytest
from processes import isolated_ray

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts}
WITH_EXAMPLES = [
    name
    for name, page in PAGES.items()
    if any("class" not in block.options and block.language != "text" for block in examples.blocks(page.read_text()))
]
# Ray and Dask leave files and sockets open, and warn of their own coming changes.
NOISY = [
    pytest.mark.filterwarnings(f"ignore:{warning}")
    for warning in (".*:ResourceWarning", ".*:FutureWarning", ".*:DeprecationWarning")
]
NOISY.append(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
MARKS = {"tutorials/cluster.md": NOISY}


# Lightning recommends workers and more batches; the examples are too small for them.
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*number of training batches.*")
# A resumed run writes its checkpoints to another folder.
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
# Lightning 2.6 uses a name that torch 2.14 deprecates.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*deprecated:FutureWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in WITH_EXAMPLES])
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The page, and the commands that it runs, import the files that it writes.
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    try:
        with isolated_ray() if name == "tutorials/cluster.md" else nullcontext():
            examples.run(PAGES[name].read_text(), name, {"__name__": "__main__"})
    finally:
        for file in tmp_path.glob("*.py"):
            if file.stem not in before:
                sys.modules.pop(file.stem, None)


def test_wrong_output_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n"
    with pytest.raises(AssertionError, match="printed\n2"):
        examples.run(page, "page", {})


def test_every_page_is_in_the_contents():
    listed = set(re.findall(r"^([a-z_]+(?:/[a-z_]+)?)$", PAGES["index.md"].read_text(), flags=re.MULTILINE))
    assert listed == {name.removesuffix(".md") for name in PAGES} - {"index"}


def test_documented_names_exist():
    pages = "\n".join(page.read_text() for name, page in PAGES.items() if name.startswith("api/"))
    names = re.findall(r"^\.\. auto(?:class|data|function|module):: (\S+)$", pages, flags=re.MULTILINE)
    assert names
    for name in names:
        pkgutil.resolve_name(name)
