"""Passes, each in one native call, in place of the decoder's operators. All chapters."""

from helpers.model.native_passes.native_passes import NativePasses

__all__ = ["NativePasses"]
