"""ICC profiles made by hand, from the ICC's specification, and the colours that they mean."""

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

D50 = (0.9642, 1.0, 0.8249)

SRGB = np.array(  # linear sRGB -> XYZ under D50, after Bradford, as the ICC publishes it
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
ADOBE = np.array(  # linear Adobe RGB (1998) -> XYZ under D50
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(65536 * value)) for value in values)


def profile(space: str, tags: Mapping[str, bytes], connection: str = "XYZ ") -> bytes:
    """A profile of version 2 with these tags."""
    tags = {"desc": b"desc" + bytes(4) + b"\0\0\0\x05test\0" + bytes(79), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", begin + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    kind = b"prtr" if space == "CMYK" else b"mntr"
    header = struct.pack(">I4sI", begin + len(body), b"test", 0x02100000) + kind
    header += space.ljust(4).encode() + connection.encode() + bytes(12) + b"acsp" + bytes(28)
    return (header + fixed(*D50)).ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma))


def rgb_profile(matrix: Numbers, gamma: float) -> bytes:
    """A display whose linear colours are ``matrix`` [XYZ, RGB]."""
    tags = {"wtpt": b"XYZ " + bytes(4) + fixed(*D50)}
    for name, column in zip("rgb", matrix.T, strict=True):
        tags[f"{name}XYZ"] = b"XYZ " + bytes(4) + fixed(*column)
        tags[f"{name}TRC"] = curve(gamma)
    return profile("RGB", tags)


def grey_profile(gamma: float) -> bytes:
    return profile("GRAY", {"wtpt": b"XYZ " + bytes(4) + fixed(*D50), "kTRC": curve(gamma)})


def cmyk_profile(lab: Numbers) -> bytes:
    """A printer whose sixteen full or empty inks have the colours ``lab`` [16, 3]."""
    straight = bytes(range(256))
    coded = np.round(lab * (2.55, 1, 1) + (0, 128, 128)).astype(np.uint8)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * straight + coded.tobytes() + 3 * straight
    tags = {"wtpt": b"XYZ " + bytes(4) + fixed(*D50), "A2B0": table}
    return profile("CMYK", tags, "Lab ")


def srgb_of_xyz(xyz: Numbers) -> Numbers:
    """XYZ [..., 3] under D50 -> levels of sRGB, 0 to 255."""
    linear = np.clip(xyz @ np.linalg.inv(SRGB).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_of_lab(lab: Numbers) -> Numbers:
    """CIE Lab [..., 3] under D50 -> levels of sRGB, 0 to 255."""
    light = (lab[..., 0] + 16) / 116
    f = np.stack([light + lab[..., 1] / 500, light, light - lab[..., 2] / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return srgb_of_xyz(ratio * D50)
