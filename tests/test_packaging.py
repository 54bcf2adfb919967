import ast
import importlib
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError
from inspect import signature

import imports
import pytest
from imports import MODULES, ROOT, room, row
from packaging.requirements import Requirement
from packaging.version import Version

import gae_augment
from gae_augment import GAEAugmenter, GenerativeModel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# The first versions of our dependencies without a known vulnerability that affects this package.
FIRST_SAFE = {
    "filelock": ("3.20.3", "CVE-2025-68146 and CVE-2026-22701: locks follow a link that somebody else makes"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox by a filter"),
    "pillow": ("10.3", "CVE-2023-4863 and CVE-2024-28219: memory is written to by image files"),
    "torch": ("2.6", "CVE-2025-32434: code is run by files of weights"),
    "tqdm": ("4.66.3", "CVE-2024-34062: code is run by options of its command line"),
}


def test_every_package_is_listed():
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    for name, path in MODULES.items():
        assert (path.parent / "__init__.py").is_file(), f"{name} lies in a folder that is no package"
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages
    assert PROJECT["tool"]["setuptools"]["package-dir"] == {"gae_augment.integrations": "integrations"}


def test_what_is_no_module_is_listed():
    listed = PROJECT["tool"]["setuptools"]["package-data"]
    for package in {name for name, path in MODULES.items() if path.name == "__init__.py"}:
        others = {path.name for path in MODULES[package].parent.iterdir() if path.is_file() and path.suffix != ".py"}
        assert others == set(listed.get(package, ())), f"{package} holds {others}"


def test_version_is_that_of_the_project():
    assert gae_augment.__version__ == PROJECT["project"]["version"]


def test_public_names():
    assert set(gae_augment.__all__) == {"MODELS", "AugmentedDataset", "GAEAugmenter", "GenerativeModel", "MixedSampler"}


@pytest.mark.parametrize("name", MODULES)
def test_module_opens_with_a_sentence_and_its_surface(name):
    tree = imports.parse(MODULES[name])
    docstring = ast.get_docstring(tree)
    assert docstring
    assert docstring.splitlines()[0].endswith(".")
    if name in ("gae_augment.integrations", "gae_augment._utils"):
        return
    surfaces = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__"
    ]
    assert len(surfaces) == 1
    module = importlib.import_module(name)
    assert all(hasattr(module, public) for public in surfaces[0])
    assert len(set(surfaces[0])) == len(surfaces[0]) > 0


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    for imported in imports.imports_of(name):
        assert room(imported.module) == room(name) or row(room(imported.module)) < row(room(name)), (
            f"{name} imports {imported.module}, which stands above or beside it"
        )


def test_import_graph_has_no_circle():
    assert set(imports.circle_free_order()) == set(MODULES)


def test_graph_test_sees_an_upward_arrow_and_a_circle(monkeypatch, tmp_path):
    planted = tmp_path / "strategy.py"
    planted.write_text("from ..augmenter import GAEAugmenter\n")
    monkeypatch.setitem(imports.MODULES, "gae_augment.data.strategy", planted)
    with pytest.raises(AssertionError, match="stands above"):
        test_imports_go_down_only("gae_augment.data.strategy")
    with pytest.raises(CycleError):
        test_import_graph_has_no_circle()


@pytest.mark.parametrize("name", MODULES)
def test_imported_names_are_in_the_surface_of_their_module(name):
    for _, module, imported in imports.imports_of(name):
        public = imported == "" or imported in imports.surface(module)
        assert public or imported == "__version__", f"{name} imports {imported}, which is not in {module}.__all__"


@pytest.mark.parametrize("name", MODULES)
def test_other_rooms_are_entered_by_their_front_door(name):
    # The tools of _utils are imported one by one: some need libraries that others do without.
    for _, module, _ in imports.imports_of(name):
        front_door = module.count(".") < 2 or room(module) in ("_utils", room(name))
        assert front_door, f"{name} imports {module}, and not the package {module.rpartition('.')[0]}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("gae_augment.evaluation")])
def test_evaluation_never_sees_an_augmenter(name):
    assert not {"augmenter", "fitting", "models"} & {room(imported.module) for imported in imports.imports_of(name)}


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_longer_than_400_lines(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


def test_augmenter_has_at_most_nine_parameters_and_each_stands_in_one_signature():
    augmenter, model = (set(signature(cls).parameters) for cls in (GAEAugmenter, GenerativeModel))
    assert len(augmenter) <= 9
    assert not augmenter & model


@pytest.fixture(scope="module")
def modules_after():
    r"""Returns the libraries that new processes have imported: one for fits, and one for loaders and then all names."""

    def after(*statements):
        program = "import sys"
        for statement in statements:
            program += f"; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
        run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
        return [set(line.split()) for line in run.stdout.splitlines()]

    (of_fits,) = after("import gae_augment.fitting.parallel_fits")
    of_loaders, of_all = after(
        "from gae_augment import AugmentedDataset, MixedSampler; import gae_augment.integrations",
        "from gae_augment import *; GAEAugmenter, AugmentedDataset, MixedSampler, MODELS",
    )
    return {"workers of fits": of_fits, "workers of a loader": of_loaders, "all names": of_all}


def test_importing_all_names_pulls_in_no_optional_library(modules_after):
    imported = modules_after["all names"]
    assert {"torch", "sklearn"} <= imported
    assert not imported & {"lightning", "pytorch_lightning", "ray", "imblearn", "matplotlib", "torch_fidelity"}


def test_what_workers_of_a_loader_need_pulls_in_no_scikit_learn(modules_after):
    imported = modules_after["workers of a loader"]
    assert {"torch", "torchvision"} <= imported
    assert not imported & {"sklearn", "joblib"}


def test_what_workers_of_fits_need_pulls_in_no_torchvision(modules_after):
    imported = modules_after["workers of fits"]
    assert {"torch", "sklearn"} <= imported
    assert not imported & {"torchvision", "PIL"}


def test_the_package_lists_its_names_and_has_no_others():
    assert set(gae_augment.__all__) <= set(dir(gae_augment))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        gae_augment.nonsense  # noqa: B018


def declared():
    project = PROJECT["project"]
    for line in [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]:
        requirement = Requirement(line)
        if requirement.name != project["name"]:
            yield requirement


def test_every_dependency_has_a_lowest_version_and_no_highest():
    # The lowest ones are tested too, by make lowest.
    assert [(one.name, [part.operator for part in one.specifier]) for one in declared()] == [
        (one.name, [">="]) for one in declared()
    ]


@pytest.mark.parametrize("name", FIRST_SAFE)
def test_no_version_with_a_known_vulnerability_is_allowed(name):
    mended, what = FIRST_SAFE[name]
    (lowest,) = {part.version for one in declared() if one.name == name for part in one.specifier}
    assert Version(lowest) >= Version(mended), what


def test_lowest_versions_are_tested_on_existing_paths():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (paths,) = re.findall(r"^LOWEST \?= \$\(addprefix tests/,(.*)\)$", makefile, flags=re.MULTILINE)
    assert paths.split()
    assert all((ROOT / "tests" / path).exists() for path in paths.split())
