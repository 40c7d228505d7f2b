"""Passes, each in one native call, in place of the decoder's operators. All chapters."""

from helpers.model.native_passes.small_passes import SmallPasses

__all__ = ["SmallPasses"]
