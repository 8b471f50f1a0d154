"""rapidocr's three models (PP-OCRv4) read a page end to end: find the lines, turn them upright, read them."""

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFont

from judge import difference
from real_runs import WAYS, expect_fp32, only
from verdicts import expect

TEXT = ["Mezzo reads 48 lines", "in half precision: 16 bits."]
PAGE = 512, 192  # width and height; the detector wants multiples of 32
SIZE, LEFT, TOP, SPACING = 32, 40, 32, 72
PAPER, INK = (250, 246, 235), (30, 40, 90)
# What rapidocr's config.yaml has. Its detector marks the core of a line; UNCLIP says how far the line reaches beyond.
THRESHOLD, UNCLIP = 0.3, 1.6
LINE_HEIGHT, LEAST_WIDTH, CLASSIFIER_WIDTH = 48, 320, 192
SAME_BOX = 0.9


def draw_page():
    page = Image.new("RGB", PAGE, PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(SIZE)  # Pillow's own TrueType font
    for index, line in enumerate(TEXT):
        pen.text((LEFT, TOP + index * SPACING), line, INK, font)
    return page


def as_input(image):
    """[1,3,height,width] in -1..1. The channels are blue, green, red, as the models were trained."""
    pixels = np.asarray(image, np.float32)[..., ::-1] / 255
    return np.ascontiguousarray(((pixels - 0.5) / 0.5).transpose(2, 0, 1))[None]


def runs_of(marks):
    """Beginnings and ends of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def find_boxes(heat):
    """A box (left, top, right, bottom) for each line of the page, which is upright and has one text a line."""
    mask, boxes = heat > THRESHOLD, []
    for top, bottom in runs_of(mask.any(axis=1)):
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        margin = round((right - left) * (bottom - top) * UNCLIP / (2 * (right - left + bottom - top)))
        boxes.append((max(left - margin, 0), max(top - margin, 0),
                      min(right + margin, heat.shape[1]), min(bottom + margin, heat.shape[0])))
    return boxes


def overlap(a, b):
    """Intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (area - shared)


def line_input(image):
    """A line of the recogniser's height; a short one is padded with grey on the right."""
    scaled = image.resize((round(image.width * LINE_HEIGHT / image.height), LINE_HEIGHT), Image.Resampling.BILINEAR)
    values = as_input(scaled)
    return np.pad(values, ((0, 0), (0, 0), (0, 0), (0, max(LEAST_WIDTH - values.shape[3], 0))))


def alphabet(path):
    """The recogniser's classes: the blank, the characters in its metadata, the space."""
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def decode(scores, characters):
    """The best class of each step; repetitions are one character, and blanks part what is really double."""
    best = scores.argmax(axis=1)
    fresh = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(characters[index] for index in best[fresh])


def detect(ways, way, page):
    """How much each pixel is text, [height,width]."""
    return only(ways.run(way, {"x": as_input(page)}))[0, 0]


def classify(ways, way, line):
    """Probabilities of upright and upside down."""
    scaled = line.resize((CLASSIFIER_WIDTH, LINE_HEIGHT), Image.Resampling.BILINEAR)
    return only(ways.run(way, {"x": as_input(scaled)}))[0]


def recognise(ways, way, line):
    """Probabilities of the classes, [step][class]."""
    return only(ways.run(way, {"x": line_input(line)}))[0]


def check_page(detector):
    """The detector alone: its heat map, and the boxes that follow."""
    page = draw_page()
    heat = {way: detect(detector, way, page) for way in WAYS}
    boxes = {way: find_boxes(values) for way, values in heat.items()}
    worst = expect_fp32(heat["fp32"], heat["onnxruntime"], "heat map")
    least = {}
    for way, found in boxes.items():
        expect(len(found) == len(TEXT), f"{way}: {len(found)} boxes for {len(TEXT)} lines: {found}")
        least[way] = min(overlap(*pair) for pair in zip(found, boxes["onnxruntime"]))
        expect(least[way] > SAME_BOX, f"{way}: boxes {found}, ONNX Runtime's {boxes['onnxruntime']}")
    return (f"{len(TEXT)} boxes; FP32 off by {worst:.1e}, boxes overlap {least['fp32']:.3f}; "
            f"FP16 off by {difference_of(heat):.1e}, {least['fp16']:.3f}")


def check_lines(ways, ask, detector):
    """The classifier or the recogniser alone, on the lines in ONNX Runtime's boxes."""
    # FP16 is reported here; check_reading judges what follows from it.
    page, worst = draw_page(), {"fp32": 0.0, "fp16": 0.0}
    for box in find_boxes(detect(detector, "onnxruntime", page)):
        found = {way: ask(ways, way, page.crop(box)) for way in WAYS}
        worst["fp32"] = max(worst["fp32"], expect_fp32(found["fp32"], found["onnxruntime"], "probabilities"))
        worst["fp16"] = max(worst["fp16"], difference_of(found))
    return f"FP32 off by {worst['fp32']:.1e}, FP16 off by {worst['fp16']:.1e}"


def difference_of(found):
    return difference({"output": found["fp16"]}, {"output": found["onnxruntime"]})


def check_reading(detector, classifier, recogniser, upside_down):
    """End to end: each way finds its own boxes, says which way up the lines are, and reads them."""
    characters = alphabet(recogniser.path)
    for way in WAYS:
        page, strings = draw_page(), []
        for box in find_boxes(detect(detector, way, page)):
            line = page.crop(box)
            if upside_down:
                line = line.rotate(180)
            upright, turned = classify(classifier, way, line)
            expect((turned > upright) == upside_down,
                   f"{way}: classified as {upright:.2f} upright, {turned:.2f} upside down")
            strings.append(decode(recognise(recogniser, way, line.rotate(180) if upside_down else line), characters))
        expect(strings == TEXT, f"{way}: read {strings}, drawn {TEXT}")
    return f"FP32 and FP16 both read {strings}"
