"""`cermet demo detect` and `segment`: from a model's outputs to lines of text and a picture."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from cermet.cli.demo_run import Run
from cermet.drawing import Box, draw_boxes, draw_mask

MIN_SCORE = 0.4         # of a box that is shown
MIN_SHARE = 0.005       # of the picture, for a class in the legend
BACKGROUND = 0


def draw_detections(made: Run, labels: list[str], picture: Image.Image) -> tuple[list[str], Image.Image]:
    """Boxes with a score of at least MIN_SCORE, best first."""
    boxes = boxes_of([made.interpreter.get_tensor(d["index"]) for d in made.interpreter.get_output_details()], labels)
    lines = [f"  {box.score:6.1%}  {box.label}" for box in boxes] or ["  nothing found"]
    return lines, draw_boxes(picture, boxes)


def boxes_of(outputs: Sequence[np.ndarray], labels: list[str]) -> list[Box]:
    """Of the outputs of TFLite's DETECTION_POSTPROCESS: boxes, classes, scores, count."""
    places, classes, scores, count = (array.ravel() for array in outputs)
    rows = zip(places.reshape(-1, 4).tolist(), classes.astype(int).tolist(), scores.tolist(), strict=True)
    boxes = [Box(name_of(number, labels), score, *place) for place, number, score in list(rows)[:int(count[0])]]
    return sorted((box for box in boxes if box.score >= MIN_SCORE), key=lambda box: -box.score)


def draw_segments(made: Run, labels: list[str], picture: Image.Image) -> tuple[list[str], Image.Image]:
    """Classes that cover at least MIN_SHARE of the picture, largest first; the mask with all."""
    (output,) = made.interpreter.get_output_details()
    mask = made.interpreter.get_tensor(output["index"])[0]
    shares = shares_of(mask)
    lines = [f"  {share:6.1%}  {name_of(number, labels)}" for number, share in shares.items()]
    legend = {number: f"{name_of(number, labels)} {share:.0%}" for number, share in shares.items()}
    return lines, draw_mask(picture, mask, legend, BACKGROUND)


def shares_of(mask: np.ndarray) -> dict[int, float]:
    """Class -> share of the pixels, largest first."""
    numbers, counts = np.unique(mask, return_counts=True)
    shares = sorted(zip(numbers.tolist(), (counts / mask.size).tolist(), strict=True), key=lambda entry: -entry[1])
    return {number: share for number, share in shares if share >= MIN_SHARE}


def name_of(number: int, labels: list[str]) -> str:
    return labels[number] if number < len(labels) else f"class {number}"
