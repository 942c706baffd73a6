"""Token merging, as `chapters/dynamic/token_merging` derives it."""

from .matching import MATCHINGS, MODES, Matching, bipartite_soft_matching, cluster_matching
from .merging import Trace, merge_tokens, source_map, spread_r

__all__ = ["MATCHINGS", "MODES", "Matching", "Trace", "bipartite_soft_matching", "cluster_matching",
           "merge_tokens", "source_map", "spread_r"]
