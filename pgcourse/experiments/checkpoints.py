"""State on disk. A process killed at any moment loses no more than its work since the last checkpoint.

A file is written under a temporary name, flushed to the disk and then renamed. So there is always the old or
the new one, and it is complete. No file can execute code when it is loaded: a checkpoint is written by
``torch.save`` and read with ``weights_only=True``; weights are safetensors
(https://github.com/huggingface/safetensors). Both hold a digest of what they hold, so a file that was damaged
later is not taken for another result. In a folder one process works at a time.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import pickle
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import torch

    from pgcourse.algorithms.protocols import Network

PATTERN = "checkpoint-*.pt"
MAX_CHECKPOINTS = 2  # in a folder: if the last one is damaged, there is one before it
SETTINGS = "training.json"  # what the checkpoints beside it belong to
CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of some network shares


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write a file completely or not at all.

    Raises:
        OSError: if it cannot be written (a full disk, no permission). What was there before is unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            flush(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            _fail(error, path, "what was written before is complete")
        raise
    _flush_folder(path.parent)


def flush(descriptor: int) -> None:
    """Have a file's or a folder's data on the disk, where the file system can say when they are."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut. Windows cannot open a folder."""
    if os.name == "posix":
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # one may write in a folder that one may not list
            return
        try:
            flush(descriptor)
        except OSError as error:
            _fail(error, folder, "what was written last may be lost in a power cut")
        finally:
            os.close(descriptor)


def _fail(error: OSError, path: Path, consequence: str) -> NoReturn:
    """Raise the error with what it means, and with the path, which errors of open files do not have."""
    raise OSError(error.errno, f"{error.strerror}; {consequence}", str(path)) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process, and one thread of it, work in a folder while others wait; in it, it may be nested.

    The system frees the lock when its holder dies.
    """
    lock = _lock(folder.resolve())
    try:
        lock.acquire(timeout=0)
    except Timeout:
        warnings.warn(f"another process is working in {folder}; waiting for it", stacklevel=3)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@functools.cache
def _lock(folder: Path) -> FileLock:
    """Return this process's lock of a folder, which counts how often a thread has it."""
    return FileLock(folder / ".lock")


class _Pickler(pickle.Pickler):
    """Pickle what ``torch.load(weights_only=True)`` reads, and arrays as tensors that share their memory."""

    def reducer_override(self, value: object):
        """Say how a value is written, or refuse it."""
        import torch

        if isinstance(value, np.ndarray):
            try:  # PyTorch has no read-only tensors and no negative strides: those arrays are copied
                return _as_array, (torch.from_numpy(np.require(value, requirements=["C", "W"])),)
            except (TypeError, ValueError) as error:
                raise ValueError(f"state must hold arrays of numbers, got {value.dtype}") from error
        if isinstance(value, np.bool_ | np.integer | np.floating):  # such as a learning rate
            return _as_number, (value.item(),)
        if isinstance(value, torch.Tensor | torch.dtype | OrderedDict) or callable(value):  # by its name
            return NotImplemented
        allowed = "tensors, arrays, numbers, strings, None, and dicts, lists and tuples of these"
        raise ValueError(f"state must hold {allowed}, got {type(value).__name__}")


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    """Turn a tensor back into the array that it was."""
    return tensor.numpy()


def _as_number(number: float) -> float:
    """Return the Python number that a NumPy scalar was saved as."""
    return number


FUNCTIONS: list[Callable | tuple[Callable, str]] = [_as_array, _as_number]  # all that a checkpoint may name


def save(path: Path, state: dict) -> None:
    """Write tensors, arrays, numbers, strings and None, in nested dicts, lists and tuples.

    NumPy's numbers come back as Python's.

    Raises:
        ValueError: if ``state`` holds anything else.
    """
    atomic_write(path, pickled(state).getbuffer())


def pickled(state: dict) -> io.BytesIO:
    """Return what ``save`` writes, with its errors."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer, pickle_module=SimpleNamespace(__name__=__name__, Pickler=_Pickler))
    buffer.write(_checksum(buffer.getbuffer()))
    return buffer


def load(path: Path) -> dict:
    """Return what ``save`` wrote, to the bit.

    Raises:
        ValueError: if the file is damaged or is something else.
    """
    import torch

    data = path.read_bytes()
    if _checksum(memoryview(data)[:-4]) != data[-4:]:
        raise ValueError(_damage(path, "its checksum is wrong"))
    try:
        with torch.serialization.safe_globals(FUNCTIONS):
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # whose message says how to execute the file's code
        raise ValueError(_damage(path, "it holds something other than numbers and text")) from None
    if not isinstance(state, dict):
        raise ValueError(_damage(path, f"it holds no dict but a {type(state).__name__}"))
    return state


def _checksum(data: memoryview) -> bytes:
    """Return the CRC-32 of a checkpoint, which stands in its last four bytes. PyTorch itself checks none."""
    return zlib.crc32(data).to_bytes(4, "little")


def _damage(path: Path, reason: str) -> str:
    return f"{path} is damaged ({path.stat().st_size:,} bytes): {reason}"


def save_weights(path: Path, network: Network, dtype: torch.dtype | None = None) -> None:
    """Write the network's weights in half precision, or as another type of number, with their digest."""
    import torch
    from safetensors.torch import save as to_bytes

    weights = {
        name: w.detach().to(dtype or torch.half).contiguous() for name, w in network.state_dict().items()
    }
    digest, _ = _weights_digests(to_bytes(weights))
    atomic_write(path, to_bytes(weights, metadata={"sha256": digest}))


def load_weights(path: Path, network: Network) -> None:
    """Give the network the weights in a file.

    Raises:
        ValueError: if the file is damaged, or holds weights of other names or shapes. In files of earlier
            versions, which have no digest, changed numbers are not noticed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = path.read_bytes()
    try:
        weights = load(data)
        digest, written = _weights_digests(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(_damage(path, str(error))) from error
    if written not in (None, digest):
        raise ValueError(_damage(path, "its digest is wrong"))
    wanted = {name: tuple(w.shape) for name, w in network.state_dict().items()}
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(name for name in wanted | got if wanted.get(name) != got.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{path} must hold weights {name} of shape {wanted.get(name)}, got {got.get(name)} "
            "(None: there is no such weight)"
        )
    network.load_state_dict(weights)


def _weights_digests(data: bytes) -> tuple[str, str | None]:
    """Return the digest of a file's weights, names and shapes, and the one that stands in it, if any.

    The file begins with the length of its header in 8 bytes; the header is JSON.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    written = header.pop("__metadata__", {}).get("sha256")
    return sha256(json.dumps(header, sort_keys=True).encode() + data[end:]), written


def sha256(data: bytes) -> str:
    """Return the digest of a file's contents."""
    return hashlib.sha256(data).hexdigest()


def check_settings(folder: Path, settings: dict) -> None:
    """Write down what will be trained in a folder. If it is written already, it must be the same.

    Args:
        folder: of checkpoints and a curve, locked.
        settings: values of JSON by name.

    Raises:
        ValueError: if they are not those of the training that the folder holds, or their file is damaged.
    """
    path = folder / SETTINGS
    if not path.exists():
        atomic_write(path, f"{json.dumps(settings, indent=1, ensure_ascii=False)}\n".encode())
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(_damage(path, str(error))) from error
    for name in sorted(found | settings):
        if found.get(name) != settings.get(name):
            other = f"{folder} holds training with {name} {found.get(name)}, not {settings.get(name)}"
            raise ValueError(f"{other}; choose another folder, or delete this one")


def latest(folder: Path) -> Path | None:
    """Return the last checkpoint in a folder, None if there is none."""
    return max(folder.glob(PATTERN), default=None)


def add(folder: Path, n_updates: int, state: dict) -> None:
    """Write a checkpoint, and remove all but the last two."""
    save(folder / f"checkpoint-{n_updates:09d}.pt", state)
    for old in sorted(folder.glob(PATTERN))[:-MAX_CHECKPOINTS]:
        old.unlink()


def clear(folder: Path) -> None:
    """Remove all checkpoints, and what they belong to."""
    for path in [*folder.glob(PATTERN), *folder.glob(SETTINGS)]:
        path.unlink()
