"""Blocks: fusions, contexts, the attentions of other papers, and the CPU kernels."""
