"""Screenshots of the page of gluon-aff report: docs/report-*.jpg, by Chromium and playwright (the extra 'browser').

    python -m benchmarks.report_pictures

Each picture is the page down to the sections of the networks, cut into columns side by side.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from model_zoo.pictures.page import write_report

# Name, width of the window, number of columns, scale of the picture.
WINDOWS = (('desktop', 1280, 3, 0.5), ('phone', 390, 6, 0.75))
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)


def columns(picture: Image.Image, number: int, scale: float, gap: int = 20) -> Image.Image:
    """A picture cut into columns of one height, side by side."""
    width, height = picture.width, -(-picture.height // number)
    sheet = Image.new('RGB', (number * (width + gap) - gap, height), 'grey')
    for column in range(number):
        bottom = min((column + 1) * height, picture.height)
        sheet.paste(picture.crop((0, column * height, width, bottom)), (column * (width + gap), 0))
    return sheet.resize((round(scale * sheet.width), round(scale * sheet.height)), Image.LANCZOS)


def main(folder: str) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as site, sync_playwright() as driver:
        address = Path(write_report(site)).as_uri()
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        for name, width, number, scale in WINDOWS:
            for scheme in ('light', 'dark'):
                tab = browser.new_page(viewport={'width': width, 'height': 900}, color_scheme=scheme)
                tab.goto(address)
                top = tab.locator('#details').bounding_box()['y']
                shot = tab.screenshot(full_page=True, clip={'x': 0, 'y': 0, 'width': width, 'height': top + 200})
                picture = Image.open(io.BytesIO(shot)).convert('RGB')
                columns(picture, number, scale).save(Path(folder, f'report-{name}-{scheme}.jpg'), quality=80)
        browser.close()


if __name__ == '__main__':
    main(*sys.argv[1:] or ['docs'])
