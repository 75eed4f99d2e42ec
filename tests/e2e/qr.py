"""QR codes: one as a picture for a page, and what a telephone would read off a page."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

import zxingcpp

if TYPE_CHECKING:
    from playwright.sync_api import Page

GREYS = """async (png) => {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  let greys = "";
  for (let at = 0; at < data.length; at += 4) greys += String.fromCharCode(data[at]);
  return [image.height, image.width, btoa(greys)];
}"""
"""Has the browser unpack a picture of itself."""


def data_url(text: str) -> str:
    """A QR code as OpenClaw gives one: a PNG in a data URL."""
    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode)
    image: Any = code.to_image(scale=4, add_quiet_zones=True)
    pixels = memoryview(image)
    return f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}"


def read(page: Page) -> list[str]:
    """The texts of all codes that are to be seen in the page's window."""
    picture = base64.b64encode(page.screenshot(caret="initial")).decode()
    height, width, greys = page.evaluate(GREYS, picture)
    pixels = memoryview(base64.b64decode(greys)).cast("B", shape=[height, width])
    return [each.text for each in zxingcpp.read_barcodes(pixels)]


def _png(pixels: memoryview) -> bytes:
    height, width = pixels.shape or (0, 0)
    raw = pixels.tobytes()
    rows = b"".join(b"\0" + raw[at : at + width] for at in range(0, height * width, width))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
