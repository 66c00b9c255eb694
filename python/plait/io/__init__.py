"""Files: tensors, models and training checkpoints. Whole or absent when written, trusted in nothing when read."""

from .checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from .files import atomic_file, atomic_folder, read_file, write_file
from .folder import Folder
from .models import LoadReport, load_model, save_model
from .shards import Shard, Shards, read_shards, write_shards
from .tensors import TensorInfo, load_tensors, map_tensors, read_header, save_tensors

__all__ = [
    "Checkpoint",
    "Folder",
    "LoadReport",
    "Shard",
    "Shards",
    "TensorInfo",
    "atomic_file",
    "atomic_folder",
    "latest_checkpoint",
    "load_checkpoint",
    "load_model",
    "load_tensors",
    "map_tensors",
    "read_file",
    "read_header",
    "read_shards",
    "save_checkpoint",
    "save_model",
    "save_tensors",
    "write_file",
    "write_shards",
]
