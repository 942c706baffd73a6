"""Token merging, as `chapters/dynamic/token_merging` derives it."""

from .block import Merging, MergingBlock, Trace
from .matching import MATCHINGS, MODES, Matching, bipartite_soft_matching, cluster_matching, most
from .merging import merge_tokens, source_map, spread_r, time_ratio

__all__ = ["MATCHINGS", "MODES", "Matching", "Merging", "MergingBlock", "Trace",
           "bipartite_soft_matching", "cluster_matching", "merge_tokens", "most", "source_map",
           "spread_r", "time_ratio"]
