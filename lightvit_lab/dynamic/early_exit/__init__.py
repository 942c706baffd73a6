"""Early exits and other ways to spend less depth, as `chapters/dynamic/early_exit` derives them."""

from .block_skipping import SkipObjective, add_skipping, train_skipping
from .exits import EarlyExitViT, ExitObjective, add_exits, train_exits, with_rule
from .report import (Reliability, calibrate_confidence, calibrate_rule, choose_rule, every_logit,
                     exit_macs, exit_report, reliability, trade_off)
from .rules import Confidence, Entropy, Patience, Rule, confidence, entropy, exits_taken
from .token_halting import HaltingObjective, HaltingViT, add_halting, train_halting

__all__ = ["Confidence", "EarlyExitViT", "Entropy", "ExitObjective", "HaltingObjective",
           "HaltingViT", "Patience", "Reliability", "Rule", "SkipObjective", "add_exits",
           "add_halting", "add_skipping", "calibrate_confidence", "calibrate_rule", "choose_rule",
           "confidence", "entropy", "every_logit", "exit_macs", "exit_report", "exits_taken",
           "reliability", "trade_off", "train_exits", "train_halting", "train_skipping",
           "with_rule"]
