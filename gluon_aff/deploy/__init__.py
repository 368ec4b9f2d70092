"""Networks for use: folded, exported as symbol, ONNX and INT8, and run by several engines through one interface."""

from .export_folder import export, is_export, read_export
from .graph import Graph, fold_batchnorm
from .int8 import compare_onnx, quantize_onnx, sensitive_nodes
from .onnx_writer import export_onnx, write_onnx
from .predictor import Predictor
from .symbol_writer import export_symbol, write_symbol

__all__ = [
    'Graph',
    'Predictor',
    'compare_onnx',
    'export',
    'export_onnx',
    'export_symbol',
    'fold_batchnorm',
    'is_export',
    'quantize_onnx',
    'read_export',
    'sensitive_nodes',
    'write_onnx',
    'write_symbol',
]
