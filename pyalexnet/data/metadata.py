"""What image files hold beside their pixels.

Colour profiles, texts and previews may be damaged or larger than Pillow accepts. Nothing here uses
them, so they are cut out before Pillow sees them: they cannot make an image unreadable.
"""

from __future__ import annotations

import struct
import zlib

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"

# Of PNG's ancillary chunks, only these say something about the pixels or the orientation.
_CHUNKS = {b"tRNS", b"eXIf"}
_EXIF_BYTES = 1 << 16  # as many as JPEG allows
_EXIF = b"Exif\0\0"
# JPEG's segments of applications that say how pixels are coded: JFIF and Adobe.
_KEPT = {0xE0, 0xEE}
_APPLICATIONS, _COMMENT, _SCAN, _END = range(0xE0, 0xF0), 0xFE, 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
# Adam7: first row and column, and steps, of each pass.
_PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def stripped(content: bytes) -> bytes:
    """Returns a PNG or JPEG without the metadata that nobody uses; other content as it is."""
    if content.startswith(_PNG):
        return _stripped_png(content)
    if content.startswith(_JPEG):
        return _stripped_jpeg(content)
    return content


def _stripped_png(content: bytes) -> bytes:
    kept, begin = [_PNG], len(_PNG)
    while begin + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, begin)
        kind, end = content[begin + 4 : begin + 8], begin + 12 + length
        critical = not kind[0] & 0x20
        if critical or (kind in _CHUNKS and _is_whole(content, begin, length)):
            kept.append(content[begin:end])
        begin = end
        if kind == b"IEND":
            return b"".join(kept)
    return b"".join([*kept, content[begin:]])


def _is_whole(content: bytes, begin: int, length: int) -> bool:
    end = begin + 8 + length
    if length > _EXIF_BYTES or end + 4 > len(content):
        return False
    return zlib.crc32(content[begin + 4 : end]) == int.from_bytes(content[end : end + 4], "big")


def _stripped_jpeg(content: bytes) -> bytes:
    kept, begin, seen_exif = [_JPEG], len(_JPEG), False
    while begin + 4 <= len(content) and content[begin] == 0xFF:
        marker = content[begin + 1]
        if marker in (_SCAN, _END):
            break
        if marker == 0xFF:  # a fill byte
            begin += 1
            continue
        alone = marker in _ALONE
        end = begin + 2 + (0 if alone else int.from_bytes(content[begin + 2 : begin + 4], "big"))
        is_exif = marker == 0xE1 and content.startswith(_EXIF, begin + 4) and not seen_exif
        seen_exif |= is_exif
        other = marker == _COMMENT or (marker in _APPLICATIONS and marker not in _KEPT)
        if not other or is_exif:
            kept.append(content[begin:end])
        begin = max(end, begin + 2)
    return b"".join([*kept, content[begin:]])


def grey_transparency(content: bytes, value: int) -> int:
    """Returns the grey that a PNG declares as transparent, in the range of the decoded pixels.

    Parameters
    ----------
    content : bytes
        The file's.
    value : int
        As Pillow gives it: that of the file.
    """
    depth = _header(content)[2]
    value &= 2**depth - 1
    return value if depth >= 8 else value * 255 // (2**depth - 1)


def is_png(content: bytes) -> bool:
    """Whether a file is a PNG with a complete header."""
    return content.startswith(_PNG) and content[12:16] == b"IHDR" and len(content) >= 29


def is_interlaced(content: bytes) -> bool:
    """Whether a PNG is stored in passes."""
    return _header(content)[6] != 0


def depth(content: bytes) -> int:
    """Bits of a channel of a PNG."""
    return int(_header(content)[2])


def has_all_rows(content: bytes) -> bool:
    """Whether a PNG's data are as long as its header says."""
    width, height, bits, colours, _, _, interlaced = _header(content)
    bits *= _CHANNELS.get(colours, 4)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    left = 0
    for row, column, rows, columns in passes:
        across, down = -(-(width - column) // columns), -(-(height - row) // rows)
        if across > 0 and down > 0:
            left += down * (1 + -(-across * bits // 8))
    stream, begin = zlib.decompressobj(), len(_PNG)
    while begin + 12 <= len(content) and left > 0 and not stream.eof:
        (length,) = struct.unpack_from(">I", content, begin)
        if content[begin + 4 : begin + 8] == b"IDAT":
            part = content[begin + 8 : begin + 8 + length]
            while part and left > 0 and not stream.eof:
                left -= len(stream.decompress(part, min(left, 1 << 20)))
                part = stream.unconsumed_tail
        begin += 12 + length
    # What the last bytes of input gave may not have fitted.
    while left > 0 and not stream.eof and (more := stream.decompress(b"", min(left, 1 << 20))):
        left -= len(more)
    return left <= 0


def _header(content: bytes) -> tuple[int, ...]:
    return struct.unpack_from(">IIBBBBB", content, 16)
