"""Check a stored network and make it run: TorchScript or ONNX, and nothing else.

A TorchScript file is a program: loading it compiles its text and may run parts of it.
It can call every operator of torch, and some of them read and write files. The text
is therefore searched before anything is loaded, and only operators that compute pass.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cellseg3d.core.errors import ConfigError, FormatError
from cellseg3d.core.extras import missing_extra

Kind = Literal["torchscript", "onnx"]
Run = Callable[[Tensor], Any]
# Operators that compute; a segmentation network needs no others.
_COMPUTE = """
abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
adaptive_max_pool3d add add_ addcdiv addcmul addmm all alpha_dropout amax amin __and__
any append arange argmax argmin avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm
bmm broadcast_tensors cat ceil celu chunk clamp clamp_ clamp_max clamp_min clone
concat constant_pad_nd __contains__ contiguous conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d _convolution convolution cpu cumsum data
__derive_index detach device dim div div_ dropout dropout_ dtype einsum elu elu_
embedding empty empty_like eq erf exp expand expand_as extend eye feature_dropout
fill_ flatten flip float floor floor_divide floordiv fmod format full full_like gather
ge gelu get_device __getitem__ glu group_norm gt half hardsigmoid hardswish hardswish_
hardtanh hardtanh_ index index_put index_put_ index_select insert instance_norm int
interpolate __is__ is_cuda is_floating_point is_none isfinite isinf isnan __isnot__
items keys layer_norm le leaky_relu leaky_relu_ len lerp linear linspace list log
log_softmax logical_and logical_not logical_or logit logsumexp lt masked_fill
masked_fill_ matmul max max_pool1d max_pool2d max_pool3d maximum mean meshgrid min
minimum mish mish_ moveaxis movedim mul mul_ nan_to_num narrow ne neg neg_ new_full
new_ones new_zeros norm __not__ numel NumToTensor ones ones_like __or__ outer pad
permute pixel_shuffle pixel_unshuffle pop pow prelu prod RaiseException __range_length
reciprocal reflection_pad1d reflection_pad2d reflection_pad3d relu relu_ relu6 relu6_
remainder repeat repeat_interleave replication_pad1d replication_pad2d
replication_pad3d requires_grad reshape reshape_as roll round rsqrt rsub
scaled_dot_product_attention select selu selu_ _set_item shape sigmoid sigmoid_ sign
silu silu_ size slice softmax softplus split split_with_sizes sqrt square squeeze
stack std sub sub_ sum swapaxes t tanh tanh_ tensor tensor_split threshold tile to
topk transpose tril triu TupleIndex TupleUnpack type_as unbind unchecked_cast
unflatten unfold unsqueeze upsample_bicubic2d _upsample_bicubic2d_aa
upsample_bilinear2d _upsample_bilinear2d_aa _upsample_lanczos2d_aa upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d values var
view view_as warn where __xor__ zero_ zeros zeros_like
"""
COMPUTE = frozenset(_COMPUTE.split())
# Names that read or write files, wherever they stand.
_FILES = re.compile(r"\b(save|from_file|load_tensor)\b")
_OPERATOR = re.compile(
    r"\b(?:torch|ops\.\w+)\.(?!nn\b)(\w+)\s*\(|\b(ops\.(?!prim\b)\w+)"
)
_METHOD = re.compile(r"\.([A-Za-z_]\w*)\(")
_QUALIFIED = re.compile(r"__torch__(\.\w+)+")
_DEFINED = re.compile(r"\bdef\s+([A-Za-z_]\w*)")
# How the protocol buffers of ONNX begin the entry that names a file of weights.
_EXTERNAL = b"\n\x08location\x12"
_MOST_BYTES = 4 * 2**30


def check_program(kind: Kind, program: bytes, where: str) -> None:
    """Refuse a stored network that could do anything but compute.

    Nothing of it is loaded.

    Parameters
    ----------
    kind : {"torchscript", "onnx"}
    program : bytes
        The whole file.
    where : str
        The file, for messages.

    Raises
    ------
    FormatError
        If it is no such file, or its list of contents is ambiguous.
    ConfigError
        If it calls an operator that is not known to compute only, or names other
        files.
    """
    if kind == "onnx":
        if _EXTERNAL in program:
            message = (
                f"{where}: keeps weights in other files; ask its author for one file"
            )
            raise ConfigError(message)
        return
    texts = _texts(program, where)
    own = {name for text in texts.values() for name in _DEFINED.findall(text)}
    for name, text in texts.items():
        fault = _fault(text, own | {"forward"})
        if fault:
            message = (
                f"{where}: {name} {fault}; nothing was run; ask its author for ONNX "
                "weights, or use it with the program that it was made for"
            )
            raise ConfigError(message)


def load_program(kind: Kind, program: bytes, device: torch.device) -> Run:
    """Return the function that runs a stored network; it was checked before.

    Parameters
    ----------
    kind : {"torchscript", "onnx"}
    program : bytes
        What `check_program` has let pass.
    device : device
        Where TorchScript runs. ONNX runs on the CPU.

    Raises
    ------
    FormatError
        If it cannot be loaded.
    EnvironmentFault
        If ONNX is to run and onnxruntime is not installed.
    """
    try:
        if kind == "torchscript":
            load: Callable[..., Any] = torch.jit.load
            runs: Run = load(io.BytesIO(program), map_location=device).eval()
            return runs
        return _onnx(program)
    except (RuntimeError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise FormatError(f"the stored network cannot be loaded: {cause}") from error


def _onnx(program: bytes) -> Run:
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise missing_extra("an ONNX file needs onnxruntime", "export") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(
            program, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # Its errors have no base of their own.
        raise ValueError(str(error)) from error
    [given] = session.get_inputs()

    def run(image: Tensor) -> list[Tensor]:
        array = np.ascontiguousarray(image.cpu().numpy())
        return [
            torch.from_numpy(each) for each in session.run(None, {given.name: array})
        ]

    return run


def _texts(program: bytes, where: str) -> dict[str, str]:
    """Return the texts of a TorchScript file that torch compiles, by their name."""
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as archive:
            members = archive.infolist()
            names = Counter(member.filename.lower() for member in members)
            twice = [name for name, count in names.items() if count > 1]
            if twice or sum(member.file_size for member in members) > _MOST_BYTES:
                what = f"holds {twice[0]} twice" if twice else "is larger than 4 GiB"
                raise FormatError(f"{where}: {what}; ask its author for another file")
            code = [
                member.filename
                for member in members
                if "/code/" in f"/{member.filename}"
                and not member.filename.endswith(".debug_pkl")
            ]
            return {name: archive.read(name).decode("utf-8") for name in code}
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        message = f"{where}: is no TorchScript file ({error}); copy it again"
        raise FormatError(message) from error


def _fault(text: str, own: set[str]) -> str | None:
    """Return what a text of TorchScript may not do; None when it only computes.

    Parameters
    ----------
    text : str
    own : set of str
        Names of functions that the file defines; their texts are looked at, too.
    """
    # A continued or a spaced line is one to torch, so it is one here.
    joined = re.sub(r"\s*\.\s*", ".", text.replace("\\\n", ""))
    if "#" in joined:
        return "holds a comment, which torch does not write"
    if "torch.classes" in joined:
        return "uses a class of compiled code"
    found = _FILES.search(joined)
    if found:
        return f"uses {found[1]!r}, which can read or write files"
    for single, space in _OPERATOR.findall(joined):
        if space or single not in COMPUTE:
            return f"calls the operator {space or single!r}"
    for name in _METHOD.findall(_QUALIFIED.sub("", joined)):
        if name not in COMPUTE and name not in own:
            return f"calls the operator {name!r}"
    return None
