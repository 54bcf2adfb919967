r"""The transform, on images, masks, boxes and key points of every type."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from gae_augment._utils.seeding import make_generator
from gae_augment.motion import Motion, MotionBank, move, transform
from gae_augment.motion.fields import displacement, invertible, move_points
from gae_augment.motion.transform import POINTS

FORMATS = {box_format.value: box_format for box_format in tv_tensors.BoundingBoxFormat}
UPRIGHT = ["XYXY", "XYWH", "CXCYWH"]


def smooth_fields(n, scale=0.12, seed="smooth"):
    coarse = scale * torch.randn(n, 2, 3, 3, generator=make_generator(seed))
    return invertible(torch.nn.functional.interpolate(coarse, 8, mode="bicubic", align_corners=True))


def translation(dx, dy, height, width):
    r"""Returns the field that moves what an image shows by (dx, dy) pixels."""
    return torch.tensor([-2 * dx / width, -2 * dy / height])[:, None, None].expand(1, 2, 8, 8)


V = smooth_fields(1)
BANK = MotionBank({1: smooth_fields(20).half()})


def picture(height, width, channels=3):
    r"""A smooth picture with values from 0 to 255, with shape (C, H, W)."""
    y, x = (torch.linspace(0, 1, side) for side in (height, width))
    channel = torch.arange(channels)[:, None, None]
    waves = (5 * y[:, None] + channel).sin() * (7 * x + 2 * channel).cos()
    return 127.5 + 127 * waves


def moved_exactly(images, v=V):
    return move(images.double(), v)


# Tensors


@pytest.mark.parametrize(
    "dtype",
    [
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    ],
    ids=str,
)  # fmt: skip
def test_tensors_keep_their_type(dtype):
    images = (picture(20, 30) / 2).to(dtype)
    moved = move(images, V)
    assert (moved.dtype, moved.shape, type(moved)) == (dtype, images.shape, torch.Tensor)
    expected = moved_exactly(images)
    exact = expected if dtype.is_floating_point else expected.round()
    precision = {torch.float16: 0.1, torch.bfloat16: 0.5, torch.float32: 1e-2, torch.float64: 0}.get(dtype, 1)
    assert (moved.double() - exact).abs().max() <= precision
    assert (exact - images.double()).abs().max() > 20


def test_boolean_tensors_are_moved_as_areas():
    images = picture(20, 30) > 127
    moved = move(images, V)
    assert moved.dtype == torch.bool
    expected = moved_exactly(images)
    assert (moved == (expected > 0.5))[(expected - 0.5).abs() > 1e-4].all()


@pytest.mark.parametrize("largest", [2**31 - 1, 2**40])
def test_large_labels_of_masks_are_kept(largest):
    dtype = torch.int32 if largest < 2**31 else torch.int64
    mask = tv_tensors.Mask((picture(20, 30, 1)[0] > 127).to(dtype) + largest - 1)
    assert move(mask, V).unique().tolist() == [largest - 1, largest]


@pytest.mark.parametrize("shape", [(20, 30), (3, 20, 30), (2, 3, 20, 30), (2, 4, 3, 20, 30)], ids=str)
def test_leading_axes_move_alike(shape):
    images = torch.rand(shape, generator=make_generator("axes"))
    moved = move(images, V)
    assert moved.shape == shape
    expected = [move(channel[None], V)[0] for channel in images.reshape(-1, 20, 30)]
    torch.testing.assert_close(moved.reshape(-1, 20, 30), torch.stack(expected))


@pytest.mark.parametrize("size", [(8, 8), (1, 5), (2000, 300)], ids=str)
def test_images_of_any_size_are_moved(size):
    images = picture(*size).to(torch.uint8)
    moved = move(images, V)
    assert moved.shape == images.shape
    if min(size) > 1:
        assert not torch.equal(moved, images)


def test_translation_moves_the_content_in_its_direction():
    images = picture(40, 30).to(torch.uint8)
    moved = move(images, translation(3, -2, 40, 30))
    assert torch.equal(moved[:, 5:-5, 5:-5], images.roll((-2, 3), dims=(1, 2))[:, 5:-5, 5:-5])


@pytest.mark.parametrize(
    "empty",
    [
        torch.zeros(0, 3, 8, 8),
        tv_tensors.Mask(torch.zeros(0, 8, 8, dtype=torch.bool)),
        tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(8, 8)),
    ],
    ids=["images", "masks", "boxes"],
)
def test_nothing_may_be_moved(empty):
    moved = move(empty, V)
    assert (type(moved), moved.shape, moved.dtype) == (type(empty), empty.shape, empty.dtype)


def test_gradients_pass():
    images = picture(8, 8).requires_grad_()
    move(images, V).sum().backward()
    assert images.grad.sum() > 0


# Pillow images


def pil(mode):
    pixels = picture(40, 30, 4).round().to(torch.uint8).permute(1, 2, 0).numpy()
    colour = Image.fromarray(pixels[..., :3].copy())
    match mode:
        case "I;16" | "I;16B":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
            if mode == "I;16B":
                image = Image.frombytes(mode, (30, 40), (pixels[..., 0].astype(">u2") * 257).tobytes())
        case "I":
            image = Image.fromarray(pixels[..., 0].astype(np.int32) * 100_003)
        case "F":
            image = Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
        case "RGBA":
            image = Image.fromarray(pixels)
        case "P":
            image = colour.quantize(13)
        case "PA":
            image = colour.quantize(13).convert("PA")
        case _:
            image = colour.convert(mode)
    assert image.mode == mode
    image.info = {"dpi": (72, 72), "comment": "holiday"}
    return image


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B"]


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_keep_mode_size_palette_and_info(mode):
    image = pil(mode)
    before = image.tobytes()
    moved = move(image, V)
    assert (moved.mode, moved.size, moved.info) == (mode, image.size, image.info)
    assert moved.getpalette() == image.getpalette()
    assert moved.tobytes() != before
    assert image.tobytes() == before
    if mode not in ("LA", "RGBA"):
        # No motion leaves the pixels as they are. Colours beside opacity are rounded.
        np.testing.assert_allclose(np.array(move(image, 0 * V), np.float64), np.array(image, np.float64), rtol=1e-4)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B"])
def test_pillow_images_move_as_tensors(mode):
    image = pil(mode)
    array = np.array(image)
    tensor = torch.from_numpy(array.astype(np.float64).reshape(*array.shape[:2], -1)).permute(2, 0, 1)
    moved = np.array(move(image, V)).astype(np.float64).reshape(*array.shape[:2], -1)
    tolerance = 1e-5 if mode == "F" else 0.6
    np.testing.assert_allclose(moved, moved_exactly(tensor).permute(1, 2, 0).numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", ["1", "P", "PA"])
def test_indices_are_not_mixed(mode):
    image = pil(mode)
    before, after = (np.unique(np.array(picture).reshape(40 * 30, -1), axis=0) for picture in (image, move(image, V)))
    assert {tuple(row) for row in after} <= {tuple(row) for row in before}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_colours_of_transparent_pixels_do_not_bleed(mode):
    bands = len(mode)
    pixels = np.zeros((40, 30, bands), dtype=np.uint8)
    pixels[:, :15] = [200] * (bands - 1) + [255]
    pixels[:, 15:, 0] = 10
    moved = np.array(move(Image.fromarray(pixels), V))
    colours, opacity = moved[..., 0], moved[..., -1]
    assert ((opacity > 0) & (opacity < 255)).any()
    # Premultiplied colours are rounded, and the more so the more transparent they are.
    assert (np.abs(colours[opacity > 50].astype(int) - 200) <= 4).all()


def test_exif_and_colour_profile_are_kept(tmp_path):
    image = pil("RGB")
    exif = Image.Exif()
    exif[0x010F] = "camera"
    image.save(tmp_path / "photo.jpg", exif=exif, icc_profile=b"profile")
    with Image.open(tmp_path / "photo.jpg") as photo:
        moved = move(photo, V)
        assert moved.getexif()[0x010F] == "camera"
        assert moved.info["icc_profile"] == photo.info["icc_profile"]


# Masks, boxes and key points


def filled(x1, y1, x2, y2, height, width):
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[y1:y2, x1:x2] = 1
    return mask


@pytest.mark.parametrize("box_format", UPRIGHT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float16], ids=str)
@pytest.mark.parametrize("canvas_size", [(160, 120), (60, 300)], ids=str)
def test_box_holds_the_moved_content(box_format, dtype, canvas_size):
    height, width = canvas_size
    # At the border, masks are reflected and boxes are not.
    corners = [
        [width // 4, height // 4, width // 2, 3 * height // 4],
        [width // 3, height // 3, width // 2, height // 2],
    ]
    boxes = tv_tensors.BoundingBoxes(torch.tensor(corners, dtype=dtype), format="XYXY", canvas_size=canvas_size)
    boxes = v2.functional.convert_bounding_box_format(boxes, new_format=FORMATS[box_format])
    for v in smooth_fields(10, 0.15).split(1):
        moved = move(boxes, v)
        assert (type(moved), moved.format, moved.canvas_size) == (type(boxes), boxes.format, canvas_size)
        assert (moved.dtype, moved.shape) == (dtype, boxes.shape)
        moved = v2.functional.convert_bounding_box_format(moved, new_format=FORMATS["XYXY"])
        for before, after in zip(corners, moved.tolist(), strict=True):
            rows, columns = move(tv_tensors.Mask(filled(*before, *canvas_size)), v).nonzero().unbind(dim=1)
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert max(abs(a - b) for a, b in zip(after, extent, strict=True)) <= 2


@pytest.mark.parametrize("box_format", sorted(FORMATS))
def test_boxes_of_all_formats_are_translated(box_format):
    def rectangle(x1, y1, x2, y2):
        first = "XYXY" if box_format in UPRIGHT else "XYXYXYXY"
        values = [[x1, y1, x2, y2]] if box_format in UPRIGHT else [[x1, y1, x2, y1, x2, y2, x1, y2]]
        boxes = tv_tensors.BoundingBoxes(values, format=first, canvas_size=(60, 50), dtype=torch.float32)
        return v2.functional.convert_bounding_box_format(boxes, new_format=FORMATS[box_format])

    boxes, expected = rectangle(10, 12, 30, 26), rectangle(14, 9, 34, 23)
    moved = move(boxes, translation(4, -3, 60, 50))
    assert (moved.format, moved.shape) == (boxes.format, boxes.shape)
    torch.testing.assert_close(moved.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor), atol=1e-3, rtol=0)


@pytest.mark.skipif("XYXYXYXY" not in FORMATS, reason="this torchvision has no rotated boxes")
def test_rotated_boxes_move_by_their_corners():
    corners = torch.tensor([[20.0, 10, 40, 20, 30, 40, 10, 30]])
    boxes = tv_tensors.BoundingBoxes(corners, format=FORMATS["XYXYXYXY"], canvas_size=(50, 60))
    size = torch.tensor([60.0, 50.0])
    expected = (move_points(2 * corners.view(1, 4, 2) / size - 1, displacement(-V)) + 1) / 2 * size
    torch.testing.assert_close(move(boxes, V).as_subclass(torch.Tensor).view(1, 4, 2), expected, atol=1e-3, rtol=0)


def test_boxes_stay_in_the_image():
    boxes = tv_tensors.BoundingBoxes([[0.0, 0, 5, 5], [40, 30, 50, 40]], format="XYXY", canvas_size=(40, 50))
    for direction in (-20, 20):
        moved = move(boxes, translation(direction, direction, 40, 50)).as_subclass(torch.Tensor)
        assert (moved >= 0).all()
        assert (moved <= torch.tensor([50, 40, 50, 40])).all()


@pytest.mark.skipif(POINTS is None, reason="this torchvision has no key points")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_key_points_move_with_the_image(dtype):
    place = torch.tensor([[33, 41], [60, 20]])
    points = POINTS(place.to(dtype), canvas_size=(80, 90))
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(90) + 0.5, indexing="ij")
    moved = move(points, V)
    assert (type(moved), moved.dtype, moved.canvas_size) == (POINTS, dtype, (80, 90))
    for (px, py), found in zip(place.tolist(), moved.tolist(), strict=True):
        blob = move((-((x - px) ** 2 + (y - py) ** 2) / 10).exp(), V)
        centre = [(blob * x).sum() / blob.sum(), (blob * y).sum() / blob.sum()]
        assert max(abs(a - b) for a, b in zip(centre, found, strict=True)) < 1
    assert (moved - points).abs().max() > 2


def test_masks_get_no_new_labels_and_move_with_the_image():
    labels = (picture(50, 40, 1)[0] / 64).to(torch.uint8) * 50
    moved = move(tv_tensors.Mask(labels), V)
    assert isinstance(moved, tv_tensors.Mask)
    assert set(moved.unique().tolist()) <= set(labels.unique().tolist())
    # Away from the borders of areas, an interpolated image has the same values.
    image = move(tv_tensors.Image(labels[None]), V)[0]
    assert ((image.int() - moved.int()).abs() < 10).float().mean() > 0.75


def test_frames_of_a_video_move_alike():
    frames = picture(20, 30).to(torch.uint8)
    moved = move(tv_tensors.Video(frames.expand(5, 3, 20, 30)), V)
    assert isinstance(moved, tv_tensors.Video)
    assert torch.equal(moved, move(frames, V).expand(5, 3, 20, 30))


# The transform


def sample():
    return {
        "image": tv_tensors.Image(picture(40, 30).to(torch.uint8)),
        "targets": [
            tv_tensors.Mask(filled(5, 6, 20, 30, 40, 30)),
            tv_tensors.BoundingBoxes([[5, 6, 20, 30]], format="XYXY", canvas_size=(40, 30)),
            7,
            "a name",
        ],
        "video": (tv_tensors.Video(picture(40, 30).to(torch.uint8).expand(2, 3, 40, 30)), None),
    }


def test_all_inputs_of_a_call_move_alike_in_any_nesting():
    torch.manual_seed(0)
    moved = Motion(BANK, p=1.0)(sample())
    (mask, boxes, number, name), (video, nothing) = moved["targets"], moved["video"]
    assert (number, name, nothing) == (7, "a name", None)
    assert not torch.equal(moved["image"], sample()["image"])
    assert torch.equal(video[0], moved["image"])
    rows, columns = mask.nonzero().unbind(dim=1)
    extent = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (boxes[0] - extent).abs().max() <= 2


def test_motion_is_one_of_several_transforms():
    steps = [
        Motion(BANK, p=1.0),
        v2.RandomHorizontalFlip(p=1.0),
        v2.RandomCrop(24),
        v2.ToDtype(torch.float32, scale=True),
    ]
    moved = v2.Compose([*steps, v2.Normalize([0.5], [0.5])])(sample())
    assert (moved["image"].shape, moved["image"].dtype) == ((3, 24, 24), torch.float32)
    assert moved["targets"][0].shape == (24, 24)
    assert v2.Compose([v2.ToImage(), Motion(BANK, p=1.0)])(pil("RGB")).shape == (3, 40, 30)


def test_labels_beside_images_are_not_moved():
    motion = Motion(BANK, p=1.0)
    for image in (pil("RGB"), picture(20, 20), tv_tensors.Image(picture(20, 20))):
        label = torch.tensor([1, 2])
        moved, unchanged = motion(image, label)
        assert moved is not image
        assert torch.equal(unchanged, label)


def test_probability_of_a_motion():
    image = picture(8, 8)
    never, always, often = (Motion(BANK, p=p) for p in (0, 1, 0.7))
    torch.manual_seed(0)
    assert all(never(image) is image for _ in range(20))
    assert not any(torch.equal(always(image), image) for _ in range(20))
    assert 110 < sum(often(image) is not image for _ in range(200)) < 170


def test_strength_decides_how_far_images_move():
    image = picture(30, 30)
    differences = []
    for strength in (0, 0.2, 1.0):
        torch.manual_seed(0)
        differences.append((Motion(BANK, strength, p=1.0)(image) - image).abs().mean().item())
    assert differences[0] < 1e-3
    assert differences[0] < differences[1] / 10 < differences[2] / 20


def test_global_seed_decides_on_the_motions():
    image, motion = pil("RGB"), Motion(BANK, p=0.9)
    results = []
    for _ in range(2):
        torch.manual_seed(4)
        results.append([motion(image).tobytes() for _ in range(10)])
    assert results[0] == results[1]
    assert len(set(results[0])) > 3


def test_each_image_of_a_batch_has_a_motion_of_its_own():
    batch = picture(40, 30).to(torch.uint8).expand(6, 3, 40, 30)
    masks = tv_tensors.Mask(filled(5, 6, 20, 30, 40, 30).expand(6, 40, 30))
    boxes = tv_tensors.BoundingBoxes([[5, 6, 20, 30]] * 6, format="XYXY", canvas_size=(40, 30))
    torch.manual_seed(0)
    moved, moved_masks, moved_boxes = Motion(BANK, p=1.0, per_image=True)(tv_tensors.Image(batch), masks, boxes)
    assert moved.flatten(1).unique(dim=0).shape[0] > 3
    for mask, box in zip(moved_masks, moved_boxes, strict=True):
        rows, columns = mask.nonzero().unbind(dim=1)
        extent = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (box - extent).abs().max() <= 2
    fields = smooth_fields(6)
    together = move(batch, fields)
    for image, v, expected in zip(batch, fields, together, strict=True):
        assert (move(image, v[None]).int() - expected.int()).abs().max() <= 1


def test_some_images_of_a_batch_stay_as_they_are():
    batch = picture(10, 10).to(torch.uint8).expand(200, 3, 10, 10)
    torch.manual_seed(0)
    moved = Motion(BANK, p=0.5, per_image=True)(batch)
    unchanged = (moved == batch).flatten(1).all(dim=1)
    assert 70 < unchanged.sum() < 130
    # Without a batch, the image has one motion.
    assert Motion(BANK, p=1.0, per_image=True)(batch[0]).shape == (3, 10, 10)


def kinds_of_images():
    r"""Three images of each of many kinds, the kinds in turn."""
    tensors = picture(20, 30, 9).view(3, 3, 20, 30)
    larger = picture(24, 24, 9).to(torch.uint8).view(3, 3, 24, 24)
    videos = picture(20, 30, 18).to(torch.uint8).view(3, 2, 3, 20, 30)
    return [
        image
        for number in range(3)
        for image in (
            tensors[number].to(torch.uint8), tensors[number] / 255, tensors[number] > 100, larger[number],
            tv_tensors.Image(tensors[number].to(torch.uint8)), videos[number],
            *(pil(mode).transpose(Image.Transpose(number)) for mode in MODES),
        )
    ]  # fmt: skip


def assert_nearly_equal(image, expected):
    assert type(image) is type(expected)
    if isinstance(image, Image.Image):
        assert (image.mode, image.size, image.info) == (expected.mode, expected.size, expected.info)
        image, expected = (torch.from_numpy(np.array(one).astype(np.float64)) for one in (image, expected))
    assert image.dtype == expected.dtype
    # Products of more rows round otherwise, by one value of 256.
    torch.testing.assert_close(image.double(), expected.double(), rtol=1e-4, atol=1)
    assert (image != expected).double().mean() < 0.01


@pytest.mark.parametrize("values_together", [2**17, 6000], ids=["all", "few"])
def test_images_of_all_kinds_are_moved_each_by_its_own_motion(values_together, monkeypatch):
    monkeypatch.setattr(transform, "VALUES_TOGETHER", values_together)
    images = kinds_of_images()
    before = [copy.deepcopy(image) for image in images]
    fields = smooth_fields(len(images))
    monkeypatch.setattr(BANK, "draw", lambda n, strength: strength * fields[:n])
    moved = Motion(BANK, strength=0.5, p=1.0).move_each(images)
    for image, original, same, v in zip(moved, images, before, 0.5 * fields, strict=True):
        assert_nearly_equal(image, move(original, v[None]))
        # The originals do not change.
        assert_nearly_equal(original, same)


def test_some_of_several_images_stay_as_they_are():
    images = list(picture(10, 10, 600).to(torch.uint8).view(200, 3, 10, 10))
    torch.manual_seed(0)
    moved = Motion(BANK, p=0.5).move_each(images)
    assert 70 < sum(one is image for one, image in zip(moved, images, strict=True)) < 130
    # No image keeps the memory of others.
    assert {one.untyped_storage().nbytes() for one, image in zip(moved, images, strict=True) if one is not image} == {
        300
    }
    assert Motion(BANK, p=1.0).move_each([]) == []


def test_transform_is_pickled_and_copied():
    motion, image = Motion(BANK, strength=0.5, p=1.0), pil("RGB")
    results = []
    for copied in (motion, pickle.loads(pickle.dumps(motion)), copy.deepcopy(motion)):
        torch.manual_seed(1)
        results.append(copied(image).tobytes())
    assert len(set(results)) == 1


def test_repr_shows_the_parameters():
    assert repr(Motion(BANK, strength=1.5)) == "Motion(strength=1.5, p=0.5, motions=20)"


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"strength": -0.1}, ValueError, "'strength' is -0.1, but must be a number between 0 and 3"),
        ({"strength": 3.1}, ValueError, "'strength' is 3.1, but must be"),
        ({"strength": float("nan")}, ValueError, "'strength' is nan, but must be"),
        ({"strength": "far"}, TypeError, "'strength' is 'far', but must be a number"),
        ({"strength": None}, TypeError, "'strength' is None"),
        ({"p": 1.1}, ValueError, "'p' is 1.1, but must be a number between 0 and 1"),
        ({"p": -1}, ValueError, "'p' is -1, but must be"),
        ({"p": [0.5]}, TypeError, r"'p' is \[0.5\], but must be a number"),
    ],
)
def test_numbers_out_of_range_are_refused(parameters, error, message):
    with pytest.raises(error, match=message):
        Motion(BANK, **parameters)
