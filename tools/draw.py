"""Draws ants and bees as flat illustrations, any number of them, each from its own seed."""

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import click
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter

Label = Literal["ants", "bees"]
Point = tuple[float, float]
Points = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

LABELS: tuple[Label, ...] = ("ants", "bees")
# Everything is painted this many times larger and then reduced, which smooths every edge.
OVERSAMPLING = 3
WHITE: Colour = (255, 255, 255)
SHADE: Colour = (28, 18, 34)
# Where the middle of an insect with its feelers lies on its own axis.
BODY_MIDDLE = 0.14
# Width : height.
PROPORTIONS = ((1, 1), (4, 3), (3, 4), (3, 2), (5, 4), (4, 5))


# ---- colours -------------------------------------------------------------------------------


def rgb(name: str) -> Colour:
    """Read a colour written as "#rrggbb"."""
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue


def _colours(*names: str) -> tuple[Colour, ...]:
    return tuple(rgb(name) for name in names)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` is the part of the second one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def vary(colour: Colour, rng: random.Random, amount: float = 0.04) -> Colour:
    """Shift hue, saturation and brightness a little."""
    hue, light, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in colour))
    hue = (hue + rng.uniform(-amount, amount) / 4) % 1
    light = min(max(light + rng.uniform(-amount, amount), 0), 1)
    saturation = min(max(saturation * (1 + rng.uniform(-amount, amount) * 2), 0), 1)
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, light, saturation))
    return red, green, blue


# ---- outlines ------------------------------------------------------------------------------


def ellipse(centre: Point, radii: Point, turn: float = 0.0, steps: int = 48) -> Points:
    """Return the outline of an ellipse turned by `turn` radians."""
    angles = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    along, across = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.column_stack(
        (centre[0] + along * cos - across * sin, centre[1] + along * sin + across * cos)
    )


def spaced(steps: int) -> Points:
    """Return places from 0 to 1 that lie closer together at both ends, where outlines turn."""
    return np.asarray((1 - np.cos(np.linspace(0, math.pi, steps))) / 2)


def bezier(controls: Sequence[Point], steps: int = 32) -> Points:
    """Return the points of the Bezier curve with these control points."""
    places = spaced(steps)[:, None]
    layers = [np.tile(np.array(point, dtype=np.float64), (steps, 1)) for point in controls]
    while len(layers) > 1:
        layers = [a * (1 - places) + b * places for a, b in pairwise(layers)]
    return layers[0]


def belly(steps: int, width: float, lean: float = 1.0, fullness: float = 0.7) -> Points:
    """Return half-widths of a rounded body; a `lean` below 1 moves the belly to the start."""
    arch = np.clip(np.sin(math.pi * spaced(steps) ** lean), 0, 1)
    return np.asarray(width * arch**fullness)


def normals(spine: Points) -> Points:
    """Return the directions across a spine, one for each of its points."""
    tangents = np.gradient(spine, axis=0)
    lengths = np.maximum(np.hypot(tangents[:, 0], tangents[:, 1]), 1e-9)
    return np.asarray(np.column_stack((-tangents[:, 1], tangents[:, 0])) / lengths[:, None])


def tube(spine: Points, radii: Points) -> Points:
    """Return the outline that lies `radii` to both sides of a spine."""
    sides = normals(spine) * radii[:, None]
    return np.concatenate((spine + sides, (spine - sides)[::-1]))


def section(spine: Points, radii: Points, start: float, end: float) -> Points:
    """Return the part of a tube between two places from 0 to 1, its ends bowed like a ring."""
    first, last = (int(i) for i in np.searchsorted(spaced(len(spine)), (start, end)))
    across = normals(spine)
    edges = []
    for index in (first, last):
        sides = np.linspace(1, -1, 17)[:, None]
        along = np.array((across[index][1], -across[index][0]))
        bow = (1 - sides**2) * radii[index] * 0.3
        edges.append(spine[index] + across[index] * radii[index] * sides + along * bow)
    ring = slice(first, last + 1)
    far = spine[ring] - across[ring] * radii[ring, None]
    near = spine[ring] + across[ring] * radii[ring, None]
    return np.concatenate((edges[0], far, edges[1][::-1], near[::-1]))


def ribbon(controls: Sequence[Point], start: float, end: float, steps: int = 16) -> Points:
    """Return a tapered stroke along a Bezier curve."""
    return tube(bezier(controls, steps), start + (end - start) * spaced(steps))


def shaggy(outline: Points, rng: random.Random, depth: float, hairs: int = 120) -> Points:
    """Give an outline a fringe of fine hairs, `depth` long."""
    closed = np.concatenate((outline, outline[:1]))
    steps = np.hypot(*np.diff(closed, axis=0).T)
    walked = np.concatenate(([0.0], np.cumsum(steps)))
    places = np.linspace(0, walked[-1], hairs * 2, endpoint=False)
    edge = np.column_stack([np.interp(places, walked, closed[:, axis]) for axis in (0, 1)])
    outward = edge - edge.mean(axis=0)
    angles = np.arctan2(outward[:, 1], outward[:, 0])
    angles += [rng.uniform(-0.45, 0.45) for _ in range(hairs * 2)]
    lengths = [depth * rng.uniform(0.3, 1.0) if i % 2 else 0.0 for i in range(hairs * 2)]
    tips = np.column_stack((np.cos(angles), np.sin(angles))) * np.array(lengths)[:, None]
    return np.asarray(edge + tips)


def polar(origin: Point, angle: float, distance: float) -> Point:
    """Return the point at this angle and distance."""
    return origin[0] + math.cos(angle) * distance, origin[1] + math.sin(angle) * distance


# ---- marks: what an insect is made of --------------------------------------------------------


@dataclass(frozen=True)
class Fill:
    """A shape of one colour."""

    outline: Points
    colour: Colour
    opacity: float = 1.0


@dataclass(frozen=True)
class Relief:
    """Light and shade over a shape, which make it look round."""

    outline: Points
    depth: float = 0.5
    gloss: float = 0.4


Mark = Fill | Relief


@dataclass(frozen=True)
class Frame:
    """Where the body lies on the picture: it is bent, mirrored, scaled, turned and moved."""

    centre: Point
    scale: float
    turn: float = 0.0
    bend: float = 0.0
    mirrored: bool = False
    middle: float = 0.0

    def place(self, points: Points) -> Points:
        """Bring points of the body to the picture."""
        x, y = points[:, 0] - self.middle, points[:, 1]
        if abs(self.bend) > 1e-3:
            angle = self.bend * x
            x = np.sin(angle) * (1 / self.bend - y)
            y = (1 - np.cos(angle)) / self.bend + y * np.cos(angle)
        x = (-x if self.mirrored else x) * self.scale
        y = y * self.scale
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return np.column_stack(
            (self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos)
        )


def solid(outline: Points, colour: Colour, depth: float = 0.5, gloss: float = 0.4) -> list[Mark]:
    """Return a round-looking shape."""
    return [Fill(outline, colour), Relief(outline, depth, gloss)]


def limb(joints: Sequence[Point], widths: Sequence[float], colour: Colour) -> list[Mark]:
    """Return a jointed leg or feeler; `widths` holds one half-width for each joint."""
    marks: list[Mark] = []
    for (start, end), (thick, thin) in zip(pairwise(joints), pairwise(widths), strict=True):
        spine = bezier((start, end), 12)
        radii = thick + (thin - thick) * spaced(12) + belly(12, thick * 0.3, 0.8)
        marks.append(Fill(tube(spine, radii), colour))
        marks.append(Fill(ellipse(end, (thin, thin), steps=16), mix(colour, WHITE, 0.06)))
    return marks


# ---- the ant -------------------------------------------------------------------------------


@dataclass(frozen=True)
class AntCoat:
    """The colours of one sort of ant."""

    head: Colour
    trunk: Colour
    gaster: Colour
    legs: Colour


@dataclass(frozen=True)
class Pose:
    """Proportions and movement of one insect."""

    head: float
    tail: float
    reach: float
    phase: float
    stride: float
    feelers: float
    spread: float


ANT_COATS = (
    AntCoat(rgb("#34303b"), rgb("#2c2933"), rgb("#25222c"), rgb("#37323d")),
    AntCoat(rgb("#2f3640"), rgb("#293039"), rgb("#232932"), rgb("#3a414b")),
    AntCoat(rgb("#7a4a31"), rgb("#6f412a"), rgb("#4d2c20"), rgb("#77482f")),
    AntCoat(rgb("#5d3a2e"), rgb("#543328"), rgb("#3c2620"), rgb("#5a3a2c")),
    AntCoat(rgb("#b5482f"), rgb("#a8402b"), rgb("#7c2b24"), rgb("#a3452e")),
    AntCoat(rgb("#b0492f"), rgb("#a5432c"), rgb("#2f2630"), rgb("#7c3a2a")),
    AntCoat(rgb("#c07a2f"), rgb("#b5702a"), rgb("#54341f"), rgb("#87531f")),
)

# The joints of the legs on one side, from the trunk to the foot.
ANT_LEGS = (
    ((0.40, 0.08), (0.62, 0.42), (0.90, 0.66), (1.08, 0.72)),
    ((0.24, 0.09), (0.26, 0.54), (0.12, 0.88), (0.10, 1.06)),
    ((0.06, 0.08), (-0.20, 0.50), (-0.58, 0.80), (-0.78, 0.96)),
)
ANT_SIDE_LEGS = (
    ((0.42, 0.04), (0.70, -0.24), (0.90, 0.56), (1.07, 0.60)),
    ((0.26, 0.06), (0.30, -0.32), (0.20, 0.56), (0.37, 0.60)),
    ((0.08, 0.06), (-0.26, -0.34), (-0.58, 0.56), (-0.42, 0.60)),
)
SWING = (0.0, 0.45, 1.0, 1.1)


def step_joints(joints: Sequence[Point], pose: Pose, number: int, side: float) -> list[Point]:
    """Move the joints of a leg as far as its phase of the walk asks for."""
    # Insects walk with three legs at a time: neighbouring legs are half a step apart.
    swing = pose.stride * math.sin(pose.phase + math.pi * (number + (side > 0)))
    root = joints[0]
    return [
        (
            root[0] + (x - root[0]) * pose.reach + swing * part,
            root[1] + (y - root[1]) * pose.reach,
        )
        for (x, y), part in zip(joints, SWING, strict=True)
    ]


def flip(joints: Sequence[Point], side: float) -> list[Point]:
    """Mirror joints to the other side of the body."""
    return [(x, y * side) for x, y in joints]


def ant_legs(coat: AntCoat, pose: Pose) -> list[Mark]:
    """Return the six legs seen from above."""
    marks: list[Mark] = []
    for side in (-1.0, 1.0):
        for number, joints in enumerate(ANT_LEGS):
            moved = flip(step_joints(joints, pose, number, side), side)
            marks += limb(moved, (0.034, 0.032, 0.022, 0.012), coat.legs)
    return marks


def ant_feeler(coat: AntCoat, pose: Pose, root: Point, side: float) -> list[Mark]:
    """Return one elbowed feeler."""
    elbow = polar(root, side * (0.75 + 0.35 * pose.spread), 0.34 * pose.feelers)
    middle = polar(elbow, side * (0.05 - 0.35 * pose.spread), 0.22 * pose.feelers)
    tip = polar(middle, side * (-0.25 - 0.3 * pose.spread), 0.24 * pose.feelers)
    whip = bezier((elbow, middle, tip), 14)
    return [
        *limb((root, elbow), (0.020, 0.020), coat.legs),
        Fill(tube(whip, np.linspace(0.018, 0.030, 14)), coat.legs),
        Fill(ellipse(tip, (0.030, 0.030), steps=16), coat.legs),
    ]


def ant_head(coat: AntCoat, pose: Pose) -> list[Mark]:
    """Return head, jaws, feelers and eyes seen from above."""
    size = pose.head
    neck, front = 0.53, 0.53 + 0.40 * size
    marks: list[Mark] = []
    for side in (-1.0, 1.0):
        marks += ant_feeler(coat, pose, (front - 0.08, side * 0.07 * size), side)
        jaw = (
            (front - 0.05, side * 0.10 * size),
            (front + 0.12 * size, side * 0.13 * size),
            (front + 0.15 * size, side * 0.01),
        )
        marks.append(Fill(ribbon(jaw, 0.042 * size, 0.008), mix(coat.head, SHADE, 0.25)))
    skull = tube(bezier(((neck, 0), (front, 0)), 40), belly(40, 0.205 * size, 0.82, 0.52))
    marks += solid(skull, coat.head)
    for side in (-1.0, 1.0):
        eye = (neck + 0.22 * size, side * 0.165 * size)
        marks += round_eye(eye, (0.052 * size, 0.034 * size))
    return marks


def round_eye(centre: Point, radii: Point, turn: float = 0.0) -> list[Mark]:
    """Return a dark eye with a glint."""
    glint = (centre[0] + radii[0] * 0.2, centre[1] - radii[1] * 0.3)
    return [
        Fill(ellipse(centre, radii, turn, 24), rgb("#17131c")),
        Fill(ellipse(glint, (radii[0] * 0.3, radii[1] * 0.3), turn, 16), WHITE, 0.65),
    ]


def ant_gaster(coat: AntCoat, pose: Pose, spine: Points) -> list[Mark]:
    """Return the big hind part with the edges of its plates."""
    radii = belly(len(spine), 0.29 * pose.tail, 0.88, 0.62)
    outline = tube(spine, radii)
    marks: list[Mark] = [Fill(outline, coat.gaster)]
    for start in (0.30, 0.53, 0.74):
        plate = section(spine, radii, start, start + 0.035)
        marks.append(Fill(plate, mix(coat.gaster, WHITE, 0.17)))
    return [*marks, Relief(outline, 0.55, 0.55)]


def ant_from_above(coat: AntCoat, pose: Pose) -> list[Mark]:
    """Return an ant seen from above, its head towards positive x."""
    tail = bezier(((-0.26, 0), (-0.30 - 0.72 * pose.tail, 0)), 40)
    trunk_radii = np.interp(
        spaced(40),
        (0, 0.06, 0.25, 0.5, 0.62, 0.85, 1),
        (0.02, 0.09, 0.15, 0.115, 0.10, 0.085, 0.03),
    )
    trunk = tube(bezier(((0.57, 0), (-0.12, 0)), 40), trunk_radii)
    return [
        *ant_legs(coat, pose),
        *solid(ellipse((-0.24, 0), (0.05, 0.045)), coat.trunk),
        *ant_gaster(coat, pose, tail),
        *solid(ellipse((-0.16, 0), (0.075, 0.072)), coat.trunk),
        *solid(trunk, coat.trunk),
        *ant_head(coat, pose),
    ]


def ant_side_legs(coat: AntCoat, pose: Pose, side: float) -> list[Mark]:
    """Return the three legs on one side, seen from that side; the far ones are darker."""
    colour = coat.legs if side > 0 else mix(coat.legs, SHADE, 0.45)
    marks: list[Mark] = []
    for number, joints in enumerate(ANT_SIDE_LEGS):
        moved = step_joints(joints, pose, number, side)
        marks += limb(moved, (0.036, 0.030, 0.019, 0.013), colour)
    return marks


def ant_side_head(coat: AntCoat, pose: Pose) -> list[Mark]:
    """Return head, jaw, feelers and eye seen from the side."""
    size = pose.head
    neck = (0.56, -0.10)
    chin = (neck[0] + 0.38 * size, neck[1] + 0.20 * size)
    face = (chin[0] - 0.10 * size, chin[1] - 0.14 * size)
    skull = tube(bezier((neck, chin), 40), belly(40, 0.185 * size, 0.85, 0.55))
    jaw = (
        (chin[0] - 0.07, chin[1] - 0.01),
        (chin[0] + 0.08, chin[1]),
        (chin[0] + 0.06, chin[1] + 0.12),
    )
    far = AntCoat(coat.head, coat.trunk, coat.gaster, mix(coat.legs, SHADE, 0.45))
    return [
        *ant_feeler(far, pose, face, -1.25),
        Fill(ribbon(jaw, 0.05 * size, 0.01), mix(coat.head, SHADE, 0.25)),
        *solid(skull, coat.head),
        *round_eye((neck[0] + 0.20 * size, neck[1] + 0.05 * size), (0.05 * size, 0.042 * size)),
        *ant_feeler(coat, pose, face, -0.8),
    ]


def ant_from_the_side(coat: AntCoat, pose: Pose) -> list[Mark]:
    """Return an ant seen from the side, its feet towards positive y."""
    tail = bezier(((-0.25, 0.0), (-0.6, -0.12), (-0.28 - 0.74 * pose.tail, 0.12)), 40)
    trunk_radii = np.interp(
        spaced(40), (0, 0.1, 0.3, 0.55, 0.85, 1), (0.03, 0.11, 0.155, 0.12, 0.10, 0.03)
    )
    trunk = tube(bezier(((0.60, -0.06), (0.2, -0.14), (-0.12, 0.02)), 40), trunk_radii)
    node = tube(bezier(((-0.19, 0.08), (-0.17, -0.16)), 20), belly(20, 0.075, 0.7, 0.6))
    return [
        *ant_side_legs(coat, pose, -1),
        *solid(node, coat.trunk),
        *ant_gaster(coat, pose, tail),
        *solid(trunk, coat.trunk),
        *ant_side_head(coat, pose),
        *ant_side_legs(coat, pose, 1),
    ]


# ---- the bee -------------------------------------------------------------------------------


@dataclass(frozen=True)
class BeeCoat:
    """The colours of one sort of bee; `bands` run from the waist to the sting."""

    face: Colour
    fur: Colour
    bands: tuple[Colour, ...]
    legs: Colour
    furry: bool = False


_HONEY = ("#e6a93c", "#45301f")
BEE_COATS = (
    BeeCoat(rgb("#3f2f27"), rgb("#c99548"), _colours(*_HONEY * 4), rgb("#46342a")),
    BeeCoat(rgb("#4a3526"), rgb("#e0b25e"), _colours(*("#f2bf4a", "#5a3a1f") * 4), rgb("#5a4029")),
    BeeCoat(rgb("#332d2d"), rgb("#a98b63"), _colours(*("#b98d4f", "#352b2a") * 4), rgb("#3a3030")),
    BeeCoat(
        rgb("#2e2930"),
        rgb("#eab53a"),
        _colours("#2e2930", "#eab53a", "#2e2930", "#2e2930", "#f4efe2"),
        rgb("#2e2930"),
        furry=True,
    ),
    BeeCoat(
        rgb("#302a2e"),
        rgb("#f0c24c"),
        _colours("#f0c24c", "#322b2e", "#f0c24c", "#322b2e", "#f5eedd"),
        rgb("#302a2e"),
        furry=True,
    ),
    BeeCoat(
        rgb("#33292b"),
        rgb("#dba14a"),
        _colours("#dba14a", "#3a2c2a", "#e8b45a", "#3a2c2a", "#d9743a"),
        rgb("#33292b"),
        furry=True,
    ),
)
BEE_LEGS = (
    ((0.46, 0.14), (0.60, 0.36), (0.78, 0.44), (0.88, 0.47)),
    ((0.30, 0.18), (0.30, 0.44), (0.20, 0.62), (0.14, 0.70)),
    ((0.16, 0.16), (-0.06, 0.40), (-0.34, 0.52), (-0.46, 0.60)),
)
BEE_SIDE_LEGS = (
    ((0.46, 0.18), (0.60, 0.32), (0.54, 0.50), (0.62, 0.56)),
    ((0.30, 0.22), (0.36, 0.40), (0.22, 0.58), (0.26, 0.66)),
    ((0.14, 0.20), (0.06, 0.42), (-0.16, 0.54), (-0.18, 0.64)),
)
WING: Colour = (236, 244, 250)
VEIN: Colour = (96, 88, 96)


def bee_legs(coat: BeeCoat, pose: Pose) -> list[Mark]:
    """Return the six short legs seen from above, the hind ones with pollen."""
    marks: list[Mark] = []
    for side in (-1.0, 1.0):
        for number, joints in enumerate(BEE_LEGS):
            moved = flip(step_joints(joints, pose, number, side), side)
            marks += limb(moved, (0.042, 0.042, 0.034, 0.016), coat.legs)
            if number == 2:
                marks += solid(ellipse(moved[2], (0.085, 0.06)), rgb("#e9a23b"), 0.4, 0.2)
    return marks


def wing(root: Point, angle: float, size: Point) -> list[Mark]:
    """Return one translucent wing; `size` is its length and half its width."""
    length, width = size
    tip = polar(root, angle, length)
    bulge = polar(root, angle + 0.10, length * 0.6)
    spine = bezier((root, bulge, tip), 40)
    outline = tube(spine, belly(40, width, 1.45, 0.62) + np.linspace(0.012, 0, 40))
    marks: list[Mark] = [
        Fill(outline, WING, 0.66),
        Fill(tube(spine, np.full(40, 0.007)), VEIN, 0.5),
    ]
    for turn, part in ((-0.16, 0.82), (0.17, 0.80), (-0.30, 0.60), (0.30, 0.56)):
        vein = (root, polar(root, angle + turn * 1.5, length * part * 0.5))
        end = polar(root, angle + turn * width / 0.2, length * part)
        marks.append(Fill(ribbon((*vein, end), 0.007, 0.003), VEIN, 0.4))
    edge = np.concatenate((outline, outline[:1]))
    marks.append(Fill(tube(edge, np.full(len(edge), 0.008)), VEIN, 0.55))
    return marks


def bee_wings(pose: Pose) -> list[Mark]:
    """Return both pairs of wings seen from above."""
    marks: list[Mark] = []
    for side in (-1.0, 1.0):
        opening = 0.42 + 0.62 * pose.spread
        marks += wing((0.20, side * 0.17), side * (math.pi - opening * 0.72), (0.72, 0.155))
        marks += wing((0.33, side * 0.17), side * (math.pi - opening - 0.12), (1.02, 0.185))
    return marks


def bee_abdomen(coat: BeeCoat, pose: Pose, spine: Points, rng: random.Random) -> list[Mark]:
    """Return the banded abdomen with its sting."""
    steps = len(spine)
    plump = 0.37 if coat.furry else 0.30
    radii = belly(steps, plump * pose.tail, 0.72, 0.55)
    outline = tube(spine, radii)
    after = spine[-1] + (spine[-1] - spine[-4]) * 1.0
    sting = ribbon((tuple(spine[-3]), tuple(after)), 0.028, 0.003)
    marks: list[Mark] = [Fill(sting, rgb("#2a2024"))]
    marks.append(Fill(shaggy(outline, rng, 0.06) if coat.furry else outline, coat.bands[-1]))
    # From the tail forwards, so that the fringe of every band lies over the next one.
    for number in range(len(coat.bands) - 1, 0, -1):
        front = section(spine, radii, 0, number / len(coat.bands))
        band = shaggy(front, rng, 0.05) if coat.furry else front
        marks.append(Fill(band, coat.bands[number - 1]))
    return [*marks, Relief(outline, 0.45, 0.15 if coat.furry else 0.45)]


def fur(centre: Point, radius: float, colour: Colour, rng: random.Random) -> list[Mark]:
    """Return a ball of fur: fringes of hair that get lighter towards the top."""
    marks: list[Mark] = []
    for part, tone in ((1.0, -0.28), (0.86, -0.1), (0.7, 0.04), (0.5, 0.13), (0.3, 0.22)):
        shade = mix(colour, WHITE, tone) if tone > 0 else mix(colour, SHADE, -tone)
        ball = ellipse(centre, (radius * part, radius * part * 0.96))
        marks.append(Fill(shaggy(ball, rng, radius * 0.24), shade))
    return [*marks, Relief(ellipse(centre, (radius, radius)), 0.3, 0.0)]


def bee_feeler(coat: BeeCoat, pose: Pose, root: Point, side: float) -> list[Mark]:
    """Return one short bent feeler."""
    elbow = polar(root, side * (0.55 + 0.4 * pose.spread), 0.15 * pose.feelers)
    tip = polar(elbow, side * (0.25 + 0.3 * pose.spread), 0.24 * pose.feelers)
    return limb((root, elbow, tip), (0.020, 0.020, 0.022), coat.legs)


def bee_from_above(coat: BeeCoat, pose: Pose, rng: random.Random) -> list[Mark]:
    """Return a bee seen from above, its head towards positive x."""
    size = pose.head
    spine = bezier(((0.14, 0), (0.10 - 1.02 * pose.tail, 0)), 40)
    marks = bee_legs(coat, pose)
    for side in (-1.0, 1.0):
        marks += bee_feeler(coat, pose, (0.74, side * 0.06), side)
    marks += bee_abdomen(coat, pose, spine, rng)
    marks += solid(ellipse((0.66, 0), (0.155 * size, 0.21 * size)), coat.face)
    for side in (-1.0, 1.0):
        eye = (0.68, side * 0.165 * size)
        marks += round_eye(eye, (0.105 * size, 0.062 * size), side * 0.25)
    marks += fur((0.58, 0), 0.07 * size, coat.fur, rng)
    marks += fur((0.32, 0), 0.34 if coat.furry else 0.29, coat.fur, rng)
    return marks + bee_wings(pose)


def bee_side_legs(coat: BeeCoat, pose: Pose, side: float) -> list[Mark]:
    """Return the three legs on one side, seen from that side; the far ones are darker."""
    colour = coat.legs if side > 0 else mix(coat.legs, SHADE, 0.5)
    marks: list[Mark] = []
    for number, joints in enumerate(BEE_SIDE_LEGS):
        marks += limb(step_joints(joints, pose, number, side), (0.042, 0.042, 0.034, 0.016), colour)
    return marks


def bee_from_the_side(coat: BeeCoat, pose: Pose, rng: random.Random) -> list[Mark]:
    """Return a bee seen from the side, its feet towards positive y."""
    size = pose.head
    drop = 0.10 + 0.26 * pose.spread
    spine = bezier(((0.16, 0.0), (-0.4, -0.06), (0.06 - 0.98 * pose.tail, drop)), 40)
    lift = math.pi + 0.45 + 0.65 * pose.spread
    return [
        *wing((0.30, -0.20), lift + 0.45, (0.92, 0.17)),
        *bee_side_legs(coat, pose, -1),
        *bee_feeler(coat, pose, (0.82, 0.0), -0.9),
        *bee_abdomen(coat, pose, spine, rng),
        Fill(ribbon(((0.74, 0.24), (0.80, 0.34), (0.78, 0.42)), 0.035, 0.012), coat.legs),
        *solid(ellipse((0.70, 0.10), (0.17 * size, 0.205 * size), -0.3), coat.face),
        *round_eye((0.75, 0.06), (0.075 * size, 0.125 * size), -0.3),
        *bee_side_legs(coat, pose, 1),
        *fur((0.32, 0.0), 0.35 if coat.furry else 0.31, coat.fur, rng),
        *bee_feeler(coat, pose, (0.84, 0.04), -0.45),
        *wing((0.18, -0.20), lift - 0.15, (0.66, 0.14)),
        *wing((0.26, -0.22), lift + 0.15, (1.0, 0.18)),
    ]


# ---- painting ------------------------------------------------------------------------------


@dataclass
class Scene:
    """The enlarged picture while it is painted."""

    width: int
    height: int
    rng: random.Random
    sideways: bool
    frame: Frame = field(init=False)
    image: Image.Image = field(init=False)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width, self.height))
        self.frame = self.choose_frame()

    def choose_frame(self) -> Frame:
        """Decide where the insect will be; one seen from the side stays upright."""
        rng = self.rng
        turn, bend = (0.3, 0.1) if self.sideways else (math.pi, 0.4)
        return Frame(
            self.middle(0.04),
            self.unit * rng.uniform(0.25, 0.34),
            rng.uniform(-turn, turn),
            rng.uniform(-bend, bend),
            rng.random() < 0.5,
            BODY_MIDDLE,
        )

    @property
    def unit(self) -> float:
        """The length of the short side."""
        return float(min(self.width, self.height))

    def fill(self, outline: Points, colour: Colour, opacity: float = 1.0) -> None:
        """Paint a shape."""
        pen = ImageDraw.Draw(self.image, "RGBA")
        pen.polygon([(x, y) for x, y in outline.tolist()], (*colour, round(255 * opacity)))

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Paint the whole picture from one colour to another."""
        ramp = Image.linear_gradient("L").resize(self.image.size)
        self.image = Image.composite(
            Image.new("RGB", self.image.size, bottom), Image.new("RGB", self.image.size, top), ramp
        )

    def blur(self, amount: float) -> None:
        """Put everything painted so far out of focus."""
        # Blurring a reduced copy looks the same and takes a fraction of the time.
        small = self.image.reduce(4).filter(ImageFilter.GaussianBlur(amount * self.unit / 4))
        self.image = small.resize(self.image.size, Image.Resampling.BILINEAR)

    def anywhere(self, margin: float = 0.0) -> Point:
        """Return a random place; a negative margin reaches beyond the edges."""
        inset = margin * self.unit
        return (
            self.rng.uniform(inset, self.width - inset),
            self.rng.uniform(inset, self.height - inset),
        )

    def middle(self, wander: float) -> Point:
        """Return a random place near the middle."""
        reach = wander * self.unit
        return (
            self.width / 2 + self.rng.uniform(-reach, reach),
            self.height / 2 + self.rng.uniform(-reach, reach),
        )

    def shadow(self, outlines: Sequence[tuple[Points, float]], drop: Point, soft: float) -> None:
        """Paint a soft shadow of some shapes."""
        moved = [(outline + np.array(drop) * self.unit, strength) for outline, strength in outlines]
        corners = np.concatenate([outline for outline, _ in moved])
        margin = 3 * soft * self.unit
        limits = np.array(self.image.size)
        low = np.clip(corners.min(axis=0) - margin, 0, limits).astype(int)
        high = np.clip(corners.max(axis=0) + margin, 0, limits).astype(int)
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        if min(size) < 4:
            return
        mask = Image.new("L", (size[0] // 4, size[1] // 4))
        pen = ImageDraw.Draw(mask)
        for outline, strength in moved:
            spots = (outline - low) / 4
            pen.polygon([(x, y) for x, y in spots.tolist()], round(105 * strength))
        mask = mask.filter(ImageFilter.GaussianBlur(soft * self.unit / 4))
        mask = mask.resize(size, Image.Resampling.BILINEAR)
        self.image.paste(SHADE, (int(low[0]), int(low[1])), mask)

    def raised(self, outline: Points, colour: Colour, height: float = 0.012) -> None:
        """Paint a shape that throws a shadow."""
        self.shadow([(outline, 0.8)], (height * 0.5, height), height)
        self.fill(outline, colour)

    def relief(self, mark: Relief) -> None:
        """Shade the side of a shape that faces away from the light and let the other side shine."""
        low = np.floor(mark.outline.min(axis=0)).astype(int) - 2
        size = np.ceil(mark.outline.max(axis=0)).astype(int) + 3 - low
        local = mark.outline - low
        thickness = float(size.min())
        area = _mask(local, size)
        away = _mask(local - np.array((0.14, 0.18)) * thickness, size)
        dark = ImageChops.subtract(area, away).filter(ImageFilter.GaussianBlur(thickness * 0.04))
        corner = (int(low[0]), int(low[1]))
        self.image.paste(SHADE, corner, _dim(ImageChops.multiply(dark, area), mark.depth))
        centre = local.mean(axis=0) - np.array((0.13, 0.17)) * thickness
        shine = _mask((local - local.mean(axis=0)) * 0.42 + centre, size)
        shine = shine.filter(ImageFilter.GaussianBlur(thickness * 0.07))
        self.image.paste(WHITE, corner, _dim(ImageChops.multiply(shine, area), mark.gloss))

    def paint(self, marks: Sequence[Mark]) -> None:
        """Paint an insect and its shadow."""
        placed: list[Mark] = []
        for mark in marks:
            outline = self.frame.place(mark.outline)
            if isinstance(mark, Fill):
                placed.append(Fill(outline, mark.colour, mark.opacity))
            else:
                placed.append(Relief(outline, mark.depth, mark.gloss))
        shapes = [(mark.outline, mark.opacity) for mark in placed if isinstance(mark, Fill)]
        self.shadow(shapes, (0.016, 0.028), 0.014)
        for mark in placed:
            if isinstance(mark, Fill):
                self.fill(mark.outline, mark.colour, mark.opacity)
            else:
                self.relief(mark)


def _mask(outline: Points, size: npt.NDArray[np.int64]) -> Image.Image:
    mask = Image.new("L", (int(size[0]), int(size[1])))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in outline.tolist()], 255)
    return mask


def _dim(mask: Image.Image, share: float) -> Image.Image:
    return mask.point([round(level * share) for level in range(256)])


# ---- backgrounds ---------------------------------------------------------------------------


LEAF_PALETTES = (
    _colours("#e3edcf", "#a9c98a", "#7fae6a", "#5f9459", "#8cbb74"),
    _colours("#d8ece4", "#8fc3ad", "#64a48d", "#4c8b78", "#a4cfb4"),
    _colours("#f1ead0", "#c6c977", "#a3b25a", "#83984a", "#d3c884"),
    _colours("#f6e6cf", "#e0a862", "#cf8a4c", "#b9c07a", "#e3bd6f"),
)
PETALS = _colours(
    "#f4b6c2", "#f7d9e3", "#c9b3e6", "#fdf6ee", "#f9dd7c", "#f3a58c", "#a9c4ee", "#e69bb5"
)
MEADOWS = (
    _colours("#dcebc6", "#9cc28a"),
    _colours("#d6ebe2", "#8fbfa6"),
    _colours("#f3ead2", "#bccb8c"),
    _colours("#e4e6f4", "#a9bfa2"),
)
COMBS = (
    _colours("#f6d88c", "#e9a93a", "#d98f27", "#f3c25a", "#fbe8b8"),
    _colours("#f3dfae", "#dca24c", "#c98738", "#ecc67c", "#f8edcf"),
    _colours("#fbe6a6", "#f2bd4d", "#e8a434", "#f8d273", "#fdf3d3"),
)
GROUNDS = (
    _colours("#efdcb8", "#dfc597", "#c7a67a", "#a9aba6", "#d9cfc2", "#8f8578"),
    _colours("#cfae8c", "#b78f6c", "#8f6a50", "#d8c6b0", "#a99688", "#75604f"),
    _colours("#e3d8cc", "#cdbfb0", "#a89a8d", "#b9c0c0", "#e9e1d6", "#8c8f92"),
    _colours("#e8c3a0", "#d7a47c", "#b37c5a", "#e6d3bd", "#b79a88", "#8f6b58"),
)
SKIES = (
    _colours("#8fc7ea", "#e6f4f6", "#8dbb8b"),
    _colours("#a9d3ee", "#fdf1dc", "#a5bf86"),
    _colours("#b9c6ee", "#fde4d8", "#98ad9a"),
    _colours("#7fbfd8", "#dff3e6", "#7fb08f"),
)
WOODS = _colours("#d9b48a", "#cfa172", "#e6cba6", "#c79f7c", "#d8c3a8", "#bfa58c")
BARKS = _colours("#a98467", "#b8957a", "#9c8474", "#c2a98c")


def leaf(scene: Scene, root: Point, tip: Point, colour: Colour, width: float) -> None:
    """Paint one leaf with its veins."""
    reach = math.dist(root, tip)
    angle = math.atan2(tip[1] - root[1], tip[0] - root[0])
    arc = polar(polar(root, angle, reach / 2), angle + math.pi / 2, reach * 0.12)
    spine = bezier((root, arc, tip), 48)
    radii = belly(48, width * reach, 0.8, 0.85)
    outline = tube(spine, radii)
    scene.raised(outline, colour)
    half = np.concatenate((spine, outline[48:]))
    scene.fill(half, mix(colour, SHADE, 0.35), 0.22)
    pale = mix(colour, WHITE, 0.45)
    for step in np.searchsorted(spaced(48), np.linspace(0.1, 0.8, 7)).tolist():
        start = (spine[step][0], spine[step][1])
        for side in (-1, 1):
            bow = polar(start, angle + side * 0.95, radii[step] * 0.55)
            end = polar(start, angle + side * 0.72, radii[step] * 1.08)
            scene.fill(ribbon((start, bow, end), reach * 0.004, reach * 0.001), pale, 0.5)
    scene.fill(tube(spine, np.linspace(0.011, 0.002, 48) * reach), pale, 0.8)


def leaves(scene: Scene) -> None:
    """Paint foliage, the nearest leaf below the insect."""
    rng = scene.rng
    palette = rng.choice(LEAF_PALETTES)
    scene.gradient(palette[0], mix(palette[0], palette[1], 0.7))
    for number in range(12):
        if number == 8:
            scene.blur(0.012)
        root = scene.anywhere(-0.2)
        tip = polar(root, rng.uniform(0, 2 * math.pi), scene.unit * rng.uniform(0.5, 0.9))
        leaf(scene, root, tip, vary(rng.choice(palette[1:]), rng), rng.uniform(0.18, 0.28))
    scene.blur(0.004)
    angle = rng.uniform(0, 2 * math.pi)
    heart = scene.middle(0.06)
    root, tip = (polar(heart, angle + turn, scene.unit * 0.72) for turn in (0, math.pi))
    leaf(scene, root, tip, vary(rng.choice(palette[1:4]), rng), rng.uniform(0.26, 0.36))
    for _ in range(rng.randint(0, 6)):
        dew(scene, scene.middle(0.32), scene.unit * rng.uniform(0.012, 0.032))


def dew(scene: Scene, centre: Point, radius: float) -> None:
    """Paint one drop of dew."""
    drop = ellipse(centre, (radius, radius * 0.88))
    scene.shadow([(drop, 0.7)], (0.004, 0.006), 0.006)
    scene.fill(drop, rgb("#eefaf4"), 0.42)
    scene.relief(Relief(drop, 0.22, 0.5))
    glint = ellipse(polar(centre, -2.3, radius * 0.5), (radius * 0.2, radius * 0.13), -0.7, 16)
    scene.fill(glint, WHITE, 0.95)


def blossom(scene: Scene, centre: Point, radius: float, colour: Colour) -> None:
    """Paint one open flower."""
    rng = scene.rng
    count = rng.choice((5, 6, 8, 10, 13))
    turn = rng.uniform(0, math.pi)
    width = 2.3 / count if count > 6 else 0.34
    for layer, size in ((0.0, 1.0), (0.5, 0.78)):
        for number in range(count):
            angle = turn + (number + layer) * 2 * math.pi / count
            spine = bezier(
                (polar(centre, angle, radius * 0.08), polar(centre, angle, radius * size)), 32
            )
            petal = tube(spine, belly(32, radius * width * size, 1.5, 0.6))
            tone = mix(vary(colour, rng, 0.02), WHITE, 0.0 if layer == 0 else 0.22)
            scene.raised(petal, tone, 0.006)
            crease = tube(spine[:22], np.linspace(0.016, 0.002, 22) * radius)
            scene.fill(crease, mix(colour, SHADE, 0.3), 0.22)
    scene.raised(ellipse(centre, (radius * 0.2, radius * 0.2)), rgb("#eebb4d"), 0.006)
    for number in range(60):
        spot = polar(centre, number * 2.4, radius * 0.185 * math.sqrt(number / 60))
        dot = ellipse(spot, (radius * 0.014, radius * 0.014), steps=10)
        scene.fill(dot, rgb("#c98a2c") if number % 2 else rgb("#fbe09a"), 0.9)


def flowers(scene: Scene) -> None:
    """Paint a meadow out of focus and one great flower near the insect."""
    rng = scene.rng
    top, bottom = rng.choice(MEADOWS)
    scene.gradient(top, bottom)
    kinds = rng.sample(PETALS, 3)
    for _ in range(7):
        stem = scene.anywhere(-0.1)
        tip = polar(stem, rng.uniform(-2.2, -0.9), scene.unit * rng.uniform(0.3, 0.7))
        scene.fill(ribbon((stem, tip), scene.unit * 0.03, 0), mix(bottom, rgb("#4f8a5b"), 0.5), 0.6)
    for _ in range(6):
        blossom(scene, scene.anywhere(), scene.unit * rng.uniform(0.12, 0.22), rng.choice(kinds))
    scene.blur(0.014)
    blossom(scene, scene.middle(0.2), scene.unit * rng.uniform(0.5, 0.7), kinds[0])


def honeycomb(scene: Scene) -> None:
    """Paint the cells of a comb, some of them capped with wax."""
    rng = scene.rng
    wall, honey, deep, bright, wax = rng.choice(COMBS)
    scene.gradient(wall, mix(wall, honey, 0.35))
    radius = scene.unit * rng.uniform(0.095, 0.135)
    turn = rng.uniform(-0.3, 0.3)
    reach = round(max(scene.width, scene.height) / radius / 2) + 1
    grid = Frame((scene.width / 2, scene.height / 2), radius, turn)
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            spot = (math.sqrt(3) * (column + row % 2 / 2), 1.5 * row)
            colour = rng.choices((honey, deep, bright, wax), (4, 3, 3, 1))[0]
            cell(scene, grid, spot, vary(colour, rng, 0.02))


def cell(scene: Scene, grid: Frame, centre: Point, colour: Colour) -> None:
    """Paint one six-sided cell with honey in it."""

    def hexagon(size: float, shift: float = 0.0) -> Points:
        around = ellipse((centre[0] + shift, centre[1] + shift), (size, size), math.pi / 6, 6)
        return grid.place(around)

    scene.fill(hexagon(0.90), mix(colour, SHADE, 0.28))
    scene.fill(hexagon(0.82, 0.05), colour)
    scene.fill(hexagon(0.62, 0.12), mix(colour, WHITE, 0.13))
    glint = ellipse((centre[0] - 0.34, centre[1] - 0.38), (0.17, 0.07), -0.7, 20)
    scene.fill(grid.place(glint), WHITE, 0.4)


def pebble(scene: Scene, centre: Point, radius: float, colour: Colour) -> None:
    """Paint one smooth stone."""
    rng = scene.rng
    outline = ellipse(centre, (radius, radius * rng.uniform(0.65, 0.95)), rng.uniform(0, math.pi))
    scene.raised(outline, colour, 0.008)
    scene.relief(Relief(outline, 0.28, 0.35))


def ground(scene: Scene) -> None:
    """Paint sand or soil with grains and pebbles."""
    rng = scene.rng
    light, base, dark, *stones = rng.choice(GROUNDS)
    scene.gradient(light, base)
    for _ in range(14):
        patch = ellipse(
            scene.anywhere(), (scene.unit * 0.3, scene.unit * 0.1), rng.uniform(-0.3, 0.3)
        )
        scene.fill(patch, rng.choice((light, dark)), 0.22)
    scene.blur(0.03)
    for _ in range(420):
        size = scene.unit * rng.uniform(0.002, 0.007)
        grain = ellipse(scene.anywhere(), (size, size * 0.8), steps=9)
        scene.fill(grain, rng.choice((light, dark, mix(light, WHITE, 0.5))), 0.6)
    for _ in range(rng.randint(12, 26)):
        size = scene.unit * rng.uniform(0.015, 0.075)
        pebble(scene, scene.anywhere(-0.02), size, vary(rng.choice(stones), rng))
    for _ in range(rng.randint(0, 3)):
        sprout(scene, scene.anywhere())


def sprout(scene: Scene, root: Point) -> None:
    """Paint a seedling."""
    green = vary(rgb("#8db56a"), scene.rng)
    start = scene.rng.uniform(0, 2 * math.pi)
    for turn in (0.0, 2.2, 4.1):
        tip = polar(root, start + turn, scene.unit * scene.rng.uniform(0.09, 0.16))
        leaf(scene, root, tip, green, 0.2)


def sky(scene: Scene) -> None:
    """Paint clouds and hills far away, and a twig that carries the insect."""
    rng = scene.rng
    top, bottom, hill = rng.choice(SKIES)
    scene.gradient(top, bottom)
    sun = scene.anywhere()
    for size, strength in ((0.26, 0.25), (0.18, 0.35), (0.11, 0.8)):
        scene.fill(ellipse(sun, (scene.unit * size,) * 2), rgb("#fff6d8"), strength)
    for _ in range(rng.randint(3, 5)):
        cloud(scene, scene.anywhere(), mix(WHITE, bottom, 0.25))
    for height, share in ((0.78, 0.35), (0.90, 0.7)):
        hills(scene, height * scene.height, mix(bottom, hill, share))
    scene.blur(0.006)
    twig(scene)


def cloud(scene: Scene, centre: Point, colour: Colour) -> None:
    """Paint one cloud."""
    rng = scene.rng
    for number in range(-3, 4):
        size = scene.unit * (0.10 - 0.018 * abs(number)) * rng.uniform(0.8, 1.2)
        spot = (centre[0] + number * scene.unit * 0.07, centre[1] - size * 0.5)
        scene.fill(ellipse(spot, (size, size * 0.9)), colour)


def hills(scene: Scene, height: float, colour: Colour) -> None:
    """Paint a range of hills up to the lower edge."""
    across = np.linspace(0, scene.width, 60)
    start, waves = scene.rng.uniform(0, 6), scene.rng.uniform(1.0, 2.2)
    crest = height + np.sin(start + across / scene.width * 2 * math.pi * waves) * scene.unit * 0.05
    corners = np.array(((scene.width, scene.height), (0, scene.height)), dtype=np.float64)
    scene.fill(np.concatenate((np.column_stack((across, crest)), corners)), colour)


def twig(scene: Scene) -> None:
    """Paint a twig with leaves that runs below the insect."""
    rng = scene.rng
    frame = scene.frame
    angle = frame.turn if scene.sideways else rng.uniform(-0.6, 0.6)
    # Feet seen from the side stand on the twig.
    heart = polar(frame.centre, angle + math.pi / 2, frame.scale * 0.72 * scene.sideways)
    length = math.hypot(scene.width, scene.height) * 0.7
    arc = polar(heart, angle + math.pi / 2, scene.unit * rng.uniform(-0.1, 0.1))
    start, end = polar(heart, angle + math.pi, length), polar(heart, angle, length)
    spine = bezier((start, arc, end), 48)
    green, bark = vary(rgb("#86b06a"), rng), vary(rng.choice(BARKS), rng)
    for step in range(4, 46, 6):
        root = (spine[step][0], spine[step][1])
        lean = angle + rng.choice((-1, 1)) * rng.uniform(0.6, 1.1)
        tip = polar(root, lean, scene.unit * rng.uniform(0.22, 0.36))
        leaf(scene, root, tip, vary(green, rng), 0.2)
    outline = tube(spine, np.linspace(0.085, 0.05, 48) * scene.unit)
    scene.raised(outline, bark)
    for shift in (-0.035, -0.01, 0.022):
        line = spine + np.array((0, shift * scene.unit))
        scene.fill(tube(line, np.full(48, scene.unit * 0.005)), mix(bark, SHADE, 0.4), 0.3)


def wood(scene: Scene) -> None:
    """Paint boards with grain and knots."""
    rng = scene.rng
    base = rng.choice(WOODS)
    scene.gradient(base, mix(base, WHITE, 0.15))
    count = rng.randint(2, 4)
    side = math.hypot(scene.width, scene.height)
    frame = Frame(
        (scene.width / 2, scene.height / 2), side, rng.choice((0.0, math.pi / 2, 0.4, -0.5))
    )
    for number in range(count):
        board(scene, frame, (number / count - 0.5, (number + 1) / count - 0.5), vary(base, rng))


def board(scene: Scene, frame: Frame, edges: Point, colour: Colour) -> None:
    """Paint one board; `edges` are its two long sides."""
    rng = scene.rng
    low, high = edges
    along = np.linspace(-0.55, 0.55, 60)
    flat = np.array(((-0.6, low), (0.6, low), (0.6, high), (-0.6, high)))
    scene.fill(frame.place(flat), colour)
    knot = (rng.uniform(-0.4, 0.4), rng.uniform(low + 0.04, high - 0.04))
    for line in np.linspace(low, high, 9)[1:-1]:
        # The grain flows round the knot.
        offset = line - knot[1]
        push = math.copysign(0.035, offset) * np.exp(-((along - knot[0]) ** 2) / 0.006)
        push *= math.exp(-abs(offset) * 14)
        wave = np.sin(along * rng.uniform(4, 9) + rng.uniform(0, 6)) * 0.006
        grain = np.column_stack((along, line + push + wave))
        width = np.full(60, rng.uniform(0.0012, 0.0028))
        scene.fill(frame.place(tube(grain, width)), mix(colour, rgb("#6b4226"), 0.6), 0.35)
    for size, strength in ((1.0, 0.25), (0.68, 0.3), (0.36, 0.4)):
        ring = ellipse(knot, (0.034 * size, 0.018 * size))
        scene.fill(frame.place(ring), rgb("#6b4226"), strength)
    gap = np.array(
        ((-0.6, high - 0.003), (0.6, high - 0.003), (0.6, high + 0.003), (-0.6, high + 0.003))
    )
    scene.fill(frame.place(gap), mix(colour, SHADE, 0.6), 0.7)


BACKGROUNDS: tuple[Callable[[Scene], None], ...] = (flowers, ground, leaves, honeycomb, wood, sky)


# ---- whole pictures ------------------------------------------------------------------------


def draw(label: Label, seed: int, size: int = 480) -> Image.Image:
    """Draw one picture; the same label, seed and size always give the same one.

    Args:
        label: What to draw.
        seed: Any whole number.
        size: About the length of the short side in pixels.

    Returns:
        The picture, in RGB.
    """
    rng = random.Random(f"{label} {seed}")
    across, down = rng.choice(PROPORTIONS)
    short = size * rng.uniform(0.94, 1.06) / min(across, down)
    width, height = round(short * across), round(short * down)
    scene = Scene(width * OVERSAMPLING, height * OVERSAMPLING, rng, rng.random() < 0.3)
    # Taken from the seed alone and shifted between the classes, so that in any run of seeds both
    # classes stand on every background equally often.
    shift = len(BACKGROUNDS) // 2 * LABELS.index(label)
    BACKGROUNDS[(seed + shift) % len(BACKGROUNDS)](scene)
    draw_insect(scene, label)
    return finish(scene.image.resize((width, height), Image.Resampling.LANCZOS))


def draw_insect(scene: Scene, label: Label) -> None:
    """Draw one insect of a random sort and pose."""
    rng = scene.rng
    pose = random_pose(rng)
    if label == "ants":
        coat = rng.choice(ANT_COATS)
        marks = ant_from_the_side(coat, pose) if scene.sideways else ant_from_above(coat, pose)
    else:
        dress = rng.choice(BEE_COATS)
        paint = bee_from_the_side if scene.sideways else bee_from_above
        marks = paint(dress, pose, rng)
    scene.paint(marks)


def random_pose(rng: random.Random) -> Pose:
    """Return a random pose."""
    return Pose(
        head=rng.uniform(0.88, 1.15),
        tail=rng.uniform(0.88, 1.1),
        reach=rng.uniform(0.88, 1.08),
        phase=rng.uniform(0, 2 * math.pi),
        stride=rng.uniform(0.04, 0.16),
        feelers=rng.uniform(0.85, 1.15),
        spread=rng.random(),
    )


def finish(picture: Image.Image) -> Image.Image:
    """Let light fall in from the upper left."""
    width, height = picture.size
    glow = Image.radial_gradient("L").resize((width * 2, height * 2))
    glow = glow.crop((width * 3 // 4, height * 3 // 4, width * 7 // 4, height * 7 // 4))
    warm = ImageChops.soft_light(picture, Image.new("RGB", picture.size, rgb("#fff3dc")))
    cool = ImageChops.soft_light(picture, Image.new("RGB", picture.size, rgb("#4a4a66")))
    lit = Image.composite(cool, warm, glow)
    return Image.blend(picture, lit, 0.45)


def save(picture: Image.Image, stem: Path, kind: str) -> None:
    """Write a picture as a small file."""
    if kind == "png":
        # This method keeps the few colours of the insect beside the many of the background.
        colours = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4)
        colours.save(stem.with_suffix(".png"), optimize=True)
    else:
        picture.save(stem.with_suffix(".jpg"), quality=88, optimize=True, progressive=True)


def kind_of(number: int, choice: str) -> str:
    """Return the file format of a picture: in a mixed folder every fourth one is a PNG."""
    if choice == "mixed":
        return "jpg" if number % 4 else "png"
    return choice


@click.command(context_settings={"show_default": True})
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--number", type=click.IntRange(1), default=8, help="Pictures of each class.")
@click.option("--seed", default=0, help="Seed; picture n is drawn from seed + n.")
@click.option("--size", type=click.IntRange(64), default=480, help="Short side in pixels, about.")
@click.option(
    "--format",
    "choice",
    type=click.Choice(("png", "jpg", "mixed")),
    default="png",
    help="File format; mixed: every fourth picture is a PNG, the others are JPEGs.",
)
def main(output: Path, number: int, seed: int, size: int, choice: str) -> None:
    """Draw ants and bees into OUTPUT/ants and OUTPUT/bees."""
    for label in LABELS:
        folder = output / label
        folder.mkdir(parents=True, exist_ok=True)
        for count in range(1, number + 1):
            stem = folder / f"{label[:-1]}_{count:02}"
            save(draw(label, seed + count, size), stem, kind_of(count, choice))
    click.echo(f"{number * len(LABELS)} pictures in {output}")


if __name__ == "__main__":
    main()
