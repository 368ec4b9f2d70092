"""Reading images and bringing them to what a network takes."""
from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageOps

__all__ = ['IMAGE_SUFFIXES', 'evaluation_array', 'find_images', 'normalise', 'read_image']

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


def find_images(paths):
    """The paths as they are, but for each folder its image files, by name, subfolders included."""
    found = []
    for path in map(os.fspath, paths):
        inside = sorted(os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files
                        if file.lower().endswith(IMAGE_SUFFIXES))
        found += inside or [path]
    return found


def read_image(path):
    """The image file at `path` as an RGB PIL.Image, turned upright as its EXIF data says.

    Raises
    ------
    ValueError
        If there is no such file, or it is not an image that Pillow reads whole.
    """
    if os.path.isdir(path):
        raise ValueError(f'Folder {path} holds no image ({", ".join(IMAGE_SUFFIXES)}).')
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert('RGB')
    except FileNotFoundError:
        raise ValueError(f'There is no file {path}.') from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f'{path} is not an image that can be read ({type(error).__name__}).') from None


def normalise(images, mean, std):
    """uint8 images (N, H, W, C) to float32 (N, 3, H, W): values in 0..1, less mean, by std; grey ones become RGB.

    Parameters
    ----------
    images : numpy.ndarray, uint8, (N, H, W, 1) or (N, H, W, 3)
    mean, std : three floats each
        Of RGB values in 0..1.
    """
    scale = (1 / (255 * np.asarray(std))).astype(np.float32)
    shift = (np.asarray(mean) / np.asarray(std)).astype(np.float32)
    return np.ascontiguousarray((images * scale - shift).transpose(0, 3, 1, 2))


def evaluation_array(image, input_size, mean, std, crop_ratio=0.875):
    """An RGB image as a network's input: short side resized to H / crop_ratio, centre cropped, normalised.

    Parameters
    ----------
    image : PIL.Image
    input_size : (C, H, W)
    mean, std : three floats each
        Of RGB values in 0..1.
    crop_ratio : float, default 0.875

    Returns
    -------
    numpy.ndarray, float32, (3, H, W)
    """
    _, height, width = input_size
    tall, wide = round(height / crop_ratio), round(width / crop_ratio)
    if image.width * tall >= image.height * wide:
        size = (image.width * tall // image.height, tall)
    else:
        size = (wide, image.height * wide // image.width)
    if size != image.size:
        image = image.resize(size, Image.BILINEAR)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return normalise(pixels[None], mean, std)[0]
