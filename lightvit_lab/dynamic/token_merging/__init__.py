"""Token merging, as `chapters/dynamic/token_merging` derives it."""

from .diffrate import reduce_tokens
from .matching import MATCHINGS, MODES, Matching, bipartite_soft_matching, cluster_matching
from .merging import Trace, merge_tokens, source_map, spread_r
from .rates import Costs, RateObjective, Rates, block_costs, learn_rates

__all__ = ["MATCHINGS", "MODES", "Costs", "Matching", "RateObjective", "Rates", "Trace",
           "bipartite_soft_matching", "block_costs", "cluster_matching", "learn_rates",
           "merge_tokens", "reduce_tokens", "source_map", "spread_r"]
