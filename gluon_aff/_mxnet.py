"""Everything private of MXNet and GluonCV that this project uses: a function for each, with the reason why."""

from __future__ import annotations

import copy
import ctypes
import os
import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import Callable, ContextManager, Iterable, Iterator

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, NDArrayHandle, OpHandle, c_str, check_call, data_dir
from mxnet.gluon import Parameter, ParameterDict, Trainer
from mxnet.gluon.block import Block, HybridBlock
from mxnet.gluon.nn import BatchNorm
from mxnet.ndarray.ndarray import _DTYPE_NP_TO_MX
from mxnet.ndarray.register import _make_ndarray_function
from mxnet.symbol.register import _make_symbol_function

# Held while a network is traced: MXNet keeps that state (name scopes, the parameters' symbols) on the blocks.
LOCK = threading.RLock()
# Of mxnet_variable, by variable: how many blocks are inside, and its value before the first.
_variables: dict[str, tuple[int, str | None]] = {}


# Parameters


def structural_parameters(block: Block) -> dict[str, Parameter]:
    """Parameters by the names in their files; Gluon's public collect_params has its generated names only."""
    return block._collect_params_with_prefix()


def has_values(parameter: Parameter) -> bool:
    """Whether a parameter holds arrays; the public way is to ask for them and catch two kinds of error."""
    return parameter._data is not None


def devices(parameter: Parameter) -> list[mx.Context]:
    """Devices of a parameter, initialised or deferred; none otherwise, where list_ctx would raise."""
    return parameter.list_ctx() if parameter._data is not None or parameter._deferred_init else []


def load_value(
    parameter: Parameter,
    value: mx.nd.NDArray,
    ctx: mx.Context | list[mx.Context] | None,
    *,
    cast_dtype: bool,
    dtype_source: str,
) -> None:
    """Load one parameter as load_parameters does; the public set_data needs an initialised one and never casts."""
    parameter._load_init(value, ctx, cast_dtype=cast_dtype, dtype_source=dtype_source)


def mean_value(parameter: Parameter) -> mx.nd.NDArray:
    """Mean over a parameter's devices, on the CPU, as save_parameters writes it; the public data() is of one device."""
    return parameter._reduce()


def detached_copy(parameter: Parameter) -> Parameter:
    """A parameter on the same memory outside the caller's autograd records; Gluon has no way to share memory."""
    twin = copy.copy(parameter)
    twin._data, twin._grad = [array.detach() for array in parameter._data], None
    return twin


@contextmanager
def forget_symbols(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Undo what a trace leaves: a parameter keeps the symbol, and so the type, that it was first traced with."""
    untraced = [parameter for parameter in parameters if parameter._var is None]
    try:
        yield
    finally:
        for parameter in untraced:
            parameter._var = None


# Blocks


def children(block: Block) -> dict[str, Block]:
    """Children by name; Gluon's public apply visits them without their names."""
    return block._children


def run_unhybridized(block: Block) -> None:
    """Let a copied block run layer by layer and without its hooks, which Gluon removes by their handles only."""
    vars(block).update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
    if isinstance(block, HybridBlock):
        block._active = False


def norm_epsilon(norm: BatchNorm) -> float:
    """Epsilon of a BatchNorm, which keeps its settings in a private dict only."""
    return norm._kwargs['eps']


def has_norm_without_gradient(net: Block) -> bool:
    """Whether a norm of the network has running statistics to update, and no parameter with a gradient."""
    blocks = []
    net.apply(blocks.append)
    return any(
        isinstance(block, BatchNorm)
        and not block._kwargs['use_global_stats']
        and block.gamma.grad_req == block.beta.grad_req == 'null'
        for block in blocks
    )


class TwoGraphBlock(HybridBlock):
    """A HybridBlock that may run one graph and export another, and that any number of threads may call.

    Gluon traces, runs and exports a single graph, in private methods, and keeps the state of tracing and of a call on
    the block. One thread at a time is let in; their computations run side by side.
    """

    def graph_contexts(self) -> tuple[ContextManager, ContextManager] | None:
        """Contexts in which the graphs to export and to run are traced; None where they are the same."""

    def _call_cached_op(self, *args):
        with LOCK:
            return super()._call_cached_op(*args)

    def _build_cache(self, *args):
        with LOCK:
            contexts = None if self._backend else self.graph_contexts()
            if not contexts:
                return super()._build_cache(*args)
            to_export, to_run = contexts
            with to_export:
                exported = self._get_graph(*args)
            self._cached_graph = ()
            try:
                with to_run:
                    super()._build_cache(*args)
            finally:
                self._cached_graph = exported

    def forward(self, x, *args):
        if isinstance(x, mx.sym.Symbol):
            with LOCK:
                return super().forward(x, *args)
        return super().forward(x, *args)


class RewrittenBlock(HybridBlock):
    """A block that runs another block's graph, rewritten, on its parameters; Gluon has no public way to edit a graph.

    Parameters
    ----------
    block : HybridBlock
        It is traced at the first call, and not changed.
    rewrite : callable
        From its symbol, and the shapes of its inputs by name, to the symbol to run.
    context : callable
        Makes the context in which it is traced.
    """

    def __init__(
        self, block: HybridBlock, rewrite: Callable[..., mx.sym.Symbol], context: Callable[[], ContextManager]
    ):
        super().__init__(prefix='')
        self._rewrite, self._context = rewrite, context
        self._block = (block,)  # not a child, which would be hybridized anew

    def collect_params(self, select: str | None = None) -> ParameterDict:
        return self._block[0].collect_params(select)

    def _get_graph(self, *args):
        if not self._cached_graph:
            with LOCK, self._context(), forget_symbols(self.collect_params().values()):
                inputs, symbol = super()._get_graph(*args)
                shapes = {variable.name: array.shape for variable, array in zip(inputs, args)}
                self._cached_graph = inputs, self._rewrite(symbol, **shapes)
        return self._cached_graph

    def hybrid_forward(self, F, *args):
        return self._block[0](*args)


# Operators and types


def load_operators(library: str | os.PathLike, names: tuple[str, ...]) -> None:
    """Load operators from a library; mx.library.load would replace all functions, undoing amp.init and other patches.

    Raises
    ------
    mxnet.MXNetError
        If the library does not load.
    """
    if not hasattr(mx.sym, names[0]):  # MXNet refuses to register a name twice
        check_call(_LIB.MXLoadLib(c_str(str(library)), ctypes.c_uint(0)))
    for name in names:
        handle = OpHandle()
        check_call(_LIB.NNGetOpHandle(c_str(name), ctypes.byref(handle)))
        for module, make in ((mx.nd, _make_ndarray_function), (mx.sym, _make_symbol_function)):
            function = make(handle, name, name)
            setattr(module, name, function)
            setattr(module.op, name, function)


@contextmanager
def mxnet_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable of MXNet's within the block; what it reads through them has no function.

    It is set while any thread is inside, and as it was before the first of them after the last.
    """
    with LOCK:
        inside, before = _variables.get(name, (0, os.environ.get(name)))
        _variables[name] = inside + 1, before
        os.environ[name] = value
    try:
        yield
    finally:
        with LOCK:
            inside, before = _variables.pop(name)
            if inside > 1:
                _variables[name] = inside - 1, before
            elif before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


def infer_shape(symbol: mx.sym.Symbol, **shapes: tuple) -> tuple:
    """Symbol.infer_shape, without what that prints and warns of if it fails; silencing it would silence all threads."""
    return symbol._infer_shape_impl(False, **shapes)


def monitored_values(handle: ctypes.c_void_p) -> np.ndarray:
    """Values of an array that an executor's monitor gives as a handle, which is freed; Monitor only prints."""
    return mx.nd.NDArray(ctypes.cast(handle, NDArrayHandle), writable=False).asnumpy()


def dtype_number(dtype: np.dtype) -> int:
    """Number by which symbol files write a type; MXNet keeps the table to itself."""
    return _DTYPE_NP_TO_MX[dtype.type]


def convert_onnx_layer(node: dict, **context):
    """ONNX nodes and output types of one node of a symbol; MXNet's public export converts whole files only."""
    import mxnet.onnx  # noqa: F401 - registers the converters
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    return MXNetGraph.convert_layer(node, **context)


def data_folder() -> str:
    """MXNet's folder, $MXNET_HOME or ~/.mxnet, which only mxnet.base names."""
    return os.path.expanduser(data_dir())


# Training


def trainer_parameters(trainer: Trainer) -> list[Parameter]:
    """Parameters in the order by which the optimizer's states are numbered, which has no public name."""
    return trainer._params


def trainer_updaters(trainer: Trainer) -> list[mx.optimizer.Updater]:
    """The updaters, one for each device, that hold the optimizer's states; the public save_states pickles them."""
    return trainer._updaters


def connect_trainer(trainer: Trainer) -> None:
    """Set up a trainer's kvstore now; Gluon does so in the first step only."""
    trainer._init_kvstore()
    trainer._init_params()


def begin_update(optimizer: mx.optimizer.Optimizer, index: int) -> tuple[float, float]:
    """Count an update of a parameter; its learning rate and weight decay. Optimizers have no public form of these."""
    optimizer._update_count(index)
    return optimizer._get_lr(index), optimizer._get_wd(index)


def update_count(optimizer: mx.optimizer.Optimizer, index: int) -> int:
    """Updates of a parameter so far, for Adam's bias correction; the public num_update is that of all parameters."""
    return optimizer._index_update_count[index]


def free_kvstore(kvstore: mx.kvstore.KVStore) -> None:
    """Close a kvstore while Python still runs; MXNet does so in a destructor, which sometimes aborts the process."""
    check_call(_LIB.MXKVStoreFree(kvstore.handle))
    kvstore.handle = None


# GluonCV


def gluoncv_registry() -> tuple[dict[str, Callable], dict[str, str]]:
    """GluonCV's networks and digests by name, two private dicts, for GluonCV has no function that registers one."""
    from gluoncv.model_zoo import model_store
    from gluoncv.model_zoo.model_zoo import _models

    return _models, model_store._model_sha1


def set_gluoncv_crop_size(segmenter: Block, crop_size: int) -> None:
    """Set the size that GluonCV's segmentation heads resize to, which their constructors ask to be divisible by 8."""
    segmenter.crop_size = crop_size
    segmenter._up_kwargs = {'height': crop_size, 'width': crop_size}
