"""Position tables at other sizes against PyTorch's interpolation, and bits of vectors against sentence-transformers."""

import importlib.util

import numpy as np
import pytest
from small_models import image_encoder

import plait
from plait.models import quantize_embeddings
from plait.models.positions import bicubic, resized

torch = pytest.importorskip("torch", reason="the comparison needs PyTorch")
F = torch.nn.functional

GRIDS = [(1, (1, 1)), (1, (3, 2)), (2, (5, 7)), (3, (3, 3)), (7, (14, 14)), (7, (10, 4)), (14, (7, 7)), (16, (37, 16)),
         (24, (9, 13)), (5, (1, 1)), (37, (16, 16)), (4, (2, 9))]  # fmt: skip
RNG = np.random.default_rng(0)


def interpolated(table, side, grid, antialias):
    """(S * S, D) in float64 by PyTorch."""
    square = torch.tensor(table, dtype=torch.float64).reshape(1, side, side, -1).permute(0, 3, 1, 2)
    out = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=antialias)
    return out.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("side", "grid"), GRIDS)
def test_positions_are_resized_as_pytorch_does(side, grid, antialias):
    table = RNG.standard_normal((side * side, 6))
    due = interpolated(table, side, grid, antialias).numpy()
    # In float64: the matrices themselves.
    matrix = np.kron(bicubic(side, grid[0], antialias), bicubic(side, grid[1], antialias))
    np.testing.assert_allclose(matrix @ table, due, rtol=0, atol=1e-12)
    x = table.astype(np.float32)
    for leading in (0, 1, 3):
        before = RNG.standard_normal((leading, 6)).astype(np.float32)
        whole = np.concatenate([before, x])
        for got in (
            resized(whole, leading, grid, antialias),
            resized(plait.Tensor(whole), leading, grid, antialias).data,
        ):
            assert got.dtype == np.float32 and got.shape == (leading + grid[0] * grid[1], 6)
            np.testing.assert_array_equal(got[:leading], before)
            np.testing.assert_allclose(got[leading:], due, rtol=0, atol=2e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("side", "grid"), GRIDS[1:7])
def test_gradients_of_resized_positions_are_those_of_pytorch(side, grid, antialias):
    table = RNG.standard_normal((1 + side * side, 3)).astype(np.float32)
    weights = RNG.standard_normal((1 + grid[0] * grid[1], 3)).astype(np.float32)
    ours = plait.Tensor(table, requires_grad=True)
    (resized(ours, 1, grid, antialias) * weights).sum().backward()
    theirs = torch.tensor(table, dtype=torch.float64, requires_grad=True)
    square = theirs[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    out = F.interpolate(square, size=grid, mode="bicubic", align_corners=False, antialias=antialias)
    rows = torch.cat([theirs[:1], out.permute(0, 2, 3, 1).reshape(-1, 3)])
    (rows * torch.tensor(weights, dtype=torch.float64)).sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"antialias": True}, {"class_token": True, "pool": "first", "registers": 2}])
@pytest.mark.parametrize("size", [(16, 32), (40, 8), (24, 24), (19, 23)])
def test_pictures_of_another_size_see_resized_positions(options, size):
    """A tower of that size, whose table is the one that PyTorch makes; pixels beyond the last patch are not seen."""
    model = image_encoder({"size": 24, "any_size": True, "crop": True, "layers": 2, **options})
    for p in model.parameters():
        p.assign(p.data + 0.2 * RNG.standard_normal(p.shape))
    grid, tower = tuple(n // 8 for n in size), model.image
    leading, table = int(tower.config.class_token), tower.positions.data
    at = interpolated(table[leading:], 3, grid, tower.config.antialias).numpy()
    at = np.concatenate([table[:leading], at]).astype(np.float32)
    image = RNG.random((*size, 3), dtype=np.float32)
    pixels = image[: 8 * grid[0], : 8 * grid[1]]
    rows = tower.patches(pixels[None]).rows.data
    if leading:
        rows = np.concatenate([tower.class_token.data, rows])
    rows = rows + at
    if tower.registers is not None:
        rows = np.concatenate([rows[:leading], tower.registers.data, rows[leading:]])
    hidden = tower.encoder(plait.Stream(rows, [0, len(rows)])).rows.data
    due = hidden[0] if tower.config.pool == "first" else hidden.mean(axis=0)
    np.testing.assert_allclose(model.encode(image), due, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.encode(image.transpose(2, 0, 1)[None])[0], due, rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [1, 7, 8, 21, 384])
@pytest.mark.parametrize("precision", ["float32", "binary", "ubinary", "int8", "uint8"])
def test_precisions_are_those_of_sentence_transformers(width, precision):
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    from sentence_transformers.util import quantize_embeddings as theirs

    x = RNG.standard_normal((400, width)).astype(np.float32)
    x[3], x[4, 0] = 0, -0.0
    options = {}
    if precision.endswith("int8"):  # their way to int8 needs the ranges of a calibration set
        options["ranges"] = np.stack([x[:20].min(axis=0), x[:20].max(axis=0)])
    got, due = quantize_embeddings(x, precision, **options), theirs(x, precision=precision, **options)
    assert got.dtype == due.dtype and got.shape == due.shape
    np.testing.assert_array_equal(got, due)
