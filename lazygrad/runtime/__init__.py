"""Runtimes: what makes a kernel of the IR run, and picks how, from its shapes."""
