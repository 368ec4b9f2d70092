"""The blocks: fusion, contexts, the attentions that papers compare with, and their CPU kernels."""
