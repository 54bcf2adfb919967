r"""All classification data sets of torchvision, opened from small files of random pixels.

Left out: PCAM and LSUN, as their libraries h5py and lmdb are not among the dependencies; HMDB51, Kinetics and UCF101,
whose items are videos; LFWPairs, whose items have two images; MovingMNIST and PhotoTour, whose items have no label; and
all data sets for detection, segmentation, captions, optical flow and stereo matching, whose targets are no integers.
"""

import bz2
import csv
import json
import pickle
import struct
from functools import partial

import numpy as np
import pytest
import torch
from checked import assert_augments_as_it_should
from example_datasets import LABELS, pixels
from PIL import Image
from scipy.io import savemat
from torch.utils.data import ConcatDataset, Subset
from torchvision import datasets
from torchvision.transforms import v2

CLASSES = ("ant", "bee", "cat")
WNIDS = ("n01440764", "n02102040", "n02979186")
SPECIES = (
    "00000_Animalia_Arthropoda_Insecta_Hymenoptera_Formicidae_Lasius_niger",
    "00001_Animalia_Arthropoda_Insecta_Hymenoptera_Apidae_Apis_mellifera",
    "00002_Animalia_Chordata_Mammalia_Carnivora_Felidae_Felis_catus",
)

OPTIONS = {
    "plain": {},
    "transform": {
        "transform": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.4], [0.3])])
    },
    "target_transform": {"target_transform": lambda label: label + 3},
}


@pytest.fixture(autouse=True)
def no_checksums(monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda path, md5: True)


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS.keys())
def options(request):
    return request.param


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_lines(path, lines):
    write(path, "".join(f"{line}\n" for line in lines))


def write_idx(path, array):
    kind = {np.dtype(np.uint8): 8, np.dtype(np.int32): 12}[array.dtype]
    header = struct.pack(f">{array.ndim + 1}i", 256 * kind + array.ndim, *array.shape)
    write(path, header + array.astype(array.dtype.newbyteorder(">")).tobytes())


def write_images(folder, template, names=CLASSES):
    r"""Writes an image for each label, 8 pixels high and wide, and returns the paths relative to the folder.

    The template of the paths may contain the name of the class, its rank from 1, the image's index, and its number in
    the class, from 1.
    """
    paths = [
        template.format(name=names[label], rank=label + 1, index=index, number=LABELS[: index + 1].count(label))
        for index, label in enumerate(LABELS)
    ]
    for path, image in zip(paths, pixels(len(LABELS), 8, 8, 3), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / path)
    return paths


def fake_data(root, **options):
    return datasets.FakeData(size=9, image_size=(3, 8, 8), num_classes=3, **options)


def image_folder(root, **options):
    write_images(root, "{name}/{index}.png")
    return datasets.ImageFolder(root, **options)


def dataset_folder(root, **options):
    for index, (image, label) in enumerate(zip(pixels(7, 8, 8, 3), LABELS, strict=True)):
        (root / CLASSES[label]).mkdir(exist_ok=True)
        np.save(root / CLASSES[label] / f"{index}.npy", image)
    return datasets.DatasetFolder(root, np.load, extensions=("npy",), **options)


def mnist(cls, root, **options):
    for prefix in ("train", "t10k"):
        write_idx(root / cls.__name__ / f"raw/{prefix}-images-idx3-ubyte", pixels(7, 28, 28))
        write_idx(root / cls.__name__ / f"raw/{prefix}-labels-idx1-ubyte", np.array(LABELS, dtype=np.uint8))
    return cls(root, **options)


def emnist(root, **options):
    prefix = "EMNIST/raw/emnist-letters-train"
    write_idx(root / f"{prefix}-images-idx3-ubyte", pixels(7, 28, 28))
    write_idx(root / f"{prefix}-labels-idx1-ubyte", np.array([1, 5, 26, 5, 1, 26, 26], dtype=np.uint8))
    return datasets.EMNIST(root, "letters", **options)


def qmnist(root, **options):
    # The columns after the first tell the writer and the place of a digit.
    write_idx(root / "QMNIST/raw/qmnist-train-images-idx3-ubyte", pixels(7, 28, 28))
    columns = np.column_stack([LABELS, pixels(7, 7)]).astype(np.int32)
    write_idx(root / "QMNIST/raw/qmnist-train-labels-idx2-int", columns)
    return datasets.QMNIST(root, **options)


def usps(root, **options):
    lines = [
        " ".join([str(label + 1), *(f"{index}:{value}" for index, value in enumerate(values, 1))])
        for values, label in zip(pixels(7, 256) / 127.5 - 1, LABELS, strict=True)
    ]
    write(root / "usps.bz2", bz2.compress("\n".join(lines).encode()))
    return datasets.USPS(root, **options)


def semeion(root, **options):
    np.savetxt(root / "semeion.data", np.hstack([pixels(7, 256) > 127, np.eye(10)[LABELS]]), fmt="%.4f")
    return datasets.SEMEION(root, download=False, **options)


def cifar(cls, root, **options):
    key = "labels" if cls is datasets.CIFAR10 else "fine_labels"
    for files in (cls.train_list, cls.test_list):
        parts = zip(np.array_split(pixels(7, 3072), len(files)), np.array_split(LABELS, len(files)), strict=True)
        for (name, _), (images, labels) in zip(files, parts, strict=True):
            write(root / cls.base_folder / name, pickle.dumps({"data": images, key: labels.tolist()}))
    write(root / cls.base_folder / cls.meta["filename"], pickle.dumps({cls.meta["key"]: CLASSES}))
    return cls(root, **options)


def svhn(root, **options):
    labels = [[label or 10] for label in LABELS]
    savemat(root / "train_32x32.mat", {"X": pixels(32, 32, 3, 7), "y": np.array(labels, dtype=np.uint8)})
    return datasets.SVHN(root, **options)


def stl10(root, **options):
    labels = bytes(label + 1 for label in LABELS)
    for name in ("train", "test", "unlabeled"):
        write(root / f"stl10_binary/{name}_X.bin", pixels(7, 3, 96, 96).tobytes())
        write(root / f"stl10_binary/{name}_y.bin", labels)
    write_lines(root / "stl10_binary/class_names.txt", CLASSES)
    return datasets.STL10(root, **options)


def flowers102(root, **options):
    write_images(root / "flowers-102/jpg", "image_{index:05d}.jpg")
    # Image 0 belongs to no split.
    savemat(root / "flowers-102/imagelabels.mat", {"labels": np.array(LABELS[1:]) + 1})
    savemat(root / "flowers-102/setid.mat", {"trnid": np.arange(6, 0, -1), "valid": [1], "tstid": [1]})
    return datasets.Flowers102(root, **options)


def dtd(root, **options):
    write_lines(root / "dtd/dtd/labels/train1.txt", write_images(root / "dtd/dtd/images", "{name}/{index}.jpg"))
    return datasets.DTD(root, **options)


def food101(root, **options):
    paths = write_images(root / "food-101/images", "{name}/{index}.jpg")
    names = {name: [path[:-4] for path in paths if path.startswith(name)] for name in reversed(CLASSES)}
    write(root / "food-101/meta/train.json", json.dumps(names))
    return datasets.Food101(root, **options)


def fgvc_aircraft(root, **options):
    folder = root / "fgvc-aircraft-2013b/data"
    write_images(folder / "images", "{index}.jpg")
    write_lines(folder / "variants.txt", CLASSES)
    lines = [f"{index} {CLASSES[label]}" for index, label in enumerate(LABELS)]
    write_lines(folder / "images_variant_trainval.txt", lines)
    return datasets.FGVCAircraft(root, **options)


def oxford_iiit_pet(root, **options):
    paths = write_images(root / "oxford-iiit-pet/images", "{name}_{index}.jpg")
    lines = [f"{path[:-4]} {label + 1} {label // 2 + 1} 1" for path, label in zip(paths, LABELS, strict=True)]
    write_lines(root / "oxford-iiit-pet/annotations/trainval.txt", lines)
    return datasets.OxfordIIITPet(root, **options)


def gtsrb(root, **options):
    write_images(root / "gtsrb/GTSRB/Training", "{rank:05d}/{index}.ppm")
    names = write_images(root / "gtsrb/GTSRB/Final_Test/Images", "{index}.ppm")
    rows = [f"{name};{label}" for name, label in zip(names, LABELS, strict=True)]
    write_lines(root / "gtsrb/GT-final_test.csv", ["Filename;ClassId", *rows])
    return datasets.GTSRB(root, **options)


def eurosat(root, **options):
    write_images(root / "eurosat/2750", "{name}/{index}.jpg")
    return datasets.EuroSAT(root, **options)


def country211(root, **options):
    write_images(root / "country211/train", "{name}/{index}.jpg")
    return datasets.Country211(root, **options)


def rendered_sst2(root, **options):
    write_images(root / "rendered-sst2/train", "{name}/{index}.png", ("negative", "positive", "negative"))
    return datasets.RenderedSST2(root, **options)


def imagenette(root, **options):
    write_images(root / "imagenette2/train", "{name}/{index}.jpeg", WNIDS)
    return datasets.Imagenette(root, **options)


def imagenet(root, **options):
    write_images(root / "train", "{name}/{index}.JPEG", WNIDS)
    names = {wnid: (name, f"{name}s") for wnid, name in zip(WNIDS, CLASSES, strict=True)}
    torch.save((names, []), root / "meta.bin")
    return datasets.ImageNet(root, **options)


def sun397(root, **options):
    names = [f"{name[0]}/{name}" for name in CLASSES]
    write_images(root / "SUN397", "{name}/sun_{index}.jpg", names)
    write_lines(root / "SUN397/ClassName.txt", [f"/{name}" for name in names])
    return datasets.SUN397(root, **options)


def fer2013(root, **options):
    (root / "fer2013").mkdir()
    with open(root / "fer2013/train.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "pixels"])
        for image, label in zip(pixels(7, 48 * 48), LABELS, strict=True):
            rows.writerow([label, " ".join(map(str, image))])
    return datasets.FER2013(root, **options)


def lfw_people(root, **options):
    folder = root / "lfw-py"
    write_images(folder / "lfw_funneled", "{name}/{name}_{number:04d}.jpg")
    write(folder / "lfw-funneled.tgz", "")
    counts = [f"{name}\t{LABELS.count(label)}" for label, name in enumerate(CLASSES)]
    write_lines(folder / "lfw-names.txt", counts)
    write_lines(folder / "people.txt", [2, 2, *counts[1:], 1, counts[0]])
    return datasets.LFWPeople(root, **options)


def caltech101(root, **options):
    write_images(root / "caltech101/101_ObjectCategories", "{name}/image_{number:04d}.jpg")
    (root / "caltech101/101_ObjectCategories/BACKGROUND_Google").mkdir()
    return datasets.Caltech101(root, **options)


def caltech256(root, **options):
    write_images(root / "caltech256/256_ObjectCategories", "{rank:03d}.{name}/{rank:03d}_{number:04d}.jpg")
    return datasets.Caltech256(root, **options)


def inaturalist(root, **options):
    write_images(root / "2021_train", "{name}/{index}.jpg", SPECIES)
    return datasets.INaturalist(root, **options)


def places365(root, **options):
    paths = write_images(root / "data_256_standard", "{name}/{index:08d}.jpg")
    write_lines(root / "categories_places365.txt", [f"/{name} {label}" for label, name in enumerate(CLASSES)])
    lines = [f"/{path} {label}" for path, label in zip(paths, LABELS, strict=True)]
    write_lines(root / "places365_train_standard.txt", lines)
    return datasets.Places365(root, small=True, **options)


def omniglot(root, **options):
    write_images(root / "omniglot-py/images_background", "Insects/{name}/{index}.png")
    write(root / "omniglot-py/images_background.zip", "")
    return datasets.Omniglot(root, **options)


def stanford_cars(root, **options):
    names = write_images(root / "stanford_cars/cars_train", "{index}.jpg")
    annotations = [(name, label + 1) for name, label in zip(names, LABELS, strict=True)]
    (root / "stanford_cars/devkit").mkdir()
    savemat(
        root / "stanford_cars/devkit/cars_train_annos.mat",
        {"annotations": np.array(annotations, dtype=[("fname", object), ("class", np.uint8)])},
    )
    savemat(root / "stanford_cars/devkit/cars_meta.mat", {"class_names": np.array(CLASSES, dtype=object)})
    return datasets.StanfordCars(root, **options)


def celeba(root, target_type="identity", **options):
    folder = root / "celeba"
    names = write_images(folder / "img_align_celeba", "{index:06d}.jpg")
    values = {
        "list_eval_partition": [[0]] * 7,
        "identity_CelebA": [[100 + label] for label in LABELS],
        "list_bbox_celeba": [[0, 0, 8, 8]] * 7,
        "list_landmarks_align_celeba": [[1] * 10] * 7,
        "list_attr_celeba": [[1, label - 1 or -1] for label in LABELS],
    }
    for title, rows in values.items():
        header = [] if title in ("list_eval_partition", "identity_CelebA") else [len(rows), " ".join("ab")]
        lines = [" ".join(map(str, [name, *row])) for name, row in zip(names, rows, strict=True)]
        write_lines(folder / f"{title}.txt", header + lines)
    return datasets.CelebA(root, target_type=target_type, **options)


def clevr(root, **options):
    folder = root / "clevr/CLEVR_v1.0"
    names = write_images(folder / "images/train", "{index}.png")
    scenes = [{"image_filename": name, "objects": [{}] * label} for name, label in zip(names, LABELS, strict=True)]
    write(folder / "scenes/CLEVR_train_scenes.json", json.dumps({"scenes": scenes}))
    return datasets.CLEVRClassification(root, **options)


MAKERS = {
    "FakeData": fake_data,
    "ImageFolder": image_folder,
    "DatasetFolder": dataset_folder,
    "MNIST": partial(mnist, datasets.MNIST),
    "FashionMNIST": partial(mnist, datasets.FashionMNIST),
    "KMNIST": partial(mnist, datasets.KMNIST),
    "EMNIST": emnist,
    "QMNIST": qmnist,
    "USPS": usps,
    "SEMEION": semeion,
    "CIFAR10": partial(cifar, datasets.CIFAR10),
    "CIFAR100": partial(cifar, datasets.CIFAR100),
    "SVHN": svhn,
    "STL10": stl10,
    "STL10-unlabeled": partial(stl10, split="train+unlabeled"),
    "Flowers102": flowers102,
    "DTD": dtd,
    "Food101": food101,
    "FGVCAircraft": fgvc_aircraft,
    "OxfordIIITPet": oxford_iiit_pet,
    "OxfordIIITPet-binary": partial(oxford_iiit_pet, target_types="binary-category"),
    "GTSRB": gtsrb,
    "GTSRB-test": partial(gtsrb, split="test"),
    "EuroSAT": eurosat,
    "Country211": country211,
    "RenderedSST2": rendered_sst2,
    "Imagenette": imagenette,
    "ImageNet": imagenet,
    "SUN397": sun397,
    "FER2013": fer2013,
    "LFWPeople": lfw_people,
    "Caltech101": caltech101,
    "Caltech256": caltech256,
    "INaturalist": inaturalist,
    "INaturalist-class": partial(inaturalist, target_type="class"),
    "Places365": places365,
    "Omniglot": omniglot,
    "StanfordCars": stanford_cars,
    "CelebA": celeba,
    "CLEVRClassification": clevr,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_data_set(make, options, tmp_path):
    assert_augments_as_it_should(make(tmp_path, **options))


@pytest.mark.parametrize("name", ["transform", "plain"])
def test_one_attribute_of_celeba(name, tmp_path):
    data = celeba(tmp_path, "attr", target_transform=lambda attributes: int(attributes[1]), **OPTIONS[name])
    assert_augments_as_it_should(data)


@pytest.mark.parametrize("shift", [0, 3])
def test_joint_transforms_of_oxford_iiit_pet(shift, tmp_path):
    def joint(image, label):
        return v2.functional.invert(image), label + shift

    assert_augments_as_it_should(oxford_iiit_pet(tmp_path, transforms=joint))


CONTAINERS = {
    "Subset": lambda data: Subset(data, [5, 0, 2, 3]),
    "ConcatDataset": lambda data: ConcatDataset([data, Subset(data, [6, 1])]),
    "wrap_dataset_for_transforms_v2": datasets.wrap_dataset_for_transforms_v2,
}


@pytest.mark.parametrize("contain", CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize("name", ["CIFAR10", "GTSRB", "OxfordIIITPet"])
def test_data_set_in_another(name, contain, options, tmp_path):
    assert_augments_as_it_should(contain(MAKERS[name](tmp_path, **options)))
