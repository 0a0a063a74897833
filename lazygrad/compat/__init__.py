"""The names of the systems that lazygrad succeeds: `from lazygrad.compat import macrograd`.

Each module holds renames and thin forms of what lazygrad has anyway, so that programs written for
macrograd, MyTorch, micrograd (and momograd, its port to Mojo) or Pycrograd (and Mocrograd) run
with their import lines changed. New programs have no need of them.
"""
