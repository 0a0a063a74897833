"""The native runtime: kernels as machine code through LLVM, a program as one native call.

`llvm` writes LLVM's textual IR, `target` knows the host, `words` and `polynomials` are the scalar
vocabulary, `nest` the loops of maps and reductions, `gemm` the products, `driver` walks the command
table of a program over the worker threads, `jit` and `disk` compile and keep the machine code, and
`lowered` is the door for the rest of the runtime.
"""
