"""Low rank, of weights and of attention, as `chapters/compression/low_rank` derives it."""
# ruff: noqa: F401     these imports are what the page needs

from ..calibrating import input_moments
from ..linear_layers import LowRankLinear, break_even
from .attention import LowRankAttention, replace_attention, segment_means
from .factors import factorize, output_error
from .spectra import Spectrum, spectrum
