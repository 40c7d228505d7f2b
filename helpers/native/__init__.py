"""Kernels in C++, compiled by this machine's own compiler at first use; plain torch where there is none.

Attention over pages, for all chapters with a cache; chapter 9 reads the kernels line by line.
"""

from helpers.native.library import Kernels, built, kernels, processor
from helpers.native.page_attention import Sequences, attend, serves

__all__ = ["Kernels", "Sequences", "attend", "built", "kernels", "processor", "serves"]
