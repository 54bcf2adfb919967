import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.metadata import version

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.evaluation import ClassifierFeatures, fidelity
from gae_augment.report import write_report
from gae_augment.report.contents import gather

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements and words of a page, whose elements must be nested correctly."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    chosen = np.concatenate([np.flatnonzero(data.target == label)[:n] for label, n in ((0, 40), (1, 25), (2, 15))])
    unseen = np.concatenate([np.flatnonzero(data.target == label)[100:150] for label in range(3)])
    images = torch.from_numpy(data.images * 15).byte()[:, None]
    labels = torch.from_numpy(data.target)
    return (images[chosen], labels[chosen]), (images[unseen], labels[unseen])


@pytest.fixture(scope="module")
def augmenter(digits):
    return GAEAugmenter(random_state=0, progress=False).fit(*digits[0])


def test_page_loads_no_other_file_and_describes_every_image(augmenter, digits, tmp_path):
    path = write_report(augmenter, digits[0], tmp_path / "report.html")
    page = Page(path.read_text())
    tags = [tag for tag, _ in page.elements]
    assert not {"script", "link", "iframe", "object", "embed"} & set(tags)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    ]
    assert {re.split(r"[,#]", address)[0] for address in addresses} == {"", "data:image/png;base64"}
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    # Each of two classes has 12 real images, 12 synthetic images, 4 pairs and 2 charts; the counts have one chart.
    assert (tags.count("img"), tags.count("svg")) == (2 * (12 + 12 + 8), 1 + 2 * 2)
    figures = [attributes for tag, attributes in page.elements if tag == "figure" and "role" in attributes]
    assert figures == [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in figures)
    identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {address[1:] for address in addresses if address.startswith("#")} <= identifiers
    assert list(tmp_path.iterdir()) == [path]


def test_page_shows_counts_fits_and_settings(augmenter, digits, tmp_path):
    text = Page(write_report(augmenter, digits[0], tmp_path / "report.html").read_text()).text
    assert "Synthetic images for 2 of 3 classes" in text
    assert "0 40 0 40 1 25 15 40 2 15 25 40" in text
    for label, report in augmenter.report_.items():
        assert f"Class {label} {report.images} images, {report.epochs} epochs" in text
        assert f"δ {report.delta:.4f} reached" in text
    assert "Not measured, because no held-out real images were given" in text
    assert "random_state 0" in text
    assert "latent_dim: 10" in text
    assert f"torch, version {version('torch')}" in text


def test_page_depends_only_on_the_seed(augmenter, digits, tmp_path):
    first, second = (write_report(augmenter, digits[0], tmp_path / name).read_text() for name in ("1.html", "2.html"))
    assert first == second != write_report(augmenter, digits[0], tmp_path / "3.html", seed=1).read_text()


def test_figures_equal_those_of_the_evaluation(augmenter, digits, tmp_path):
    extractor = ClassifierFeatures.train(*digits[0], dataset_name="digits", epochs=1)
    contents = gather(augmenter, digits[0], held_out=digits[1], extractor=extractor)
    real, labels = digits[1]
    # There are 15 and 25 synthetic images, and 50 held-out images.
    samples = [augmenter.sample(label, n, seed=None) for label, n in ((1, 15), (2, 25))]
    assert contents.memorisation.nearest_index.shape == (40,)
    assert set(contents.fidelity) == set(fidelity(real[labels > 0][:40], torch.cat(samples), extractor=extractor))
    text = Page(
        write_report(
            augmenter, digits[0], tmp_path / "report.html", held_out=digits[1], extractor=extractor
        ).read_text()
    ).text
    assert f"FID (classifier features, digits) {contents.fidelity['FID (classifier features, digits)']:.4g}" in text
    assert f"{100 * contents.memorisation.fraction:.1f} % of the synthetic images are as close" in text


def test_copy_of_a_training_image_is_shown_first(digits, monkeypatch):
    augmenter = GAEAugmenter(random_state=0, progress=False).fit(*digits[0])
    copied = digits[0][0][70]
    sample = GAEAugmenter.sample

    def sample_with_a_copy(self, label, n, **options):
        samples = sample(self, label, n, **options)
        samples[7] = copied
        return samples

    monkeypatch.setattr(GAEAugmenter, "sample", sample_with_a_copy)
    first = gather(augmenter, digits[0]).classes[1].nearest[0]
    assert first.distance == 0
    assert torch.equal(first.training, copied / 255)


def test_codes_lie_along_their_principal_axes(augmenter, digits):
    contents = gather(augmenter, digits[0]).classes[0]
    images, labels = digits[0]
    codes = augmenter.models_[1].encode(images[labels == 1]).double()
    variances = torch.linalg.eigvalsh(codes.T.cov()).flip(0)[:2]
    torch.testing.assert_close(contents.real_codes.double().T.cov().diagonal(), variances, rtol=1e-3, atol=1e-4)
    assert contents.synthetic_codes.shape == (15, 2)


@pytest.mark.parametrize(
    ("convert", "has_images"),
    [
        (lambda images: images[:, 0], True),
        (lambda images: images > 100, True),
        (lambda images: images / 255, True),
        (lambda images: images.double() - 100, True),
        (lambda images: images.expand(-1, 3, 8, 8), True),
        (lambda images: images.expand(-1, 4, 8, 8), True),
        (lambda images: images.flatten(1).double()[:, 10:14] + torch.rand(len(images), 4, dtype=torch.double), False),
        (lambda images: images.flatten(1).double()[:, 18:19], False),
    ],
    ids=["N, H, W", "bool", "unit", "standardised", "colour", "four channels", "vectors", "one feature"],
)
def test_page_suits_every_kind_of_data(digits, convert, has_images, tmp_path):
    images, labels = digits[0]
    data = convert(images), labels
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=1000.0, n_init=1), random_state=0, progress=False).fit(
        *data
    )
    page = Page(write_report(augmenter, data, tmp_path / "report.html").read_text())
    assert any(tag == "img" for tag, _ in page.elements) == has_images


def test_class_names_are_escaped(digits, tmp_path):
    images, labels = digits[0]
    names = np.array(["<b>0</b>", "1 & 1", '"2"'])[labels]
    augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=1000.0), random_state=0, progress=False).fit(images, names)
    page = Page(write_report(augmenter, (images, names), tmp_path / "report.html").read_text())
    assert "b" not in {tag for tag, _ in page.elements}
    assert "Class 1 & 1" in page.text
    assert "<b>0</b> 40 0 40" in page.text


def test_invalid_arguments_are_rejected_and_leave_no_file(augmenter, digits, tmp_path):
    images, labels = digits[0]
    with pytest.raises(NotFittedError):
        write_report(GAEAugmenter(), digits[0], tmp_path / "report.html")
    with pytest.raises(
        ValueError, match=r"\{0: 40, 1: 25, 2: 14\} images per class, but .* fitted to \{0: 40, 1: 25, 2: 15\}"
    ):
        write_report(augmenter, (images[:-1], labels[:-1]), tmp_path / "report.html")
    with pytest.raises(FileNotFoundError, match=r"The folder .*nowhere.* does not exist"):
        write_report(augmenter, digits[0], tmp_path / "nowhere" / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_assess_works_and_write_report_names_the_missing_library(augmenter, digits, tmp_path, monkeypatch, library):
    import gae_augment

    # The package attribute is restored too.
    monkeypatch.setattr(gae_augment, "report", gae_augment.report)
    for name in [name for name in sys.modules if name.startswith("gae_augment.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    from gae_augment.report import assess, write_report

    assert set(assess(augmenter, digits[0]).synthetic) == {1, 2}
    monkeypatch.setattr(GAEAugmenter, "sample", lambda *_, **__: pytest.fail("images were sampled"))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gae-augment\[report\]'"):
        write_report(augmenter, digits[0], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


# Before the page has loaded, the browser may not have laid the pictures out.
PROBE = """<script>
window.addEventListener("load", () => {
  const picture = document.querySelector(".pictures img"), before = picture.width;
  picture.focus();
  document.title = [
    document.documentElement.scrollWidth, window.innerWidth, document.images.length,
    [...document.images].every(image => image.complete && image.naturalWidth > 0),
    getComputedStyle(document.body).backgroundColor, picture.width > 4 * before,
  ].join("; ");
});
</script>"""


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize("width", [500, 1200], ids=["phone", "laptop"])
def test_browser_shows_the_page(augmenter, digits, tmp_path, width):
    path = write_report(augmenter, digits[0], tmp_path / "report.html")
    path.write_text(path.read_text().replace("</body>", PROBE + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", path.as_uri()]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    title = re.search("<title>(.*?)</title>", shown).group(1)
    page_width, window_width, images, loaded, background, enlarged = title.split("; ")
    # The page needs no horizontal scrolling.
    assert int(page_width) <= int(window_width) == width
    assert (int(images), loaded, background) == (64, "true", "rgb(255, 255, 255)")
    assert enlarged == "true"
