import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import gae_augment

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"gae_augment": ROOT / "gae_augment", "gae_augment.integrations": ROOT / "integrations"}

# From the bottom up, as in the design: a module imports from lower rows alone.
ROWS = (
    ("devices", "jobs", "likelihoods", "threads", "version"),
    ("alignment", "allocation", "storage", "values"),
    ("longtail", "networks", "persistence", "reading", "samplers", "seeding", "strategy", "teachers"),
    ("densities", "evaluation", "datasets", "folders"),
    ("objectives",),
    ("training",),
    ("settings",),
    ("generator",),
    ("checkpoints",),
    ("augmenter",),
    ("assessment", "forecast", "shards"),
    ("__init__",),
    ("demo", "cli", "integrations", "report"),
)
# Versions that mended known vulnerabilities of what we depend on, in what we use of it.
MENDED = {
    "filelock": ("3.20.3", "CVE-2025-68146 and CVE-2026-22701: locks follow a link that somebody else makes"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox by a filter"),
    "pillow": ("10.3", "CVE-2023-4863 and CVE-2024-28219: memory is written to by image files"),
    "torch": ("2.6", "CVE-2025-32434: code is run by files of weights"),
    "tqdm": ("4.66.3", "CVE-2024-34062: code is run by options of its command line"),
}
BESIDE_EACH_OTHER = {("longtail", "seeding"), ("samplers", "seeding"), ("cli", "demo"), ("cli", "report")}
# A method that opens the report, which is imported when it is called.
UPWARDS = {("gae_augment.augmenter", "gae_augment.report")}


def modules():
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


MODULES = dict(modules())


def imported(name, path):
    r"""Returns the modules of the package that a module imports, in whole names."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "gae_augment")
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            whole = ".".join(filter(None, [base, node.module]))
            if whole.split(".")[0] == "gae_augment":
                yield from (
                    f"{whole}.{alias.name}" if f"{whole}.{alias.name}" in MODULES else whole for alias in node.names
                )


def room(name):
    return name.split(".")[1] if "." in name else "__init__"


def row(name):
    (found,) = [number for number, row in enumerate(ROWS) if room(name) in row]
    return found


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
    assert set(gae_augment.__all__) == {"MODELS", "AugmentedDataset", "GAEAugmenter", "MixedSampler"}


@pytest.mark.parametrize("name", MODULES)
def test_module_opens_with_a_sentence_and_its_surface(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree)
    assert docstring
    assert docstring.splitlines()[0].endswith(".")
    if name == "gae_augment.integrations":
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
    for other in imported(name, MODULES[name]):
        same_room = room(other) == room(name)
        beside = (room(name), room(other)) in BESIDE_EACH_OTHER
        upwards = (name, other) in UPWARDS
        assert same_room or beside or upwards or row(other) < row(name), (
            f"{name} imports {other}, which stands above it"
        )


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("gae_augment.evaluation")])
def test_evaluation_never_sees_an_augmenter(name):
    assert not {"augmenter", "datasets", "generator"} & {room(other) for other in imported(name, MODULES[name])}


def modules_after(statement):
    program = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    return set(run.stdout.split())


def test_importing_all_names_pulls_in_no_optional_library():
    imported = modules_after("from gae_augment import *; GAEAugmenter, AugmentedDataset, MixedSampler, MODELS")
    assert {"torch", "sklearn"} <= imported
    assert not imported & {"lightning", "pytorch_lightning", "ray", "imblearn", "matplotlib", "torch_fidelity"}


def test_what_workers_of_a_loader_need_pulls_in_no_scikit_learn():
    imported = modules_after("from gae_augment import AugmentedDataset, MixedSampler; import gae_augment.integrations")
    assert {"torch", "torchvision"} <= imported
    assert not imported & {"sklearn", "joblib"}


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


@pytest.mark.parametrize("name", MENDED)
def test_no_version_with_a_known_vulnerability_is_allowed(name):
    mended, what = MENDED[name]
    (lowest,) = {part.version for one in declared() if one.name == name for part in one.specifier}
    assert Version(lowest) >= Version(mended), what
