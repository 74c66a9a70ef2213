"""The one door for weights and activations from outside: Hugging Face directories, .safetensors, .npy.

Everything that passes is finite and of the right shape. Nothing here runs code from a checkpoint (no pickle,
no remote code) or reaches the network. Every fault is a ValueError of one line that names file and mend.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes  # also registers bfloat16 with NumPy, which safetensors needs to hand it out
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")  #: weight files that can run code when they are loaded
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})  #: safetensors' names of the types taken as weights
NPY_MAGIC = b"\x93NUMPY"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A causal language model as read from a Hugging Face directory."""

    model: Any  #: transformers model, float32, in eval mode, no gradients
    tokenizer: Any  #: transformers tokenizer; None where the directory holds none
    context: int  #: tokens the model was trained to see; scoring beyond them measures something else
    directory: Path
    sha256: str  #: of the weight file; of its shards' digests, in order of name, where there are several


def load(directory: str | Path) -> Checkpoint:
    """Returns the causal language model in a Hugging Face directory.

    Parameters: directory : holds config.json and model.safetensors (or its index and shards)
    Returns:    Checkpoint, weights converted to float32
    Raises:     ValueError if the directory, its config or a weight file is missing, damaged, pickled, already
                quantized, not finite, or does not fill a causal language model
    """
    directory = Path(directory)
    sha256 = _checked(directory)
    return _checkpoint(directory, _load_model, sha256)


def outline(directory: str | Path) -> Checkpoint:
    """Returns a Hugging Face directory's checkpoint with its weights left in the files.

    Every tensor is looked at once, on its own, as `load` does; the model's weights are on the meta device.

    Parameters: directory : as for `load`
    Returns:    Checkpoint, equal to that of `load` but for the weights
    Raises:     ValueError as `load` does
    """
    directory = Path(directory)
    sha256 = _checked(directory)
    return _checkpoint(directory, _build_model, sha256)


def filled(directory: Path, weights: "dict[str, torch.Tensor]", sha256: str) -> Checkpoint:
    """Returns the checkpoint of a directory without weight files, and of weights from elsewhere.

    Parameters: directory : holds config.json and tokenizer
                weights   : by name, as a weight file would hold them
                sha256    : of what they come from
    Raises:     ValueError as `load` does, or if the weights do not fill the model
    """
    _check_config(directory)
    return _checkpoint(directory, lambda at: _fill_model(at, weights), sha256)


def _checked(directory: Path) -> str:
    """Returns the digest of a directory's weight files, once all of it is found sound."""
    _check_config(directory)
    digests = []
    for path in weight_files(directory):
        check_finite(path)
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _checkpoint(directory: Path, make: Callable[[Path], Any], sha256: str) -> Checkpoint:
    # Before transformers is imported, which reads it once; a caller's own setting stands.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with _quiet():
        model = make(directory)
        tokenizer = _load_tokenizer(directory)
    return Checkpoint(
        model=model,
        tokenizer=tokenizer,
        context=_context(model.config, tokenizer, directory),
        directory=directory,
        sha256=sha256,
    )


def linear_layers(model: Any) -> list[tuple[str, "torch.nn.Linear"]]:
    """Returns (name, layer) of all layers that get quantized: each nn.Linear of the decoder blocks, in order.

    Decoder blocks are the members of a ModuleList, in every architecture; embeddings, final norm and the
    language-model head stand outside. What is no nn.Linear (GPT-2's Conv1D, fused experts) stays as it is.

    Raises: ValueError if there is none
    """
    import torch

    blocks: list[str] = []
    found: list[tuple[str, torch.nn.Linear]] = []
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList):
            blocks += [f"{name}.{child}." for child, _ in module.named_children()]
        elif isinstance(module, torch.nn.Linear) and module is not head and name.startswith(tuple(blocks)):
            found.append((name, module))
    if not found:
        raise ValueError(
            f"model must have nn.Linear layers inside its decoder blocks, and {type(model).__name__} has none"
        )
    return found


def weight_files(directory: Path) -> list[Path]:
    """Returns the safetensors files of a Hugging Face directory, in order of name, each with a sound header.

    Raises: ValueError if there are none, or one is missing or damaged
    """
    single, index = directory / WEIGHTS, directory / INDEX
    if single.is_file():
        files = [single]
    elif index.is_file():
        table = _json_object(index).get("weight_map")
        values = list(table.values()) if isinstance(table, dict) else []
        if not values or not all(isinstance(name, str) for name in values):
            raise ValueError(f"{index} must map tensor names to files under 'weight_map': fetch it again")
        names = sorted(set(values))
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise ValueError(f"{index} must name files beside it, not {outside[0]!r}")
        files = [directory / name for name in names]
    else:
        pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
        if pickled:
            raise ValueError(
                f"{directory} must hold {WEIGHTS}, not pickled weights ({pickled[0]}), which can run code: "
                "convert them to safetensors"
            )
        raise ValueError(f"{directory} must hold {WEIGHTS} or {INDEX}, and has neither")
    for path in files:
        _tensor_table(path)
    return files


def read_tensor(path: str | Path, tensor: str | None = None) -> FloatArray:
    """Returns one weight matrix from a .npy or .safetensors file.

    Parameters: path   : the file; "FILE.safetensors::NAME" names the tensor too
                tensor : its name, needed where a .safetensors file holds more than one matrix
    Returns:    float32 [rows, columns], C order, finite
    Raises:     ValueError if the file is missing, damaged or of another type, or the tensor is not a finite
                floating-point matrix
    """
    path, tensor = _split_source(path, tensor)
    if path.suffix == ".npy":
        if tensor is not None:
            raise ValueError(f"{path} must be named alone, not with tensor {tensor!r}: it holds one array")
        return _matrix(_read_npy(path), str(path))
    if path.suffix == ".safetensors":
        table = _tensor_table(path)
        name = _only_matrix(path, table) if tensor is None else tensor
        if name not in table:
            raise ValueError(f"tensor of {path} must be one of {listed(table)}, not {name!r}")
        kind, _ = table[name]
        if kind not in FLOATS:
            raise ValueError(f"{path}: tensor {name!r} must be one of {listed(FLOATS)}, not {kind}")
        with safe_open(path, framework="numpy") as file:
            return _matrix(file.get_tensor(name), f"{path}: tensor {name!r}")
    raise ValueError(f"tensor file must end in .npy or .safetensors, not {str(path)!r}")


def read_activations(path: str | Path, columns: int, name: str = "activations") -> FloatArray:
    """Returns activations from a .npy file.

    Parameters: path    : .npy of shape [tokens, columns]
                columns : input channels of the weight the activations go into
                name    : what the caller calls them ("calibration", "holdout"), for the message
    Returns:    float32 [tokens, columns], C order, finite
    Raises:     ValueError if the file is missing, damaged, not finite, or of another width
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"{name} must be a .npy file of shape [tokens, {columns}], not {str(path)!r}")
    array = _matrix(_read_npy(path), f"{name} {path}")
    if array.shape[1] != columns:
        raise ValueError(
            f"{name} {path} must have {columns} columns, as the weight has, not {array.shape[1]} "
            f"(its shape is {list(array.shape)})"
        )
    return array


def _split_source(path: str | Path, tensor: str | None) -> tuple[Path, str | None]:
    """Returns (file, tensor name or None), taking "FILE::NAME" apart unless a file has that very name."""
    if tensor is None and not Path(path).exists():
        file, mark, name = str(path).partition("::")
        if mark:
            if not name:
                raise ValueError(f"tensor name must follow '::', and {str(path)!r} ends there")
            return Path(file), name
    return Path(path), tensor


def _only_matrix(path: Path, table: dict[str, tuple[str, list[int]]]) -> str:
    """Returns the name of the file's only floating-point matrix."""
    matrices = [name for name, (kind, shape) in table.items() if kind in FLOATS and len(shape) == 2]
    if len(matrices) != 1:
        raise ValueError(
            f"{path} must be given with a tensor name (FILE::NAME), having {len(matrices)} float matrices: "
            f"{listed(table)}"
        )
    return matrices[0]


def listed(names: Any) -> str:
    """Returns the names in order, cut off after twelve: a message is one line."""
    ordered = sorted(names)
    more = f", ... ({len(ordered)} in all)" if len(ordered) > 12 else ""
    return ", ".join(ordered[:12]) + more if ordered else "(none)"


def _tensor_table(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Returns {tensor name: (type, shape)} from the header, checked against the file's length."""
    if not path.is_file():
        raise ValueError(f"{path} must be a file, and there is none")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return {name: (part.get_dtype(), list(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} must be a whole safetensors file ({error}): fetch it again") from error


def check_finite(path: Path) -> None:
    """Raises ValueError naming the first tensor of a safetensors file that holds NaN or infinity."""
    for name, (kind, _) in _tensor_table(path).items():
        if kind in FLOATS:
            # Opened for each: what a mapping has touched counts as memory until it is closed.
            with safe_open(path, framework="numpy") as file:
                if not np.isfinite(file.get_tensor(name)).all():
                    raise ValueError(f"{path}: tensor {name!r} must be finite, and holds NaN or infinity")


def _read_npy(path: Path) -> npt.NDArray[Any]:
    """Returns the array of a .npy file, mapped: a size beyond the file's is found, not allocated."""
    if not path.is_file():
        raise ValueError(f"{path} must be a file, and there is none")
    with path.open("rb") as file:
        magic = file.read(len(NPY_MAGIC))
    if magic != NPY_MAGIC:
        raise ValueError(f"{path} must be a .npy file as numpy.save writes it, and does not begin like one")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header is a Python literal: a damaged one ends in a dozen ways
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} must be a whole .npy file of numbers ({reason})") from error
    return array


def _matrix(array: npt.NDArray[Any], what: str) -> FloatArray:
    """Returns ``array`` as a finite float32 matrix, or raises ValueError naming ``what``."""
    if array.dtype != ml_dtypes.bfloat16 and array.dtype.kind not in "fiu":
        raise ValueError(f"{what} must hold real numbers, not {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{what} must have 2 dimensions, not {array.ndim} (shape {list(array.shape)})")
    if array.size == 0:
        raise ValueError(f"{what} must have at least one row and one column, not shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, and holds NaN or infinity")
    with np.errstate(over="ignore"):
        matrix = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{what} must fit float32 (at most 3.4e38), and does not")
    return matrix


def _json_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{path} must be JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def _check_config(directory: Path) -> None:
    """Raises ValueError unless the directory has a config.json of an unquantized model."""
    if not directory.exists():
        raise ValueError(f"model directory must exist, and {str(directory)!r} does not")
    if not directory.is_dir():
        raise ValueError(f"model must be a Hugging Face directory, not the file {str(directory)!r}")
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory} must be a Hugging Face directory, and has no config.json")
    config = _json_object(path)
    if "model_type" not in config:
        raise ValueError(f"{path} must name its architecture under 'model_type'")
    if config.get("quantization_config"):
        raise ValueError(f"{path} must describe float weights, not quantized ones: give the original model")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the terminal; errors are raised all the same."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_model(directory: Path) -> Any:
    import torch
    import transformers

    def read() -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )

    model, report = _made(directory, read)
    return _whole(directory, model, report)


def _build_model(directory: Path) -> Any:
    from algo import skeleton

    return _made(directory, lambda: skeleton.build(directory))


def _fill_model(directory: Path, weights: "dict[str, torch.Tensor]") -> Any:
    import torch

    bare = _build_model(directory)

    def fill() -> Any:
        return type(bare).from_pretrained(
            None, config=bare.config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )

    model, report = _made(directory, fill)
    return _whole(directory, model, report)


def _made(directory: Path, make: Callable[[], Any]) -> Any:
    """Returns what ``make`` does with transformers, whose errors become one."""
    try:
        return make()
    except Exception as error:  # a wrong config ends in anything, from KeyError to RuntimeError
        if "auto_map" in _json_object(directory / "config.json"):
            raise ValueError(
                f"{directory} must load without running the code it brings (auto_map)"
            ) from error
        raise ValueError(
            f"{directory} must load as a causal language model, and does not: {_first_line(error)}"
        ) from error


def _whole(directory: Path, model: Any, report: dict[str, Any]) -> Any:
    missing = report["missing_keys"]
    if missing:  # transformers would fill them with random numbers
        raise ValueError(f"{directory} must hold all of {type(model).__name__}, and lacks {listed(missing)}")
    return model.eval().requires_grad_(False)


def _load_tokenizer(directory: Path) -> Any:
    """Returns the tokenizer, or None where the directory has no file of one."""
    import transformers

    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        return None
    tokenizer = transformers.AutoTokenizer
    try:
        return tokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise ValueError(f"{directory} must hold a readable tokenizer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _context(config: Any, tokenizer: Any, directory: Path) -> int:
    """Returns the trained context [tokens], from the config or else from the tokenizer."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value >= 2:
            return value
    limit = getattr(tokenizer, "model_max_length", None)
    if isinstance(limit, int) and 2 <= limit < 1 << 30:  # transformers writes 1e30 for "unknown"
        return limit
    path = directory / "config.json"
    raise ValueError(f"{path} must give the trained context [tokens] as 'max_position_embeddings'")
