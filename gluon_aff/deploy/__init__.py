"""Networks made ready for use: folded, exported as symbol, ONNX and INT8, and asked through one interface."""

from .export_folder import export, is_export, read_export
from .folding import fold_batchnorm
from .int8 import compare_onnx, quantize_onnx, sensitive_nodes
from .onnx_writer import export_onnx
from .predictor import Predictor
from .symbol_writer import export_symbol

__all__ = [
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
]
