"""What users see: boxes, masks and keypoints on real pictures, the simulated NPU against TFLite's reference kernels.

Both run the model's leftovers on the reference kernels, so that every difference comes from the NPU.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cermet import paths
from cermet.interpreter import picture_tensor
from tests.end_to_end.reference_models import SHARED

tflite = pytest.importorskip("tflite_runtime.interpreter")

DEMO = paths.data_file("demo/manifest.toml").parent
FOLDERS = [folder for folder in (SHARED, SHARED / "images", DEMO) if folder.is_dir()]
BUNDLED_PICTURES = ("cat.bmp", "grace_hopper.bmp", "owl.jpg")
OTHER_PICTURES = ("bird_segmentation.bmp", "cats_and_dogs.jpg", "dragonfly.bmp", "squat.bmp")
PICTURES = BUNDLED_PICTURES + OTHER_PICTURES
COCO_SSD = "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29_no_metadata.tflite"
MOVENET = "movenet_single_pose_lightning_ptq.tflite"
DEEPLAB = "deeplabv3_mnv2_dm05_pascal_quant.tflite"
YOLO = "yolo-fastest-1.1-coco80-int8.tflite"
TITLE = "Real pictures on the simulated NPU against TFLite's reference kernels"

# No class of the model's is in the picture; in all others the reference finds something.
NOTHING_THERE = {("yolo-fastest", "dragonfly.bmp")}

SCORE = 0.3             # of a detection or a keypoint that counts
OVERLAP = 0.95          # of two boxes that are the same
SAME_PIXELS = 0.995
CELLS = 48              # rows and columns of the heat map of MoveNet
# YOLO-Fastest: sizes of the anchors in pixels of a 320 x 320 picture, three for each grid.
ANCHORS = {20: ((12, 18), (37, 49), (52, 132)), 10: ((115, 73), (119, 199), (242, 238))}
PICTURE_SIZE = 320
KEPT_APART = 0.45       # boxes of a class that overlap more are one

Outputs = list[np.ndarray]
interpreters: dict[tuple[str, bool], Any] = {}


@dataclass(frozen=True, eq=False)
class Found:
    """A detection; box: top, left, bottom, right."""

    number: int
    score: float
    box: np.ndarray


def file(name: str) -> Path:
    found = next((folder / name for folder in FOLDERS if (folder / name).is_file()), None)
    if found is None:
        pytest.skip(f"{name} is not beside this tree")
    return found


def interpreter(model: str, on_npu: bool) -> Any:
    """Made once for all pictures."""
    if (model, on_npu) not in interpreters:
        library = str(paths.library("libcermet_delegate.so"))
        delegates = [tflite.load_delegate(library, {"device": "sim"})] if on_npu else None
        made = tflite.Interpreter(str(file(model)), experimental_delegates=delegates,
                                  experimental_op_resolver_type=tflite.OpResolverType.BUILTIN_REF)
        made.allocate_tensors()
        interpreters[model, on_npu] = made
    return interpreters[model, on_npu]


def both(model: str, picture: str) -> tuple[Outputs, Outputs]:
    """Outputs of the reference and of the NPU."""
    return run(interpreter(model, False), picture), run(interpreter(model, True), picture)


def run(made: Any, picture: str) -> Outputs:
    (detail,) = made.get_input_details()
    made.set_tensor(detail["index"], picture_tensor(file(picture), detail["shape"], detail["dtype"]))
    made.invoke()
    return [made.get_tensor(output["index"]) for output in made.get_output_details()]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


def worst_overlap(wanted: list[Found], got: list[Found]) -> float:
    """Each detection that counts is paired with the nearest one of its class; the overlap of the worst pair."""
    left, worst = list(got), 1.0
    for one in wanted:
        pairs = [(overlap(one.box, other.box), index) for index, other in enumerate(left) if other.number == one.number]
        if one.score <= SCORE:
            continue
        if not pairs:
            return 0.0
        best, index = max(pairs)
        worst = min(worst, best)
        del left[index]
    return worst


def check_detections(wanted: list[Found], got: list[Found], row: dict[str, object],
                     record_table: Callable[..., None]) -> None:
    """All that count on either side are on the other."""
    found = sum(one.score > SCORE for one in wanted)
    worst = min(worst_overlap(wanted, got), worst_overlap(got, wanted))
    scores = [abs(a.score - b.score) for a, b in zip(wanted, got, strict=False) if max(a.score, b.score) > SCORE]
    record_table(TITLE, row | {"found": found, "agreement": f"IoU {worst:.4f}",
                               "scores": f"{max(scores, default=0):.4f}"})
    assert worst >= OVERLAP
    assert (found > 0) == ((row["model"], row["picture"]) not in NOTHING_THERE)


# SSD


def detections(outputs: Outputs) -> list[Found]:
    """Of TFLite's DETECTION_POSTPROCESS: boxes, classes, scores, count."""
    places, classes, scores, count = outputs
    return [Found(int(classes[0, i]), float(scores[0, i]), places[0, i].astype(float)) for i in range(int(count[0]))]


@pytest.mark.parametrize("picture", PICTURES)
def test_the_same_things_are_detected(picture: str, record_table: Callable[..., None]) -> None:
    wanted, got = both(COCO_SSD, picture)
    check_detections(detections(wanted), detections(got), {"model": "coco_ssd", "picture": picture}, record_table)


# YOLO


def yolo_detections(outputs: Outputs, details: list[dict[str, Any]]) -> list[Found]:
    """Sigmoids of centre, objectness and class, exponentials of the anchors' sizes; then one box of each cluster."""
    found: list[Found] = []
    for output, detail in zip(outputs, details, strict=True):
        scale, zero_point = detail["quantization"]
        grid = output.shape[1]
        cells = ((output[0].astype(float) - zero_point) * scale).reshape(grid, grid, 3, 85)
        for anchor, (width, height) in enumerate(ANCHORS[grid]):
            found += anchor_detections(cells[:, :, anchor], width / PICTURE_SIZE, height / PICTURE_SIZE)
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(one.number != other.number or overlap(one.box, other.box) < KEPT_APART for other in kept):
            kept.append(one)
    return kept


def anchor_detections(cells: np.ndarray, width: float, height: float) -> list[Found]:
    grid = len(cells)
    chance = sigmoid(cells[..., 4:5]) * sigmoid(cells[..., 5:])
    found = []
    for y, x in np.argwhere(chance.max(axis=-1) > SCORE / 2).tolist():
        cell = cells[y, x]
        centre = np.array([y + sigmoid(cell[1]), x + sigmoid(cell[0])]) / grid
        half = np.array([np.exp(cell[3]) * height, np.exp(cell[2]) * width]) / 2
        number = int(chance[y, x].argmax())
        found.append(Found(number, float(chance[y, x, number]), np.concatenate([centre - half, centre + half])))
    return found


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("picture", PICTURES)
def test_the_same_things_are_detected_by_yolo(picture: str, record_table: Callable[..., None]) -> None:
    wanted, got = both(YOLO, picture)
    details = interpreter(YOLO, False).get_output_details()
    check_detections(yolo_detections(wanted, details), yolo_detections(got, details),
                     {"model": "yolo-fastest", "picture": picture}, record_table)


# Segmentation and pose


@pytest.mark.parametrize("picture", PICTURES)
def test_masks_agree(picture: str, record_table: Callable[..., None]) -> None:
    (wanted,), (got,) = both(DEEPLAB, picture)
    same = float((wanted == got).mean())
    record_table(TITLE, {"model": "deeplab", "picture": picture, "found": len(np.unique(wanted)) - 1,
                         "agreement": f"{same:.4%} of the pixels"})
    assert len(np.unique(wanted)) > 1 and same >= SAME_PIXELS


@pytest.mark.parametrize("picture", ["squat.bmp", "grace_hopper.bmp"])
def test_keypoints_agree(picture: str, record_table: Callable[..., None]) -> None:
    """Pictures with a person in it.

    Layers of MoveNet turn one step of an input into 70 of an output, so what is not equal to the last bit ends anywhere
    within a cell or two: TFLite's own kernels for x86 differ from its reference kernels by up to 1.2 cells here.
    """
    wanted, got = (outputs[0][0, 0] for outputs in both(MOVENET, picture))
    counts = wanted[:, 2] > SCORE
    cells = np.abs(wanted - got)[counts, :2].max(axis=1) * CELLS
    record_table(TITLE, {"model": "movenet", "picture": picture, "found": int(counts.sum()),
                         "agreement": f"at most {cells.max():.2f} cells, mean {cells.mean():.2f}",
                         "scores": f"{np.abs(wanted - got)[counts, 2].max():.4f}"})
    assert counts.sum() > 5 and cells.max() <= 1
