"""The tensors of a folder, in one file or in shards, mapped and not read."""

from __future__ import annotations

from plait.io.tensors import map_tensors

__all__ = ["Weights", "find_weights"]

INDEX = "model.safetensors.index.json"
SINGLE = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_MAX_INDEX = 16 << 20
_SHARDS = 1000
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl", ".pickle", ".npz", ".onnx", ".gguf")


class Weights:
    """Names to arrays, with old spellings mended.

    Attributes
    ----------
    files : list of str
        Where they come from.
    """

    def __init__(self, arrays, files):
        self.files, self._arrays = files, arrays
        # Files of the first BERTs call the two tensors of a norm gamma and beta.
        for old, new in [(name, _renamed(name)) for name in arrays if _renamed(name) != name]:
            if new in arrays:
                raise ValueError(f"{files[0]}: tensor {new} is there under its old name, too")
            arrays[new] = arrays.pop(old)

    def __contains__(self, name):
        return name in self._arrays

    def __iter__(self):
        return iter(self._arrays)

    def __getitem__(self, name):
        return self._arrays[name]

    def update(self, prefix, arrays):
        """Adds the tensors of another file."""
        self._arrays.update({prefix + name: array for name, array in arrays.items()})

    def shapes(self, prefix) -> dict:
        """Shapes of the tensors whose names begin so, without the beginning; a missing one is an error."""
        return _Shapes({n[len(prefix) :]: a.shape for n, a in self._arrays.items() if n.startswith(prefix)})

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(a.size for a in self._arrays.values())


class _Shapes(dict):
    def __missing__(self, name):
        raise ValueError(f"tensor {name} is missing")

    def of(self, name, rank):
        """A shape of that many dimensions; others are an error."""
        if len(self[name]) != rank:
            raise ValueError(f"tensor {name} has shape {self[name]}, expected {rank} dimensions")
        return self[name]


def _renamed(name):
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith("LayerNorm" + old):
            return name[: -len(old)] + new
    return name


def find_weights(folder) -> Weights:
    """The weights of a folder.

    Parameters
    ----------
    folder : plait.io.Folder

    Raises
    ------
    FileNotFoundError
        There are none.
    ValueError
        They are in a format that can hold code, or break the rules of theirs.
    """
    names = folder.names()
    if INDEX in names:
        return _sharded(folder)
    files = [n for n in SINGLE if n in names] or [n for n in names if n.endswith(".safetensors")][:2]
    if len(files) > 1 and files[0] not in SINGLE:
        raise ValueError(f"{files[0]} and {files[1]}: which one are the weights? expected model.safetensors")
    if not files:
        other = [n for n in names if n.endswith(_PICKLES)]
        if not other:
            raise FileNotFoundError(2, "no such file", "model.safetensors")
        raise ValueError(
            f"{other[0]} is of a kind that can run code when it is read, so plait does not read it; convert it once, "
            'where you trust it, to model.safetensors: python -c "from transformers import AutoModel as M; '
            "M.from_pretrained('OLD_FOLDER').save_pretrained('NEW_FOLDER')\""
        )
    return Weights(map_tensors(files[0], opened=folder.open(files[0])), files[:1])


def _sharded(folder):
    index = folder.json(INDEX, _MAX_INDEX)
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict) or not index["weight_map"]:
        raise ValueError(f"{INDEX}: expected an object with weight_map")
    arrays: dict = {}
    files: dict = {}
    for name, file in index["weight_map"].items():
        if not isinstance(file, str) or not file.endswith(".safetensors"):
            raise ValueError(f"{INDEX}: weight_map names {repr(file)[:80]}, expected a .safetensors file")
        files.setdefault(file, set()).add(name)
        if len(files) > _SHARDS:
            raise ValueError(f"{INDEX}: weight_map names more than {_SHARDS} files")
    for file, listed in files.items():
        folder.check_name(file)
        part = map_tensors(file, opened=folder.open(file))
        if listed != set(part):
            odd = sorted(listed ^ set(part))[0]
            where = "is not in" if odd in listed else "is in"
            raise ValueError(f"{INDEX}: tensor {odd[:80]} {where} {file}, unlike what weight_map says")
        arrays.update(part)
    return Weights(arrays, list(files))
