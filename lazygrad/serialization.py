"""Saving and loading: safetensors files, never pickle.

A state dict is an ordinary safetensors file, readable by anything that reads those. Nested
dictionaries, lists and tuples (an optimizer's state dict, a whole checkpoint) keep their structure,
their keys and their numbers as JSON in the file's metadata; tensors are named by their path. A file
is written beside its place and then moved there, so that a crash never leaves half of one.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from lazygrad.engine.device import check_device
from lazygrad.engine.tensor import Tensor
from lazygrad.errors import ArgumentTypeError, ConfigError, DataError
from lazygrad.ops.opdef import Array

_STRUCTURE = "lazygrad.structure"
_PLAIN = (bool, int, float, str, type(None))


def save(obj: Any, path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write tensors, arrays, numbers and strings, in dictionaries, lists and tuples, to a file.

    `path` may also be an open binary file or an `io.BytesIO`.

    >>> import lazygrad as lg, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> lg.save({"epoch": 3, "weights": {"w": lg.ones(2)}}, path)
    >>> lg.load(path)
    {'epoch': 3, 'weights': {'w': tensor([1., 1.])}}
    """
    from safetensors.numpy import save as as_bytes  # here, to keep the import of the package fast
    from safetensors.numpy import save_file

    arrays: dict[str, Array] = {}
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "write"):
            raise ArgumentTypeError(f"save: {type(path).__name__} is neither a path nor a file")
        metadata = _metadata(obj, arrays)  # first: it fills `arrays`
        path.write(as_bytes(arrays, metadata=metadata))
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot save {path}: there is no folder {folder}")
    metadata = _metadata(obj, arrays)
    with _written_whole(Path(path)) as place:
        save_file(arrays, place, metadata=metadata)


def load(
    path: str | os.PathLike[str] | IO[bytes], map_location: Any = None, *,
    weights_only: bool = True,
) -> Any:  # fmt: skip
    """Read a file that `save`, or another program, wrote; tensors come back as tensors.

    `path` may also be an open binary file or an `io.BytesIO`, which is read to its end.

    `map_location` may name the CPU, and `weights_only` be True: scripts for PyTorch say so. A
    truncated or damaged file raises `DataError`.
    """
    from safetensors import SafetensorError, safe_open

    check_device(map_location)
    if not weights_only:
        raise ConfigError("load: files hold no objects, so weights_only is always True")
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "read"):
            raise ArgumentTypeError(f"load: {type(path).__name__} is neither a path nor a file")
        with tempfile.TemporaryDirectory() as folder:  # safetensors reads metadata of files only
            copy = Path(folder, "stream")
            copy.write_bytes(path.read())
            return load(copy)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path} is truncated or no safetensors file: {error}") from None
    if _STRUCTURE not in metadata:
        return {name: Tensor(array) for name, array in arrays.items()}
    try:
        return _unpack(json.loads(metadata[_STRUCTURE]), arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} has a damaged structure: {error!r}") from None


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; at the end that file takes the place of `path` at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.touch()
        mode = (path if path.exists() else temporary).stat().st_mode
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(stat.S_IMODE(mode))  # safetensors makes files that only their owner reads
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _metadata(obj: Any, arrays: dict[str, Array]) -> dict[str, str]:
    """What stands in the file beside the arrays, which are put aside."""
    # By its format `transformers` knows the file: names and layouts are PyTorch's.
    return {_STRUCTURE: json.dumps(_pack(obj, "", arrays)), "format": "pt"}


def _pack(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    """The structure as JSON data: [kind, content]; arrays are put aside under their paths."""
    if isinstance(value, _PLAIN):
        return ["value", value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        array = np.ascontiguousarray(value.numpy() if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            raise ArgumentTypeError(f"save: {path or 'the object'} has dtype {array.dtype}")
        name = path or "value"
        while name in arrays:  # {"a/b": x, "a": {"b": y}}
            name += "'"
        arrays[name] = array.reshape(np.shape(value))  # ascontiguousarray makes 0-d 1-d
        return ["tensor" if isinstance(value, Tensor) else "array", name]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, _PLAIN):
                raise ArgumentTypeError(f"save: a key of {path or 'the object'} is {key!r}")
        return ["dict", [[k, _pack(v, _join(path, k), arrays)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_pack(v, _join(path, i), arrays) for i, v in enumerate(value)]]
    hint = "; pass its state_dict()" if hasattr(value, "state_dict") else ""
    raise ArgumentTypeError(
        f"save: {path or 'the object'} is a {type(value).__name__}, which is neither a tensor, an "
        f"array, a number, a string nor a container of these{hint}"
    )


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def _unpack(packed: Any, arrays: Mapping[str, Array]) -> Any:
    kind, content = packed
    if kind == "value":
        return content
    if kind == "tensor":
        return Tensor(arrays[content])
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: _unpack(value, arrays) for key, value in content}
    values = [_unpack(value, arrays) for value in content]
    return tuple(values) if kind == "tuple" else values
