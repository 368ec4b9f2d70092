"""The page's gallery: Grad-CAM of the shipped networks on ten test images of Fashion-MNIST."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gluon_aff.data.class_names import FASHION_MNIST

from ...loading import load_model
from ...registry import list_models
from ..heatmaps import image_row, network_rows

__all__ = ['gallery_section']

HERE = Path(__file__).resolve().parent
SIDE = 96  # pixels of a picture


def gallery_section() -> str:
    """Grad-CAM of the shipped networks on the first test image of each class.

    Raises
    ------
    ValueError
        If the images cannot be read.
    """
    images = _test_images(HERE / 'fashion_mnist.png')
    rows = []
    for model in map(load_model, list_models('fashion_mnist_*', pretrained=True)):
        crops = [model.spec.prepare(image) for image in images]
        if not rows:
            rows.append(image_row(crops, FASHION_MNIST))
        rows += network_rows(model, crops, title=model.spec.name, truths=FASHION_MNIST, with_fusion=True)
    items = []
    for number, name in enumerate(FASHION_MNIST):
        pictures = ''.join(_picture(row.title, row.panels[number], name) for row in rows)
        items.append(f'<li><h3>{escape(name)}</h3><div class="strip">{pictures}</div></li>')
    return f'<ul class="gallery">{"".join(items)}</ul>'


def _test_images(path):
    """The test images, which are side by side in a file, one for each class."""
    try:
        with Image.open(path) as image:
            strip = np.asarray(image.convert('RGB'))
        return [Image.fromarray(pixels) for pixels in np.split(strip, len(FASHION_MNIST), axis=1)]
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'The page shows {path}, which cannot be read ({error}); install the package again.') from None


def _picture(title, panel, name):
    """A panel as an image element with its caption."""
    if title == 'image':
        alt, caption = f'test image: {name}', 'image'
    else:
        text, star = panel.caption.replace('\n', ', '), '★ ' if panel.starred else ''
        short = title.replace('fashion_mnist_', '').replace('_resnet8', '')
        alt, caption = f'{title} on {name}: {text}', f'{short}: {star}{text}'
    small = cv2.resize(panel.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode('.jpg', cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    return (
        f'<figure><img width="{SIDE}" height="{SIDE}" alt="{escape(alt)}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
        f'<figcaption{" class=starred" if panel.starred else ""}>{escape(caption)}</figcaption></figure>'
    )
