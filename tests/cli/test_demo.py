"""`cermet demo`: what it draws, what it says, errors."""
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cermet import paths
from cermet.cli.demo_drawn import boxes_of, shares_of
from cermet.cli.demo_run import quiet_runtime
from cermet.drawing import Box, draw_boxes, draw_mask
from tests.cli.conftest import Cermet

GREY = (100, 100, 100)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def changed(drawn: Image.Image, colour: tuple[int, int, int] = GREY) -> np.ndarray:
    return (pixels(drawn) != colour).any(-1)


def test_boxes_are_framed_where_they_are() -> None:
    drawn = draw_boxes(Image.new("RGB", (401, 201), GREY), [Box("cat", 0.876, 0.5, 0.25, 1.2, 0.75)])
    is_changed = changed(drawn)
    columns = np.nonzero(is_changed[101:])[1]       # below the caption
    assert (columns.min(), columns.max()) == (100, 300)
    assert is_changed[150, 100] and is_changed[150, 300] and is_changed[200, 200] and is_changed[100, 290]
    assert not is_changed[150, 110:290].any() and not is_changed[:, 310:].any()


def test_captions_stay_inside_the_picture() -> None:
    """At the top and at the right edge there is no room above and beside the box."""
    box = Box("a rather long name", 0.5, 0.0, 0.95, 0.3, 1.0)
    is_changed = changed(draw_boxes(Image.new("RGB", (300, 200), GREY), [box]))
    assert is_changed[1:12, 200:300].mean() > 0.5


def test_a_mask_colours_its_classes_alone() -> None:
    """The lower half is of a class; the legend lies in it. Outlines are one pixel wide."""
    mask = np.zeros((20, 30), np.int64)
    mask[10:] = 7
    drawn = pixels(draw_mask(Image.new("RGB", (300, 200), GREY), mask, {0: "background", 7: "bus 50%"}))
    assert (drawn[:99] == GREY).all() and (drawn[99] == 255).all()
    colours = {tuple(colour) for colour in drawn[100:, 250:].reshape(-1, 3).tolist()}
    assert len(colours) == 1 and GREY not in colours
    assert len(np.unique(drawn[150:, :100].reshape(-1, 3), axis=0)) > 2


def test_boxes_are_those_with_a_score_worth_telling() -> None:
    places = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    outputs = [places, np.array([[1, 0, 90]], np.float32), np.array([[0.5, 0.75, 0.9]], np.float32),
               np.array([2], np.float32)]
    assert boxes_of(outputs, ["cat", "dog"]) == [Box("cat", 0.75, 4, 5, 6, 7), Box("dog", 0.5, 0, 1, 2, 3)]
    outputs[2][0, 0], outputs[3][0] = 0.1, 3
    assert [box.label for box in boxes_of(outputs, ["cat", "dog"])] == ["class 90", "cat"]


def test_shares_of_the_classes() -> None:
    mask = np.zeros((100, 100), np.int64)
    mask[:30], mask[50, 50] = 3, 9
    assert shares_of(mask) == {0: 0.6999, 3: 0.3}


@pytest.mark.parametrize(("task", "picture", "words"), [
    ("detect", "owl.jpg", ("%  bird", "100.00% of the MACs")),
    ("segment", "cat.bmp", ("cat", "background", "100.00% of the MACs"))])
def test_what_was_found_is_drawn_on_the_picture(task: str, picture: str, words: tuple[str, ...], tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch, cermet: Cermet,
                                                needs_delegate: None) -> None:
    monkeypatch.chdir(tmp_path)
    shown = cermet("demo", task, "--device", "sim")
    assert shown.status == 0 and all(word in shown.out for word in words)
    with Image.open(paths.data_file(f"demo/{picture}")) as before, Image.open(f"cermet-{task}.png") as after:
        assert after.size == before.size and after.format == "PNG"
        share = (pixels(after) != pixels(before)).any(-1).mean()
    assert 0.005 < share < 0.6


@pytest.mark.parametrize(("arguments", "words"), [
    (["--output", "x.png"], "--output: classify draws nothing; detect and segment do"),
    (["detect", "--image", __file__], "is not a picture that can be read"),
    (["--image", __file__], "is not a picture that can be read"),
    (["--device", "x"], "option device: 'x' must be auto, sim or a path under /dev/"),
    (["segment", "--image", "none.png"], "none.png: No such file or directory")])
def test_errors_are_one_line(arguments: list[str], words: str, cermet: Cermet, needs_delegate: None) -> None:
    shown = cermet("demo", *arguments)
    assert shown.status == 1 and words in shown.err and shown.err.count("\n") == 1


@pytest.mark.parametrize(("error", "shown"), [(ZeroDivisionError, "a greeting\n"), (KeyboardInterrupt, "")])
def test_what_libraries_say_is_shown_when_something_is_wrong(error: type[BaseException], shown: str,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(error), quiet_runtime():
        os.write(2, b"a greeting\n")
        raise error
    assert capfd.readouterr().err == shown
