"""Kernels in C++, compiled by this machine's own compiler at first use; plain torch where there is none.

Attention over pages, and whole passes, for all chapters with a cache; chapter 9 reads the
kernels line by line.
"""

from helpers.native.library import Kernels, built, kernels, processor, usable
from helpers.native.matrices import Codes, Plain, can_read, numbers, product
from helpers.native.native_pass import Layout, NativePass, can_compute
from helpers.native.page_attention import Sequences, attend, serves

__all__ = [
    "Codes",
    "Kernels",
    "Layout",
    "NativePass",
    "Plain",
    "Sequences",
    "attend",
    "built",
    "can_compute",
    "can_read",
    "kernels",
    "numbers",
    "processor",
    "product",
    "serves",
    "usable",
]
