"""The way to a database: a server by its address, or Milvus Lite for a path, which runs in this process.

Milvus Lite lets one process at a time open a path. In this process all who open it share one server and one lock for
writing; it is given back when the last of them closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import threading
from pathlib import Path

__all__ = ["Connection"]

_SCHEMES = ("http://", "https://", "tcp://", "unix:")
_CONNECT_SECONDS = 10.0
_CONNECT_FAILED = 2  # what pymilvus calls it
# No proxy of the environment stands between us and our own process; and pymilvus's pings every 10 s are more often than
# Milvus Lite allows: it would close a connection that is idle for a minute, and gRPC would print that.
_LOCAL = {
    "grpc.enable_http_proxy": 0,
    "grpc.keepalive_time_ms": 2**31 - 1,
    "grpc.keepalive_permit_without_calls": 0,
}
# Milvus Lite reads rows that it has not yet written into a segment one Python number at a time: 400 ms a search for
# 10,000 rows of 512. So searches first have them written once there are more than these many numbers.
_UNFLUSHED = 1 << 18


class _State:
    """What all connections to one path share; a server has one for each connection."""

    def __init__(self):
        self.users = 0
        self.writing = threading.RLock()
        self.unflushed = 0


_locals: dict = {}
_locals_lock = threading.RLock()  # the collector may close an index while another is being opened


class Connection:
    """An open database: ``where`` for messages, ``lite``, ``writing`` (a lock), and `call` for everything else.

    Parameters
    ----------
    uri : str or path-like
    token : str or None
    timeout : float
        Seconds for one call to a server.
    make : bool
        Whether a path may be absent.
    """

    def __init__(self, uri, token, timeout, make):
        _require()
        self._pid = os.getpid()
        self._options, self._path = {}, None
        if isinstance(uri, str) and ("://" in uri or uri.startswith("unix:")):
            if not uri.startswith(_SCHEMES):
                raise ValueError(f"uri is {uri!r}, expected a path, or an address with {', '.join(_SCHEMES)}")
            self.where = re.sub(r"//[^/]*@", "//", uri)  # no password in messages
            self._options, self._state = {"timeout": timeout}, _State()
            self.client = _connect(uri, self.where, min(timeout, _CONNECT_SECONDS), token=token or "")
            try:
                self.lite = str(self.call("Index", "get_server_version")).startswith("milvus_lite")
            except BaseException:
                self.close()
                raise
        else:
            if token is not None:
                raise ValueError(f"{uri}: a token is for a server; a local file has none")
            self._path = self.where = _check_path(uri, make)
            self.lite = True
            self.client = self._start()

    def _start(self):
        with _locals_lock:
            self._state = _locals.setdefault(self._path, _State())
            self._state.users += 1
            try:
                address = _start_lite(self._path)
                return _connect(address, self.where, _CONNECT_SECONDS, grpc_options=_LOCAL)
            except BaseException:
                self._leave()
                raise

    def _leave(self):
        with _locals_lock:
            self._state.users -= 1
            if not self._state.users:
                _locals.pop(self._path, None)
                _stop_lite(self._path)

    @property
    def writing(self):
        return self._state.writing

    def close(self):
        """Gives the database back; again is nothing."""
        client, self.client = self.client, None
        if client is None or self._pid != os.getpid():
            return
        with _quiet(), contextlib.suppress(Exception):
            client.close()
        if self._path is not None:
            self._leave()

    def call(self, what, method, *arguments, filter=None, **options):
        """The result of a method of ``pymilvus.MilvusClient``; `what` begins the message of an error.

        Raises
        ------
        ValueError
            Milvus refused the filter, or the connection is closed.
        OSError
            Everything else: `ConnectionError`, `TimeoutError`, `PermissionError`, or what Milvus says.
        """
        import grpc
        import pymilvus

        if self.client is None:
            raise ValueError(f"{what}: the index is closed")
        if self._pid != os.getpid():
            raise RuntimeError(f"{what}: the index was opened by the process that forked this one; open it here again")
        if filter is not None:
            options["filter"] = filter
        try:
            with _quiet():
                return getattr(self.client, method)(*arguments, **self._options, **options)
        except (pymilvus.MilvusException, grpc.RpcError) as error:
            raise _translated(error, what, self.where, filter) from error

    # ---------------------------------------------------------------- what only Milvus Lite needs

    def wrote(self, numbers):
        """Counts what a write added."""
        self._state.unflushed += numbers

    def settle(self, what, collection):
        """Has Milvus Lite write rows down where searching them as they are would be slow."""
        if self.lite and self._state.unflushed > _UNFLUSHED:
            self.flush(what, collection)

    def flush(self, what, collection):
        """Has all rows written to the disk."""
        with self.writing:
            self.call(what, "flush", collection)
            self._state.unflushed = 0


def _require():
    missing = [name for name in ("pymilvus", "milvus_lite") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise ImportError(f"plait.search needs {names}: pip install 'plait[search]'")


def _connect(uri, where, timeout, **options):
    _silence()
    import grpc
    import pymilvus

    try:
        with _quiet():
            return pymilvus.MilvusClient(uri, timeout=timeout, dedicated=True, **options)
    except (pymilvus.MilvusException, grpc.RpcError) as error:
        found = _translated(error, "Index", where, None)
        if type(found) is OSError:
            found = ConnectionError(str(found))
        raise found from error


def _translated(error, what, where, filter):
    """The exception that a user sees for one of pymilvus or gRPC."""
    import grpc

    message = str(getattr(error, "message", "") or error).strip()
    causes = [error]
    while causes[-1].__cause__ not in (None, *causes):  # pymilvus makes some errors their own cause
        causes.append(causes[-1].__cause__)
    cause = next((c for c in causes if isinstance(c, grpc.RpcError)), None)
    if cause is not None:
        code, details = cause.code(), cause.details() or message
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return PermissionError(f"{what}: {where} refused the token or what it may do: {details}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimeoutError(f"{what}: {where} did not answer in time")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OSError(f"{what}: {where}: more at once than Milvus takes; ask for less: {details}")
        return ConnectionError(f"{what}: {where} cannot be reached, or is no Milvus server: {details}")
    if getattr(error, "code", None) == _CONNECT_FAILED:
        return ConnectionError(f"{what}: {where} cannot be reached: {message}")
    if "Retry timeout" in message:
        return TimeoutError(f"{what}: {where} did not answer in time: {message}")
    if filter:
        return ValueError(f"{what}: the filter {filter if len(filter) <= 200 else filter[:197] + '...'!r}: {message}")
    return OSError(f"{what}: Milvus at {where}: {message}")


# ---------------------------------------------------------------- Milvus Lite


def _check_path(uri, make):
    """The real path of a database; nothing is made or touched where there is something else."""
    if not isinstance(uri, (str, os.PathLike)) or not (text := os.fspath(uri)) or isinstance(text, bytes):
        raise TypeError(
            f"uri is {uri!r}, expected a path such as 'photos.db' or an address such as 'http://host:19530'"
        )
    path = Path(os.path.realpath(text))
    if path.is_dir():
        names = set(os.listdir(path))
        if names and not ("collections" in names and names & {"LOCK", "databases"}):
            raise ValueError(f"{path}: a folder, but no database of Milvus Lite")
        if not names and not make:
            raise FileNotFoundError(f"{path}: an empty folder, expected an index; Index.create makes one")
    elif os.path.lexists(path):
        with open(path, "rb") as file:
            old = file.read(16) == b"SQLite format 3\0"
        detail = "a file of Milvus Lite 2, which version 3 cannot open" if old else "no database of Milvus Lite"
        raise ValueError(f"{path}: {detail}; expected a folder that Milvus Lite 3 made")
    elif not make:
        raise FileNotFoundError(f"{path}: no such index; Index.create makes one")
    elif not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder, where the index {path.name} was to be made")
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path.parent}: no permission to make the index {path.name} there")
    return str(path)


def _start_lite(path):
    _silence()
    from milvus_lite import server_manager_instance

    with _quiet():
        address = server_manager_instance.start_and_get_uri(path)
    if address is None:  # the reason went to the log
        _check_lock(path)
        raise OSError(f"{path}: Milvus Lite could not open it")
    return address


def _stop_lite(path):
    from milvus_lite import server_manager_instance

    with _quiet():
        server_manager_instance.release_server(path)


def _check_lock(path):
    fd = os.open(os.path.join(path, "LOCK"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"{path}: another process has this index open, and Milvus Lite lets one at a time; close it there, or "
            "serve it to both with milvus-lite server"
        ) from None
    finally:
        os.close(fd)


# ---------------------------------------------------------------- logs

_calls = threading.local()


class _Quiet(logging.Filter):
    """Drops what pymilvus prints about a call of ours that failed: the exception says it."""

    def filter(self, record):
        return not getattr(_calls, "depth", 0)


_quiet_filter = _Quiet()


@contextlib.contextmanager
def _quiet():
    _calls.depth = getattr(_calls, "depth", 0) + 1
    try:
        yield
    finally:
        _calls.depth -= 1


def _silence():
    """pymilvus gives its loggers handlers that write to stderr; Milvus Lite falls back to Python's last resort."""
    import pymilvus  # noqa: F401  (sets its loggers up)

    for name in ("pymilvus", "pymilvus.milvus_client"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_quiet_filter)
    lite = logging.getLogger("milvus_lite")
    if not lite.handlers:
        lite.addHandler(logging.NullHandler())
