"""Loads the C core, with the oneDNN that ``PLAIT_ONEDNN`` names in front of the packaged one."""

import ctypes
import os

_path = os.environ.get("PLAIT_ONEDNN")
if _path:
    try:
        # Same soname as the packaged library, so the loader takes this one for the core as well.
        _library = ctypes.CDLL(_path, mode=ctypes.RTLD_GLOBAL)
        _library.dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)
        _version = tuple(_library.dnnl_version().contents)
    except (OSError, AttributeError) as error:
        raise ImportError(f"PLAIT_ONEDNN={_path} could not be loaded as oneDNN: {error}") from None
    if _version[0] != 3 or _version < (3, 2):
        raise ImportError(f"PLAIT_ONEDNN={_path} is oneDNN {'.'.join(map(str, _version))}, expected 3.2 or a later 3.x")
try:
    from plait import _core  # noqa: F401
except ImportError as error:
    if "libdnnl" in str(error):
        raise ImportError(
            f"plait could not load oneDNN ({error}); reinstall plait, or name a libdnnl.so.3 with PLAIT_ONEDNN"
        ) from None
    raise
