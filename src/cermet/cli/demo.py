"""`cermet demo`: bundled models on a picture, on the NPU of this machine or a simulated one."""
from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from cermet import paths
from cermet.cli.demo_drawn import draw_detections, draw_segments
from cermet.cli.demo_run import Run, Setting, make_setting, run_model
from cermet.cli.run_text import top_classes
from cermet.errors import CermetError
from cermet.interpreter import open_picture

Drawer = Callable[[Run, list[str], Image.Image], tuple[list[str], Image.Image]]
DRAWERS: dict[str, Drawer] = {"detect": draw_detections, "segment": draw_segments}
EPILOG = """
classify (the default) tells what MobileNet V1 and V2 see in the picture. detect finds things with SSD MobileNet V1,
segment outlines them with DeepLab V3; both draw what they found and write cermet-detect.png or cermet-segment.png.

examples:
  cermet demo
  cermet demo detect
  cermet demo segment --image cat.jpg --output mask.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", nargs="?", choices=("classify", *DRAWERS), default="classify", help="see below")
    parser.add_argument("--image", type=Path, metavar="F", help="a picture instead of the bundled one")
    parser.add_argument("--output", type=Path, metavar="F.png", help="where detect and segment write their picture")
    parser.add_argument("--device", default="auto", help="auto (default: a real NPU, else the simulated one), sim, "
                        "or a path like /dev/accel/accel0")


def run(arguments: argparse.Namespace) -> int:
    drawer = DRAWERS.get(arguments.task)
    if drawer is None and arguments.output:
        raise CermetError("--output: classify draws nothing; detect and segment do")
    manifest = tomllib.loads(paths.data_file("demo/manifest.toml").read_text())
    setting = make_setting(manifest[arguments.task], arguments.device, arguments.image)
    open_picture(setting.picture, "RGB")        # what is none: before a model is compiled for it
    print(f"{setting.picture.name}{': ' if setting.shows else ''}{setting.shows}")
    print(f"device: {setting.shown}")
    if drawer is None:
        classify(setting)
    else:
        draw(setting, drawer, arguments.output or Path(f"cermet-{arguments.task}.png"))
    print(next_steps(f"demo/{setting.models[-1][1].name}"))
    return 0


def classify(setting: Setting) -> None:
    """The best classes of each model."""
    for title, model in setting.models:
        made = run_model(model, setting.picture, setting.device)
        (output,) = made.interpreter.get_output_details()
        best = top_classes(output, made.interpreter.get_tensor(output["index"]), setting.labels)
        show(title, model, [f"  {row['score']:6.1%}  {row['label'].split(',')[0]}" for row in best], made,
             setting.device)


def draw(setting: Setting, drawer: Drawer, output: Path) -> None:
    """What the model found, as lines and as a picture."""
    picture = open_picture(setting.picture, "RGB")
    ((title, model),) = setting.models
    made = run_model(model, setting.picture, setting.device)
    found, drawn = drawer(made, setting.labels, picture)
    drawn.save(output)
    show(title, model, found, made, setting.device)
    print(f"  drawn        {output}")


def show(title: str, model: Path, found: list[str], made: Run, device: str) -> None:
    """One model's part of the output."""
    print("\n".join(["", f"{title} ({model.name})", *found, *made.lines(device)]))


def next_steps(model: str) -> str:
    """Commands to try, as they can be typed where this was started: with ./run in a clone's own environment."""
    clone = Path(sys.prefix).parent
    is_clone = (clone / "run").is_file() and (clone / "src" / "cermet").is_dir()
    command = "./run cermet" if is_clone else "cermet"
    shown = Path("src/cermet", model) if is_clone else paths.data_file(model)
    return "\n".join(["", "Next:", f"  {command} report {shown}", f"  {command} run {shown} --random 1 --compare cpu",
                      f"  {command} --help"])
