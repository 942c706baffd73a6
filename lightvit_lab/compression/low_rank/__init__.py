"""Low rank, of weights and of attention, as `chapters/compression/low_rank` derives it."""

from ..calibrating import input_moments
from ..low_rank_linear import LowRankLinear, break_even
from .attention import LowRankAttention, replace_attention, segment_means
from .factors import factorize, output_error
from .spectra import Spectrum, spectrum

__all__ = ["LowRankAttention", "LowRankLinear", "Spectrum", "break_even", "factorize",
           "input_moments", "output_error", "replace_attention", "segment_means", "spectrum"]
