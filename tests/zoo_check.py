"""What plait makes of a folder of the zoo, beside what is due."""

import numpy as np

import plait

COSINE = 0.999999
# 1e-4 is what is promised. In models as small as these the two forms of GELU differ by as little as 1.2e-4, and float32
# rounding by 1e-6: the tests ask for less, so that the wrong form shows.
RELATIVE = 2e-5
PAIRS = ("clip", "siglip", "siglip2", "open_clip", "openai")


def close(got, due, what):
    assert isinstance(got, np.ndarray) and got.dtype == np.float32, f"{what}: {type(got)}"
    assert got.shape == due.shape, f"{what}: shape {got.shape}, due {due.shape}"
    a, b = (np.asarray(x, np.float64).reshape(-1, due.shape[-1]) for x in (got, due))
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)
    error = abs(a - b).max() / abs(b).max()
    assert cosine.min() >= COSINE and error <= RELATIVE, f"{what}: cosine {cosine.min():.8f}, error {error:.1e}"


def encodes(encode, items, due, what):
    """One encode method: raw, of unit length, and one item alone."""
    raw = due[what]
    unit = raw / np.linalg.norm(raw, axis=-1, keepdims=True)
    close(encode(items, normalize=False), raw, f"{what}, as it is")
    close(encode(items, normalize=True), unit, f"{what}, unit length")
    close(encode(items[1], normalize=True), unit[1], f"{what}, one item")


def streams(model, items, due, lengths, step):
    stream = model(items)
    assert isinstance(stream, plait.Stream)
    np.testing.assert_array_equal(np.asarray(stream.offsets), np.cumsum([0, *lengths]))
    rows = stream.rows
    rows = rows.numpy() if isinstance(rows, plait.Tensor) else rows
    close(np.ascontiguousarray(rows[:, ::step]), due["hidden"].reshape(len(rows), -1), "hidden states")


def check(row, model, pixels, texts, due, step=1):
    """``due`` holds raw embeddings, and every ``step``-th column of the hidden states."""
    if row.call in PAIRS:
        encodes(model.encode_image, pixels, due, "image")
        encodes(model.encode_text, texts, due, "text")
        close(model.encode_image(pixels), model.encode_image(pixels, normalize=True), "normalize is True by default")
    elif row.call.startswith("clap"):
        encode = model.encode_text if hasattr(model, "encode_text") else model.encode
        unit = due["text"] / np.linalg.norm(due["text"], axis=-1, keepdims=True)
        close(encode(texts, normalize=True), unit, "text, unit length")
    else:
        items = pixels if texts is None else texts
        if "pooled" in due:
            encodes(model.encode, items, due, "pooled")
        if "hidden" in due:
            each = due["hidden"].shape[:-1]  # (rows,) of ragged texts; (n, rows) where all have as many
            lengths = [len(x) for x in texts] if len(each) == 1 else [each[1]] * each[0]
            streams(model, items, due, lengths, step)
