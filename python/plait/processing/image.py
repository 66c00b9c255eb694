"""Pictures to the pixel values that a model was trained on: resize, crop, scale, as its configuration says."""

from __future__ import annotations

import copy

import numpy as np

from . import _image_configs as configs
from ._pictures import describe, open_picture, rgb

__all__ = ["ImageProcessor", "open_picture"]

_MAX_RESIZED = 1 << 26  # pixels at any step of a resize: a sliver of a picture may ask for gigabytes
_MODES = ("squash", "shortest", "longest")
_CENTRES = ("transformers", "torchvision")


class ImageProcessor:
    """What is done to pictures before a model sees them.

    The steps are those of the Pillow image processors of transformers, and the pixels equal theirs in every byte: RGB
    (see `open_picture`), resize with antialiasing, centre crop, where zeros surround a picture that is smaller, then
    ``(pixel * rescale - mean) / std``. It has no state that changes, so that threads may share it.

    Parameters
    ----------
    resize : int, (int, int) or None
        Pixels, or (height, width), from 1 to 16384; None leaves the size as it is.
    mode : {"squash", "shortest", "longest"}
        ``"squash"``: to (height, width), or to a square, and the aspect ratio goes. The others keep it.
        ``"shortest"``: the shorter edge becomes `resize` and the longer one is rounded down; with (height, width),
        the smallest size that covers both. ``"longest"``: the largest size that fits into both, put into the centre
        of an area filled with `fill`.
    crop : int, (int, int) or None
        Cut this out of the centre: a square, or (height, width).
    max_edge : int, optional
        With ``"shortest"`` and a number: no edge becomes longer; the shorter one gives way.
    resample : {"bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"}
    mean, std : float or three floats, optional
        For red, green and blue, in units of ``pixel * rescale``. Both or none.
    rescale : float, optional
        What a pixel, 0 to 255, is multiplied by. None is 1.
    fill : int
        0 to 255, for ``"longest"``.
    centre : {"transformers", "torchvision"}
        Which pixel is the middle where two are: the two libraries differ.

    Attributes
    ----------
    size : (int, int) or None
        Height and width of what comes out; None where they depend on the picture.
    scale, shift : (3,) float32 array
        Pixel values are ``pixel * scale + shift`` up to rounding, so that a first layer may take pixels as they are.

    Raises
    ------
    ValueError
        A parameter is out of range, or contradicts another one.

    Examples
    --------
    >>> import numpy as np
    >>> from plait.processing import ImageProcessor
    >>> processor = ImageProcessor(32, mode="shortest", crop=32, mean=0.5, std=0.5)
    >>> picture = np.full((48, 64, 3), 255, np.uint8)
    >>> processor.pixels(picture).shape, processor([picture, picture]).shape
    ((32, 32, 3), (2, 3, 32, 32))
    >>> float(processor([picture]).min())
    1.0
    """

    def __init__(
        self,
        resize=224,
        mode="squash",
        *,
        crop=None,
        max_edge=None,
        resample="bicubic",
        mean=None,
        std=None,
        rescale=1 / 255,
        fill=0,
        centre="transformers",
    ):
        _check_choice("mode", mode, _MODES)
        _check_choice("resample", resample, tuple(configs.RESAMPLE))
        _check_choice("centre", centre, _CENTRES)
        resize, crop = _edges("resize", resize), _edges("crop", crop)
        if isinstance(resize, int) and mode != "shortest":
            resize = (resize, resize)
        crop = (crop, crop) if isinstance(crop, int) else crop
        if mode == "longest" and (resize is None or crop is not None):
            raise ValueError("ImageProcessor: mode 'longest' gives the size of resize, expected that, and no crop")
        if max_edge is not None and not (_is_edge(max_edge) and mode == "shortest" and isinstance(resize, int)):
            raise ValueError(
                f"ImageProcessor: max_edge is {max_edge!r}, expected 1 to {configs.MAX_EDGE}, beside one number as "
                "resize and mode 'shortest'"
            )
        if isinstance(fill, bool) or not isinstance(fill, int) or not 0 <= fill <= 255 * (mode == "longest"):
            raise ValueError(f"ImageProcessor: fill is {fill!r}, expected 0 to 255, and 0 unless mode is 'longest'")
        if (mean is None) != (std is None):
            raise ValueError("ImageProcessor: mean and std belong together, got only one of them")
        mean = mean if mean is None else _three("mean", mean, -1e6)
        std = std if std is None else _three("std", std, 1e-6)
        if rescale is not None and not (_is_number(rescale) and 1e-9 <= rescale <= 1e6):
            raise ValueError(f"ImageProcessor: rescale is {rescale!r}, expected a number above 0, or None")
        self._resize, self._mode, self._crop, self._max_edge = resize, mode, crop, max_edge
        self._resample, self._mean, self._std, self._rescale = resample, mean, std, rescale
        self._fill, self._centre = fill, centre
        self._config: dict | None = None
        # "longest" pads to the size that it fits into: a crop of something smaller.
        self._window = resize if mode == "longest" else crop
        self.size = self._window or (resize if mode == "squash" else None)
        if self.size is not None and self.size[0] * self.size[1] > _MAX_RESIZED:
            raise ValueError(f"ImageProcessor: {self.size[0]} x {self.size[1]} pixels, expected {_MAX_RESIZED} at most")
        self._table = self._values()
        deviation = np.array((1, 1, 1) if std is None else std, np.float64)
        self.scale = np.float32((1 if rescale is None else rescale) / deviation)
        self.shift = np.float32(-np.array((0, 0, 0) if mean is None else mean) / deviation)

    @classmethod
    def from_config(cls, config):
        """The processor that ``preprocessor_config.json`` of the Hugging Face layout describes.

        Parameters
        ----------
        config : dict
            The parsed file, or ``processor_config.json`` with the image processor inside. ``image_processor_type``
            (or ``feature_extractor_type``) is one of CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor and
            BitImageProcessor, with or without Fast or Pil, or the feature extractor of that name. What is absent or
            null is what the class in transformers has by default. Pixels are those of the Pillow classes for all of
            them, and RGB whatever ``do_convert_rgb`` says.

        Returns
        -------
        ImageProcessor

        Raises
        ------
        ValueError
            Another type, a value out of range, or an option that would change pixels and is not supported
            (``do_pad``). The message names the key.

        Examples
        --------
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor.from_config({"feature_extractor_type": "CLIPFeatureExtractor", "size": 336})
        ImageProcessor(resize=336, mode='shortest', crop=(224, 224), resample='bicubic')
        """
        if isinstance(config, dict) and isinstance(config.get("image_processor"), dict):
            config = config["image_processor"]
        processor = cls(**configs.from_hugging_face(config))
        processor._config = copy.deepcopy(config)
        return processor

    @classmethod
    def from_open_clip(cls, preprocess_cfg, size=None):
        """The processor that ``preprocess_cfg`` in ``open_clip_config.json`` describes.

        Pictures become RGB before they are resized. open_clip does that afterwards, which is the same for RGB and grey
        and differs for palettes (resized without interpolation there), alpha and CMYK.

        Parameters
        ----------
        preprocess_cfg : dict
            ``mode``, ``mean``, ``std``, ``interpolation``, ``resize_mode``, ``fill_color``; what is absent is as in
            open_clip, and other keys are ignored.
        size : int or (int, int), optional
            Pixels, or (height, width), of the model's input. It goes before ``size`` in `preprocess_cfg`.

        Returns
        -------
        ImageProcessor

        Raises
        ------
        ValueError
            A value is out of range or unknown, or there is no size.

        Examples
        --------
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor.from_open_clip({"resize_mode": "squash", "interpolation": "bilinear"}, size=256).size
        (256, 256)
        """
        return cls(**configs.from_open_clip(preprocess_cfg, size))

    def to_config(self) -> dict:
        """The content of a ``preprocessor_config.json`` with which transformers does the same.

        It is the dict that `from_config` was given, where the processor comes from one. With ``centre="torchvision"``
        the crop of transformers may lie one pixel aside; plait reads that back.

        Raises
        ------
        ValueError
            The file cannot say it: ``"longest"``, or ``"shortest"`` with two numbers.

        Examples
        --------
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor(64).to_config()["size"]
        {'height': 64, 'width': 64}
        """
        if self._config is not None:
            return copy.deepcopy(self._config)
        return configs.to_hugging_face(
            self._resize, self._mode, self._max_edge, self._crop, self._resample, self._mean, self._std, self._rescale,
            self._centre,
        )  # fmt: skip

    def to_open_clip(self) -> dict:
        """The ``preprocess_cfg`` of ``open_clip_config.json`` with which open_clip does the same.

        With ``centre="transformers"`` open_clip's crop may lie one pixel aside.

        Raises
        ------
        ValueError
            The file cannot say it.

        Examples
        --------
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor(64, mean=0.5, std=0.5).to_open_clip()
        {'size': [64, 64], 'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5], 'interpolation': 'bicubic', \
'resize_mode': 'squash', 'fill_color': 0}
        """
        if self.size is not None and self._resample in ("bicubic", "bilinear"):
            said = configs.to_open_clip(self.size, self._mode, self._resample, self._mean, self._std, self._fill)
            if self.does_as(self.from_open_clip(said), centre=False):
                return said
        raise ValueError(f"{self!r} has no counterpart in open_clip_config.json")

    def does_as(self, other, centre=True) -> bool:
        """Whether another processor makes the same pixel values of every picture.

        Parameters
        ----------
        other : ImageProcessor
        centre : bool
            Whether the middle, where it may be either of two pixels, has to be the same one.

        Examples
        --------
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor(64).does_as(ImageProcessor((64, 64))), ImageProcessor(64).does_as(ImageProcessor(32))
        (True, False)
        """
        steps = ("_resize", "_mode", "_crop", "_max_edge", "_resample", "_fill")
        same = all(getattr(self, name) == getattr(other, name) for name in steps)
        centred = not centre or self._window is None or self._centre == other._centre
        return same and centred and np.array_equal(self._table, other._table)

    def __repr__(self):
        parts = {"resize": self._resize, "mode": self._mode, "crop": self._crop, "resample": self._resample}
        return f"ImageProcessor({', '.join(f'{key}={value!r}' for key, value in parts.items())})"

    def pixels(self, image):
        """A picture after resize and crop, before rescale and normalisation.

        Parameters
        ----------
        image : path, bytes, PIL.Image.Image or array
            See `open_picture`.

        Returns
        -------
        (h, w, 3) uint8 array

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            As `open_picture`; or the picture, a sliver, would become one without pixels or with more than 67 million.

        Examples
        --------
        >>> import numpy as np
        >>> from plait.processing import ImageProcessor
        >>> ImageProcessor((2, 4), resample="box").pixels(np.arange(64, dtype=np.uint8).reshape(8, 8))[:, :, 0]
        array([[13, 15, 17, 19],
               [45, 47, 49, 51]], dtype=uint8)
        """
        picture = rgb(image)
        width, height = picture.size
        new_height, new_width = self._target(height, width)
        # Pillow's first step changes one edge, and which one is its own choice.
        largest = max(new_height * new_width, new_height * width, height * new_width)
        resized = (new_width, new_height) != picture.size
        if resized and (min(new_height, new_width) < 1 or largest > _MAX_RESIZED):
            raise ValueError(
                f"{describe(image)}: {width} x {height} pixels would become {new_width} x {new_height}, expected 1 to "
                f"{_MAX_RESIZED} pixels"
            )
        if resized:
            picture = picture.resize((new_width, new_height), configs.RESAMPLE[self._resample])
        window = self._window or (new_height, new_width)
        (top, above, rows), (left, before, columns) = map(self._middle, (new_height, new_width), window)
        if (rows, columns) != (new_height, new_width):
            picture = picture.crop((left, top, left + columns, top + rows))
        if (rows, columns) == window:
            return np.array(picture)
        padded = np.full((*window, 3), self._fill, np.uint8)
        padded[above : above + rows, before : before + columns] = picture
        return padded

    def __call__(self, images):
        """Pixel values of pictures.

        Parameters
        ----------
        images : list of pictures, or (n, H, W, 3) array
            Each as in `pixels`.

        Returns
        -------
        (n, 3, h, w) float32 array
            As transformers computes them.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            As `pixels`, or pictures come out in different sizes; the message names the index.
        """
        if not isinstance(images, (list, tuple)) and not (isinstance(images, np.ndarray) and images.ndim == 4):
            raise TypeError(f"images is {type(images).__name__}, expected a list of pictures")
        out = None if self.size is None and len(images) else np.empty((len(images), 3, *(self.size or (0, 0))), "f4")
        for i, image in enumerate(images):
            try:
                pixels = self.pixels(image)
            except (TypeError, ValueError) as error:
                raise (TypeError if isinstance(error, TypeError) else ValueError)(f"images[{i}]: {error}") from error
            if out is None:
                out = np.empty((len(images), 3, *pixels.shape[:2]), np.float32)
            if pixels.shape[:2] != out.shape[2:]:
                raise ValueError(
                    f"images[{i}] comes out as {pixels.shape[:2]}, expected {out.shape[2:]}, as images[0]; one batch "
                    "needs a crop, or mode 'squash'"
                )
            for channel in range(3):
                np.take(self._table[channel], pixels[:, :, channel], out=out[i, channel], mode="clip")
        return out

    def _values(self):
        """The value of each of 256 pixels in each channel, rounded as transformers rounds: (3, 256) float32."""
        values = (np.arange(256, dtype=np.float64) * (1 if self._rescale is None else self._rescale)).astype(np.float32)
        if self._mean is None:
            return np.tile(values, (3, 1))
        mean, std = (np.array(v, np.float32)[:, None] for v in (self._mean, self._std))
        return (values - mean) / std

    def _target(self, height, width):
        """The size of a picture after resize, before the crop. The order of operations is that of the originals."""
        resize, shorter, longer = self._resize, min(height, width), max(height, width)
        if resize is None:
            return height, width
        if self._mode == "squash":
            return resize
        if isinstance(resize, tuple):
            ratios = (height / resize[0], width / resize[1])
            ratio = max(ratios) if self._mode == "longest" else min(ratios)
            return round(height / ratio), round(width / ratio)
        short = resize
        if self._max_edge is not None and longer / shorter * resize > self._max_edge:
            short = self._max_edge * shorter / longer
            if round(short) == shorter:
                return height, width
        short, long = round(short), int(short * longer / shorter)
        return (long, short) if width <= height else (short, long)

    def _middle(self, length, window):
        """Where a window in the centre of an edge begins, the padding before it, and the pixels inside."""
        first = self._centre == "transformers"
        if length < window:
            return 0, (window - length + first) // 2, length
        return (length - window) // 2 if first else round((length - window) / 2), 0, window


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_edge(value):
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= configs.MAX_EDGE


def _edges(name, value):
    """One edge, two as a tuple, or None."""
    if value is None or _is_edge(value):
        return value
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_edge, value)):
        raise ValueError(f"ImageProcessor: {name} is {value!r}, expected one or two numbers, 1 to {configs.MAX_EDGE}")
    return tuple(value)


def _three(name, value, low):
    values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,) * 3
    values = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if len(values) != 3 or not all(_is_number(v) and low <= v <= 1e6 for v in values):
        raise ValueError(f"ImageProcessor: {name} is {value!r}, expected one or three numbers from {low:g} to 1e6")
    return tuple(map(float, values))


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"ImageProcessor: {name} is {value!r}, expected one of {', '.join(map(repr, choices))}")
